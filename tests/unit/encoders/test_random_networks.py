import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone

from terracausal.encoders.random_networks import RandomNetworkEncoder, band_moments
from terracausal.imagery import Chips

KINDS = pytest.mark.parametrize("kind", ["vit", "cnn"])
BANDS = ["red", "nir"]
FLOAT32 = 1e-5  # both sides compute in float32, columns are about 1


def images(n_sites=6, size=(35, 35), n_times=1, seed=0):
    level = np.array([20.0, 400.0])[:, None, None]
    noise = np.random.default_rng(seed).normal(size=(n_sites, n_times, 2, *size))
    return level * (1 + 0.3 * noise)


def chips_of(pixels, keys=None):
    keys = list("abcdefghij")[: len(pixels)] if keys is None else keys
    return Chips.from_arrays(pixels, sites=keys, bands=BANDS)


def standard(pixels, encoder):
    values = (pixels[:, 0] - encoder.mean_[:, None, None]) / encoder.scale_[:, None, None]
    return torch.from_numpy(values.astype(np.float32))


def test_cnn_is_two_convolutions_and_three_summaries():
    pixels = images()
    encoder = RandomNetworkEncoder("cnn", random_state=0)
    found = encoder.fit_transform(chips_of(pixels)).to_numpy()
    depthwise, pointwise = (
        encoder.parameters_[name].astype(float) for name in ("depthwise", "pointwise")
    )
    windows = np.lib.stride_tricks.sliding_window_view(
        standard(pixels, encoder).double().numpy(), (3, 3), axis=(2, 3)
    )
    filtered = np.einsum("sbyxij,bij->sbyx", windows, depthwise[:, 0])
    maps = np.einsum("sbyx,fb->sfyx", filtered, pointwise[:, :, 0, 0])
    high, mean = maps.max(axis=(2, 3)), maps.mean(axis=(2, 3))
    np.testing.assert_allclose(found, np.hstack([high, mean, high * mean]), atol=10 * FLOAT32)
    # what the documentation says of the means: as many directions as bands
    assert np.linalg.matrix_rank(found[:, 128:256] - found[:, 128:256].mean(axis=0), tol=1e-3) <= 2


def test_vit_is_patches_and_the_first_token():
    from terracausal.encoders.networks.temporal import RotaryTransformer

    pixels = images(size=(35, 48))
    encoder = RandomNetworkEncoder("vit", random_state=0)
    found = encoder.fit_transform(chips_of(pixels)).to_numpy()
    held = {name: torch.from_numpy(x) for name, x in encoder.parameters_.items()}
    patches = held.pop("patches").double()
    # 35 rows become 48: 6 reflected above, 7 below
    tall = np.pad(standard(pixels, encoder), ((0, 0), (0, 0), (6, 7), (0, 0)), mode="reflect")
    cut = tall.reshape(6, 2, 3, 16, 3, 16).transpose(0, 2, 4, 1, 3, 5).reshape(6, 9, -1)
    tokens = torch.from_numpy(cut).double() @ patches.reshape(128, -1).T
    network = RotaryTransformer(128)
    network.load_state_dict(held)
    network.double().requires_grad_(False)
    places = torch.arange(1.0, 10.0).expand(6, 9)
    expected = network(tokens, torch.zeros(6, 9, dtype=torch.bool), places).numpy()
    np.testing.assert_allclose(found, expected, atol=10 * FLOAT32)


@KINDS
def test_width_seed_and_small_chips(kind):
    chips = chips_of(images(size=(9, 7)))
    tables = [
        RandomNetworkEncoder(kind, random_state=seed).fit_transform(chips) for seed in (0, 0, 1)
    ]
    assert tables[0].shape[1] == {"vit": 128, "cnn": 384}[kind]
    assert tables[0].columns[0] == f"{kind}_000"
    pd.testing.assert_frame_equal(tables[0], tables[1], check_exact=True)
    assert tables[0].attrs == tables[1].attrs
    assert not np.allclose(tables[0], tables[2])
    digests = [table.attrs["encoder"]["parameters_digest"] for table in tables]
    assert digests[0] == digests[1] != digests[2]


@KINDS
def test_a_batch_of_one_equals_a_batch_of_many(kind):
    chips = chips_of(images(n_times=2))
    encoder = RandomNetworkEncoder(kind, random_state=0).fit(chips)
    whole = encoder.transform(chips)
    for batch_size in (1, 4):
        other = encoder.set_params(batch_size=batch_size).transform(chips)
        np.testing.assert_allclose(other, whole, atol=FLOAT32 * whole.std().mean(), rtol=0)
    order = list("fbdace")
    shuffled = encoder.transform(chips.select(order))
    np.testing.assert_allclose(shuffled, whole.loc[order], atol=FLOAT32, rtol=FLOAT32)


