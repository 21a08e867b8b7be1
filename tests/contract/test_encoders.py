"""What every encoder promises, checked on every encoder."""

import json
import pickle

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from terracausal._foundation.errors import BandError
from terracausal.encoders import BandStatisticsEncoder, RandomConvEncoder
from terracausal.imagery import Chips

BANDS = ("red", "nir")
KEYS = pd.Index([11, 2, 30, 4, 25, 6, 17, 8, 9])

ENCODERS = {
    "statistics": BandStatisticsEncoder(normalized_differences=(("nir", "red"),)),
    "random": RandomConvEncoder(n_features=24, random_state=0),
    "random, one chip at a time": RandomConvEncoder(n_features=24, batch_size=1, random_state=0),
}


@pytest.fixture(params=ENCODERS, ids=list(ENCODERS))
def encoder(request):
    return clone(ENCODERS[request.param])


def landscape(n_times=1):
    pixels = np.random.default_rng(0).gamma(3, 20, size=(len(KEYS), n_times, 2, 9, 11))
    pixels[2, 0, 1, 2:4, 3] = np.nan
    return pixels


def chips_of(pixels, keys=KEYS, bands=BANDS):
    return Chips.from_arrays(pixels, sites=keys, bands=bands)


def test_one_named_row_of_float64_per_site(encoder):
    table = encoder.fit_transform(chips_of(landscape()))
    pd.testing.assert_index_equal(table.index, KEYS.rename("site"))
    assert (table.dtypes == np.float64).all()
    assert table.columns.is_unique
    assert list(table.columns) == list(encoder.get_feature_names_out())
    assert np.isfinite(table.to_numpy()).all()
    assert (table.std() > 0).all()


def test_fit_returns_itself_and_stores_settings_only(encoder):
    settings = encoder.get_params()
    assert encoder.fit(chips_of(landscape())) is encoder
    assert encoder.get_params() == settings


def test_unfitted_and_cloned_encoders_refuse(encoder):
    chips = chips_of(landscape())
    name = type(encoder).__name__
    with pytest.raises(NotFittedError, match=f"This {name} instance is not fitted"):
        encoder.transform(chips)
    with pytest.raises(NotFittedError, match=f"This {name} instance is not fitted"):
        clone(encoder.fit(chips)).transform(chips)


def test_pickle_gives_the_same_table(encoder):
    chips = chips_of(landscape())
    table = encoder.fit_transform(chips)
    again = pickle.loads(pickle.dumps(encoder)).transform(chips)
    pd.testing.assert_frame_equal(again, table, check_exact=True)
    assert again.attrs == table.attrs


def test_order_of_chips_changes_no_number(encoder):
    pixels = landscape()
    table = encoder.fit_transform(chips_of(pixels))
    order = np.random.default_rng(1).permutation(len(KEYS))
    shuffled = clone(encoder).fit_transform(chips_of(pixels[order], KEYS[order]))
    assert list(shuffled.index) == list(KEYS[order])
    pd.testing.assert_frame_equal(shuffled.loc[table.index], table, check_exact=True)
    assert shuffled.attrs == table.attrs


def test_one_chip_alone_gets_the_same_row(encoder):
    chips = chips_of(landscape(n_times=2))
    table = encoder.fit_transform(chips)
    for site in chips:
        alone = encoder.transform(chips.select([site]))
        pd.testing.assert_frame_equal(alone, table.loc[[site]], check_exact=True)


def test_equal_images_at_all_times_are_one_image(encoder):
    pixels = landscape()
    once = encoder.fit(chips_of(pixels)).transform(chips_of(pixels))
    twice = encoder.transform(chips_of(np.repeat(pixels, 2, axis=1)))
    pd.testing.assert_frame_equal(twice, once, rtol=1e-12)


def test_other_bands_are_refused_with_both_lists(encoder):
    encoder.fit(chips_of(landscape()))
    for bands in (("nir", "red"), ("red", "swir")):
        with pytest.raises(
            BandError, match=f"fitted on the bands 'red', 'nir'; these chips have '{bands[0]}', "
        ):
            encoder.transform(chips_of(landscape(), bands=bands))


