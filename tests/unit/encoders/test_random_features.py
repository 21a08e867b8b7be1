import pickle

import numpy as np
import pytest
import torch

from terracausal.encoders import RandomConvEncoder
from terracausal.encoders.random_conv import cut_patches, draw_places, scan_chips
from terracausal.encoders.random_features import (
    RESPONSE_BIAS,
    FeaturePool,
    complete_windows,
    whitened_filters,
)
from terracausal.imagery import Chips

BANDS = ["red", "nir"]


def chips_of(pixels, sites=None):
    return Chips.from_arrays(
        pixels, sites=range(len(pixels)) if sites is None else sites, bands=BANDS
    )


def rough(n_sites=6, size=10, seed=0):
    return 50 + 20 * np.random.default_rng(seed).normal(size=(n_sites, 1, 2, size, size))


def test_responses_are_standardised_and_shifted_by_the_bias():
    # strongly correlated numbers, as in smooth images, and a mean that is not 0
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(18, 18))
    patches = (rng.normal(size=(20_000, 18)) @ mixing + 3).reshape(-1, 2, 3, 3).astype(np.float32)
    filters = whitened_filters(patches, 50)
    responses = patches.reshape(-1, 18) @ filters.weights.reshape(50, 18).T + filters.bias
    np.testing.assert_allclose(responses.mean(axis=0), RESPONSE_BIAS, atol=1e-4)
    # the regularisation, 0.001 of the total variance, takes something from the small directions
    assert responses.std(axis=0).max() < 1 + 1e-4
    assert responses.std(axis=0).mean() > 0.8


def test_filters_do_not_depend_on_the_units_of_a_band():
    pixels = rough()
    one = RandomConvEncoder(n_features=8, random_state=0).fit_transform(chips_of(pixels))
    scaled = pixels * np.array([1000, 0.01])[:, None, None] + np.array([5, -3])[:, None, None]
    two = RandomConvEncoder(n_features=8, random_state=0).fit_transform(chips_of(scaled))
    np.testing.assert_allclose(one, two, atol=1e-4)


def test_brightness_of_a_single_band_is_seen():
    # flat places that differ in brightness alone: blind filters would give equal rows
    flat = np.repeat(np.arange(1.0, 7), 64).reshape(6, 1, 1, 8, 8)
    chips = Chips.from_arrays(flat, sites=range(6), bands=["lights"])
    table = RandomConvEncoder(n_features=4, random_state=0).fit_transform(chips)
    assert np.linalg.matrix_rank(table - table.mean(), tol=1e-3) >= 1
    assert (table.std() > 0.1).all()


def test_moments_are_those_of_all_valid_pixels():
    pixels = rough()
    pixels[2, 0, 1, :5] = np.nan
    mean, scale, n_windows = scan_chips(chips_of(pixels), (3,))
    values = np.moveaxis(pixels.astype(np.float32), 2, 0).reshape(2, -1)
    np.testing.assert_allclose(mean, np.nanmean(values, axis=1), rtol=1e-6)
    np.testing.assert_allclose(scale, np.nanstd(values, axis=1), rtol=1e-6)
    assert n_windows[0, :, 0].tolist() == [64, 64, 24, 64, 64, 64]


def test_moments_of_large_numbers_do_not_cancel():
    pixels = 1e6 + np.random.default_rng(0).integers(0, 3, size=(4, 1, 2, 9, 9))
    _, scale, _ = scan_chips(chips_of(pixels), (3,))
    np.testing.assert_allclose(scale, pixels.std(axis=(0, 1, 3, 4)), rtol=1e-5)


def test_constant_band_has_scale_one_and_no_bearing():
    pixels = rough()
    pixels[:, :, 1] = 0.1
    encoder = RandomConvEncoder(n_features=6, random_state=0).fit(chips_of(pixels))
    assert encoder.scale_[1] == 1
    np.testing.assert_allclose(encoder.filters_[:, 1], 0, atol=1e-4)


def test_constant_chips_are_refused():
    with pytest.raises(ValueError, match="all 10000 that were drawn are equal"):
        RandomConvEncoder(n_features=4, random_state=0).fit(chips_of(np.full((3, 1, 2, 5, 5), 7)))


def test_patches_are_cut_where_the_chips_are_complete():
    pixels = np.arange(3 * 2 * 36, dtype=float).reshape(3, 1, 2, 6, 6)
    pixels[1, 0, 0, 2:] = np.nan  # no window of three rows is left
    pixels[2, 0, 1, 5, 5] = np.nan
    chips = chips_of(pixels, sites=[3, 1, 2])
    _, _, n_windows = scan_chips(chips, (3,))
    assert n_windows[0, :, 0].tolist() == [0, 15, 16]  # in order of keys: sites 1, 2, 3
    places = draw_places(n_windows[0], 4000, np.random.default_rng(0))
    patches = cut_patches(chips, places, 3)
    assert not np.isnan(patches).any()
    origins = patches[:, 0, 0, 0]
    of_third_site = origins[origins < 36]
    # sites 3 and 2 are drawn equally often: 2000 and five standard deviations of 31.6
    assert abs(len(of_third_site) - 2000) < 160
    rows, columns = np.divmod(of_third_site.astype(int), 6)
    assert set(zip(rows, columns, strict=True)) == {(r, c) for r in range(4) for c in range(4)}
    np.testing.assert_array_equal(patches[:, 0, 1, 2], origins + 8)


