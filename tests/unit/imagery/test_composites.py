import numpy as np
import pandas as pd
import pytest

from terracausal.imagery import Chips
from terracausal.imagery.composites import (
    clearest_image,
    composite_chips,
    composite_pixels,
    mean_image,
    median_image,
    time_windows,
)

OFFSETS = [
    "ME",
    "MS",
    "YE",
    "YS",
    "QE-NOV",
    "QE",
    "2MS",
    "2ME",
    "5YE",
    "10YS",
    "W",
    "2W",
    "16D",
    "D",
]
NAMED = {"yearly": "YE", "seasonal": "QE-NOV", "monthly": "ME"}


def random_days(rng, n_days, span=3000):
    return pd.DatetimeIndex(np.datetime64("1984-01-01") + rng.integers(0, span, n_days))


def by_pandas(values, days, freq, how):
    """Aggregate one series per column with pandas: the reference."""
    frame = pd.DataFrame(values.astype(np.float64), index=days).sort_index()
    origin = {"origin": "epoch"} if freq.endswith("D") else {}
    return getattr(frame.resample(freq, **origin), how)()


@pytest.mark.parametrize("every", [*OFFSETS, *NAMED])
@pytest.mark.parametrize("how", ["median", "mean"])
def test_composites_equal_pandas(every, how, rng):
    days = random_days(rng, 40, 400 if every == "D" else 3000)
    pixels = rng.integers(-500, 10_000, (40, 2, 3, 5)).astype(np.float32)
    pixels[rng.random(pixels.shape) < 0.4] = np.nan
    windows = time_windows(days, every)
    found = composite_pixels(pixels, windows.number(days), len(windows), how)
    expected = by_pandas(pixels.reshape(40, -1), days, NAMED.get(every, every), how)
    assert found.dtype == np.float32
    np.testing.assert_allclose(
        found.reshape(len(windows), -1), expected.to_numpy(np.float32), rtol=2e-7
    )


@pytest.mark.parametrize("every", [*OFFSETS, *NAMED])
def test_windows_follow_each_other_and_hold_every_day_once(every, rng):
    days = random_days(rng, 25)
    windows = time_windows(days, every)
    number = windows.number(days)
    assert (windows.starts[1:] == windows.ends[:-1] + pd.Timedelta(days=1)).all()
    assert (windows.starts[number] <= days).all()
    assert (days <= windows.ends[number]).all()
    # none is empty at either end
    assert {0, len(windows) - 1} <= set(number.tolist())


def test_a_window_is_dated_by_its_last_day():
    days = pd.DatetimeIndex(["2000-12-07", "2001-01-31 10:30"])
    for every in ("monthly", "ME", "MS"):
        assert time_windows(days, every).ends.strftime("%F").tolist() == [
            "2000-12-31",
            "2001-01-31",
        ]
    seasons = time_windows(days, "seasonal")
    assert (seasons.starts[0], seasons.ends[0]) == (
        pd.Timestamp("2000-12-01"),
        pd.Timestamp("2001-02-28"),
    )
    assert time_windows(days, "seasonal").number(days).tolist() == [0, 0]


def test_windows_of_some_days_do_not_depend_on_the_first_image():
    early, late = (
        time_windows(pd.DatetimeIndex([day]), "16D") for day in ("2000-01-03", "2000-03-03")
    )
    gap = (late.starts[0] - early.starts[0]).days
    assert gap % 16 == 0
    assert (early.ends[0] - early.starts[0]).days == 15


def test_windows_between_given_dates():
    edges = ["2000-01-01", "2000-07-01", "2005-01-01"]
    windows = time_windows(pd.DatetimeIndex(["2010-01-01"]), edges)
    days = pd.DatetimeIndex(["1999-12-31", "2000-01-01", "2000-06-30", "2004-12-31", "2005-01-01"])
    assert windows.number(days).tolist() == [-1, 0, 0, 1, -1]


