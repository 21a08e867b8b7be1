"""Does a priority rank units by their effect? Rank-weighted effects with honest errors."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from terracausal._foundation.checks import check_count, check_fraction
from terracausal._foundation.errors import list_some
from terracausal._foundation.randomness import RandomState
from terracausal.evaluation.priorities import RankWithin, check_outcome_varies, read_repeats
from terracausal.evaluation.rates import Target, check_target
from terracausal.evaluation.repeated_rates import half_samples, median_and_error, rates_by_repeat
from terracausal.nuisance import Scores
from terracausal.study.result import TabularResult, tidy_table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Floats = NDArray[np.floating[Any]]
_FRACTIONS = tuple(round(0.05 * step, 2) for step in range(1, 21))


@dataclass(frozen=True, eq=False)
class TargetingResult(TabularResult):
    """A rank-weighted average effect, with its curve.

    Parameters
    ----------
    value : ndarray of shape (1,)
        The AUTOC or QINI.
    std_error : ndarray of shape (1,)
        From half-samples of clusters.
    target : str
        Which weighting of the curve: "AUTOC", "QINI" or the name of a function.
    curve : pandas.DataFrame
        Columns fraction, estimate and std_error: by how much the mean effect among the top share
        exceeds that of all.
    n_units : int
    n_clusters : int, default=None
        None where units are independent.
    n_bootstrap : int, default=200
        Half-samples drawn.
    ranked_within : str, default="all units"
        Which units were ranked against each other, in words.
    widening : float, default=1.0
        Factor on the standard error for intervals and p-values; above 1 for out-of-fold priorities.
    assumptions : tuple of str, default=()
    n_repeats : int, default=1
        Repeats of cross-fitting (of the scores times those of the priority), of which the numbers
        are the medians.

    Examples
    --------
    >>> curve = pd.DataFrame({"fraction": [1.0], "estimate": [0.0], "std_error": [0.0]})
    >>> result = TargetingResult(np.array([0.3]), np.array([0.1]), "AUTOC", curve, 100)
    >>> round(float(result.ratio[0]), 6)
    3.0
    """

    value: Floats
    std_error: Floats
    target: str
    curve: pd.DataFrame = field(repr=False)
    n_units: int
    n_clusters: int | None = None
    n_bootstrap: int = 200
    ranked_within: str = "all units"
    widening: float = 1.0
    assumptions: tuple[str, ...] = ()
    n_repeats: int = 1

    @cached_property
    def ratio(self) -> Floats:
        """RATE ratio: estimate over standard error, of shape (1,)."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(self.std_error > 0, self.value / self.std_error, np.nan)

    @property
    def p_value(self) -> Floats:
        """Two-sided p-value of "the priority does not rank effects", of shape (1,)."""
        return np.asarray(2 * stats.norm.sf(np.abs(self.ratio) / self.widening))

    def confint(self, level: float = 0.95) -> Floats:
        """Return the confidence interval.

        Parameters
        ----------
        level : float, default=0.95
            Coverage.

        Returns
        -------
        ndarray of shape (1, 2)
        """
        quantile = stats.norm.ppf(0.5 + check_fraction("level", level) / 2)
        half = quantile * self.widening * self.std_error
        return np.column_stack([self.value - half, self.value + half])

    def to_dataframe(self, level: float = 0.95) -> pd.DataFrame:
        """Return one row with the tidy columns of an estimate, and the RATE ratio.

        Parameters
        ----------
        level : float, default=0.95
            Coverage of the interval.

        Returns
        -------
        pandas.DataFrame
        """
        return tidy_table(
            [self.target],
            self.value,
            self.std_error,
            self.confint(level),
            level=level,
            n_units=self.n_units,
            n_clusters=self.n_clusters or self.n_units,
            ratio=self.ratio,
        )

    @property
    def toc(self) -> pd.DataFrame:
        """The targeting operator characteristic with pointwise 95 % intervals.

        Columns fraction, estimate, std_error, ci_low, ci_high.
        """
        half = stats.norm.ppf(0.975) * self.widening * self.curve["std_error"]
        estimate = self.curve["estimate"]
        return self.curve.assign(ci_low=estimate - half, ci_high=estimate + half)

    def summary(self, level: float = 0.95) -> str:
        """Return the RATE, its interval and what it rests on, as text.

        Parameters
        ----------
        level : float, default=0.95
            Coverage of the interval.

        Returns
        -------
        str
        """
        low, high = self.confint(level)[0]
        units = "units taken as independent"
        if self.n_clusters is not None:
            units = f"{self.n_clusters:,} clusters"
        lines = [
            f"Rank-weighted average effect ({self.target})",
            f"  {self.target:<11} {self.value[0]:.4f} (std. error {self.std_error[0]:.4f}), "
            f"{level:.0%} interval {low:.4f} to {high:.4f}",
            f"  RATE ratio  {self.ratio[0]:.2f} (p = {self.p_value[0]:.3g})",
            f"  std. error  {self.n_bootstrap} half-samples of {units}; {self.n_units:,} units",
            f"  ranked      within {self.ranked_within}",
        ]
        if self.widening > 1:
            lines.append(
                f"  widened     interval and p-value by {self.widening:.2f}, since each fold also "
                "trained the rankings of the others"
            )
        if self.n_repeats > 1:
            lines.append(
                f"  repeats     median of {self.n_repeats} cross-fits, whose spread is counted in "
                "the std. error"
            )
        if self.std_error[0] == 0:
            lines.append("  careful     the priority is constant, so it ranks nobody")
        lines += [f"  assumes     {text}" for text in self.assumptions]
        return "\n".join(lines)

    def plot(self, ax: "Axes | None" = None) -> "Axes":
        """Draw the targeting curve.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, default=None
            Where to draw; None makes a new figure.

        Returns
        -------
        matplotlib.axes.Axes
        """
        from terracausal.plotting import plot_targeting_curve

        return plot_targeting_curve(self.toc, ax=ax)


