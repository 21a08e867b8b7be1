"""Rank-weighted average treatment effects: the numbers.

Yadlowsky, Fleming, Shah, Brunskill & Wager (2025), Evaluating treatment prioritization rules via
rank-weighted average treatment effects, JASA 120(549), doi:10.1080/01621459.2024.2393466.

With units sorted by falling priority, ``TOC(q)`` is the mean score of the top share q less the mean
of all; ``AUTOC = mean TOC(q)`` and ``QINI = mean q TOC(q)`` over the units. Units with the same
priority share their mean score. Conventions are those of grf 2.6.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from terracausal._foundation.checks import check_choice

Floats = NDArray[np.floating[Any]]
# a function of shares treated returns how much the curve counts there
Target = Literal["AUTOC", "QINI"] | Callable[[Floats], Any]
_CELLS_AT_ONCE = 50_000  # small enough for the arrays of a block to stay in the cache


@dataclass(frozen=True)
class Ranking:
    """Scores in the order of falling priority.

    Parameters
    ----------
    order : ndarray of shape (n_units,)
        Positions that sort the units.
    score : ndarray of shape (n_units,)
        Sorted scores.
    tie_starts : ndarray of shape (n_ties,)
        Where each group of equal priorities begins.
    """

    order: NDArray[np.intp]
    score: Floats
    tie_starts: NDArray[np.intp]

    @classmethod
    def of(cls, score: Floats, priority: Floats) -> "Ranking":
        """Sort units by falling priority.

        Parameters
        ----------
        score, priority : ndarray of shape (n_units,)

        Returns
        -------
        Ranking
        """
        order = np.argsort(-priority, kind="stable")
        ordered = priority[order]
        is_start = np.concatenate([[True], ordered[1:] != ordered[:-1]])
        return cls(order, score[order], np.flatnonzero(is_start))


def check_target(target: Target) -> str:
    """Return the name of a target; refuse an unknown one, and a function that is not one of shares.

    Examples
    --------
    >>> check_target(np.sqrt)
    'sqrt'
    """
    if not callable(target):
        return check_choice("target", target, ("AUTOC", "QINI"))
    shares = np.linspace(0.001, 1, 11)
    found = np.asarray(target(shares), dtype=np.float64)
    if found.shape != shares.shape or not np.isfinite(found).all():
        raise ValueError(
            "`target` must be 'AUTOC', 'QINI', or a function that returns a finite weight for each "
            f"of an array of shares in (0, 1]; for {len(shares)} shares it returned shape "
            f"{found.shape} with {int((~np.isfinite(found)).sum())} values not finite."
        )
    name = getattr(target, "__name__", type(target).__name__)
    return "weighted" if name == "<lambda>" else str(name)


class Draws(NamedTuple):
    """Sets of clusters, of which all units are used with their weight.

    `drawn` has the shape (n_draws, n_clusters); `cluster`, codes from 0, and `weight` have
    (n_units,). Weights of all draws at once would be a hundred times larger.
    """

    drawn: NDArray[np.bool_]
    cluster: NDArray[np.int64]
    weight: Floats


def rate_and_curve(
    ranking: Ranking, draws: Draws, target: Target, fractions: Floats
) -> tuple[Floats, Floats]:
    """Return the RATE and the targeting curve of each draw.

    Parameters
    ----------
    ranking : Ranking
    draws : Draws
        With units in the order that they had before they were ranked.
    target : {"AUTOC", "QINI"} or callable
        A function of shares in (0, 1] says how much the curve counts at each.
    fractions : ndarray of shape (n_fractions,)
        Shares of the population at which the curve is given.

    Returns
    -------
    rate : ndarray of shape (n_draws,)
    curve : ndarray of shape (n_draws, n_fractions)
    """
    cluster, weight = draws.cluster[ranking.order], draws.weight[ranking.order]
    parts = []
    rows = max(1, _CELLS_AT_ONCE // max(1, len(weight)))
    for start in range(0, len(draws.drawn), rows):
        v = draws.drawn[start : start + rows, cluster] * weight
        parts.append(_rate_block(ranking, v, target, fractions))
    return np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])


def _rate_block(
    ranking: Ranking, v: Floats, target: Target, fractions: Floats
) -> tuple[Floats, Floats]:
    """Return RATEs and curves for weights of shape (n_draws, n_units), in the order of ranking."""
    everyone, excess = _mass_and_excess(ranking, v)
    mass, total = np.cumsum(v, axis=1), np.cumsum(excess, axis=1)
    # before the first unit with weight there is no top share; its weight below is 0
    curve = np.divide(total, mass, out=np.zeros_like(total), where=mass > 0)
    step = v
    if target == "QINI":
        step = v * (mass / everyone)
    elif callable(target):
        # before the first unit with weight the share is 0, where functions may be infinite
        share = np.where(mass > 0, mass / everyone, 1.0)
        step = v * np.asarray(target(share), dtype=np.float64)
    rate = np.einsum("ij,ij->i", curve, step) / everyone[:, 0]
    # a unit may be used in part, which makes the cumulative sum linear between units
    at = [
        np.interp(fractions * all_, np.r_[0.0, m], np.r_[0.0, t])
        for all_, m, t in zip(everyone[:, 0], mass, total, strict=True)
    ]
    return rate, np.array(at) / (fractions * everyone)


def _mass_and_excess(ranking: Ranking, v: Floats) -> tuple[Floats, Floats]:
    """Return the total weight, and weight times what the unit's score exceeds the average by.

    Units of a tie have its mean score.

    Parameters
    ----------
    ranking : Ranking
    v : ndarray of shape (n_draws, n_units)
        Weights in the order of the ranking.

    Returns
    -------
    everyone : ndarray of shape (n_draws, 1)
    excess : ndarray of shape (n_draws, n_units)
    """
    starts = ranking.tie_starts
    sums = v * ranking.score
    # the average comes from the same sum as that of a single tie, so a constant priority gives 0
    everyone, total = (np.add.reduceat(x, [0], axis=1) for x in (v, sums))
    if len(starts) == v.shape[1]:
        return everyone, sums - v * (total / everyone)
    tie_sum, tie_mass = (np.add.reduceat(x, starts, axis=1) for x in (sums, v))
    excess = np.divide(tie_sum, tie_mass, out=np.zeros_like(tie_sum), where=tie_mass > 0)
    excess -= total / everyone
    return everyone, v * np.repeat(excess, np.diff(np.r_[starts, v.shape[1]]), axis=1)


def draw_halves(n_clusters: int, n_draws: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Draw half of the clusters without replacement, many times.

    Parameters
    ----------
    n_clusters : int
    n_draws : int
    rng : numpy.random.Generator

    Returns
    -------
    ndarray of shape (n_draws, n_clusters)
    """
    half = n_clusters // 2
    drawn = np.zeros((n_draws, n_clusters), dtype=np.bool_)
    for own in drawn:
        own[np.argpartition(rng.random(n_clusters), half)[:half]] = True
    return drawn


def rank_within_folds(priority: Floats, fold: NDArray[np.int64], weight: Floats) -> Floats:
    """Return each unit's rank among the units of its fold, as a share in (0, 1).

    Folds have learners of their own. A learner that never saw a fold with high effects predicts too
    little for it, so predictions are comparable inside folds only; ranking them across
    folds biases the RATE downwards.

    Parameters
    ----------
    priority : ndarray of shape (n_units,)
    fold : ndarray of shape (n_units,)
    weight : ndarray of shape (n_units,)

    Returns
    -------
    ndarray of shape (n_units,)
        Share of the fold's weight that ranks lower, plus half of what ranks the same.
    """
    ranks = np.empty(len(priority))
    for label in np.unique(fold):
        own = fold == label
        level = np.unique(priority[own], return_inverse=True)[1].reshape(-1)
        mass = np.bincount(level, weights=weight[own])
        below = np.cumsum(mass) - mass
        # a fold without weight is never looked at, whatever its ranks
        ranks[own] = (below + mass / 2)[level] / (mass.sum() or 1.0)
    return ranks
