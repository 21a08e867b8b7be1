"""Which of two priorities ranks effects better? And one targeting curve with its uniform band."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from terracausal._foundation.checks import check_count, check_fraction
from terracausal._foundation.errors import AlignmentError
from terracausal._foundation.randomness import RandomState
from terracausal.evaluation.priorities import (
    Priority,
    RankWithin,
    check_outcome_varies,
    read_repeats,
)
from terracausal.evaluation.rates import Draws, Target, check_target
from terracausal.evaluation.repeated_rates import half_samples, median_and_error, rates_by_repeat
from terracausal.evaluation.targeting import curve_fractions
from terracausal.nuisance import Scores
from terracausal.study.result import TabularResult, tidy_table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True, eq=False)
class PriorityComparison(TabularResult):
    """The RATEs of two priorities and their difference, on the same half-samples.

    Parameters
    ----------
    value : ndarray of shape (3,)
        RATE of the first, of the second, and the first less the second.
    std_error : ndarray of shape (3,)
        Those of out-of-fold priorities are widened.
    terms : tuple of str
    target : str
        "AUTOC", "QINI" or the name of a function.
    n_units : int
    n_clusters : int, default=None
        None where units are independent.
    widened : tuple of float, default=(1.0, 1.0)
        Factor in the standard error of each.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> x, other = rng.normal(size=(2, 500))
    >>> scores = Scores.from_dataframe(pd.DataFrame({"score": x + rng.normal(size=500)}))
    >>> bool(compare_priorities(scores, x, other, random_state=0).p_value[2] < 0.01)
    True
    """

    value: Floats
    std_error: Floats
    terms: tuple[str, str, str]
    target: str
    n_units: int
    n_clusters: int | None = None
    widened: tuple[float, float] = (1.0, 1.0)

    @property
    def p_value(self) -> Floats:
        """Two-sided p-values of "it is 0", of shape (3,)."""
        size = np.where(self.std_error > 0, self.std_error, np.nan)
        return np.asarray(2 * stats.norm.sf(np.abs(self.value / size)))

    def confint(self, level: float = 0.95) -> Floats:
        """Return confidence intervals.

        Parameters
        ----------
        level : float, default=0.95
            Coverage.

        Returns
        -------
        ndarray of shape (3, 2)
        """
        half = stats.norm.ppf(0.5 + check_fraction("level", level) / 2) * self.std_error
        return np.column_stack([self.value - half, self.value + half])

    def to_dataframe(self, level: float = 0.95) -> pd.DataFrame:
        """Return one row per priority and one for the difference, with p-values.

        Parameters
        ----------
        level : float, default=0.95
            Coverage of the intervals.

        Returns
        -------
        pandas.DataFrame
        """
        return tidy_table(
            self.terms,
            self.value,
            self.std_error,
            self.confint(level),
            level=level,
            n_units=self.n_units,
            n_clusters=self.n_clusters or self.n_units,
            p_value=self.p_value,
        )

    def summary(self, level: float = 0.95) -> str:
        """Return both RATEs and their difference as text.

        Parameters
        ----------
        level : float, default=0.95
            Coverage of the intervals.

        Returns
        -------
        str
        """
        lines = [f"Two priorities compared by their {self.target}"]
        for row in self.to_dataframe(level).itertuples():
            lines.append(
                f"  {row.term:<24} {row.estimate:.4f} (std. error {row.std_error:.4f}), "
                f"{level:.0%} interval {row.ci_low:.4f} to {row.ci_high:.4f}, p = {row.p_value:.3g}"
            )
        clusters = f"{self.n_clusters:,} clusters" if self.n_clusters else "independent units"
        lines.append(f"  std. error  same half-samples of {clusters}; {self.n_units:,} units")
        flat = [name for name, e in zip(self.terms[:2], self.std_error, strict=False) if e == 0]
        lines += [f"  careful     {name!r} is constant, so it ranks nobody" for name in flat]
        if max(self.widened) > 1:
            lines.append("  widened     out-of-fold priorities, whose folds trained each other")
        return "\n".join(lines)

    def plot(self, ax: "Axes | None" = None) -> "Axes":
        """Draw both RATEs and their difference.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, default=None
            Where to draw; None makes a new figure.

        Returns
        -------
        matplotlib.axes.Axes
        """
        from terracausal.plotting import plot_intervals

        return plot_intervals(self.to_dataframe(), ax=ax, xlabel=self.target)


def compare_priorities(
    scores: Scores,
    first: "pd.Series[float] | ArrayLike",
    second: "pd.Series[float] | ArrayLike",
    target: Target = "AUTOC",
    *,
    names: tuple[str, str] = ("first", "second"),
    n_bootstrap: int = 200,
    rank_within: RankWithin = "auto",
    random_state: RandomState = None,
) -> PriorityComparison:
    """Compare how well two priorities rank the same units.

    Parameters
    ----------
    scores : Scores
        With repeats, of scores or priorities, the median over them is taken.
    first, second : pandas.Series or array-like of shape (n_units,)
        As in `rank_weighted_effect`.
    target : {"AUTOC", "QINI"} or callable, default="AUTOC"
        As in `rank_weighted_effect`.
    names : tuple of str, default=("first", "second")
        What the priorities are called.
    n_bootstrap : int, default=200
        Half-samples of clusters.
    rank_within : {"auto", "folds", "all"}, default="auto"
        For each priority, as in `rank_weighted_effect`.
    random_state : None, int or Generator, default=None
        Seed of the half-samples.

    Returns
    -------
    PriorityComparison

    Notes
    -----
    Both RATEs are computed on each half-sample, and the error of the difference is the standard
    deviation of the differences, so it counts how much both rankings have in common. Draws of an
    out-of-fold priority are widened around their mean by the root of 2, for the reason given for
    `rank_weighted_effect`.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> x = rng.normal(size=500)
    >>> scores = Scores.from_dataframe(pd.DataFrame({"score": x + rng.normal(size=500)}))
    >>> same = compare_priorities(scores, x, x, random_state=0)
    >>> float(same.value[2]), float(same.std_error[2])
    (0.0, 0.0)
    """
    name = check_target(target)
    check_count("n_bootstrap", n_bootstrap, minimum=2)
    found = [
        read_repeats(scores, values, rank_within, which)
        for values, which in ((first, "first priority"), (second, "second priority"))
    ]
    counts = [len(pairs) for pairs in found]
    if counts[0] != counts[1] and min(counts) > 1:
        raise AlignmentError(
            f"Both priorities must have the same number of repeats, or one of them none; got "
            f"{counts[0]} and {counts[1]}. Repeat both over the same folds."
        )
    check_outcome_varies(scores)
    draws = half_samples(scores, n_bootstrap, random_state)
    one, other = np.broadcast_arrays(*(_widened_rates(pairs, draws, target) for pairs in found))
    value, std_error = median_and_error(np.stack([one, other, one - other], axis=-1))
    return PriorityComparison(
        value,
        std_error,
        (*names, f"{names[0]} less {names[1]}"),
        name,
        scores.n_units,
        scores.frame.n_clusters,
        (found[0][0][1].widening, found[1][0][1].widening),
    )


def _widened_rates(pairs: list[tuple[Scores, Priority]], draws: Draws, target: Target) -> Floats:
    """Return RATEs by repeat and draw, those of half-samples drawn apart by the widening."""
    rates, _ = rates_by_repeat(pairs, draws, target, np.ones(1))
    mean = rates[:, 1:].mean(axis=1, keepdims=True)
    wider = mean + pairs[0][1].widening * (rates[:, 1:] - mean)
    return np.concatenate([rates[:, :1], wider], axis=1)


def targeting_curve(
    scores: Scores,
    priority: "pd.Series[float] | ArrayLike",
    *,
    level: float = 0.95,
    fractions: ArrayLike | None = None,
    n_bootstrap: int = 1000,
    rank_within: RankWithin = "auto",
    random_state: RandomState = None,
) -> pd.DataFrame:
    """Return the targeting curve with intervals for each share and a band for the whole curve.

    Parameters
    ----------
    scores : Scores
        With repeats, of scores or priorities, the median over them is taken.
    priority : pandas.Series or array-like of shape (n_units,)
        As in `rank_weighted_effect`.
    level : float, default=0.95
        Coverage of intervals and band.
    fractions : array-like of shape (n_fractions,), default=None
        Shares of units; None is 0.05, 0.10, … 1.
    n_bootstrap : int, default=1000
        Half-samples of clusters.
    rank_within : {"auto", "folds", "all"}, default="auto"
    random_state : None, int or Generator, default=None
        Seed of the half-samples.

    Returns
    -------
    pandas.DataFrame
        Columns fraction, estimate, std_error, ci_low, ci_high, band_low, band_high.

    Notes
    -----
    The band is estimate ± c × std_error, where c is the quantile of the largest deviation of a
    half-sample's curve from the mean curve, in standard errors, over the given shares below 1 (the
    curve ends at 0 by construction).

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> x = rng.normal(size=500)
    >>> scores = Scores.from_dataframe(pd.DataFrame({"score": x + rng.normal(size=500)}))
    >>> curve = targeting_curve(scores, x, n_bootstrap=200, random_state=0)
    >>> bool((curve["band_low"] <= curve["ci_low"]).all())
    True
    """
    check_count("n_bootstrap", n_bootstrap, minimum=2)
    check_fraction("level", level)
    grid = curve_fractions(fractions)
    pairs = read_repeats(scores, priority, rank_within)
    check_outcome_varies(scores)
    draws = half_samples(scores, n_bootstrap, random_state)
    curves = rates_by_repeat(pairs, draws, "AUTOC", grid)[1]
    estimate, std_error = median_and_error(curves)
    std_error = pairs[0][1].widening * std_error
    # which shares move together is that of the mean over repeats
    gaps = (curves[:, 1:] - curves[:, 1:].mean(axis=1, keepdims=True)).mean(axis=0)
    spread = gaps.std(axis=0, ddof=1)
    moving = (spread > 1e-12 * spread.max(initial=0.0)) & (grid < 1)
    largest = np.abs(gaps[:, moving] / spread[moving]).max(axis=1, initial=0.0)
    alone = stats.norm.ppf(0.5 + level / 2)
    joint = max(float(np.quantile(largest, level)), alone)
    return pd.DataFrame(
        {
            "fraction": grid,
            "estimate": estimate,
            "std_error": std_error,
            "ci_low": estimate - alone * std_error,
            "ci_high": estimate + alone * std_error,
            "band_low": estimate - joint * std_error,
            "band_high": estimate + joint * std_error,
        }
    )
