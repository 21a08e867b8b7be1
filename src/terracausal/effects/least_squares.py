"""Regressions of scores whose standard errors are grf's.

grf reports the errors of its calibration test and projection as `sandwich::vcovCL` of type HC3,
which is `study.jackknife`.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from terracausal._foundation.errors import RoleError, list_some
from terracausal.nuisance import Scores
from terracausal.study import Dependence, Estimate, UnitFrame
from terracausal.study.jackknife import ALONE, jackknife_regression
from terracausal.study.standard_errors import group_sums

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
    kind = dependence_kind(frame, dependence)
    check_rank(design, scores.weight, list(terms))
    codes = frame.cluster_codes if kind == "cluster" else None
    if codes is not None and codes.max() < 1:
        raise RoleError("A clustered standard error needs at least 2 clusters; the scores have 1.")
    coefficients, moves = jackknife_regression(design, y, scores.weight, codes)
    influence = n_units * moves
    influence *= _undo_factor(kind, codes, n_units, len(terms))
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


def dependence_kind(frame: UnitFrame, dependence: Dependence | None) -> str:
    """Return which standard error is meant; None clusters where there are clusters."""
    if dependence is None:
        return "hc" if frame.cluster is None else "cluster"
    return dependence.kind


def leave_out_factor(
    member: Floats, frame: UnitFrame, dependence: Dependence | None, n_parameters: int
) -> Floats:
    """Return the factor on influence values of group means that makes their errors HC3.

    The mean of a group moves by ``sum v r / (mass - mass of the cluster)`` when a cluster is left
    out, where the influence values say ``sum v r / mass``. The difference matters as soon as a
    group consists of few clusters.

    Parameters
    ----------
    member : ndarray of shape (n_units, n_groups)
        Weight of each unit in each group.
    frame : UnitFrame
    dependence : Dependence or None
        Kinds other than "cluster" and "hc" leave influence values as they are.
    n_parameters : int
        As in the estimate that is made of them.

    Returns
    -------
    ndarray of shape (n_units, n_groups)
        1 where a unit is not in a group.

    Raises
    ------
    RoleError
        A group consists of one cluster, or one unit where units are independent.
    """
    kind = dependence_kind(frame, dependence)
    if kind not in ("cluster", "hc"):
        return np.ones_like(member)
    codes = frame.cluster_codes if kind == "cluster" else None
    own = member if codes is None else group_sums(member, codes, int(codes.max()) + 1)[codes]
    mass = member.sum(axis=0)
    alone = np.flatnonzero((own >= ALONE * mass).any(axis=0)) + 1
    if len(alone):
        what = "units" if codes is None else "clusters"
        raise RoleError(
            f"Each group needs at least 2 {what} for a standard error; groups "
            f"{list_some(alone)} of {len(mass)} have 1. Use fewer groups."
        )
    factor = np.where(member > 0, mass / (mass - own), 1.0)
    return np.asarray(factor * _undo_factor(kind, codes, len(member), n_parameters))


def _undo_factor(
    kind: str, codes: NDArray[np.int64] | None, n_units: int, n_parameters: int
) -> float:
    """Return what takes back the factor of `Estimate`, as the jackknife has its own."""
    if codes is not None:
        return float(np.sqrt(1 - 1 / (codes.max() + 1)))
    return float(np.sqrt(1 - n_parameters / n_units)) if kind == "hc" else 1.0
