import pickle

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest

from terracausal._foundation.errors import AlignmentError, BandError
from terracausal.imagery import Chips

BANDS = ["red", "nir"]


def pixels(n_sites=3, n_times=1, dtype=np.float64):
    shape = (n_sites, n_times, 2, 4, 5)
    return np.arange(np.prod(shape)).reshape(shape).astype(dtype)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int64, np.float32, np.float64])
def test_every_dtype_reads_back_the_same_number(dtype):
    array = pixels(dtype=dtype) % 200
    chips = Chips.from_arrays(array, sites=list("abc"), bands=BANDS)
    assert chips["b"].dtype == np.float32
    np.testing.assert_array_equal(chips["b"], array[1])


def test_large_digital_numbers_keep_their_number():
    array = np.full((1, 1, 1, 2, 2), 10001, dtype=np.uint16)
    assert (Chips.from_arrays(array, sites=["a"], bands=["red"])["a"] == 10001).all()


def test_integers_that_float32_cannot_hold_are_refused():
    array = np.full((1, 1, 1, 2, 2), 2**24 + 1, dtype=np.int64)
    with pytest.raises(ValueError, match=r"Site 'a': Integers .* 4 of 4 do not"):
        Chips.from_arrays(array, sites=["a"], bands=["red"])


def test_missing_pixels_stay_missing_also_when_masked():
    array = np.ma.masked_equal(pixels(dtype=np.int16), 7)
    chips = Chips.from_arrays(array, sites=list("abc"), bands=BANDS)
    assert np.isnan(chips["a"]).sum() == 1
    assert np.isnan(chips["a"][0, 0, 1, 2])
    assert chips.manifest["status"].tolist() == ["partial", "ok", "ok"]
    assert chips.manifest["nodata_share"].tolist() == [1 / 40, 0, 0]


def test_infinite_pixels_are_refused_with_the_site():
    array = pixels()
    array[2, 0, 0, 0, :3] = np.inf
    with pytest.raises(ValueError, match=r"Site 'c': .* 3 of 40 are infinite"):
        Chips.from_arrays(array, sites=list("abc"), bands=BANDS)


def test_four_axes_say_to_add_the_time_axis():
    with pytest.raises(ValueError, match=r"found four, shape \(3, 2, 4, 5\).*array\[:, None\]"):
        Chips.from_arrays(pixels()[:, 0], sites=list("abc"), bands=BANDS)


@pytest.mark.parametrize("shape", [(2, 3, 4), (0, 1, 2, 4, 4), (1, 1, 1, 0, 4)])
def test_other_shapes_are_named(shape):
    with pytest.raises(ValueError, match=str(shape).replace("(", r"\(").replace(")", r"\)")):
        Chips.from_arrays(np.zeros(shape), sites=["a"], bands=["red"])


def test_dtypes_that_are_not_real_are_refused():
    with pytest.raises(ValueError, match="found dtype complex128"):
        Chips.from_arrays(np.zeros((1, 1, 1, 2, 2), complex), sites=["a"], bands=["red"])


def test_duplicate_sites_are_named():
    with pytest.raises(AlignmentError, match="1 stand more than once: 'a'"):
        Chips.from_arrays(pixels(), sites=["a", "b", "a"], bands=BANDS)


def test_number_of_sites_must_fit():
    with pytest.raises(AlignmentError, match="3 rows of `array`; it has 2: 'a', 'b'"):
        Chips.from_arrays(pixels(), sites=["a", "b"], bands=BANDS)


@pytest.mark.parametrize(
    ("bands", "message"),
    [
        (["red"], "2 bands .* got 1: 'red'"),
        (["red", "red"], "'red' stand more than once"),
        ("rn", "one text 'rn'"),
        ([1, 2], "must be text; got 1, 2"),
    ],
)
def test_bands_are_checked(bands, message):
    with pytest.raises(BandError, match=message):
        Chips.from_arrays(pixels(), sites=list("abc"), bands=bands)