def test_complete_windows_of_a_frame_with_a_gap():
    frame = np.zeros((2, 5, 6), dtype=np.float32)
    frame[1, 0, 5] = np.nan
    expected = np.ones((3, 4), dtype=bool)
    expected[0, 3] = False
    np.testing.assert_array_equal(complete_windows(frame, 3), expected)


def test_number_of_threads_changes_no_digit():
    frames = rough(20, 12)[:, 0].astype(np.float32)
    patches = np.random.default_rng(0).normal(size=(500, 2, 3, 3)).astype(np.float32)
    pool = FeaturePool(whitened_filters(patches, 40))
    together = pool.encode(frames)
    pool._n_threads = 1
    np.testing.assert_array_equal(pool.encode(frames), together)


def test_settings_of_torch_are_left_alone():
    before = torch.get_num_threads(), torch.random.get_rng_state(), torch.is_grad_enabled()
    RandomConvEncoder(n_features=4, random_state=0).fit_transform(chips_of(rough()))
    after = torch.get_num_threads(), torch.random.get_rng_state(), torch.is_grad_enabled()
    assert before[0] == after[0]
    assert torch.equal(before[1], after[1])
    assert before[2] == after[2]


def test_new_area_keeps_the_fitted_standardisation():
    encoder = RandomConvEncoder(n_features=8, random_state=0).fit(chips_of(rough()))
    mean = encoder.mean_.copy()
    brighter = encoder.transform(chips_of(rough(seed=1) + 40))
    same = encoder.transform(chips_of(rough(seed=1)))
    np.testing.assert_array_equal(encoder.mean_, mean)
    # 40 are two standard deviations, which a new standardisation would remove
    assert abs(brighter - same).max().max() > 1


def test_chips_smaller_than_the_patch_are_refused():
    encoder = RandomConvEncoder(n_features=4, patch_px=5, random_state=0)
    with pytest.raises(ValueError, match="5 x 5 px; these have 4 x 4 px"):
        encoder.fit(chips_of(rough(size=4)))
    encoder.fit(chips_of(rough(size=8)))
    with pytest.raises(ValueError, match="5 x 5 px; these have 4 x 4 px"):
        encoder.transform(chips_of(rough(size=4)))


def test_chips_without_a_complete_window_are_named():
    pixels = rough()
    pixels[4, 0, 0, ::2, ::2] = np.nan
    encoder = RandomConvEncoder(n_features=4, random_state=0).fit(chips_of(pixels))
    with pytest.raises(ValueError, match="3 x 3 px without missing pixels; sites 4 have none"):
        encoder.transform(chips_of(pixels))
    with pytest.raises(ValueError, match="none of the 1 chips has one"):
        RandomConvEncoder(n_features=4).fit(chips_of(pixels[4:5]))


def test_band_without_pixels_is_named():
    pixels = rough()
    pixels[:, :, 1] = np.nan
    with pytest.raises(ValueError, match="'nir' have none in 6 chips"):
        RandomConvEncoder(n_features=4).fit(chips_of(pixels))


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"n_features": 7}, "`n_features` must be a multiple of 2.*got 7"),
        ({"n_features": 0}, "`n_features` .* at least 1; got 0"),
        ({"n_features": 6, "pooling": "both"}, "`n_features` must be a multiple of 4.*got 6"),
        ({"n_features": 2, "patch_px": (1, 3)}, "at least 4 for 2 patch sizes; got 2"),
        ({"patch_px": (3, 3)}, r"several that differ; got \(3, 3\)"),
        ({"patch_px": ()}, r"one size or several that differ; got \(\)"),
        ({"pooling": "min"}, "`pooling` must be one of 'mean', 'max', 'both'; got 'min'"),
        ({"n_components": 0}, "`n_components` .* got 0"),
        ({"patch_px": 0}, "`patch_px` .* got 0"),
        ({"batch_size": 0}, "`batch_size` .* got 0"),
        ({"random_state": -1}, "`random_state` must not be negative; got -1"),
    ],
)
def test_settings_are_checked(setting, message):
    with pytest.raises(ValueError, match=message):
        RandomConvEncoder(**setting).fit(chips_of(rough()))


def test_a_fitted_encoder_pickles_small():
    encoder = RandomConvEncoder(n_features=512, random_state=0).fit(chips_of(rough(20, 30)))
    assert len(pickle.dumps(encoder)) < 256 * (18 + 1) * 4 + 5_000


def test_generator_as_random_state():
    chips = chips_of(rough())
    tables = [
        RandomConvEncoder(n_features=8, random_state=state).fit_transform(chips)
        for state in (3, np.random.default_rng(3))
    ]
    np.testing.assert_array_equal(*tables)


# -- several sizes, poolings, and what an encoder takes to a new area ------------------------------


