"""Sequences of images from files to composites, on real files and on small ones made here."""

import pickle

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import rasterio
from affine import Affine

from terracausal._foundation.errors import LeakageError
from terracausal.imagery import Chips, RasterFiles, read_chips
from terracausal.imagery.composites import composite_chips
from terracausal.imagery.cropping import centre_crop
from terracausal.imagery.dates import refuse_later_images
from terracausal.imagery.indices import index_chips, spectral_index
from terracausal.imagery.last_images import describe_image_dates, last_images
from terracausal.imagery.masks import LandsatMask, SceneClassMask, mask_chips
from terracausal.imagery.stored_chips import open_chips
from terracausal.study import Study

UTM = "EPSG:32636"
CLEAR, CLOUD = 21824, 22280  # values of QA_PIXEL


def write(path, pixels, *, nodata=None, descriptions=None, crs=UTM, tags=None):
    """Write pixels (n_bands, height, width) of 30 m, left upper corner at (500 km, 30 km)."""
    count, height, width = pixels.shape
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        count=count,
        height=height,
        width=width,
        dtype=pixels.dtype,
        nodata=nodata,
        crs=crs,
        transform=Affine(30, 0, 5e5, 0, -30, 3e4),
    ) as file:
        file.write(pixels)
        file.update_tags(**(tags or {}))
        if descriptions:
            file.descriptions = descriptions
    return str(path)


def points(places, crs=UTM, **columns):
    """Return sites at columns and rows of the grid of `write`."""
    geometry = gpd.points_from_xy(
        [5e5 + 30 * column for column, _ in places], [3e4 - 30 * row for _, row in places], crs=crs
    )
    return gpd.GeoDataFrame(columns, geometry=geometry, index=list("abcdefgh")[: len(places)])


@pytest.fixture(scope="module")
def tura(data_root):
    """The whole of a raster of 166 dates as one chip, its numbers and its scene names."""
    path = data_root / "gewata_landsat" / "tura_ndvi.tif"
    scenes = pd.read_csv(data_root / "gewata_landsat" / "tura_layers.csv")["scene"]
    with rasterio.open(path) as file:
        stored = file.read()
        middle = file.transform * (file.width / 2, file.height / 2)
        crs = file.crs
    sites = gpd.GeoDataFrame(geometry=gpd.points_from_xy(*zip(middle, strict=True)), crs=crs)
    sites.index = ["tura"]
    source = RasterFiles([path], band_dates=scenes, bands=["ndvi"])
    chips = read_chips(source, sites, size_px=stored.shape[1:])
    days = pd.to_datetime([scene[9:16] for scene in scenes], format="%Y%j")
    return chips, stored, days


def test_layers_come_back_in_date_order_with_their_gaps(tura):
    chips, stored, days = tura
    assert not days.is_monotonic_increasing  # otherwise this test shows nothing
    assert chips.n_times == 166
    assert chips.times.tolist() == sorted(days)
    pixels = chips["tura"][:, 0]
    expected = stored[np.argsort(days)].astype(np.float32)
    expected[stored[np.argsort(days)] == -32768] = np.nan
    np.testing.assert_array_equal(pixels, expected)
    assert np.isnan(pixels).mean() == pytest.approx(0.313, abs=0.002)
    shares = chips.manifest["nodata_share"].to_numpy()
    np.testing.assert_allclose(shares, np.isnan(expected).mean(axis=(1, 2)), atol=1e-12)


@pytest.mark.parametrize(("every", "freq"), [("monthly", "ME"), ("yearly", "YE"), ("16D", "16D")])
@pytest.mark.parametrize("how", ["median", "mean"])
def test_composites_of_every_pixel_equal_pandas(tura, every, freq, how):
    chips, stored, days = tura
    composites = composite_chips(chips, every=every, how=how)
    values = stored.reshape(166, -1).astype(np.float64)
    values[values == -32768] = np.nan
    origin = {"origin": "epoch"} if freq == "16D" else {}
    table = pd.DataFrame(values, index=days).sort_index().resample(freq, **origin)
    expected = getattr(table, how)()
    found = composites["tura"].reshape(len(expected), -1)
    np.testing.assert_allclose(found, expected.to_numpy(np.float32), rtol=2e-7)
    if freq != "16D":
        assert composites.times.tolist() == expected.index.tolist()
    gaps = composites.manifest.set_index("time")["status"] == "no data"
    assert gaps.to_numpy().tolist() == expected.isna().all(axis=1).tolist()


