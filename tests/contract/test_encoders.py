"""What every encoder promises, checked on every encoder.

A new encoder is added to `ENCODERS` with what is particular to it, and passes every test here.
"""

import functools
import json
import pickle
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from terracausal._foundation.errors import BandError
from terracausal.encoders import (
    BandStatisticsEncoder,
    LocationEncoder,
    MultiScaleEncoder,
    RandomConvEncoder,
    RandomNetworkEncoder,
    SequenceEncoder,
    Texture,
    TrainedEncoder,
    TrainingSettings,
)
from terracausal.encoders.base import ChipEncoder
from terracausal.encoders.networks import KernelMaxNetwork
from terracausal.encoders.reduction import fit_components
from terracausal.imagery import Chips

BANDS = ("red", "nir")
KEYS = pd.Index([11, 2, 30, 4, 25, 6, 17, 8, 9])


@dataclass(frozen=True)
class Entry:
    """An encoder under test, and what is particular to it.

    Parameters
    ----------
    encoder : ChipEncoder
        With a fixed `random_state`.
    rtol : float
        Relative difference that the other sites of a batch may make; 0 asks for equal bits. Above
        0 only where BLAS sums in an order that depends on the number of rows.
    dated, placed : bool
        Whether it needs dates, or sites with positions.
    supervised : bool
        Whether `fit` reads outcomes.
    reads_pixels : bool
        Whether rows follow from the pixels; a row of places alone does not.
    averages_times : bool
        Whether an image twice is that image once, and an empty time makes no difference.
    min_n_times : int
        Smallest number of times.
    learns_moments : bool
        Whether other chips at `fit` give other numbers.
    """

    encoder: ChipEncoder
    rtol: float = 0.0
    dated: bool = False
    placed: bool = False
    supervised: bool = False
    reads_pixels: bool = True
    averages_times: bool = True
    min_n_times: int = 1
    learns_moments: bool = True


def random_conv(n_features=24, **settings):
    return RandomConvEncoder(n_features, random_state=0, **settings)


ENCODERS = {
    "statistics": Entry(
        BandStatisticsEncoder(normalized_differences=(("nir", "red"),)), learns_moments=False
    ),
    "every statistic": Entry(
        BandStatisticsEncoder(
            moments=("mean", "sd", "skewness", "kurtosis"),
            indices=("NDVI",),
            texture=Texture(distances_px=(1, 2)),
        )
    ),
    "statistics, reduced": Entry(BandStatisticsEncoder(n_components=3, whiten=True)),
    "random": Entry(random_conv()),
    "random, one chip at a time": Entry(random_conv(batch_size=1)),
    "random, several sizes": Entry(random_conv(patch_px=(1, 3, 5))),
    "random, max": Entry(random_conv(pooling="max")),
    "random, mean and max": Entry(random_conv(pooling="both", patch_px=(3, 4))),
    "random, reduced": Entry(random_conv(patch_px=(3, 5), n_components=4)),
    "sequence, mean": Entry(SequenceEncoder(BandStatisticsEncoder()), learns_moments=False),
    "sequence, all but harmonic": Entry(
        SequenceEncoder(
            random_conv(),
            ("trend", "difference", "variance", "quantiles", "attention"),
            n_features=16,
            random_state=0,
        ),
        dated=True,
        averages_times=False,
        min_n_times=2,
    ),
    "sequence, concatenated": Entry(
        SequenceEncoder(random_conv(), "concatenate"), averages_times=False
    ),
    "scales": Entry(MultiScaleEncoder(random_conv(), sizes_px=(5, 8))),
    "random transformer": Entry(RandomNetworkEncoder(random_state=0), rtol=1e-5),
    "random convolution": Entry(RandomNetworkEncoder("cnn", random_state=0), rtol=1e-5),
    "splines": Entry(
        LocationEncoder(n_knots=3), placed=True, reads_pixels=False, learns_moments=False
    ),
    "spherical harmonics": Entry(
        LocationEncoder("spherical_harmonics", degree=3),
        placed=True,
        reads_pixels=False,
        learns_moments=False,
    ),
    "trained, kernel": Entry(
        TrainedEncoder(
            functools.partial(KernelMaxNetwork, width_px=3, n_filters=4),
            training=TrainingSettings(n_epochs=2, batch_size=4),
            random_state=0,
        ),
        rtol=1e-5,
        supervised=True,
    ),
    "trained, convolutional": Entry(
        TrainedEncoder(training=TrainingSettings(n_epochs=2, batch_size=4), random_state=0),
        rtol=1e-4,
        supervised=True,
    ),
}


