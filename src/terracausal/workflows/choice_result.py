"""`ChoiceComparison`: the table of all cells, and what it says about the choices."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from terracausal._foundation.checks import check_fraction
from terracausal.study.result import TabularResult
from terracausal.workflows.choice_cells import Record
from terracausal.workflows.choice_statistics import could_be_best, joint_p_value, mean_over_seeds
from terracausal.workflows.choices import FACTORS, NONE, Choices, Combination

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from terracausal.workflows.choice_regression import ChoiceRegression

Floats = NDArray[np.floating[Any]]
_BY = [*FACTORS, "metric"]
_SHOWN = 12
_SMALL = 0.05


@dataclass(frozen=True, eq=False)
class ChoiceComparison(TabularResult):
    """Every combination of choices with every seed, and what they say together.

    Parameters
    ----------
    cells : pandas.DataFrame
        One row per cell and metric; see `to_dataframe`.
    draws : ndarray of shape (n_rows, n_bootstrap)
        How the ratio of each row moves over half-samples of clusters, the same in every row. NaN
        where the cell failed.
    seconds : pandas.Series of shape (n_rows,)
        Time that the cell took, shared by its metrics.
    assumptions : tuple of str, default=()
        What must hold for rankings to be of effects.

    Notes
    -----
    **What the spread over seeds tells.** A seed deals other folds and gives learners another seed,
    on the same units. The spread says what another split would have changed; it shrinks with more
    seeds, and says nothing about other samples. All cells share one sample, so the sampling error,
    from half-samples of clusters, is the same however many seeds there are. Errors here have both
    parts, kept apart in `ranking`; p-values of one cell have the second only.

    **Best of many.** The highest of many ratios is high also by luck. `ranking` tells which choices
    could be the best, and `joint_p_value` tests the highest ratio against the highest that chance
    gives over the same choices, as in specification-curve inference: Simonsohn, Simmons and Nelson
    (2020), Nature Human Behaviour 4, doi:10.1038/s41562-020-0912-z.

    A ratio is a RATE in its widened standard errors (see `rank_weighted_effect`), so that it is
    about standard normal where effects do not vary, and can be read against 1.96. It is smaller
    by 1.41 than `TargetingResult.ratio`, whose error takes out-of-fold rankings as given. Its size
    grows with the sample, and its own standard error is treated as known.

    Examples
    --------
    >>> from terracausal.workflows import Choices, compare_choices
    >>> import terracausal as tc
    >>> data = tc.simulate_study(n_sites=40, random_state=0)
    >>> choices = Choices({"statistics": tc.BandStatisticsEncoder()}, data=("image",), n_seeds=2)
    >>> found = compare_choices(data.study, choices, chips=data.chips, random_state=0)
    >>> found.n_failed, len(found.ranking())
    (0, 2)
    """

    cells: pd.DataFrame
    draws: Floats = field(repr=False)
    seconds: "pd.Series[float]" = field(repr=False)
    assumptions: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        choices: Choices,
        found: Sequence[tuple[Combination, int, Record]],
        assumptions: tuple[str, ...] = (),
    ) -> "ChoiceComparison":
        """Return the comparison of finished cells, in declared order.

        Parameters
        ----------
        choices : Choices
        found : sequence of (Combination, int, dict)
            Combination, number of the seed, and record of each cell.
        assumptions : tuple of str, default=()
            Of the scores that all cells share.

        Returns
        -------
        ChoiceComparison
        """
        rows, draws, seconds = [], [], []
        for combination, seed, record in found:
            for metric in choices.metric:
                row, moved = _row(combination, seed, metric, record, choices.n_bootstrap)
                rows.append(row)
                draws.append(moved)
                seconds.append(record["seconds"])
        told = pd.Series(seconds, name="seconds")
        return cls(pd.DataFrame(rows), np.array(draws), told, assumptions)

    title = "Would other choices have found the same?"

    def headline(self) -> str:
        """Return the finding in one sentence, for a report."""
        ranking = self.ranking().dropna(subset="ratio")
        if ranking.empty:
            return f"None of {self.n_failed} cells was finished, so nothing can be compared."
        parts = []
        for metric, table in ranking.groupby("metric", sort=False):
            best = table.loc[table["could_be_best"]]
            told = f"{len(best)} of {len(table)} could be the best"
            if len(best) == 1 < len(table):
                told = f"{_name(best.iloc[0])} is the best"
            parts.append(f"by {metric} {told}")
        joint = self.joint_p_value()
        any_ = "Some combination of choices ranks places by their effect"
        if joint > _SMALL:
            any_ = "No combination of choices is known to rank places by their effect"
        failed = f" {self.n_failed} cells failed." if self.n_failed else ""
        return f"{any_}, for having tried all (p = {joint:.3g}); {' and '.join(parts)}.{failed}"

    @property
    def failed(self) -> pd.DataFrame:
        """One row per failed cell: its choices, seed and error."""
        rows = self.cells.loc[self.cells["error"] != "", [*FACTORS, "seed", "error"]]
        return rows.drop_duplicates().reset_index(drop=True)

    @property
    def n_failed(self) -> int:
        """Number of failed cells."""
        return len(self.failed)

    @property
    def n_seeds(self) -> int:
        """Number of seeds with a result; `regression` needs two."""
        return int(self.cells.loc[np.isfinite(self.cells["ratio"]), "seed"].nunique())

    def to_dataframe(self, level: float = 0.95) -> pd.DataFrame:
        """Return one row per cell and metric.

        Parameters
        ----------
        level : float, default=0.95
            Coverage of the intervals.

        Returns
        -------
        pandas.DataFrame
            The choices, metric and seed; `estimate`, `std_error`, `ci_low`, `ci_high`, `level` of
            the RATE; `ratio`, the RATE over its widened error, and `p_value`; `average_effect` and
            its error, the same in all cells of a seed; `n_units`, `n_clusters`; `error`, empty
            where the cell went well. Times are in `seconds`, so that the same seed gives the same
            table.
        """
        half = stats.norm.ppf(0.5 + check_fraction("level", level) / 2) * (
            self.cells["widening"] * self.cells["std_error"]
        )
        table = self.cells.drop(columns="widening")
        place = list(table.columns).index("std_error")
        table.insert(place + 1, "ci_low", table["estimate"] - half)
        table.insert(place + 2, "ci_high", table["estimate"] + half)
        table.insert(place + 3, "level", level)
        return table

    def ranking(self, level: float = 0.95) -> pd.DataFrame:
        """Return one row per combination and metric, highest mean ratio first in each metric.

        Parameters
        ----------
        level : float, default=0.95
            Coverage of the intervals, and of the set that could be the best.

        Returns
        -------
        pandas.DataFrame
            The choices and metric; `n_seeds` that worked, `n_failed`; `estimate`, the mean RATE;
            `ratio`, the mean ratio over seeds, `seed_sd`, its standard deviation over seeds,
            `std_error_seeds` and `std_error_sampling`, the two parts of its `std_error`, `ci_low`,
            `ci_high`, `level`; `times_first`, the seeds in which it is the highest of its metric;
            `could_be_best`, False where another is higher than chance explains.
        """
        check_fraction("level", level)
        parts = [
            self._rank_metric(metric, level) for metric in self.cells["metric"].drop_duplicates()
        ]
        return pd.concat(parts, ignore_index=True)

    def _rank_metric(self, metric: str, level: float) -> pd.DataFrame:
        own = (self.cells["metric"] == metric).to_numpy()
        names, ratio, gap = self._arrays(own)
        estimate = self._by_seed("estimate", own)
        spread = mean_over_seeds(ratio, gap)
        half = stats.t.ppf(0.5 + level / 2, spread.df) * spread.total
        there = np.isfinite(ratio)
        seen = there.any(axis=0)
        first = np.argmax(np.where(there, ratio, -np.inf)[:, seen], axis=0)
        count = there.sum(axis=1)
        table = names.assign(
            n_seeds=count,
            n_failed=ratio.shape[1] - count,
            estimate=np.where(there, estimate, 0.0).sum(axis=1) / np.where(count, count, np.nan),
            ratio=spread.mean,
            seed_sd=spread.seeds * np.sqrt(count),
            std_error_seeds=spread.seeds,
            std_error_sampling=spread.sampling,
            std_error=spread.total,
            ci_low=spread.mean - half,
            ci_high=spread.mean + half,
            level=level,
            times_first=np.bincount(first, minlength=len(ratio)),
            could_be_best=could_be_best(ratio, gap, level),
        )
        return table.sort_values("ratio", ascending=False, kind="stable")

    def _arrays(self, rows: NDArray[np.bool_]) -> tuple[pd.DataFrame, Floats, Floats]:
        """Return names (n_choices, 6), ratios (n_choices, n_seeds) and draws of some rows."""
        names = self.cells.loc[rows, _BY].drop_duplicates().reset_index(drop=True)
        ratio = self._by_seed("ratio", rows)
        return names, ratio, self.draws[rows].reshape((*ratio.shape, self.draws.shape[1]))

    def _by_seed(self, column: str, rows: NDArray[np.bool_]) -> Floats:
        values = self.cells.loc[rows, column].to_numpy(dtype=np.float64)
        return values.reshape((-1, self.cells["seed"].nunique()))

    def joint_p_value(self) -> float:
        """Return the p-value of "no choice ranks effects", for having looked at all of them.

        Returns
        -------
        float
            From the largest mean ratio in its standard errors, against the same maximum over
            half-samples; one-sided, not below 1 / (n_bootstrap + 1).
        """
        parts = [
            self._arrays((self.cells["metric"] == metric).to_numpy())
            for metric in self.cells["metric"].drop_duplicates()
        ]
        return joint_p_value(
            np.concatenate([ratio for _, ratio, _ in parts]),
            np.concatenate([gap for _, _, gap in parts]),
        )

    def regression(self, level: float = 0.95) -> "ChoiceRegression":
        """Regress the RATE ratio on the choices, with errors clustered by seed.

        Parameters
        ----------
        level : float, default=0.95
            Coverage of the intervals.

        Returns
        -------
        ChoiceRegression
            What each level adds to the ratio, against the first declared level of its factor.
        """
        from terracausal.workflows.choice_regression import regress_on_choices

        return regress_on_choices(self.cells, self.draws, level)

    def summary(self, level: float = 0.95) -> str:
        """Return counts, ranking and verdict as text.

        Parameters
        ----------
        level : float, default=0.95
            Coverage of the intervals, and of the set that could be the best.

        Returns
        -------
        str
        """
        n_cells = len(self.cells.drop_duplicates([*FACTORS, "seed"]))
        n_seeds = self.cells["seed"].nunique()
        lines = [
            f"{n_cells // n_seeds} combinations of choices, {n_seeds} seeds: {n_cells} cells, "
            f"{self.n_failed} failed"
        ]
        lines += [
            f"  failed  {told}: {count} of {n_seeds} seeds, {error}"
            for told, count, error in self._failures()
        ]
        ranking = self.ranking(level)
        if ranking["ratio"].isna().all():
            return "\n".join([*lines, "  No cell was finished, so nothing can be compared."])
        for metric, table in ranking.groupby("metric", sort=False):
            lines += _ranking_lines(str(metric), table, n_seeds)
        lines += [
            f"Any heterogeneity, for having looked at all: joint p = {self.joint_p_value():.3g}",
            "  seeds     other folds and learner seeds on the same units: their spread says what "
            "another split would change, not what another sample would",
            f"  sampling  {self.draws.shape[1]} half-samples of clusters, the same for all cells: "
            "this part of the error does not fall with more seeds",
        ]
        return "\n".join(lines + [f"  assumes   {text}" for text in self.assumptions])

    def _failures(self) -> list[tuple[str, int, str]]:
        """Return in words each combination with failures, how many, and the first error."""
        told = []
        for levels, rows in self.failed.groupby(list(FACTORS), sort=False):
            name = " / ".join(str(level) for level in levels if level != NONE)
            told.append((name, len(rows), str(rows["error"].iloc[0])))
        return told

    def plot(self, ax: "Axes | None" = None) -> "Axes":
        """Draw the specification curve: ratios in order, and which choices made them.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, default=None
            Where to draw; None makes a new figure.

        Returns
        -------
        matplotlib.axes.Axes
        """
        from terracausal.plotting import plot_specification_curve

        table = self.ranking().dropna(subset="ratio")
        known = {
            name: [level for level in self.cells[name].drop_duplicates() if level != NONE]
            for name in _BY
        }
        levels = {name: found for name, found in known.items() if len(found) > 1}
        return plot_specification_curve(
            table.drop(columns="estimate").rename(columns={"ratio": "estimate"}),
            levels or {"metric": known["metric"]},
            ax=ax,
            ylabel="RATE ratio, mean over seeds",
        )


def _row(
    combination: Combination, seed: int, metric: str, record: Record, n_bootstrap: int
) -> tuple[dict[str, Any], Floats]:
    """Return one row of the table, and how its ratio moves over half-samples."""
    row: dict[str, Any] = {name: getattr(combination, name) for name in FACTORS}
    row |= {"metric": metric, "seed": seed}
    numbers = ("estimate", "std_error", "widening", "ratio", "p_value")
    if record["error"] is not None:
        row |= dict.fromkeys((*numbers, "average_effect", "average_std_error"), float("nan"))
        error = record["error"]
        told = f"{error['type']}: {error['message']} ({error['where']})"
        row |= {"n_units": 0, "n_clusters": 0, "error": told}
        return row, np.full(n_bootstrap, np.nan)
    rate = record["rates"][metric]
    estimate, std_error, widening = (rate[name] for name in numbers[:3])
    draws = np.asarray(rate["draws"], dtype=np.float64)
    # one effect for all units ranks nothing: its RATE is 0 without error
    scale = std_error if std_error > 0 else 1.0
    ratio = estimate / (widening * scale)
    p_value = float(2 * stats.norm.sf(abs(ratio)))
    row |= dict(zip(numbers, (estimate, std_error, widening, ratio, p_value), strict=True))
    row |= {name: record[name] for name in ("average_effect", "average_std_error")}
    row |= {"n_units": record["n_units"], "n_clusters": record["n_clusters"], "error": ""}
    # draws are widened as the standard error is, so that the widening cancels
    return row, (draws - draws.mean()) / scale


def _ranking_lines(metric: str, table: pd.DataFrame, n_seeds: int) -> list[str]:
    """Return the ranking of one metric and its verdict, as text."""
    there = table.dropna(subset="ratio")
    lines = [f"{metric}: mean RATE ratio over seeds (error of seeds, of sampling), {_level(table)}"]
    for _, row in there.head(_SHOWN).iterrows():
        mark = "*" if row["could_be_best"] and there["could_be_best"].sum() < len(there) else " "
        lines.append(
            f"  {mark} {row['ratio']:6.2f} ({row['std_error_seeds']:.2f}, "
            f"{row['std_error_sampling']:.2f})  {row['ci_low']:5.2f} to {row['ci_high']:5.2f}  "
            f"first in {row['times_first']:>2} of {n_seeds}  {_name(row)}"
        )
    if len(there) > _SHOWN:
        lines.append(f"    … and {len(there) - _SHOWN} more, see ranking()")
    best = there.loc[there["could_be_best"]]
    if len(there) < 2:
        return lines
    if len(best) == 1:
        return [*lines, f"  winner: {_name(best.iloc[0])}"]
    why = "one seed tells nothing of their spread" if n_seeds == 1 else "given both errors"
    return [*lines, f"  no winner: {len(best)} of {len(there)} could be the best, {why}"]


def _level(table: pd.DataFrame) -> str:
    return f"{table['level'].iloc[0]:.0%} interval"


def _name(row: Any) -> str:
    return " / ".join(row[name] for name in FACTORS if row[name] != NONE)
