"""Effects on the map, without a base map and without moving a point."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from terracausal._foundation.checks import check_finite
from terracausal.plotting.canvas import INK, diverging_colormap, dress, ensure_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_KM_PER_DEGREE = 111.32  # of latitude


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
    _check_places(x, y, z)
    middle = float(y.min() + y.max()) / 2
    shrink = max(float(np.cos(np.deg2rad(middle))), 0.05)
    ax = ensure_axes(ax, 6.0, _fitting_height(x, y, shrink))
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
    ax.set_aspect(1 / shrink)
    ax.margins(0.06)
    _label_degrees(ax)
    dress(ax, grid="both")
    _draw_scale(ax, shrink)
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


def _check_places(x: NDArray[np.float64], y: NDArray[np.float64], z: NDArray[np.float64]) -> None:
    if x.ndim != 1 or not x.shape == y.shape == z.shape or x.size == 0:
        raise ValueError(
            "`lon`, `lat` and `effect` must be one number per place; "
            f"found shapes {x.shape}, {y.shape} and {z.shape}."
        )
    for name, values, limit in (("lon", x, 180), ("lat", y, 90)):
        if np.abs(values).max() > limit:
            worst = values[np.abs(values).argmax()]
            raise ValueError(
                f"`{name}` must lie between -{limit} and {limit} degrees; found {worst:g}. "
                "Are the two swapped, or in metres of a projection?"
            )


def _fitting_height(x: NDArray[np.float64], y: NDArray[np.float64], shrink: float) -> float:
    """Return inches such that a map 6 inches wide has little empty paper around it."""
    spread = max(float(np.ptp(x)) * shrink, 1e-9)
    return float(np.clip(0.9 + 4.3 * float(np.ptp(y)) / spread, 3.2, 7.0))


def _label_degrees(ax: "Axes") -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    for axis, ends in ((ax.xaxis, "EW"), (ax.yaxis, "NS")):
        axis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 5, 10]))
        axis.set_major_formatter(
            FuncFormatter(
                lambda value, _, ends=ends: (
                    f"{abs(value):.6g}°{'' if value == 0 else ends[int(value < 0)]}"
                )
            )
        )
    ax.set_xlabel("Longitude (degrees)")
    ax.set_ylabel("Latitude (degrees)")


def _draw_scale(ax: "Axes", shrink: float) -> None:
    """Draw a bar of 1, 2 or 5 times a power of ten kilometres above the map, on its right."""
    left, right = ax.get_xlim()
    width_km = (right - left) * _KM_PER_DEGREE * shrink
    power = 10.0 ** np.floor(np.log10(width_km / 4))
    length_km = max(step * power for step in (1, 2, 5) if step * power <= width_km / 4)
    share = length_km / width_km
    ax.plot(
        [1.0 - share, 1.0],
        [1.025, 1.025],
        transform=ax.transAxes,
        clip_on=False,
        color=INK,
        linewidth=2.0,
        solid_capstyle="butt",
    )
    ax.text(
        1.0 - share / 2,
        1.035,
        f"{length_km:,.6g} km",
        transform=ax.transAxes,
        ha="center",
        va="bottom",
        color=INK,
        fontsize="small",
    )
