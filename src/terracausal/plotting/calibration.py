"""Do probabilities mean what they say? Predicted against observed shares."""

from typing import TYPE_CHECKING

import pandas as pd

from terracausal.plotting.canvas import BLUE, MUTED, check_columns, dress, ensure_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plot_calibration(
    table: pd.DataFrame,
    ax: "Axes | None" = None,
    *,
    xlabel: str = "Mean propensity of the group",
    ylabel: str = "Share treated",
) -> "Axes":
    """Draw the share observed in each group of units against the share predicted.

    Parameters
    ----------
    table : DataFrame
        Columns ``predicted, observed, ci_low, ci_high``, one row per group.
    ax : matplotlib.axes.Axes, default=None
        Where to draw; None makes a new figure.
    xlabel : str, default="Mean propensity of the group"
    ylabel : str, default="Share treated"

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
    ...     {"predicted": [0.2, 0.7], "observed": [0.25, 0.6], "ci_low": 0.1, "ci_high": 0.8}
    ... )
    >>> plot_calibration(table).get_ylabel()
    'Share treated'
    """
    check_columns("table", table, ("predicted", "observed", "ci_low", "ci_high"))
    ax = ensure_axes(ax, 4.4, 4.2)
    ax.plot([0, 1], [0, 1], color=MUTED, linewidth=1.0, linestyle=(0, (4, 3)), zorder=1)
    ax.vlines(
        table["predicted"], table["ci_low"], table["ci_high"], color=BLUE, linewidth=2.0, zorder=2
    )
    ax.plot(table["predicted"], table["observed"], color=BLUE, linewidth=1.0, alpha=0.5, zorder=2)
    ax.scatter(
        table["predicted"], table["observed"], s=42, color=BLUE, edgecolor="white",
        linewidth=1.0, zorder=3,
    )  # fmt: skip
    ax.set_xlim(-0.02, 1.02)
    ax.set_ylim(-0.02, 1.02)
    ax.set_aspect("equal")
    ax.set_xlabel(xlabel, parse_math=False)
    ax.set_ylabel(ylabel, parse_math=False)
    dress(ax, grid="both")
    return ax
