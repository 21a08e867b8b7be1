import geopandas as gpd
import numpy as np
import pandas as pd
import pyproj
import pytest
import rasterio

from terracausal._foundation.errors import AlignmentError, BandError, ChipReadError
from terracausal.imagery import read_chips

UTM = "EPSG:32636"
LON, LAT = 33.1, 3.05  # inside zone 36 north
STEP = 10.0


def utm(lon, lat, crs=UTM):
    return pyproj.Transformer.from_crs(4326, crs, always_xy=True).transform(lon, lat)


def write(
    folder, site, pixels, *, lon=LON, lat=LAT, crs=UTM, step=STEP, shift_px=(0, 0), **profile
):
    """Write pixels (n_bands, height, width) centred on a position, moved by whole pixels."""
    n_bands, height, width = pixels.shape
    x, y = (lon, lat) if crs in (None, "EPSG:4326") else utm(lon, lat, crs)
    left = x - step * (width / 2 - shift_px[0])
    top = y + step * (height / 2 - shift_px[1])
    descriptions = profile.pop("descriptions", None)
    path = folder / f"{site}.tif"
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        count=n_bands,
        height=height,
        width=width,
        dtype=pixels.dtype,
        crs=crs,
        transform=rasterio.Affine(step, 0, left, 0, -step, top),
        **profile,
    ) as file:
        file.write(pixels)
        if descriptions:
            file.descriptions = descriptions
    return path


def ramp(n_bands=2, height=9, width=9, dtype=np.uint16):
    return np.arange(n_bands * height * width, dtype=dtype).reshape(n_bands, height, width)


def place(*keys, lon=LON, lat=LAT):
    return pd.DataFrame({"lon": lon, "lat": lat}, index=list(keys))


def test_the_numbers_of_the_file(tmp_path):
    write(tmp_path, "a", ramp() + 10001)
    chips = read_chips(tmp_path, place("a"), size_px=9)
    np.testing.assert_array_equal(chips["a"][0], ramp() + 10001)
    assert chips.bands == ("band_1", "band_2")
    assert chips.crs.to_epsg() == 32636
    assert chips.resolution_m == STEP
    row = chips.manifest.iloc[0]
    assert (row["status"], row["nodata_share"]) == ("ok", 0)
    assert row["source"].endswith("a.tif")
    assert row["offset_m"] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    ("size", "shift", "cut"), [(5, (0, 0), 2), (5, (1, -1), 2), (3, (2, 2), 3)]
)
def test_larger_files_are_cropped_around_the_site(tmp_path, size, shift, cut):
    write(tmp_path, "a", ramp(), shift_px=shift)
    left, top = cut - shift[0], cut - shift[1]
    chip = read_chips(tmp_path, place("a"), size_px=size)["a"]
    np.testing.assert_array_equal(chip[0], ramp()[:, top : top + size, left : left + size])


def test_even_windows_lie_half_a_pixel_off(tmp_path):
    write(tmp_path, "a", ramp())
    chips = read_chips(tmp_path, place("a"), size_px=(4, 9))
    assert chips.size_px == (4, 9)
    assert chips.manifest["offset_m"][0] == pytest.approx(STEP / 2, rel=1e-6)


def test_smaller_files_are_padded_with_nan(tmp_path):
    write(tmp_path, "a", ramp(1, 3, 3))
    chips = read_chips(tmp_path, place("a"), size_px=5)
    expected = np.full((5, 5), np.nan)
    expected[1:4, 1:4] = ramp(1, 3, 3)[0]
    np.testing.assert_array_equal(chips["a"][0, 0], expected)
    assert chips.manifest["status"][0] == "partial"
    assert chips.manifest["nodata_share"][0] == pytest.approx(16 / 25)


