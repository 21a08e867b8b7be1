"""Tests whether predicted effects mean what they say, on average and in how they differ."""

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from terracausal._foundation.errors import RoleError
from terracausal.effects.least_squares import regression_estimate
from terracausal.evaluation.priorities import (
    Priority,
    RankWithin,
    check_outcome_varies,
    read_repeats,
)
from terracausal.nuisance import Scores
from terracausal.study import Dependence, Estimate, median_estimate
from terracausal.study.result import TabularResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Floats = NDArray[np.floating[Any]]
TERMS = ("mean prediction", "differential prediction")
_NEEDED_BY = "The calibration test"


@dataclass(frozen=True, eq=False)
class CalibrationTest(TabularResult):
    """Coefficients of the mean and of the differences of predicted effects; both are 1 at best.

    Parameters
    ----------
    estimate : Estimate
        Terms "mean prediction" and "differential prediction".
    centred_within : str, default="all units"
        Whose mean the differences are from, in words.
    widening : float, default=1.0
        Factor that the standard error of the differential term contains; above 1 for out-of-fold
        effects.

    Examples
    --------
    >>> from terracausal.study import UnitFrame
    >>> shift, frame = np.array([[-1.0, -1.0], [1.0, 1.0]]), UnitFrame(pd.RangeIndex(2))
    >>> estimate = Estimate(np.array([1.0, -0.5]), shift, frame, TERMS, "calibration", "example")
    >>> bool(CalibrationTest(estimate).p_value[1] > 0.5)
    True
    """

    estimate: Estimate = field(repr=False)
    centred_within: str = "all units"
    widening: float = 1.0

    @property
    def value(self) -> Floats:
        """Coefficients of the mean and the differential prediction, of shape (2,)."""
        return self.estimate.value

    @property
    def std_error(self) -> Floats:
        """Their standard errors, of shape (2,)."""
        return self.estimate.std_error

    @property
    def p_value(self) -> Floats:
        """One-sided p-values of "the coefficient is not above 0", of shape (2,).

        A small second one says that effects differ, and in the direction that is predicted.
        """
        statistic = self.value / self.std_error
        return np.asarray(stats.t.sf(statistic, self.estimate.degrees_of_freedom))

    def confint(self, level: float = 0.95) -> Floats:
        """Return two-sided confidence intervals.

        Parameters
        ----------
        level : float, default=0.95
            Coverage.

        Returns
        -------
        ndarray of shape (2, 2)
        """
        return self.estimate.confint(level)

    def to_dataframe(self, level: float = 0.95) -> pd.DataFrame:
        """Return one row per coefficient: the tidy columns, and the one-sided `p_value`.

        Parameters
        ----------
        level : float, default=0.95
            Coverage of the intervals.

        Returns
        -------
        pandas.DataFrame
        """
        return self.estimate.to_dataframe(level).assign(p_value=self.p_value)

    def summary(self, level: float = 0.95) -> str:
        """Return both coefficients and what they rest on, as text.

        Parameters
        ----------
        level : float, default=0.95
            Coverage of the intervals.

        Returns
        -------
        str
        """
        lines = ["Calibration of predicted effects (both coefficients are 1 at best)"]
        for row in self.to_dataframe(level).itertuples():
            lines.append(
                f"  {row.term:<24} {row.estimate:.4f} (std. error {row.std_error:.4f}), "
                f"{level:.0%} interval {row.ci_low:.4f} to {row.ci_high:.4f}, "
                f"one-sided p = {row.p_value:.3g}"
            )
        lines.append(f"  std. error  {self.estimate.describe_std_error()}, HC3")
        lines.append(f"  centred     within {self.centred_within}")
        if self.widening > 1:
            lines.append(
                f"  widened     differential term by {self.widening:.2f}, since each fold also "
                "trained the effects of the others"
            )
        lines += [f"  assumes     {text}" for text in self.estimate.assumptions]
        return "\n".join(lines)

    def plot(self, ax: "Axes | None" = None) -> "Axes":
        """Draw both coefficients against 1.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, default=None
            Where to draw; None makes a new figure.

        Returns
        -------
        matplotlib.axes.Axes
        """
        from terracausal.plotting import plot_intervals

        table = self.to_dataframe()
        return plot_intervals(table, ax=ax, reference=1.0, xlabel="Calibration", unit=None)


