"""Weighted least squares with the influence values of the jackknife (HC3).

The jackknife leaves out one cluster (one unit, without clusters) at a time. Bell & McCaffrey
(2002), Bias reduction in standard errors for linear regression with multi-stage samples, Survey
Methodology 28(2); Cameron & Miller (2015), Journal of Human Resources 50(2), equation 25.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from terracausal._foundation.errors import RoleError

Floats = NDArray[np.floating[Any]]
ALONE = 1 - 1e-9


def jackknife_regression(
    design: Floats, y: Floats, weight: Floats, cluster: NDArray[np.int64] | None
) -> tuple[Floats, Floats]:
    """Return the coefficients and what each unit moves them by.

    With ``A = X'VX``, unit i of cluster g moves them by ``(A - A_g)^-1 x_i v_i r_i``, so the moves
    of a cluster add up to the change of the coefficients when that cluster is left out, and the sum
    of their outer products over clusters is the covariance HC3.

    Parameters
    ----------
    design : ndarray of shape (n_units, n_terms)
        Of full column rank.
    y, weight : ndarray of shape (n_units,)
    cluster : ndarray of shape (n_units,) or None
        Codes from 0 to n_clusters - 1; None leaves out one unit at a time.

    Returns
    -------
    coefficients : ndarray of shape (n_terms,)
    moves : ndarray of shape (n_units, n_terms)

    Raises
    ------
    RoleError
        A coefficient is known from one cluster or unit only.
    """
    root = np.sqrt(weight)
    q, r = np.linalg.qr(design * root[:, None])
    coefficients = np.linalg.solve(r, q.T @ (root * y))
    residual = root * (y - design @ coefficients)
    if cluster is None:
        leverage = np.sum(q**2, axis=1)
        _check_leverage(leverage, "unit")
        moves = q * (residual / (1 - leverage))[:, None]
    else:
        moves = _moves_by_cluster(q, residual, cluster)
    return coefficients, np.linalg.solve(r, moves.T).T


def _moves_by_cluster(q: Floats, residual: Floats, cluster: NDArray[np.int64]) -> Floats:
    """Return the moves in the basis q, where A is the identity."""
    moves = q * residual[:, None]
    order = np.argsort(cluster, kind="stable")
    parts = np.split(order, np.flatnonzero(np.diff(cluster[order])) + 1)
    identity, alone = np.eye(q.shape[1]), np.zeros(len(parts))
    for g, part in enumerate(parts):
        own = q[part].T @ q[part]
        alone[g] = np.linalg.eigvalsh(own)[-1]
        if alone[g] <= ALONE:
            moves[part] = np.linalg.solve(identity - own, moves[part].T).T
    _check_leverage(alone, "cluster")
    return moves


def _check_leverage(leverage: Floats, what: str) -> None:
    alone = int((leverage > ALONE).sum())
    if alone:
        raise RoleError(
            f"A coefficient must be known from at least 2 {what}s; {alone} of {len(leverage)} "
            f"{what}s determine one alone, so the regression has no standard error (HC3). Leave "
            f"out the column that varies in one {what} only, or merge it with another."
        )
