"""Balance of the two arms before and after weighting: the love plot."""

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from terracausal._foundation.checks import check_count
from terracausal.plotting.canvas import (
    BLUE,
    MUTED,
    ORANGE,
    RULE,
    check_columns,
    dress,
    ensure_axes,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plot_balance(
    table: pd.DataFrame,
    ax: "Axes | None" = None,
    *,
    threshold: float = 0.1,
    n_rows: int = 30,
) -> "Axes":
    """Draw the absolute standardised differences of the arms, before and after weighting.

    Parameters
    ----------
    table : DataFrame
        Columns ``column, before, after``, one row per variable.
    ax : matplotlib.axes.Axes, default=None
        Where to draw; None makes a figure of fitting height.
    threshold : float, default=0.1
        Where the dashed line stands, beyond which imbalance is commonly thought large.
    n_rows : int, default=30
        Largest number of variables drawn, the least balanced before weighting first.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError
        A column is missing or the table is empty.

    Examples
    --------
    >>> table = pd.DataFrame({"column": ["age"], "before": [0.4], "after": [-0.02]})
    >>> plot_balance(table).get_xlabel()
    'Absolute standardised difference of the arms'
    """
    check_columns("table", table, ("column", "before", "after"))
    check_count("n_rows", n_rows)
    size = table[["before", "after"]].abs().max(axis=1)
    order = size.sort_values(ascending=False, kind="stable").index[:n_rows]
    shown = table.loc[order].sort_values("before", key=abs, ascending=False, kind="stable")
    rows = np.arange(len(shown))
    before, after = (shown[name].abs().to_numpy() for name in ("before", "after"))
    ax = ensure_axes(ax, 6.0, 1.35 + 0.26 * len(shown))
    ax.axvline(threshold, color=MUTED, linewidth=1.0, linestyle=(0, (4, 3)), zorder=1)
    ax.hlines(rows, before, after, color=RULE, linewidth=2.0, zorder=2)
    ax.scatter(
        before, rows, s=38, facecolor="white", edgecolor=ORANGE, linewidth=1.6, zorder=3,
        label="before weighting",
    )  # fmt: skip
    ax.scatter(
        after, rows, s=38, color=BLUE, edgecolor="white", linewidth=0.8, zorder=4,
        label="after weighting",
    )  # fmt: skip
    ax.set_yticks(rows, [str(name) for name in shown["column"]], parse_math=False)
    ax.set_ylim(len(shown) - 0.4, -0.6)
    ax.set_xlim(left=0.0)
    ax.set_xlabel("Absolute standardised difference of the arms")
    ax.legend(
        loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, frameon=False, fontsize="small"
    )
    dress(ax, grid="x")
    ax.spines["left"].set_visible(False)
    ax.tick_params(axis="y", length=0)
    if len(shown) < len(table):
        ax.annotate(
            f"{len(table) - len(shown)} better balanced not shown",
            xy=(1.0, 0.0), xycoords="axes fraction", xytext=(0, 4), textcoords="offset points",
            ha="right", va="bottom", color=MUTED, fontsize="small",
        )  # fmt: skip
    return ax
