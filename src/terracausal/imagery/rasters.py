"""Chips from GeoTIFFs: which grid, which window, which numbers."""

import warnings
from collections.abc import Hashable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.enums import Resampling
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.warp import reproject
from rasterio.windows import Window

from terracausal._foundation.errors import ChipReadError, list_some
from terracausal.imagery.geodesy import (
    Point,
    apply_affine,
    distance_m,
    metres_per_unit,
    metric_crs,
    move_point,
    move_points,
    parse_crs,
    shift_affine,
)
from terracausal.imagery.readers import to_float32


@dataclass(frozen=True, slots=True)
class Header:
    """What a GeoTIFF says about itself."""

    crs: Any
    transform: Affine
    size_px: tuple[int, int]
    descriptions: tuple[str | None, ...]

    def contains(self, point: Point) -> bool:
        """Say whether a point in the CRS of the file lies on the file."""
        column, row = apply_affine(~self.transform, *point)
        height, width = self.size_px
        return bool(0 <= column <= width and 0 <= row <= height)


@dataclass(frozen=True, slots=True)
class Look:
    """One chip and where it lies."""

    pixels: NDArray[np.float32]
    """Shape (n_bands, height, width)."""
    grid: Any
    offset_m: float
    overlaps: bool


@contextmanager
def open_raster(site: Hashable, path: Path) -> Iterator[Any]:
    """Open a GeoTIFF; whatever goes wrong inside names the site and the file."""
    try:
        with warnings.catch_warnings():
            # a file without georeference is refused by its missing CRS, in our words
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.open(path) as raster:
                yield raster
    except ChipReadError:
        raise
    except (RasterioError, OSError, ValueError) as error:
        reason = str(error.__cause__ or error).strip().rstrip(".")
        raise ChipReadError(
            f"Site {list_some([site])}: {path} could not be read ({reason}). Replace the file, or "
            "leave the site out."
        ) from error


def read_header(raster: Any, site: Hashable, path: Path) -> Header:
    """Return the header of an open GeoTIFF, or refuse a file without CRS."""
    if raster.crs is None:
        raise ChipReadError(
            f"Site {list_some([site])}: {path} has no coordinate reference system, so the site "
            "cannot be found on it. Write it into the file, for example with "
            f"`rio edit-info --crs EPSG:<code> {path.name}`."
        )
    return Header(
        parse_crs(raster.crs.to_string()),
        raster.transform,
        (int(raster.height), int(raster.width)),
        tuple(raster.descriptions),
    )


def native_grid(header: Header, point: Point, size_px: tuple[int, int]) -> Any:
    """Return the window of the file's own pixels whose centre is nearest to a point.

    Parameters
    ----------
    header : Header
        Of the file.
    point : (float, float)
        In the CRS of the file.
    size_px : (int, int)
        Height and width.

    Returns
    -------
    GeoBox
        May reach beyond the file.
    """
    column, row = apply_affine(~header.transform, *point)
    height, width = size_px
    # rounding first: a site in the middle of a pixel must not be moved by the last digit
    left, top = (
        int(np.floor(round(place - length / 2 + 0.5, 6)))
        for place, length in ((column, width), (row, height))
    )
    return GeoBox(size_px, shift_affine(header.transform, left, top), header.crs)


def metric_grid(crs: Any, point: Point, size_px: tuple[int, int], resolution_m: float) -> Any:
    """Return a north-up grid of square pixels centred on a point in the metric `crs`."""
    step = resolution_m / metres_per_unit(crs)
    height, width = size_px
    left, top = point[0] - step * width / 2, point[1] + step * height / 2
    return GeoBox(size_px, Affine(step, 0, left, 0, -step, top), crs)


def read_native(raster: Any, grid: Any, indexes: tuple[int, ...]) -> NDArray[np.float32]:
    """Return the file's own pixels on a grid made by `native_grid`, (n_bands, height, width)."""
    left, top = (
        round(place) for place in apply_affine(~raster.transform, grid.affine.c, grid.affine.f)
    )
    height, width = grid.shape
    return _read_window(raster, indexes, (left, top, left + width, top + height))


def read_warped(
    raster: Any, header: Header, grid: Any, indexes: tuple[int, ...]
) -> NDArray[np.float32]:
    """Return the file resampled to a grid (bilinear), (n_bands, height, width).

    A pixel is the weighted mean of the valid pixels under the kernel, and missing where they have
    less than half of its weight.
    """
    left, top, right, bottom = _footprint(header, grid)
    # bilinear needs a neighbour, or as many pixels as fall into one of the target
    margin_x, margin_y = 2 + (right - left) / grid.shape[1], 2 + (bottom - top) / grid.shape[0]
    box = (
        max(0, int(np.floor(left - margin_x))),
        max(0, int(np.floor(top - margin_y))),
        min(header.size_px[1], int(np.ceil(right + margin_x))),
        min(header.size_px[0], int(np.ceil(bottom + margin_y))),
    )
    pixels = _read_window(raster, indexes, box)
    valid = ~np.isnan(pixels)
    # values and weights are moved alike: the warper itself would spread NaN as far as the kernel
    both = np.concatenate([np.where(valid, pixels, 0), valid]).astype(np.float32)
    moved = np.zeros((2 * len(indexes), *grid.shape), dtype=np.float32)
    reproject(
        both,
        moved,
        src_transform=shift_affine(header.transform, box[0], box[1]),
        src_crs=raster.crs,
        dst_transform=grid.affine,
        dst_crs=grid.crs.to_wkt(),
        resampling=Resampling.bilinear,
    )
    total, share = np.split(moved, 2)
    enough = share >= 0.5
    return np.where(enough, total / np.where(enough, share, 1), np.float32(np.nan))


