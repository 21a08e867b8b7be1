import pickle

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone

from terracausal.encoders import BandStatisticsEncoder, RandomConvEncoder
from terracausal.encoders.sequences import AGGREGATES, SequenceEncoder
from terracausal.encoders.time_summaries import harmonic_over_time, trend_over_time
from terracausal.imagery import Chips
from terracausal.imagery.readers import ArrayReader
from terracausal.imagery.records import inspect_chip

BANDS = ["red", "nir"]
DAYS = pd.DatetimeIndex(["2001-02-03", "2001-09-30", "2003-05-01", "2004-12-24", "2009-07-05"])
STATISTICS = BandStatisticsEncoder(quantiles=())
DATED = ("trend", "harmonic", "attention")
exact = {"rtol": 1e-9, "atol": 1e-9}


def images(n_sites=4, n_times=5, seed=0):
    return np.random.default_rng(seed).gamma(3, 20, size=(n_sites, n_times, 2, 6, 7))


def chips_of(pixels, times=DAYS, keys=None):
    keys = list("abcdefghij")[: len(pixels)] if keys is None else keys
    times = None if times is None else times[: pixels.shape[1]]
    return Chips.from_arrays(pixels, sites=keys, bands=BANDS, times=times)


def ragged():
    """Site a has one image, b two, c and d five, of which one is masked."""
    pixels = images()
    pixels[0, 1:], pixels[1, 2:], pixels[2, 3] = np.nan, np.nan, np.nan
    return pixels


def sequence(aggregate, encoder=STATISTICS, **settings):
    return SequenceEncoder(encoder, aggregate=aggregate, random_state=0, **settings)


def by_time(pixels, encoder=STATISTICS):
    """Features (n_sites, n_times, n_columns) of every image, encoded alone; NaN where empty."""
    n_sites, n_times = pixels.shape[:2]
    found = np.full((n_sites, n_times, 4), np.nan)
    for time in range(n_times):
        rows = np.flatnonzero(~np.isnan(pixels[:, time]).all(axis=(1, 2, 3)))
        chips = chips_of(pixels[rows][:, [time]], times=None, keys=rows)
        found[rows, time] = encoder.fit_transform(chips)
    return found


@pytest.mark.parametrize("pixels", [images(), ragged()], ids=["full", "ragged"])
def test_every_aggregate_is_its_formula(pixels):
    values, years = by_time(pixels), (DAYS - DAYS[0]).days.to_numpy() / 365.25
    chips = chips_of(pixels)

    def found(aggregate, **settings):
        return sequence(aggregate, **settings).fit_transform(chips).to_numpy()

    np.testing.assert_allclose(found("mean"), np.nanmean(values, axis=1), **exact)
    np.testing.assert_allclose(found("variance"), np.nanvar(values, axis=1), **exact)
    quantiles = np.nanquantile(values, (0.25, 1.0), axis=1)
    np.testing.assert_allclose(
        found("quantiles", quantiles=(0.25, 1.0)), np.hstack(list(quantiles)), **exact
    )
    trend, difference = found("trend"), found("difference")
    for site in range(len(pixels)):
        seen = ~np.isnan(values[site, :, 0])
        known = values[site, seen]
        np.testing.assert_allclose(difference[site], known[-1] - known[0], **exact)
        slope = np.polyfit(years[seen], known, 1)[0] if len(known) > 1 else np.zeros(4)
        np.testing.assert_allclose(trend[site], np.r_[known.mean(axis=0), slope], **exact)


def test_concatenation_is_each_image_in_order():
    pixels = images()
    table = sequence("concatenate").fit_transform(chips_of(pixels))
    assert list(table.columns[:5]) == [
        "red_mean_t00",
        "red_sd_t00",
        "nir_mean_t00",
        "nir_sd_t00",
        "red_mean_t01",
    ]
    np.testing.assert_allclose(table.to_numpy().reshape(4, 5, 4), by_time(pixels), **exact)