@pytest.fixture(params=ENCODERS, ids=list(ENCODERS))
def entry(request):
    return ENCODERS[request.param]


@pytest.fixture
def encoder(entry):
    return clone(entry.encoder)


@pytest.fixture
def landscape(entry):
    """Return a function that makes pixels (n_sites, n_times, n_bands, height, width)."""

    def make(n_times=1, seed=0):
        n_times = max(n_times, entry.min_n_times)
        pixels = np.random.default_rng(seed).gamma(3, 20, size=(len(KEYS), n_times, 2, 9, 11))
        pixels[2, 0, 1, 2:4, 3] = np.nan
        return pixels

    return make


@pytest.fixture
def chips_of(entry):
    """Return a function that makes chips of what the encoder needs."""

    def make(pixels, keys=KEYS, bands=BANDS, days=None):
        place = KEYS.get_indexer(keys)
        lon_lat = pd.DataFrame({"lon": 32 + 0.3 * place, "lat": 1 + 0.1 * place**2}, index=keys)
        if entry.dated and days is None:
            days = [f"{2000 + 2 * year}-03-01" for year in range(pixels.shape[1])]
        return Chips.from_arrays(
            pixels,
            sites=lon_lat if entry.placed else keys,
            bands=bands,
            times=days,
        )

    return make


@pytest.fixture
def fitted(entry):
    """Return a function that fits an encoder, with outcomes where it asks for them."""

    def fit(encoder, chips):
        if not entry.supervised:
            return encoder.fit(chips)
        return encoder.fit(chips, outcomes(chips))

    return fit


def outcomes(chips, seed=0):
    """Return a number per site that does not depend on the order of sites."""
    numbers = pd.Series(np.random.default_rng(seed).normal(size=len(KEYS)), KEYS)
    return numbers.loc[chips.keys]


def same(one, other, rtol=0.0, column_of=None):
    if rtol == 0:
        pd.testing.assert_frame_equal(one, other, check_exact=True)
    else:
        # relative to the size of a column: numbers near 0 are differences of larger ones
        size = np.abs((other if column_of is None else column_of).to_numpy()).max(axis=0)
        assert one.index.equals(other.index)
        assert (np.abs(one.to_numpy() - other.to_numpy()) <= rtol * size).all()


def told(table):
    """Return what the table tells, without what the seed of an encoder has no bearing on."""
    return json.loads(json.dumps(table.attrs["encoder"]))


def test_one_named_row_of_float64_per_site(encoder, landscape, chips_of, fitted):
    chips = chips_of(landscape())
    table = fitted(encoder, chips).transform(chips)
    pd.testing.assert_index_equal(table.index, KEYS.rename("site"))
    assert (table.dtypes == np.float64).all()
    assert table.columns.is_unique
    assert list(table.columns) == list(encoder.get_feature_names_out())
    assert np.isfinite(table.to_numpy()).all()
    assert (table.std() > 0).all()


def test_fit_transform_is_fit_and_transform(entry, encoder, landscape, chips_of, fitted):
    chips = chips_of(landscape())
    y = outcomes(chips) if entry.supervised else None
    table = clone(encoder).fit_transform(chips, y)
    pd.testing.assert_frame_equal(table, fitted(encoder, chips).transform(chips), check_exact=True)


def test_fit_returns_itself_and_stores_settings_only(encoder, landscape, chips_of, fitted):
    settings = encoder.get_params()
    assert fitted(encoder, chips_of(landscape())) is encoder
    assert encoder.get_params() == settings