def overlaps(header: Header, grid: Any) -> bool:
    """Say whether any part of a grid lies on the file."""
    left, top, right, bottom = _footprint(header, grid)
    height, width = header.size_px
    # a millionth of a pixel is rounding
    return bool(left < width - 1e-6 and right > 1e-6 and top < height - 1e-6 and bottom > 1e-6)


class FileReader:
    """Chips read from one GeoTIFF per site when they are asked for.

    Parameters
    ----------
    paths : mapping of site to Path
        Files.
    points : mapping of site to (float, float)
        Positions in `crs`.
    crs : pyproj.CRS
        Coordinate reference system of the positions.
    indexes : mapping of site to tuple of int
        Numbers of the bands to read, counted from 1.
    size_px : (int, int)
        Height and width of every chip.
    resolution_m : float, default=None
        Length of a pixel to resample to; None keeps the pixels of each file.
    """

    def __init__(
        self,
        paths: Mapping[Hashable, Path],
        points: Mapping[Hashable, Point],
        crs: Any,
        indexes: Mapping[Hashable, tuple[int, ...]],
        size_px: tuple[int, int],
        resolution_m: float | None = None,
    ) -> None:
        self._paths = paths
        self._points = points
        self._crs = crs
        self._indexes = indexes
        self._size_px = size_px
        self._resolution_m = resolution_m

    def read(self, site: Hashable) -> NDArray[np.float32]:
        """Return a new array of shape (1, n_bands, height, width)."""
        return self.look(site).pixels[None]

    def look(self, site: Hashable) -> Look:
        """Read a chip together with where it lies."""
        path, indexes = self._paths[site], self._indexes[site]
        with open_raster(site, path) as raster:
            header = read_header(raster, site, path)
            grid, offset_m = self._grid(header, self._points[site])
            found = overlaps(header, grid)
            if not found:
                pixels = np.full((len(indexes), *self._size_px), np.nan, dtype=np.float32)
            elif self._resolution_m is None:
                pixels = read_native(raster, grid, indexes)
            else:
                pixels = read_warped(raster, header, grid, indexes)
        return Look(pixels, grid, offset_m, found)

    def _grid(self, header: Header, point: Point) -> tuple[Any, float]:
        """Return the grid of the chip, and how far its centre is from the site."""
        place, crs = move_point(point, self._crs, header.crs), header.crs
        if not np.isfinite(place).all():
            raise ValueError(f"the site cannot be expressed in {crs.to_string()}")
        if self._resolution_m is None:
            grid = native_grid(header, place, self._size_px)
        else:
            crs = metric_crs(place, header.crs)
            place = move_point(point, self._crs, crs)
            grid = metric_grid(crs, place, self._size_px, self._resolution_m)
        height, width = self._size_px
        centre = apply_affine(grid.affine, width / 2, height / 2)
        return grid, distance_m(place, centre, crs)


def _read_window(
    raster: Any, indexes: tuple[int, ...], box: tuple[int, int, int, int]
) -> NDArray[np.float32]:
    """Return the pixels of columns and rows (left, top, right, bottom), NaN beyond the file."""
    left, top, right, bottom = box
    pixels = np.full((len(indexes), bottom - top, right - left), np.nan, dtype=np.float32)
    x0, x1 = max(left, 0), min(right, raster.width)
    y0, y1 = max(top, 0), min(bottom, raster.height)
    if x0 < x1 and y0 < y1:
        window = Window(x0, y0, x1 - x0, y1 - y0)
        block = raster.read(list(indexes), window=window, masked=True)
        pixels[:, y0 - top : y1 - top, x0 - left : x1 - left] = to_float32(block)
    return pixels


def _footprint(header: Header, grid: Any) -> tuple[float, float, float, float]:
    """Return the columns and rows of the file that a grid covers: left, top, right, bottom."""
    height, width = grid.shape
    along = np.linspace(0, 1, 9)
    edge = np.concatenate(
        [
            np.column_stack(pair)
            for end in (0, 1)
            for pair in ((along, np.full(9, end)), (np.full(9, end), along))
        ]
    ) * (width, height)
    points = np.column_stack(apply_affine(grid.affine, *edge.T))
    moved = move_points(points, parse_crs(str(grid.crs)), header.crs)
    columns, rows = apply_affine(~header.transform, *moved.T)
    return float(columns.min()), float(rows.min()), float(columns.max()), float(rows.max())
