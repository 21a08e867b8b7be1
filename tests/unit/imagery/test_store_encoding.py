import numpy as np
import pytest
import rasterio
import xarray as xr
import zarr
from hypothesis import given
from hypothesis import strategies as st
from rasterio import Affine

from terracausal.imagery import Chips, read_chips
from terracausal.imagery.encoding import Encoding, fit_encoding
from terracausal.imagery.records import ChipRecord
from terracausal.imagery.sources.base import Layer
from terracausal.imagery.store import write_chips
from terracausal.imagery.stored_chips import open_chips
from terracausal.imagery.stored_dtypes import encoding_of_layers

INTEGERS = ["uint8", "int8", "uint16", "int16", "uint32", "int32"]


def stored_array(root):
    return zarr.open_array(root / "pixels", mode="r")


def integer_chips(dtype, values):
    return Chips.from_arrays(np.array(values, dtype=dtype).reshape(1, 1, 1, 2, -1), ["a"], ["red"])


@pytest.mark.parametrize("dtype", INTEGERS)
def test_integers_stay_integers_on_disk(tmp_path, dtype):
    limits = np.iinfo(dtype)
    values = [max(limits.min, -(2**24)), 0, 1, min(limits.max, 2**24)]
    chips = integer_chips(dtype, values)
    write_chips(chips, tmp_path / "x.zarr")
    assert stored_array(tmp_path / "x.zarr").dtype == dtype
    assert stored_array(tmp_path / "x.zarr")[0].ravel().tolist() == values
    assert open_chips(tmp_path / "x.zarr")["a"].ravel().tolist() == values


def test_10001_reads_back_as_10001(tmp_path):
    write_chips(integer_chips("uint16", [10001] * 4), tmp_path / "x.zarr")
    assert (stored_array(tmp_path / "x.zarr")[:] == 10001).all()
    assert (open_chips(tmp_path / "x.zarr")["a"] == 10001).all()


@pytest.mark.parametrize("dtype", ["int64", "float64", "float32", "float16"])
def test_other_dtypes_keep_their_numbers(tmp_path, dtype):
    chips = integer_chips(dtype, [-3, 0, 7, 100])
    write_chips(chips, tmp_path / "x.zarr")
    expected = "int32" if dtype == "int64" else "float32"
    assert stored_array(tmp_path / "x.zarr").dtype == expected
    np.testing.assert_array_equal(open_chips(tmp_path / "x.zarr")["a"], chips["a"])


def test_masked_integers_get_a_nodata_that_is_no_value(tmp_path):
    full = np.ma.masked_equal(np.arange(256, dtype="uint8").reshape(1, 1, 1, 16, 16), 77)
    chips = Chips.from_arrays(full, ["a"], ["red"])
    write_chips(chips, tmp_path / "x.zarr")
    assert stored_array(tmp_path / "x.zarr").dtype == "uint16"
    np.testing.assert_array_equal(open_chips(tmp_path / "x.zarr")["a"], chips["a"])
    few = np.ma.masked_equal(np.arange(4, dtype="uint8").reshape(1, 1, 1, 2, 2), 2)
    chips = Chips.from_arrays(few, ["a"], ["red"])
    write_chips(chips, tmp_path / "y.zarr")
    assert stored_array(tmp_path / "y.zarr")[0].ravel().tolist() == [0, 1, 255, 3]
    np.testing.assert_array_equal(open_chips(tmp_path / "y.zarr")["a"], chips["a"])


def test_an_encoding_by_hand_is_written_and_known_to_xarray(tmp_path):
    reflectance = np.array([0.0, 0.0001, 0.5, np.nan], dtype="float32").reshape(1, 1, 1, 2, 2)
    encoding = Encoding("uint16", nodata=0, scale=(0.0001,), offset=(-0.1,))
    exact = encoding.unpack(np.array([1000, 1001, 6000, 0], dtype="uint16").reshape(1, 1, 2, 2))
    np.testing.assert_allclose(exact[None], reflectance, atol=1e-7)
    chips = Chips.from_arrays(exact[None], ["a"], ["red"])
    write_chips(chips, tmp_path / "x.zarr", encoding=encoding)
    assert stored_array(tmp_path / "x.zarr")[0].ravel().tolist() == [1000, 1001, 6000, 0]
    np.testing.assert_array_equal(open_chips(tmp_path / "x.zarr")["a"], chips["a"])
    decoded = xr.open_zarr(tmp_path / "x.zarr")["pixels"].to_numpy()
    np.testing.assert_allclose(decoded, chips.to_xarray().to_numpy(), rtol=1e-6)


