"""RATEs of one priority on half-samples, for each repeat of cross-fitting, and their median."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from terracausal._foundation.errors import RoleError
from terracausal._foundation.randomness import RandomState, canonical_order, random_generator
from terracausal.evaluation.priorities import Priority
from terracausal.evaluation.rates import Draws, Ranking, Target, draw_halves, rate_and_curve
from terracausal.nuisance import Scores

Floats = NDArray[np.floating[Any]]


def half_samples(scores: Scores, n_bootstrap: int, random_state: RandomState) -> Draws:
    """Return draws of clusters: first all of them, then halves.

    Parameters
    ----------
    scores : Scores
    n_bootstrap : int
    random_state : None, int or Generator

    Returns
    -------
    Draws
        `drawn` has the shape (1 + n_bootstrap, n_clusters); units are in canonical order.

    Raises
    ------
    RoleError
        There are fewer than two clusters, or too few have weight.
    """
    order = canonical_order(scores.units)
    codes, v = np.arange(scores.n_units), scores.weight[order]
    if scores.frame.cluster is not None:
        codes = pd.factorize(scores.frame.cluster.iloc[order])[0].astype(np.int64)
    if codes.max() < 1:
        raise RoleError("Half-samples need at least 2 clusters; the scores have 1.")
    weighty = np.bincount(codes, weights=v) > 0
    halves = draw_halves(len(weighty), n_bootstrap, random_generator(random_state))
    if not halves[:, weighty].any(axis=1).all():
        raise RoleError("A half-sample had no unit with weight; too few clusters have any.")
    return Draws(np.concatenate([np.ones_like(halves[:1]), halves]), codes, v)


def rates_by_repeat(
    pairs: list[tuple[Scores, Priority]], draws: Draws, target: Target, grid: Floats
) -> tuple[Floats, Floats]:
    """Return RATEs and curves for all unit weights and all repeats.

    Parameters
    ----------
    pairs : list of (Scores, Priority)
        From `read_repeats`.
    draws : Draws
        From `half_samples` of the first scores.
    target : {"AUTOC", "QINI"} or callable
    grid : ndarray of shape (n_fractions,)

    Returns
    -------
    rates : ndarray of shape (n_repeats, n_draws)
    curves : ndarray of shape (n_repeats, n_draws, n_fractions)
    """
    first = pairs[0][0]
    order, parts = canonical_order(first.units), []
    for run, found in pairs:
        values = found.values if found.folds is None else found.shares(first.weight)
        score = run.score.loc[first.units].to_numpy()
        ranking = Ranking.of(score[order], values[order])
        parts.append(rate_and_curve(ranking, draws, target, grid))
    return np.stack([part[0] for part in parts]), np.stack([part[1] for part in parts])


def median_and_error(draws: Floats) -> tuple[Floats, Floats]:
    """Return the median over repeats and its standard error.

    Parameters
    ----------
    draws : ndarray of shape (n_repeats, 1 + n_bootstrap, n_terms)
        The first draw of each repeat is of all units, the others are of half-samples.

    Returns
    -------
    value, std_error : ndarray of shape (n_terms,)
        The variance is the median of ``variance + (value - median)^2``, as for `average_effect`.

    References
    ----------
    Chernozhukov, V. et al. (2018). Econometrics Journal 21(1), definition 3.3.
    doi:10.1111/ectj.12097

    Examples
    --------
    >>> value, std_error = median_and_error(np.array([[[1.0], [0.0], [2.0]]]))
    >>> value.tolist(), std_error.round(3).tolist()
    ([1.0], [1.414])
    """
    first, spread = draws[:, 0], draws[:, 1:].std(axis=1, ddof=1)
    value = np.median(first, axis=0)
    if len(draws) == 1:
        return value, spread[0]
    return value, np.sqrt(np.median(spread**2 + (first - value) ** 2, axis=0))
