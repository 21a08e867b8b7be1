"""Which grid the chip of each site lies on, and which layers of a source reach it.

Rules, the same for every source:

1. *Grid.* A chip keeps the pixels of the layer on which its site lies where no other length of a
   pixel is asked for, or the one asked for is that of the layer: the window whose centre is nearest
   to the site, at most half a pixel off in x and in y. Otherwise it lies on a north-up grid of
   square pixels centred on the site, in the CRS of that layer if its lengths are lengths on the
   ground, else in the UTM zone of the site (UPS beyond 84° N and 80° S).
2. *Order.* Layers of one date are joined; the first valid pixel wins. First come the layers whose
   pixels coincide with those of the grid, then the others, each in the order of their `uri`.
   Layers of different dates are never joined. The layer that gives the grid is the first, by date
   and `uri`, on which the site lies.
3. *Longitudes* are taken modulo 360 degrees, so a layer may lie across the antimeridian, and the
   two ends of a global layer meet.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import shapely
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from terracausal._foundation.errors import list_some
from terracausal.imagery.geodesy import (
    LONLAT,
    Point,
    apply_affine,
    distance_m,
    is_metric,
    metres_per_unit,
    move_points,
    parse_crs,
    shift_affine,
    universal_crs,
    wrap_lon,
)
from terracausal.imagery.sources.base import Layer
from terracausal.imagery.sources.windows import endless_grid, overlaps, whole_offset

Turn = tuple[int, int]
"""Position of a layer, and how many times 360 degrees are added to its longitudes."""

_SQUARE = 0.01  # share by which the sides of a native pixel may differ
_SAME_LENGTH = 1e-6
_ALL_AROUND = 400.0  # degrees; only a grid of several turns is wider
_DEGREE_M = 111_320.0


@dataclass(frozen=True, slots=True)
class SitePlan:
    """Where the chip of one site comes from."""

    site: Hashable
    grid: Any
    """GeoBox; None where no layer reaches the site."""
    offset_m: float
    """Distance of the centre of the grid from the site."""
    dates: tuple[pd.Timestamp | None, ...]
    """In order of time."""
    parts: tuple[tuple[Turn, ...], ...]
    """For each date the layers that reach the grid, in the order in which they are joined."""


@dataclass(frozen=True, slots=True)
class Places:
    """Positions of the sites.

    Parameters
    ----------
    keys : Index of length n_sites
        Sites.
    points : ndarray of shape (n_sites, 2)
        In `crs`.
    crs : pyproj.CRS
        Of the points.
    """

    keys: pd.Index
    points: NDArray[np.float64]
    crs: Any

    def moved(self, crs: Any) -> NDArray[np.float64]:
        """Return the points in another CRS, longitudes between -180 and 180."""
        points: NDArray[np.float64] = move_points(self.points, self.crs, crs)
        if crs.is_geographic:
            points = np.column_stack([wrap_lon(points[:, 0]), points[:, 1]])
        return points


@dataclass(frozen=True, slots=True)
class ChipShape:
    """Size of every chip, and the length of its pixels; None keeps the pixels of the layer."""

    size_px: tuple[int, int]
    resolution_m: float | None


class SitePlanner:
    """Finds grid and layers for sites.

    Parameters
    ----------
    layers : sequence of Layer
        Everything that may be read.
    places : Places
        Positions of the sites.
    shape : ChipShape
        Of every chip.
    """

    def __init__(self, layers: Sequence[Layer], places: Places, shape: ChipShape) -> None:
        # what spans all longitudes has no ends
        self._layers = [
            layer
            if layer.is_everywhere or endless_grid(layer.grid) is layer.grid
            else replace(layer, grid=endless_grid(layer.grid))
            for layer in layers
        ]
        self._places = places
        self._shape = shape
        self._order = sorted(range(len(layers)), key=lambda k: layer_order(layers[k]))
        self._rank = {k: rank for rank, k in enumerate(self._order)}
        self._everywhere = [k for k in self._order if layers[k].is_everywhere]
        self._own: dict[Hashable, list[int]] = {}
        for k in self._order:
            if layers[k].site is not None:
                self._own.setdefault(layers[k].site, []).append(k)
        self._moved: dict[str, NDArray[np.float64]] = {}
        self._near = self._candidates()

    def plan(self, row: int) -> SitePlan:
        """Return the plan of the site in a row of the places."""
        site = self._places.keys[row]
        near = self._near.get(row, []) + [
            turn for k in self._own.get(site, []) for turn in self._turns_of(k, row)
        ]
        near += [(k, 0) for k in self._everywhere if self._layers[k].site in (None, site)]
        near.sort(key=lambda turn: (self._rank[turn[0]], turn[1]))
        if not near:
            return SitePlan(site, None, float("nan"), (), ())
        first = next((turn for turn in near if self._holds(turn, row)), near[0])
        grid, offset_m = self._grid(first, row)
        reached = [
            turn
            for turn in near
            if self._layers[turn[0]].is_everywhere or overlaps(self._turned(turn).grid, grid)
        ]
        if not reached:
            return SitePlan(site, None, float("nan"), (), ())
        return SitePlan(site, grid, offset_m, *self._by_date(reached, grid))

    def holds_swapped(self, row: int) -> bool:
        """Say whether a site that no layer reaches would lie on one with exchanged coordinates."""
        site = self._places.keys[row]
        candidates = self._own.get(site) or [k for k in self._order if self._layers[k].site is None]
        if any(self._layers[k].is_everywhere for k in candidates):
            return False
        lon, lat = self._in(LONLAT)[row]
        if abs(lon) > 90:
            return False
        for crs_text in {str(self._layers[k].grid.crs) for k in candidates}:
            there = move_points([(lat, lon)], LONLAT, parse_crs(crs_text))[0]
            point = (float(there[0]), float(there[1]))
            if np.isfinite(point).all() and any(
                self._layers[k].contains(point)
                for k in candidates
                if str(self._layers[k].grid.crs) == crs_text
            ):
                return True
        return False

    def _in(self, crs: Any) -> NDArray[np.float64]:
        """Return all sites in a CRS, computed once."""
        text = crs.srs
        if text not in self._moved:
            self._moved[text] = self._places.moved(crs)
        return self._moved[text]

    def _point(self, k: int, row: int) -> Point:
        """Return a site in the CRS of a layer."""
        text = str(self._layers[k].grid.crs)
        if text not in self._moved:
            self._moved[text] = self._places.moved(parse_crs(text))
        x, y = self._moved[text][row]
        return float(x), float(y)

    def _turned(self, turn: Turn) -> Layer:
        return turned(self._layers[turn[0]], turn[1])

    def _turn_numbers(self, k: int) -> tuple[int, ...]:
        grid = self._layers[k].grid
        if not self._layers[k].crs.is_geographic or grid.affine.a * grid.shape[1] > _ALL_AROUND:
            return (0,)
        return (-1, 0, 1)

    def _turns_of(self, k: int, row: int) -> list[Turn]:
        """Return the one turn of a layer that belongs to a site which brings it nearest to it."""
        if self._layers[k].is_everywhere:
            return []  # listed with the others that are
        turns = [(k, t) for t in self._turn_numbers(k)]
        held = [turn for turn in turns if self._holds(turn, row)]
        # on both sides of the antimeridian only where the site is near it
        return turns if len(turns) > 1 and abs(self._point(k, row)[0]) > 170 else held or [(k, 0)]

    def _holds(self, turn: Turn, row: int) -> bool:
        layer = self._layers[turn[0]]
        if layer.is_everywhere:
            return True
        x, y = self._point(turn[0], row)
        return bool(np.isfinite([x, y]).all()) and layer.contains((x - 360.0 * turn[1], y))

    def _candidates(self) -> dict[int, list[Turn]]:
        """Return for each row the layers that may reach its chip, a superset."""
        found: dict[int, list[Turn]] = {}
        groups: dict[str, list[int]] = {}
        for k, layer in enumerate(self._layers):
            if layer.site is None and not layer.is_everywhere:
                groups.setdefault(str(layer.grid.crs), []).append(k)
        for text, members in groups.items():
            crs = parse_crs(text)
            boxes = [_reach(self._layers[k].grid, crs, self._shape) for k in members]
            tree = shapely.STRtree(shapely.box(*np.array(boxes).T))
            points = self._moved.setdefault(text, self._places.moved(crs))
            finite = np.flatnonzero(np.isfinite(points).all(axis=1))
            for t in (-1, 0, 1) if crs.is_geographic else (0,):
                here = shapely.points(points[finite] - [360.0 * t, 0.0])
                rows, hits = tree.query(here, predicate="intersects")
                for row, hit in zip(finite[rows].tolist(), hits.tolist(), strict=True):
                    if t in self._turn_numbers(members[hit]):
                        found.setdefault(row, []).append((members[hit], t))
        return found

    def _grid(self, first: Turn, row: int) -> tuple[Any, float]:
        """Return the grid of a chip, and how far its centre is from the site."""
        layer, resolution_m = self._layers[first[0]], self._shape.resolution_m
        site = self._places.keys[row]
        if layer.is_everywhere:
            lon, lat = self._in(LONLAT)[row]
            crs = universal_crs(lon, lat)
        else:
            crs = layer.crs
            if not np.isfinite(self._point(first[0], row)).all():
                raise ValueError(
                    f"Site {list_some([site])} cannot be expressed in {crs.to_string()}, the CRS "
                    f"of {layer.uri}. Leave it out, or use a source that reaches it."
                )
            if resolution_m is None or _has_length(layer.grid, crs, resolution_m):
                point = self._point(first[0], row)
                _refuse_crooked(layer, crs)
                grid = native_grid(self._turned(first).grid, point, self._shape.size_px)
                return grid, _off_centre(grid, point, crs)
            if not is_metric(crs):
                lon, lat = self._in(LONLAT)[row]
                crs = universal_crs(lon, lat)
        if resolution_m is None:
            raise ValueError(
                f"`resolution_m` must be given for {layer.uri}, which has no pixels of its own; "
                "got None. Pass the length of a pixel in metres."
            )
        x, y = self._in(crs)[row]
        grid = metric_grid(crs, (float(x), float(y)), self._shape.size_px, resolution_m)
        return grid, _off_centre(grid, (float(x), float(y)), crs)

    def _by_date(
        self, reached: list[Turn], grid: Any
    ) -> tuple[tuple[pd.Timestamp | None, ...], tuple[tuple[Turn, ...], ...]]:
        """Return the dates in order of time, and for each its layers in the order of joining."""
        groups: dict[pd.Timestamp | None, list[Turn]] = {}
        for turn in reached:
            groups.setdefault(self._layers[turn[0]].date, []).append(turn)
        dates = sorted(groups, key=lambda date: (date is not None, date))
        parts = []
        for date in dates:
            # one layer needs no order
            if len(groups[date]) > 1:
                groups[date].sort(key=lambda turn: self._joining_order(turn, grid))
            parts.append(tuple(groups[date]))
        return tuple(dates), tuple(parts)

    def _joining_order(self, turn: Turn, grid: Any) -> tuple[bool, int, int]:
        layer = self._turned(turn)
        resampled = not layer.is_everywhere and whole_offset(layer.grid, grid) is None
        return resampled, self._rank[turn[0]], turn[1]


def turned(layer: Layer, turn: int) -> Layer:
    """Return a layer with 360 degrees added to its longitudes some times."""
    if not turn:
        return layer
    own, affine = layer.grid, layer.grid.affine
    moved = Affine(affine.a, affine.b, affine.c + 360.0 * turn, affine.d, affine.e, affine.f)
    return replace(layer, grid=GeoBox(own.shape, moved, own.crs))


def native_grid(own: Any, point: Point, size_px: tuple[int, int]) -> Any:
    """Return the window of a layer's own pixels whose centre is nearest to a point.

    Parameters
    ----------
    own : GeoBox
        Grid of the layer.
    point : (float, float)
        In the CRS of the layer.
    size_px : (int, int)
        Height and width.

    Returns
    -------
    GeoBox
        May reach beyond the layer.
    """
    affine = own.affine
    if affine.b == 0 and affine.d == 0:
        column, row = (point[0] - affine.c) / affine.a, (point[1] - affine.f) / affine.e
    else:
        column, row = apply_affine(~affine, *point)
    height, width = size_px
    # rounding first: a site in the middle of a pixel must not be moved by the last digit
    left, top = (
        int(np.floor(round(place - length / 2 + 0.5, 6)))
        for place, length in ((column, width), (row, height))
    )
    return GeoBox(size_px, shift_affine(own.affine, left, top), own.crs)


def metric_grid(crs: Any, point: Point, size_px: tuple[int, int], resolution_m: float) -> Any:
    """Return a north-up grid of square pixels centred on a point in the metric `crs`."""
    step = resolution_m / metres_per_unit(crs)
    height, width = size_px
    left, top = point[0] - step * width / 2, point[1] + step * height / 2
    return GeoBox(size_px, Affine(step, 0, left, 0, -step, top), crs)


def pixel_sides_m(grid: Any, column: float, row: float) -> tuple[float, float]:
    """Return the width and the height on the ground of the pixel at a place of a grid."""
    crs = parse_crs(str(grid.crs))
    here = apply_affine(grid.affine, column, row)
    across = apply_affine(grid.affine, column + 1, row)
    down = apply_affine(grid.affine, column, row + 1)
    return distance_m(here, across, crs), distance_m(here, down, crs)


def pixel_length_m(grid: Any) -> float:
    """Return the side of a square as large as the pixel in the middle of a grid, in metres."""
    crs, affine = parse_crs(str(grid.crs)), grid.affine
    if is_metric(crs):
        area = abs(affine.a * affine.e - affine.b * affine.d)
        return float(np.sqrt(area)) * metres_per_unit(crs)
    height, width = grid.shape
    return float(np.sqrt(np.prod(pixel_sides_m(grid, width / 2, height / 2))))


def layer_order(layer: Layer) -> tuple[Any, ...]:
    """Return what layers are sorted by: date, address, bands."""
    return (layer.date is not None, layer.date or 0, layer.uri, layer.numbers)


def _reach(own: Any, crs: Any, shape: ChipShape) -> tuple[float, float, float, float]:
    """Return the bounds of a layer, widened by more than half a chip, in its CRS."""
    height, width = own.shape
    corners = [
        apply_affine(own.affine, column, row) for column in (0, width) for row in (0, height)
    ]
    xs, ys = np.array(corners).T
    places = ((width / 2, 0), (width / 2, height / 2), (width / 2, height - 1))
    sides = np.array([pixel_sides_m(own, *place) for place in places])
    sides = sides[np.isfinite(sides).all(axis=1)]
    step = np.abs([own.affine.a, own.affine.e]) + np.abs([own.affine.b, own.affine.d])
    if not len(sides):
        return float(xs.min()), float(ys.min()), float(xs.max()), float(ys.max())
    length_m = shape.resolution_m or float(np.sqrt(sides.prod(axis=1)).max())
    # half the diagonal, and some more for layers whose pixels are a little shorter
    half_m = 0.8 * max(shape.size_px) * length_m + 2 * float(sides.max())
    with np.errstate(divide="ignore"):
        margin = half_m / sides.min(axis=0) * step
    if crs.is_geographic:
        margin = np.minimum(np.maximum(margin, half_m / _DEGREE_M), (360.0, 90.0))
    return (
        float(xs.min() - margin[0]),
        float(ys.min() - margin[1]),
        float(xs.max() + margin[0]),
        float(ys.max() + margin[1]),
    )


def _has_length(own: Any, crs: Any, resolution_m: float) -> bool:
    """Say whether the pixels of a layer are north-up squares of this length on the ground."""
    if not is_metric(crs):
        return False
    step = resolution_m / metres_per_unit(crs)
    affine = own.affine
    slack = _SAME_LENGTH * step
    return bool(
        abs(affine.a - step) < slack
        and abs(affine.e + step) < slack
        and abs(affine.b) < slack
        and abs(affine.d) < slack
    )


def _refuse_crooked(layer: Layer, crs: Any) -> None:
    """Refuse pixels that would make a chip rotated or stretched without a word."""
    affine = layer.grid.affine
    step = max(abs(affine.a), abs(affine.e), abs(affine.b), abs(affine.d))
    if max(abs(affine.b), abs(affine.d)) > 1e-6 * step:
        angle = float(np.degrees(np.arctan2(affine.d, affine.a)))
        raise ValueError(
            f"Without `resolution_m` the pixels of a file must lie north-up; those of {layer.uri} "
            f"are rotated by {angle:.3g} degrees. Pass the `resolution_m` to resample to."
        )
    if crs.is_projected and abs(abs(affine.a / affine.e) - 1) > _SQUARE:
        raise ValueError(
            f"Without `resolution_m` the pixels of a file must be square; those of {layer.uri} "
            f"measure {abs(affine.a):g} x {abs(affine.e):g} {crs.axis_info[0].unit_name}s. Pass "
            "the `resolution_m` to resample to."
        )


def _off_centre(grid: Any, point: Point, crs: Any) -> float:
    height, width = grid.shape
    return distance_m(point, apply_affine(grid.affine, width / 2, height / 2), crs)