def test_a_copy_of_a_store_keeps_the_encoding(tmp_path):
    chips = Chips.from_arrays(np.full((1, 1, 1, 2, 2), 0.25), ["a"], ["red"])
    encoding = Encoding("int16", nodata=-9, scale=(0.25,), offset=(0.0,))
    write_chips(chips, tmp_path / "x.zarr", encoding=encoding)
    write_chips(open_chips(tmp_path / "x.zarr"), tmp_path / "y.zarr")
    assert stored_array(tmp_path / "y.zarr").dtype == "int16"
    assert (open_chips(tmp_path / "y.zarr")["a"] == 0.25).all()


@pytest.mark.parametrize(
    ("values", "encoding", "message"),
    [
        ([1, 2.5], Encoding("uint8"), r"1 pixels are not .no stored number., first value 2.5"),
        ([1, 300], Encoding("uint8"), r"1 pixels are not .beyond 0 to 255., first value 300"),
        ([-1, 3], Encoding("uint16"), "beyond 0 to 65535.*first value -1"),
        ([1, np.nan], Encoding("uint8"), "missing, without a nodata"),
        ([1, 255], Encoding("uint8", nodata=255), "valid but stored as 255.*first value 255"),
        ([1, 2], Encoding("uint8", scale=(1, 2)), "each of the 1 bands; got 2: 1, 2"),
    ],
)
def test_an_encoding_that_would_change_a_value_is_refused(tmp_path, values, encoding, message):
    chips = Chips.from_arrays(np.array(values).reshape(1, 1, 1, 1, 2), ["a"], ["red"])
    with pytest.raises(ValueError, match=f"Site 'a': .*{message}"):
        write_chips(chips, tmp_path / "x.zarr", encoding=encoding)
    assert not (tmp_path / "x.zarr").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dtype": "float64"}, "got 'float64'"),
        ({"dtype": "float32", "nodata": 0}, "float32 stores values and NaN as they are"),
        ({"dtype": "uint8", "nodata": 256}, "between 0 and 255; got 256"),
        ({"dtype": "uint8", "nodata": 1.5}, "got 1.5"),
        ({"dtype": "uint8", "scale": (0.0,)}, "not 0, .*got 0.0"),
        ({"dtype": "uint8", "offset": (np.inf,)}, "got inf"),
    ],
)
def test_encodings_are_checked(arguments, message):
    with pytest.raises(ValueError, match=message):
        Encoding(**arguments)


@given(
    dtype=st.sampled_from(INTEGERS[:4]),
    scale=st.floats(1e-4, 1e3),
    offset=st.floats(-10, 10),
    seed=st.integers(0, 2**31),
)
def test_whatever_was_unpacked_packs_to_the_same_numbers(dtype, scale, offset, seed):
    limits = np.iinfo(dtype)
    stored = np.random.default_rng(seed).integers(
        limits.min, limits.max, size=(2, 3, 4, 5), dtype=dtype, endpoint=True
    )
    encoding = Encoding(dtype, int(stored[0, 0, 0, 0]), (scale,) * 3, (offset,) * 3)
    values = encoding.unpack(stored)
    assert np.isnan(values[0, 0, 0, 0])
    distinct = np.unique(values[~np.isnan(values)]).size
    if distinct == np.unique(stored[stored != encoding.nodata]).size:
        np.testing.assert_array_equal(encoding.pack(values), stored)


