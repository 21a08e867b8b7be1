"""Mean outcomes of both arms in a target population, and contrasts of the two.

Symbols as in `averages`: y outcome, w treatment, e propensity, mu0 and mu1 predicted outcomes,
v unit weight; all arrays have the shape (n_units,).
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import expit, logit

from terracausal._foundation.errors import OverlapError
from terracausal.effects.averages import Ratio, arm_weights, difference, ratio

Floats = NDArray[np.floating[Any]]
_EDGE = 5e-4  # predictions stay this far inside the range of the outcome, as in R's tmle
_FARTHEST = 50.0  # of a fluctuation on the logit scale


class Parts(NamedTuple):
    """What the means are made from; mu0 and mu1 are not read by "hajek" and "ipw"."""

    y: Floats
    w: Floats
    e: Floats
    mu0: Floats
    mu1: Floats
    v: Floats


def arm_means(parts: Parts, target: str, method: str) -> tuple[Ratio, Ratio]:
    """Return the mean outcome without and with treatment in the target population.

    Parameters
    ----------
    parts : Parts
    target : {"all", "treated", "control", "overlap"}
        "overlap" for "hajek" only.
    method : {"aipw", "hajek", "ipw", "tmle", "tmle_linear", "difference_in_means"}

    Returns
    -------
    control, treated : Ratio
    """
    y, w, e, mu0, mu1, v = parts
    if method == "difference_in_means":
        return ratio((1 - w) * y, 1 - w, v), ratio(w * y, w, v)
    treated, control = arm_weights(w, e, target)
    if method == "hajek":
        return ratio(control * y, control, v), ratio(treated * y, treated, v)
    size = population_size(w, e, target)
    if method == "ipw":
        return ratio(control * y, size, v), ratio(treated * y, size, v)
    if method == "aipw" and target == "all":
        one = np.ones_like(y)
        return (
            ratio(mu0 + control * (y - mu0), one, v),
            ratio(mu1 + treated * (y - mu1), one, v),
        )
    fluctuate = logistic_fluctuation if method == "tmle" else linear_fluctuation
    return (
        _targeted(y, control, size, *fluctuate(y, mu0, control, v), v),
        _targeted(y, treated, size, *fluctuate(y, mu1, treated, v), v),
    )


def population_size(w: Floats, e: Floats, target: str) -> Floats:
    """Return how much each unit counts in the target population."""
    sizes = {"treated": w, "control": 1 - w, "overlap": e * (1 - e)}
    return sizes.get(target, np.ones_like(e))


def _targeted(y: Floats, g: Floats, h: Floats, mu: Floats, slope: Floats, v: Floats) -> Ratio:
    """Return the mean of mu over the population h, where ``sum(v g (y - mu)) = 0`` by a move.

    The move is estimated. It shifts the mean by ``slope`` over h for each unit of residual over g,
    which is one to one in large samples, where g balances.
    """
    value, influence = ratio(h * mu, h, v)
    pull, shift = np.mean(v * g * slope), np.mean(v * h * slope) / np.mean(v * h)
    carried = shift / pull if pull > 0 else 0.0
    return Ratio(value, influence + carried * v * g * (y - mu))


def linear_fluctuation(y: Floats, mu: Floats, g: Floats, v: Floats) -> tuple[Floats, Floats]:
    """Return mu shifted so that the weighted residuals of the arm add up to zero.

    Parameters
    ----------
    y, mu : ndarray of shape (n_units,)
    g : ndarray of shape (n_units,)
        Balancing weights of the arm, zero outside it.
    v : ndarray of shape (n_units,)

    Returns
    -------
    moved, slope : ndarray of shape (n_units,)
        The new predictions, and how fast they move.

    Examples
    --------
    >>> y, mu = np.array([1.0, 3.0]), np.zeros(2)
    >>> linear_fluctuation(y, mu, np.array([1.0, 0.0]), np.ones(2))[0].tolist()
    [1.0, 1.0]
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        # 0 / 0 where nobody has weight; the caller refuses what is not finite
        return mu + np.sum(v * g * (y - mu)) / np.sum(v * g), np.ones_like(mu)


