"""One interface, the same numbers from each source; joining, values, dates, statuses."""

import numpy as np
import pandas as pd
import pytest
import rasterio
import xarray as xr
from affine import Affine
from rasterio.shutil import copy as rasterio_copy

from terracausal._foundation.errors import (
    AlignmentError,
    BandError,
    ChipReadError,
    LeakageError,
)
from terracausal.imagery import ArraySource, CubeSource, RasterFiles, read_chips
from terracausal.imagery.sources import raster_files
from terracausal.imagery.sources.base import ImagerySource, Layer


def scene(rng, n_bands=2, height=90, width=120, dtype="int16"):
    return rng.integers(0, 10_001, (n_bands, height, width)).astype(dtype)


def cut(plane, folder, pixels, column, row, **profile):
    """Write four tiles that meet at a column and a row."""
    folder.mkdir()
    height, width = pixels.shape[1:]
    for i, (top, bottom) in enumerate(((0, row), (row, height))):
        for j, (left, right) in enumerate(((0, column), (column, width))):
            place = plane.transform(left, top)
            part = pixels[:, top:bottom, left:right]
            plane.write(folder / f"tile_{i}{j}.tif", part, transform=place, **profile)
    return folder


def as_cube(plane, pixels, *, south_up=False):
    height, width = pixels.shape[1:]
    cube = xr.DataArray(
        pixels,
        dims=("band", "y", "x"),
        coords={
            "band": [f"band_{k + 1}" for k in range(len(pixels))],
            "y": plane.top - plane.step * (np.arange(height) + 0.5),
            "x": plane.left + plane.step * (np.arange(width) + 0.5),
        },
        attrs={"crs": plane.crs},
    )
    return cube.isel(y=slice(None, None, -1)) if south_up else cube


def sources(plane, tmp_path, pixels):
    """Every kind of source, with the same pixels in it."""
    names = tuple(f"band_{k + 1}" for k in range(len(pixels)))
    whole = plane.write(tmp_path / "scene.tif", pixels, tiled=True, blockxsize=32, blockysize=32)
    tiles = cut(plane, tmp_path / "tiles", pixels, 55, 41)
    flipped = Affine(
        plane.step, 0, plane.left, 0, plane.step, plane.top - plane.step * pixels.shape[1]
    )
    rasterio_copy(whole, tmp_path / "scene.vrt", driver="VRT")
    cube = as_cube(plane, pixels)
    variables = xr.Dataset(
        {name: cube.sel(band=name, drop=True) for name in names}, attrs={"crs": plane.crs}
    )
    variables.to_zarr(tmp_path / "cube.zarr", consolidated=False)
    return {
        "file": whole,
        "glob": str(tmp_path / "tiles" / "tile_*.tif"),
        "folder": tiles,
        "list": sorted(tiles.iterdir(), reverse=True),
        "table": pd.DataFrame({"path": [str(whole)]}),
        "VRT": tmp_path / "scene.vrt",
        "upside down": plane.write(
            tmp_path / "upside_down.tif", pixels[:, ::-1], transform=flipped
        ),
        "array": ArraySource(pixels, names, plane.transform(), plane.crs),
        "DataArray": cube,
        "south up": as_cube(plane, pixels, south_up=True),
        "Dataset": variables,
        "zarr": tmp_path / "cube.zarr",
    }


def test_every_source_gives_the_same_numbers(tmp_path, rng, plane):
    pixels = scene(rng)
    columns, rows = rng.integers(0, 120, 30), rng.integers(0, 90, 30)
    sites = plane.sites_at(columns, rows)
    found = sources(plane, tmp_path, pixels)
    expected = np.full((30, 2, 11, 11), np.nan, dtype=np.float32)
    padded = np.pad(pixels.astype("float32"), ((0, 0), (5, 5), (5, 5)), constant_values=np.nan)
    for k in range(30):
        expected[k] = padded[:, rows[k] : rows[k] + 11, columns[k] : columns[k] + 11]
    for name, source in found.items():
        chips = read_chips(source, sites, size_px=11)
        assert isinstance(chips[0], np.ndarray), name
        assert chips.bands == ("band_1", "band_2"), name
        both = np.concatenate([block for _, block in chips.batches(7)])
        np.testing.assert_array_equal(both[:, 0], expected, err_msg=name)
        np.testing.assert_array_equal([chips[k][0] for k in range(30)], expected, err_msg=name)


