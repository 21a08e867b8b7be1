"""Where the sites are: every accepted description of them becomes one table of points."""

import warnings
from collections.abc import Sequence
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pyproj
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from terracausal._foundation.checks import check_unique
from terracausal._foundation.errors import list_some

LONLAT = "EPSG:4326"
_ELLIPSOID = pyproj.Geod(ellps="WGS84")
_EARTH_RADIUS_M = 6_356_752.0  # the polar one, so that no pair is overlooked


def site_table(sites: gpd.GeoDataFrame | pd.DataFrame | pd.Index | Sequence[Any]) -> Any:
    """Return the sites as a GeoDataFrame of points indexed by site key.

    Parameters
    ----------
    sites : GeoDataFrame, DataFrame, Index or sequence of keys
        A GeoDataFrame of points or a DataFrame with the columns `lon` and `lat` in degrees, either
        indexed by site key or with a column `site`. Plain keys give a table without geography. The
        row numbers of a table that has neither become the keys, with a warning.

    Returns
    -------
    GeoDataFrame
        Indexed by site key (index name "site"). Without geography every geometry is None and the
        table has no coordinate reference system.

    Raises
    ------
    AlignmentError
        If a site key stands twice.
    ValueError
        If coordinates are missing, are not points, or look swapped.

    Examples
    --------
    >>> table = site_table(pd.DataFrame({"site": ["a"], "lon": [30.8], "lat": [3.1]}))
    >>> table.geometry["a"].x, table.crs.to_epsg()
    (30.8, 4326)
    """
    if not isinstance(sites, pd.DataFrame):
        keys = _checked_keys(pd.Index(sites))
        return gpd.GeoDataFrame(index=keys, geometry=[None] * len(keys))
    table = sites.set_index("site") if "site" in sites.columns else sites.copy()
    table.index = _checked_keys(table.index)
    if "site" not in sites.columns:
        _warn_of_row_numbers(sites)
    if not isinstance(table, gpd.GeoDataFrame):
        table = _points_from_lonlat(table)
    _check_points(table)
    return table


def has_geography(table: gpd.GeoDataFrame) -> bool:
    """Say whether the sites of a table made by `site_table` have positions."""
    return not bool(table.geometry.isna().all())


def overlapping_pairs(table: gpd.GeoDataFrame, width_m: float, height_m: float) -> pd.DataFrame:
    """Return the pairs of sites so close to each other that their chips overlap.

    Parameters
    ----------
    table : GeoDataFrame
        Points indexed by site.
    width_m, height_m : float
        Extent of a chip from west to east and from south to north, in metres.

    Returns
    -------
    DataFrame
        One row per pair: `site`, `other`, `distance_m`, `shared` (the share of a chip that both
        cover) and `group`, the first site of all those that are linked by overlapping chips.

    Examples
    --------
    >>> sites = pd.DataFrame({"lon": [33.0, 33.001, 34.0], "lat": 0.0}, index=list("abc"))
    >>> pairs = overlapping_pairs(site_table(sites), 640.0, 640.0)
    >>> pairs[["site", "other", "group"]].to_numpy().tolist(), int(pairs["distance_m"][0])
    ([['a', 'b', 'a']], 111)
    """
    degrees = table.geometry.to_crs(LONLAT)
    lon, lat = degrees.x.to_numpy(), degrees.y.to_numpy()
    # straight through the earth, and a little more for its flattening
    reach = 1.01 * float(np.hypot(width_m, height_m)) / _EARTH_RADIUS_M
    tree = cKDTree(_on_sphere(lon, lat))
    first, second = tree.query_pairs(reach, output_type="ndarray").T
    azimuth, _, distance = _ELLIPSOID.inv(lon[first], lat[first], lon[second], lat[second])
    east = np.abs(distance * np.sin(np.radians(azimuth)))
    north = np.abs(distance * np.cos(np.radians(azimuth)))
    shared = np.clip(1 - east / width_m, 0, 1) * np.clip(1 - north / height_m, 0, 1)
    kept = shared > 0
    first, second = first[kept], second[kept]
    order = np.lexsort((second, first))
    return pd.DataFrame(
        {
            "site": table.index[first[order]],
            "other": table.index[second[order]],
            "distance_m": distance[kept][order],
            "shared": shared[kept][order],
            "group": table.index[_linked(first, second, len(table))[first[order]]],
        }
    )


def _on_sphere(lon: Any, lat: Any) -> Any:
    east, north = np.radians(lon), np.radians(lat)
    return np.column_stack(
        [np.cos(north) * np.cos(east), np.cos(north) * np.sin(east), np.sin(north)]
    )


