"""The dose-response curve: the mean outcome by dose, with a pointwise and a uniform band."""

from typing import TYPE_CHECKING

import pandas as pd

from terracausal.plotting.canvas import BLUE, MUTED, check_columns, dress, ensure_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plot_dose_response(
    table: pd.DataFrame,
    ax: "Axes | None" = None,
    *,
    xlabel: str = "Dose",
    ylabel: str = "Mean outcome if all had this dose",
    unit: str | None = "units of the outcome",
) -> "Axes":
    """Draw the curve, its pointwise intervals (dark) and its uniform band (light).

    Parameters
    ----------
    table : DataFrame
        Columns ``term`` (the dose), ``estimate, ci_low, ci_high, band_low, band_high``.
    ax : matplotlib.axes.Axes, default=None
        Where to draw; None makes a new figure.
    xlabel : str, default="Dose"
        Label of the horizontal axis.
    ylabel : str, default="Mean outcome if all had this dose"
        Label of the vertical axis.
    unit : str, default="units of the outcome"
        Unit of the vertical axis, in brackets; None leaves it out.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError
        A column is missing or the table is empty.

    Examples
    --------
    >>> table = pd.DataFrame({"term": [0.0, 1.0], "estimate": [1.0, 2.0]})
    >>> ends = {"ci_low": 0.5, "ci_high": 2.5, "band_low": 0.2, "band_high": 2.8}
    >>> plot_dose_response(table.assign(**ends)).get_xlabel()
    'Dose'
    """
    wanted = ("term", "estimate", "ci_low", "ci_high", "band_low", "band_high")
    check_columns("table", table, wanted)
    ax = ensure_axes(ax, 6.0, 3.8)
    curve = table.sort_values("term")
    dose = curve["term"]
    for low, high, alpha, label in (
        ("band_low", "band_high", 0.12, "whole curve"),
        ("ci_low", "ci_high", 0.22, "each dose"),
    ):
        ax.fill_between(
            dose, curve[low], curve[high], color=BLUE, alpha=alpha, linewidth=0, label=label
        )
    ax.plot(dose, curve["estimate"], color=BLUE, linewidth=2.4)
    ax.margins(x=0)
    ax.set_xlabel(xlabel, parse_math=False)
    ax.set_ylabel(f"{ylabel}\n({unit})" if unit else ylabel, parse_math=False)
    legend = ax.legend(
        title=_band_title(table), loc="best", frameon=False, fontsize="small", labelcolor=MUTED
    )
    legend.get_title().set_color(MUTED)
    legend.get_title().set_fontsize("small")
    dress(ax, grid="y")
    return ax


def _band_title(table: pd.DataFrame) -> str:
    level = f"{table['level'].iloc[0]:.0%} " if "level" in table else ""
    return f"{level}band of"
