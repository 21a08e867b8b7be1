"""Where chips lie: centring, zones, the antimeridian, the poles, and sites that are too close."""

import numpy as np
import pandas as pd
import pyproj
import pytest
import rasterio
from affine import Affine

from terracausal.imagery import ArraySource, CallableSource, Chips, read_chips

GEOD = pyproj.Geod(ellps="WGS84")


def lonlat_sites(lon, lat):
    return pd.DataFrame({"lon": lon, "lat": lat}).rename_axis("site")


def coordinates(grid):
    """Longitudes and latitudes of the pixel centres, as two bands."""
    height, width = grid.shape
    x, y = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    east = grid.affine.a * x + grid.affine.b * y + grid.affine.c
    north = grid.affine.d * x + grid.affine.e * y + grid.affine.f
    back = pyproj.Transformer.from_crs(str(grid.crs), 4326, always_xy=True)
    return np.stack(back.transform(east, north))


def metres_off(chip, lon, lat):
    """Distance of the mean of the four middle pixels of an even chip from a place, in metres."""
    size = chip.shape[-1]
    middle = chip[:, size // 2 - 1 : size // 2 + 1, size // 2 - 1 : size // 2 + 1].astype(float)
    # around the antimeridian the mean of -180 and 180 is not 0
    east = lon + np.mean((middle[0] - lon + 180) % 360 - 180)
    return GEOD.inv(lon, lat, east, middle[1].mean())[2]


def test_centres_from_60_south_to_75_north(rng):
    n_sites, step = 1000, 30.0
    lon, lat = rng.uniform(-180, 180, n_sites), rng.uniform(-60, 75, n_sites)
    # half of them within a few hundred metres of the border of two zones
    border = np.arange(n_sites // 2)
    lon[border] = 6 * rng.integers(-30, 30, len(border)) + rng.normal(0, 0.003, len(border))
    chips = read_chips(
        coordinates, lonlat_sites(lon, lat), size_px=4, bands=["lon", "lat"], resolution_m=step
    )
    assert chips.n_sites == n_sites
    assert chips.manifest["offset_m"].max() < 1e-6
    off = np.array([metres_off(chips[k][0], lon[k], lat[k]) for k in range(n_sites)])
    # float32 degrees are exact to 4 to 8 m, so the measure itself is coarse
    assert off.max() < step / 2
    zones = chips.manifest["grid"].str.removeprefix("EPSG:").astype(int)
    expected = np.where(lat >= 0, 32600, 32700) + ((lon + 180) // 6).astype(int) % 60 + 1
    np.testing.assert_array_equal(zones, expected)


@pytest.mark.parametrize("size", [1, 4, 7])
def test_windows_of_own_pixels_are_within_half_a_pixel(rng, size):
    n_sites, step = 300, 10.0
    array = np.arange(1 * 200 * 200, dtype="float32").reshape(1, 200, 200)
    source = ArraySource(array, ["red"], Affine(step, 0, 5e5, 0, -step, 4e5), "EPSG:32636")
    x = 5e5 + rng.uniform(100, 1900, n_sites)
    y = 4e5 - rng.uniform(100, 1900, n_sites)
    lon, lat = pyproj.Transformer.from_crs(32636, 4326, always_xy=True).transform(x, y)
    chips = read_chips(source, lonlat_sites(lon, lat), size_px=size)
    for k in range(n_sites):
        first = int(chips[k][0, 0, 0, 0])
        column, row = first % 200 + size / 2, first // 200 + size / 2
        assert abs(column - (x[k] - 5e5) / step) <= 0.5 + 1e-6
        assert abs(row - (4e5 - y[k]) / step) <= 0.5 + 1e-6


def test_the_length_of_the_own_pixels_keeps_their_numbers(rng):
    array = rng.integers(0, 10_000, (1, 40, 40)).astype("uint16")
    source = ArraySource(array, ["red"], Affine(10, 0, 5e5, 0, -10, 400), "EPSG:32636")
    lon, lat = pyproj.Transformer.from_crs(32636, 4326, always_xy=True).transform(500_203, 199)
    sites = lonlat_sites([lon], [lat])
    own = read_chips(source, sites, size_px=8)
    asked = read_chips(source, sites, size_px=8, resolution_m=10)
    np.testing.assert_array_equal(own[0], asked[0])
    np.testing.assert_array_equal(own[0][0, 0], array[0, 16:24, 16:24])
    other = read_chips(source, sites, size_px=8, resolution_m=11)
    assert other.manifest["offset_m"][0] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("lon", [179.9999, -179.9999, 180.0, 181.0])
@pytest.mark.parametrize("edges", [(-180.0, 360), (0.0, 360), (170.0, 20)])
@pytest.mark.parametrize("resolution_m", [None, 20_000.0])
def test_across_the_antimeridian(lon, edges, resolution_m):
    """A layer of the whole world, or one across the line, gives a chip without a gap."""
    left, width = edges
    step, height = 0.25, 40
    columns = int(width / step)
    east = left + step * (np.arange(columns) + 0.5)
    north = 5 - step * (np.arange(height) + 0.5)
    # continuous on the sphere, so that a wrong half of the world would show
    array = np.stack(
        [
            np.broadcast_to(100 * np.cos(np.radians(east)), (height, columns)),
            np.broadcast_to(100 * np.sin(np.radians(east)), (height, columns)),
            np.broadcast_to(north[:, None], (height, columns)),
        ]
    ).astype("float32")
    source = ArraySource(array, ["c", "s", "lat"], Affine(step, 0, left, 0, -step, 5), "EPSG:4326")
    chips = read_chips(source, lonlat_sites([lon], [0.3]), size_px=8, resolution_m=resolution_m)
    chip = chips[0][0]
    assert chips.manifest["status"].tolist() == ["ok"]
    assert chip[2, 3:5, 3:5].mean() == pytest.approx(0.3, abs=step / 2 + 1e-3)
    found = np.degrees(np.arctan2(chip[1], chip[0])) % 360
    middle = found[3:5, 3:5].mean()
    assert middle == pytest.approx(lon % 360, abs=step / 2 + 1e-3)
    steps = np.diff(found, axis=1)
    assert steps == pytest.approx(steps.mean(), abs=0.02)
    assert steps.min() > 0.1


@pytest.mark.parametrize("pole", [90.0, -90.0])
def test_at_the_poles(pole):
    step = 0.5
    lat = 90 - step * (np.arange(360) + 0.5)
    array = np.broadcast_to(lat[:, None], (1, 360, 720)).astype("float32")
    source = ArraySource(array, ["lat"], Affine(step, 0, -180, 0, -step, 90), "EPSG:4326")
    sites = lonlat_sites([0.0, 120.0], [pole, pole * 0.98])
    chips = read_chips(source, sites, size_px=9, resolution_m=40_000)
    assert chips.crs.to_epsg() == (32661 if pole > 0 else 32761)
    assert chips.manifest["offset_m"].max() < 1e-3
    for k, expected in enumerate((90.0, 88.2)):
        chip = np.abs(chips[k][0, 0])
        assert not np.isnan(chip).any()
        assert chip[4, 4] == pytest.approx(expected, abs=step)
    # latitudes fall off alike on all sides of the pole
    around = np.abs(chips[0][0, 0])
    np.testing.assert_allclose(around[4, [0, 8]], around[[0, 8], 4], atol=step)
    assert around[4, 0] == pytest.approx(90 - 160_000 / 111_600, abs=step)


def test_layers_in_two_zones_are_joined_across_their_border(tmp_path, rng):
    """A plane in x and y, cut at the border of two zones, comes back as a plane on both sides."""
    lon, lat, step = 36.0, 3.0, 30.0
    for zone in (32636, 32637):
        x, y = pyproj.Transformer.from_crs(4326, zone, always_xy=True).transform(lon, lat)
        size = 120
        left, top = x - step * size / 2, y + step * size / 2
        column, row = np.meshgrid(np.arange(size) + 0.5, np.arange(size) + 0.5)
        back = pyproj.Transformer.from_crs(zone, 4326, always_xy=True)
        east, north = back.transform(left + step * column, top - step * row)
        values = np.stack([(east - lon) * 1e5, (north - lat) * 1e5]).astype("float32")
        half = east < lon if zone == 32636 else east >= lon
        values[:, ~half] = np.nan
        with rasterio.open(
            tmp_path / f"tile_{zone}.tif",
            "w",
            driver="GTiff",
            count=2,
            height=size,
            width=size,
            dtype="float32",
            crs=f"EPSG:{zone}",
            transform=Affine(step, 0, left, 0, -step, top),
            nodata=np.nan,
        ) as file:
            file.write(values)
    sites = lonlat_sites(lon + rng.normal(0, 0.002, 40), lat + rng.normal(0, 0.002, 40))
    chips = read_chips(tmp_path, sites, size_px=16)
    assert chips.n_sites == 40
    for k, record in chips.manifest.set_index("site").iterrows():
        grid = chips._reader.plans[k].grid
        assert str(grid.crs) == record["grid"]
        place = coordinates(grid)
        expected = np.stack([(place[0] - lon) * 1e5, (place[1] - lat) * 1e5])
        # a pixel is 27 of these units; float32 and a straight line between pixels cost little
        np.testing.assert_allclose(chips[k][0], expected, atol=3)
        assert record["offset_m"] <= step * np.sqrt(0.5) + 1e-6


def test_chips_of_close_sites_are_listed():
    lat = np.array([0.0, 0.0, 0.0, 0.0, 0.5])
    lon = np.array([33.0, 33.0, 33.005, 33.0145, 33.0])
    chips = Chips.from_arrays(
        np.ones((5, 1, 1, 64, 64)),
        sites=pd.DataFrame({"lon": lon, "lat": lat}, index=list("abcde")),
        bands=["red"],
        resolution_m=30,
    )
    pairs = chips.overlapping_sites()
    # chips are 1,920 m wide: 0.005 degrees are 557 m, 0.0145 degrees 1,614 m
    assert pairs[["site", "other"]].to_numpy().tolist() == [
        ["a", "b"],
        ["a", "c"],
        ["a", "d"],
        ["b", "c"],
        ["b", "d"],
        ["c", "d"],
    ]
    assert set(pairs["group"]) == {"a"}
    first = pairs.iloc[0]
    assert (first["distance_m"], first["shared"]) == (0, 1)
    assert pairs["distance_m"][1] == pytest.approx(556.6, abs=0.5)
    assert pairs["shared"][1] == pytest.approx(1 - 556.6 / 1920, abs=1e-3)
    assert "chips that overlap: 4 of 5 sites, in 1 group" in chips.describe()
    assert chips.select(["a", "e"]).overlapping_sites().empty


def test_overlaps_are_those_of_squares_not_of_circles():
    # 1,800 m to the east and 1,800 m to the north: 2,546 m apart, and still 120 m shared
    lon, lat = GEOD.fwd(33.0, 0.0, 45.0, 1800 * np.sqrt(2))[:2]
    sites = lonlat_sites([33.0, lon], [0.0, lat])
    pixels = np.ones((2, 1, 1, 64, 64))
    close = Chips.from_arrays(pixels, sites=sites, bands=["red"], resolution_m=30)
    assert close.overlapping_sites()["shared"][0] == pytest.approx((120 / 1920) ** 2, rel=0.02)
    apart = Chips.from_arrays(pixels, sites=sites, bands=["red"], resolution_m=28)
    assert apart.overlapping_sites().empty


def test_overlaps_need_a_length():
    chips = Chips.from_arrays(np.ones((2, 1, 1, 2, 2)), sites=["a", "b"], bands=["red"])
    with pytest.raises(ValueError, match="`resolution_m` is None"):
        chips.overlapping_sites()


def test_overlaps_across_the_antimeridian():
    sites = lonlat_sites([179.999, -179.999], [10.0, 10.0])
    chips = Chips.from_arrays(
        np.ones((2, 1, 1, 64, 64)), sites=sites, bands=["red"], resolution_m=30
    )
    assert chips.overlapping_sites()["distance_m"][0] == pytest.approx(219.3, abs=1)


def test_a_source_without_pixels_needs_a_resolution():
    source = CallableSource(coordinates, ["lon", "lat"])
    with pytest.raises(ValueError, match=r"`resolution_m` must be given for coordinates\(\)"):
        read_chips(source, lonlat_sites([33.0], [0.0]), size_px=4)