def test_harmonic_finds_level_and_cycle():
    days = pd.date_range("2015-01-10", periods=40, freq="23D")
    angle = 2 * np.pi * (days - pd.Timestamp("1970-01-01")).days.to_numpy() / 365.25
    level, sin, cos = np.array([[50.0, 80.0], [3.0, -6.0], [7.0, 1.0]])[..., None]
    wave = level + sin * np.sin(angle) + cos * np.cos(angle)  # (band, time)
    pixels = np.broadcast_to(wave.T[None, :, :, None, None], (1, 40, 2, 3, 3)).copy()
    pixels[0, 11] = np.nan
    table = sequence("harmonic").fit_transform(chips_of(pixels, times=days))
    row = table.loc["a"]
    for band, number in (("red", 0), ("nir", 1)):
        found = [row[f"{band}_mean_{end}"] for end in ("harmonic_level", "sin", "cos")]
        expected = [level[number, 0], sin[number, 0], cos[number, 0]]
        # pixels are float32
        np.testing.assert_allclose(found, expected, rtol=1e-5)
    names = ["red_sd_harmonic_level", "red_sd_sin", "red_sd_cos"]
    np.testing.assert_allclose(row[names].astype(float), 0, atol=1e-5)


def test_harmonic_needs_three_days_spread_over_the_year():
    chips = chips_of(images())
    sequence("harmonic").fit(chips)
    with pytest.raises(ValueError, match=r"three such images or more that are spread .*'a', 'b'"):
        sequence("harmonic").fit_transform(chips_of(ragged()))
    annual = pd.DatetimeIndex([f"{year}-07-01" for year in range(2001, 2006)])
    with pytest.raises(ValueError, match="spread over the year; sites 'a', 'b', 'c', 'd' have"):
        sequence("harmonic").fit_transform(chips_of(images(), times=annual))
    # gaps of single features are fitted on their own
    days = np.array([10.0, 100.0, 200.0, 300.0])
    values = np.random.default_rng(0).normal(size=(4, 2))
    alone = harmonic_over_time(values[:3, [1]], days[:3])
    values[3, 1] = np.nan
    np.testing.assert_allclose(harmonic_over_time(values, days)[:, [1]], alone)


@pytest.mark.parametrize("n_times", [1, 2])
def test_one_and_two_images(n_times):
    pixels = images(n_times=n_times)
    aggregates = tuple(name for name in AGGREGATES if name != "harmonic")
    table = sequence(aggregates, n_features=16).fit_transform(chips_of(pixels))
    assert np.isfinite(table.to_numpy()).all()
    years = (DAYS[1] - DAYS[0]).days / 365.25
    change = table["red_mean_difference"].to_numpy()
    if n_times == 1:
        assert (change == 0).all()
        assert (table["red_mean_slope"] == 0).all()
        assert (table["red_mean_variance"] == 0).all()
        assert (table["red_mean_level"] == table["red_mean_t00"]).all()
        assert table.attrs["encoder"]["one_day_sites"] == 4
    else:
        np.testing.assert_allclose(table["red_mean_slope"], change / years, **exact)
        np.testing.assert_allclose(table["red_mean_variance"], change**2 / 4, **exact)
        assert table.attrs["encoder"]["one_day_sites"] == 0


def test_sites_without_a_slope_are_counted():
    table = sequence("trend").fit_transform(chips_of(ragged()))
    assert table.attrs["encoder"]["one_day_sites"] == 1
    same_day = DAYS[[0, 0, 0, 0, 0]]
    table = sequence("trend").fit_transform(chips_of(images(), times=same_day))
    assert table.attrs["encoder"]["one_day_sites"] == 4
    assert (table.filter(like="slope") == 0).all(axis=None)
    assert (
        "one_day_sites" not in sequence("mean").fit_transform(chips_of(images())).attrs["encoder"]
    )


