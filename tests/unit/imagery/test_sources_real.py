"""Chips of real scenes equal a plain reading of the files, cut into tiles or not."""

import numpy as np
import pandas as pd
import pyproj
import pytest
import rasterio
from rasterio.windows import Window

from terracausal.imagery import RasterFiles, read_chips


@pytest.fixture(scope="module")
def gewata(data_root):
    return data_root / "gewata_landsat" / "gewata.tif"


def random_sites(path, n_sites, rng, margin=0):
    with rasterio.open(path) as file:
        x = file.bounds.left + 30 * rng.uniform(margin, file.width - margin, n_sites)
        y = file.bounds.top - 30 * rng.uniform(margin, file.height - margin, n_sites)
        back = pyproj.Transformer.from_crs(file.crs.to_wkt(), 4326, always_xy=True)
    lon, lat = back.transform(x, y)
    return pd.DataFrame({"lon": lon, "lat": lat}).rename_axis("site"), x, y


def test_gewata_equals_a_window_read(gewata, rng):
    sites, x, y = random_sites(gewata, 2000, rng)
    chips = read_chips(gewata, sites, size_px=64)
    assert chips.n_sites == 2000
    assert chips.bands == ("B1", "B2", "B3", "B4", "B5", "B7")
    with rasterio.open(gewata) as file:
        whole = file.read().astype("float32")
        place = file.transform
    whole[whole == -9999] = np.nan
    whole = np.pad(whole, ((0, 0), (64, 64), (64, 64)), constant_values=np.nan)
    left = np.floor((x - place.c) / 30 - 32 + 0.5).astype(int) + 64
    top = np.floor((place.f - y) / 30 - 32 + 0.5).astype(int) + 64
    for keys, block in chips.batches(250):
        for k, chip in zip(keys, block, strict=True):
            window = whole[:, top[k] : top[k] + 64, left[k] : left[k] + 64]
            np.testing.assert_array_equal(chip[0], window)
    shares = chips.manifest["nodata_share"]
    assert ((shares > 0) == (chips.manifest["status"] == "partial")).all()
    assert chips.manifest["offset_m"].max() <= 30 * np.sqrt(0.5) + 1e-6


def test_gewata_cut_into_nine_tiles_in_two_zones(gewata, tmp_path, rng):
    columns, rows = [0, 516, 1032, 1548], [0, 392, 785, 1177]
    with rasterio.open(gewata) as file:
        for i in range(3):
            for j in range(3):
                window = Window.from_slices((rows[i], rows[i + 1]), (columns[j], columns[j + 1]))
                place = file.window_transform(window)
                pixels, crs = file.read(window=window), file.crs
                if (i, j) == (1, 1):
                    pixels, place, crs = _in_zone_37(pixels, place)
                with rasterio.open(
                    tmp_path / f"tile_{i}{j}.tif",
                    "w",
                    driver="GTiff",
                    count=6,
                    height=pixels.shape[1],
                    width=pixels.shape[2],
                    dtype="int16",
                    crs=crs,
                    transform=place,
                    nodata=-9999,
                ) as tile:
                    tile.write(pixels)
                    tile.descriptions = file.descriptions
    # sites along the cuts, so that chips reach over them
    sites, x, y = random_sites(gewata, 400, rng, margin=40)
    east = np.where(np.arange(400) % 2, 516, 1032) * 30 + 808_755 + rng.normal(0, 500, 400)
    back = pyproj.Transformer.from_crs(32636, 4326, always_xy=True)
    sites["lon"], sites["lat"] = back.transform(np.where(np.arange(400) % 4 < 2, east, x), y)
    uncut = read_chips(gewata, sites, size_px=64)
    tiles = read_chips(tmp_path, sites, size_px=64)
    record = tiles.manifest.set_index("site")
    assert set(record["grid"]) == {"EPSG:32636", "EPSG:32637"}
    n_same, resampled = 0, []
    source = RasterFiles([gewata])
    layer = source.layers()[0]
    for k in tiles:
        if record["grid"][k] == "EPSG:32636" and "tile_11" not in record["source"][k]:
            np.testing.assert_array_equal(tiles[k], uncut[k])
            n_same += 1
        else:
            # the uncut file, resampled once to the same grid
            once = source.read(layer, tiles._reader.plans[k].grid, tuple(range(6)), "bilinear")
            assert not (np.isnan(tiles[k][0]) & ~np.isnan(once)).any()
            resampled.append(np.abs(tiles[k][0] - once).ravel())
    assert n_same > 200
    assert len(resampled) > 30
    off = np.concatenate(resampled)
    off = off[~np.isnan(off)]
    # what one more resampling costs is small beside the spread of the image, 795
    assert np.median(off) < 20
    assert np.quantile(off, 0.99) < 300


def _in_zone_37(pixels, place):
    from rasterio.warp import Resampling, calculate_default_transform, reproject

    height, width = pixels.shape[1:]
    bounds = rasterio.transform.array_bounds(height, width, place)
    moved, columns, rows = calculate_default_transform(
        "EPSG:32636", "EPSG:32637", width, height, *bounds
    )
    found = np.full((len(pixels), rows, columns), -9999, dtype=pixels.dtype)
    reproject(
        pixels,
        found,
        src_transform=place,
        src_crs="EPSG:32636",
        src_nodata=-9999,
        dst_transform=moved,
        dst_crs="EPSG:32637",
        dst_nodata=-9999,
        resampling=Resampling.bilinear,
    )
    return found, moved, "EPSG:32637"


def test_pucallpa_is_a_sequence(data_root, rng):
    folder = data_root / "pucallpa_landsat"
    with rasterio.open(folder / "1985.tif") as file:
        lon = rng.uniform(file.bounds.left + 0.03, file.bounds.right - 0.03, 300)
        lat = rng.uniform(file.bounds.bottom + 0.03, file.bounds.top - 0.03, 300)
    sites = pd.DataFrame({"lon": lon, "lat": lat}).rename_axis("site")
    chips = read_chips(folder, sites, size_px=32, bands=["swir1", "nir", "red", "green"])
    assert (chips.n_sites, chips.n_times) == (300, 8)
    assert chips.times.year.tolist() == [1985, 1990, 1995, 2000, 2005, 2010, 2015, 2020]
    with rasterio.open(folder / "2005.tif") as file:
        column, row = (round(v) for v in ~file.transform * (lon[7], lat[7]))
        window = Window(column - 16, row - 16, 32, 32)
        expected = file.read(window=window).astype("float32")
    expected[expected == 0] = np.nan
    np.testing.assert_array_equal(chips[7][4], expected)


def test_small_chips_of_local_files_are_read_by_two_threads_at_most(data_root):
    folder, sites = data_root / "uganda_yop" / "chips", data_root / "uganda_yop" / "sites.csv"
    table = pd.read_csv(sites, index_col="site")
    light = read_chips(folder, table, size_px=35)
    assert light._reader._threads == min(2, light._reader.reading.threads)
    assert read_chips(folder, table, size_px=35, n_jobs=3)._reader._threads == 3
    heavy = read_chips(folder, table.iloc[:4], size_px=35, resolution_m=20)
    assert heavy._reader._threads == heavy._reader.reading.threads
