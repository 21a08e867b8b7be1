"""Chips as pictures: one stretch for all, so that brightness can be compared."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from terracausal._foundation.checks import check_count
from terracausal.plotting.canvas import INK, MISSING, ensure_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# what is shown as red, green and blue, best first, lower case: true colour by name, Sentinel-2 and
# Landsat 8 band; then the false colours in which vegetation is green, and red
_COMPOSITES = (
    ("red", "green", "blue"),
    ("b04", "b03", "b02"),
    ("sr_b4", "sr_b3", "sr_b2"),
    ("swir1", "nir", "green"),
    ("nir", "red", "green"),
)


def stretch_chips(
    images: Sequence[ArrayLike],
    *,
    bands: Sequence[int] = (0, 1, 2),
    percentiles: tuple[float, float] = (2.0, 98.0),
) -> list[NDArray[np.float64]]:
    """Turn chips into colours between 0 and 1, with one stretch per band shared by all chips.

    A pixel that misses any of the shown bands becomes light grey (#c9c9c9).

    Parameters
    ----------
    images : sequence of array-like of shape (n_bands, height, width)
        The chips; heights and widths may differ. Missing pixels are NaN.
    bands : sequence of int, default=(0, 1, 2)
        Positions of the bands shown as red, green and blue; one position shows shades of grey.
    percentiles : tuple of float, default=(2.0, 98.0)
        Percentiles of all chips together that become black and full colour.

    Returns
    -------
    list of ndarray of shape (height, width, 3)
        Colours in 0 to 1.

    Raises
    ------
    ValueError
        There is no chip, a chip lacks a band, or `bands` has neither one nor three positions.

    Examples
    --------
    >>> chip = np.arange(12.0).reshape(3, 2, 2)
    >>> stretch_chips([chip], percentiles=(0, 100))[0][1, 1].tolist()
    [1.0, 1.0, 1.0]
    """
    shown = list(bands)
    arrays = [np.asarray(image, dtype=np.float64) for image in images]
    _check_images(arrays, shown)
    if not 0 <= percentiles[0] < percentiles[1] <= 100:
        raise ValueError(
            f"`percentiles` must rise within 0 to 100; got {percentiles}. (2, 98) is usual."
        )
    picked = [array[shown] for array in arrays]
    limits = [_band_limits([chip[k] for chip in picked], percentiles) for k in range(len(shown))]
    return [_to_colors(chip, limits) for chip in picked]


def plot_chips(
    images: Sequence[ArrayLike],
    titles: Sequence[str] | None = None,
    *,
    bands: Sequence[int] = (0, 1, 2),
    percentiles: tuple[float, float] = (2.0, 98.0),
    n_columns: int = 4,
) -> NDArray[Any]:
    """Draw chips in a grid, all with the same stretch; missing pixels are light grey (#c9c9c9).

    Parameters
    ----------
    images : sequence of array-like of shape (n_bands, height, width)
        The chips; missing pixels are NaN.
    titles : sequence of str, default=None
        One title above each chip.
    bands : sequence of int, default=(0, 1, 2)
        Positions of the bands shown as red, green and blue; one position shows shades of grey.
    percentiles : tuple of float, default=(2.0, 98.0)
        Percentiles of all chips together that become black and full colour.
    n_columns : int, default=4
        Largest number of chips in a row.

    Returns
    -------
    ndarray of matplotlib.axes.Axes of shape (n_rows, n_columns)
        Places without a chip are switched off.

    Raises
    ------
    ValueError
        As for `stretch_chips`, or the number of titles is not the number of chips.

    Examples
    --------
    >>> chips = [np.random.default_rng(k).random((3, 8, 8)) for k in range(5)]
    >>> plot_chips(chips, titles=list("abcde")).shape
    (2, 4)
    """
    check_count("n_columns", n_columns)
    if titles is not None and len(titles) != len(images):
        raise ValueError(
            f"`titles` must name each of the {len(images)} chips; got {len(titles)} titles."
        )
    pictures = stretch_chips(images, bands=bands, percentiles=percentiles)
    columns = min(n_columns, len(pictures))
    rows = -(-len(pictures) // columns)
    spare = 0.3 if titles is not None else 0.0
    figure: Any = ensure_axes(None, 1.75 * columns, (1.75 + spare) * rows).figure
    figure.clear()
    axes: NDArray[Any] = figure.subplots(rows, columns, squeeze=False)
    for place, ax in enumerate(axes.flat):
        ax.set_axis_off()
        if place < len(pictures):
            ax.imshow(pictures[place], interpolation="nearest")
            if titles is not None:
                ax.set_title(titles[place], fontsize="small", color=INK, parse_math=False)
    return axes


def pick_bands(names: Sequence[object]) -> tuple[int, ...]:
    """Return the positions of a known composite, else of the first three bands, else the first.

    Parameters
    ----------
    names : sequence
        Names of bands, as in `Chips.bands`.

    Returns
    -------
    tuple of int
        Three positions for red, green and blue, or one.

    Examples
    --------
    >>> pick_bands(["blue", "green", "red", "nir"])
    (2, 1, 0)
    """
    lower = [str(name).lower() for name in names]
    for wanted in _COMPOSITES:
        if all(name in lower for name in wanted):
            return tuple(lower.index(name) for name in wanted)
    return (0, 1, 2) if len(lower) >= 3 else (0,)


def plot_chip_rows(
    images: Sequence[ArrayLike],
    rows: Sequence[str],
    titles: Sequence[str] | None = None,
    *,
    band_names: Sequence[object] | None = None,
    ax: "Axes | None" = None,
) -> "Axes":
    """Draw chips in named rows on one Axes, all with the same stretch.

    Parameters
    ----------
    images : sequence of array-like of shape (n_bands, height, width)
        The chips, all of one size; missing pixels are NaN.
    rows : sequence of str
        The row of each chip; rows stand in the order of their first chip.
    titles : sequence of str, default=None
        One title below each chip.
    band_names : sequence, default=None
        Names of the bands, by which a known composite is shown; None shows the first.
    ax : matplotlib.axes.Axes, default=None
        Where to draw; None makes a new figure.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError
        As for `stretch_chips`, or lengths or sizes differ.

    Examples
    --------
    >>> chips = [np.random.default_rng(k).random((3, 8, 8)) for k in range(3)]
    >>> ax = plot_chip_rows(chips, ["dry", "dry", "wet"])
    >>> [text.get_text() for text in ax.texts]
    ['dry', 'wet']
    """
    sizes = {np.shape(image)[1:] for image in images}
    lengths = {len(images), len(rows), len(rows if titles is None else titles)}
    if len(sizes) > 1 or len(lengths) > 1:
        raise ValueError(
            "Chips must be of one size, with a row and a title each; got sizes "
            f"{sorted(map(str, sizes))} and the lengths {sorted(lengths)}."
        )
    n_bands = len(np.asarray(images[0])) if len(images) else 0
    names = list(range(n_bands)) if band_names is None else list(band_names)
    pictures = stretch_chips(images, bands=pick_bands(names))
    order = list(dict.fromkeys(rows))
    columns = max(list(rows).count(name) for name in order)
    height, width = pictures[0].shape[:2]
    ax = ensure_axes(ax, 1.5 * columns, 1.9 * len(order))
    seen = dict.fromkeys(order, 0)
    for place, (picture, row) in enumerate(zip(pictures, rows, strict=True)):
        left, top = 1.06 * width * seen[row], 1.36 * height * order.index(row)
        if seen[row] == 0:
            ax.text(left, top - 0.06 * height, row, fontsize="small", weight="bold", color=INK)
        seen[row] += 1
        ax.imshow(picture, extent=(left, left + width, top + height, top), interpolation="nearest")
        if titles is not None:
            spot = left + width / 2, top + 1.03 * height
            ax.text(*spot, titles[place], ha="center", va="top", fontsize="x-small", color=INK)
    ax.set_xlim(0, 1.06 * width * columns - 0.06 * width)
    ax.set_ylim(1.36 * height * len(order) - 0.16 * height, -0.22 * height)
    ax.set_aspect("equal")
    ax.set_axis_off()
    return ax


def _check_images(arrays: list[NDArray[np.float64]], shown: list[int]) -> None:
    if not arrays:
        raise ValueError("`images` must hold at least one chip; it is empty.")
    if len(shown) not in (1, 3):
        raise ValueError(f"`bands` must be one or three positions; got {len(shown)}: {shown}.")
    for place, array in enumerate(arrays):
        if array.ndim != 3 or array.size == 0:
            raise ValueError(
                "Each chip must have the shape (n_bands, height, width); chip "
                f"{place} has {array.shape}. Pick one time first: `chips[site][0]`."
            )
        if max(shown) >= len(array) or min(shown) < 0:
            raise ValueError(
                f"`bands` asks for the positions {shown}; chip {place} has {len(array)} bands."
            )


def _band_limits(
    layers: list[NDArray[np.float64]], percentiles: tuple[float, float]
) -> tuple[float, float]:
    """Return the values of one band that become 0 and 1, from all finite pixels of all chips."""
    values = np.concatenate([layer[np.isfinite(layer)] for layer in layers])
    if values.size == 0:
        return 0.0, 1.0
    low, high = (float(limit) for limit in np.percentile(values, percentiles))
    # a flat band is drawn as middle grey
    return (low, high) if high > low else (low - 0.5, low + 0.5)


def _to_colors(chip: NDArray[np.float64], limits: list[tuple[float, float]]) -> NDArray[np.float64]:
    from matplotlib.colors import to_rgb

    low, high = (np.array(side)[:, None, None] for side in zip(*limits, strict=True))
    scaled = np.clip((chip - low) / (high - low), 0.0, 1.0)
    colors = np.broadcast_to(scaled, (3, *scaled.shape[1:])).transpose(1, 2, 0).copy()
    colors[~np.isfinite(chip).all(axis=0)] = to_rgb(MISSING)
    return colors
