"""An interval for each of many units, sorted by their prediction."""

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from terracausal.plotting.canvas import BLUE, MUTED, check_columns, dress, ensure_axes, with_unit

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plot_unit_intervals(
    table: pd.DataFrame,
    ax: "Axes | None" = None,
    *,
    ylabel: str = "Effect",
    unit: str | None = "units of the outcome",
) -> "Axes":
    """Draw the prediction of each unit with its interval, from the lowest to the highest.

    Parameters
    ----------
    table : DataFrame
        Columns ``cate, ci_low, ci_high``, one row per unit.
    ax : matplotlib.axes.Axes, default=None
        Where to draw; None makes a figure.
    ylabel : str, default="Effect"
        What the numbers are.
    unit : str, default="units of the outcome"
        Their unit, in brackets after `ylabel`; None leaves it out.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError
        A column is missing or the table is empty.

    Examples
    --------
    >>> table = pd.DataFrame({"cate": [0.2, 0.1], "ci_low": [0.0, 0.0], "ci_high": [0.4, 0.3]})
    >>> plot_unit_intervals(table).get_xlabel()
    'Share of units, sorted by prediction'
    """
    check_columns("table", table, ("cate", "ci_low", "ci_high"))
    ax = ensure_axes(ax, 6.0, 3.6)
    ordered = table.sort_values("cate", kind="stable")
    share = (np.arange(len(ordered)) + 0.5) / len(ordered)
    ax.axhline(0.0, color=MUTED, linewidth=1.0, linestyle=(0, (4, 3)), zorder=1)
    low, high = ordered["ci_low"].to_numpy(), ordered["ci_high"].to_numpy()
    ax.vlines(share, low, high, color=BLUE, alpha=0.25, linewidth=max(0.4, 200 / len(ordered)))
    ax.plot(share, ordered["cate"].to_numpy(), color=BLUE, linewidth=2.0, zorder=3)
    ax.set_xlim(0, 1)
    ax.set_xlabel("Share of units, sorted by prediction")
    ax.set_ylabel(with_unit(ylabel, unit), parse_math=False)
    dress(ax, grid="y")
    return ax
