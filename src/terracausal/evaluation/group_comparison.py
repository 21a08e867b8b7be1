"""Who is affected most? Means of columns in the highest and the lowest group (CLAN)."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from terracausal._foundation.errors import RoleError, list_some
from terracausal.effects.least_squares import leave_out_factor
from terracausal.nuisance import Scores
from terracausal.study import Dependence, Estimate, median_estimate
from terracausal.study.result import TabularResult
from terracausal.study.simultaneous import draw_statistics, stepdown_p_values

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Floats = NDArray[np.floating[Any]]
N_DRAWS = 10_000
_SHOWN = 15


@dataclass(frozen=True, eq=False)
class GroupComparison(TabularResult):
    """How columns differ between the units with the highest and the lowest priority.

    Parameters
    ----------
    estimate : Estimate
        One term per column: the mean of the highest group less that of the lowest.
    means : pandas.DataFrame
        By column: means `lowest` and `highest`, and the standard deviation `spread` of all units.
    adjusted : ndarray of shape (n_columns,)
        P-values that hold for all columns together.
    warn : bool, default=False
        Whether the effects of the groups do not differ detectably.

    Examples
    --------
    >>> from terracausal.evaluation.grouped import grouped_effects
    >>> rng = np.random.default_rng(0)
    >>> x = rng.normal(size=300)
    >>> scores = Scores.from_dataframe(pd.DataFrame({"score": x + rng.normal(size=300)}))
    >>> found = grouped_effects(scores, x, random_state=0).compare(pd.DataFrame({"ndvi": x}))
    >>> bool(found.adjusted[0] < 0.01)
    True
    """

    estimate: Estimate = field(repr=False)
    means: pd.DataFrame = field(repr=False)
    adjusted: Floats = field(repr=False)
    warn: bool = False

    @property
    def value(self) -> Floats:
        """Differences of the means, of shape (n_columns,)."""
        return self.estimate.value

    @property
    def std_error(self) -> Floats:
        """Standard errors, of shape (n_columns,)."""
        return self.estimate.std_error

    def confint(self, level: float = 0.95) -> Floats:
        """Return the interval of each difference, not adjusted for their number.

        Parameters
        ----------
        level : float, default=0.95
            Coverage.

        Returns
        -------
        ndarray of shape (n_columns, 2)
        """
        return self.estimate.confint(level)

    def to_dataframe(self, level: float = 0.95) -> pd.DataFrame:
        """Return one row per column, the largest standardised difference first.

        Parameters
        ----------
        level : float, default=0.95
            Coverage of the intervals.

        Returns
        -------
        pandas.DataFrame
            The tidy columns of an estimate, `lowest`, `highest`, `standardised` (difference in
            standard deviations of all units), `p_value` and `p_adjusted`.
        """
        table = self.estimate.to_dataframe(level)
        table["lowest"] = self.means["lowest"].to_numpy()
        table["highest"] = self.means["highest"].to_numpy()
        table["standardised"] = self.value / self.means["spread"].to_numpy()
        table["p_value"], table["p_adjusted"] = self.estimate.p_value, self.adjusted
        order = (-table["standardised"].abs()).argsort(kind="stable")
        return table.iloc[order.to_numpy()].reset_index(drop=True)

    def summary(self, level: float = 0.95) -> str:
        """Return the largest differences as text.

        Parameters
        ----------
        level : float, default=0.95
            Coverage of the intervals.

        Returns
        -------
        str
        """
        table = self.to_dataframe(level)
        lines = [f"Highest less lowest group in {len(table)} columns (SD of all units)"]
        for row in table.head(_SHOWN).itertuples():
            lines.append(
                f"  {row.term:<24} {row.standardised:+.2f} SD; mean {row.highest:.4g} and "
                f"{row.lowest:.4g}, p = {row.p_value:.3g}, adjusted p = {row.p_adjusted:.3g}"
            )
        if len(table) > _SHOWN:
            lines.append(f"  … and {len(table) - _SHOWN} more in to_dataframe()")
        lines.append(f"  std. error  {self.estimate.describe_std_error()}")
        lines.append(f"  adjusted    for {len(table)} columns together (Romano & Wolf step-down)")
        if self.warn:
            lines.append(
                "  careful     the effects of these groups do not differ detectably, so the "
                "columns tell how the priority sorts, not who benefits"
            )
        return "\n".join(lines)

    def plot(self, ax: "Axes | None" = None) -> "Axes":
        """Draw the largest standardised differences with their intervals.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, default=None
            Where to draw; None makes a new figure.

        Returns
        -------
        matplotlib.axes.Axes
        """
        from terracausal.plotting import plot_intervals

        table = self.to_dataframe().head(_SHOWN).set_index("term", drop=False)
        spread = self.means["spread"].loc[table.index]
        scaled = table[["estimate", "ci_low", "ci_high"]].div(spread, axis=0)
        label = "Highest less lowest group"
        return plot_intervals(
            scaled.assign(term=table["term"]), ax=ax, xlabel=label, unit="standard deviations"
        )


def compare_extremes(
    table: pd.DataFrame,
    members: list[tuple[NDArray[np.bool_], NDArray[np.bool_]]],
    scores: Scores,
    dependence: Dependence | None,
    rng: np.random.Generator,
    *,
    warn: bool,
) -> GroupComparison:
    """Compare the means of columns between two groups of units.

    Parameters
    ----------
    table : pandas.DataFrame of shape (n_units, n_columns)
        Numbers, in the order of the scores.
    members : list of tuple of ndarray of bool of shape (n_units,)
        The lowest and the highest group, in each repeat; medians over repeats are taken.
    scores : Scores
        Weight, cluster and place of each unit.
    dependence : Dependence or None
    rng : numpy.random.Generator
    warn : bool
        Whether the effects of the groups do not differ detectably.

    Returns
    -------
    GroupComparison
    """
    spread = check_columns_vary(table, scores.weight)
    parts = [difference_of_means(table, pair, scores, dependence) for pair in members]
    estimate = median_estimate([part[0] for part in parts])
    means = pd.DataFrame(
        np.median([part[1] for part in parts], axis=0), table.columns, ["lowest", "highest"]
    )
    size = np.where(estimate.std_error > 0, estimate.std_error, np.inf)
    df = estimate.degrees_of_freedom
    draws = draw_statistics(estimate.covariance, df, N_DRAWS, rng)
    found = means.assign(spread=spread)
    # drawn p-values may fall short of the exact ones by their own noise
    adjusted = np.fmax(stepdown_p_values(estimate.value / size, draws), estimate.p_value)
    return GroupComparison(estimate, found, adjusted, warn)


def check_columns_vary(table: pd.DataFrame, weight: Floats) -> Floats:
    """Return the standard deviation of each column, or refuse columns that have one value."""
    x = table.to_numpy(dtype=np.float64)
    mean = np.average(x, axis=0, weights=weight)
    spread = np.sqrt(np.average((x - mean) ** 2, axis=0, weights=weight))
    constant = table.columns[spread <= 1e-12 * np.abs(x).max(axis=0, initial=0.0)]
    if len(constant):
        raise RoleError(
            f"Columns must vary to be compared; {len(constant)} of {table.shape[1]} have one "
            f"value: {list_some(constant)}. Leave them out."
        )
    return np.asarray(spread)


def difference_of_means(
    table: pd.DataFrame,
    members: tuple[NDArray[np.bool_], NDArray[np.bool_]],
    scores: Scores,
    dependence: Dependence | None,
) -> tuple[Estimate, pd.DataFrame]:
    """Return the mean of the highest group less that of the lowest, and both means, by column.

    Parameters
    ----------
    table, scores, dependence
        As in `compare_extremes`.
    members : tuple of ndarray of bool of shape (n_units,)
        The lowest and the highest group.

    Returns
    -------
    estimate : Estimate
        One term per column.
    means : pandas.DataFrame
        Columns lowest and highest, one row per column of the table.
    """
    x, v = table.to_numpy(dtype=np.float64), scores.weight
    n_parameters = len(members)
    weights = v[:, None] * np.column_stack(members)
    factor = leave_out_factor(weights, scores.frame, dependence, n_parameters)
    means, influences = [], []
    for own, scale in zip(weights.T, factor.T, strict=True):
        mean = own @ x / own.sum()
        means.append(mean)
        influences.append(len(x) * (scale * own)[:, None] * (x - mean) / own.sum())
    estimate = Estimate(
        means[1] - means[0],
        influences[1] - influences[0],
        scores.frame,
        tuple(table.columns),
        "mean of the highest group less that of the lowest",
        "weighted means, HC3",
        dependence,
        n_parameters=n_parameters,
    )
    return estimate, pd.DataFrame({"lowest": means[0], "highest": means[1]}, index=table.columns)