def test_unfitted_and_cloned_encoders_refuse(encoder, landscape, chips_of, fitted):
    chips = chips_of(landscape())
    name = type(encoder).__name__
    with pytest.raises(NotFittedError, match=f"This {name} instance is not fitted"):
        encoder.transform(chips)
    with pytest.raises(NotFittedError, match=f"This {name} instance is not fitted"):
        clone(fitted(encoder, chips)).transform(chips)


def test_pickle_gives_the_same_table(encoder, landscape, chips_of, fitted):
    chips = chips_of(landscape())
    table = fitted(encoder, chips).transform(chips)
    again = pickle.loads(pickle.dumps(encoder)).transform(chips)
    pd.testing.assert_frame_equal(again, table, check_exact=True)
    assert again.attrs == table.attrs


# -- the company of a site -------------------------------------------------------------------------


def test_order_of_chips_changes_no_number(entry, encoder, landscape, chips_of, fitted):
    pixels = landscape()
    chips = chips_of(pixels)
    table = fitted(encoder, chips).transform(chips)
    order = np.random.default_rng(1).permutation(len(KEYS))
    other = chips_of(pixels[order], KEYS[order])
    shuffled = fitted(clone(encoder), other).transform(other)
    assert list(shuffled.index) == list(KEYS[order])
    same(shuffled.loc[table.index], table, entry.rtol)
    if entry.rtol == 0:
        assert shuffled.attrs == table.attrs


def test_a_permuted_batch_gives_permuted_rows(entry, encoder, landscape, chips_of, fitted):
    chips = chips_of(landscape(n_times=2))
    table = fitted(encoder, chips).transform(chips)
    order = KEYS[np.random.default_rng(2).permutation(len(KEYS))]
    same(encoder.transform(chips.select(order)), table.loc[order], entry.rtol)


def test_one_chip_alone_gets_the_same_row(entry, encoder, landscape, chips_of, fitted):
    chips = chips_of(landscape(n_times=2))
    table = fitted(encoder, chips).transform(chips)
    for site in chips:
        alone = encoder.transform(chips.select([site]))
        same(alone, table.loc[[site]], entry.rtol, column_of=table)


def test_other_chips_seen_before_leave_no_trace(encoder, landscape, chips_of, fitted):
    chips, other = chips_of(landscape()), chips_of(10 * landscape(seed=5))
    table = fitted(encoder, chips).transform(chips)
    encoder.transform(other)
    pd.testing.assert_frame_equal(encoder.transform(chips), table, check_exact=True)


def test_two_encoders_share_no_state(encoder, landscape, chips_of, fitted):
    chips, other = chips_of(landscape()), chips_of(10 * landscape(seed=5))
    alone = fitted(clone(encoder), chips).transform(chips)
    first = fitted(encoder, chips)
    second = fitted(clone(encoder), other)
    second.transform(other)
    pd.testing.assert_frame_equal(first.transform(chips), alone, check_exact=True)
    # and fitting again forgets what was fitted before
    pd.testing.assert_frame_equal(fitted(second, chips).transform(chips), alone, check_exact=True)


def test_other_fitted_chips_change_what_is_learned(entry, encoder, landscape, chips_of, fitted):
    if not entry.learns_moments:
        pytest.skip("learns nothing from the chips")
    chips, other = chips_of(landscape()), chips_of(landscape(seed=5) ** 1.2)
    one = fitted(clone(encoder), chips).transform(chips)
    two = fitted(clone(encoder), other).transform(chips)
    assert not np.allclose(one, two)
    one, two = told(one), told(two)
    assert one["parameters"] == two["parameters"]
    assert one != two


def test_a_band_in_other_units_changes_numbers(entry, encoder, landscape, chips_of, fitted):
    if not entry.reads_pixels:
        pytest.skip("reads no pixels")
    chips = chips_of(landscape())
    fitted(encoder, chips)
    scaled = encoder.transform(chips_of(1.5 * landscape()))
    assert not np.allclose(scaled, encoder.transform(chips))


def test_outcomes_are_read_by_supervised_encoders_alone(
    entry, encoder, landscape, chips_of, fitted
):
    assert encoder.supervised == entry.supervised
    chips = chips_of(landscape())
    one, two = (
        clone(encoder).fit_transform(chips, y) for y in (outcomes(chips), outcomes(chips, 1))
    )
    assert one.equals(two) != entry.supervised
    assert told(one)["supervised"] == entry.supervised
    if not entry.supervised:
        # not even looked at
        assert clone(encoder).fit_transform(chips, "nonsense").equals(one)