def test_bad_windows_are_named():
    days = pd.DatetimeIndex(["2000-12-07"])
    with pytest.raises(ValueError, match="got 'fortnightly'"):
        time_windows(days, "fortnightly")
    with pytest.raises(ValueError, match=r"at least a day, .* got '6h'"):
        time_windows(days, "6h")
    with pytest.raises(
        ValueError, match="at least two and rise; got 2: '2001-01-01', '2000-01-01'"
    ):
        time_windows(days, ["2001-01-01", "2000-01-01"])
    with pytest.raises(ValueError, match="at least one time"):
        time_windows(days[:0], "monthly")
    with pytest.raises(ValueError, match="'D' makes 18,263 from 2000-12-07 to 2050-12-07"):
        time_windows(pd.DatetimeIndex(["2000-12-07", "2050-12-07"]), "D")
    with pytest.raises(ValueError, match="got 'max'"):
        composite_pixels(np.ones((1, 1, 1, 1), np.float32), np.zeros(1, int), 1, "max")


def test_median_and_mean_of_every_number_of_valid_values(rng):
    for n_images in range(1, 8):
        images = rng.normal(size=(n_images, 50)).astype(np.float32)
        images[rng.random(images.shape) < 0.5] = np.nan
        frame = pd.DataFrame(images.astype(np.float64))
        np.testing.assert_array_equal(median_image(images), frame.median().to_numpy(np.float32))
        np.testing.assert_allclose(mean_image(images), frame.mean().to_numpy(np.float32), rtol=1e-6)


def test_the_mean_of_large_numbers_keeps_its_digits():
    images = np.array([[16_777_216.0], [1.0], [1.0]], dtype=np.float32)
    assert mean_image(images)[0] == np.float32(16_777_218 / 3)


def test_a_window_without_images_is_missing():
    pixels = np.ones((2, 1, 2, 2), dtype=np.float32)
    for how in ("median", "mean", "least_cloudy"):
        found = composite_pixels(pixels, np.array([0, 2]), 3, how)
        assert np.isnan(found).all(axis=(1, 2, 3)).tolist() == [False, True, False]
        outside = composite_pixels(pixels, np.array([-1, 1]), 2, how)
        assert np.isnan(outside[0]).all()


def test_least_cloudy_takes_one_whole_image():
    pixels = np.arange(32, dtype=np.float32).reshape(4, 2, 2, 2)
    pixels[0, :, 0] = np.nan  # two of four pixels
    pixels[1, 1, 0] = np.nan  # also two, though in one band only
    pixels[2, :, 0, 0] = np.nan  # one pixel
    pixels[3, 0, 1, 1] = np.nan  # one pixel, too
    assert clearest_image(pixels) == 2  # the first of equals
    found = composite_pixels(pixels, np.zeros(4, int), 1, "least_cloudy")
    np.testing.assert_array_equal(found[0], pixels[2])


def test_the_order_of_the_images_does_not_matter(rng):
    days = random_days(rng, 12, 800)
    assert days.is_unique
    pixels = rng.normal(size=(2, 12, 1, 3, 3)).astype(np.float32)
    pixels[rng.random(pixels.shape) < 0.2] = np.nan
    order = rng.permutation(12)
    plain, mixed = (
        Chips.from_arrays(pixels[:, k], sites=["a", "b"], bands=["red"], times=days[k])
        for k in (np.arange(12), order)
    )
    for how in ("median", "mean", "least_cloudy"):
        found = [composite_chips(chips, every="yearly", how=how) for chips in (plain, mixed)]
        for site in "ab":
            np.testing.assert_allclose(found[0][site], found[1][site], rtol=1e-6)


def test_of_two_equally_clear_images_the_earlier_is_taken():
    pixels = np.array([1.0, 2.0]).reshape(1, 2, 1, 1, 1)
    days = ["2000-06-01", "2000-02-01"]
    chips = Chips.from_arrays(pixels, sites=["a"], bands=["red"], times=days)
    assert composite_chips(chips, how="least_cloudy")["a"].ravel().tolist() == [2.0]
