"""What a rule of treatment is worth, and rules that spend a budget."""

from dataclasses import replace
from numbers import Real
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from terracausal._foundation.errors import RoleError
from terracausal.effects.origin import with_origin, with_repeats
from terracausal.evaluation.priorities import (
    Priority,
    RankWithin,
    check_outcome_varies,
    read_repeats,
)
from terracausal.nuisance import Scores
from terracausal.study import Dependence, Estimate, median_estimate

Floats = NDArray[np.floating[Any]]
TERMS = ("rule", "treat all", "rule less treat all", "rule less random")


def policy_value(
    scores: Scores,
    policy: "pd.Series[Any] | ArrayLike",
    *,
    cost: float = 0.0,
    dependence: Dependence | None = None,
) -> Estimate:
    """Estimate what a rule of treatment gains per unit, against treating nobody.

    Parameters
    ----------
    scores : Scores
        From `doubly_robust_scores`. With repeats, of scores or policy, the median over them is
        taken.
    policy : pandas.Series or array-like of shape (n_units,)
        The chance with which the rule treats each unit: 0 or 1, or between. From
        `treat_within_budget` or `learn_policy`, or any rule that does not come from these units'
        outcomes. A Series is aligned by unit.
    cost : float, default=0.0
        Cost of treating one unit, in units of the outcome.
    dependence : Dependence, default=None
        None clusters whenever the units have clusters, and treats units as independent otherwise.

    Returns
    -------
    Estimate
        Terms "rule" and "treat all" (each against treating nobody), "rule less treat all", and
        "rule less random", which treats the same share drawn at random. Two rules are compared by
        the difference of their estimates, whose error counts that units are the same.

    Raises
    ------
    LeakageError
        The rule was made from the outcomes of the units that evaluate it.

    Notes
    -----
    Athey & Wager (2021), Econometrica 89(1), doi:10.3982/ECTA15732: the mean of ``chance times
    (score - cost)``. Errors take the rule as given. A rule from out-of-fold predictions is not: as
    in `grouped_effects`, what it gains over treating at random gets the root of 2 in its influence
    values, since fold k made the rule of fold l and fold l that of fold k. Assumes that treating a
    unit does not change the outcome of another.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> x = rng.normal(size=500)
    >>> scores = Scores.from_dataframe(pd.DataFrame({"score": x + rng.normal(size=500)}))
    >>> value = policy_value(scores, x > 0)
    >>> value.terms[0], bool(value.value[0] > 0.3)
    ('rule', True)
    """
    if not np.isfinite(cost):
        raise ValueError(f"`cost` must be a finite number; got {cost!r}.")
    pairs = read_repeats(scores, policy, name="policy")
    for _, found in pairs:
        chance = found.values
        outside = int(((chance < 0) | (chance > 1)).sum())
        if outside:
            raise ValueError(
                f"`policy` must hold chances from 0 to 1; {outside} of {len(chance)} values lie "
                f"outside ({chance.min():.4g} to {chance.max():.4g}). Turn a priority into a rule "
                "with treat_within_budget."
            )
    check_outcome_varies(scores)
    if scores.frame.n_clusters == 1:
        raise RoleError("A value needs at least 2 clusters for an error; the scores have 1.")
    return median_estimate([_value_of(run, part, cost, dependence) for run, part in pairs])


def rule_values(
    score: Floats, chance: Floats, weight: Floats, widening: float = 1.0
) -> tuple[Floats, Floats]:
    """Return the four values of a rule and their influence values.

    Parameters
    ----------
    score, chance, weight : ndarray of shape (n_units,)
        Score less cost, chance of treatment under the rule, and unit weight of mean one.
    widening : float, default=1.0
        Factor on the influence of what the rule gains over treating at random.

    Returns
    -------
    values : ndarray of shape (4,)
        As in `TERMS`.
    influence : ndarray of shape (n_units, 4)

    Examples
    --------
    >>> score, chance = np.array([1.0, -1.0]), np.array([1.0, 0.0])
    >>> rule_values(score, chance, np.ones(2))[0].tolist()
    [0.5, 0.0, 0.5, 0.5]
    """
    average, share = np.average(score, weights=weight), np.average(chance, weights=weight)
    around, moved = weight * (score - average), weight * (chance - share)
    gain = np.average((chance - share) * (score - average), weights=weight)
    random = share * around + average * moved
    over_random = widening * (moved * (score - average) - weight * gain)
    rule = share * average + gain
    values = np.array([rule, average, rule - average, gain])
    influence = [random + over_random, around, random + over_random - around, over_random]
    return values, np.column_stack(influence)


