"""Average effects as ratios of weighted means, with their influence values.

Every estimator here is a difference of ratios ``sum(v a) / sum(v b)``; the influence value of a
ratio is ``v (a - ratio * b) / mean(v b)``, so one line gives all standard errors. Symbols:
y outcome, w treatment, e propensity, mu0 and mu1 predicted outcomes, v unit weight; all arrays have
the shape (n_units,).
"""

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]


class Ratio(NamedTuple):
    """A ratio of weighted sums and its influence values, of shape (n_units,)."""

    value: float
    influence: Floats


def ratio(a: Floats, b: Floats, v: Floats) -> Ratio:
    """Return ``sum(v a) / sum(v b)`` with its influence values."""
    with np.errstate(divide="ignore", invalid="ignore"):
        # 0 / 0 where nobody has weight; the caller refuses what is not finite
        value = float(np.sum(v * a) / np.sum(v * b))
        return Ratio(value, v * (a - value * b) / np.mean(v * b))


def difference(one: Ratio, other: Ratio) -> Ratio:
    """Return one ratio minus another."""
    return Ratio(one.value - other.value, one.influence - other.influence)


def arm_weights(w: Floats, e: Floats, target: str) -> tuple[Floats, Floats]:
    """Return the balancing weights of both arms for a target population.

    Each arm is reweighted to the tilted population h: all h = 1, treated h = e, control h = 1 - e,
    overlap h = e (1 - e). A treated unit weighs h / e, a control h / (1 - e); Li, Morgan &
    Zaslavsky (2018), JASA 113(521), doi:10.1080/01621459.2016.1260466, table 1.
    """
    if target == "treated":
        return w, (1 - w) * e / (1 - e)
    if target == "control":
        return w * (1 - e) / e, 1 - w
    if target == "overlap":
        return w * (1 - e), (1 - w) * e
    return w / e, (1 - w) / (1 - e)


def difference_in_means(y: Floats, w: Floats, v: Floats, stratum: NDArray[np.int64]) -> Ratio:
    """Return the treatment coefficient of a regression on treatment and strata.

    With one stratum it is the difference of the two means; with several, the within-stratum
    differences are averaged with weights n p (1 - p).
    """
    return _residual_regression(_within(y, v, stratum), _within(w, v, stratum), v)


def partially_linear(y: Floats, w: Floats, e: Floats, mu0: Floats, mu1: Floats, v: Floats) -> Ratio:
    """Return Robinson's regression of outcome residuals on treatment residuals.

    The outcome is predicted without knowing the arm, by ``e mu1 + (1 - e) mu0``. The estimand
    averages effects with weights e (1 - e), and this is its efficient score when e is estimated:
    the overlap-weighted mean of the AIPW scores plus ``(1 - 2 e)(w - e)(mu1 - mu0 - effect)``,
    which accounts for the weights being estimated. Robinson (1988), Econometrica 56(4).
    """
    one = np.zeros(len(y), dtype=np.int64)
    outcome_residual = _within(y - e * mu1 - (1 - e) * mu0, v, one)
    return _residual_regression(outcome_residual, _within(w - e, v, one), v)


def _residual_regression(y_residual: Floats, w_residual: Floats, v: Floats) -> Ratio:
    return ratio(w_residual * y_residual, w_residual**2, v)


def _within(x: Floats, v: Floats, stratum: NDArray[np.int64]) -> Floats:
    """Subtract the weighted mean of each stratum."""
    mass = np.bincount(stratum, weights=v)
    mean = np.bincount(stratum, weights=v * x) / np.where(mass > 0, mass, 1.0)
    return np.asarray(x - mean[stratum])


def hajek(y: Floats, w: Floats, e: Floats, v: Floats, target: str) -> Ratio:
    """Return the difference of the two arms' weighted means, weights normalised in each arm."""
    treated, control = arm_weights(w, e, target)
    return difference(ratio(treated * y, treated, v), ratio(control * y, control, v))


def inverse_propensity(y: Floats, w: Floats, e: Floats, v: Floats, target: str) -> Ratio:
    """Return the Horvitz-Thompson difference, divided by the size of the target population."""
    treated, control = arm_weights(w, e, target)
    size = {"treated": w, "control": 1 - w, "overlap": e * (1 - e)}.get(target, np.ones_like(y))
    return ratio(treated * y - control * y, size, v)


def augmented(
    y: Floats, w: Floats, e: Floats, mu0: Floats, mu1: Floats, v: Floats, target: str
) -> Ratio:
    """Return the doubly robust average for one arm as the target.

    Among the treated: the mean of ``y - mu0`` less the same over reweighted controls, which is 0 up
    to noise when mu0 is right. Both means are normalised, as in grf.
    """
    treated, control = arm_weights(w, e, target)
    surface = mu0 if target == "treated" else mu1
    over_treated = ratio(treated * (y - surface), treated, v)
    return difference(over_treated, ratio(control * (y - surface), control, v))


def stratum_codes(stratum: "pd.Series[Any] | None", n_units: int) -> NDArray[np.int64]:
    """Return codes from 0 for each stratum; all 0 where there are none."""
    if stratum is None:
        return np.zeros(n_units, dtype=np.int64)
    return pd.factorize(stratum)[0].astype(np.int64)
