"""Which of two priorities ranks effects better? And one targeting curve with its uniform band."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from terracausal._foundation.checks import check_choice, check_count, check_fraction
from terracausal._foundation.errors import RoleError, list_some
from terracausal._foundation.randomness import RandomState, canonical_order, random_generator
from terracausal.evaluation.priorities import Priority, RankWithin, read_priority
from terracausal.evaluation.rates import Ranking, half_sample_weights, rate_and_curve
from terracausal.evaluation.result import Diagnostic
from terracausal.evaluation.targeting import Target
from terracausal.nuisance import Scores

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Floats = NDArray[np.floating[Any]]
_FRACTIONS = tuple(round(0.05 * step, 2) for step in range(1, 21))


@dataclass(frozen=True, eq=False)
class PriorityComparison(Diagnostic):
    """The RATEs of two priorities and their difference, on the same half-samples.

    Parameters
    ----------
    value : ndarray of shape (3,)
        RATE of the first, of the second, and the first less the second.
    std_error : ndarray of shape (3,)
        Those of out-of-fold priorities are widened.
    terms : tuple of str
    target : {"AUTOC", "QINI"}
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
        interval = self.confint(level)
        return pd.DataFrame(
            {
                "term": list(self.terms),
                "estimate": self.value,
                "std_error": self.std_error,
                "ci_low": interval[:, 0],
                "ci_high": interval[:, 1],
                "level": level,
                "n_units": self.n_units,
                "n_clusters": self.n_clusters or self.n_units,
                "p_value": self.p_value,
            }
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
    first, second : pandas.Series or array-like of shape (n_units,)
        As in `rank_weighted_effect`.
    target : {"AUTOC", "QINI"}, default="AUTOC"
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
    check_choice("target", target, ("AUTOC", "QINI"))
    check_count("n_bootstrap", n_bootstrap, minimum=2)
    found = [
        read_priority(scores, values, rank_within, name)
        for values, name in ((first, "first priority"), (second, "second priority"))
    ]
    draws = _draws_of(scores, n_bootstrap, random_state)
    values, spreads = [], []
    for one in found:
        rates = _rates_of(scores, one, draws, target, np.ones(1))[0]
        values.append(rates[0])
        spreads.append(one.widening * (rates[1:] - rates[1:].mean()))
    gaps = [*spreads, spreads[0] - spreads[1]]
    return PriorityComparison(
        np.array([*values, values[0] - values[1]]),
        np.array([gap.std(ddof=1) for gap in gaps]),
        (*names, f"{names[0]} less {names[1]}"),
        target,
        scores.n_units,
        scores.frame.n_clusters,
        (found[0].widening, found[1].widening),
    )


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
    grid = np.asarray(_FRACTIONS if fractions is None else fractions, dtype=np.float64)
    if grid.ndim != 1 or not len(grid) or not ((grid > 0) & (grid <= 1)).all():
        raise ValueError(f"`fractions` must lie in (0, 1]; got {list_some(np.ravel(grid))}.")
    found = read_priority(scores, priority, rank_within)
    draws = _draws_of(scores, n_bootstrap, random_state)
    curves = _rates_of(scores, found, draws, "AUTOC", grid)[1]
    estimate, gaps = curves[0], found.widening * (curves[1:] - curves[1:].mean(axis=0))
    std_error = gaps.std(axis=0, ddof=1)
    moving = (std_error > 1e-12 * std_error.max(initial=0.0)) & (grid < 1)
    largest = np.abs(gaps[:, moving] / std_error[moving]).max(axis=1, initial=0.0)
    check_fraction("level", level)
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


def _draws_of(scores: Scores, n_bootstrap: int, random_state: RandomState) -> Floats:
    """Return unit weights, first all units and then half-samples, in canonical order."""
    order = canonical_order(scores.units)
    codes, v = np.arange(scores.n_units), scores.weight[order]
    if scores.frame.cluster is not None:
        codes = pd.factorize(scores.frame.cluster.iloc[order])[0].astype(np.int64)
    if codes.max() < 1:
        raise RoleError("Half-samples need at least 2 clusters; the scores have 1.")
    halves = half_sample_weights(codes, n_bootstrap, random_generator(random_state)) * v
    if (halves.sum(axis=1) == 0).any():
        raise RoleError("A half-sample had no unit with weight; too few clusters have any.")
    return np.concatenate([v[None, :], halves])


def _rates_of(
    scores: Scores, found: Priority, draws: Floats, target: str, grid: Floats
) -> tuple[Floats, Floats]:
    """Return RATEs and curves of one priority for all sets of unit weights."""
    order = canonical_order(scores.units)
    values = found.values if found.folds is None else found.shares(scores.weight)
    ranking = Ranking.of(scores.score.to_numpy()[order], values[order])
    return rate_and_curve(ranking, draws, target, grid)
