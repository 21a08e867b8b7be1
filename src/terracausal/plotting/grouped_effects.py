"""Average effects of groups, from the lowest to the highest priority."""

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from terracausal.plotting.canvas import (
    BLUE,
    MUTED,
    ORANGE,
    check_columns,
    dress,
    ensure_axes,
    with_unit,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plot_grouped_effects(
    table: pd.DataFrame,
    average: float | None = None,
    ax: "Axes | None" = None,
    *,
    xlabel: str = "Group, lowest priority first",
    ylabel: str = "Average effect",
    unit: str | None = "units of the outcome",
    show_prediction: bool = False,
) -> "Axes":
    """Draw each group's effect with its interval (thick) and the joint band (thin).

    Parameters
    ----------
    table : DataFrame
        Columns ``estimate, ci_low, ci_high, band_low, band_high``, one row per group; for
        `show_prediction` also ``mean_priority``.
    average : float, default=None
        The average effect of all units, a dashed line; None leaves it out.
    ax : matplotlib.axes.Axes, default=None
        Where to draw; None makes a new figure.
    xlabel : str, default="Group, lowest priority first"
    ylabel : str, default="Average effect"
    unit : str, default="units of the outcome"
        Unit of the vertical axis, in brackets; None leaves it out.
    show_prediction : bool, default=False
        Whether the mean priority of each group is marked, which makes a calibration plot where
        priorities are predicted effects.

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
    ...     {
    ...         "estimate": [0.1, 0.5],
    ...         "ci_low": [0.0, 0.4],
    ...         "ci_high": [0.2, 0.6],
    ...         "band_low": [-0.1, 0.3],
    ...         "band_high": [0.3, 0.7],
    ...     }
    ... )
    >>> plot_grouped_effects(table, 0.3).get_ylabel()
    'Average effect (units of the outcome)'
    """
    needed = ["estimate", "ci_low", "ci_high", "band_low", "band_high"]
    check_columns("table", table, [*needed, "mean_priority"] if show_prediction else needed)
    place = np.arange(1, len(table) + 1)
    ax = ensure_axes(ax, 1.6 + 0.7 * len(table), 3.6)
    if average is not None:
        ax.axhline(average, color=MUTED, linewidth=1.0, linestyle=(0, (4, 3)), zorder=1)
    ax.vlines(place, table["band_low"], table["band_high"], color=BLUE, linewidth=1.0, zorder=2)
    ax.vlines(place, table["ci_low"], table["ci_high"], color=BLUE, linewidth=3.0, zorder=3)
    ax.scatter(
        place, table["estimate"], s=52, color=BLUE, edgecolor="white", linewidth=1.2, zorder=4
    )
    if show_prediction:
        ax.scatter(
            place, table["mean_priority"], s=46, marker="D", facecolor="white", edgecolor=ORANGE,
            linewidth=1.6, zorder=5, label="mean prediction",
        )  # fmt: skip
        ax.legend(frameon=False)
    ax.set_xticks(place, [str(number) for number in place])
    ax.set_xlim(0.4, len(table) + 0.6)
    ax.set_xlabel(xlabel, parse_math=False)
    ax.set_ylabel(with_unit(ylabel, unit), parse_math=False)
    dress(ax, grid="y")
    return ax
