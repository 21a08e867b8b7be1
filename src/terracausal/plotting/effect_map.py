"""Effects on the map, without a base map and without moving a point."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from terracausal._foundation.checks import check_finite
from terracausal.plotting.canvas import INK, diverging_colormap
from terracausal.plotting.maps import check_places, frame_map, map_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plot_effect_map(
    lon: ArrayLike,
    lat: ArrayLike,
    effect: ArrayLike,
    ax: "Axes | None" = None,
    *,
    center: float = 0.0,
    label: str = "Effect",
    unit: str | None = "units of the outcome",
    marker_size: float | None = None,
) -> "Axes":
    """Draw each place as a dot coloured by its effect.

    Points are drawn where they are, with no jitter. Degrees of longitude are drawn shorter than
    degrees of latitude by the cosine of the middle latitude, so distances look right there. The
    colours reach equally far on both sides of `center`; the most extreme 2 % are clipped, which
    the pointed ends of the colour bar show.

    Parameters
    ----------
    lon : array-like of shape (n_places,)
        Longitude in degrees east, -180 to 180.
    lat : array-like of shape (n_places,)
        Latitude in degrees north, -90 to 90.
    effect : array-like of shape (n_places,)
        What is drawn.
    ax : matplotlib.axes.Axes, default=None
        Where to draw; None makes a new figure of fitting shape.
    center : float, default=0.0
        The value drawn in white, such as "no effect" or the average effect.
    label : str, default="Effect"
        What the colours show.
    unit : str, default="units of the outcome"
        Their unit, in brackets after `label`; None leaves it out.
    marker_size : float, default=None
        Area of a dot in points squared; None takes it from the number of places.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError
        Shapes differ, a value is not finite, or a coordinate is not on the globe.

    Examples
    --------
    >>> ax = plot_effect_map([32.1, 33.0], [1.9, 2.8], [0.4, -0.2])
    >>> round(ax.get_aspect(), 3)
    1.001
    """
    x, y = check_finite("lon", lon), check_finite("lat", lat)
    z = check_finite("effect", effect)
    check_places(x, y, z)
    ax = map_axes(ax, x, y)
    half = float(np.quantile(np.abs(z - center), 0.98)) or 1.0
    beyond_low, beyond_high = bool((z < center - half).any()), bool((z > center + half).any())
    dots = ax.scatter(
        x,
        y,
        c=z,
        s=marker_size or float(np.clip(9000 / z.size, 10, 70)),
        cmap=diverging_colormap(),
        vmin=center - half,
        vmax=center + half,
        edgecolor=INK,
        linewidth=0.35,
    )
    frame_map(ax, y)
    ends = {(False, False): "neither", (True, False): "min", (False, True): "max"}
    bar = ax.figure.colorbar(
        dots,
        ax=ax,
        shrink=0.75,
        aspect=24,
        pad=0.03,
        extend=ends.get((beyond_low, beyond_high), "both"),
    )
    bar.outline.set_visible(False)
    bar.ax.tick_params(color=INK, labelcolor=INK, length=3)
    bar.set_label(f"{label}\n({unit})" if unit else label, color=INK, parse_math=False)
    return ax