def test_sites_from_every_description():
    lonlat = pd.DataFrame({"site": list("abc"), "lon": [30.0, 31, 32], "lat": [1.0, 2, 3]})
    points = gpd.GeoDataFrame(
        index=list("abc"), geometry=gpd.points_from_xy(lonlat["lon"], lonlat["lat"]), crs=4326
    )
    for sites in (lonlat, lonlat.set_index("site"), points):
        chips = Chips.from_arrays(pixels(), sites=sites, bands=BANDS)
        assert list(chips.keys) == list("abc")
        assert chips.keys.name == "site"
        assert chips.sites.geometry["b"].coords[0] == (31, 2)
        assert chips.sites.crs.to_epsg() == 4326
    assert "site" in lonlat.columns


def test_sites_without_geography():
    chips = Chips.from_arrays(pixels(), sites=pd.Index([10, 20, 30]), bands=BANDS)
    assert chips.sites.geometry.isna().all()
    assert chips.sites.crs is None
    assert 20 in chips
    assert "20" not in chips


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"lon": [3.0, 3, 3], "lat": [30.0, 130, 31]}, r"1 of 3 .* site 'b' .*look swapped"),
        ({"lon": [3.0, np.nan, 3], "lat": [3.0, 3, 3]}, "1 of 3 have none: 'b'"),
        ({"lon": [5e5, 3, 3], "lat": [3.0, 3, 3]}, "first site 'a' with lon 500000"),
        ({"longitude": [1.0, 2, 3], "lat": [1.0, 2, 3]}, "'lon' not found among 'longitude'"),
    ],
)
def test_coordinates_are_checked(columns, message):
    with pytest.raises(ValueError, match=message):
        Chips.from_arrays(pixels(), sites=pd.DataFrame(columns, index=list("abc")), bands=BANDS)


def test_shapes_that_are_not_points_are_refused():
    sites = gpd.GeoDataFrame(
        index=list("abc"), geometry=gpd.points_from_xy([1, 2, 3], [1, 2, 3]), crs="EPSG:32636"
    )
    sites["geometry"] = sites.buffer(1)
    with pytest.raises(ValueError, match="must be points; found 'Polygon'"):
        Chips.from_arrays(pixels(), sites=sites, bands=BANDS)


def test_pixels_cannot_be_changed_from_outside():
    array = pixels()
    chips = Chips.from_arrays(array, sites=list("abc"), bands=BANDS)
    before = chips["a"]
    array[:] = -1
    chips["a"][:] = -2
    table = chips.manifest
    table["status"] = "changed"
    chips.sites.drop(index="a")
    np.testing.assert_array_equal(chips["a"], before)
    assert chips.manifest["status"].tolist() == ["ok"] * 3
    with pytest.raises(AttributeError):
        chips.bands = ("x", "y")


def test_unknown_site_names_the_known_ones():
    chips = Chips.from_arrays(pixels(), sites=list("abc"), bands=BANDS)
    with pytest.raises(KeyError, match=r"No chip for site 'z'; 3 sites have one: 'a', 'b', 'c'"):
        chips["z"]
    with pytest.raises(KeyError, match="1 of 2 sites have no chip: 'z'"):
        chips.select(["a", "z"])


def test_select_keeps_order_pixels_and_manifest():
    chips = Chips.from_arrays(pixels(), sites=list("abc"), bands=BANDS, resolution_m=10)
    some = chips.select(["c", "a"])
    assert list(some) == ["c", "a"]
    assert len(some) == 2
    np.testing.assert_array_equal(some["c"], chips["c"])
    assert some.manifest["site"].tolist() == ["c", "a"]
    assert (some.resolution_m, some.bands, some.size_px) == (10, ("red", "nir"), (4, 5))


