"""Plausible true centres: the kernel of the surveys, on the ground, whatever the order of rows.

Tolerances are derived. A share p of n draws is allowed 5 standard errors (false alarm below 1e-6);
a distribution function may differ by the Dvoretzky-Kiefer-Wolfowitz bound of the same rate.
"""

import geopandas as gpd
import numpy as np
import pandas as pd
import pyproj
import pytest
import rasterio

from terracausal._foundation.errors import AlignmentError, RoleError
from terracausal.imagery import read_chips
from terracausal.imagery.displacement import DisplacementRule, draw_displacements, plausible_centres

N = 50_000
DKW = float(np.sqrt(np.log(2 / 1e-6) / (2 * N)))  # 0.012
GEOD = pyproj.Geod(ellps="WGS84")


def largest_gap(values, distribution):
    """Return the largest difference of the empirical from a distribution function."""
    ordered = np.sort(values)
    expected = distribution(ordered)
    n = len(ordered)
    return max(
        np.abs(np.arange(1, n + 1) / n - expected).max(), np.abs(np.arange(n) / n - expected).max()
    )


def five_errors(share):
    return 5 * np.sqrt(share * (1 - share) / N)


def place(lon=30.9, lat=3.0, **columns):
    return pd.DataFrame({"site": ["a"], "lon": [lon], "lat": [lat], **columns})


def travelled(centres, lon, lat):
    """Return azimuth and length from one published place, measured apart from the library."""
    points = centres.to_crs("EPSG:4326").geometry
    azimuth, _, length = GEOD.inv(
        np.full(len(points), lon), np.full(len(points), lat), points.x, points.y
    )
    return azimuth % 360, length


def test_urban_distances_are_uniform_to_2_km_and_angles_uniform(seed):
    centres = plausible_centres(place(), urban=True, n_draws=N, random_state=seed)
    angle, distance = travelled(centres, 30.9, 3.0)
    assert distance.max() <= 2_000 + 1e-6
    # uniform over the area instead would leave a gap of 1/4
    assert largest_gap(distance, lambda d: d / 2_000) < DKW
    assert largest_gap(angle, lambda a: a / 360) < DKW
    # angle and length are independent: mean of d·cos is 0 with variance E d²/2 = (2000²/3)/2
    error = np.sqrt(2_000**2 / 6 / N)
    assert abs(np.mean(distance * np.cos(np.radians(angle)))) < 5 * error
    assert abs(np.mean(distance * np.sin(np.radians(angle)))) < 5 * error


def test_rural_distances_are_the_mixture_of_5_and_10_km(seed):
    centres = plausible_centres(place(), urban=False, n_draws=N, random_state=seed)
    _, distance = travelled(centres, 30.9, 3.0)

    def mixture(d):
        return 0.99 * np.minimum(d / 5_000, 1) + 0.01 * d / 10_000

    assert largest_gap(distance, mixture) < DKW
    assert 5_000 < distance.max() <= 10_000 + 1e-6
    # half of the 1 % lies beyond 5 km: twice or half that share would be 15 or 8 errors away
    beyond = np.mean(distance > 5_000)
    assert abs(beyond - 0.005) < five_errors(0.005)


def test_kernel_is_its_own_mirror_image(seed):
    """Displacing and then drawing a centre gives back a flat prior, so the truth is covered.

    With true places spread evenly on a line much longer than the kernel, the drawn centre and the
    truth are exchangeable around the published place.
    """
    rng = np.random.default_rng(seed)
    rule = DisplacementRule()
    angle, distance = draw_displacements(rule, np.zeros(N, dtype=bool), 2, rng)
    east = distance * np.sin(np.radians(angle))
    # published - truth is east[:, 0]; drawn - published is east[:, 1]: equal laws, mean zero
    second = 0.99 * 5_000**2 / 3 + 0.01 * 10_000**2 / 3
    assert abs(np.mean(east[:, 0] + east[:, 1])) < 5 * np.sqrt(second / N)
    fourth = 0.375 * (0.99 * 5_000**4 / 5 + 0.01 * 10_000**4 / 5)
    spread = np.sqrt((fourth - (second / 2) ** 2) / N)
    for column in (0, 1):
        assert abs(np.mean(east[:, column] ** 2) - second / 2) < 5 * spread