def test_every_source_resamples_alike(tmp_path, rng, plane):
    pixels = scene(rng)
    sites = plane.sites_at(rng.integers(20, 100, 5), rng.integers(20, 70, 5))
    found = sources(plane, tmp_path, pixels)
    first = read_chips(found.pop("file"), sites, size_px=9, resolution_m=13)
    for name, source in found.items():
        # tiles have no neighbours beyond their edges, so resampled pixels there may differ
        if name in ("glob", "folder", "list"):
            continue
        other = read_chips(source, sites, size_px=9, resolution_m=13)
        for k in range(5):
            np.testing.assert_array_equal(first[k], other[k], err_msg=name)


def test_threads_and_clusters_change_nothing(tmp_path, rng, plane):
    from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
    from multiprocessing import get_context

    tiles = cut(plane, tmp_path / "tiles", scene(rng), 55, 41)
    sites = plane.sites_at(rng.integers(0, 120, 40), rng.integers(0, 90, 40))
    one = read_chips(tiles, sites, size_px=8, n_jobs=1)
    three = read_chips(tiles, sites, size_px=8, n_jobs=3)
    everything = one.to_xarray().to_numpy()
    np.testing.assert_array_equal(three.to_xarray().to_numpy(), everything)
    pd.testing.assert_frame_equal(one.manifest, three.manifest)
    pools = (
        ThreadPoolExecutor(2),
        ProcessPoolExecutor(1, mp_context=get_context("spawn")),
    )
    for pool in pools:
        with pool:
            far = read_chips(tiles, sites, size_px=8, client=pool)
            np.testing.assert_array_equal(far.to_xarray().to_numpy(), everything)
            pd.testing.assert_frame_equal(far.manifest, one.manifest)


def test_a_client_must_take_work(tmp_path, rng, plane):
    path = plane.write(tmp_path / "a.tif", scene(rng))
    with pytest.raises(TypeError, match=r"method `submit`.*got int"):
        read_chips(path, plane.sites_at([5], [5]), size_px=3, client=3)


@pytest.mark.parametrize(
    ("dtype", "value", "nodata", "expected"),
    [
        ("uint16", 10001, 0, 10001.0),
        ("uint16", 65535, None, 65535.0),
        ("int16", -9999, -9999, np.nan),
        ("int16", -9998, -9999, -9998.0),
        ("uint8", 0, 0, np.nan),
        ("uint8", 0, None, 0.0),
        ("float32", -3.4028234663852886e38, -3.4028234663852886e38, np.nan),
        ("float64", np.nan, None, np.nan),
        ("int32", -(2**31), -(2**31), np.nan),
    ],
)
def test_values_and_nodata(tmp_path, dtype, value, nodata, expected, plane):
    pixels = np.full((1, 9, 9), 7, dtype=dtype)
    pixels[0, 4, 4] = value
    path = plane.write(tmp_path / "a.tif", pixels, nodata=nodata)
    chips = read_chips(path, plane.sites_at([4], [4]), size_px=9)
    np.testing.assert_equal(float(chips[0][0, 0, 4, 4]), expected)
    assert (np.delete(chips[0].ravel(), 40) == 7).all()
    assert chips[0].dtype == np.float32


def test_nodata_that_is_also_a_value_is_an_argument(tmp_path, plane):
    pixels = np.arange(9, dtype="uint8").reshape(1, 3, 3)
    path = plane.write(tmp_path / "a.tif", pixels, nodata=0)
    sites = plane.sites_at([1], [1])
    assert np.isnan(read_chips(path, sites, size_px=3)[0]).sum() == 1
    every = read_chips(RasterFiles([path], nodata="none"), sites, size_px=3)
    np.testing.assert_array_equal(every[0][0], pixels)
    other = read_chips(RasterFiles([path], nodata=8), sites, size_px=3)
    assert np.argwhere(np.isnan(other[0][0, 0])).tolist() == [[2, 2]]
    with pytest.raises(ValueError, match="got 'zero'"):
        RasterFiles([path], nodata="zero")


