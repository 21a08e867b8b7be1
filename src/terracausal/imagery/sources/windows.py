"""Pixels of one layer on the grid of a chip: stored numbers to values, windows, resampling.

Every source that has pixels goes through `read_on_grid`, so that all give the same numbers.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.enums import Resampling
from rasterio.warp import reproject

from terracausal.imagery.geodesy import (
    LONLAT,
    apply_affine,
    move_points,
    parse_crs,
    same_crs,
    shift_affine,
    wrap_lon,
)
from terracausal.imagery.quiet import SILENCE, gdal_env
from terracausal.imagery.readers import to_float32
from terracausal.imagery.resampling import ORDERED, check_resampling
from terracausal.imagery.sources.base import Box, Layer

ReadBox = Callable[[tuple[int, ...], Box], NDArray[Any]]
"""Returns the stored numbers of some bands (positions from 0) in a box that lies on the layer,
shape (n_positions, bottom - top, right - left); masked values are missing."""

_SHORT = 2  # bytes of integers that float32 holds in any case
_MAX_BYTES = 2**30
_SNAP_PX = 1e-3  # grids closer than this share of a pixel are the same grid
_REACH_PX = {"nearest": 1, "bilinear": 1, "cubic": 2, "cubic_spline": 2, "lanczos": 3}


def read_on_grid(
    layer: Layer, grid: Any, positions: tuple[int, ...], resampling: str, read_box: ReadBox
) -> NDArray[np.float32]:
    """Return some bands of a layer on a grid.

    Where the pixels of the grid are pixels of the layer they keep their exact numbers; otherwise
    they are resampled. A resampled pixel of a linear method is the weighted mean of the valid
    pixels under the kernel, and missing where these have less than half of its weight.

    Parameters
    ----------
    layer : Layer
        With a grid of its own.
    grid : odc.geo.geobox.GeoBox
        May reach beyond the layer.
    positions : tuple of int
        Positions in `layer.bands`, counted from 0.
    resampling : str
        One of `resampling.METHODS`.
    read_box : callable
        Returns stored numbers of the layer.

    Returns
    -------
    ndarray of shape (n_positions, height, width)
        float32, NaN where missing or beyond the layer.

    Examples
    --------
    >>> from affine import Affine
    >>> from odc.geo.geobox import GeoBox
    >>> own = GeoBox((2, 2), Affine(10, 0, 5e5, 0, -10, 20), "EPSG:32636")
    >>> stored = np.array([[[1, 2], [3, 10001]]], dtype="uint16")
    >>> def read_box(positions, box):
    ...     left, top, right, bottom = box
    ...     return stored[list(positions), top:bottom, left:right]
    >>> layer = Layer("memory", ("red",), own, nodata=(3.0,))
    >>> read_on_grid(layer, own, (0,), "nearest", read_box).tolist()
    [[[1.0, 2.0], [nan, 10001.0]]]
    """
    layer, read_box = endless(layer, read_box)
    place = whole_offset(layer.grid, grid)
    if place is not None:
        height, width = layer.grid.shape
        box = clipped(_box(place, grid), (0, 0, width, height))
        if box is None:
            return np.full((len(positions), *grid.shape), np.nan, dtype=np.float32)
        values = decode(read_box(positions, box), layer, positions)
        return _placed(values, box, place, grid)
    return _resampled(layer, grid, positions, resampling, read_box)


def _box(place: tuple[int, int], grid: Any) -> Box:
    (left, top), (height, width) = place, grid.shape
    return left, top, left + width, top + height


def clipped(box: Box, cover: Box) -> Box | None:
    """Return the part of a box that lies in another, None where there is none."""
    left, top = max(box[0], cover[0]), max(box[1], cover[1])
    right, bottom = min(box[2], cover[2]), min(box[3], cover[3])
    return (left, top, right, bottom) if left < right and top < bottom else None


def _placed(
    values: NDArray[np.float32], box: Box, place: tuple[int, int], grid: Any
) -> NDArray[np.float32]:
    """Return the pixels of the part of a grid that lies on a layer, NaN around them."""
    if values.shape[1:] == tuple(grid.shape):
        return values
    x, y = box[0] - place[0], box[1] - place[1]
    pixels = np.full((len(values), *grid.shape), np.nan, dtype=np.float32)
    pixels[:, y : y + values.shape[1], x : x + values.shape[2]] = values
    return pixels


def whole_offset(own: Any, grid: Any) -> tuple[int, int] | None:
    """Return the column and row of `own` at which `grid` begins, or None if pixels differ.

    Parameters
    ----------
    own, grid : odc.geo.geobox.GeoBox
        Of a layer and of a chip.
    """
    if not same_crs(str(own.crs), str(grid.crs)):
        return None
    mine, other = own.affine, grid.affine
    side = max(abs(mine.a), abs(mine.b), abs(mine.d), abs(mine.e))
    # what the steps differ by adds up over the chip
    slack = _SNAP_PX * side / max(grid.shape)
    if (
        abs(mine.a - other.a) > slack
        or abs(mine.b - other.b) > slack
        or abs(mine.d - other.d) > slack
        or abs(mine.e - other.e) > slack
    ):
        return None
    if mine.b == 0 and mine.d == 0:
        column, row = (other.c - mine.c) / mine.a, (other.f - mine.f) / mine.e
    else:
        column, row = apply_affine(~mine, other.c, other.f)
    left, top = round(column), round(row)
    return (left, top) if max(abs(column - left), abs(row - top)) < _SNAP_PX else None


def whole_offsets(
    own: Any, affines: NDArray[np.float64], crs: Sequence[str], size_px: tuple[int, int]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """Return what `whole_offset` says of many grids of one size, as arrays.

    Parameters
    ----------
    own : odc.geo.geobox.GeoBox
        Of a layer.
    affines : ndarray of shape (n, 6)
        Affine map of each grid.
    crs : sequence of str of length n
        Of each grid.
    size_px : (int, int)
        Height and width of each grid.

    Returns
    -------
    (ndarray, ndarray, ndarray) of shape (n,)
        Columns, rows, and where they are whole.
    """
    mine = own.affine
    text = str(own.crs)
    fits = np.array([same_crs(text, other) for other in crs], dtype=bool)
    side = max(abs(mine.a), abs(mine.e))
    slack = _SNAP_PX * side / max(size_px)
    steps = np.array([mine.a, mine.b, mine.d, mine.e])
    fits &= (np.abs(affines[:, [0, 1, 3, 4]] - steps) <= slack).all(axis=1)
    columns, rows = (affines[:, 2] - mine.c) / mine.a, (affines[:, 5] - mine.f) / mine.e
    lefts, tops = np.rint(columns), np.rint(rows)
    fits &= np.maximum(np.abs(columns - lefts), np.abs(rows - tops)) < _SNAP_PX
    return lefts.astype(np.int64), tops.astype(np.int64), fits


def footprint(own: Any, grid: Any) -> tuple[float, float, float, float]:
    """Return the columns and rows of `own` that `grid` covers: left, top, right, bottom.

    Longitudes are those within 180 degrees of the centre of `own`, and go on without a jump where a
    chip lies across the antimeridian.
    """
    height, width = grid.shape
    x, y = np.meshgrid(np.linspace(0, width, 9), np.linspace(0, height, 9))
    points = np.column_stack(apply_affine(grid.affine, x.ravel(), y.ravel()))
    if not same_crs(str(own.crs), str(grid.crs)):
        target = parse_crs(str(own.crs))
        points = move_points(points, parse_crs(str(grid.crs)), target)
        if target.is_geographic:
            points = _around_pole(grid, own, _unwrapped(points, own))
    columns, rows = apply_affine(~own.affine, *points.T)
    return float(columns.min()), float(rows.min()), float(columns.max()), float(rows.max())


def _centre_lon(own: Any) -> float:
    height, width = own.shape
    return float(apply_affine(own.affine, width / 2, height / 2)[0])


def _unwrapped(degrees: NDArray[np.float64], own: Any) -> NDArray[np.float64]:
    """Return points (n, 2) in degrees without a jump, their middle within 180 degrees of `own`."""
    centre = wrap_lon(degrees[len(degrees) // 2, 0], _centre_lon(own))
    return np.column_stack([wrap_lon(degrees[:, 0], centre), degrees[:, 1]])


def _around_pole(grid: Any, own: Any, degrees: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return points that also enclose a pole on the grid, where all longitudes meet."""
    south, north = degrees[:, 1].min(), degrees[:, 1].max()
    if max(abs(south), abs(north)) < 80:
        return degrees
    lat = 90.0 if north > 0 else -90.0
    pole = move_points([(0.0, lat)], LONLAT, parse_crs(str(grid.crs)))[0]
    column, row = apply_affine(~grid.affine, *pole)
    height, width = grid.shape
    if not (-1 <= column <= width + 1 and -1 <= row <= height + 1):
        return degrees
    middle = _centre_lon(own)
    return np.vstack([degrees, [[middle - 180.0, lat], [middle + 180.0, lat]]])