def test_nodata_becomes_nan_and_nothing_else(tmp_path):
    pixels = ramp(dtype=np.int16)
    pixels[0, 4, 4] = -9999
    write(tmp_path, "a", pixels, nodata=-9999)
    chip = read_chips(tmp_path, place("a"), size_px=9)["a"][0]
    assert np.isnan(chip[0, 4, 4])
    assert np.isnan(chip).sum() == 1
    assert chip[0, 0, 0] == 0


def test_sites_in_a_projected_crs_and_files_in_degrees(tmp_path):
    write(tmp_path, "a", ramp(), crs="EPSG:4326", step=0.0001)
    x, y = utm(LON, LAT)
    sites = gpd.GeoDataFrame(index=["a"], geometry=gpd.points_from_xy([x], [y]), crs=UTM)
    chips = read_chips(tmp_path, sites, size_px=9)
    np.testing.assert_array_equal(chips["a"][0], ramp())
    # 0.0001 degrees near the equator
    assert chips.resolution_m == pytest.approx(11.1, rel=0.01)


def test_resampling_to_coarser_pixels_averages(tmp_path):
    columns = np.tile(np.arange(40, dtype=np.float32), (1, 40, 1))
    write(tmp_path, "a", columns)
    chips = read_chips(tmp_path, place("a"), size_px=5, resolution_m=40)
    # a plane in x keeps its values at the centres of the new pixels: 19.5 in the middle
    np.testing.assert_allclose(chips["a"][0, 0, 2], 19.5 + 4 * np.arange(-2, 3), atol=1e-3)
    assert chips.resolution_m == 40
    assert chips.manifest["offset_m"][0] == pytest.approx(0, abs=1e-6)


def test_resampling_files_in_degrees_uses_the_utm_zone(tmp_path):
    rows = np.repeat(np.arange(60, dtype=np.float32), 60).reshape(1, 60, 60)
    write(tmp_path, "a", rows, crs="EPSG:4326", step=0.0001)
    chips = read_chips(tmp_path, place("a"), size_px=5, resolution_m=20)
    assert chips.crs.to_epsg() == 32636
    # a degree of latitude has 110,575 m here, so 20 m are 1.809 rows
    middle = chips["a"][0, 0, :, 2]
    assert middle[4] - middle[0] == pytest.approx(4 * 20 / 11.0575, rel=0.02)
    assert middle[2] == pytest.approx(29.5, abs=0.05)


def test_resampling_keeps_missing_pixels_missing(tmp_path):
    pixels = np.full((2, 20, 20), 5, dtype=np.int16)
    pixels[0, :, :10] = -1
    write(tmp_path, "a", pixels, nodata=-1)
    chip = read_chips(tmp_path, place("a"), size_px=9, resolution_m=20)["a"][0]
    assert np.isnan(chip[0, :, :4]).all()
    np.testing.assert_allclose(chip[0, :, 5:], 5, rtol=1e-6)
    np.testing.assert_allclose(chip[1], 5, rtol=1e-6)


def test_resampling_averages_over_scattered_gaps(tmp_path):
    pixels = np.full((1, 40, 40), 7, dtype=np.int16)
    pixels[0, ::4, ::4] = -1
    write(tmp_path, "a", pixels, nodata=-1)
    chips = read_chips(tmp_path, place("a"), size_px=9, resolution_m=40)
    np.testing.assert_allclose(chips["a"], 7, rtol=1e-6)


def test_resampling_does_not_invent_pixels_beyond_the_file(tmp_path):
    write(tmp_path, "a", np.full((1, 10, 10), 7, dtype=np.int16))
    chip = read_chips(tmp_path, place("a"), size_px=9, resolution_m=20)["a"][0, 0]
    inside = ~np.isnan(chip)
    assert inside[2:7, 2:7].all()
    assert inside.sum() == 25


def test_mercator_metres_are_not_ground_metres(tmp_path):
    lat = 60.0
    write(tmp_path, "a", ramp(), crs="EPSG:3857", lon=33.0, lat=lat)
    chips = read_chips(tmp_path, place("a", lon=33.0, lat=lat), size_px=3)
    assert chips.resolution_m == pytest.approx(STEP * np.cos(np.radians(lat)), rel=0.01)