def logistic_fluctuation(y: Floats, mu: Floats, g: Floats, v: Floats) -> tuple[Floats, Floats]:
    """Return mu moved on the logit scale so that the weighted residuals of the arm are zero.

    The outcome is first put on [0, 1] by its observed range, within which predictions stay. The
    balancing weights weigh the fluctuation, which is steadier than using them as a covariate.
    Gruber & van der Laan (2010), International Journal of Biostatistics 6(1),
    doi:10.2202/1557-4679.1260.

    Parameters
    ----------
    y, mu : ndarray of shape (n_units,)
    g : ndarray of shape (n_units,)
        Balancing weights of the arm, zero outside it.
    v : ndarray of shape (n_units,)

    Returns
    -------
    moved, slope : ndarray of shape (n_units,)
        The new predictions, and how fast they move.

    Examples
    --------
    >>> y, mu = np.array([0.0, 1, 1, 0]), np.full(4, 0.5)
    >>> moved, slope = logistic_fluctuation(y, mu, np.array([1.0, 1, 1, 0]), np.ones(4))
    >>> moved.round(4).tolist()
    [0.6667, 0.6667, 0.6667, 0.6667]
    """
    inside = v > 0
    low, high = float(y[inside].min()), float(y[inside].max())
    if not np.any(v * g > 0):
        return np.full_like(mu, np.nan), np.zeros_like(mu)
    if low == high:
        return np.full_like(mu, low), np.zeros_like(mu)
    unit = (y - low) / (high - low)
    start = logit(np.clip((mu - low) / (high - low), _EDGE, 1 - _EDGE))
    weight = v * g / np.sum(v * g)

    def residual(move: float) -> float:
        return float(weight @ (unit - expit(start + move)))

    # the residual falls with the move; it has no root where all outcomes of the arm are extreme
    if residual(-_FARTHEST) <= 0:
        move = -_FARTHEST
    elif residual(_FARTHEST) >= 0:
        move = _FARTHEST
    else:
        move = brentq(residual, -_FARTHEST, _FARTHEST, xtol=1e-13)
    share = expit(start + move)
    return low + (high - low) * share, (high - low) * share * (1 - share)


def contrast(control: Ratio, treated: Ratio, measure: str) -> Ratio:
    """Return difference, ratio or odds ratio of two means, with influence by the delta method.

    Parameters
    ----------
    control, treated : Ratio
    measure : {"difference", "ratio", "odds_ratio"}

    Returns
    -------
    Ratio

    Raises
    ------
    OverlapError
        A mean lies where the measure is not defined.

    Examples
    --------
    >>> one, other = Ratio(0.2, np.zeros(1)), Ratio(0.5, np.zeros(1))
    >>> contrast(one, other, "ratio").value, contrast(one, other, "odds_ratio").value
    (2.5, 4.0)
    """
    if measure == "difference":
        return difference(treated, control)
    highest = 1.0 if measure == "odds_ratio" else np.inf
    for word, mean in (("without", control), ("with", treated)):
        if not 0 < mean.value < highest:
            bounds = "between 0 and 1" if measure == "odds_ratio" else "above 0"
            raise OverlapError(
                f"measure={measure!r} needs mean outcomes {bounds}; the one {word} treatment is "
                f"{mean.value:.4g}. Use measure='difference', or method='tmle', whose means stay "
                "within the range of the outcome."
            )
    if measure == "ratio":
        value = treated.value / control.value
        slope = treated.influence / treated.value - control.influence / control.value
    else:
        odds = [mean.value / (1 - mean.value) for mean in (control, treated)]
        value = odds[1] / odds[0]
        slope = treated.influence / (treated.value * (1 - treated.value)) - control.influence / (
            control.value * (1 - control.value)
        )
    return Ratio(value, value * slope)