def test_chips_without_pixels_are_named(encoder):
    pixels = landscape()
    encoder.fit(chips_of(pixels))
    pixels[[1, 4]] = np.nan
    for run in (encoder.transform, encoder.fit):
        with pytest.raises(ValueError, match="2 of 9 have none: sites 2, 25"):
            run(chips_of(pixels))


def test_one_empty_time_is_left_out(encoder):
    pixels = landscape()
    table = encoder.fit_transform(chips_of(pixels))
    longer = np.concatenate([np.full_like(pixels, np.nan), pixels], axis=1)
    pd.testing.assert_frame_equal(encoder.transform(chips_of(longer)), table, rtol=1e-12)


def test_same_seed_same_table_and_zero_is_a_seed():
    chips = chips_of(landscape())
    tables = {
        name: RandomConvEncoder(n_features=8, random_state=seed).fit_transform(chips)
        for name, seed in {"0": 0, "0 again": 0, "1": 1, "none": None, "none again": None}.items()
    }
    pd.testing.assert_frame_equal(tables["0"], tables["0 again"], check_exact=True)
    for other in ("1", "none"):
        assert not np.allclose(tables["0"], tables[other])
    assert not np.allclose(tables["none"], tables["none again"])


def test_columns_are_zero_padded():
    chips = chips_of(landscape())
    columns = RandomConvEncoder(n_features=1002, random_state=0).fit_transform(chips).columns
    assert (columns[0], columns[-1]) == ("rcf_0000", "rcf_1001")
    columns = RandomConvEncoder(n_features=4, random_state=0).fit_transform(chips).columns
    assert list(columns) == ["rcf_000", "rcf_001", "rcf_002", "rcf_003"]


def test_input_is_not_changed(encoder):
    pixels = landscape()
    chips = chips_of(pixels)
    before = {site: chips[site] for site in chips}
    encoder.fit_transform(chips)
    np.testing.assert_array_equal(pixels, landscape())
    for site, pixel in before.items():
        np.testing.assert_array_equal(chips[site], pixel)


def test_the_transform_that_ran_is_part_of_the_table(encoder):
    attrs = encoder.fit_transform(chips_of(landscape())).attrs["encoder"]
    assert attrs["class"] == type(encoder).__name__
    assert attrs["bands"] == list(BANDS)
    assert attrs["n_sites_fitted"] == len(KEYS)
    assert set(attrs["parameters"]) == set(encoder.get_params())
    assert json.loads(json.dumps(attrs)) == attrs


def test_digest_tells_different_moments_apart():
    tables = [
        RandomConvEncoder(n_features=4, random_state=0).fit_transform(chips_of(pixels))
        for pixels in (landscape(), landscape() + 1)
    ]
    digests = [table.attrs["encoder"]["moments_digest"] for table in tables]
    assert digests[0] != digests[1]


def test_something_else_than_chips_is_refused(encoder):
    with pytest.raises(TypeError, match="reads Chips; got ndarray"):
        encoder.fit(landscape())


# -- what the table tells of its images ----------------------------------------------------------


def test_days_of_the_last_images_are_part_of_the_table(encoder):
    dated = Chips.from_arrays(
        landscape(n_times=2), sites=KEYS, bands=BANDS, times=["2007-05-01", "2008-06-30"]
    )
    assert encoder.fit_transform(dated).attrs["encoder"]["last_image"] == "2008-06-30"
    assert encoder.fit_transform(chips_of(landscape())).attrs["encoder"]["last_image"] is None


def test_overlapping_chips_are_part_of_the_table(encoder):
    # 9 x 11 pixels of 10 m: the first two sites are 33 m apart, the others 5 km
    lon = 33 + 0.05 * np.arange(len(KEYS))
    lon[1] = lon[0] + 0.0003
    sites = pd.DataFrame({"lon": lon, "lat": 0.0}, index=KEYS)
    chips = Chips.from_arrays(landscape(), sites=sites, bands=BANDS, resolution_m=10)
    groups = encoder.fit_transform(chips).attrs["encoder"]["overlapping"]
    assert [set(group) for group in groups] == [set(KEYS[:2])]
    assert encoder.fit_transform(chips_of(landscape())).attrs["encoder"]["overlapping"] == []