def test_nodata_differs_by_band(tmp_path, rng, plane):
    cube = as_cube(plane, scene(rng))
    variables = {name: cube.sel(band=name, drop=True).copy() for name in ("band_1", "band_2")}
    variables["band_1"].attrs["_FillValue"] = int(cube[0, 4, 4])
    source = xr.Dataset(variables, attrs={"crs": plane.crs})
    chip = read_chips(source, plane.sites_at([4], [4]), size_px=1)
    assert np.isnan(chip[0][0, 0, 0, 0])
    assert chip[0][0, 1, 0, 0] == float(cube[1, 4, 4])


def test_scale_and_offset_are_applied_once(tmp_path, rng, plane):
    pixels = scene(rng, dtype="uint16")
    pixels[0, 4, 4] = 0
    path = plane.write(
        tmp_path / "a.tif", pixels, nodata=0, scaling=((0.0001, 0.0001), (-0.1, -0.1))
    )
    sites = plane.sites_at([4], [4])
    chip = read_chips(path, sites, size_px=5)[0][0]
    assert np.isnan(chip[0, 2, 2])
    expected = pixels[1, 2:7, 2:7] * 0.0001 - 0.1
    np.testing.assert_allclose(chip[1], expected, rtol=1e-6, atol=1e-7)
    stored = as_cube(plane, pixels)
    stored.attrs |= {"scale_factor": 0.0001, "add_offset": -0.1, "_FillValue": 0}
    np.testing.assert_array_equal(read_chips(stored, sites, size_px=5)[0][0], chip)
    # what xarray has decoded itself is not scaled again
    decoded = xr.decode_cf(stored.to_dataset(name="pixels"))["pixels"]
    np.testing.assert_allclose(read_chips(decoded, sites, size_px=5)[0][0], chip, atol=1e-6)


def test_sentinel_2_offset_of_the_baseline(tmp_path, rng, plane):
    pixels = scene(rng, dtype="uint16")
    sites = plane.sites_at([40], [40])
    for baseline, shift in (("N0300", 0), ("N0400", -1000)):
        folder = (
            tmp_path / f"S2A_MSIL2A_20220126T101219_{baseline}_R022_T36NUF_20220126T123456.SAFE"
        )
        folder.mkdir()
        path = plane.write(folder / "bands.tif", pixels, names=("B04", "SCL"))
        chips = read_chips(path, sites, size_px=5)
        np.testing.assert_array_equal(chips[0][0, 0], pixels[0, 38:43, 38:43] + float(shift))
        np.testing.assert_array_equal(chips[0][0, 1], pixels[1, 38:43, 38:43])


def test_mask_bands_and_alpha_are_missing(tmp_path, rng, plane):
    pixels = scene(rng, 2, dtype="uint8")
    pixels[1] = 255
    pixels[1, 4, 4] = 0
    path = plane.write(tmp_path / "alpha.tif", pixels, photometric="MINISBLACK", alpha="YES")
    chips = read_chips(path, plane.sites_at([4], [4]), size_px=5)
    assert chips.bands == ("band_1",)
    assert np.argwhere(np.isnan(chips[0][0, 0])).tolist() == [[2, 2]]
    masked = plane.write(tmp_path / "mask.tif", pixels[:1])
    with rasterio.open(masked, "r+") as file:
        file.write_mask(pixels[1] > 0)
    other = read_chips(masked, plane.sites_at([4], [4]), size_px=5)
    np.testing.assert_array_equal(other[0], chips[0])


def test_the_first_valid_pixel_wins_in_order_of_names(tmp_path, plane):
    high, low = np.full((1, 9, 9), 2, "int16"), np.full((1, 9, 9), 1, "int16")
    low[0, :, 4:] = -1
    plane.write(tmp_path / "b.tif", high, nodata=-1)
    plane.write(tmp_path / "a.tif", low, nodata=-1)
    chips = read_chips(tmp_path, plane.sites_at([4], [4], ["s"]), size_px=9)
    np.testing.assert_array_equal(chips["s"][0, 0], np.where(low[0] == 1, 1, 2))
    assert chips.manifest["source"][0] == f"{tmp_path / 'a.tif'}; {tmp_path / 'b.tif'}"


