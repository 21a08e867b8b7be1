"""One cell of a comparison: one combination of choices with one seed; fitted, evaluated, kept."""

import json
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import clone
from threadpoolctl import threadpool_limits

from terracausal.effects import EffectLearner, EffectOrigin, average_effect
from terracausal.effects.cross_prediction import predict_folds, repeated_folds
from terracausal.effects.origin import with_origin
from terracausal.encoders.reduction import fit_components
from terracausal.evaluation.rate_draws import rate_draws
from terracausal.imagery.shards import write_file
from terracausal.nuisance import Scores
from terracausal.study import Folds, Study
from terracausal.workflows.choices import METRICS

Record = dict[str, Any]
_NEGLIGIBLE = 1e-16  # share of variance, against the first component


@dataclass(frozen=True, eq=False)
class CellTask:
    """All that one cell needs.

    Parameters
    ----------
    path : Path, default=None
        Where its record is kept.
    study : Study
        Without embeddings.
    folds : Folds
    scores : Scores
        By which all cells of a seed are evaluated.
    learner : EffectLearner
        With its `use` and `random_state`.
    embeddings : DataFrame of shape (n_sites, n_features), default=None
        None where covariates alone are used.
    n_components : int, default=None
    sampling : tuple of (int, int), default=(200, 0)
        Number of half-samples and their seed.
    """

    path: Path | None
    study: Study
    folds: Folds
    scores: Scores
    learner: EffectLearner
    embeddings: pd.DataFrame | None = None
    n_components: int | None = None
    sampling: tuple[int, int] = (200, 0)


def run_cell(task: CellTask) -> Record:
    """Fit and evaluate a cell; whatever goes wrong becomes its record, which is kept as well.

    Parameters
    ----------
    task : CellTask

    Returns
    -------
    dict
        Of plain values: `error` (None where it went well), numbers by metric, `seconds`.
    """
    started = time.perf_counter()
    try:
        # many cells run side by side, and the number of threads must not reach a digit
        with threadpool_limits(limits=1):
            record = _evaluate(task)
    except Exception as error:  # a learner can fail in any way; the table must then say how
        record = failure(error)
    return keep_record(task.path, record, time.perf_counter() - started)


def _evaluate(task: CellTask) -> Record:
    effects = cross_predict_on(
        task.learner, task.study, task.folds, task.embeddings, task.n_components
    )
    n_bootstrap, seed = task.sampling
    rates = rate_draws(task.scores, effects, METRICS, n_bootstrap=n_bootstrap, random_state=seed)
    average = average_effect(task.scores)
    return {
        "error": None,
        "rates": {
            name: {
                "estimate": rate.estimate,
                "std_error": rate.std_error,
                "widening": rate.widening,
                "draws": rate.draws.tolist(),
            }
            for name, rate in rates.items()
        },
        "average_effect": float(average.value[0]),
        "average_std_error": float(average.std_error[0]),
        "n_units": task.scores.n_units,
        "n_clusters": int(task.scores.frame.n_clusters or task.scores.n_units),
    }


def cross_predict_on(
    learner: EffectLearner,
    study: Study,
    folds: Folds,
    embeddings: pd.DataFrame | None,
    n_components: int | None,
) -> "pd.Series[float]":
    """Predict effects out of fold, on embeddings or on their components of each training part.

    Parameters
    ----------
    learner : EffectLearner
    study : Study
        Without embeddings.
    folds : Folds
    embeddings : DataFrame of shape (n_sites, n_features), default=None
    n_components : int, default=None
        None keeps the columns.

    Returns
    -------
    pandas.Series of shape (n_units,)
        As from `cross_predict`.
    """
    if embeddings is None:
        return learner.cross_predict(study, folds)
    if n_components is None:
        return learner.cross_predict(study.join(embeddings, role="modifier"), folds)

    def fit_predict(train: NDArray[np.bool_], test: NDArray[np.bool_]) -> NDArray[Any]:
        reduced = reduce_to_training(study, train, embeddings, n_components)
        joined = study.join(reduced, role="modifier")
        fitted = clone(learner).fit(joined.subset(train))
        return np.asarray(fitted.predict(joined.table.loc[test]))

    (dealt,) = repeated_folds(study, folds, 1, None)
    effects = predict_folds(study, dealt, fit_predict, type(learner).__name__, 1)
    labels = dealt.labels.loc[study.units]
    return with_origin(effects, EffectOrigin(repr(learner), folds=labels))


def reduce_to_training(
    study: Study, train: NDArray[np.bool_], embeddings: pd.DataFrame, n_components: int
) -> pd.DataFrame:
    """Return components of embeddings, learned on the sites of the training units.

    Parameters
    ----------
    study : Study
    train : ndarray of bool of shape (n_units,)
    embeddings : DataFrame of shape (n_sites, n_features)
    n_components : int
        At most; all directions in which the training sites vary, where these are fewer.

    Returns
    -------
    pandas.DataFrame of shape (n_sites, n_kept)
    """
    sites = study.table[study.roles.site]
    seen = pd.Index(sites[train].unique()).sort_values()
    rows = embeddings.loc[seen].to_numpy(dtype=np.float64)
    shares = fit_components(rows, 1).variance_shares
    varied = int((shares > _NEGLIGIBLE * shares[0]).sum())
    kept = fit_components(rows, min(n_components, varied))
    columns = [f"component_{number}" for number in range(kept.n_components)]
    found = kept.transform(embeddings.to_numpy(dtype=np.float64))
    reduced = pd.DataFrame(found, index=embeddings.index, columns=columns)
    reduced.attrs = dict(embeddings.attrs)
    return reduced


def failure(error: Exception) -> Record:
    """Return the record of an error: its type, message and notes, and the line it came from."""
    notes = getattr(error, "__notes__", [])
    frames = traceback.extract_tb(error.__traceback__)
    where = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    message = "; ".join([str(error), *notes])
    return {"error": {"type": type(error).__name__, "message": message, "where": where}}


def keep_record(path: Path | None, record: Mapping[str, Any], seconds: float) -> Record:
    """Write a record, so that its file is there in whole or not at all, and return it.

    Parameters
    ----------
    path : Path, default=None
        None keeps nothing.
    record : mapping
    seconds : float

    Returns
    -------
    dict
    """
    whole = {**record, "seconds": round(seconds, 3)}
    if path is not None:
        write_file(path, json.dumps(whole, sort_keys=True).encode())
    return whole


def read_record(path: Path | None) -> Record | None:
    """Return a kept record; None where there is none, or one that is damaged.

    Parameters
    ----------
    path : Path, default=None

    Returns
    -------
    dict or None
    """
    if path is None:
        return None
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and "error" in found else None
