"""Which places are treated, on the map."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from terracausal._foundation.checks import check_finite
from terracausal.plotting.canvas import BLUE, INK, MISSING, ORANGE
from terracausal.plotting.maps import check_places, frame_map, map_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plot_targeted_map(
    lon: ArrayLike, lat: ArrayLike, treated: ArrayLike, ax: "Axes | None" = None
) -> "Axes":
    """Draw places that are treated in blue, in part in orange, and the others in grey.

    Parameters
    ----------
    lon : array-like of shape (n_places,)
        Longitude in degrees east.
    lat : array-like of shape (n_places,)
        Latitude in degrees north.
    treated : array-like of shape (n_places,)
        Share of the place that is treated, from 0 to 1.
    ax : matplotlib.axes.Axes, default=None
        Where to draw; None makes a new figure of fitting shape.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError
        Shapes differ, a value is not finite, a share lies outside 0 to 1, or a place is not on the
        globe.

    Examples
    --------
    >>> ax = plot_targeted_map([32.1, 33.0, 32.5], [1.9, 2.8, 2.0], [1, 0, 0.5])
    >>> [text.get_text() for text in ax.get_legend().get_texts()]
    ['not treated (1)', 'treated in part (1)', 'treated (1)']
    """
    x, y = check_finite("lon", lon), check_finite("lat", lat)
    share = check_finite("treated", treated)
    check_places(x, y, share, "treated")
    outside = share[(share < 0) | (share > 1)]
    if outside.size:
        raise ValueError(f"`treated` must lie between 0 and 1; found {outside[0]:g}.")
    ax = map_axes(ax, x, y)
    size = float(np.clip(6000 / share.size, 10, 50))
    for own, label, color in (
        (share == 0, "not treated", MISSING),
        ((share > 0) & (share < 1), "treated in part", ORANGE),
        (share == 1, "treated", BLUE),
    ):
        if own.any():
            ax.scatter(
                x[own], y[own], s=size, color=color, edgecolor=INK, linewidth=0.3,
                label=f"{label} ({int(own.sum()):,})",
            )  # fmt: skip
    frame_map(ax, y)
    ax.legend(
        loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=3, frameon=False, fontsize="small"
    )
    return ax
