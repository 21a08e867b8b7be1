"""The targeting operator characteristic: what is gained by treating the first in line."""

from typing import TYPE_CHECKING

import pandas as pd

from terracausal.plotting.canvas import (
    BLUE,
    MUTED,
    check_columns,
    dress,
    ensure_axes,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_FIRST_FRACTION = 0.05


def plot_targeting_curve(
    toc: pd.DataFrame,
    ax: "Axes | None" = None,
    *,
    xlabel: str = "Share treated, highest priority first",
    ylabel: str = "Effect above the average effect",
    unit: str | None = "units of the outcome",
) -> "Axes":
    """Draw the targeting curve with its pointwise band.

    The curve shows, for each share of units treated in the order of the priority, by how much
    their average effect exceeds the average effect of all. It ends at zero, where all are treated.
    The frame is set by the fractions from 5 % on, because the band of the first few units is so
    wide that it would flatten all the rest.

    Parameters
    ----------
    toc : DataFrame
        Columns ``fraction`` (in 0 to 1), ``estimate``, ``ci_low``, ``ci_high``; dotted lines mark
        ``band_low`` and ``band_high`` (the band of the whole curve) where it has them.
    ax : matplotlib.axes.Axes, default=None
        Where to draw; None makes a new figure.
    xlabel : str, default="Share treated, highest priority first"
        Label of the horizontal axis, shown in percent.
    ylabel : str, default="Effect above the average effect"
        Label of the vertical axis.
    unit : str, default="units of the outcome"
        Unit of the vertical axis, in brackets; None leaves it out.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError
        A column is missing, the table is empty, or a fraction lies outside 0 to 1.

    References
    ----------
    Yadlowsky, Fleming, Shah, Brunskill and Wager (2025), "Evaluating treatment prioritization
    rules via rank-weighted average treatment effects", JASA 120(549).

    Examples
    --------
    >>> toc = pd.DataFrame(
    ...     {
    ...         "fraction": [0.1, 0.5, 1.0],
    ...         "estimate": [0.4, 0.2, 0.0],
    ...         "ci_low": [0.1, 0.0, 0.0],
    ...         "ci_high": [0.7, 0.4, 0.0],
    ...     }
    ... )
    >>> plot_targeting_curve(toc).get_xlabel()
    'Share treated, highest priority first'
    """
    check_columns("toc", toc, ("fraction", "estimate", "ci_low", "ci_high"))
    outside = toc.loc[~toc["fraction"].between(0, 1), "fraction"]
    if len(outside):
        raise ValueError(
            f"`toc` fractions must lie between 0 and 1; {len(outside)} do not, "
            f"such as {outside.iloc[0]}. Divide percentages by 100."
        )
    from matplotlib.ticker import PercentFormatter

    ax = ensure_axes(ax, 6.0, 3.8)
    curve = toc.sort_values("fraction")
    ax.axhline(0.0, color=MUTED, linewidth=1.0, linestyle=(0, (4, 3)))
    ax.fill_between(
        curve["fraction"], curve["ci_low"], curve["ci_high"], color=BLUE, alpha=0.16, linewidth=0
    )
    for end in {"band_low", "band_high"} & set(curve.columns):
        ax.plot(curve["fraction"], curve[end], color=BLUE, linewidth=0.9, linestyle=(0, (1, 2)))
    ax.plot(curve["fraction"], curve["estimate"], color=BLUE, linewidth=2.4)
    ax.set_xlim(0.0, 1.0)
    ax.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    ax.set_xlabel(xlabel, parse_math=False)
    ax.set_ylabel(f"{ylabel}\n({unit})" if unit else ylabel, parse_math=False)
    _frame(ax, curve)
    dress(ax, grid="y")
    return ax


def _frame(ax: "Axes", curve: pd.DataFrame) -> None:
    """Fit the vertical limits to the band without its first 5 %, and to the whole curve."""
    settled = curve.loc[curve["fraction"] >= _FIRST_FRACTION]
    if settled.empty:
        return
    low = min(settled["ci_low"].min(), curve["estimate"].min(), 0.0)
    high = max(settled["ci_high"].max(), curve["estimate"].max(), 0.0)
    margin = 0.06 * (high - low)
    if margin > 0:
        ax.set_ylim(low - margin, high + margin)
