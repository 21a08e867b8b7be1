"""Entropy balancing: weights that make the arms alike in the means of covariates."""

from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from terracausal._foundation.errors import OverlapError, list_some
from terracausal.effects.adjustment import TARGETS, Adjustment, adjustment_of
from terracausal.effects.averages import Ratio
from terracausal.study import Estimate, Study

Floats = NDArray[np.floating[Any]]
_STEPS = 200
_TOLERANCE = 1e-9  # of the largest remaining difference of means, in standard deviations
_METHOD = "entropy_balancing"


def entropy_balancing(
    study: Study,
    target: Literal["all", "treated", "control"] = "all",
    *,
    n_components: int | None = None,
) -> Estimate:
    """Estimate an average effect with weights that balance all columns exactly.

    Each arm is reweighted so that its means of covariates, strata and confounder embeddings equal
    those of the target population, with weights as close to the unit weights as that allows. It is
    doubly robust: right when outcomes are linear, or the log-odds of treatment are.

    Parameters
    ----------
    study : Study
        With covariates, strata or confounder embeddings.
    target : {"all", "treated", "control"}, default="all"
        The population.
    n_components : int, default=None
        Replace the joined embeddings by this many principal components; None keeps the columns.

    Returns
    -------
    Estimate
        One term, named ate, att or atc; its notes tell the effective number of units.

    Raises
    ------
    OverlapError
        No weights balance the columns: the target's means lie outside what an arm can be weighted
        to.

    Notes
    -----
    Hainmueller (2012), Political Analysis 20(1), doi:10.1093/pan/mpr025. Double robustness: Zhao &
    Percival (2017), Journal of Causal Inference 5(1), doi:10.1515/jci-2016-0010. Influence values
    account for weights and target means being estimated.

    Examples
    --------
    >>> import terracausal as tc
    >>> data = tc.simulate_study(n_sites=60, random_state=0)
    >>> study = data.study.join(tc.BandStatisticsEncoder().fit_transform(data.chips))
    >>> entropy_balancing(study, n_components=2).terms
    ('ate',)
    """
    given = adjustment_of(study, "propensity", target, n_components, _METHOD)
    control, treated = (_balanced_arm(given, arm) for arm in (0, 1))
    term, estimand = TARGETS[target]
    influence = treated.mean.influence - control.mean.influence
    return Estimate(
        np.array([treated.mean.value - control.mean.value]),
        influence[given.back, None],
        study.frame,
        (term,),
        estimand,
        f"entropy balancing of {given.x.shape[1]} column{'s' * (given.x.shape[1] != 1)}",
        None,
        (
            "no unmeasured confounding given the columns",
            "outcomes, or log-odds of treatment, are linear in the columns",
            "no interference",
        ),
        (
            *study.notes,
            f"effective units after balancing: {_size(treated.weight)} treated, "
            f"{_size(control.weight)} control",
        ),
        2,
    )


def entropy_weights(
    study: Study,
    target: Literal["all", "treated", "control"] = "all",
    *,
    n_components: int | None = None,
) -> "pd.Series[float]":
    """Return the weights of `entropy_balancing`, for tables of balance.

    Parameters
    ----------
    study : Study
    target : {"all", "treated", "control"}, default="all"
        The population.
    n_components : int, default=None
        As in `entropy_balancing`.

    Returns
    -------
    pandas.Series of shape (n_units,)
        Unit weights included; they add up to one in each arm.

    Examples
    --------
    >>> table = pd.DataFrame({"y": range(6), "w": [0, 1] * 3, "x": [1.0, 2, 3, 3, 2, 1]})
    >>> study = Study(table, outcome="y", treatment="w", covariates=["x"])
    >>> weight = entropy_weights(study, "treated")
    >>> bool(abs((weight * table["x"])[table["w"] == 0].sum() - 2) < 1e-6)
    True
    """
    given = adjustment_of(study, "propensity", target, n_components, _METHOD)
    weight = _balanced_arm(given, 0).weight + _balanced_arm(given, 1).weight
    return pd.Series(weight[given.back], index=study.units, name="weight")


class _Arm(NamedTuple):
    """The weighted mean outcome of an arm, and its weights, which add up to one."""

    mean: Ratio
    weight: Floats


def _balanced_arm(given: Adjustment, arm: int) -> _Arm:
    x, names, y, w, v, h, _ = given
    own, mass = (w == arm) & (v > 0), v * h
    centred = x - np.average(x, axis=0, weights=mass)
    weight = np.zeros(len(y))
    found, left = tilt(centred[own], v[own])
    if np.abs(left).max(initial=0.0) > _TOLERANCE:
        worst = np.argsort(-np.abs(left))[:3]
        raise OverlapError(
            f"No weights of the {int(own.sum())} {('control', 'treated')[arm]} units balance the "
            f"{len(names)} columns; the closest leave a difference of "
            f"{np.abs(left).max():.2g} standard deviations, in {list_some(names[j] for j in worst)}"
            ". Use fewer columns (n_components), or average_effect with target='overlap'."
        )
    weight[own] = found
    value = float(weight @ y)
    slope = np.zeros(centred.shape[1])
    if centred.shape[1]:
        root = np.sqrt(weight)[:, None]
        slope = np.linalg.lstsq(root * centred, root[:, 0] * (y - value), rcond=None)[0]
    influence = len(y) * weight * (y - value - centred @ slope)
    return _Arm(Ratio(value, influence + mass * (centred @ slope) / mass.mean()), weight)


def tilt(centred: Floats, base: Floats) -> tuple[Floats, Floats]:
    """Return weights proportional to ``base exp(centred @ c)`` with weighted column means of zero.

    Newton steps with halving on the convex dual, ``log sum base exp(centred @ c)``.

    Parameters
    ----------
    centred : ndarray of shape (n, k)
    base : ndarray of shape (n,)
        Positive.

    Returns
    -------
    weight : ndarray of shape (n,)
        Adding up to one.
    left : ndarray of shape (k,)
        Means that remain; zero up to rounding where balance is possible.

    Examples
    --------
    >>> weight, left = tilt(np.array([[-1.0], [2.0]]), np.ones(2))
    >>> weight.round(6).tolist()
    [0.666667, 0.333333]
    """
    coef = np.zeros(centred.shape[1])

    def dual(at: Floats) -> tuple[float, Floats]:
        exponent = np.log(base) + centred @ at
        top = exponent.max()
        raw = np.exp(exponent - top)
        return float(top + np.log(raw.sum())), raw / raw.sum()

    level, weight = dual(coef)
    for _ in range(_STEPS):
        left = weight @ centred
        if np.abs(left).max(initial=0.0) < _TOLERANCE / 10:
            break
        curve = (centred * weight[:, None]).T @ centred - np.outer(left, left)
        step = np.linalg.lstsq(curve, left, rcond=1e-12)[0]
        share = 1.0
        while share > 1e-10:
            lower, candidate = dual(coef - share * step)
            if lower <= level - 1e-4 * share * (left @ step) + 1e-15 * abs(level):
                break
            share /= 2
        else:
            break
        coef, level, weight = coef - share * step, lower, candidate
        if np.abs(coef).max() > 1e6:
            break
    return weight, weight @ centred


def _size(weight: Floats) -> str:
    own = weight[weight > 0]
    return f"{own.sum() ** 2 / (own**2).sum():,.0f} of {len(own):,}"