# -- times -----------------------------------------------------------------------------------------


def test_equal_images_at_all_times_are_one_image(entry, encoder, landscape, chips_of, fitted):
    if not entry.averages_times:
        pytest.skip("more than a mean over times")
    pixels = landscape()
    once = fitted(encoder, chips_of(pixels)).transform(chips_of(pixels))
    twice = encoder.transform(chips_of(np.repeat(pixels, 2, axis=1)))
    pd.testing.assert_frame_equal(twice, once, rtol=max(1e-12, entry.rtol), atol=1e-12)


def test_one_empty_time_is_left_out(entry, encoder, landscape, chips_of, fitted):
    if not entry.averages_times:
        pytest.skip("more than a mean over times")
    pixels = landscape()
    table = fitted(encoder, chips_of(pixels)).transform(chips_of(pixels))
    longer = np.concatenate([np.full_like(pixels, np.nan), pixels], axis=1)
    again = encoder.transform(chips_of(longer))
    pd.testing.assert_frame_equal(again, table, rtol=max(1e-12, entry.rtol), atol=1e-12)


# -- refusals --------------------------------------------------------------------------------------


def test_other_bands_are_refused_with_both_lists(encoder, landscape, chips_of, fitted):
    fitted(encoder, chips_of(landscape()))
    for bands in (("nir", "red"), ("red", "swir")):
        with pytest.raises(
            BandError, match=f"fitted on the bands 'red', 'nir'; these chips have '{bands[0]}', "
        ):
            encoder.transform(chips_of(landscape(), bands=bands))


def test_chips_without_pixels_are_named(encoder, landscape, chips_of, fitted):
    pixels = landscape()
    fitted(encoder, chips_of(pixels))
    pixels[[1, 4]] = np.nan
    for run in (encoder.transform, encoder.fit):
        with pytest.raises(ValueError, match="2 of 9 have none: sites 2, 25"):
            run(chips_of(pixels))


def test_something_else_than_chips_is_refused(encoder, landscape):
    with pytest.raises(TypeError, match="reads Chips; got ndarray"):
        encoder.fit(landscape())


def test_input_is_not_changed(encoder, landscape, chips_of, fitted):
    pixels = landscape()
    chips = chips_of(pixels)
    before = {site: chips[site] for site in chips}
    fitted(encoder, chips).transform(chips)
    np.testing.assert_array_equal(pixels, landscape())
    for site, pixel in before.items():
        np.testing.assert_array_equal(chips[site], pixel)


# -- reduction -------------------------------------------------------------------------------------


def reducible(encoder):
    if "n_components" not in encoder.get_params(deep=False):
        pytest.skip("has no `n_components`")
    return clone(encoder).set_params(n_components=None)


@pytest.mark.parametrize("whiten", [False, True])
def test_components_are_those_of_the_fitted_chips(
    entry, encoder, landscape, chips_of, fitted, whiten
):
    full = reducible(encoder)
    reduced = clone(full).set_params(n_components=2, whiten=whiten)
    training, new = (chips_of(landscape(seed=seed)) for seed in (0, 5))
    rows = fitted(full, training).transform(training).sort_index()
    expected = fit_components(rows.to_numpy(), 2, whiten=whiten).transform(
        full.transform(new).to_numpy()
    )
    table = fitted(reduced, training).transform(new)
    assert list(table.columns) == ["pc_000", "pc_001"]
    same(table, pd.DataFrame(expected, table.index, table.columns), max(entry.rtol, 1e-9))
    assert told(table)["reduction"]["n_components"] == 2


