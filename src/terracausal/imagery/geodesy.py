"""Positions and lengths on the ground, in any coordinate reference system."""

from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
import pyproj
from affine import Affine
from odc.geo.crs import CRS as OdcCRS

Point: TypeAlias = tuple[float, float]

LONLAT = pyproj.CRS.from_epsg(4326)
_ELLIPSOID = pyproj.Geod(ellps="WGS84")


@lru_cache(maxsize=256)
def parse_crs(text: str) -> Any:
    """Return the coordinate reference system that a text describes."""
    return pyproj.CRS.from_user_input(text)


@lru_cache(maxsize=256)
def _transformer(source: Any, target: Any) -> Any:
    return pyproj.Transformer.from_crs(source, target, always_xy=True)


def move_points(points: Any, source: Any, target: Any) -> Any:
    """Return points (n, 2) given in the `source` CRS in the `target` CRS, infinite where undefined.

    Examples
    --------
    >>> move_points([[33.0, 0.0]], LONLAT, parse_crs("EPSG:32636")).round().tolist()
    [[500000.0, 0.0]]
    """
    x, y = np.asarray(points, dtype=np.float64).T
    if source == target:
        return np.column_stack([x, y])
    return np.column_stack(_transformer(source, target).transform(x, y))


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


@lru_cache(maxsize=256)
def is_metric(crs: Any) -> bool:
    """Say whether lengths in the plane of `crs` are lengths on the ground.

    Degrees are not, nor is Mercator, where a metre at 60 degrees is half a metre.
    """
    if not crs.is_projected:
        return False
    operation = crs.coordinate_operation
    method = "" if operation is None else operation.method_name
    return not method.startswith(("Popular Visualisation", "Mercator"))


@lru_cache(maxsize=256)
def metres_per_unit(crs: Any) -> float:
    """Return the length of one unit of a projected `crs` in metres."""
    return float(crs.axis_info[0].unit_conversion_factor)


def distance_m(first: Point, second: Point, crs: Any) -> float:
    """Return the distance of two points in metres.

    Examples
    --------
    >>> distance_m((0.0, 3.0), (4.0, 0.0), parse_crs("EPSG:32636"))
    5.0
    """
    if is_metric(crs):
        return float(np.hypot(*np.subtract(first, second))) * metres_per_unit(crs)
    (lon1, lat1), (lon2, lat2) = move_points([first, second], crs, LONLAT)
    return float(_ELLIPSOID.inv(lon1, lat1, lon2, lat2)[2])


def metric_crs(point: Point, crs: Any) -> Any:
    """Return `crs` where its lengths are lengths on the ground, else the UTM zone of the point."""
    if is_metric(crs):
        return crs
    lon, lat = move_point(point, crs, LONLAT)
    return parse_crs(str(OdcCRS.utm(lon, lat)))