def test_filters_are_split_evenly_over_sizes():
    encoder = RandomConvEncoder(512, patch_px=(3, 5, 7), random_state=0).fit(chips_of(rough()))
    assert np.bincount(encoder.patch_px_).tolist() == [0, 0, 0, 86, 0, 85, 0, 85]
    assert encoder.filters_.shape == (256, 2, 7, 7)
    for size in (3, 5):
        padded = encoder.filters_[encoder.patch_px_ == size]
        assert not padded[:, :, size:].any()
        assert not padded[:, :, :, size:].any()
        assert padded[:, :, size - 1, size - 1].all()


def test_the_first_of_several_sizes_is_that_size_alone():
    chips = chips_of(rough())
    alone = RandomConvEncoder(20, patch_px=3, random_state=0).fit_transform(chips)
    several = RandomConvEncoder(40, patch_px=(3, 5), random_state=0).fit_transform(chips)
    np.testing.assert_array_equal(several.iloc[:, :20], alone)
    # the same size, in a tuple
    same = RandomConvEncoder(20, patch_px=(3,), random_state=0).fit_transform(chips)
    np.testing.assert_array_equal(same, alone)


def test_mean_and_maximum_together_are_each_alone():
    chips = chips_of(rough())
    mean = RandomConvEncoder(20, random_state=0).fit_transform(chips)
    peak = RandomConvEncoder(20, pooling="max", random_state=0).fit_transform(chips)
    both = RandomConvEncoder(40, pooling="both", random_state=0).fit_transform(chips)
    np.testing.assert_array_equal(both, np.hstack([mean, peak]))
    assert (peak.to_numpy() >= mean.to_numpy()).all()


def test_origins_say_which_filter_made_a_column():
    chips = chips_of(rough(n_sites=3))
    encoder = RandomConvEncoder(24, patch_px=(5, 3), pooling="both", random_state=0)
    table = encoder.fit_transform(chips)
    pixels = (rough(n_sites=3)[:, 0].astype(np.float32) - encoder.mean_[:, None, None]) / (
        encoder.scale_[:, None, None]
    )
    origins = encoder.feature_origins()
    assert list(origins.index) == list(table.columns)
    assert len(origins.drop_duplicates()) == 24
    for name, origin in origins.iterrows():
        size, row = origin["patch_px"], origin["filter"]
        weights = encoder.filters_[row : row + 1, :, :size, :size]
        z = torch.nn.functional.conv2d(torch.from_numpy(pixels), torch.from_numpy(weights))
        relu = torch.relu(origin["sign"] * (z[:, 0] + encoder.bias_[row]))
        expected = relu.mean((1, 2)) if origin["pooling"] == "mean" else relu.amax((1, 2))
        np.testing.assert_allclose(table[name], expected, rtol=0, atol=1e-5)


def test_new_area_is_whitened_as_the_fitted_one():
    # neighbouring pixels go together in the fitted area, and not at all in the new one
    base = rough(12, 14)
    smooth = base[..., 2:, 2:] + base[..., 1:-1, 1:-1] + base[..., :-2, :-2]
    encoder = RandomConvEncoder(40, random_state=0).fit(chips_of(smooth))
    responses = {}
    for name, pixels in {"fitted": smooth, "new": 3 * rough(12, 12, seed=1)}.items():
        standard = (pixels[:, 0] - encoder.mean_[:, None, None]) / encoder.scale_[:, None, None]
        z = torch.nn.functional.conv2d(
            torch.from_numpy(standard.astype(np.float32)), torch.from_numpy(encoder.filters_)
        )
        responses[name] = z.std(dim=(0, 2, 3)).mean().item()
    assert 0.7 < responses["fitted"] < 1.1
    assert responses["new"] > 1.5 * responses["fitted"]
    # and that is what transform gives: relu(z) - relu(-z) = z
    table = encoder.transform(chips_of(3 * rough(12, 12, seed=1))).to_numpy()
    mean_z = z.mean(dim=(2, 3)).numpy() + encoder.bias_
    np.testing.assert_allclose(table[:, :20] - table[:, 20:], mean_z, atol=1e-4)
    refitted = RandomConvEncoder(40, random_state=0).fit_transform(
        chips_of(3 * rough(12, 12, seed=1))
    )
    assert not np.allclose(refitted, table, atol=0.1)


def test_the_largest_patch_must_fit_and_be_complete():
    encoder = RandomConvEncoder(8, patch_px=(3, 7), random_state=0)
    with pytest.raises(ValueError, match="7 x 7 px; these have 6 x 6 px"):
        encoder.fit(chips_of(rough(size=6)))
    pixels = rough()
    encoder.fit(chips_of(pixels))
    pixels[2, 0, 0, 4:6] = np.nan
    with pytest.raises(ValueError, match="7 x 7 px without missing pixels; sites 2 have none for"):
        encoder.transform(chips_of(pixels))
    with pytest.raises(ValueError, match=r"windows of 7 x 7 px .* none of the 1 chips has one"):
        encoder.fit(chips_of(pixels[2:3]))