def calibration_test(
    scores: Scores,
    effects: "pd.Series[float] | ArrayLike",
    *,
    centre_within: RankWithin = "auto",
    dependence: Dependence | None = None,
) -> CalibrationTest:
    """Test whether predicted effects are right on average and in how they differ.

    The outcome less its prediction is regressed on the treatment less its propensity, times the
    mean predicted effect, and times how each prediction differs from the mean.

    Parameters
    ----------
    scores : Scores
        With outcome, treatment, propensity, outcome_control and outcome_treated. With
        repeats, of scores or effects, the median over them is taken.
    effects : pandas.Series or array-like of shape (n_units,)
        Predicted effects that did not see these units' outcomes: from `cross_predict`, out of bag,
        or of a learner trained elsewhere. A Series is aligned by unit.
    centre_within : {"auto", "folds", "all"}, default="auto"
        Whose mean the differences are from. "auto" takes that of the unit's fold where effects come
        from `cross_predict`, and that of all units otherwise.
    dependence : Dependence, default=None
        None clusters whenever the units have clusters, and treats units as independent otherwise.

    Returns
    -------
    CalibrationTest

    Raises
    ------
    LeakageError
        The effects were fitted on the units that evaluate them.
    RoleError
        A column is missing, the outcome has one value, or the effects are constant.

    Notes
    -----
    `test_calibration` of grf (Athey & Wager (2019), Observational Studies 5(2), section 2.2),
    after Chernozhukov, Demirer, Duflo & Fernández-Val (2025), Econometrica 93(4), with its HC3
    errors by cluster and its one-sided p-values; with clusters these have one degree of freedom
    less than there are clusters, where grf counts units. The mean term says nothing about
    heterogeneity, and little at all where the average effect is near 0, because the same outcomes
    decide numerator and denominator.

    Effects from `cross_predict` need two changes. (1) A learner that never saw a fold with high
    effects predicts too little for it, so differences are taken inside folds; across folds the
    coefficient is biased downwards. (2) Without heterogeneity the coefficient's numerator is a sum
    over pairs of folds in which each pair counts twice, as explained for `rank_weighted_effect`, so
    its standard error is widened by the root of 2. The one-sided 5 % test then rejected 5 % of true
    nulls with 100 features and 1 to 3 % with few (11 % and 6 to 11 % without the widening); it is
    cautious with heterogeneity.

    Out-of-bag effects of a forest are taken as they are. Each is moved away from the outcomes of
    its own cluster, so that without heterogeneity the differential coefficient lies below 0, and
    the one-sided test is cautious (`simulations/out_of_bag`).

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> w, effect = rng.permutation(np.arange(800) % 2), rng.normal(size=800)
    >>> table = pd.DataFrame({"treatment": w, "outcome": w * effect + rng.normal(size=800)})
    >>> table["propensity"], table["outcome_control"], table["outcome_treated"] = 0.5, 0.0, 0.0
    >>> table["score"] = table["outcome"] * (4 * w - 2)
    >>> result = calibration_test(Scores.from_dataframe(table), effect)
    >>> bool(result.p_value[1] < 0.01)
    True
    """
    pairs = read_repeats(
        scores, effects, centre_within, "effects", "centre_within", out_of_bag=True
    )
    check_outcome_varies(scores)
    estimate = median_estimate([_calibration_of(run, part, dependence) for run, part in pairs])
    found = pairs[0][1]
    return CalibrationTest(estimate, found.within, found.widening)


def _calibration_of(scores: Scores, found: Priority, dependence: Dependence | None) -> Estimate:
    """Return the two coefficients from one run of cross-fitting."""
    y, w, e, mu0, mu1 = (
        scores.column(name, _NEEDED_BY)
        for name in ("outcome", "treatment", "propensity", "outcome_control", "outcome_treated")
    )
    tau, v = found.values, scores.weight
    mean = float(np.average(tau, weights=v))
    differential = tau - _fold_means(tau, v, found.folds)
    if np.abs(differential).max() <= 1e-12 * max(np.abs(tau).max(), 1e-300):
        raise RoleError(
            f"The effects must differ to be calibrated; all {len(tau)} are {mean:.6g} (within "
            f"{found.within}). There is no predicted heterogeneity to test."
        )
    if mean == 0:
        raise RoleError(
            "The mean of the effects must not be exactly 0, or its calibration is not defined; "
            "these look centred. Pass effects on the scale of the outcome."
        )
    design = np.column_stack([(w - e) * mean, (w - e) * differential])
    words = "calibration of predicted effects", "regression of residuals, HC3"
    residual = y - (e * mu1 + (1 - e) * mu0)
    estimate = regression_estimate(scores, design, residual, TERMS, dependence, words)
    return replace(estimate, influence=estimate.influence * np.array([1.0, found.widening]))


def _fold_means(tau: Floats, v: Floats, folds: NDArray[Any] | None) -> Floats:
    """Return for each unit the weighted mean effect of its fold, of shape (n_units,)."""
    if folds is None:
        return np.full(len(tau), np.average(tau, weights=v))
    code = np.unique(folds, return_inverse=True)[1].reshape(-1)
    mass = np.bincount(code, weights=v)
    sums = np.bincount(code, weights=v * tau)
    return np.asarray((sums / np.where(mass > 0, mass, 1.0))[code])