def _linked(first: Any, second: Any, n_sites: int) -> Any:
    """Return for each row the first row of all those that pairs link to it."""
    links = coo_array((np.ones(len(first)), (first, second)), shape=(n_sites, n_sites))
    n_groups, group = connected_components(links, directed=False)
    leader = np.full(n_groups, n_sites)
    np.minimum.at(leader, group, np.arange(n_sites))
    return leader[group]


def _warn_of_row_numbers(sites: pd.DataFrame) -> None:
    """Tell that later joins are by row numbers, unless the index has been given a name."""
    index = sites.index
    if isinstance(index, pd.RangeIndex) and index.name is None and index.start == 0:
        names = [name for name in sites.columns if name not in ("lon", "lat", "geometry")]
        warnings.warn(
            "`sites` should have a column 'site' or be indexed by site key; found neither, so the "
            f"numbers of its {len(sites):,} rows become the keys that embeddings and studies "
            f"are joined by. Its other columns: {list_some(names) or 'none'}. Pass "
            "`sites.set_index(...)` with the column of keys, or `sites.rename_axis('site')` if "
            "row numbers are the keys.",
            stacklevel=4,  # the caller of read_chips or of Chips.from_arrays
        )


def _checked_keys(keys: pd.Index) -> pd.Index:
    if isinstance(keys, pd.MultiIndex):
        raise TypeError(
            f"Site keys must be single values; found {keys.nlevels} index levels "
            f"{list_some(keys.names)}. Join them into one key."
        )
    if not len(keys):
        raise ValueError("`sites` must name at least one site; it is empty.")
    absent = int(np.count_nonzero(keys.isna()))
    if absent:
        raise ValueError(
            f"Site keys must not be missing; {absent} of {len(keys)} are. Give each site a key."
        )
    return check_unique("Site keys", keys).rename("site")


def _points_from_lonlat(table: pd.DataFrame) -> Any:
    absent = [name for name in ("lon", "lat") if name not in table.columns]
    if absent:
        raise ValueError(
            "A table of sites needs the columns 'lon' and 'lat' in degrees; "
            f"{list_some(absent)} not found among {list_some(table.columns)}. Rename the columns, "
            "or pass a GeoDataFrame of points."
        )
    lon = table["lon"].to_numpy(dtype=np.float64, na_value=np.nan)
    lat = table["lat"].to_numpy(dtype=np.float64, na_value=np.nan)
    _name_missing(table.index[~(np.isfinite(lon) & np.isfinite(lat))], len(table))
    return gpd.GeoDataFrame(table, geometry=gpd.points_from_xy(lon, lat), crs=LONLAT)


def _check_points(table: gpd.GeoDataFrame) -> None:
    geometry = table.geometry
    empty = geometry.isna() | geometry.is_empty
    _name_missing(table.index[empty.to_numpy()], len(table))
    kinds = sorted(set(geometry.geom_type) - {"Point"})
    if kinds:
        raise ValueError(
            f"Sites must be points; found {list_some(kinds)}. Take a point of each shape first, "
            "for example with `sites.representative_point()`."
        )
    x, y = geometry.x.to_numpy(), geometry.y.to_numpy()
    _name_missing(table.index[~(np.isfinite(x) & np.isfinite(y))], len(table))
    if table.crs is not None and table.crs.is_geographic:
        _check_degrees(table.index, x, y)


def _check_degrees(keys: pd.Index, lon: Any, lat: Any) -> None:
    beyond = np.abs(lat) > 90
    if beyond.any():
        first = int(np.flatnonzero(beyond)[0])
        raise ValueError(
            f"Latitudes must lie between -90 and 90; {int(beyond.sum())} of {len(keys)} do not, "
            f"first site {list_some(keys[[first]])} with lon {lon[first]:g}, lat {lat[first]:g}: "
            "lon/lat look swapped. Exchange the two columns."
        )
    beyond = np.abs(lon) > 360
    if beyond.any():
        first = int(np.flatnonzero(beyond)[0])
        raise ValueError(
            f"Longitudes must be degrees; {int(beyond.sum())} of {len(keys)} lie beyond 360, "
            f"first site {list_some(keys[[first]])} with lon {lon[first]:g}. If they are metres, "
            "pass a GeoDataFrame with its coordinate reference system."
        )


def _name_missing(keys: pd.Index, n_sites: int) -> None:
    if len(keys):
        raise ValueError(
            f"Every site needs finite coordinates; {len(keys)} of {n_sites} have none: "
            f"{list_some(keys)}. Fill in or drop these sites."
        )
