"""Estimates with their intervals, one row per term."""

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from terracausal.plotting.canvas import (
    BLUE,
    INK,
    MUTED,
    check_columns,
    decimals_for,
    dress,
    ensure_axes,
    plain_number,
    with_unit,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plot_intervals(
    table: pd.DataFrame,
    ax: "Axes | None" = None,
    reference: float | None = 0.0,
    *,
    xlabel: str = "Effect",
    unit: str | None = "units of the outcome",
    show_numbers: bool = True,
) -> "Axes":
    """Draw each estimate as a dot on its interval, first term on top.

    Parameters
    ----------
    table : DataFrame
        Tidy columns ``term, estimate, ci_low, ci_high``, one row per term.
    ax : matplotlib.axes.Axes, default=None
        Where to draw; None makes a figure of fitting height.
    reference : float, default=0.0
        Where the dashed line stands, such as "no effect"; None for no line.
    xlabel : str, default="Effect"
        What the numbers are.
    unit : str, default="units of the outcome"
        Their unit, in brackets after `xlabel`; None leaves it out.
    show_numbers : bool, default=True
        Whether the numbers are written at the right margin.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError
        A column is missing or the table is empty.

    Examples
    --------
    >>> table = pd.DataFrame(
    ...     {"term": ["ATE"], "estimate": [0.76], "ci_low": [0.60], "ci_high": [0.92]}
    ... )
    >>> plot_intervals(table).get_xlabel()
    'Effect (units of the outcome)'
    """
    check_columns("table", table, ("term", "estimate", "ci_low", "ci_high"))
    n_terms = len(table)
    ax = ensure_axes(ax, 6.0, 1.15 + 0.42 * n_terms)
    rows = np.arange(n_terms)
    estimate, low, high = (
        table[column].to_numpy(dtype=float) for column in ("estimate", "ci_low", "ci_high")
    )
    if reference is not None:
        ax.axvline(reference, color=MUTED, linewidth=1.0, linestyle=(0, (4, 3)), zorder=1)
    ax.hlines(rows, low, high, color=BLUE, linewidth=2.6, zorder=2, capstyle="round")
    ax.scatter(estimate, rows, s=52, color=BLUE, edgecolor="white", linewidth=1.2, zorder=3)
    ax.set_yticks(rows, [str(term) for term in table["term"]], parse_math=False)
    ax.set_ylim(n_terms - 0.4, -0.6)
    ax.margins(x=0.08)
    ax.set_xlabel(with_unit(xlabel, unit), parse_math=False)
    dress(ax, grid="x")
    ax.spines["left"].set_visible(False)
    ax.tick_params(axis="y", length=0)
    if show_numbers:
        _write_numbers(ax, estimate, low, high)
    return ax


def _write_numbers(ax: "Axes", estimate: np.ndarray, low: np.ndarray, high: np.ndarray) -> None:
    """Write "0.76 (0.60 to 0.92)" beside each row, outside the axes."""
    widths = (high - low)[high > low]
    decimals = decimals_for(float(np.median(widths)) if widths.size else 0.0)
    for row, values in enumerate(zip(estimate, low, high, strict=True)):
        middle, lower, upper = (plain_number(value, decimals) for value in values)
        ax.annotate(
            f"{middle}  ({lower} to {upper})",
            xy=(1.0, row),
            xycoords=("axes fraction", "data"),
            xytext=(8, 0),
            textcoords="offset points",
            va="center",
            color=INK,
            fontsize="small",
        )