def rank_weighted_effect(
    scores: Scores,
    priority: "pd.Series[float] | ArrayLike",
    target: Target = "AUTOC",
    *,
    n_bootstrap: int = 200,
    fractions: Sequence[float] | None = None,
    rank_within: RankWithin = "auto",
    random_state: RandomState = None,
) -> TargetingResult:
    """Measure how well a priority ranks units by their effect (RATE).

    Parameters
    ----------
    scores : Scores
        From `doubly_robust_scores`, for outcomes of any kind (numbers, 0 and 1, counts). With
        repeats, of scores or priority, the median over them is taken.
    priority : pandas.Series or array-like of shape (n_units,)
        Higher means treated sooner: out-of-fold effects from `cross_predict`, or any column that
        does not come from these units' outcomes. A Series is aligned by unit. One with repeats
        (``cross_predict(..., n_repeats=)``) is ranked repeat by repeat, each within its own folds,
        and the median is taken.
    target : {"AUTOC", "QINI"} or callable, default="AUTOC"
        AUTOC weighs the top of the ranking more and is sharper when few units have large effects;
        QINI weighs all shares by their size. A function takes an array of shares treated, in
        (0, 1], and returns how much the curve counts at each: AUTOC is ``numpy.ones_like``, QINI
        the identity, and ``lambda share: share <= 0.2`` looks at the first fifth only.
    n_bootstrap : int, default=200
        Half-samples of clusters for the standard error.
    fractions : sequence of float, default=None
        Shares at which the curve is given; None is 0.05, 0.10, … 1.
    rank_within : {"auto", "folds", "all"}, default="auto"
        "folds" compares units with those of their own fold only, which is right for out-of-fold
        predictions since each fold has a learner of its own. "auto" does so when the priority
        comes from `cross_predict`, and compares all units otherwise.
    random_state : None, int or Generator, default=None
        Seed of the half-samples.

    Returns
    -------
    TargetingResult

    Raises
    ------
    LeakageError
        The priority was fitted on the units that evaluate it.
    RoleError
        There are fewer than two clusters, or the outcome has one value.

    Notes
    -----
    Yadlowsky et al. (2025), JASA 120(549), doi:10.1080/01621459.2024.2393466. Half of the clusters
    are drawn without replacement, and the standard deviation of the RATE over draws is its error,
    which takes the priority as given.

    Out-of-fold priorities are not given: fold k trains the ranking of fold l, and fold l that of
    fold k. Without heterogeneity the RATE of a learner that is linear in the scores is then a sum
    over pairs of folds in which each pair counts twice, so its variance is twice that for a given
    priority, whatever the number of folds and units. Intervals and p-values for such priorities are
    therefore widened by the root of 2, which is right without heterogeneity and cautious with it
    (`simulations/rate_size`). A priority learned on other units needs no widening.

    With few clusters the RATE of a strong ranking is biased towards 0, since the top of a small
    sample is less extreme than that of the population: with 100 sites by about a fifth of the
    standard error and more (`simulations/heterogeneity_coverage`).

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> effect = rng.normal(size=500)
    >>> scores = Scores.from_dataframe(pd.DataFrame({"score": effect + rng.normal(size=500)}))
    >>> result = rank_weighted_effect(scores, effect, random_state=0)
    >>> bool(result.ratio[0] > 5)
    True
    """
    name = check_target(target)
    check_count("n_bootstrap", n_bootstrap, minimum=2)
    grid = curve_fractions(fractions)
    pairs = read_repeats(scores, priority, rank_within)
    found = pairs[0][1]
    check_outcome_varies(scores)
    draws = half_samples(scores, n_bootstrap, random_state)
    rates, curves = rates_by_repeat(pairs, draws, target, grid)
    value, std_error = median_and_error(rates[:, :, None])
    curve, curve_error = median_and_error(curves)
    table = pd.DataFrame({"fraction": grid, "estimate": curve, "std_error": curve_error})
    return TargetingResult(
        value,
        std_error,
        name,
        table,
        scores.n_units,
        scores.frame.n_clusters,
        n_bootstrap,
        found.within,
        found.widening,
        (*scores.assumptions, found.assumption()),
        len(pairs),
    )


def curve_fractions(fractions: "ArrayLike | None") -> Floats:
    """Return the shares at which a curve is given; None is 0.05, 0.10, … 1."""
    grid = np.asarray(_FRACTIONS if fractions is None else fractions, dtype=np.float64)
    if grid.ndim != 1 or not len(grid) or not ((grid > 0) & (grid <= 1)).all():
        raise ValueError(f"`fractions` must lie in (0, 1]; got {list_some(np.ravel(grid))}.")
    return grid