def test_components_are_fitted_anew_on_training_sites_alone(
    entry, encoder, landscape, chips_of, fitted
):
    reduced = reducible(encoder).set_params(n_components=2)
    chips = chips_of(landscape())
    training = chips.select(KEYS[:6])
    other = landscape()
    other[6:] = landscape(seed=5)[6:]
    one = fitted(clone(reduced), training)
    two = fitted(clone(reduced), chips_of(other).select(KEYS[:6]))
    everyone = fitted(clone(reduced), chips)
    # sites that are held out leave no trace; sites of the training do
    table = one.transform(chips)
    pd.testing.assert_frame_equal(two.transform(chips), table, check_exact=True)
    assert not np.allclose(everyone.transform(chips), table)
    assert one.components_.n_components == 2


# -- what the table tells of its images ------------------------------------------------------------


def test_the_transform_that_ran_is_part_of_the_table(encoder, landscape, chips_of, fitted):
    chips = chips_of(landscape())
    attrs = fitted(encoder, chips).transform(chips).attrs["encoder"]
    assert attrs["class"] == type(encoder).__name__
    assert attrs["bands"] == list(BANDS)
    assert attrs["n_sites_fitted"] == len(KEYS)
    assert set(attrs["parameters"]) == set(encoder.get_params(deep=False))
    assert json.loads(json.dumps(attrs)) == attrs


def test_days_of_the_last_images_are_part_of_the_table(entry, encoder, landscape, chips_of, fitted):
    pixels = landscape(n_times=2)
    days = [f"{2008 - after}-06-30" for after in reversed(range(pixels.shape[1]))]
    dated = chips_of(pixels, days=days)
    fitted(encoder, dated)
    facts = encoder.transform(dated).attrs["encoder"]
    if not entry.reads_pixels:
        assert "last_image" not in facts  # places have no date
        return
    assert facts["last_image"] == "2008-06-30"
    if not entry.dated:
        assert encoder.transform(chips_of(pixels)).attrs["encoder"]["last_image"] is None


def test_overlapping_chips_are_part_of_the_table(entry, encoder, landscape, chips_of, fitted):
    # 9 x 11 pixels of 10 m: the first two sites are 33 m apart, the others 5 km
    lon = 33 + 0.05 * np.arange(len(KEYS))
    lon[1] = lon[0] + 0.0003
    sites = pd.DataFrame({"lon": lon, "lat": 0.0}, index=KEYS)
    plain = chips_of(landscape())
    chips = Chips.from_arrays(
        landscape(), sites=sites, bands=BANDS, resolution_m=10, times=plain.times
    )
    groups = fitted(encoder, chips).transform(chips).attrs["encoder"]["overlapping"]
    assert [set(group) for group in groups] == [set(KEYS[:2])]
    assert encoder.transform(plain).attrs["encoder"]["overlapping"] == []


# -- random features -------------------------------------------------------------------------------


def small_chips(change=0.0):
    pixels = np.random.default_rng(0).gamma(3, 20, size=(len(KEYS), 1, 2, 9, 11)) + change
    return Chips.from_arrays(pixels, sites=KEYS, bands=BANDS)


def test_same_seed_same_table_and_zero_is_a_seed():
    chips = small_chips()
    tables = {
        name: RandomConvEncoder(n_features=8, random_state=seed).fit_transform(chips)
        for name, seed in {"0": 0, "0 again": 0, "1": 1, "none": None, "none again": None}.items()
    }
    pd.testing.assert_frame_equal(tables["0"], tables["0 again"], check_exact=True)
    for other in ("1", "none"):
        assert not np.allclose(tables["0"], tables[other])
    assert not np.allclose(tables["none"], tables["none again"])


def test_columns_are_zero_padded():
    chips = small_chips()
    columns = RandomConvEncoder(n_features=1002, random_state=0).fit_transform(chips).columns
    assert (columns[0], columns[-1]) == ("rcf_0000", "rcf_1001")
    columns = RandomConvEncoder(n_features=4, random_state=0).fit_transform(chips).columns
    assert list(columns) == ["rcf_000", "rcf_001", "rcf_002", "rcf_003"]


def test_digest_tells_different_moments_apart():
    tables = [
        RandomConvEncoder(n_features=4, random_state=0).fit_transform(small_chips(change))
        for change in (0, 1)
    ]
    digests = [table.attrs["encoder"]["moments_digest"] for table in tables]
    assert digests[0] != digests[1]