def test_nodata_is_chosen_outside_the_values():
    def fitted(dtype, low, high, share=0.5, **options):
        records = [ChipRecord("a", None, "partial", share, low=(low,), high=(high,))]
        return fit_encoding(Encoding(dtype, **options), records, 1, padded=False)

    assert fitted("uint8", 3.0, 9.0).nodata == 255
    assert fitted("int16", -5.0, 9.0).nodata == -(2**15)
    assert fitted("int16", -(2.0**15), 9.0).nodata == 2**15 - 1
    assert fitted("uint8", 0.0, 255.0) == Encoding("uint16", 65535)
    assert fitted("uint16", 0.0, 65535.0) == Encoding("uint32", 2**32 - 1)
    assert fitted("uint8", 0.0, 255.0, share=0.0) == Encoding("uint8")
    assert fitted("uint8", 0.0, 255.0, nodata=7).nodata == 7
    assert fitted("uint8", np.nan, np.nan, share=1.0).nodata == 255
    record = ChipRecord("a", None, "ok", 0.0, low=(0.0,), high=(127.5,))
    scaled = fit_encoding(Encoding("uint8", None, (0.5,), (0.0,)), [record], 1, padded=True)
    assert scaled == Encoding("uint16", 65535, (0.5,), (0.0,))


def test_layers_that_differ_are_written_as_float32():
    def layer(**options):
        return Layer("a.tif", ("red", "nir"), **{"dtype": "uint16", **options}), ((0, 0), (1, 1))

    first = layer(nodata=(0.0, 0.0))
    assert encoding_of_layers([first, first], 2) == Encoding("uint16", 0)
    assert encoding_of_layers([first, layer(nodata=(1.0, 1.0))], 2) == Encoding("uint16")
    assert encoding_of_layers([first, layer()], 2) == Encoding("uint16")
    assert encoding_of_layers([layer(nodata=(-1.0, -1.0))], 2) == Encoding("uint16")
    assert encoding_of_layers([first, layer(dtype="int16")], 2) == Encoding()
    assert encoding_of_layers([first, layer(scale=(2.0, 1.0))], 2) == Encoding()
    scaled = layer(scale=(2.0, 3.0), offset=(0.0, 1.0))
    assert encoding_of_layers([scaled], 2) == Encoding("uint16", None, (2.0, 3.0), (0.0, 1.0))
    assert encoding_of_layers([layer(dtype="float64")], 2) == Encoding()


def write_raster(path, dtype, nodata, origin):
    pixels = np.arange(64, dtype=dtype).reshape(1, 8, 8) + 10000
    pixels[0, 0, 0] = nodata
    options = {"driver": "GTiff", "height": 8, "width": 8, "count": 1, "crs": "EPSG:32636"}
    with rasterio.open(
        path, "w", **options, dtype=dtype, nodata=nodata, transform=Affine(10, 0, origin, 0, -10, 0)
    ) as file:
        file.write(pixels)


@pytest.mark.parametrize(("dtype", "nodata"), [("uint16", 0), ("int16", -9999)])
def test_integers_of_files_stay_integers_on_disk(tmp_path, dtype, nodata):
    import geopandas as gpd

    write_raster(tmp_path / "a.tif", dtype, nodata, 500_000)
    write_raster(tmp_path / "b.tif", dtype, nodata, 600_000)
    sites = gpd.GeoDataFrame(
        index=["a", "b"], geometry=gpd.points_from_xy([500_040, 600_010], [-40, -40]), crs=32636
    )
    chips = read_chips(tmp_path, sites, size_px=8)
    write_chips(chips, tmp_path / "x.zarr")
    stored = stored_array(tmp_path / "x.zarr")
    assert stored.dtype == dtype
    assert stored.fill_value == nodata
    found = open_chips(tmp_path / "x.zarr")
    for site in "ab":
        np.testing.assert_array_equal(found[site], chips[site])
    assert np.isnan(found["a"][0, 0, 0, 0])
    assert np.isnan(found["b"][0, 0, :, :3]).all()
    resampled = read_chips(tmp_path, sites, size_px=8, resolution_m=7.5)
    write_chips(resampled, tmp_path / "y.zarr")
    assert stored_array(tmp_path / "y.zarr").dtype == "float32"
