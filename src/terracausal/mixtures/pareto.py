"""Whether draws of an approximation can stand for a posterior: the Pareto shape of their ratios."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def pareto_shape(log_ratios: Floats) -> float:
    """Return k-hat, the shape of the largest importance ratios.

    Below 0.5 the approximation is good, above 0.7 its draws do not stand for the posterior.

    Parameters
    ----------
    log_ratios : ndarray of shape (n_draws,)
        Log posterior density less log density of the approximation, at draws of the latter.

    Returns
    -------
    float

    References
    ----------
    Yao, Y. et al. (2018). Yes, but did it work? Evaluating variational inference. ICML.
    Vehtari, A. et al. (2024). Pareto smoothed importance sampling. JMLR 25(72).

    Examples
    --------
    >>> pareto_shape(np.random.default_rng(0).normal(scale=0.01, size=1000)) < 0.5
    True
    """
    n_draws = len(log_ratios)
    n_tail = int(min(0.2 * n_draws, 3 * np.sqrt(n_draws)))
    ratios = np.sort(np.exp(log_ratios - np.max(log_ratios)))
    excess = ratios[-n_tail:] - ratios[-n_tail - 1]
    if not excess[-1] > 0:  # all ratios alike: the approximation is exact
        return 0.0
    shape = _generalised_pareto(np.maximum(excess, np.finfo(float).tiny))
    # a weak prior at 0.5, worth 10 draws, as in Vehtari et al.
    return float((n_tail * shape + 10 * 0.5) / (n_tail + 10))


def _generalised_pareto(excess: Floats) -> float:
    """Return the shape of a generalised Pareto law.

    The empirical Bayes estimate of Zhang & Stephens (2009), Technometrics 51(3), of sorted
    positive values.
    """
    n_values = len(excess)
    n_grid = 30 + int(np.sqrt(n_values))
    quartile = excess[int(n_values / 4 + 0.5) - 1]
    theta = 1 / excess[-1] + (1 - np.sqrt(n_grid / (np.arange(1, n_grid + 1) - 0.5))) / (
        3 * quartile
    )
    shape = np.log1p(-theta[:, None] * excess).mean(axis=1)
    profile = n_values * (np.log(-theta / shape) - shape - 1)
    weight = 1 / np.exp(profile - profile[:, None]).sum(axis=1)
    best = (theta * weight).sum() / weight.sum()
    return float(np.log1p(-best * excess).mean())