def _value_of(
    scores: Scores, policy: Priority, cost: float, dependence: Dependence | None
) -> Estimate:
    v, chance, widening = scores.weight, policy.values, policy.widening
    values, influence = rule_values(scores.score.to_numpy() - cost, chance, v, widening)
    widened = (f"gain over random widened by {widening:.2f}: the rule is made across folds",)
    share = np.average(chance, weights=v)
    return Estimate(
        values,
        influence,
        scores.frame,
        TERMS,
        f"gain per unit of a rule that treats {share:.1%}, at a cost of {cost:g} each",
        "means of doubly robust scores",
        dependence,
        (*scores.assumptions, policy.assumption("rule")),
        (*scores.notes, *(widened if widening > 1 else ())),
    )


def treat_within_budget(
    scores: Scores,
    priority: "pd.Series[float] | ArrayLike",
    budget: float,
    *,
    rank_within: RankWithin = "auto",
) -> "pd.Series[float]":
    """Treat the units with the highest priority until the budget is used.

    Parameters
    ----------
    scores : Scores
        Whose units these are.
    priority : pandas.Series or array-like of shape (n_units,)
        As in `rank_weighted_effect`.
    budget : float
        Share of all units (by weight) that can be treated, from 0 to 1.
    rank_within : {"auto", "folds", "all"}, default="auto"
        "folds" spends the same share inside each fold; "auto" does so for priorities from
        `cross_predict`.

    Returns
    -------
    pandas.Series of shape (n_units,)
        The chance of treatment, for `policy_value`; with repeats of the priority that of the first,
        which carries the others. Units that tie where the budget ends share what
        is left, so no order of rows decides.

    Raises
    ------
    ValueError
        The budget lies outside 0 to 1.
    LeakageError
        The priority was fitted on the units that evaluate it.

    Examples
    --------
    >>> scores = Scores.from_dataframe(pd.DataFrame({"score": [1.0, 2.0, 3.0, 4.0]}))
    >>> treat_within_budget(scores, [0.3, 0.1, 0.1, 0.9], 0.75).tolist()
    [1.0, 0.5, 0.5, 1.0]
    """
    check_budget(budget)
    policies = [
        _spend_in_folds(scores, found, budget)
        for _, found in read_repeats(replace(scores, repeats=()), priority, rank_within)
    ]
    return with_repeats(policies)


def _spend_in_folds(scores: Scores, found: Priority, budget: float) -> "pd.Series[float]":
    """Return the chances of one repeat, with the origin of its priority."""
    v, chance = scores.weight, np.zeros(scores.n_units)
    folds = np.zeros(scores.n_units) if found.folds is None else found.folds
    for label in np.unique(folds):
        own = folds == label
        chance[own] = spend_budget(found.values[own], v[own], budget)
    policy = pd.Series(chance, index=scores.units, name="policy")
    if found.origin is None:
        return policy
    return with_origin(policy, replace(found.origin, repeats=()))


def check_budget(budget: float) -> float:
    """Return `budget` if it is a share from 0 to 1."""
    if isinstance(budget, bool) or not isinstance(budget, Real) or not 0 <= budget <= 1:
        raise ValueError(f"`budget` must be a share from 0 to 1; got {budget!r}.")
    return float(budget)


def spend_budget(priority: Floats, weight: Floats, budget: float) -> Floats:
    """Return the chances of treatment that spend a budget on the highest priorities.

    Parameters
    ----------
    priority, weight : ndarray of shape (n_units,)
    budget : float
        Share of the weight.

    Returns
    -------
    ndarray of shape (n_units,)
        Units that tie where the budget ends share what is left.

    Examples
    --------
    >>> spend_budget(np.array([1.0, 3.0, 2.0]), np.ones(3), 0.5).tolist()
    [0.0, 1.0, 0.5]
    """
    tie = np.unique(-priority, return_inverse=True)[1].reshape(-1)
    mass = np.bincount(tie, weights=weight)
    before = np.cumsum(mass) - mass
    left = budget * mass.sum() - before
    return np.asarray(np.clip(left / np.where(mass > 0, mass, 1.0), 0.0, 1.0)[tie])
