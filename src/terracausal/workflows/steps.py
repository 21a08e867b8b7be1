"""Finished steps of an analysis, kept on disk so that a later call goes on from there.

A step is named by a checksum of all that decides about it: the numbers of the study, the folds,
learners, seeds and the version of the package. What is kept is therefore never of other data.
"""

import io
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd

from terracausal.effects.origin import (
    EffectOrigin,
    origin_of,
    repeats_of,
    with_origin,
    with_repeats,
)
from terracausal.encoders import embed
from terracausal.encoders.base import ChipEncoder
from terracausal.encoders.digests import digest_of
from terracausal.imagery import Chips
from terracausal.imagery.shards import write_file
from terracausal.nuisance import Nuisances
from terracausal.study import Folds, Study

LOG = logging.getLogger("terracausal.workflows")


@dataclass(frozen=True)
class Steps:
    """Computes a step, or reads it back where it is finished.

    Parameters
    ----------
    folder : Path, default=None
        Where finished steps are kept; None keeps nothing.

    Examples
    --------
    >>> Steps().folder is None
    True
    """

    folder: Path | None = None

    @classmethod
    def at(cls, keep: str | Path | None) -> "Steps":
        """Return the steps kept in a folder, which is made; None keeps nothing."""
        return cls(None if keep is None else Path(keep))

    def embeddings(self, encoder: ChipEncoder, chips: Chips) -> pd.DataFrame:
        """Return what a fitted encoder makes of the chips.

        Parameters
        ----------
        encoder : ChipEncoder
            Fitted.
        chips : Chips

        Returns
        -------
        pandas.DataFrame of shape (n_sites, n_features)
        """
        LOG.info("encoding %d chips with %s", chips.n_sites, type(encoder).__name__)
        if self.folder is None:
            return encoder.transform(chips)
        return embed(encoder, chips, self.folder / "embeddings")

    def nuisances(self, label: str, facts: Any, make: Callable[[], Nuisances]) -> Nuisances:
        """Return out-of-fold predictions.

        Parameters
        ----------
        label : str
            What they are of, for the log.
        facts : plain values, tables and arrays
            All that decides about them.
        make : callable
            Computes them.

        Returns
        -------
        Nuisances
        """
        path = self._path("nuisances", facts)
        kept = None if path is None else _read(path)
        if kept is not None:
            table, told = kept
            LOG.info("%s: kept", label)
            quality = pd.DataFrame(told["quality"], columns=_QUALITY)
            return Nuisances(
                table, told["propensity_known"], told["learners"], quality, told["outcome"]
            )
        LOG.info("%s: computing", label)
        found = make()
        if path is not None:
            told = {
                "propensity_known": found.propensity_known,
                "learners": found.learners,
                "quality": found.quality[list(_QUALITY)].to_numpy().tolist(),
                "outcome": found.outcome,
            }
            _write(path, found.table, told)
        return found

    def effects(
        self,
        label: str,
        facts: Any,
        folds: Sequence[Folds],
        make: Callable[[], "pd.Series[float]"],
    ) -> "pd.Series[float]":
        """Return effects predicted out of fold.

        Parameters
        ----------
        label : str
            What they are of, for the log.
        facts : plain values, tables and arrays
            All that decides about them.
        folds : sequence of Folds
            Out of which they are predicted, one for each repeat.
        make : callable
            Computes them.

        Returns
        -------
        pandas.Series of shape (n_units,)
        """
        path = self._path("effects", facts)
        kept = None if path is None else _read(path)
        if kept is not None:
            LOG.info("%s: kept", label)
            table, told = kept
            return with_repeats(
                [
                    with_origin(
                        table[str(repeat)].rename("cate"),
                        EffectOrigin(told["learner"], folds=one.labels.loc[table.index]),
                    )
                    for repeat, one in enumerate(folds)
                ]
            )
        LOG.info("%s: computing", label)
        effects = make()
        origin = origin_of(effects)
        if path is not None and origin is not None:
            runs = [run.loc[effects.index].to_numpy() for run in repeats_of(effects)]
            table = pd.DataFrame({str(j): run for j, run in enumerate(runs)}, index=effects.index)
            _write(path, table, {"learner": origin.learner})
        return effects

    def _path(self, kind: str, facts: Any) -> Path | None:
        if self.folder is None:
            return None
        name = digest_of(["terracausal", version("terracausal"), kind, facts])
        return self.folder / "steps" / f"{kind}-{name}.parquet"


_QUALITY = ("nuisance", "metric", "value", "baseline")


def study_facts(study: Study) -> list[Any]:
    """Return the numbers of a study that decide about what is learned from it.

    Parameters
    ----------
    study : Study

    Returns
    -------
    list
        Features by task, outcome, treatment, weight, propensity and clusters, in canonical order.

    Examples
    --------
    >>> table = pd.DataFrame({"y": [1.0, 2, 3, 4], "w": [0, 1, 0, 1]})
    >>> len(study_facts(Study(table, outcome="y", treatment="w")))
    9
    """
    ordered = study.canonical()
    columns = (ordered.outcome, ordered.treatment, ordered.weight, ordered.propensity)
    groups = None if ordered.clusters is None else pd.factorize(ordered.clusters)[0]
    return [
        [str(key) for key in ordered.units],
        *(_numbers(ordered.features(task)) for task in ("propensity", "outcome", "effect")),
        *(None if column is None else column.to_numpy() for column in columns),
        groups,
    ]


def _numbers(table: pd.DataFrame) -> list[Any]:
    return [[str(name) for name in table.columns], table.to_numpy(dtype="float64")]


def fold_facts(folds: Folds) -> list[Any]:
    """Return what decides which units train for which, in the order of the keys.

    Parameters
    ----------
    folds : Folds

    Returns
    -------
    list
    """
    order = [str(key) for key in folds.labels.index]
    return [order, folds.labels.to_numpy(), folds.buffered]


def _write(path: Path, table: pd.DataFrame, told: dict[str, Any]) -> None:
    """Put a table on disk, with what else is known of it in its attributes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    kept = table.copy()
    kept.attrs = {"terracausal": json.dumps(told)}
    kept.to_parquet(buffer)
    write_file(path, buffer.getvalue())


def _read(path: Path) -> tuple[pd.DataFrame, dict[str, Any]] | None:
    """Return a kept table and what is known of it, or None where it is not there in whole."""
    if not path.is_file():
        return None
    try:
        table = pd.read_parquet(path)
        told = json.loads(table.attrs.pop("terracausal"))
    except (OSError, ValueError, KeyError):
        LOG.warning("%s cannot be read; the step is computed again", path.name)
        return None
    return table, told
