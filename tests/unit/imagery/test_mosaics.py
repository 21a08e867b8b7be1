"""Chips cut together from a shared window are those that are read one by one, to the last digit."""

import numpy as np
import pandas as pd
import pytest
import rasterio

from terracausal.imagery import mosaics, read_chips
from terracausal.imagery.mosaics import shared_windows

STEP = 30.0
LEFT, TOP = 300_000.0, 600_000.0
CRS = "EPSG:32636"


def write(path, pixels, column, row, *, nodata=None, scale=1.0, step=STEP, flip=False):
    """Write pixels whose first one lies at a column and row of the plane."""
    place = rasterio.Affine(step, 0, LEFT + STEP * column, 0, -step, TOP - STEP * row)
    if flip:
        bottom = place.f - step * pixels.shape[1]
        place, pixels = rasterio.Affine(step, 0, place.c, 0, step, bottom), pixels[:, ::-1]
    bands, height, width = pixels.shape
    profile = {"count": bands, "height": height, "width": width, "dtype": pixels.dtype}
    with rasterio.open(
        path, "w", driver="GTiff", crs=CRS, transform=place, nodata=nodata, **profile
    ) as file:
        file.write(pixels)
        if scale != 1.0:
            file.scales = (scale,) * bands


def random_tiles(folder, rng, kind):
    """Write tiles that touch or overlap, each with numbers of its own."""
    folder.mkdir()
    overlap = 0 if kind == "touching" else 9
    for k, (i, j) in enumerate((i, j) for i in range(3) for j in range(3)):
        dtype = "float32" if kind == "fractions" and k % 2 else "int16"
        pixels = rng.integers(1, 30_000, (3, 40 + overlap, 50 + overlap)).astype(dtype)
        options = {}
        if kind != "touching":
            pixels[:, rng.random(pixels.shape[1:]) < 0.3] = 0
            options["nodata"] = 0
        if kind == "lattices" and k % 3 == 1:
            options["nudge"] = 0.5
        if kind == "scales":
            options["scale"] = 0.5
        if kind == "upside down" and k % 2:
            options["flip"] = True
        nudge = options.pop("nudge", 0.0)
        day = f"_2020-0{1 + k % 2}-01" if kind == "dates" else ""
        write(folder / f"tile_{k}{day}.tif", pixels, 50 * j + nudge, 40 * i + nudge, **options)
    return folder


def random_sites(rng, n_sites=60):
    """Return sites on, at the edge of and beyond the tiles."""
    x = LEFT + STEP * rng.uniform(-8, 168, n_sites)
    y = TOP - STEP * rng.uniform(-8, 138, n_sites)
    points = rasterio.warp.transform(CRS, "EPSG:4326", x, y)
    return pd.DataFrame(
        {"lon": points[0], "lat": points[1]}, index=[f"s{k}" for k in range(n_sites)]
    )


KINDS = ["touching", "overlapping", "lattices", "scales", "fractions", "upside down", "dates"]


@pytest.mark.parametrize("n_jobs", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_chips_cut_together_are_those_read_one_by_one(tmp_path, rng, kind, n_jobs):
    folder = random_tiles(tmp_path / "tiles", rng, kind)
    chips = read_chips(folder, random_sites(rng), size_px=(16, 20), n_jobs=n_jobs)
    native = chips._reader._native
    n_cut = int((native.mosaic >= 0).sum())
    assert n_cut > len(native.mosaic) / (4 if kind == "lattices" else 2)
    alone = {site: chips[site] for site in chips}
    together = dict(zip(chips.keys, chips._reader.read_many(list(chips.keys)), strict=True))
    for site in chips:
        np.testing.assert_array_equal(together[site], alone[site])
    for keys, block in chips.batches(17):
        for site, found in zip(keys, block, strict=True):
            n_times = len(alone[site])
            np.testing.assert_array_equal(found[:n_times], alone[site])
            assert np.isnan(found[n_times:]).all()
    shares = [np.isnan(frame).mean() for site in chips for frame in alone[site]]
    told = chips.manifest[chips.manifest["site"].isin(chips.keys)]["nodata_share"]
    np.testing.assert_allclose(told, shares)


def test_windows_serve_many_chips(tmp_path, rng, monkeypatch):
    folder = random_tiles(tmp_path / "tiles", rng, "touching")
    calls = []
    read_box = mosaics.Tile.read
    monkeypatch.setattr(
        mosaics.Tile, "read", lambda self, *given: calls.append(given) or read_box(self, *given)
    )
    sites = random_sites(rng, 300)
    chips = read_chips(folder, sites, size_px=16, n_jobs=1)
    chips._reader.read_many(list(chips.keys))
    assert 9 <= len(calls) < 300 / 10


def test_windows_stay_small_and_hold_every_chip(rng, monkeypatch):
    monkeypatch.setattr(mosaics, "_WINDOW_BYTES", 40_000)
    lefts, tops = (rng.integers(0, 400, 200).tolist() for _ in range(2))
    seen = []
    for (west, north, east, south), members in shared_windows(lefts, tops, (8, 6), 4):
        n_pixels = (east - west) * (south - north)
        n_chips = members.stop - members.start
        assert n_chips == 1 or n_pixels <= min(10_000, 4 * 48 * n_chips)
        for left, top in zip(lefts[members], tops[members], strict=True):
            assert west <= left <= east - 6
            assert north <= top <= south - 8
        seen += range(members.start, members.stop)
    assert seen == list(range(200))