def test_files_of_different_zones_have_no_common_crs(tmp_path):
    write(tmp_path, "a", ramp())
    write(tmp_path, "b", ramp(), crs="EPSG:32635", lon=27.0)
    sites = pd.concat([place("a"), place("b", lon=27.0)])
    chips = read_chips(tmp_path, sites, size_px=9)
    assert chips.crs is None
    np.testing.assert_array_equal(chips["a"], chips["b"])


def test_descriptions_name_the_bands_and_bands_choose(tmp_path):
    write(tmp_path, "a", ramp(3), descriptions=("red", "green", "nir"))
    write(tmp_path, "b", ramp(3)[::-1], descriptions=("nir", "green", "red"))
    sites = place("a", "b")
    assert read_chips(tmp_path, sites, size_px=9).bands == ("red", "green", "nir")
    some = read_chips(tmp_path, sites, size_px=9, bands=["nir", "red"])
    np.testing.assert_array_equal(some["a"][0], ramp(3)[[2, 0]])
    np.testing.assert_array_equal(some["a"], some["b"])


def test_new_names_for_all_bands(tmp_path):
    write(tmp_path, "a", ramp(2), descriptions=("B4", "B8"))
    chips = read_chips(tmp_path, place("a"), size_px=9, bands=["red", "nir"])
    assert chips.bands == ("red", "nir")
    np.testing.assert_array_equal(chips["a"][0], ramp(2))


@pytest.mark.parametrize("bands", [["red"], ["nir", "swir"], ["x", "y", "z"]])
def test_bands_that_do_not_fit_are_refused(tmp_path, bands):
    write(tmp_path, "a", ramp(2), descriptions=("red", "nir"))
    if bands == ["red"]:
        assert read_chips(tmp_path, place("a"), size_px=9, bands=bands).bands == ("red",)
        return
    with pytest.raises(BandError, match=r"'red', 'nir', or new names for all 2 bands; got"):
        read_chips(tmp_path, place("a"), size_px=9, bands=bands)


def test_files_with_different_bands_are_named(tmp_path):
    for site in "ab":
        write(tmp_path, site, ramp(2))
    write(tmp_path, "c", ramp(3))
    with pytest.raises(BandError, match=r"numbers of bands: 2 at sites 'a', 'b'; 3 at sites 'c'"):
        read_chips(tmp_path, place("a", "b", "c"), size_px=9)


def test_sites_without_file_and_files_without_site_are_counted(tmp_path):
    write(tmp_path, "a", ramp())
    write(tmp_path, "stranger", ramp())
    chips = read_chips(tmp_path, place("b", "a", "c"), size_px=9)
    assert list(chips.keys) == ["a"]
    assert chips.manifest.set_index("site")["status"].to_dict() == {
        "b": "missing",
        "a": "ok",
        "c": "missing",
    }
    assert "sites without a file, left out: 2 ('b', 'c')" in chips.describe()
    assert "files without a site, ignored: 1 ('stranger.tif')" in chips.describe()


def test_no_file_for_any_site_says_what_was_looked_for(tmp_path):
    write(tmp_path, "site_1", ramp())
    with pytest.raises(ChipReadError, match=r"None of the 2 sites .*'1.tif', '2.tif'.*site_1.tif"):
        read_chips(tmp_path, place(1, 2), size_px=9, layout="site")


def test_source_that_is_no_folder(tmp_path):
    with pytest.raises(ChipReadError, match="found nothing at"):
        read_chips(tmp_path / "absent", place("a"), size_px=9)


def test_two_files_for_one_site(tmp_path):
    path = write(tmp_path, "a", ramp())
    path.with_suffix(".tiff").write_bytes(path.read_bytes())
    with pytest.raises(AlignmentError, match=r"'a' has two: a.tif and a.tiff"):
        read_chips(tmp_path, place("a"), size_px=9)


