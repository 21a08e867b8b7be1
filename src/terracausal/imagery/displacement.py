"""Where displaced sites may really be: plausible true centres of coordinates moved for privacy.

Demographic and Health Surveys publish each cluster at a random place near the true one. The angle
is uniform and so is the *distance* (not the area), up to 2 km for urban clusters and 5 km for
rural ones; 1 % of the rural clusters are moved by up to 10 km [1]_.

    angle    ~ Uniform(0°, 360°)
    limit    = 2 km if urban, else 10 km with probability 0.01, else 5 km
    distance ~ Uniform(0, limit)
    published = true + (angle, distance)

Under a prior for the true place that is flat over these few kilometres, the posterior of
(true − published) is the same kernel mirrored at its centre, hence, being symmetric, the same
kernel: true centres are drawn by displacing the published place once more.

Deviation: the surveys redraw a displacement that would leave the country, region or (in surveys
since 2009) district of the cluster; the draws here do not know these borders.

.. [1] Burgert, C. R., Colston, J., Roy, T. & Zachary, B. (2013). Geographic displacement procedure
   and georeferenced data release policy for the Demographic and Health Surveys. DHS Spatial
   Analysis Reports 7. ICF International.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import geopandas as gpd
import numpy as np
import pandas as pd
import pyproj
from numpy.typing import NDArray

from terracausal._foundation.checks import check_count, check_unique
from terracausal._foundation.errors import AlignmentError, RoleError, list_some
from terracausal._foundation.randomness import RandomState, canonical_order, random_generator
from terracausal.imagery.geodesy import LONLAT, move_points, parse_crs
from terracausal.imagery.places import has_geography, site_table

_ELLIPSOID = pyproj.Geod(ellps="WGS84")
_WORDS = {"u": True, "urban": True, "r": False, "rural": False}
_ADDED = ("parent_site", "draw", "displaced_m")


@dataclass(frozen=True, slots=True)
class DisplacementRule:
    """How far published coordinates may lie from the true ones.

    The distance is uniform between 0 and a limit, the angle uniform.

    Parameters
    ----------
    urban_m : float, default=2_000.0
        Limit for urban sites, in metres.
    rural_m : float, default=5_000.0
        Limit for rural sites, in metres.
    far_m : float, default=10_000.0
        Limit for the few rural sites that are moved farther, in metres.
    far_share : float, default=0.01
        Probability that a rural site is one of these.

    Examples
    --------
    >>> DisplacementRule(rural_m=3_000, far_share=0).limits_m([True, False], [0.5, 0.5]).tolist()
    [2000.0, 3000.0]
    """

    urban_m: float = 2_000.0
    rural_m: float = 5_000.0
    far_m: float = 10_000.0
    far_share: float = 0.01

    def __post_init__(self) -> None:
        for name in ("urban_m", "rural_m", "far_m"):
            length = getattr(self, name)
            # beyond this a "locally flat" prior says nothing, and the unit is likely wrong
            if not 0 <= length <= 1_000_000:
                raise ValueError(
                    f"`{name}` must be a length between 0 and 1,000,000 metres; got {length!r}."
                )
        if not 0 <= self.far_share <= 1:
            raise ValueError(f"`far_share` must lie in [0, 1]; got {self.far_share!r}.")

    def limits_m(self, is_urban: Any, uniform: Any) -> NDArray[np.float64]:
        """Return the limit of each displacement.

        Parameters
        ----------
        is_urban : array-like of bool
            Broadcast against `uniform`.
        uniform : array-like
            Uniform random numbers in [0, 1); a rural site is far where they are below `far_share`.

        Returns
        -------
        ndarray
            Metres, of the broadcast shape.
        """
        far = np.asarray(uniform) < self.far_share
        rural = np.where(far, self.far_m, self.rural_m)
        return np.where(np.asarray(is_urban, dtype=bool), self.urban_m, rural).astype(np.float64)


def plausible_centres(
    sites: gpd.GeoDataFrame | pd.DataFrame,
    *,
    rule: Literal["dhs"] | DisplacementRule = "dhs",
    urban: str | bool | Sequence[bool] | pd.Series | None = None,
    n_draws: int = 5,
    random_state: RandomState = None,
) -> Any:
    """Draw plausible true centres of sites whose published coordinates were displaced.

    Read the result with `read_chips` like any other table of sites: it gives several chips for each
    site, and whatever is computed from them can be averaged by `parent_site`.

    Parameters
    ----------
    sites : GeoDataFrame or DataFrame
        Published positions: a GeoDataFrame of points with a CRS, or a DataFrame with the columns
        `lon` and `lat` in degrees; indexed by site key or with a column `site`.
    rule : "dhs" or DisplacementRule, default="dhs"
        How the coordinates were displaced. "dhs" is the rule of the Demographic and Health Surveys:
        up to 2 km for urban sites, 5 km for rural ones and 10 km for 1 % of the rural ones.
    urban : str, bool, Series or sequence of bool, default=None
        Which sites are urban: a column of `sites`, a Series indexed by site key, a sequence in the
        order of `sites`, or one answer for all. Values are True or False, 1 or 0, "U" or "R",
        "urban" or "rural". May be None only when the rule is the same for both.
    n_draws : int, default=5
        Centres per site.
    random_state : None, int or numpy.random.Generator, default=None
        The same seed gives the same centres, whatever the order of the sites.

    Returns
    -------
    GeoDataFrame of n_sites × n_draws points
        In the CRS of `sites`, indexed by keys such as "Arua~1", with the columns of `sites` and
        `parent_site` (the key in `sites`), `draw` (from 1) and `displaced_m` (distance from the
        published position).

    Raises
    ------
    RoleError
        If `urban` is needed and absent, names no column, or holds other values.
    ValueError
        If coordinates are missing or look swapped, or `sites` already has a column of the result.
    AlignmentError
        If keys stand twice, or `urban` does not describe the sites.

    Notes
    -----
    Assumes that the true places are spread evenly over the few kilometres around each published
    one. Borders that the displacement did not cross are not known here. The draws of one site are
    versions of one place, not more places: keep them in one fold and one cluster.

    References
    ----------
    .. [1] Burgert, C. R., Colston, J., Roy, T. & Zachary, B. (2013). Geographic displacement
       procedure and georeferenced data release policy for the Demographic and Health Surveys. DHS
       Spatial Analysis Reports 7.

    Examples
    --------
    >>> sites = pd.DataFrame({"site": ["Arua"], "lon": [30.9], "lat": [3.0], "URBAN_RURA": ["R"]})
    >>> centres = plausible_centres(sites, urban="URBAN_RURA", n_draws=2, random_state=0)
    >>> list(centres.index), list(centres["parent_site"])
    (['Arua~1', 'Arua~2'], ['Arua', 'Arua'])
    >>> bool((centres["displaced_m"] <= 10_000).all())
    True
    """
    count = check_count("n_draws", n_draws)
    kernel = _rule(rule)
    table = _published(sites)
    is_urban = _urban_flags(urban, table, kernel)
    shape = (len(table), count)
    order = canonical_order(table.index)
    drawn = draw_displacements(kernel, is_urban[order], count, random_generator(random_state))
    angle, distance = np.empty(shape), np.empty(shape)
    angle[order], distance[order] = drawn
    row = np.repeat(np.arange(len(table)), count)
    points = np.column_stack([table.geometry.x, table.geometry.y])[row]
    moved = move_by(points, parse_crs(table.crs.to_wkt()), angle.ravel(), distance.ravel())
    return _centre_table(table, row, moved, distance.ravel(), count)


def draw_displacements(
    rule: DisplacementRule, is_urban: NDArray[np.bool_], n_draws: int, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Draw the direction and length of displacements.

    Parameters
    ----------
    rule : DisplacementRule
        Limits of the length.
    is_urban : ndarray of bool, shape (n_sites,)
        Which sites are urban.
    n_draws : int
        Displacements per site.
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    angle : ndarray of shape (n_sites, n_draws)
        Degrees clockwise from north.
    distance : ndarray of shape (n_sites, n_draws)
        Metres.
    """
    uniform = rng.random((3, len(is_urban), n_draws))
    return 360 * uniform[0], uniform[1] * rule.limits_m(is_urban[:, None], uniform[2])


