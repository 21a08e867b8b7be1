"""Regressions of scores whose standard errors are grf's.

grf reports the errors of its calibration test and projection as `sandwich::vcovCL` of type HC3,
which is `study.jackknife`.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from terracausal._foundation.errors import RoleError, list_some
from terracausal.nuisance import Scores
from terracausal.study import Dependence, Estimate
from terracausal.study.jackknife import jackknife_regression

Floats = NDArray[np.floating[Any]]
_RANK = 1e-10


def check_rank(design: Floats, weight: Floats, names: list[str]) -> None:
    """Raise a `RoleError` that names the columns which the others determine.

    Parameters
    ----------
    design : ndarray of shape (n_units, n_terms)
    weight : ndarray of shape (n_units,)
    names : list of str
        One for each column.
    """
    if len(design) <= len(names):
        raise RoleError(
            f"A regression needs more units than terms; got {len(design)} units and "
            f"{len(names)} terms. Use fewer columns, such as principal components."
        )
    scale = np.sqrt(np.sum(weight[:, None] * design**2, axis=0))
    scaled = design * np.sqrt(weight)[:, None] / np.where(scale > 0, scale, 1.0)
    # a column that its predecessors determine leaves nothing on the diagonal
    left = np.abs(np.diag(np.linalg.qr(scaled)[1]))
    found = [name for name, size in zip(names, left, strict=True) if size < _RANK]
    if found:
        raise RoleError(
            f"{len(found)} of {len(names)} terms are constant or determined by the others: "
            f"{list_some(found)}. Leave them out."
        )


def regression_estimate(
    scores: Scores,
    design: Floats,
    y: Floats,
    terms: tuple[str, ...],
    dependence: Dependence | None,
    words: tuple[str, str],
) -> Estimate:
    """Return a weighted regression as an estimate with grf's standard errors.

    Parameters
    ----------
    scores : Scores
        Weight, cluster and place of each unit.
    design : ndarray of shape (n_units, n_terms)
    y : ndarray of shape (n_units,)
    terms : tuple of str
    dependence : Dependence or None
        None clusters whenever the units have clusters.
    words : tuple of str
        The estimand and the method.

    Returns
    -------
    Estimate
    """
    frame, n_units = scores.frame, scores.n_units
    kind = ("hc" if frame.cluster is None else "cluster") if dependence is None else dependence.kind
    check_rank(design, scores.weight, list(terms))
    codes = frame.cluster_codes if kind == "cluster" else None
    if codes is not None and codes.max() < 1:
        raise RoleError("A clustered standard error needs at least 2 clusters; the scores have 1.")
    coefficients, moves = jackknife_regression(design, y, scores.weight, codes)
    influence = n_units * moves
    # the jackknife has its own small-sample correction; undo the factor of `Estimate`
    if codes is not None:
        influence *= np.sqrt(1 - 1 / (codes.max() + 1))
    elif kind == "hc":
        influence *= np.sqrt(1 - len(terms) / n_units)
    return Estimate(
        coefficients,
        influence,
        frame,
        terms,
        *words,
        dependence,
        scores.assumptions,
        scores.notes,
        n_parameters=len(terms),
    )