@pytest.mark.parametrize("share", [0.0, 0.02, 0.6])
def test_corrupt_files_are_named(tmp_path, share):
    write(tmp_path, "a", ramp())
    path = write(tmp_path, "b", np.random.default_rng(0).random((2, 64, 64)))
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ChipReadError, match=r"Site 'b': .*b\.tif could not be read"):
        read_chips(tmp_path, place("a", "b"), size_px=9).describe()


def test_several_corrupt_files_are_counted(tmp_path):
    write(tmp_path, "a", ramp())
    for site in "bcd":
        (tmp_path / f"{site}.tif").write_bytes(b"not an image")
    with pytest.raises(ChipReadError, match=r"(?s)3 of 4 files cannot be used.*'b'.*'c'.*'d'"):
        read_chips(tmp_path, place(*"abcd"), size_px=9)


def test_file_without_crs(tmp_path):
    write(tmp_path, "a", ramp(), crs=None)
    with pytest.raises(ChipReadError, match=r"Site 'a': .*a\.tif has no coordinate reference"):
        read_chips(tmp_path, place("a"), size_px=9)


def test_file_that_vanishes_is_named(tmp_path):
    path = write(tmp_path, "a", ramp())
    chips = read_chips(tmp_path, place("a"), size_px=9)
    path.unlink()
    with pytest.raises(ChipReadError, match=r"Site 'a': .*a\.tif could not be read"):
        chips["a"]


def test_swapped_coordinates_are_recognised_by_the_files(tmp_path):
    write(tmp_path, "a", ramp())
    with pytest.raises(ValueError, match=r"1 of 1 .* site 'a' with lon 3.05.*look swapped"):
        read_chips(tmp_path, place("a", lon=LAT, lat=LON), size_px=9)


def test_sites_off_their_file_are_left_out_and_counted(tmp_path):
    write(tmp_path, "a", ramp())
    write(tmp_path, "far", ramp(), lon=LON + 0.5)
    write(tmp_path, "edge", ramp(), shift_px=(6, 0))
    chips = read_chips(tmp_path, place("a", "far", "edge"), size_px=9)
    status = chips.manifest.set_index("site")["status"].to_dict()
    assert status == {"a": "ok", "far": "off edge", "edge": "partial"}
    assert list(chips.keys) == ["a", "edge"]
    assert "sites off the edge of their file, left out: 1 ('far')" in chips.describe()
    np.testing.assert_array_equal(chips["edge"][0, :, :, 6:], ramp()[:, :, :3])


def test_no_site_on_its_file(tmp_path):
    write(tmp_path, "far", ramp(), lon=LON + 0.5)
    with pytest.raises(ValueError, match=r"No site has a chip; of 1 sites: .*'far'"):
        read_chips(tmp_path, place("far"), size_px=9)


def test_min_valid_drops_and_counts(tmp_path):
    write(tmp_path, "a", ramp())
    write(tmp_path, "b", ramp(2, 3, 3))
    chips = read_chips(tmp_path, place("a", "b"), size_px=9, min_valid=0.5)
    assert list(chips.keys) == ["a"]
    assert "valid share below 0.5, left out: 1 ('b')" in chips.describe()
    assert len(read_chips(tmp_path, place("a", "b"), size_px=9)) == 2


def test_pixels_of_different_length_need_a_resolution(tmp_path):
    for site in "ab":
        write(tmp_path, site, ramp())
    write(tmp_path, "c", ramp(), step=30.0)
    sites = place("a", "b", "c")
    with pytest.raises(ValueError, match=r"median is 10 m.*1 of 3 .* site 'c' with 30 m"):
        read_chips(tmp_path, sites, size_px=3)
    assert len(read_chips(tmp_path, sites, size_px=3, resolution_m=10)) == 3


