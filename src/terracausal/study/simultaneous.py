"""Statements about many terms at once, from draws of their joint distribution.

Influence values times independent Gaussian multipliers, one per cluster, are jointly normal with
the estimated covariance of the terms, so they are drawn from it directly: that is the multiplier
bootstrap of Chernozhukov, Chetverikov & Kato (2013), Annals of Statistics 41(6),
doi:10.1214/13-AOS1161, for any kind of standard error. Few clusters make the draws t-distributed.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]


def draw_statistics(
    covariance: Floats, degrees_of_freedom: float, n_draws: int, rng: np.random.Generator
) -> Floats:
    """Draw t statistics of all terms as they would be if every term were 0.

    Parameters
    ----------
    covariance : ndarray of shape (n_terms, n_terms)
    degrees_of_freedom : float
        Infinite for normal draws.
    n_draws : int
    rng : numpy.random.Generator

    Returns
    -------
    ndarray of shape (n_draws, n_terms)
        0 for a term without variance.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> draw_statistics(np.eye(2), np.inf, 5, rng).shape
    (5, 2)
    """
    std_error = np.sqrt(np.diag(covariance))
    scale = np.where(std_error > 0, std_error, 1.0)
    size, basis = np.linalg.eigh(covariance / np.outer(scale, scale))
    # the symmetric root changes little when the covariance does, so draws do not jump
    root = basis * np.sqrt(np.maximum(size, 0.0)) @ basis.T
    draws = rng.standard_normal((n_draws, len(covariance))) @ root
    if np.isfinite(degrees_of_freedom):
        divisor = rng.chisquare(degrees_of_freedom, n_draws) / degrees_of_freedom
        draws /= np.sqrt(divisor)[:, None]
    return np.asarray(draws)


def stepdown_p_values(statistic: Floats, draws: Floats) -> Floats:
    """Return two-sided p-values that hold for all terms together.

    Parameters
    ----------
    statistic : ndarray of shape (n_terms,)
    draws : ndarray of shape (n_draws, n_terms)
        The same statistics where every term is 0.

    Returns
    -------
    ndarray of shape (n_terms,)

    References
    ----------
    Romano, J. P. & Wolf, M. (2005). Exact and approximate stepdown methods for multiple hypothesis
    testing. JASA 100(469). doi:10.1198/016214504000000539

    Examples
    --------
    >>> draws = np.random.default_rng(0).normal(size=(999, 2))
    >>> (stepdown_p_values(np.array([9.0, 0.0]), draws) < 0.05).tolist()
    [True, False]
    """
    order = np.argsort(np.abs(statistic), kind="stable")
    # from the smallest statistic on: the largest draw among the terms not yet set aside
    largest = np.maximum.accumulate(np.abs(draws[:, order]), axis=1)
    exceed = (1 + (largest >= np.abs(statistic)[order]).sum(axis=0)) / (1 + len(draws))
    p_values = np.empty(len(statistic))
    p_values[order] = np.maximum.accumulate(exceed[::-1])[::-1]
    return p_values