@pytest.mark.parametrize(
    ("lon", "lat"), [(30.9, 3.0), (179.999, -16.5), (-179.999, 70.0), (15.0, 89.99), (0.0, -60.0)]
)
def test_distances_hold_at_the_antimeridian_and_the_poles(lon, lat):
    centres = plausible_centres(place(lon, lat), urban=False, n_draws=500, random_state=0)
    _, distance = travelled(centres, lon, lat)
    np.testing.assert_allclose(distance, centres["displaced_m"], atol=1e-6)
    assert centres.geometry.x.abs().max() <= 180
    assert distance.max() > 4_500


def test_projected_sites_stay_in_their_crs():
    points = gpd.GeoDataFrame(
        {"kept": [7]}, index=["a"], geometry=gpd.points_from_xy([500_000], [0]), crs="EPSG:32636"
    )
    centres = plausible_centres(points, urban=True, n_draws=50, random_state=1)
    assert centres.crs == points.crs
    assert list(centres.columns) == ["kept", "geometry", "parent_site", "draw", "displaced_m"]
    flat = np.hypot(centres.geometry.x - 500_000, centres.geometry.y)
    # the scale of UTM at its central meridian
    np.testing.assert_allclose(flat, 0.9996 * centres["displaced_m"], rtol=1e-6)


def test_keys_say_site_and_draw_and_degrees_follow_the_point():
    sites = pd.DataFrame({"lon": [30.0, 31.0], "lat": [3.0, 4.0]}, index=["Arua", "Gulu"])
    centres = plausible_centres(sites, urban=[True, False], n_draws=2, random_state=0)
    assert list(centres.index) == ["Arua~1", "Arua~2", "Gulu~1", "Gulu~2"]
    assert centres.index.name == "site"
    assert list(centres["parent_site"]) == ["Arua", "Arua", "Gulu", "Gulu"]
    assert list(centres["draw"]) == [1, 2, 1, 2]
    np.testing.assert_array_equal(centres["lon"], centres.geometry.x)
    np.testing.assert_array_equal(centres["lat"], centres.geometry.y)
    assert sites["lon"].tolist() == [30.0, 31.0]


def test_order_of_sites_changes_no_centre():
    sites = pd.DataFrame(
        {"lon": [30.0, 31.0, 32.0], "lat": [3.0, 4.0, 5.0], "urban": ["U", "R", "R"]},
        index=[3, 1, 2],
    )
    first = plausible_centres(sites, urban="urban", random_state=0)
    second = plausible_centres(sites.iloc[[2, 0, 1]], urban="urban", random_state=0)
    pd.testing.assert_frame_equal(first.sort_index(), second.sort_index())
    assert not first.equals(plausible_centres(sites, urban="urban", random_state=1))


@pytest.mark.parametrize(
    "urban",
    [
        "kind",
        [True, False],
        [1, 0],
        [1.0, 0.0],
        pd.Series({"b": False, "a": True}),
        np.array([True, False]),
    ],
    ids=["column", "bool", "int", "float", "series", "array"],
)
def test_every_spelling_of_urban_is_the_same(urban):
    sites = pd.DataFrame(
        {"lon": [30, 31], "lat": [3, 4], "kind": ["U", "rural "]}, index=["a", "b"]
    )
    rule = DisplacementRule(urban_m=1, rural_m=1_000, far_share=0)
    centres = plausible_centres(sites, rule=rule, urban=urban, n_draws=200, random_state=0)
    largest = centres.groupby("parent_site")["displaced_m"].max()
    assert largest["a"] <= 1
    assert 900 < largest["b"] <= 1_000