def test_own_pixels_come_before_resampled_ones(tmp_path, plane):
    plane.write(tmp_path / "b.tif", np.full((1, 9, 9), 2, "int16"))
    shifted = plane.transform(0.3)
    plane.write(tmp_path / "a.tif", np.full((1, 5, 4), 1, "int16"), transform=shifted)
    # the site lies on b only, so that b gives the grid
    chips = read_chips(tmp_path, plane.sites_at([7], [4], ["s"]), size_px=9)
    assert set(chips["s"][0, 0][:, :5].ravel()) == {2.0}


def test_dates_never_mix_and_are_sorted(tmp_path, plane):
    for day, value in (("2020-03-01", 3), ("2020-01-01", 1), ("2020-02-01", 2)):
        pixels = np.full((1, 9, 9), value, "int16")
        pixels[0, value, value] = -1
        plane.write(tmp_path / f"scene_{day}.tif", pixels, nodata=-1)
    chips = read_chips(tmp_path, plane.sites_at([4], [4], ["s"]), size_px=9)
    assert chips.times.strftime("%Y-%m-%d").tolist() == ["2020-01-01", "2020-02-01", "2020-03-01"]
    for k in range(3):
        assert np.nanmax(chips["s"][k]) == np.nanmin(chips["s"][k]) == k + 1
        assert np.isnan(chips["s"][k]).sum() == 1
    assert chips.manifest["status"].tolist() == ["partial"] * 3
    late = chips.select(times=slice("2020-02", None))
    assert late.times.month.tolist() == [2, 3]
    np.testing.assert_array_equal(late["s"], chips["s"][1:])
    assert late.manifest["time"].dt.month.tolist() == [2, 3]


def test_ragged_sequences(tmp_path, rng, plane):
    left, right = scene(rng, 1, 40, 40), scene(rng, 1, 40, 40)
    plane.write(tmp_path / "left_2019-01-01.tif", left)
    east = plane.transform(40)
    plane.write(tmp_path / "right_2020-01-01.tif", right, transform=east)
    plane.write(tmp_path / "right_2021-01-01.tif", right + 1, transform=east)
    chips = read_chips(tmp_path, plane.sites_at([20, 60], [20, 20], ["l", "r"]), size_px=5)
    assert chips.times is None
    assert chips.n_times == 2
    assert (len(chips["l"]), len(chips["r"])) == (1, 2)
    assert chips.times_of("l").year.tolist() == [2019]
    assert chips.times_of("r").year.tolist() == [2020, 2021]
    ((_, block),) = chips.batches(2)
    assert block.shape == (2, 2, 1, 5, 5)
    np.testing.assert_array_equal(block[0, 0], chips["l"][0])
    assert np.isnan(block[0, 1]).all()
    np.testing.assert_array_equal(block[1], chips["r"])
    assert chips.manifest["time"].dt.year.tolist() == [2019, 2020, 2021]
    only = chips.select(times=slice("2020", "2021"))
    assert list(only) == ["r"]
    assert "sites without an image in the times selected, left out: 1 ('l')" in only.describe()


def test_before_a_date_of_each_site(tmp_path, rng, plane):
    pixels = scene(rng)
    for year in (2018, 2019, 2020):
        plane.write(tmp_path / f"scene_{year}-06-01.tif", pixels + year % 2000)
    sites = plane.sites_at([20, 30, 40], [20, 20, 20], ["a", "b", "c"])
    sites["treated_on"] = ["2020-06-01", None, "2018-01-01"]
    chips = read_chips(tmp_path, sites, size_px=5, before="treated_on")
    assert chips.times_of("a").year.tolist() == [2018, 2019]
    assert chips.times_of("b").year.tolist() == [2018, 2019, 2020]
    assert list(chips) == ["a", "b"]
    assert chips.manifest.set_index("site")["status"]["c"] == "missing"
    text = chips.describe()
    assert "images not from before the limit, left out: 4" in text
    assert "sites without an image before the limit, left out: 1 ('c')" in text
    np.testing.assert_array_equal(chips["a"][1, 0], pixels[0, 18:23, 18:23] + 19)


