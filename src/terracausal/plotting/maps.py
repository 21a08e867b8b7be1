"""What all maps share: degrees that look right, a scale bar, no base map."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from terracausal.plotting.canvas import INK, dress, ensure_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_KM_PER_DEGREE = 111.32  # of latitude


def check_places(
    x: NDArray[np.float64], y: NDArray[np.float64], z: NDArray[np.float64], name: str = "effect"
) -> None:
    """Refuse places that are not one pair of degrees and one value each; `name` is the value's."""
    if x.ndim != 1 or not x.shape == y.shape == z.shape or x.size == 0:
        raise ValueError(
            f"`lon`, `lat` and `{name}` must be one number per place; "
            f"found shapes {x.shape}, {y.shape} and {z.shape}."
        )
    for axis, values, limit in (("lon", x, 180), ("lat", y, 90)):
        if np.abs(values).max() > limit:
            worst = values[np.abs(values).argmax()]
            raise ValueError(
                f"`{axis}` must lie between -{limit} and {limit} degrees; found {worst:g}. "
                "Are the two swapped, or in metres of a projection?"
            )


def map_axes(ax: "Axes | None", x: NDArray[np.float64], y: NDArray[np.float64]) -> "Axes":
    """Return axes of fitting shape on which a degree of longitude has its length at mid-map."""
    shrink = _shrink(y)
    ax = ensure_axes(ax, 6.0, _fitting_height(x, y, shrink))
    ax.set_aspect(1 / shrink)
    return ax


def frame_map(ax: "Axes", y: NDArray[np.float64]) -> None:
    """Add margins, degrees and a scale bar to a map whose points have been drawn."""
    ax.margins(0.06)
    _label_degrees(ax)
    dress(ax, grid="both")
    _draw_scale(ax, _shrink(y))


def _shrink(y: NDArray[np.float64]) -> float:
    """Return the length of a degree of longitude in degrees of latitude, at the middle."""
    middle = float(y.min() + y.max()) / 2
    return max(float(np.cos(np.deg2rad(middle))), 0.05)


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