@pytest.mark.parametrize("aggregate", AGGREGATES)
def test_shuffled_dates_change_what_depends_on_time_and_nothing_else(aggregate):
    pixels = images(n_sites=6)
    table = sequence(aggregate, n_features=16).fit_transform(chips_of(pixels))
    shuffled = DAYS[[3, 0, 4, 1, 2]]
    other = sequence(aggregate, n_features=16).fit_transform(chips_of(pixels, times=shuffled))
    if aggregate in ("mean", "variance", "quantiles"):
        pd.testing.assert_frame_equal(table, other, rtol=1e-12)
        return
    change = (table - other).abs().to_numpy() / table.std().to_numpy()
    if aggregate == "trend":
        levels, slopes = np.split(change, 2, axis=1)
        assert levels.max() < 1e-12
        change = slopes
    # every site moves by a tenth of the spread over sites, at least in one column
    assert change.max(axis=1).min() > 0.1


@pytest.mark.parametrize("aggregate", [name for name in AGGREGATES if name != "concatenate"])
def test_masked_images_are_as_if_never_taken(aggregate):
    pixels = images()
    encoder = sequence(aggregate, n_features=16).fit(chips_of(pixels))
    short = encoder.transform(chips_of(pixels[:, [0, 1, 3, 4]], times=DAYS[[0, 1, 3, 4]]))
    pixels[:, 2] = np.nan
    pd.testing.assert_frame_equal(encoder.transform(chips_of(pixels)), short, rtol=1e-9)


@pytest.mark.parametrize("aggregate", AGGREGATES)
def test_rows_do_not_depend_on_other_sites_or_their_order(aggregate):
    pixels = images(n_sites=7)
    pixels[2, 0, :, 2:4, 3] = np.nan
    chips = chips_of(pixels)
    encoder = sequence(aggregate, RandomConvEncoder(n_features=12, random_state=0), n_features=16)
    table = encoder.fit_transform(chips)
    for site in "af":
        alone = encoder.transform(chips.select([site]))
        pd.testing.assert_frame_equal(alone, table.loc[[site]], check_exact=True)
    order = list("gcabfde")
    again = clone(encoder).fit_transform(chips.select(order))
    pd.testing.assert_frame_equal(again.loc[table.index], table, check_exact=True)
    assert again.attrs == table.attrs
    copied = pickle.loads(pickle.dumps(encoder)).transform(chips)
    pd.testing.assert_frame_equal(copied, table, check_exact=True)


def test_attention_has_its_seed_and_width():
    chips = chips_of(images())
    first, same, other = (
        SequenceEncoder(STATISTICS, "attention", n_features=32, random_state=seed).fit_transform(
            chips
        )
        for seed in (0, 0, 1)
    )
    assert list(first.columns[:2]) == ["attention_000", "attention_001"]
    assert first.shape == (4, 32)
    pd.testing.assert_frame_equal(first, same, check_exact=True)
    assert not np.allclose(first, other)
    digests = [table.attrs["encoder"]["attention_digest"] for table in (first, same, other)]
    assert digests[0] == digests[1] != digests[2]
    # features are standardised, so their units do not count
    scaled = SequenceEncoder(STATISTICS, "attention", n_features=32, random_state=0)
    table = scaled.fit_transform(chips_of(images() * 1000))
    np.testing.assert_allclose(table, first, rtol=1e-4, atol=1e-4)  # pixels are float32


def test_dates_are_needed_by_some_and_not_by_others():
    undated = chips_of(images(), times=None)
    for aggregate in AGGREGATES:
        encoder = sequence(aggregate, n_features=16)
        if aggregate not in DATED:
            assert np.isfinite(encoder.fit_transform(undated)).all(axis=None)
            continue
        with pytest.raises(
            ValueError, match=rf"'{aggregate}' needs the date .* 4 of 4 sites .*'a'"
        ):
            encoder.fit(undated)
        with pytest.raises(ValueError, match=f"'{aggregate}' needs the date of every image"):
            encoder.fit(chips_of(images())).transform(undated)