def test_draws_are_read_like_sites(tmp_path):
    """Every pixel holds its own column and row, so that the chip says where it lies."""
    rows, columns = np.mgrid[:400, :400]
    place = rasterio.Affine(30, 0, 494_000, 0, -30, 6_000)
    profile = dict(driver="GTiff", count=2, height=400, width=400, dtype="int16")
    path = tmp_path / "world.tif"
    with rasterio.open(path, "w", crs="EPSG:32636", transform=place, **profile) as file:
        file.write(np.stack([columns, rows]).astype("int16"))
    sites = pd.DataFrame({"lon": [33.0, 33.01], "lat": [0.0, 0.01]}, index=["a", "b"])
    centres = plausible_centres(sites, urban=True, n_draws=4, random_state=0)
    chips = read_chips(path, centres, size_px=4, bands=["column", "row"])
    assert list(chips) == list(centres.index)
    points = centres.to_crs("EPSG:32636").geometry
    for key in chips:
        column, row = chips[key][0].mean(axis=(1, 2)) + 0.5
        assert abs(494_000 + 30 * column - points[key].x) <= 15 + 1e-6
        assert abs(6_000 - 30 * row - points[key].y) <= 15 + 1e-6


def test_one_rule_for_all_needs_no_urban():
    rule = DisplacementRule(urban_m=300, rural_m=300, far_share=0)
    centres = plausible_centres(place(), rule=rule, n_draws=300, random_state=0)
    assert 270 < centres["displaced_m"].max() <= 300


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: plausible_centres(place()), RoleError, "got None.*'lon', 'lat'"),
        (lambda: plausible_centres(place(), urban="U"), RoleError, "'U' is none of 'lon', 'lat'"),
        (
            lambda: plausible_centres(place(kind=["peri"]), urban="kind"),
            RoleError,
            "1 of 1 sites have other values, first site 'a' with 'peri'",
        ),
        (lambda: plausible_centres(place(kind=[np.nan]), urban="kind"), RoleError, "'a' with nan"),
        (lambda: plausible_centres(place(), urban=[True, False]), AlignmentError, "1 sites; got 2"),
        (
            lambda: plausible_centres(place(), urban=pd.Series({"b": True})),
            AlignmentError,
            "1 are missing from its index: 'a'",
        ),
        (
            lambda: plausible_centres(place(), urban=True, n_draws=0),
            ValueError,
            "at least 1; got 0",
        ),
        (lambda: plausible_centres(place(), rule="lsms"), ValueError, "got 'lsms'"),
        (lambda: plausible_centres(["a"], urban=True), ValueError, "keys without positions"),
        (lambda: plausible_centres(place(lat=np.nan), urban=True), ValueError, "1 of 1 have none"),
        (lambda: DisplacementRule(urban_m=-2), ValueError, "`urban_m` .* got -2"),
        (lambda: DisplacementRule(rural_m=float("nan")), ValueError, "`rural_m` .* got nan"),
        (lambda: DisplacementRule(far_share=1.5), ValueError, r"\[0, 1\]; got 1.5"),
    ],
)
def test_bad_input_is_named(call, error, match):
    with pytest.raises(error, match=match):
        call()


def test_draws_of_draws_are_refused():
    centres = plausible_centres(place(), urban=True, n_draws=2, random_state=0)
    with pytest.raises(ValueError, match="found 'parent_site', 'draw', 'displaced_m'"):
        plausible_centres(centres, urban=True)


def test_doubled_flattened_keys_are_refused():
    sites = pd.DataFrame({"lon": [30, 31], "lat": [3, 4]}, index=pd.Index([1, "1"], dtype=object))
    with pytest.raises(AlignmentError, match="'1~1'"):
        plausible_centres(sites, urban=True, n_draws=1)
