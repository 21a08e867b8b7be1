"""Chips per second: `read_chips` against a naive loop, plain rasterio and torchgeo.

    python benchmarks/read_chips.py [--sites 5000] [--raster gewata.tif] [--repeats 3]

Every way reads the same sites of 64 x 64 px, from one tiled raster and from 50 COG tiles cut out of
it. The ways take turns, and the fastest of the repeats counts, because other work on the machine
only ever slows them down. Without a raster one of 1177 x 1548 pixels and 6 bands is made up.
torchgeo is compared where it is installed.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pyproj
import rasterio
from rasterio.enums import Resampling
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window, from_bounds

import terracausal as tc

SIZE = 64
BATCH = 256


def make_raster(folder):
    """Write a smooth made-up scene of 6 bands in int16."""
    rng = np.random.default_rng(0)
    shape = (6, 1177, 1548)
    waves = rng.normal(size=(6, 40, 50))
    pixels = waves.repeat(32, 1).repeat(32, 2)[:, : shape[1], : shape[2]] * 500 + 2000
    pixels = (pixels + rng.normal(0, 60, shape)).astype("int16")
    path = folder / "scene.tif"
    profile = dict(driver="GTiff", height=shape[1], width=shape[2], count=6, dtype="int16")
    place = rasterio.Affine(30, 0, 808755, 0, -30, 852945)
    options = dict(tiled=True, blockxsize=256, blockysize=256, compress="deflate", nodata=-9999)
    with rasterio.open(path, "w", crs="EPSG:32636", transform=place, **profile, **options) as file:
        file.write(pixels)
    return path


def cut(path, folder, rows=5, columns=10):
    """Cut a raster into COG tiles."""
    folder.mkdir()
    with rasterio.open(path) as file:
        tops = np.linspace(0, file.height, rows + 1).astype(int)
        lefts = np.linspace(0, file.width, columns + 1).astype(int)
        for i in range(rows):
            for j in range(columns):
                window = Window(lefts[j], tops[i], lefts[j + 1] - lefts[j], tops[i + 1] - tops[i])
                with rasterio.open(
                    folder / f"tile_{i}_{j:02d}.tif",
                    "w",
                    driver="COG",
                    height=window.height,
                    width=window.width,
                    count=file.count,
                    dtype=file.dtypes[0],
                    crs=file.crs,
                    transform=file.window_transform(window),
                    nodata=file.nodata,
                    compress="deflate",
                    blocksize=256,
                ) as tile:
                    tile.write(file.read(window=window))
    return sorted(folder.iterdir())


def random_sites(path, n_sites):
    with rasterio.open(path) as file:
        rng = np.random.default_rng(1)
        x = file.bounds.left + 30 * rng.uniform(SIZE, file.width - SIZE, n_sites)
        y = file.bounds.top - 30 * rng.uniform(SIZE, file.height - SIZE, n_sites)
        back = pyproj.Transformer.from_crs(file.crs.to_wkt(), 4326, always_xy=True)
    lon, lat = back.transform(x, y)
    return pd.DataFrame({"lon": lon, "lat": lat}, index=pd.RangeIndex(n_sites, name="site")), x, y


def naive(files, boxes, n_sites):
    """Open, reproject and read every file that a site needs, as a first script would."""
    bounds = {path: rasterio.open(path).bounds for path in files}
    for box in boxes[:n_sites]:
        chip = np.full((6, SIZE, SIZE), np.nan, dtype="float32")
        for path, b in bounds.items():
            if b.left < box[2] and b.right > box[0] and b.bottom < box[3] and b.top > box[1]:
                with (
                    rasterio.open(path) as file,
                    WarpedVRT(file, crs="EPSG:32636", resampling=Resampling.bilinear) as vrt,
                ):
                    window = from_bounds(*box, vrt.transform)
                    part = vrt.read(
                        window=window,
                        boundless=False,
                        out_shape=(6, SIZE, SIZE),
                        masked=True,
                    ).astype("float32")
                    chip = np.where(np.isnan(chip), part.filled(np.nan), chip)
    return n_sites


def windows_of(files, boxes):
    """Return for every file the windows of its sites, in the order of its rows."""
    found = []
    for path in files:
        with rasterio.open(path) as file:
            t, b = file.transform, file.bounds
            for box in boxes:
                left, top = max(box[0], b.left), min(box[3], b.top)
                right, bottom = min(box[2], b.right), max(box[1], b.bottom)
                if left < right and bottom < top:
                    column, row = round((left - t.c) / 30), round((t.f - top) / 30)
                    size = round((right - left) / 30), round((top - bottom) / 30)
                    found.append((path, Window(column, row, *size)))
    return sorted(found, key=lambda item: (str(item[0]), item[1].row_off // 256, item[1].col_off))


def straight(windows, n_sites):
    """Read the windows of all sites from open files with rasterio, stored numbers and no more."""
    path, file = None, None
    for name, window in windows:
        if name != path:
            path, file = name, rasterio.open(name)
        file.read(window=window)
    return n_sites


def blocks(files):
    """Read every block of the files once, and return the number of pixels."""
    n_pixels = 0
    for path in files:
        with rasterio.open(path) as file:
            for _, window in file.block_windows(1):
                n_pixels += file.read(window=window).size
    return n_pixels


def ours(source, sites, n_jobs):
    """Plan chips outside the clock, and return what reads them all once."""
    chips = tc.read_chips(source, sites, size_px=SIZE, n_jobs=n_jobs)

    def read():
        return sum(len(keys) for keys, _ in chips.batches(BATCH))

    return read


def torchgeo_reader(files, boxes, n_sites):
    """Return what queries a torchgeo dataset (0.7 or later) at the same boxes; None without it."""
    try:
        from torchgeo.datasets import RasterDataset
    except ImportError:
        return None
    dataset = RasterDataset([str(path) for path in files], crs="EPSG:32636", res=30)
    queries = [(slice(b[0], b[2]), slice(b[1], b[3])) for b in boxes[:n_sites]]

    def read():
        for query in queries:
            dataset[query]
        return n_sites

    return read


def fastest(ways, repeats):
    """Return the best rate of each way; they take turns."""
    best = dict.fromkeys(ways, 0.0)
    for _ in range(repeats):
        for name, way in ways.items():
            started = time.perf_counter()
            count = way()
            best[name] = max(best[name], count / (time.perf_counter() - started))
    return best


def compare(title, source, files, placed, repeats):
    sites, x, y = placed
    # the grid of pixels that is nearest to each site, as read_chips has it
    with rasterio.open(files[0]) as file:
        t = file.transform
    left = t.c + 30 * np.floor((x - t.c) / 30 - SIZE / 2 + 0.5)
    top = t.f - 30 * np.floor((t.f - y) / 30 - SIZE / 2 + 0.5)
    boxes = list(zip(left, top - 30 * SIZE, left + 30 * SIZE, top, strict=True))
    n_sites = len(sites)
    few = min(n_sites, 300)
    windows = windows_of(files, boxes)
    started = time.perf_counter()
    reads = [ours(source, sites, n_jobs) for n_jobs in (1, 2)]
    opening = n_sites / (time.perf_counter() - started) * 2
    ways = {
        "naive loop": lambda: naive(files, boxes, few),
        "rasterio, windows straight through": lambda: straight(windows, n_sites),
        "terracausal, 1 thread": reads[0],
        "terracausal, 2 threads": reads[1],
    }
    other = torchgeo_reader(files, boxes, few)
    if other is not None:
        ways["torchgeo"] = other
    best = fastest(ways, repeats)
    best["read_chips itself (plan)"] = opening
    load = os.getloadavg()[0]
    print(f"\n{title}, {n_sites} sites of {SIZE} x {SIZE} x 6 px; load average {load:.1f}")
    for name, rate in best.items():
        print(f"  {name:42} {rate:10,.0f} chips/s  {rate / best['naive loop']:7.1f} x naive")
    one, two = best["terracausal, 1 thread"], best["terracausal, 2 threads"]
    rate = max(one, two)
    print(f"  2 threads are {two / one:.2f} x one")
    print(f"  share of rasterio's speed: {rate / best['rasterio, windows straight through']:.0%}")
    decoded = fastest({"blocks": lambda: blocks(files)}, repeats)["blocks"]
    print(
        f"  pixels: {rate * 6 * SIZE**2 / 1e6:,.0f} million/s, blocks straight through (decoding): "
        f"{decoded / 1e6:,.0f} million/s"
    )
    if other is None:
        print("  torchgeo is not installed here: not compared")
    else:
        print(f"  {rate / best['torchgeo']:.1f} times torchgeo")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sites", type=int, default=5000)
    parser.add_argument("--raster", type=Path)
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = given.raster or make_raster(folder)
        placed = random_sites(path, given.sites)
        compare("One tiled raster", path, [path], placed, given.repeats)
        tiles = cut(path, folder / "tiles")
        compare("50 COG tiles", folder / "tiles", tiles, placed, given.repeats)


if __name__ == "__main__":
    main()
