"""Which units trimming left out, on the map."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from terracausal._foundation.checks import check_finite
from terracausal.plotting.canvas import BLUE, MISSING, ORANGE
from terracausal.plotting.maps import check_places, frame_map, map_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_GROUPS = (
    (0, "kept", MISSING, 12.0, "o"),
    (-1, "left out: hardly ever treated", ORANGE, 30.0, "v"),
    (1, "left out: nearly always treated", BLUE, 30.0, "^"),
)


def plot_trimmed_map(
    lon: ArrayLike, lat: ArrayLike, side: ArrayLike, ax: "Axes | None" = None
) -> "Axes":
    """Draw units that were kept in grey and those left out in colour.

    Parameters
    ----------
    lon : array-like of shape (n_units,)
        Longitude in degrees east.
    lat : array-like of shape (n_units,)
        Latitude in degrees north.
    side : array-like of shape (n_units,)
        0 for kept units, -1 for those left out with a low propensity, 1 with a high one.
    ax : matplotlib.axes.Axes, default=None
        Where to draw; None makes a new figure of fitting shape.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError
        Shapes differ, a value is not finite or not -1, 0 or 1, or a place is not on the globe.

    Examples
    --------
    >>> ax = plot_trimmed_map([32.1, 33.0, 32.5], [1.9, 2.8, 2.0], [0, 1, -1])
    >>> len(ax.get_legend().get_texts())
    3
    """
    x, y = check_finite("lon", lon), check_finite("lat", lat)
    which = check_finite("side", side)
    check_places(x, y, which, "side")
    other = np.setdiff1d(which, (-1.0, 0.0, 1.0))
    if other.size:
        raise ValueError(f"`side` must be -1, 0 or 1; found {other[0]:g}.")
    ax = map_axes(ax, x, y)
    for value, label, color, size, marker in _GROUPS:
        own = which == value
        ax.scatter(
            x[own], y[own], s=size, color=color, marker=marker, linewidth=0.0,
            zorder=2 + abs(value), label=f"{label} ({int(own.sum()):,})",
        )  # fmt: skip
    frame_map(ax, y)
    ax.legend(
        loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=1, frameon=False, fontsize="small"
    )
    return ax
