"""The palette, a fresh Axes, and the few strokes that all plots of the package share."""

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from terracausal._foundation.errors import list_some

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap

INK = "#22313a"
MUTED = "#6b7a82"
RULE = "#dfe5e8"
BLUE = "#0b5a7a"
ORANGE = "#d9730d"
MISSING = "#c9c9c9"

# burnt orange to sea blue through paper white: the pair stays apart under every common
# colour-vision deficiency, and lightness alone tells how far a value is from the centre
_DIVERGING = ("#8a3b06", "#c9660f", "#eea65a", "#f6d9b3", "#f5f4f1",
              "#bcdbe4", "#6cb0c7", "#1f7a9c", "#07435c")  # fmt: skip


def ensure_axes(ax: "Axes | None", width: float, height: float) -> "Axes":
    """Return `ax`, or the Axes of a new figure (inches) that pyplot does not keep."""
    if ax is not None:
        return ax
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained").add_subplot()


def dress(ax: "Axes", grid: str | None = None) -> None:
    """Take away the box, soften the rest; `grid` is "x", "y" or "both" for hairlines."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color(MUTED)
    ax.spines[["left", "bottom"]].set_linewidth(0.8)
    ax.tick_params(color=MUTED, labelcolor=INK, width=0.8)
    ax.xaxis.label.set_color(INK)
    ax.yaxis.label.set_color(INK)
    ax.set_axisbelow(True)
    if grid is not None:
        arguments: dict[str, Any] = {"axis": grid, "color": RULE, "linewidth": 0.8}
        ax.grid(visible=True, **arguments)


def diverging_colormap() -> "Colormap":
    """Return the orange-to-blue map, low to high."""
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("terracausal_diverging", _DIVERGING)


def check_columns(name: str, table: pd.DataFrame, columns: Iterable[str]) -> pd.DataFrame:
    """Return `table` if it has rows and all `columns`."""
    wanted = list(columns)
    absent = [column for column in wanted if column not in table.columns]
    if absent:
        raise ValueError(
            f"`{name}` needs the columns {list_some(wanted, 12)}; {list_some(absent)} missing, "
            f"found {list_some(table.columns, 12)}. Pass the table of `to_dataframe()`."
        )
    if table.empty:
        raise ValueError(f"`{name}` must have at least one row; it has none.")
    return table


def with_unit(words: str, unit: str | None) -> str:
    """Return an axis label with its unit in brackets."""
    return f"{words} ({unit})" if unit else words


def plain_number(value: float, decimals: int) -> str:
    """Return a number with thousands separators and a true minus sign."""
    text = f"{value:,.{decimals}f}"
    # a rounded zero has no sign
    if not text.strip("-0.,"):
        text = text.lstrip("-")
    return text.replace("-", "−")


def decimals_for(width: float) -> int:
    """Return how many decimals show two digits of `width`.

    Examples
    --------
    >>> decimals_for(0.32), decimals_for(2600.0)
    (2, 0)
    """
    if not (math.isfinite(width) and width > 0):
        return 2
    return int(np.clip(1 - math.floor(math.log10(width)), 0, 6))