def test_concatenation_needs_the_same_images_everywhere():
    times = [[0, 1, 2], [1, 2, 3]]
    pixels = images(n_sites=2)
    array = np.stack([pixels[site, when] for site, when in enumerate(times)])
    whole = chips_of(array)
    records = [
        record
        for site, when in zip("ab", times, strict=True)
        for record in inspect_chip(site, whole[site], list(DAYS[when]), "array")
    ]
    chips = Chips(ArrayReader(array, whole.keys), whole.sites, records, ("red", "nir"), (6, 7))
    assert chips.times is None
    with pytest.raises(ValueError, match="1 of 2 differ from the first, 'a' with 3 images: 'b'"):
        sequence("concatenate").fit(chips)
    # the others do not need them
    assert sequence("trend").fit_transform(chips).shape == (2, 8)
    fitted = sequence("concatenate").fit(chips_of(images()))
    with pytest.raises(ValueError, match="fitted on 5 images per site; these chips have 3"):
        fitted.transform(chips_of(images(n_times=3)))
    pixels = images()
    pixels[1, 2] = np.nan
    with pytest.raises(ValueError, match="valid pixels in every band in every image; sites 'b'"):
        fitted.transform(chips_of(pixels))


def test_columns_of_several_aggregates_and_of_a_reduced_inner_encoder():
    chips = chips_of(images(n_sites=8))
    inner = RandomConvEncoder(n_features=12, random_state=0, n_components=2)
    table = sequence(("trend", "variance"), inner).fit_transform(chips)
    assert list(table.columns) == [
        "pc_000_level",
        "pc_001_level",
        "pc_000_slope",
        "pc_001_slope",
        "pc_000_variance",
        "pc_001_variance",
    ]
    # the mean of components is the component of the mean
    mean = sequence("mean", inner).fit_transform(chips)
    np.testing.assert_allclose(mean, clone(inner).fit_transform(chips), rtol=1e-9, atol=1e-9)
    reduced = sequence(("trend", "variance"), n_components=3, whiten=True).fit_transform(chips)
    np.testing.assert_allclose(reduced.std(ddof=0), 1.0)
    assert table.attrs["encoder"]["encoder"]["reduction"]["n_components"] == 2


def test_trend_of_images_with_equal_days_is_flat_and_their_mean():
    values = np.array([[1.0, np.nan], [4.0, 2.0]])
    level, slope = trend_over_time(values, np.array([100.0, 100.0]))
    assert level.tolist() == [2.5, 2.0]
    assert slope.tolist() == [0.0, 0.0]
    assert np.isnan(trend_over_time(np.full((2, 1), np.nan), np.full(2, np.nan))).all()


def test_wrong_settings_are_refused():
    chips = chips_of(images())
    with pytest.raises(ValueError, match=r"`aggregate` must be one of 'mean', .*; got 'median'"):
        sequence("median").fit(chips)
    with pytest.raises(ValueError, match="each once; got 'mean', 'mean'"):
        sequence(("mean", "mean")).fit(chips)
    with pytest.raises(ValueError, match=r"each once; got \."):
        sequence(()).fit(chips)
    with pytest.raises(ValueError, match=r"`quantiles` must lie in \[0, 1\]; got 5"):
        sequence("quantiles", quantiles=(0.5, 5)).fit(chips)
    with pytest.raises(ValueError, match="multiple of 16 for 8 attention heads; got 40"):
        sequence("attention", n_features=40).fit(chips)
    with pytest.raises(TypeError, match="must be an encoder of chips; got str"):
        SequenceEncoder("resnet").fit(chips)
    with pytest.raises(TypeError, match="cannot be the inner encoder"):
        SequenceEncoder(sequence("mean")).fit_transform(chips)