def test_one_file_per_date_at_300_sites(data_root, rng):
    folder = data_root / "pucallpa_landsat"
    with rasterio.open(folder / "1985.tif") as file:
        bounds, transform = file.bounds, file.transform
    sites = pd.DataFrame(
        {
            "lon": rng.uniform(bounds.left, bounds.right, 300),
            "lat": rng.uniform(bounds.bottom, bounds.top, 300),
        },
        index=[f"s{k:03}" for k in range(300)],
    )
    bands = ["swir1", "nir", "red", "green"]
    chips = read_chips(folder, sites, size_px=16, bands=bands)
    assert (chips.n_sites, chips.n_times, chips.n_bands) == (300, 8, 4)
    years = [1985, 1990, 1995, 2000, 2005, 2010, 2015, 2020]
    assert chips.times.year.tolist() == years
    stored = []
    for year in years:
        with rasterio.open(folder / f"{year}.tif") as file:
            stored.append(file.read().astype(np.float32))
    whole = np.stack(stored)
    whole[whole == 0] = np.nan
    whole = np.pad(whole, ((0, 0), (0, 0), (16, 16), (16, 16)), constant_values=np.nan)
    for site, (lon, lat) in zip(sites.index, sites.to_numpy(), strict=True):
        column, row = ~transform * (lon, lat)
        left, top = (int(np.floor(place - 8 + 0.5)) for place in (column, row))
        expected = whole[:, :, top + 16 : top + 32, left + 16 : left + 32]
        np.testing.assert_array_equal(chips[site], expected)
    assert len(chips.manifest) == 2400
    # a year may hold images up to its last day
    assert chips.times[0] == pd.Timestamp("1985-12-31")


@pytest.fixture
def folder(tmp_path):
    """Four dated files of two bands in 8 x 8 pixels, whose values tell their date."""
    for day in ("2001-03-05", "2000-12-07", "2008-06-30", "2008-07-01"):
        red = np.full((8, 8), int(day[:4]), dtype=np.uint16)
        nir = np.full((8, 8), 3 * int(day[:4]), dtype=np.uint16)
        write(tmp_path / f"scene_{day}.tif", np.stack([red, nir]), descriptions=("red", "nir"))
    return tmp_path


def test_before_one_date(folder):
    sites = points([(4, 4), (4, 4)])
    chips = read_chips(folder, sites, size_px=4, before="2008-07-01")
    assert chips.times.strftime("%F").tolist() == ["2000-12-07", "2001-03-05", "2008-06-30"]
    assert chips["a"][:, 0, 0, 0].tolist() == [2000, 2001, 2008]
    assert "left out: 2" in chips.describe()
    refuse_later_images(last_images(chips), dict.fromkeys("ab", "2008-07-01"))


def test_before_a_column_of_dates_makes_sequences_of_different_lengths(folder):
    sites = points([(4, 4)] * 3, treated=["2001-01-01", "2008-07-01", None])
    chips = read_chips(folder, sites, size_px=4, before="treated")
    assert [len(chips[site]) for site in "abc"] == [1, 3, 4]
    assert chips.times is None
    assert chips.times_of("a").tolist() == [pd.Timestamp("2000-12-07")]
    assert "left out: 4" in chips.describe()  # three images of a, one of b
    (_, pixels), *_ = chips.batches(3)
    assert pixels.shape == (3, 4, 2, 4, 4)
    assert np.isnan(pixels[0, 1:]).all()
    last = last_images(chips)
    limits = pd.Series(pd.to_datetime(sites["treated"]))
    refuse_later_images(last, limits)
    with pytest.raises(LeakageError, match="'a' with an image of 2000-12-07"):
        refuse_later_images(last, limits.fillna("2009") - pd.Timedelta(days=365))
    facts = describe_image_dates(chips)
    assert facts["last_image"] == "2008-07-01"
    assert facts["last_images"] == {
        "2000-12-07": ["a"],
        "2008-06-30": ["b"],
        "2008-07-01": ["c"],
    }


def test_composites_give_ragged_sequences_the_same_windows(folder):
    sites = points([(4, 4)] * 3, treated=["2001-01-01", "2008-07-01", None])
    ragged = read_chips(folder, sites, size_px=4, before="treated")
    chips = composite_chips(ragged, every="yearly", how="mean")
    assert chips.times.year.tolist() == list(range(2000, 2009))
    values = {site: chips[site][:, 0, 0, 0] for site in "abc"}
    # an image from after the limit of a site never reaches its composites
    assert np.flatnonzero(~np.isnan(values["a"])).tolist() == [0]
    assert np.flatnonzero(~np.isnan(values["b"])).tolist() == [0, 1, 8]
    statuses = chips.manifest[chips.manifest["site"] == "a"]["status"].tolist()
    assert statuses == ["ok", *["no data"] * 8]
    sources = chips.manifest[chips.manifest["site"] == "c"]["source"].iloc[-1]
    assert sources.count("; ") == 1  # two files of 2008
    assert "mean of 8 images in 9 windows from 2000-01-01 to 2008-12-31" in chips.describe()
    only = chips.select(["b"])
    np.testing.assert_array_equal(only["b"], chips["b"])


