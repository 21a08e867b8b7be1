"""How much each choice adds to the RATE ratio: a regression over all cells."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from terracausal._foundation.checks import check_fraction
from terracausal._foundation.errors import RoleError, list_some
from terracausal._foundation.optional import require
from terracausal.study.result import TabularResult
from terracausal.workflows.choice_statistics import total_error
from terracausal.workflows.choices import FACTORS, NONE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True, eq=False)
class ChoiceRegression(TabularResult):
    """What each level of a choice adds to the RATE ratio, other choices held fixed.

    Parameters
    ----------
    terms : tuple of str
        "factor: level", after the intercept.
    value : ndarray of shape (n_terms,)
        Least-squares coefficients; the intercept is the ratio at all reference levels.
    std_error : ndarray of shape (n_terms,)
        With both parts.
    std_error_seeds : ndarray of shape (n_terms,)
        Clustered by seed: what other folds and learner seeds would change.
    std_error_sampling : ndarray of shape (n_terms,)
        From half-samples of the clusters of units, which all cells share.
    df : ndarray of shape (n_terms,)
        Degrees of freedom of the intervals.
    references : dict of str to str
        Reference level of each factor.
    n_cells : int
        Rows of the regression.
    n_seeds : int
    level : float, default=0.95
        Coverage of the intervals.

    Notes
    -----
    Rows to which a factor does not apply (covariates have no encoder) have zeros in its columns, so
    that they count as the reference: "data: tabular" compares with an image at reference levels.
    Half-samples go through the same least squares, so the sampling error knows how much cells have
    in common. Errors clustered by seed are those of statsmodels, with G / (G − 1) · (n − 1) /
    (n − k). The coefficients are averages over the declared design, and change with it.

    Examples
    --------
    >>> ChoiceRegression(
    ...     ("intercept",), *(np.ones(1),) * 4, np.full(1, 9.0), {}, 20, 10
    ... ).to_dataframe()["term"].tolist()
    ['intercept']
    """

    terms: tuple[str, ...]
    value: Floats
    std_error: Floats
    std_error_seeds: Floats
    std_error_sampling: Floats
    df: Floats
    references: dict[str, str] = field(repr=False)
    n_cells: int
    n_seeds: int
    level: float = 0.95

    title = "What each choice adds to the RATE ratio"

    def headline(self) -> str:
        """Return the finding in one sentence, for a report."""
        told = [
            f"{term} ({value:+.2f})"
            for term, value, p in zip(self.terms[1:], self.value[1:], self.p_value[1:], strict=True)
            if p < 1 - self.level
        ]
        if not told:
            return "No choice is known to change the RATE ratio, given both errors."
        return f"Known to change the RATE ratio, given both errors: {', '.join(told)}."

    @property
    def p_value(self) -> Floats:
        """Two-sided p-values of "it is 0", of shape (n_terms,)."""
        size = np.where(self.std_error > 0, self.std_error, np.nan)
        return np.asarray(2 * stats.t.sf(np.abs(self.value / size), self.df))

    def to_dataframe(self) -> pd.DataFrame:
        """Return one row per term: estimate, errors, interval and p-value."""
        half = stats.t.ppf(0.5 + self.level / 2, self.df) * self.std_error
        return pd.DataFrame(
            {
                "term": self.terms,
                "estimate": self.value,
                "std_error": self.std_error,
                "ci_low": self.value - half,
                "ci_high": self.value + half,
                "level": self.level,
                "std_error_seeds": self.std_error_seeds,
                "std_error_sampling": self.std_error_sampling,
                "p_value": self.p_value,
                "n_cells": self.n_cells,
                "n_seeds": self.n_seeds,
            }
        )

    def summary(self) -> str:
        """Return the coefficients and what they are compared with, as text."""
        lines = [f"RATE ratio by choices: {self.n_cells} rows, {self.n_seeds} seeds"]
        for row in self.to_dataframe().itertuples():
            lines.append(
                f"  {row.term:<28} {row.estimate:6.2f} (seeds {row.std_error_seeds:.2f}, sampling "
                f"{row.std_error_sampling:.2f}), {self.level:.0%} interval {row.ci_low:.2f} to "
                f"{row.ci_high:.2f}, p = {row.p_value:.3g}"
            )
        told = ", ".join(f"{factor}: {level}" for factor, level in self.references.items())
        if told:
            lines.append(f"  compared with  {told}")
        lines.append("  std. error     clustered by seed, and half-samples of clusters, together")
        return "\n".join(lines)

    def plot(self, ax: "Axes | None" = None) -> "Axes":
        """Draw the coefficients but the intercept.

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
        shown = table.iloc[1:] if len(table) > 1 else table
        return plot_intervals(shown, ax=ax, xlabel="Added to the RATE ratio", unit=None)