def test_batches_cover_every_site_once():
    chips = Chips.from_arrays(pixels(5), sites=list("ecadb"), bands=BANDS)
    batches = list(chips.batches(2))
    assert [len(keys) for keys, _ in batches] == [2, 2, 1]
    assert [key for keys, _ in batches for key in keys] == list("ecadb")
    np.testing.assert_array_equal(np.concatenate([block for _, block in batches]), pixels(5))


@pytest.mark.parametrize("order", [[0, 1, 2, 3], [3, 1, 2, 0]])
def test_duplicates_point_to_the_first_key_whatever_the_order(order):
    array = pixels(4)
    array[3] = array[1]
    array[3, 0, 0, 0, 0] = array[1, 0, 0, 0, 0] = np.nan
    keys = np.array([7, 9, 10, 8])
    chips = Chips.from_arrays(array[order], sites=keys[order], bands=BANDS)
    twins = chips.manifest.set_index("site")["duplicate_of"].dropna()
    assert twins.to_dict() == {9: 8}
    assert "duplicates: 8 = 9 (identical pixels)" in chips.describe()


def test_empty_chips_are_no_duplicates():
    array = np.full((2, 1, 1, 2, 2), np.nan)
    manifest = Chips.from_arrays(array, sites=["a", "b"], bands=["red"]).manifest
    assert manifest["duplicate_of"].isna().all()
    assert manifest["status"].tolist() == ["no data"] * 2


def test_times_are_dated():
    chips = Chips.from_arrays(
        pixels(3, 2), sites=list("abc"), bands=BANDS, times=["2019-01-01", "2020-01-01"]
    )
    assert chips.n_times == 2
    assert chips.manifest["time"].dt.year.tolist() == [2019, 2020] * 3
    cube = chips.to_xarray()
    assert cube.dims == ("site", "time", "band", "y", "x")
    np.testing.assert_array_equal(
        cube.sel(site="b", time="2020-01-01", band="nir"), pixels(3, 2)[1, 1, 1]
    )
    with pytest.raises(ValueError, match="date the 2 times of `array`; got 1: '2019-01-01'"):
        Chips.from_arrays(pixels(3, 2), sites=list("abc"), bands=BANDS, times=["2019-01-01"])


@pytest.mark.parametrize("masked", [False, True])
def test_times_are_sorted_with_their_pixels(masked):
    array = pixels(2, 4)
    if masked:
        array = np.ma.masked_equal(array, array[0, 0, 0, 0, 0])
    given, kept = ["2020-05-01", "2018-01-01", "2019-07-01", "2018-01-01"], array.copy()
    chips = Chips.from_arrays(array, sites=["a", "b"], bands=BANDS, times=given)
    order = [1, 3, 2, 0]  # images of one day stay as they were given
    assert list(chips.times) == [pd.Timestamp(given[k]) for k in order]
    assert chips.manifest["time"].tolist() == list(chips.times) * 2
    for row, site in enumerate("ab"):
        expected = np.ma.filled(array[row, order], np.nan).astype("float32")
        np.testing.assert_array_equal(chips[site], expected)
    np.testing.assert_array_equal(array, kept)
    array[:] = -1  # the chips have a copy
    assert (chips["b"] != -1).all()
    first = Chips.from_arrays(kept[:, order], sites=["a", "b"], bands=BANDS, times=chips.times)
    pd.testing.assert_frame_equal(first.manifest, chips.manifest)


def test_text_says_what_there_is():
    chips = Chips.from_arrays(
        pixels(), sites=list("abc"), bands=BANDS, crs="EPSG:32636", resolution_m=14.25
    )
    assert repr(chips) == "Chips(3 sites, 1 time, 2 bands, 4 x 5 px, 14.25 m, EPSG:32636)"
    assert "nir: 20 to 119" in chips.describe()
    assert "<th" in chips._repr_html_()


def test_chips_pickle():
    chips = Chips.from_arrays(pixels(), sites=list("abc"), bands=BANDS, crs=4326)
    again = pickle.loads(pickle.dumps(chips))
    np.testing.assert_array_equal(again["c"], chips["c"])
    assert again.describe() == chips.describe()