def endless_grid(own: Any) -> Any:
    """Return three turns of a layer that spans all longitudes; any other grid as it is.

    Its two ends meet, so a chip that lies across them finds its pixels side by side.
    """
    affine, (height, width) = own.affine, own.shape
    if affine.b or affine.d or abs(affine.a * width - 360.0) > 0.5 * affine.a:
        return own
    if not parse_crs(str(own.crs)).is_geographic:
        return own
    return GeoBox((height, 3 * width), shift_affine(affine, -width, 0), own.crs)


def endless(layer: Layer, read_box: ReadBox) -> tuple[Layer, ReadBox]:
    """Return a layer that spans all longitudes as three turns of it."""
    grid = endless_grid(layer.grid)
    if grid is layer.grid:
        return layer, read_box
    width = layer.grid.shape[1]

    def read_turns(positions: tuple[int, ...], box: Box) -> NDArray[Any]:
        left, top, right, bottom = box
        parts = []
        for turn in range(left // width, -(-right // width)):
            first, last = max(left, turn * width), min(right, (turn + 1) * width)
            shifted = (first - turn * width, top, last - turn * width, bottom)
            parts.append(read_box(positions, shifted))
        if len(parts) == 1:
            return parts[0]
        together: NDArray[Any] = np.ma.concatenate(parts, axis=2)  # type: ignore[no-untyped-call]
        return together

    return replace(layer, grid=grid), read_turns


def overlaps(own: Any, grid: Any) -> bool:
    """Say whether any part of a grid lies on a layer."""
    height, width = own.shape
    place = whole_offset(own, grid)
    if place is not None:
        high, wide = grid.shape
        return bool(-wide < place[0] < width and -high < place[1] < height)
    left, top, right, bottom = footprint(own, grid)
    # a millionth of a pixel is rounding
    return bool(left < width - 1e-6 and right > 1e-6 and top < height - 1e-6 and bottom > 1e-6)


def decode(stored: NDArray[Any], layer: Layer, positions: tuple[int, ...]) -> NDArray[np.float32]:
    """Return stored numbers (n_positions, h, w) as values: nodata and masked NaN, then scaled."""
    plain = np.ma.getdata(stored)
    absent = _absent(plain, layer, positions)
    if np.ma.is_masked(stored):
        masked = np.ma.getmaskarray(stored)
        absent = masked if absent is None else absent | masked
    if layer.scale or layer.offset:
        scale = np.array([layer.scale[k] if layer.scale else 1.0 for k in positions])
        offset = np.array([layer.offset[k] if layer.offset else 0.0 for k in positions])
        plain = plain * scale[:, None, None] + offset[:, None, None]
    if plain.dtype.kind not in "ui" or plain.dtype.itemsize > _SHORT:
        # these may be too large, infinite or no numbers at all
        return to_float32(plain if absent is None else np.ma.array(plain, mask=absent))
    values: NDArray[np.float32] = plain.astype(np.float32)
    if absent is not None:
        values[absent] = np.nan
    return values


def holds_values(stored: NDArray[Any], layer: Layer, positions: tuple[int, ...]) -> bool:
    """Say whether stored numbers are the values as they stand, none of them missing."""
    if stored.dtype.kind not in "ui" or stored.dtype.itemsize > _SHORT or np.ma.is_masked(stored):
        return False
    if layer.scale or layer.offset:
        return False
    absent = _absent(np.ma.getdata(stored), layer, positions)
    return absent is None or not absent.any()


def _absent(
    plain: NDArray[Any], layer: Layer, positions: tuple[int, ...]
) -> NDArray[np.bool_] | None:
    """Return where stored numbers are nodata; None when no band has one."""
    marks = [layer.nodata[k] for k in positions] if layer.nodata else []
    if all(mark is None or np.isnan(mark) for mark in marks):
        return None  # NaN is missing already
    if len(set(marks)) == 1:
        return np.asarray(plain == _same_kind(marks[0], plain.dtype))
    return np.stack(
        [
            np.zeros(band.shape, dtype=bool)
            if mark is None or np.isnan(mark)
            else band == _same_kind(mark, plain.dtype)
            for band, mark in zip(plain, marks, strict=True)
        ]
    )


def _same_kind(mark: Any, dtype: np.dtype[Any]) -> Any:
    """Return nodata as the number that a file of this dtype would hold."""
    if dtype.kind == "f":
        with np.errstate(over="ignore"):
            return dtype.type(mark)
    # a mark that the dtype cannot hold, such as -9999 in uint8, marks nothing
    return int(mark) if float(mark).is_integer() else float(mark)


def _resampled(
    layer: Layer, grid: Any, positions: tuple[int, ...], resampling: str, read_box: ReadBox
) -> NDArray[np.float32]:
    check_resampling(resampling)
    left, top, right, bottom = footprint(layer.grid, grid)
    if not np.isfinite([left, top, right, bottom]).all():
        return np.full((len(positions), *grid.shape), np.nan, dtype=np.float32)
    # the kernel needs its neighbours, or as many pixels as fall into one of the target
    reach = 1 + _REACH_PX.get(resampling, 1)
    margin_x = reach * max(1.0, (right - left) / grid.shape[1])
    margin_y = reach * max(1.0, (bottom - top) / grid.shape[0])
    box = (
        max(0, int(np.floor(left - margin_x))),
        max(0, int(np.floor(top - margin_y))),
        min(layer.grid.shape[1], int(np.ceil(right + margin_x))),
        min(layer.grid.shape[0], int(np.ceil(bottom + margin_y))),
    )
    if box[0] >= box[2] or box[1] >= box[3]:
        return np.full((len(positions), *grid.shape), np.nan, dtype=np.float32)
    _refuse_large(layer, box, len(positions))
    pixels = decode(read_box(positions, box), layer, positions)
    if _ends_at_south_pole(layer.grid, box):
        # the pole itself lies on the edge, which belongs to the next row
        pixels = np.pad(pixels, ((0, 0), (0, 1), (0, 0)), mode="edge")
    own = (shift_affine(layer.grid.affine, box[0], box[1]), layer.grid.crs.to_wkt())
    if resampling in ORDERED:
        return _warp(pixels, own, grid, resampling, np.nan)
    valid = ~np.isnan(pixels)
    # values and weights are moved alike: the warper itself would spread NaN as far as the kernel
    both = np.concatenate([np.where(valid, pixels, np.float32(0)), valid]).astype(np.float32)
    total, share = np.split(_warp(both, own, grid, resampling, None), 2)
    enough = share >= 0.5
    return np.where(enough, total / np.where(enough, share, np.float32(1)), np.float32(np.nan))


def _refuse_large(layer: Layer, box: Box, n_bands: int) -> None:
    n_pixels = (box[2] - box[0]) * (box[3] - box[1]) * n_bands
    if 4 * n_pixels > _MAX_BYTES:
        raise ValueError(
            f"one chip covers {box[3] - box[1]:,} x {box[2] - box[0]:,} of its pixels, "
            f"{4 * n_pixels / 2**30:,.1f} GiB as float32; at most {_MAX_BYTES / 2**30:g} GiB are "
            "read for a chip, so use a coarser source or smaller chips"
        )


def _ends_at_south_pole(own: Any, box: Box) -> bool:
    height = own.shape[0]
    lat = own.affine.f + own.affine.e * height
    return bool(
        box[3] == height
        and abs(lat + 90.0) < 1e-6
        and not own.affine.d
        and parse_crs(str(own.crs)).is_geographic
    )


def _warp(
    pixels: NDArray[np.float32], own: tuple[Any, str], grid: Any, method: str, nodata: float | None
) -> NDArray[np.float32]:
    """Return pixels (n, h, w) that lie on `own` (affine map, CRS) on a grid."""
    moved = np.full((len(pixels), *grid.shape), 0 if nodata is None else nodata, dtype=np.float32)
    with SILENCE, gdal_env():
        reproject(
            pixels,
            moved,
            src_transform=own[0],
            src_crs=own[1],
            src_nodata=nodata,
            dst_transform=grid.affine,
            dst_crs=grid.crs.to_wkt(),
            dst_nodata=nodata,
            resampling=Resampling[method],
            # the edges of a grid do not show that a pole lies in its middle
            SAMPLE_GRID="YES",
        )
    return moved
