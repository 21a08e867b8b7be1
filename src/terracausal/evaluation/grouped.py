"""Average effects of groups of units, sorted by a priority (GATES)."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from terracausal._foundation.checks import check_count, check_fraction
from terracausal._foundation.errors import RoleError
from terracausal._foundation.randomness import RandomState, random_generator
from terracausal.evaluation.group_comparison import GroupComparison, compare_extremes
from terracausal.evaluation.group_estimates import check_cells, cut_groups, group_estimates
from terracausal.evaluation.priorities import (
    RankWithin,
    check_outcome_varies,
    numeric_columns,
    read_repeats,
)
from terracausal.nuisance import Scores
from terracausal.nuisance.scores import check_scores
from terracausal.study import Dependence, Estimate, median_estimate
from terracausal.study.result import TabularResult
from terracausal.study.simultaneous import draw_statistics

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Floats = NDArray[np.floating[Any]]
N_DRAWS = 10_000


@dataclass(frozen=True, eq=False)
class GroupedEffects(TabularResult):
    """The average effect of each group, from the lowest to the highest priority.

    Parameters
    ----------
    estimate : Estimate
        One term per group.
    contrast : Estimate
        The highest group less the lowest.
    average : Estimate
        The average effect of all units.
    monotonicity_p_value : float
        Of "effects do not fall from one group to the next"; small where they do.
    group : pandas.Series of shape (n_units,)
        Group of each unit, from 1 (lowest priority).
    mean_priority : ndarray of shape (n_groups,)
        Mean priority of each group.
    scores : Scores
        Whose units these are.
    largest : ndarray of shape (n_draws,)
        Draws of the largest t statistic of the groups, for the joint band.
    ranked_within : str, default="all units"
        Which units were ranked against each other, in words.
    widening : float, default=1.0
        Factor that standard errors of differences between groups contain; above 1 for out-of-fold
        priorities.
    other_groups : tuple of pandas.Series, default=()
        Groups in the other repeats; numbers are medians over repeats, `group` is of the first.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> effect = rng.normal(size=500)
    >>> scores = Scores.from_dataframe(pd.DataFrame({"score": effect + rng.normal(size=500)}))
    >>> groups = grouped_effects(scores, effect, n_groups=2, random_state=0)
    >>> groups.value.shape, bool(groups.contrast.p_value[0] < 0.01)
    ((2,), True)
    """

    estimate: Estimate = field(repr=False)
    contrast: Estimate = field(repr=False)
    average: Estimate = field(repr=False)
    monotonicity_p_value: float
    group: "pd.Series[int]" = field(repr=False)
    mean_priority: Floats = field(repr=False)
    scores: Scores = field(repr=False)
    largest: Floats = field(repr=False)
    ranked_within: str = "all units"
    widening: float = 1.0
    other_groups: "tuple[pd.Series[int], ...]" = field(default=(), repr=False)

    @property
    def value(self) -> Floats:
        """Average effect of each group, of shape (n_groups,)."""
        return self.estimate.value

    @property
    def std_error(self) -> Floats:
        """Standard errors, of shape (n_groups,)."""
        return self.estimate.std_error

    @property
    def n_groups(self) -> int:
        """Number of groups."""
        return len(self.value)

    def confint(self, level: float = 0.95, *, joint: bool = False) -> Floats:
        """Return confidence intervals.

        Parameters
        ----------
        level : float, default=0.95
            Coverage.
        joint : bool, default=False
            Whether all intervals hold together at this level, or each alone.

        Returns
        -------
        ndarray of shape (n_groups, 2)
        """
        if not joint:
            return self.estimate.confint(level)
        half = np.quantile(self.largest, check_fraction("level", level)) * self.std_error
        return np.column_stack([self.value - half, self.value + half])

    def to_dataframe(self, level: float = 0.95) -> pd.DataFrame:
        """Return one row per group.

        Parameters
        ----------
        level : float, default=0.95
            Coverage of intervals and band.

        Returns
        -------
        pandas.DataFrame
            Columns term, estimate, std_error, ci_low, ci_high, band_low, band_high (the joint
            band), level, mean_priority, and n_units and n_clusters of the group.
        """
        alone, band = self.confint(level), self.confint(level, joint=True)
        counts = self.group.value_counts().reindex(range(1, self.n_groups + 1), fill_value=0)
        n_clusters = counts
        if self.scores.frame.cluster is not None:
            clusters = self.scores.frame.cluster.groupby(self.group.to_numpy()).nunique()
            n_clusters = clusters.reindex(counts.index, fill_value=0)
        return pd.DataFrame(
            {
                "term": list(self.estimate.terms),
                "estimate": self.value,
                "std_error": self.std_error,
                "ci_low": alone[:, 0],
                "ci_high": alone[:, 1],
                "band_low": band[:, 0],
                "band_high": band[:, 1],
                "level": level,
                "mean_priority": self.mean_priority,
                "n_units": counts.to_numpy(),
                "n_clusters": n_clusters.to_numpy(),
            }
        )

    def summary(self, level: float = 0.95) -> str:
        """Return groups, contrast and what they rest on, as text.

        Parameters
        ----------
        level : float, default=0.95
            Coverage.

        Returns
        -------
        str
        """
        lines = [f"Average effects of {self.n_groups} groups by rising priority"]
        for row in self.to_dataframe(level).itertuples():
            lines.append(
                f"  {row.term:<11} {row.estimate:.4f} (std. error {row.std_error:.4f}), "
                f"{level:.0%} joint band {row.band_low:.4f} to {row.band_high:.4f}; "
                f"{row.n_units:,} units"
            )
        low, high = self.contrast.confint(level)[0]
        lines += [
            f"  all         {self.average.value[0]:.4f} (std. error "
            f"{self.average.std_error[0]:.4f})",
            f"  difference  highest less lowest {self.contrast.value[0]:.4f} (std. error "
            f"{self.contrast.std_error[0]:.4f}), {level:.0%} interval {low:.4f} to {high:.4f}, "
            f"p = {self.contrast.p_value[0]:.3g}",
            f"  order       effects rise with priority: p = {self.monotonicity_p_value:.3g} "
            "(small where they do not)",
            f"  std. error  {self.estimate.describe_std_error()}",
            f"  ranked      within {self.ranked_within}",
        ]
        if self.widening > 1:
            lines.append(
                f"  widened     differences between groups by {self.widening:.2f}, since each fold "
                "also trained the rankings of the others"
            )
        if self.estimate.repeats:
            lines.append(
                f"  repeats     median of {len(self.estimate.repeats)} cross-fits, whose spread is "
                "counted in the std. error"
            )
        lines += [f"  assumes     {text}" for text in self.estimate.assumptions]
        return "\n".join(lines)

    def plot(self, ax: "Axes | None" = None, *, show_prediction: bool = False) -> "Axes":
        """Draw the groups with intervals and joint band, and the average of all.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, default=None
            Where to draw; None makes a new figure.
        show_prediction : bool, default=False
            Whether the mean priority of each group is marked, which makes a calibration plot where
            priorities are predicted effects.

        Returns
        -------
        matplotlib.axes.Axes
        """
        from terracausal.plotting.grouped_effects import plot_grouped_effects

        return plot_grouped_effects(
            self.to_dataframe(),
            float(self.average.value[0]),
            ax=ax,
            show_prediction=show_prediction,
        )

    def compare(
        self,
        columns: "pd.DataFrame | pd.Series[Any] | ArrayLike",
        *,
        random_state: RandomState = None,
    ) -> GroupComparison:
        """Tell in which columns the most and the least affected units differ (CLAN).

        Parameters
        ----------
        columns : pandas.DataFrame, pandas.Series or array-like of shape (n_units, n_columns)
            Covariates, band statistics, shares of land cover, regions, …, aligned by unit; each
            level of a category becomes an indicator.
        random_state : None, int or Generator, default=None
            Seed of the draws behind the adjusted p-values.

        Returns
        -------
        GroupComparison

        Notes
        -----
        The ranking is taken as given. A learner ranks by some columns even where effects do not
        differ, and these columns then differ between the groups: trust the difference of the
        effects (`contrast`) first.
        """
        table = numeric_columns(self.scores, columns, drop_first=False)
        labels = [group.to_numpy() for group in (self.group, *self.other_groups)]
        return compare_extremes(
            table,
            [(label == 1, label == self.n_groups) for label in labels],
            self.scores,
            self.estimate.dependence,
            random_generator(random_state),
            warn=bool(self.contrast.p_value[0] > 0.05),
        )


def grouped_effects(
    scores: Scores,
    priority: "pd.Series[float] | ArrayLike",
    n_groups: int = 5,
    *,
    rank_within: RankWithin = "auto",
    dependence: Dependence | None = None,
    random_state: RandomState = None,
) -> GroupedEffects:
    """Average the effect in groups of equal weight, sorted by a priority (GATES).

    Parameters
    ----------
    scores : Scores
        From `doubly_robust_scores`. With repeats, of scores or priority, the median over them is
        taken.
    priority : pandas.Series or array-like of shape (n_units,)
        Higher means a larger effect is expected: out-of-fold effects from `cross_predict`, or any
        column that does not come from these units' outcomes. A Series is aligned by unit.
    n_groups : int, default=5
        Groups of equal weight; units of equal priority share a group.
    rank_within : {"auto", "folds", "all"}, default="auto"
        "folds" forms the groups inside each fold, which is right for out-of-fold predictions since
        each fold has a learner of its own; "auto" does so for priorities from `cross_predict`.
    dependence : Dependence, default=None
        None clusters whenever the units have clusters, and treats units as independent otherwise.
    random_state : None, int or Generator, default=None
        Seed of the draws behind the joint band.

    Returns
    -------
    GroupedEffects

    Raises
    ------
    LeakageError
        The priority was fitted on the units that evaluate it.
    RoleError
        A group is empty, has one arm or one cluster only, or the priority is constant.

    Notes
    -----
    Chernozhukov, Demirer, Duflo & Fernández-Val (2025), Econometrica 93(4), section 3. Standard
    errors are HC3 (with clusters, the jackknife over clusters), as in `best_linear_projection`,
    since groups often consist of few clusters. The joint
    band is the sup-t band from Gaussian multipliers of the influence values, and the order is
    tested by the largest fall between neighbours against its distribution where all are equal.

    Priorities from `cross_predict` are not given: fold k trains the ranking of fold l, and fold l
    that of fold k. A group's effect is the average effect, which no ranking touches, plus the
    group's deviation from it. Without heterogeneity the deviation of the top group is a sum over
    folds of the inner product of a fold's noise with a ranking made from the noise of the others;
    for rankings that are linear in that noise each pair of folds enters twice, so the variance of
    the deviation is twice that for a given ranking, just as for the RATE. The deviation's part of
    every influence value is therefore multiplied by the root of 2, that of the average effect by 1:
    the difference of two groups is widened by 1.41, one of five groups by 1.34. Groups are a step
    function of the ranking, so the doubling is not quite exact: without heterogeneity the 5 % test
    of the difference rejected 2 to 4 % of 500 to 1,000 replications of regressions on 1 to 100
    features and of forests, and 13 to 16 % without the widening. With heterogeneity the ranking
    hardly depends on noise and the widening is cautious.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> effect = rng.normal(size=500)
    >>> scores = Scores.from_dataframe(pd.DataFrame({"score": effect + rng.normal(size=500)}))
    >>> groups = grouped_effects(scores, effect, random_state=0)
    >>> bool(groups.contrast.value[0] > 2)
    True
    """
    check_scores(scores)
    check_count("n_groups", n_groups, minimum=2)
    if n_groups > scores.n_units:
        raise RoleError(
            f"There must not be more groups than units; got {n_groups} groups and "
            f"{scores.n_units} units."
        )
    pairs = read_repeats(scores, priority, rank_within)
    check_outcome_varies(scores)
    if scores.frame.n_clusters == 1:
        raise RoleError("Groups need at least 2 clusters for an error; the scores have 1.")
    v, widening = scores.weight, pairs[0][1].widening
    groups = [cut_groups(found.shares(v), n_groups) for _, found in pairs]
    for group, (_, found) in zip(groups, pairs, strict=True):
        check_cells(scores, group, n_groups, found)
    runs = [
        group_estimates(run, group, n_groups, found, dependence)
        for group, (run, found) in zip(groups, pairs, strict=True)
    ]
    effects, contrast, average, steps = (
        median_estimate([run[part] for run in runs]) for part in range(4)
    )
    largest, order_p = _joint(effects, steps, random_generator(random_state))
    means = [
        [np.average(found.values[group == g], weights=v[group == g]) for g in range(n_groups)]
        for group, (_, found) in zip(groups, pairs, strict=True)
    ]
    labels = [pd.Series(group + 1, index=scores.units, name="group") for group in groups]
    return GroupedEffects(
        effects,
        contrast,
        average,
        order_p,
        labels[0],
        np.median(means, axis=0),
        scores,
        largest,
        pairs[0][1].within,
        widening,
        tuple(labels[1:]),
    )


def _joint(effects: Estimate, steps: Estimate, rng: np.random.Generator) -> tuple[Floats, float]:
    """Return draws of the largest statistic, and the p-value of "effects do not fall"."""
    df = effects.degrees_of_freedom
    largest = np.abs(draw_statistics(effects.covariance, df, N_DRAWS, rng)).max(axis=1)
    falls = draw_statistics(steps.covariance, df, N_DRAWS, rng).max(axis=1)
    size = np.where(steps.std_error > 0, steps.std_error, 1.0)
    fall = float((-steps.value / size).max())
    return largest, float((1 + (falls >= fall).sum()) / (1 + N_DRAWS))