def test_a_composite_is_as_late_as_its_last_image(folder):
    """A yearly composite of the first half of a year is dated by the end of the year."""
    sites = points([(4, 4)] * 2, treated=["2008-07-01", "2001-06-01"])
    chips = read_chips(folder, sites, size_px=4, before="treated")
    composites = composite_chips(chips, every="yearly")
    assert composites.times[-1] == pd.Timestamp("2008-12-31")
    last = last_images(composites)
    assert last.tolist() == [pd.Timestamp("2008-06-30"), pd.Timestamp("2001-03-05")]
    refuse_later_images(last, pd.to_datetime(sites["treated"]))
    # and a composite of composites knows it still
    decades = composite_chips(composites, every="10YS")
    assert last_images(decades).tolist() == last.tolist()
    late = composite_chips(read_chips(folder, sites, size_px=4), every="yearly")
    with pytest.raises(LeakageError, match=r"2 of 2 sites .* an image of 2008-07-01"):
        refuse_later_images(last_images(late), pd.to_datetime(sites["treated"]))


@pytest.mark.parametrize("is_stored", [False, True])
def test_a_part_of_a_composite_is_as_late_as_its_last_image(folder, tmp_path, is_stored):
    """What is looked at anew still knows which images went into it."""
    sites = points([(4, 4)] * 2, treated=["2008-07-01", "2001-06-01"])
    chips = read_chips(folder, sites, size_px=4, before="treated")
    composites = composite_chips(chips, every="yearly")
    if is_stored:
        composites.write(tmp_path / "x.zarr")
        composites = open_chips(tmp_path / "x.zarr")
    bands = composites.bands[:1]
    last = last_images(composites)
    facts = describe_image_dates(composites)
    assert facts["last_image"] == "2008-06-30" != f"{composites.times[-1]:%Y-%m-%d}"
    for part in (
        composites.select(bands=bands),
        centre_crop(composites, 2),
        centre_crop(composites.select(bands=bands), 2),
        centre_crop(composites, 2).select(bands=bands),
    ):
        assert describe_image_dates(part) == facts
        pd.testing.assert_series_equal(last_images(part), last)
        refuse_later_images(last_images(part), pd.to_datetime(sites["treated"]))


def test_no_image_before_the_limit_is_said(folder):
    with pytest.raises(
        ValueError, match=r"sites without an image before the limit.* 2 \('a', 'b'\)"
    ):
        read_chips(folder, points([(4, 4), (4, 4)]), size_px=4, before="1999-01-01")


def test_undated_images_cannot_be_judged(tmp_path):
    write(tmp_path / "mosaic.tif", np.ones((1, 8, 8), dtype=np.uint8))
    with pytest.raises(LeakageError, match=r"1 of 1 have none: .*mosaic.tif"):
        read_chips(tmp_path, points([(4, 4)]), size_px=4, before="2008-07-01")
    chips = read_chips(tmp_path, points([(4, 4)]), size_px=4)
    assert describe_image_dates(chips) == {"last_image": None}
    with pytest.raises(ValueError, match="those of 1 of 1 sites have none: 'a'"):
        composite_chips(chips)


def test_dates_from_a_pattern_and_a_mapping(tmp_path):
    for name, value in (("x07-12-2000.tif", 1), ("x05-03-2000.tif", 2)):
        write(tmp_path / name, np.full((1, 8, 8), value, dtype=np.uint8))
    site = points([(4, 4)])
    pattern = r"x(?P<day>\d+)-(?P<month>\d+)-(?P<year>\d+)"
    mapping = {"x07-12-2000.tif": "2000-12-07", "x05-03-2000.tif": "LE71700552000065EDC00"}
    for dates in (pattern, mapping):
        chips = read_chips(tmp_path, site, size_px=2, dates=dates)
        assert chips.times.strftime("%F").tolist() == ["2000-03-05", "2000-12-07"]
        assert chips["a"][:, 0, 0, 0].tolist() == [2, 1]