def test_before_needs_dates(tmp_path, rng, plane):
    plane.write(tmp_path / "scene.tif", scene(rng))
    with pytest.raises(LeakageError, match=r"1 of 1 have none: .*scene.tif"):
        read_chips(tmp_path, plane.sites_at([20], [20]), size_px=5, before="2020-01-01")


def test_bands_as_dates(tmp_path, rng, plane):
    pixels = scene(rng, 3)
    path = plane.write(tmp_path / "ndvi.tif", pixels)
    days = ["2020-03-01", "LE71700552000342EDC00", "2019-07-01"]
    source = RasterFiles([path], band_dates=days, bands=["ndvi"])
    chips = read_chips(source, plane.sites_at([20], [20]), size_px=5)
    assert chips.bands == ("ndvi",)
    assert chips.times.strftime("%Y%j").tolist() == ["2000342", "2019182", "2020061"]
    np.testing.assert_array_equal(chips[0][:, 0], pixels[[1, 2, 0], 18:23, 18:23])
    with pytest.raises(BandError, match=r"each of the 3 bands .* has 2 entries"):
        RasterFiles([path], band_dates=days[:2]).layers()


def test_one_file_per_band(tmp_path, rng, plane):
    pixels = scene(rng)
    for k, name in enumerate(("B04", "B08")):
        plane.write(tmp_path / f"scene_{name}.tif", pixels[[k]], names=(name,))
    chips = read_chips(tmp_path, plane.sites_at([20], [20]), size_px=5, bands=["B08", "B04"])
    np.testing.assert_array_equal(chips[0][0], pixels[::-1, 18:23, 18:23])


def test_displaced_sites_get_several_chips(tmp_path, rng, plane):
    pixels = scene(rng, 1, 400, 400)
    path = plane.write(tmp_path / "a.tif", pixels)
    sites = plane.sites_at([200, 210], [200, 200], ["a", "b"])
    rule = {"n_draws": 3, "urban": True, "random_state": 0}
    chips = read_chips(path, sites, size_px=5, displacement=rule)
    assert chips.sites["parent_site"].value_counts().to_dict() == {"a": 3, "b": 3}
    again = read_chips(path, sites, size_px=5, displacement=rule)
    for key in chips:
        np.testing.assert_array_equal(chips[key], again[key])
    assert chips.manifest["duplicate_of"].isna().all()


def test_a_table_of_files_with_dates_and_sites(tmp_path, rng, plane):
    pixels = scene(rng)
    for name in ("p", "q", "r"):
        plane.write(tmp_path / f"{name}.tif", pixels + ord(name))
    table = pd.DataFrame(
        {
            "path": [tmp_path / f"{name}.tif" for name in "pqr"],
            "date": ["2020-05-01", "2019-05-01", "2019-05-01"],
            "site": ["a", "a", "b"],
        }
    )
    sites = plane.sites_at([20, 30], [20, 20], ["a", "b"])
    chips = read_chips(table, sites, size_px=5)
    assert chips.times_of("a").year.tolist() == [2019, 2020]
    np.testing.assert_array_equal(chips["a"][0, 0], pixels[0, 18:23, 18:23] + ord("q"))
    np.testing.assert_array_equal(chips["b"][0, 0], pixels[0, 18:23, 28:33] + ord("r"))
    with pytest.raises(ChipReadError, match="column 'path'; it has 'file'"):
        read_chips(table.rename(columns={"path": "file"})[["file"]], sites, size_px=5)
    with pytest.raises(AlignmentError, match="none of its 3 entries"):
        read_chips(table.assign(site=["x", "y", "z"]), sites, size_px=5)


