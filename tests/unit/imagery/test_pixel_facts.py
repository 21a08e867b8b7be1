import numpy as np
import pandas as pd

from terracausal.imagery import Chips
from terracausal.imagery.pixel_facts import image_checksums, value_ranges
from terracausal.imagery.places import site_table
from terracausal.imagery.records import ChipRecord

BANDS = ["red", "nir"]


def arrays(rng):
    pixels = rng.normal(size=(3, 2, 2, 4, 5)).astype(np.float32)
    pixels[0, 0, 1, 2] = np.nan
    pixels[1, 1] = np.nan
    return pixels


def test_ranges_are_those_of_the_pixels(rng):
    pixels = arrays(rng)
    chips = Chips.from_arrays(pixels, sites=list("abc"), bands=BANDS)
    found = value_ranges(chips)
    assert found.index.tolist() == BANDS
    np.testing.assert_array_equal(found["low"], np.nanmin(pixels, axis=(0, 1, 3, 4)))
    np.testing.assert_array_equal(found["high"], np.nanmax(pixels, axis=(0, 1, 3, 4)))
    part = value_ranges(chips.select(["c"], bands=["nir"]))
    assert part.loc["nir"].tolist() == [pixels[2, :, 1].min(), pixels[2, :, 1].max()]
    empty = Chips.from_arrays(np.full((1, 1, 2, 2, 2), np.nan), sites=["a"], bands=BANDS)
    assert value_ranges(empty).isna().all(axis=None)


def test_checksums_say_which_images_are_the_same(rng):
    pixels = arrays(rng)
    pixels[2, 0] = pixels[0, 0]
    days = ["2019-01-01", "2020-01-01"]
    chips = Chips.from_arrays(pixels, sites=list("cab"), bands=BANDS, times=days)
    sums = image_checksums(chips)
    assert list(sums) == list("cab")
    assert [day for day, _ in sums["a"]] == list(pd.DatetimeIndex(days))
    assert sums["c"][0] == sums["b"][0] != sums["a"][0]
    assert sums["a"][1][1] is None
    undated = image_checksums(Chips.from_arrays(pixels, sites=list("cab"), bands=BANDS))
    assert undated["c"] == tuple((None, checksum) for _, checksum in sums["c"])


def test_checksums_that_nobody_took_are_taken(rng):
    class Reader:
        def read(self, site):
            return pixels["abc".index(site)]

    pixels = arrays(rng)
    told = [
        ChipRecord(site, None, "no data" if np.isnan(frame).all() else "partial", 0.5)
        for site, chip in zip("abc", pixels, strict=True)
        for frame in chip
    ]
    chips = Chips(Reader(), site_table(list("abc")), told, tuple(BANDS), (4, 5))
    whole = Chips.from_arrays(pixels, sites=list("abc"), bands=BANDS)
    assert image_checksums(chips) == image_checksums(whole)
