"""The landscape looks the way land does: each material where and as a sensor would see it."""

import pickle
import subprocess
import sys

import numpy as np
import pytest
from scipy import stats

from terracausal._foundation.errors import BandError
from terracausal.simulate import simulate_landscape
from terracausal.simulate.fields import simulate_fields
from terracausal.simulate.land_cover import share_pixels, simulate_nature
from terracausal.simulate.reflectance import BANDS, SPECTRA, mix_reflectance
from terracausal.simulate.settlements import simulate_settlements
from terracausal.simulate.terrain import simulate_terrain

SHARES = ("water", "vegetation", "woodland", "cropland", "built", "road")


def normalised_difference(landscape, first, second):
    a, b = (landscape.reflectance[landscape.bands.index(band)] for band in (first, second))
    return (a - b) / (a + b)


def test_shapes_types_and_ranges(landscape):
    assert landscape.reflectance.shape == (6, 512, 512)
    assert landscape.reflectance.dtype == np.float32
    assert landscape.bands == ("blue", "green", "red", "nir", "swir1", "swir2")
    assert 0 <= landscape.reflectance.min() < 0.02
    assert 0.3 < landscape.reflectance.max() <= 1
    for name, layer in landscape.layers.items():
        assert layer.shape == (512, 512), name
        assert layer.dtype == np.float32, name
        assert np.isfinite(layer).all(), name
    for name in SHARES:
        assert 0 <= landscape.layers[name].min() < landscape.layers[name].max() <= 1 + 1e-6, name