def test_classes_are_never_averaged(tmp_path, rng, plane):
    pixels = scene(rng)
    path = plane.write(tmp_path / "a.tif", pixels, names=("B04", "SCL"))
    sites = plane.sites_at([40], [40])
    chip = read_chips(path, sites, size_px=9, resolution_m=13)[0][0]
    assert set(chip[1].ravel()) <= set(pixels[1].ravel().astype("float32"))
    assert not set(chip[0].ravel()) <= set(pixels[0].ravel().astype("float32"))
    nearest = read_chips(path, sites, size_px=9, resolution_m=13, resampling="nearest")[0][0]
    assert set(nearest[0].ravel()) <= set(pixels[0].ravel().astype("float32"))
    np.testing.assert_array_equal(nearest[1], chip[1])
    with pytest.raises(ValueError, match="got 'linear'"):
        read_chips(path, sites, size_px=9, resampling="linear")


def test_the_mean_of_a_plane_whatever_the_method(tmp_path, plane):
    columns = np.tile(np.arange(120, dtype="float32"), (1, 90, 1))
    path = plane.write(tmp_path / "a.tif", columns)
    for method in ("bilinear", "cubic", "average", "lanczos", "med"):
        chips = read_chips(
            path, plane.sites_at([60], [45]), size_px=5, resolution_m=30, resampling=method
        )
        np.testing.assert_allclose(
            chips[0][0, 0, 2], 60 + 3 * np.arange(-2, 3), atol=0.02, err_msg=method
        )


def test_off_edge_chips_stay_centred(tmp_path, rng, plane):
    pixels = scene(rng, 1)
    path = plane.write(tmp_path / "a.tif", pixels)
    sites = plane.sites_at([0, 119, -3, 300], [0, 89, 45, 45], ["nw", "se", "beyond", "far"])
    chips = read_chips(path, sites, size_px=9)
    status = chips.manifest.set_index("site")["status"].to_dict()
    assert status == {"nw": "partial", "se": "partial", "beyond": "partial", "far": "off edge"}
    assert np.isnan(chips["nw"][0, 0]).sum() == 81 - 25
    np.testing.assert_array_equal(chips["nw"][0, 0, 4:, 4:], pixels[0, :5, :5])
    np.testing.assert_array_equal(chips["se"][0, 0, :5, :5], pixels[0, -5:, -5:])
    np.testing.assert_array_equal(chips["beyond"][0, 0, :, 7:], pixels[0, 41:50, :2])
    assert chips.manifest["offset_m"].max() < 1e-6
    assert "sites off the edge of their file, left out: 1 ('far')" in chips.describe()


def test_files_are_opened_once_per_thread(tmp_path, rng, monkeypatch, plane):
    tiles = cut(plane, tmp_path / "tiles", scene(rng), 55, 41)
    sites = plane.sites_at(rng.integers(0, 120, 60), rng.integers(0, 90, 60))
    opened = []
    whole = raster_files.FileHandle.__init__
    monkeypatch.setattr(
        raster_files.FileHandle,
        "__init__",
        lambda self, uri: opened.append(uri) or whole(self, uri),
    )
    chips = read_chips(tiles, sites, size_px=8, n_jobs=1)
    assert not opened
    assert len(chips.manifest) == 60
    assert sorted(opened) == sorted(str(path) for path in tiles.iterdir())
    list(chips.batches(7))
    assert len(opened) == 4


def test_a_file_that_was_replaced_is_opened_anew(tmp_path, rng, plane):
    pixels = scene(rng)
    path = plane.write(tmp_path / "a.tif", pixels)
    chips = read_chips(path, plane.sites_at([20], [20]), size_px=5)
    path.unlink()
    plane.write(path, pixels + 1)
    np.testing.assert_array_equal(chips[0][0], pixels[:, 18:23, 18:23] + 1)


def test_reading_keeps_no_pixel(tmp_path, rng, plane):
    """A pass over many chips allocates no more than a few batches at a time."""
    import tracemalloc

    path = plane.write(tmp_path / "a.tif", scene(rng, 4, 400, 400), tiled=True)
    sites = plane.sites_at(rng.integers(40, 360, 400), rng.integers(40, 360, 400))
    chips = read_chips(path, sites, size_px=64, n_jobs=1)
    batch = 4 * 4 * 64 * 64 * 10
    list(chips.batches(10))
    tracemalloc.start()
    for _, block in chips.batches(10):
        assert block.nbytes == batch
    del block
    left, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 5 * batch
    assert left < batch / 2


