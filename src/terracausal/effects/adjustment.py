"""Covariates and embeddings as the columns that regression and balancing adjust for."""

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from terracausal._foundation.checks import check_choice
from terracausal._foundation.errors import RoleError
from terracausal.effects.arm_means import population_size
from terracausal.nuisance.components import check_components, reduce_columns
from terracausal.study import Study
from terracausal.study.features import Task

Floats = NDArray[np.floating[Any]]
TARGETS = {
    "all": ("ate", "average effect on all units"),
    "treated": ("att", "average effect on the treated (all units)"),
    "control": ("atc", "average effect on the controls (all units)"),
}


class Adjustment(NamedTuple):
    """Arrays of a study in canonical order, and how to return to the caller's."""

    x: Floats  # standardised columns, shape (n_units, n_columns)
    names: tuple[str, ...]
    y: Floats
    w: Floats
    v: Floats  # unit weights with mean one
    h: Floats  # how much each unit counts in the target population
    back: NDArray[np.intp]


def adjustment_of(
    study: Study, task: Task, target: str, n_components: int | None, method: str
) -> Adjustment:
    """Return what an adjusted average effect is computed from.

    Parameters
    ----------
    study : Study
    task : {"propensity", "outcome"}
        Which columns to adjust for.
    target : {"all", "treated", "control"}
    n_components : int, default=None
        Replace joined embeddings by principal components; None keeps their columns.
    method : str
        For messages.

    Returns
    -------
    Adjustment
    """
    if target == "overlap":
        raise ValueError(f"{method} has no target='overlap'; use average_effect.")
    check_choice("target", target, tuple(TARGETS))
    ordered = study.canonical()
    features = ordered.features(task)
    if n_components is not None:
        check_components(n_components, study)
        everyone = np.ones(study.n_units, dtype=bool)
        features = reduce_columns(features, study.embedding_columns, n_components, everyone)
    if features.shape[1] == 0:
        raise RoleError(
            f"{method} needs covariates, strata or joined embeddings to adjust for; the study has "
            "none. Use average_effect(..., method='difference_in_means')."
        )
    weight = study.weight
    v = np.ones(study.n_units) if weight is None else weight.loc[ordered.units].to_numpy()
    v = v / v.mean()
    w = ordered.treatment.to_numpy()
    _check_mass(w, v)
    return Adjustment(
        _standardised(features, v),
        tuple(map(str, features.columns)),
        ordered.outcome.to_numpy(),
        w,
        v,
        population_size(w, np.zeros_like(w), target),
        ordered.units.get_indexer(study.units),
    )


def _check_mass(w: Floats, v: Floats) -> None:
    for arm, word in ((0, "control"), (1, "treated")):
        if not v[w == arm].any():
            raise RoleError(f"All {int((w == arm).sum())} {word} units have a weight of zero.")


def _standardised(features: pd.DataFrame, v: Floats) -> Floats:
    x = features.to_numpy()
    mean = np.average(x, axis=0, weights=v)
    spread = np.sqrt(np.average((x - mean) ** 2, axis=0, weights=v))
    return np.asarray((x - mean) / np.where(spread > 1e-12 * (1 + np.abs(mean)), spread, 1.0))
