"""Average effects of given groups of units, and what each unit contributes to them."""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from terracausal._foundation.errors import RoleError, list_some
from terracausal.effects.least_squares import leave_out_factor
from terracausal.evaluation.priorities import Priority
from terracausal.nuisance import Scores
from terracausal.study import Dependence, Estimate

Floats = NDArray[np.floating[Any]]


class CellError(RoleError):
    """A group of units is empty, or has one arm only."""


def cut_groups(share: Floats, n_groups: int) -> NDArray[np.int64]:
    """Return the group of each unit, from 0, for its share of weight that ranks lower.

    Parameters
    ----------
    share : ndarray of shape (n_units,)
        From 0 to 1.
    n_groups : int

    Returns
    -------
    ndarray of shape (n_units,)

    Examples
    --------
    >>> cut_groups(np.array([0.1, 0.5, 0.9]), 2).tolist()
    [0, 1, 1]
    """
    return np.minimum((share * n_groups).astype(np.int64), n_groups - 1)


def group_estimates(
    scores: Scores,
    group: NDArray[np.int64],
    n_groups: int,
    priority: Priority,
    dependence: Dependence | None,
) -> tuple[Estimate, Estimate, Estimate, Estimate]:
    """Return the estimates of groups, of their extremes, of all units and of steps.

    Parameters
    ----------
    scores : Scores
    group : ndarray of shape (n_units,)
        Codes from 0 to n_groups - 1, by rising priority.
    n_groups : int
    priority : Priority
        Its widening is a factor on what each group's influence values add to those of all units.
    dependence : Dependence or None

    Returns
    -------
    groups, extremes, everyone, steps : Estimate
        Groups; the highest less the lowest; all units; each group less the one below.
    """
    score, v = scores.score.to_numpy(), scores.weight
    member = v[:, None] * (group[:, None] == np.arange(n_groups))
    mass = member.sum(axis=0)
    means = member.T @ score / mass
    influence = len(score) * member * (score[:, None] - means) / mass
    influence *= leave_out_factor(member, scores.frame, dependence, n_groups)
    average = np.average(score, weights=v)
    shift = (v * (score - average) / v.mean())[:, None]
    influence = shift + priority.widening * (influence - shift)
    effects = Estimate(
        means,
        influence,
        scores.frame,
        tuple(f"group {g + 1}" for g in range(n_groups)),
        "average effects of groups by rising priority",
        "means of doubly robust scores, HC3",
        dependence,
        (*scores.assumptions, priority.assumption()),
        scores.notes,
        n_parameters=n_groups,
    )
    ends = replace(
        effects,
        value=means[[-1]] - means[[0]],
        influence=influence[:, [-1]] - influence[:, [0]],
        terms=("highest less lowest",),
        estimand="average effect of the highest group less that of the lowest",
    )
    everyone = replace(
        effects,
        value=np.array([average]),
        influence=shift,
        terms=("all",),
        estimand="average effect of all units",
        n_parameters=1,
    )
    steps = replace(
        effects,
        value=np.diff(means),
        influence=np.diff(influence, axis=1),
        terms=tuple(f"group {g + 2} less group {g + 1}" for g in range(n_groups - 1)),
    )
    return effects, ends, everyone, steps


def check_cells(scores: Scores, group: NDArray[np.int64], n_groups: int, found: Priority) -> None:
    """Refuse groups that are empty or lack an arm; `found` is the priority that formed them."""
    v = scores.weight
    mass = np.bincount(group, weights=v, minlength=n_groups)
    empty = np.flatnonzero(mass == 0) + 1
    if len(empty):
        n_values = len(np.unique(found.values))
        constant = " It is constant, so there is nothing to sort by." if n_values == 1 else ""
        raise CellError(
            f"Each of {n_groups} groups needs units with weight; groups {list_some(empty)} have "
            f"none. The priority has {n_values} values among {len(group)} units, ranked within "
            f"{found.within}.{constant} Use fewer groups, or a priority with more values."
        )
    if "treatment" not in scores.table:
        return
    w = scores.table["treatment"].to_numpy()
    for arm, word in ((1, "treated"), (0, "control")):
        own = np.bincount(group, weights=v * (w == arm), minlength=n_groups)
        lacking = np.flatnonzero(own == 0) + 1
        if len(lacking):
            raise CellError(
                f"Every group needs treated and control units; groups {list_some(lacking)} of "
                f"{n_groups} have no {word} unit, so their effect rests on predictions alone. Use "
                "fewer groups."
            )
