"""Studies made from a study: resampled clusters, and notes on what was done."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from terracausal.study.study import Study


def resample_clusters(study: Study, rng: np.random.Generator) -> Study:
    """Draw as many clusters as there are, with replacement.

    All copies of a cluster keep its label, so that folds hold them out together. Units get new
    keys. A draw in which an arm is missing is drawn again.

    Parameters
    ----------
    study : Study
    rng : numpy.random.Generator

    Returns
    -------
    Study

    Examples
    --------
    >>> table = pd.DataFrame({"y": [1.0, 2, 3, 4], "w": [0, 1, 0, 1], "village": list("aabb")})
    >>> study = Study(table, outcome="y", treatment="w", site="village")
    >>> resample_clusters(study, np.random.default_rng(0)).n_units
    4
    """
    ordered = study.canonical()
    labels = ordered.clusters
    codes = np.arange(ordered.n_units) if labels is None else pd.factorize(labels)[0]
    rows = pd.Series(np.arange(len(codes))).groupby(codes).indices
    treatment = ordered.treatment.to_numpy()
    while True:
        drawn = rng.integers(len(rows), size=len(rows))
        positions = np.concatenate([rows[code] for code in drawn])
        if len(np.unique(treatment[positions])) == 2:
            return _copies(ordered, positions, codes)


def _copies(study: Study, positions: NDArray[Any], codes: NDArray[Any]) -> Study:
    copy = study._rows(positions)
    copy._table = copy._table.set_axis(pd.RangeIndex(len(positions)))
    copy._clusters = pd.Series(codes[positions], index=copy._table.index, name="cluster")
    return copy


def with_note(study: Study, note: str) -> Study:
    """Return the study with a sentence more in what `describe` tells.

    Parameters
    ----------
    study : Study
    note : str

    Returns
    -------
    Study
    """
    copy = study._copy()
    copy._dropped = (*study._dropped, note)
    return copy


def replace_outcome(study: Study, outcome: "pd.Series[float]", note: str) -> Study:
    """Return the study with other numbers as its outcome, under the same name.

    Parameters
    ----------
    study : Study
    outcome : pandas.Series of shape (n_units,)
        By unit.
    note : str
        What was done, for `describe`.

    Returns
    -------
    Study

    Examples
    --------
    >>> table = pd.DataFrame({"y": [1.0, 2], "w": [0, 1]})
    >>> study = Study(table, outcome="y", treatment="w")
    >>> replace_outcome(study, study.outcome * 2, "doubled").outcome.tolist()
    [2.0, 4.0]
    """
    copy = study._copy()
    copy._table = study._table.assign(**{study.roles.outcome: outcome.loc[study.units]})
    copy._dropped = (*study._dropped, note)
    return copy


def drop_embeddings(study: Study) -> Study:
    """Return the study without its joined embeddings.

    Parameters
    ----------
    study : Study

    Returns
    -------
    Study

    Examples
    --------
    >>> table = pd.DataFrame({"y": [1.0, 2], "w": [0, 1], "site": [1, 2]})
    >>> study = Study(table, outcome="y", treatment="w", site="site")
    >>> joined = study.join(pd.DataFrame({"e": [0.0, 1.0]}, index=[1, 2]))
    >>> drop_embeddings(joined).embedding_columns
    ()
    """
    copy = study._copy()
    copy._joined = ()
    return copy
