"""Spatial autocorrelation of several values, beside what chance alone would give."""

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from terracausal.plotting.canvas import BLUE, INK, MUTED, RULE, check_columns, dress, ensure_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plot_autocorrelation(table: pd.DataFrame, ax: "Axes | None" = None) -> "Axes":
    """Draw Moran's I of each value on the range that it has without spatial dependence.

    Parameters
    ----------
    table : DataFrame
        Columns ``value, moran, null_low, null_high, p_value``, one row per value.
    ax : matplotlib.axes.Axes, default=None
        Where to draw; None makes a figure of fitting height.

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
    ...     {"value": ["score"], "moran": 0.2, "null_low": -0.1, "null_high": 0.1, "p_value": 0.01}
    ... )
    >>> plot_autocorrelation(table).get_xlabel()
    "Moran's I"
    """
    check_columns("table", table, ("value", "moran", "null_low", "null_high", "p_value"))
    rows = np.arange(len(table))
    ax = ensure_axes(ax, 6.0, 1.5 + 0.42 * len(table))
    ax.axvline(0.0, color=MUTED, linewidth=1.0, linestyle=(0, (4, 3)), zorder=1)
    ax.hlines(
        rows, table["null_low"], table["null_high"], color=RULE, linewidth=9.0, zorder=2,
        label="95 % of draws without spatial dependence",
    )  # fmt: skip
    ax.scatter(
        table["moran"], rows, s=52, color=BLUE, edgecolor="white", linewidth=1.2, zorder=3,
        label="found",
    )  # fmt: skip
    ax.set_yticks(rows, [str(name) for name in table["value"]], parse_math=False)
    ax.set_ylim(len(table) - 0.4, -0.6)
    ax.margins(x=0.1)
    ax.set_xlabel("Moran's I")
    ax.legend(
        loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, frameon=False, fontsize="small"
    )
    dress(ax, grid="x")
    ax.spines["left"].set_visible(False)
    ax.tick_params(axis="y", length=0)
    for row, p_value in zip(rows, table["p_value"], strict=True):
        ax.annotate(
            f"p = {p_value:.3g}", xy=(1.0, row), xycoords=("axes fraction", "data"),
            xytext=(8, 0), textcoords="offset points", va="center", color=INK, fontsize="small",
        )  # fmt: skip
    return ax