def regress_on_choices(cells: pd.DataFrame, draws: Floats, level: float = 0.95) -> ChoiceRegression:
    """Regress the ratio of each row on indicators of its choices.

    Parameters
    ----------
    cells : pandas.DataFrame of shape (n_rows, any)
        Factors, metric, seed and ratio; rows without a ratio are left out.
    draws : ndarray of shape (n_rows, n_draws)
        How the ratio of each row moves over half-samples.
    level : float, default=0.95
        Coverage of the intervals.

    Returns
    -------
    ChoiceRegression

    Raises
    ------
    RoleError
        Fewer than two seeds, or levels that no row tells apart.
    """
    check_fraction("level", level)
    there = np.isfinite(cells["ratio"].to_numpy(dtype=np.float64))
    rows, moved = cells.loc[there], draws[there]
    n_seeds = rows["seed"].nunique()
    if n_seeds < 2:
        raise RoleError(
            f"Errors clustered by seed need at least 2 seeds with results; found {n_seeds} in "
            f"{len(cells)} rows. Raise n_seeds, or see `failed`."
        )
    design, references = choice_design(rows)
    x, y = design.to_numpy(), rows["ratio"].to_numpy(dtype=np.float64)
    statsmodels = require("statsmodels.api", needed_by="regression")
    fitted = statsmodels.OLS(y, x).fit(
        cov_type="cluster", cov_kwds={"groups": rows["seed"].to_numpy()}, use_t=True
    )
    value, seeds = np.asarray(fitted.params), np.sqrt(np.maximum(np.diag(fitted.cov_params()), 0.0))
    sampling = np.asarray((np.linalg.pinv(x) @ moved).std(axis=1, ddof=1))
    total, df = total_error(seeds, sampling, n_seeds, draws.shape[1])
    return ChoiceRegression(
        *(tuple(design.columns), value, total, seeds, sampling, df, references),
        *(len(rows), n_seeds, level),
    )


def choice_design(rows: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, str]]:
    """Return an intercept and indicators of all levels but the first of each factor.

    Parameters
    ----------
    rows : pandas.DataFrame of shape (n_rows, any)

    Returns
    -------
    design : pandas.DataFrame of shape (n_rows, n_terms)
    references : dict of str to str
    """
    columns, references = {"intercept": np.ones(len(rows))}, {}
    for factor in (*FACTORS, "metric"):
        levels = [level for level in rows[factor].drop_duplicates() if level != NONE]
        if len(levels) > 1:
            references[factor] = levels[0]
        for level in levels[1:]:
            columns[f"{factor}: {level}"] = (rows[factor] == level).to_numpy(dtype=np.float64)
    design = pd.DataFrame(columns, index=rows.index)
    same = _not_told_apart(design)
    if same:
        raise RoleError(
            f"{len(same)} of {design.shape[1]} terms cannot be told from the others: "
            f"{list_some(same)}. Some combinations are missing or failed; compare fewer levels."
        )
    return design, references


def _not_told_apart(design: pd.DataFrame) -> list[str]:
    """Return the columns that earlier ones determine."""
    x, found = design.to_numpy(), []
    kept: list[int] = []
    for place, name in enumerate(design.columns):
        if np.linalg.matrix_rank(x[:, np.array([*kept, place])]) > len(kept):
            kept.append(place)
        else:
            found.append(name)
    return found