def test_user_sources_need_only_two_methods(rng, plane):
    pixels = scene(rng)
    own = ArraySource(pixels, ["red", "nir"], plane.transform(), plane.crs)

    class Mine:
        def layers(self):
            return own.layers()

        def read(self, layer, grid, positions, resampling):
            return own.read(layer, grid, positions, resampling)

    assert isinstance(Mine(), ImagerySource)
    chips = read_chips(Mine(), plane.sites_at([20], [20]), size_px=5)
    np.testing.assert_array_equal(chips[0][0], pixels[:, 18:23, 18:23])


def test_callables_get_the_grid_and_the_date(plane):
    def image(grid, date):
        return np.full((1, *grid.shape), date.year)

    sites = plane.sites_at([20], [20])
    chips = read_chips(
        image, sites, size_px=5, bands=["year"], resolution_m=10, dates=["2020-01-01", "2019-01-01"]
    )
    assert chips[0][:, 0, 0, 0].tolist() == [2019, 2020]
    assert chips.crs.to_epsg() == 32636
    with pytest.raises(ValueError, match="`bands` must name"):
        read_chips(image, sites, size_px=5, resolution_m=10)
    with pytest.raises(ChipReadError, match=r"Site 0: .*shape \(1, 5, 5\).*returned \(5, 5\)"):
        read_chips(
            lambda grid: np.zeros(grid.shape), sites, size_px=5, bands=["x"], resolution_m=10
        ).describe()


def test_a_layer_needs_one_entry_per_band():
    with pytest.raises(BandError, match=r"each of its 2 bands 'red', 'nir'; a.tif has 1: 0.0"):
        Layer("a.tif", ("red", "nir"), nodata=(0.0,))


def test_cubes_with_time(rng, plane):
    pixels = rng.integers(0, 99, (3, 2, 20, 30)).astype("int16")
    cube = xr.DataArray(
        pixels,
        dims=("time", "band", "y", "x"),
        coords={
            "time": pd.DatetimeIndex(["2020-03-01", "2020-01-01", "2020-02-01"]),
            "band": ["red", "nir"],
            "y": plane.top - plane.step * (np.arange(20) + 0.5),
            "x": plane.left + plane.step * (np.arange(30) + 0.5),
        },
    )
    source = CubeSource(cube, crs=plane.crs)
    chips = read_chips(source, plane.sites_at([10], [10]), size_px=5, bands=["nir"])
    assert chips.times.month.tolist() == [1, 2, 3]
    np.testing.assert_array_equal(chips[0][:, 0], pixels[[1, 2, 0], 1, 8:13, 8:13])


def test_a_selection_of_bands_has_its_own_manifest(tmp_path, rng, plane):
    pixels = scene(rng).astype("float32")
    pixels[0, 20, 20] = np.nan
    chips = read_chips(
        plane.write(tmp_path / "a.tif", pixels), plane.sites_at([20], [20]), size_px=5
    )
    assert chips.manifest["status"].tolist() == ["partial"]
    some = chips.select(bands=["band_2"])
    assert some.manifest["status"].tolist() == ["ok"]
    np.testing.assert_array_equal(some[0][0], pixels[1:, 18:23, 18:23])
    assert some.bands == ("band_2",)
    with pytest.raises(BandError, match="some of 'band_1', 'band_2'; got 'red'"):
        chips.select(bands=["red"])


def test_chips_show_themselves(tmp_path, rng, plane):
    path = plane.write(tmp_path / "a.tif", scene(rng, 3), names=("blue", "green", "red"))
    chips = read_chips(path, plane.sites_at([20, 40, 60], [20, 20, 20]), size_px=5)
    page = chips._repr_html_()
    assert "data:image/png;base64," in page
    axes = chips.plot(2)
    assert [ax.get_title() for ax in axes.flat] == ["0", "1"]
    with pytest.raises(ValueError, match="site 0 has 1; got 4"):
        chips.plot(time=4)
