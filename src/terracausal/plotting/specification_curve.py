"""The specification curve: estimates in order above, the choices that made them below."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from terracausal.plotting.canvas import BLUE, INK, MUTED, RULE, check_columns, dress, ensure_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_ROW = 0.19  # inches for each level of a choice


def plot_specification_curve(
    table: pd.DataFrame,
    levels: Mapping[str, Sequence[str]],
    ax: "Axes | None" = None,
    reference: float | None = 0.0,
    *,
    ylabel: str = "Estimate",
) -> "Axes":
    """Draw estimates from low to high with their intervals, and a matrix of the choices below.

    Parameters
    ----------
    table : DataFrame
        Columns ``estimate, ci_low, ci_high`` and one for each factor with the name of its level,
        one row per specification.
    levels : mapping of str to sequence of str
        Levels of each factor in the order in which they are listed; other names have no dot.
    ax : matplotlib.axes.Axes, default=None
        Where both are drawn; None makes a figure of fitting size.
    reference : float, default=0.0
        Where the dashed line stands; None for no line.
    ylabel : str, default="Estimate"
        What the numbers are.

    Returns
    -------
    matplotlib.axes.Axes
        Of the curve; that of the matrix is the next one in its figure.

    Raises
    ------
    ValueError
        A column is missing or the table is empty.

    Notes
    -----
    Simonsohn, Simmons & Nelson (2020), Specification curve analysis, Nature Human Behaviour 4,
    doi:10.1038/s41562-020-0912-z.

    Examples
    --------
    >>> table = pd.DataFrame({"estimate": [1.0, 0.2], "ci_low": [0, -1], "ci_high": [2, 1.4]})
    >>> ax = plot_specification_curve(table.assign(data=["image", "both"]), {"data": ["image"]})
    >>> len(ax.figure.axes)
    2
    """
    check_columns("table", table, ("estimate", "ci_low", "ci_high", *levels))
    rows = [(factor, level) for factor, names in levels.items() for level in names]
    heights = (2.6, _ROW * (len(rows) + 0.5 * len(levels)) + 0.1)
    ax = ensure_axes(ax, min(12.0, 4.5 + 0.14 * len(table)), sum(heights) + 0.4)
    ordered = table.sort_values("estimate", kind="stable")
    _draw_curve(ax, ordered, reference, ylabel)
    _draw_matrix(_axes_below(ax, heights), ordered, levels)
    return ax


def _axes_below(ax: "Axes", heights: tuple[float, float]) -> "Axes":
    """Return an Axes below another one, in the place of which both then stand."""
    spec = ax.get_subplotspec()
    if spec is None:  # placed by hand
        share = heights[1] / heights[0]
        return ax.inset_axes((0.0, -share - 0.04, 1.0, share), sharex=ax)
    parts = spec.subgridspec(2, 1, height_ratios=heights, hspace=0.02)
    ax.set_subplotspec(parts[0])
    return ax.figure.add_subplot(parts[1], sharex=ax)


def _draw_curve(ax: "Axes", table: pd.DataFrame, reference: float | None, ylabel: str) -> None:
    estimate, low, high = (
        table[column].to_numpy(dtype=float) for column in ("estimate", "ci_low", "ci_high")
    )
    places = np.arange(len(table))
    if reference is not None:
        ax.axhline(reference, color=MUTED, linewidth=1.0, linestyle=(0, (4, 3)), zorder=1)
    ax.vlines(places, low, high, color=BLUE, linewidth=1.4, alpha=0.45, zorder=2)
    ax.scatter(places, estimate, s=18, color=BLUE, edgecolor="white", linewidth=0.6, zorder=3)
    ax.set_xlim(-0.8, len(table) - 0.2)
    ax.set_ylabel(ylabel, parse_math=False)
    dress(ax, grid="y")
    ax.tick_params(axis="x", length=0, labelbottom=False)


def _draw_matrix(ax: "Axes", table: pd.DataFrame, levels: Mapping[str, Sequence[str]]) -> None:
    """Draw a dot where a specification has a level, a row per level, factors apart."""
    heights, labels, place = [], [], 0.0
    for factor, names in levels.items():
        values = table[factor].to_numpy()
        for level in names:
            own = np.flatnonzero(values == level)
            ax.axhline(place, color=RULE, linewidth=0.8, zorder=1)
            ax.scatter(own, np.full(len(own), place), s=13, color=INK, linewidth=0, zorder=2)
            heights.append(place)
            labels.append(str(level))
            place += 1.0
        middle = np.mean(heights[-len(names) :]) if names else place
        ax.annotate(
            str(factor),
            xy=(1.0, float(middle)),
            xycoords=("axes fraction", "data"),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            color=MUTED,
            fontsize="small",
            parse_math=False,
        )
        place += 0.5
    ax.set_yticks(heights, labels, parse_math=False, fontsize="small")
    ax.set_ylim(place - 0.5, -0.7)
    dress(ax)
    ax.spines[["left", "bottom"]].set_visible(False)
    ax.tick_params(axis="both", length=0, labelbottom=False)