def move_by(
    points: NDArray[np.float64],
    crs: Any,
    angle: NDArray[np.float64],
    distance: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Move points along the ellipsoid, so that metres are metres in any CRS and at any latitude.

    Parameters
    ----------
    points : ndarray of shape (n, 2)
        In `crs`.
    crs : pyproj.CRS
        Of the points and of the result.
    angle : ndarray of shape (n,)
        Degrees clockwise from north.
    distance : ndarray of shape (n,)
        Metres.

    Returns
    -------
    ndarray of shape (n, 2)
        In `crs`.

    Examples
    --------
    >>> east, degree_m = np.array([90.0]), np.array([111_319.49])
    >>> move_by(np.zeros((1, 2)), LONLAT, east, degree_m).round(6).tolist()
    [[1.0, 0.0]]
    """
    lon, lat = move_points(points, crs, LONLAT).T
    east, north, _ = _ELLIPSOID.fwd(lon, lat, angle, distance)
    moved: NDArray[np.float64] = move_points(np.column_stack([east, north]), LONLAT, crs)
    return moved


def _rule(rule: Any) -> DisplacementRule:
    if isinstance(rule, DisplacementRule):
        return rule
    if rule != "dhs":
        raise ValueError(f"`rule` must be 'dhs' or a DisplacementRule; got {rule!r}.")
    return DisplacementRule()


def _published(sites: Any) -> Any:
    table = site_table(sites)
    if not has_geography(table):
        raise ValueError(
            "`sites` must say where the sites are; got keys without positions. Pass a DataFrame "
            "with the columns 'lon' and 'lat', or a GeoDataFrame of points."
        )
    if table.crs is None:
        raise ValueError(
            "`sites` must have a coordinate reference system; this GeoDataFrame has none. Set it "
            "with `sites.set_crs(...)`, EPSG:4326 for longitudes and latitudes."
        )
    taken = [name for name in _ADDED if name in table.columns]
    if taken:
        raise ValueError(
            f"`sites` must not have the columns {list_some(_ADDED)}, which the result adds; found "
            f"{list_some(taken)}. Rename them, or pass the published sites rather than draws."
        )
    return table


def _urban_flags(urban: Any, table: Any, rule: DisplacementRule) -> NDArray[np.bool_]:
    """Return for each row of `table` whether the site is urban."""
    if urban is None:
        if rule.urban_m == rule.rural_m and (rule.far_m == rule.rural_m or rule.far_share == 0):
            return np.ones(len(table), dtype=bool)
        raise RoleError(
            f"`urban` must say which of the {len(table)} sites are urban, because they were "
            f"displaced by up to {rule.urban_m:g} m and rural ones by up to {rule.rural_m:g} m; "
            f"got None. Name the column, one of {list_some(table.columns, 12)}, or pass "
            "urban=False where all are rural."
        )
    if isinstance(urban, bool | np.bool_):
        return np.full(len(table), bool(urban))
    if isinstance(urban, str):
        if urban not in table.columns:
            raise RoleError(
                f"`urban` must name a column of `sites`; {urban!r} is none of "
                f"{list_some(table.columns, 12)}."
            )
        return _flags(table[urban].tolist(), table.index)
    return _flags(_aligned(urban, table.index), table.index)


def _aligned(urban: Any, keys: pd.Index) -> list[Any]:
    if isinstance(urban, pd.Series):
        check_unique("Keys of `urban`", urban.index)
        absent = keys.difference(urban.index)
        if len(absent):
            raise AlignmentError(
                f"`urban` must describe all {len(keys)} sites; {len(absent)} are missing from its "
                f"index: {list_some(absent)}. Index it by site key."
            )
        return list(urban.loc[keys])
    values = list(urban)
    if len(values) != len(keys):
        raise AlignmentError(
            f"`urban` must have one value for each of the {len(keys)} sites; got {len(values)}."
        )
    return values


def _flags(values: list[Any], keys: pd.Index) -> NDArray[np.bool_]:
    found = [_flag(value) for value in values]
    unclear = [position for position, flag in enumerate(found) if flag is None]
    if unclear:
        raise RoleError(
            "`urban` must hold True or False, 1 or 0, 'U' or 'R', 'urban' or 'rural'; "
            f"{len(unclear)} of {len(values)} sites have other values, first site "
            f"{list_some([keys[unclear[0]]])} with {values[unclear[0]]!r}. Fill in or drop these."
        )
    return np.array(found, dtype=bool)


def _flag(value: Any) -> bool | None:
    if isinstance(value, str):
        return _WORDS.get(value.strip().lower())
    if isinstance(value, bool | np.bool_ | int | float | np.number) and value in (0, 1):
        return bool(value)
    return None


def _centre_table(
    table: Any,
    row: NDArray[np.intp],
    moved: NDArray[np.float64],
    distance: NDArray[np.float64],
    n_draws: int,
) -> Any:
    """Repeat each site once per draw at its drawn place."""
    parents = table.index[row]
    draws = np.tile(np.arange(1, n_draws + 1), len(table))
    keys = pd.Index(
        [_key(site, int(draw)) for site, draw in zip(parents, draws, strict=True)], name="site"
    )
    check_unique("Keys of the drawn centres", keys)
    centres = table.iloc[row].copy()
    centres.index = keys
    centres = centres.set_geometry(
        gpd.GeoSeries(gpd.points_from_xy(moved[:, 0], moved[:, 1]), index=keys, crs=table.crs)
    )
    if table.crs.is_geographic and {"lon", "lat"} <= set(centres.columns):
        # the published degrees beside a drawn point would contradict it
        centres["lon"], centres["lat"] = moved[:, 0], moved[:, 1]
    centres["parent_site"] = parents.to_numpy()
    centres["draw"] = draws
    centres["displaced_m"] = distance
    return centres


def _key(site: Hashable, draw: int) -> str:
    return f"{site}~{draw}"
