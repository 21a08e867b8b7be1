"""Positions and lengths on the ground, in any coordinate reference system."""

import math
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
import pyproj
from affine import Affine

Point: TypeAlias = tuple[float, float]

LONLAT = pyproj.CRS.from_epsg(4326)
_ELLIPSOID = pyproj.Geod(ellps="WGS84")
_STRETCHED = (
    "Popular Visualisation",
    "Mercator",
    "Equidistant Cylindrical",
    "Equirectangular",
    "Sinusoidal",
    "Interrupted Goode",
    "Mollweide",
    "Robinson",
    "Lambert Cylindrical",
)
_UTM_LIMITS = (-80.0, 84.0)  # beyond them the universal grid is polar stereographic


@lru_cache(maxsize=256)
def parse_crs(text: str) -> Any:
    """Return the coordinate reference system that a text describes."""
    return pyproj.CRS.from_user_input(text)


@lru_cache(maxsize=256)
def _transformer(source: str, target: str) -> Any:
    # by text, because the hash of a CRS object costs more than a transformation
    return pyproj.Transformer.from_crs(parse_crs(source), parse_crs(target), always_xy=True)


def move_points(points: Any, source: Any, target: Any) -> Any:
    """Return points (n, 2) given in the `source` CRS in the `target` CRS, infinite where undefined.

    Examples
    --------
    >>> move_points([[33.0, 0.0]], LONLAT, parse_crs("EPSG:32636")).round().tolist()
    [[500000.0, 0.0]]
    """
    x, y = np.asarray(points, dtype=np.float64).T
    if same_crs(source.srs, target.srs):
        return np.column_stack([x, y])
    return np.column_stack(_transformer(source.srs, target.srs).transform(x, y))


def move_point(point: Point, source: Any, target: Any) -> Point:
    """Return one point given in the `source` CRS in the `target` CRS."""
    x, y = move_points([point], source, target)[0]
    return float(x), float(y)


def apply_affine(affine: Affine, x: Any, y: Any) -> tuple[Any, Any]:
    """Return what an affine map makes of x and y, numbers or arrays.

    Written out because the operators of `affine` changed between its versions 2 and 3.
    """
    return affine.a * x + affine.b * y + affine.c, affine.d * x + affine.e * y + affine.f


def shift_affine(affine: Affine, column: float, row: float) -> Affine:
    """Return the map of pixels counted from another first column and row."""
    x, y = apply_affine(affine, column, row)
    return Affine(affine.a, affine.b, x, affine.d, affine.e, y)


def is_metric(crs: Any) -> bool:
    """Say whether lengths in the plane of `crs` are lengths on the ground.

    Degrees are not, nor is Mercator, where a metre at 60 degrees is half a metre, nor are other
    maps of the whole world.
    """
    return _is_metric(crs.srs)


@lru_cache(maxsize=256)
def _is_metric(text: str) -> bool:
    crs = parse_crs(text)
    if not crs.is_projected:
        return False
    operation = crs.coordinate_operation
    method = "" if operation is None else operation.method_name
    return not method.startswith(_STRETCHED)


def metres_per_unit(crs: Any) -> float:
    """Return the length of one unit of a projected `crs` in metres."""
    return _metres_per_unit(crs.srs)


@lru_cache(maxsize=256)
def _metres_per_unit(text: str) -> float:
    return float(parse_crs(text).axis_info[0].unit_conversion_factor)


def distance_m(first: Point, second: Point, crs: Any) -> float:
    """Return the distance of two points in metres.

    Examples
    --------
    >>> distance_m((0.0, 3.0), (4.0, 0.0), parse_crs("EPSG:32636"))
    5.0
    """
    if is_metric(crs):
        return math.hypot(first[0] - second[0], first[1] - second[1]) * metres_per_unit(crs)
    (lon1, lat1), (lon2, lat2) = move_points([first, second], crs, LONLAT)
    return float(_ELLIPSOID.inv(lon1, lat1, lon2, lat2)[2])


def wrap_lon(lon: Any, centre: Any = 0.0) -> Any:
    """Return longitudes within 180 degrees of a centre.

    Examples
    --------
    >>> float(wrap_lon(181.0)), float(wrap_lon(-179.0, centre=179.0))
    (-179.0, 181.0)
    """
    return centre + (lon - centre + 180.0) % 360.0 - 180.0


def universal_crs(lon: float, lat: float) -> Any:
    """Return the UTM zone of a place, or the polar stereographic grid (UPS) beyond the zones.

    Examples
    --------
    >>> [universal_crs(*place).to_epsg() for place in ((33, 1), (-180, -1), (0, 89), (0, -89))]
    [32636, 32701, 32661, 32761]
    """
    south, north = _UTM_LIMITS
    if lat > north or lat < south:
        return parse_crs("EPSG:32661" if lat > 0 else "EPSG:32761")
    zone = int((float(wrap_lon(lon)) + 180.0) // 6.0) + 1
    return parse_crs(f"EPSG:{(32600 if lat >= 0 else 32700) + min(zone, 60)}")


def metric_crs(point: Point, crs: Any) -> Any:
    """Return `crs` where its lengths are lengths on the ground, else the UTM zone of the point."""
    if is_metric(crs):
        return crs
    lon, lat = move_point(point, crs, LONLAT)
    return universal_crs(lon, lat)


@lru_cache(maxsize=1024)
def same_crs(first: str, second: str) -> bool:
    """Say whether two texts describe the same coordinate reference system."""
    return first == second or bool(parse_crs(first) == parse_crs(second))