def test_row_numbers_become_keys_only_with_a_warning_unless_they_are_meant(tmp_path):
    """A table without keys would be joined to a study by row numbers, which no key is."""
    path = write(tmp_path, "tile", ramp())
    sites = pd.DataFrame({"lon": LON, "lat": LAT, "village": [7, 3]})
    with pytest.warns(UserWarning, match=r"numbers of its 2 rows.* 'village'.*set_index") as told:
        assert list(read_chips(path, sites, size_px=9).keys) == [0, 1]
    assert told[0].filename == __file__
    # warnings are errors in these tests
    assert list(read_chips(path, sites.rename_axis("site"), size_px=9).keys) == [0, 1]
    assert list(read_chips(path, sites.set_index("village"), size_px=9).keys) == [7, 3]
    named = sites.rename(columns={"village": "site"})
    assert list(read_chips(path, named, size_px=9).keys) == [7, 3]


def test_sites_need_positions_and_a_crs(tmp_path):
    write(tmp_path, "a", ramp())
    with pytest.raises(ValueError, match="got keys without positions"):
        read_chips(tmp_path, ["a"], size_px=9)
    bare = gpd.GeoDataFrame(index=["a"], geometry=gpd.points_from_xy([LON], [LAT]))
    with pytest.raises(ValueError, match="this GeoDataFrame has none"):
        read_chips(tmp_path, bare, size_px=9)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"size_px": 0}, "`size_px` must be an integer of at least 1; got 0"),
        ({"size_px": (3, 4, 5)}, r"got \(3, 4, 5\)"),
        ({"size_px": 9, "resolution_m": -1}, "`resolution_m` .* got -1"),
        ({"size_px": 9, "min_valid": 1.5}, "`min_valid` .* got 1.5"),
    ],
)
def test_settings_are_checked(tmp_path, setting, message):
    write(tmp_path, "a", ramp())
    with pytest.raises(ValueError, match=message):
        read_chips(tmp_path, place("a"), **setting)


def test_the_ugandan_chips(data_root):
    folder = data_root / "uganda_yop"
    sites = pd.read_csv(folder / "sites.csv")
    chips = read_chips(folder / "chips", sites, size_px=35)
    assert (chips.n_sites, chips.n_bands, chips.resolution_m) == (327, 3, 14.25)
    twins = chips.manifest.set_index("site")["duplicate_of"].dropna()
    assert twins.to_dict() == {159: 157, 229: 228}
    assert "157 = 159, 228 = 229" in chips.describe()
    with rasterio.open(folder / "chips" / "42.tif") as file:
        np.testing.assert_array_equal(chips[42][0], file.read())
    with pytest.raises(ValueError, match=r"327 of 327 .*look swapped"):
        read_chips(folder / "chips", sites.rename(columns={"lon": "lat", "lat": "lon"}), size_px=35)


def test_sentinel_chips_of_several_zones(data_root):
    folder = data_root / "sentinel2"
    centres = {}
    for path in sorted(folder.glob("*_[0-9].tif")):
        with rasterio.open(path) as file:
            box = file.bounds
            x, y = (box.left + box.right) / 2, (box.bottom + box.top) / 2
            back = pyproj.Transformer.from_crs(file.crs.to_wkt(), 4326, always_xy=True)
            centres[path.stem] = back.transform(x, y)
    sites = pd.DataFrame.from_dict(centres, orient="index", columns=["lon", "lat"])
    chips = read_chips(folder, sites, size_px=64)
    assert (chips.n_sites, chips.n_bands, chips.crs) == (6, 13, None)
    assert chips.resolution_m == pytest.approx(10, rel=0.01)
    with rasterio.open(folder / "Forest_1.tif") as file:
        np.testing.assert_array_equal(chips["Forest_1"][0], file.read())
    assert "files without a site, ignored: 2" in chips.describe()