def test_the_same_seed_gives_the_same_pixels_and_zero_is_a_seed():
    first, again, other = (simulate_landscape(96, random_state=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first.reflectance, again.reflectance)
    for name, layer in first.layers.items():
        np.testing.assert_array_equal(layer, again.layers[name])
    assert np.abs(first.reflectance - other.reflectance).mean() > 0.005


def test_no_seed_draws_afresh_and_a_generator_moves_on():
    generator = np.random.default_rng(0)
    pictures = [
        simulate_landscape(64, random_state=state).reflectance
        for state in (None, None, generator, generator)
    ]
    assert len({picture.tobytes() for picture in pictures}) == 4


def test_greenness_separates_plants_from_houses_and_soil(landscape):
    ndvi = normalised_difference(landscape, "nir", "red")
    layers = landscape.layers
    green = ndvi[layers["vegetation"] > 0.8]
    built = ndvi[layers["built"] > 0.8]
    assert green.mean() > 0.55
    assert built.mean() < 0.45
    assert np.quantile(green, 0.05) > np.quantile(built, 0.5)
    assert np.corrcoef(ndvi.ravel(), layers["vegetation"].ravel())[0, 1] > 0.7


def test_water_is_dark_in_the_near_infrared_and_wet(landscape):
    water = landscape.layers["water"] > 0.8
    dry = landscape.layers["water"] == 0
    assert water.sum() > 50
    nir = landscape.reflectance[landscape.bands.index("nir")]
    assert np.median(nir[water]) < 0.5 * np.median(nir[dry])
    wetness = normalised_difference(landscape, "green", "swir1")
    assert np.median(wetness[water]) > np.median(wetness[dry]) + 0.2


def test_people_live_on_dry_gentle_ground_near_roads(landscape):
    layers = landscape.layers
    lived_in = layers["buildings_per_km2"] > 300
    assert layers["water"][lived_in].mean() < layers["water"].mean()
    assert layers["slope"][lived_in].mean() < layers["slope"].mean()
    far = layers["distance_to_road_m"]
    assert far[lived_in].mean() < 0.5 * far.mean()
    people = layers["buildings_per_km2"].ravel()
    assert stats.spearmanr(layers["cropland"].ravel()[::7], people[::7])[0] > 0.1


def test_roads_are_where_the_distance_to_them_is_small(landscape):
    layers = landscape.layers
    on_road = layers["road"] > 0.3
    assert on_road.sum() > 500
    assert np.median(layers["distance_to_road_m"][on_road]) < landscape.resolution_m
    # neighbours differ by at most a diagonal step, and half a pixel between drawn points
    step = np.abs(np.diff(layers["distance_to_road_m"], axis=0)).max()
    assert step <= 2 * landscape.resolution_m


def test_rivers_run_through_the_valleys(landscape):
    layers = landscape.layers
    near = layers["distance_to_water_m"] < 60
    assert layers["elevation_m"][near].mean() < layers["elevation_m"].mean()


def test_shares_of_each_pixel_add_up_to_one():
    streams = np.random.default_rng(3).spawn(5)
    terrain = simulate_terrain(128, 30.0, streams[0])
    people = simulate_settlements(terrain, 30.0, streams[1])
    fields = simulate_fields(terrain, people, 30.0, streams[2])
    nature = simulate_nature(terrain, people, 30.0, streams[3])
    shares = share_pixels(terrain, people, fields, nature, resolution_m=30.0, generator=streams[4])
    assert set(shares) == set(SPECTRA)
    assert all(share.min() >= 0 for share in shares.values())
    np.testing.assert_allclose(sum(shares.values()), 1.0, atol=1e-5)
    np.testing.assert_allclose(fields.green + fields.ripe + fields.bare, 1.0, atol=1e-5)


@pytest.mark.parametrize(("light", "factor"), [(1.0, 1.0), (0.0, 0.35), (1.4, 1.26)])
def test_a_pure_scene_shows_its_spectrum_times_the_light(light, factor):
    side = 100
    shares = {
        "forest": np.full((side, side), 0.25, dtype=np.float32),
        "red_soil": np.full((side, side), 0.75, dtype=np.float32),
    }
    lit = np.full((side, side), light, dtype=np.float32)
    image = mix_reflectance(shares, lit, np.random.default_rng(0))
    expected = factor * (0.25 * np.array(SPECTRA["forest"]) + 0.75 * np.array(SPECTRA["red_soil"]))
    # noise 0.0015 + 1 %; six bands, false alarms 1e-5 together
    limit = stats.norm.isf(1e-5 / 12) * (0.0015 + 0.01 * expected) / side
    assert (np.abs(image.mean(axis=(1, 2)) - expected) < limit).all()
    n_pixels = side**2
    spread = image.var(axis=(1, 2), ddof=1) / (0.0015 + 0.01 * expected) ** 2
    low, high = stats.chi2.ppf([1e-5 / 12, 1 - 1e-5 / 12], n_pixels - 1) / (n_pixels - 1)
    assert ((low < spread) & (spread < high)).all()


def test_spectra_keep_the_order_that_remote_sensing_relies_on():
    ndvi = {
        name: (value[BANDS.index("nir")] - value[BANDS.index("red")])
        / (value[BANDS.index("nir")] + value[BANDS.index("red")])
        for name, value in SPECTRA.items()
    }
    leaves = ("forest", "shrub", "green_grass", "reeds", "green_crop")
    bare = ("red_soil", "dark_soil", "murram", "pale_soil", "metal_roof", "thatch", "tarmac")
    assert min(ndvi[name] for name in leaves) > 0.6
    assert max(ndvi[name] for name in bare) < 0.35
    assert max(ndvi["clear_water"], ndvi["silty_water"]) < 0


def test_grid_is_georeferenced_and_finer_pixels_show_less_land():
    coarse = simulate_landscape(64, resolution_m=40.0, random_state=0)
    fine = simulate_landscape(128, resolution_m=10.0, random_state=0)
    for land, side_m in ((coarse, 2_560.0), (fine, 1_280.0)):
        east, south = land.transform @ (land.size_px, land.size_px)
        west, north = land.transform @ (0, 0)
        assert (east - west, north - south) == (side_m, side_m)
        assert ((east + west) / 2, (north + south) / 2) == (425_000.0, 310_000.0)
        assert land.crs == "EPSG:32636"


def test_arrays_are_read_only_and_the_landscape_pickles(landscape):
    with pytest.raises(ValueError, match="read-only"):
        landscape.layers["water"][0, 0] = 1.0
    small = simulate_landscape(64, random_state=0)
    again = pickle.loads(pickle.dumps(small))
    np.testing.assert_array_equal(again.reflectance, small.reflectance)


def test_plot_shows_the_bands_in_kilometres_and_draws_on_the_given_axes():
    from matplotlib.figure import Figure

    small = simulate_landscape(64, random_state=0)
    natural, false = small.plot(), small.plot(bands=("nir", "red", "green"))
    assert natural.images[0].get_array().shape == (64, 64, 3)
    assert not np.array_equal(natural.images[0].get_array(), false.images[0].get_array())
    west, east, south, north = natural.images[0].get_extent()
    assert (east - west, north - south) == pytest.approx((1.92, 1.92))
    mine = Figure().add_subplot()
    assert small.plot(mine) is mine
    with pytest.raises(BandError, match="got 'red', 'green', 'thermal'"):
        small.plot(bands=("red", "green", "thermal"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size_px": 63}, "`size_px` must be an integer of at least 64; got 63"),
        ({"size_px": 100.0}, "at least 64; got 100.0"),
        ({"size_px": 64, "resolution_m": -30.0}, "`resolution_m` must be .* above 0; got -30.0"),
        ({"size_px": 64, "resolution_m": 10.0}, "64 pixels of 10 m are 640 m"),
        ({"size_px": 64, "random_state": -1}, "must not be negative; got -1"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        simulate_landscape(**arguments)


def test_a_seed_that_is_no_number_is_refused():
    with pytest.raises(TypeError, match=r"`random_state` must be .*; got str"):
        simulate_landscape(64, random_state="0")


def test_importing_the_room_loads_neither_matplotlib_nor_torch():
    code = (
        "import sys, terracausal.simulate as room; "
        "assert room.__all__ == sorted(room.__all__); "
        "print([name for name in ('matplotlib', 'torch', 'econml') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