@KINDS
def test_units_do_not_matter_because_bands_are_standardised(kind):
    pixels = images()
    table = RandomNetworkEncoder(kind, random_state=0).fit_transform(chips_of(pixels))
    scaled = pixels * np.array([10_000.0, 0.01])[:, None, None] + 7
    other = RandomNetworkEncoder(kind, random_state=0).fit_transform(chips_of(scaled))
    # 1e-3: float32 keeps 7 digits, and 10,000 times 20 leaves 5 of them after subtraction
    np.testing.assert_allclose(other, table, atol=1e-3, rtol=1e-3)
    # but the moments are those of the fitted chips, also for others
    encoder = RandomNetworkEncoder(kind, random_state=0).fit(chips_of(pixels))
    assert not np.allclose(encoder.transform(chips_of(scaled)), table, atol=0.1)


def test_cnn_leaves_out_windows_that_touch_a_gap():
    pixels = images(size=(12, 30))
    pixels[:, :, 0, :, 12:20] = np.nan  # in one band only
    encoder = RandomNetworkEncoder("cnn", random_state=0).fit(chips_of(pixels))
    found = encoder.transform(chips_of(pixels)).to_numpy()
    left, right = (
        encoder.transform(chips_of(part)).to_numpy()
        for part in (pixels[..., :12], pixels[..., 20:])
    )
    high = np.maximum(left[:, :128], right[:, :128])
    mean = (10 * left[:, 128:256] + 8 * right[:, 128:256]) / 18  # windows per row of each side
    np.testing.assert_allclose(found, np.hstack([high, mean, high * mean]), atol=10 * FLOAT32)


def test_vit_leaves_out_patches_that_are_mostly_missing_and_fills_others_with_the_mean():
    pixels = images(size=(32, 32))
    pixels[:, :, :, :16, 16:] = np.nan
    pixels[:, :, :, :16, 16] = 3.0  # one column of sixteen: still mostly missing
    encoder = RandomNetworkEncoder("vit", random_state=0).fit(chips_of(pixels))
    found = encoder.transform(chips_of(pixels))
    other = pixels.copy()
    other[:, :, :, :16, 16] = -500.0
    pd.testing.assert_frame_equal(encoder.transform(chips_of(other)), found)
    holes, filled = pixels.copy(), pixels.copy()
    holes[:, :, :, 20:24, 3:6] = np.nan
    filled[:, :, :, 20:24, 3:6] = encoder.mean_[:, None, None]
    np.testing.assert_allclose(
        encoder.transform(chips_of(holes)), encoder.transform(chips_of(filled)), atol=FLOAT32
    )


def test_images_without_a_window_or_patch_are_refused_by_name():
    pixels = images(size=(16, 16))
    gaps = pixels.copy()
    gaps[[1, 4], :, 0, ::2] = np.nan  # every second row of one band: a quarter of the patch
    encoder = RandomNetworkEncoder("cnn", random_state=0).fit(chips_of(pixels))
    with pytest.raises(ValueError, match=r"window of 3 x 3 px without missing .* 'b', 'e' have"):
        encoder.transform(chips_of(gaps))
    encoder = RandomNetworkEncoder("vit", random_state=0).fit(chips_of(pixels))
    encoder.transform(chips_of(gaps))
    gaps[[1, 4], :, :, :9] = np.nan
    with pytest.raises(ValueError, match="at least half is valid; sites 'b', 'e' have"):
        encoder.transform(chips_of(gaps))


def test_several_times_are_averaged_over_those_that_have_pixels():
    pixels = images(n_times=3)
    pixels[:, 2] = np.nan
    encoder = RandomNetworkEncoder("cnn", random_state=0).fit(chips_of(pixels))
    found = encoder.transform(chips_of(pixels)).to_numpy()
    each = [encoder.transform(chips_of(pixels[:, [time]])).to_numpy() for time in (0, 1)]
    np.testing.assert_allclose(found, np.mean(each, axis=0), rtol=FLOAT32, atol=FLOAT32)


def test_moments_are_those_of_all_valid_pixels():
    pixels = images(n_times=2)
    pixels[0, 0, 1, :5] = np.nan
    pixels[0, :, 0] = np.nan  # nothing of this band at the first site
    values = pixels.astype(np.float32).astype(float).transpose(2, 0, 1, 3, 4).reshape(2, -1)
    mean, scale = band_moments(chips_of(pixels))
    np.testing.assert_allclose(mean, np.nanmean(values, axis=1), rtol=1e-6)
    np.testing.assert_allclose(scale, np.nanstd(values, axis=1), rtol=1e-6)
    pixels[:, :, 1] = np.nan
    with pytest.raises(ValueError, match="needs valid pixels; 'nir' have none in 6 chips"):
        band_moments(chips_of(pixels))


def test_wrong_settings_are_refused():
    chips = chips_of(images())
    with pytest.raises(ValueError, match="`kind` must be one of 'vit', 'cnn'; got 'rnn'"):
        RandomNetworkEncoder("rnn").fit(chips)
    with pytest.raises(ValueError, match=r"window of 3 x 3 px; these have 2 x 9 px"):
        RandomNetworkEncoder("cnn").fit(chips_of(images(size=(2, 9))))
    reduced = RandomNetworkEncoder("vit", random_state=0, n_components=3, whiten=True)
    table = clone(reduced).fit_transform(chips)
    np.testing.assert_allclose(table.std(ddof=0), 1.0, rtol=1e-6)