def test_values_keep_their_numbers(tmp_path):
    counts = np.full((1, 8, 8), 10001, dtype=np.uint16)
    index = np.full((1, 8, 8), -9999, dtype=np.int16)
    index[0, 4, 4] = 7
    write(tmp_path / "u.tif", counts)
    write(tmp_path / "i.tif", index, nodata=-9999)
    site = points([(4, 4)])
    assert (read_chips(tmp_path / "u.tif", site, size_px=4)["a"] == 10001).all()
    found = read_chips(tmp_path / "i.tif", site, size_px=4)["a"]
    assert np.isnan(found).sum() == 15
    assert found[0, 0, 2, 2] == 7


@pytest.mark.parametrize(
    ("name", "tags", "value"),
    [
        ("S2B_MSIL2A_20220126T101219_N0400_R022_T32TQM_20220126T123456_B04", {}, 2500),
        ("S2A_MSIL2A_20200113T104411_N0213_R008_T31TDG_20200114T121530_B04", {}, 3500),
        ("B04", {"PROCESSING_BASELINE": "05.10"}, 2500),
        ("B04", {"PROCESSING_BASELINE": "02.14"}, 3500),
        ("B04", {}, 3500),
    ],
)
def test_offset_of_the_processing_baseline(tmp_path, name, tags, value):
    pixels = np.full((1, 8, 8), 3500, dtype=np.uint16)
    pixels[0, 0] = 0  # nodata before the offset, never -1000
    path = write(tmp_path / f"{name}.tif", pixels, nodata=0, descriptions=("B04",), tags=tags)
    found = read_chips(path, points([(4, 4)]), size_px=8)["a"][0, 0]
    assert np.isnan(found[0]).all()
    assert (found[1:] == value).all()


def test_images_of_all_baselines_have_one_unit(tmp_path):
    for name, value in (
        ("S2A_MSIL2A_20200113T104411_N0213_R008_T31TDG_20200114T121530_B04.tif", 2500),
        ("S2B_MSIL2A_20220126T101219_N0400_R022_T31TDG_20220126T123456_B04.tif", 3500),
        # the first image, processed anew
        ("S2A_MSIL2A_20200118T104411_N0500_R008_T31TDG_20230427T121530_B04.tif", 3500),
    ):
        pixels = np.full((1, 8, 8), value, dtype=np.uint16)
        write(tmp_path / name, pixels, nodata=0, descriptions=("B04",))
    chips = read_chips(tmp_path, points([(4, 4)]), size_px=4)
    assert chips.times.strftime("%F").tolist() == ["2020-01-13", "2020-01-18", "2022-01-26"]
    assert (chips["a"] == 2500).all()


def test_composites_travel_and_can_be_stored(folder, tmp_path_factory):
    chips = read_chips(folder, points([(4, 4), (7, 7)]), size_px=4)
    composites = composite_chips(chips, every="yearly", how="mean")
    again = pickle.loads(pickle.dumps(composites))
    path = tmp_path_factory.mktemp("store") / "x.zarr"
    composites.write(path)
    stored = open_chips(path)
    later = composite_chips(open_chips(_stored(chips, path.with_name("y.zarr"))), every="yearly")
    for site in "ab":
        np.testing.assert_array_equal(again[site], composites[site])
        np.testing.assert_array_equal(stored[site], composites[site])
        np.testing.assert_array_equal(later[site], composite_chips(chips, every="yearly")[site])
    pd.testing.assert_frame_equal(stored.manifest, composites.manifest)
    pd.testing.assert_series_equal(last_images(stored), last_images(composites))


def _stored(chips, path):
    chips.write(path)
    return path


def quality_files(folder):
    """Write two dates of red and QA_PIXEL: the left half of the first is cloud."""
    red = np.arange(64, dtype=np.uint16).reshape(8, 8) + 100
    quality = np.full((8, 8), CLEAR, dtype=np.uint16)
    cloudy = quality.copy()
    cloudy[:, :4] = CLOUD
    names = ("red", "QA_PIXEL")
    write(folder / "LC08_L2SP_170055_20200113.tif", np.stack([red, cloudy]), descriptions=names)
    write(
        folder / "LC08_L2SP_170055_20200129.tif", np.stack([red + 50, quality]), descriptions=names
    )
    return red.astype(np.float32), cloudy == CLOUD


