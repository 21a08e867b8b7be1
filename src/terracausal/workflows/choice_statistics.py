"""What the cells of a comparison say together: the numbers.

Notation: `ratio` has the shape (n_choices, n_seeds), RATE ratios, NaN where a cell failed; `gap`
has the shape (n_choices, n_seeds, n_draws), deviations of the RATE on each half-sample from their
mean, in standard errors of the cell: how the ratio moves when the clusters are resampled.
Half-samples are shared, so the draws of all choices and seeds belong together.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Floats = NDArray[np.floating[Any]]


class Spread(NamedTuple):
    """A mean over seeds and its two errors, each of shape (n_choices,).

    `seeds` is the error of the mean from the spread over seeds (NaN for one seed), `sampling` that
    from half-samples of clusters, `total` both, with `df` degrees of freedom.
    """

    mean: Floats
    seeds: Floats
    sampling: Floats
    total: Floats
    df: Floats


def mean_over_seeds(ratio: Floats, gap: Floats) -> Spread:
    """Return the mean of each choice over the seeds that it has, with both errors.

    The degrees of freedom are Satterthwaite's, from seeds less one and half-samples less one.

    Parameters
    ----------
    ratio : ndarray of shape (n_choices, n_seeds)
    gap : ndarray of shape (n_choices, n_seeds, n_draws)

    Returns
    -------
    Spread

    Examples
    --------
    >>> gap = np.array([[[-1.0, 1.0], [-1.0, 1.0]]])
    >>> found = mean_over_seeds(np.array([[1.0, 3.0]]), gap)
    >>> found.mean, found.seeds, found.sampling.round(3)
    (array([2.]), array([1.]), array([1.414]))
    """
    there = np.isfinite(ratio)
    count = there.sum(axis=1).astype(np.float64)
    count[count == 0] = np.nan
    mean = np.where(there, ratio, 0.0).sum(axis=1) / count
    square = np.where(there, (ratio - mean[:, None]) ** 2, 0.0).sum(axis=1)
    several = np.where(count > 1, count, np.nan)
    seeds = np.sqrt(square / (several - 1) / several)
    moved = np.where(there[..., None], gap, 0.0).sum(axis=1) / count[:, None]
    sampling = moved.std(axis=1, ddof=1)
    known = np.where(np.isfinite(seeds), seeds, 0.0)
    return Spread(mean, seeds, sampling, *total_error(known, sampling, count, gap.shape[2]))


def total_error(seeds: Floats, sampling: Floats, count: Any, n_draws: int) -> tuple[Floats, Floats]:
    """Return the error of seeds and sampling together, and its degrees of freedom (Satterthwaite).

    Parameters
    ----------
    seeds, sampling : ndarray of shape (n,)
    count : int or ndarray of shape (n,)
        Seeds behind `seeds`.
    n_draws : int
        Half-samples behind `sampling`.

    Returns
    -------
    total, df : ndarray of shape (n,)
    """
    total = np.sqrt(seeds**2 + sampling**2)
    parts = seeds**4 / np.maximum(count - 1, 1) + sampling**4 / (n_draws - 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        df = np.where(parts > 0, total**4 / parts, np.inf)
    return total, df


def could_be_best(ratio: Floats, gap: Floats, level: float) -> NDArray[np.bool_]:
    """Return which choices could have the highest expected ratio.

    A choice is out where another is higher by more than chance, of seeds and of sampling, explains:
    one-sided, with the level shared among all others (Bonferroni). The best choice is then in with
    at least probability `level`, however it was found (Hsu's multiple comparisons with the best).

    Parameters
    ----------
    ratio : ndarray of shape (n_choices, n_seeds)
    gap : ndarray of shape (n_choices, n_seeds, n_draws)
    level : float

    Returns
    -------
    ndarray of bool of shape (n_choices,)
        False also for a choice without any result. With one common seed nothing is told apart.

    Notes
    -----
    Hsu (1981), Simultaneous confidence intervals for all distances from the "best", Annals of
    Statistics 9(5), doi:10.1214/aos/1176345582.
    """
    here: NDArray[np.bool_] = np.asarray(np.isfinite(ratio).any(axis=1))
    common = np.isfinite(ratio[here]).all(axis=0)
    n_seeds, found = int(common.sum()), here.copy()
    rows = np.flatnonzero(here)
    if n_seeds < 2 or len(rows) < 2:
        return found
    values = ratio[here][:, common]
    moved = gap[here][:, common].mean(axis=1)
    tail = (1 - level) / (len(rows) - 1)
    for place, row in enumerate(rows):
        better = values - values[place]
        seeds = better.std(axis=1, ddof=1) / np.sqrt(n_seeds)
        sampling = (moved - moved[place]).std(axis=1, ddof=1)
        total, df = total_error(seeds, sampling, n_seeds, gap.shape[2])
        found[row] = not (better.mean(axis=1) > stats.t.isf(tail, df) * total).any()
    return found


def joint_p_value(ratio: Floats, gap: Floats) -> float:
    """Return the p-value of "no choice ranks effects", for having looked at all of them.

    The largest mean ratio, in its standard errors, is compared with the largest that the
    half-samples give around their means, over the same choices (max-t; correlations included).

    Parameters
    ----------
    ratio : ndarray of shape (n_choices, n_seeds)
    gap : ndarray of shape (n_choices, n_seeds, n_draws)

    Returns
    -------
    float
        One-sided; NaN without any result. Not below 1 / (n_draws + 1).
    """
    spread = mean_over_seeds(ratio, gap)
    here = np.isfinite(spread.mean) & (spread.sampling > 0)
    if not here.any():
        return float("nan")
    there = np.isfinite(ratio[here])
    moved = np.where(there[..., None], gap[here], 0.0).sum(axis=1) / there.sum(axis=1)[:, None]
    largest = (moved / spread.sampling[here, None]).max(axis=0)
    observed = (spread.mean[here] / spread.total[here]).max()
    return float((1 + (largest >= observed).sum()) / (1 + len(largest)))