def test_clouds_are_masked_before_images_are_joined(tmp_path):
    red, cloud = quality_files(tmp_path)
    chips = read_chips(tmp_path, points([(4, 4)]), size_px=8)
    clear = mask_chips(chips, LandsatMask())
    assert clear.bands == ("red",)
    np.testing.assert_array_equal(clear["a"][0, 0], np.where(cloud, np.nan, red))
    assert clear.manifest["cloud_share"].tolist() == [0.5, 0.0]
    monthly = composite_chips(chips, every="monthly", how="mean", mask=LandsatMask())
    assert monthly.bands == ("red",)
    np.testing.assert_array_equal(monthly["a"][0, 0], np.where(cloud, red + 50, red + 25))
    assert monthly.manifest["cloud_share"].tolist() == [0.25]
    np.testing.assert_array_equal(
        composite_chips(clear, every="monthly", how="mean")["a"], monthly["a"]
    )
    clearest = composite_chips(chips, every="monthly", how="least_cloudy", mask=LandsatMask())
    np.testing.assert_array_equal(clearest["a"][0, 0], red + 50)


def test_quality_bands_stay_whole_when_images_are_resampled(tmp_path):
    quality_files(tmp_path)
    # pixels of another length, so that red is averaged and QA_PIXEL must not be
    chips = read_chips(tmp_path, points([(4, 4)]), size_px=6, resolution_m=23)
    quality = chips["a"][:, 1]
    assert set(np.unique(quality[~np.isnan(quality)])) <= {CLEAR, CLOUD}
    clear = mask_chips(chips, LandsatMask())
    assert 0.3 < clear.manifest["cloud_share"].iloc[0] < 0.7
    averaged = read_chips(
        tmp_path, points([(4, 4)]), size_px=6, resolution_m=23, resampling={"QA_PIXEL": "bilinear"}
    )
    with pytest.raises(ValueError, match=r"'QA_PIXEL' must hold whole numbers.*nearest"):
        mask_chips(averaged, LandsatMask())


def test_chips_of_indices(folder):
    chips = read_chips(folder, points([(4, 4), (7, 7)]), size_px=4)
    ndvi = index_chips(chips, "NDVI")
    assert ndvi.bands == ("NDVI",)
    for site in "ab":
        np.testing.assert_array_equal(
            ndvi[site][:, 0], spectral_index(chips[site], chips.bands, "NDVI")
        )
    assert np.nanmax(ndvi["a"]) == pytest.approx(0.5)
    both = index_chips(chips, ["NDVI"], keep_bands=True)
    assert both.bands == ("red", "nir", "NDVI")
    np.testing.assert_array_equal(both["a"][:, :2], chips["a"])
    assert ndvi.times.tolist() == chips.times.tolist()
    assert ndvi.manifest["status"].tolist() == chips.manifest["status"].tolist()
    pixels = np.full((1, 1, 3, 2, 2), 3000)
    digital = Chips.from_arrays(pixels, sites=["x"], bands=["blue", "red", "nir"])
    with pytest.raises(ValueError, match="median of 'nir' is 3000") as caught:
        index_chips(digital, "EVI")
    assert caught.value.__notes__ == ["at site 'x'"]


def test_missing_bands_are_refused_before_a_pixel_is_read(folder):
    chips = read_chips(folder, points([(4, 4)]), size_px=4)
    with pytest.raises(ValueError, match="needs the band 'SCL'; the chips have 'red', 'nir'"):
        composite_chips(chips, mask=SceneClassMask())
    with pytest.raises(ValueError, match="'swir1' not found among 'red', 'nir'"):
        index_chips(chips, "NDBI")
    with pytest.raises(ValueError, match="'NDVI' stand more than once"):
        index_chips(chips, ["NDVI", "NDVI"])


def test_sites_without_a_chip_keep_their_row(folder):
    sites = points([(4, 4), (400, 4)])
    chips = read_chips(folder, sites, size_px=4)
    composites = composite_chips(chips, every="yearly")
    rows = composites.manifest[composites.manifest["site"] == "b"]
    assert rows["status"].tolist() == ["off edge"]
    assert composites.keys.tolist() == ["a"]


def test_a_study_refuses_embeddings_of_later_images(folder):
    table = pd.DataFrame({"y": [1.0, 2.0, 3.0, 4.0], "w": [0, 1, 0, 1], "site": list("abab")})
    study = Study(table, outcome="y", treatment="w", site="site", treatment_date="2008-07-01")
    sites = points([(4, 4), (5, 5)])
    for before, refused in ((None, True), ("2008-07-01", False)):
        chips = read_chips(folder, sites, size_px=4, before=before)
        embeddings = pd.DataFrame({"ndvi": [0.1, 0.2]}, index=chips.keys)
        embeddings.attrs["encoder"] = describe_image_dates(chips)
        if refused:
            with pytest.raises(
                LeakageError, match=r"first 2008-07-01\) or later \(last 2008-07-01"
            ):
                study.join(embeddings)
        else:
            assert study.join(embeddings).embedding_columns == ("ndvi",)
