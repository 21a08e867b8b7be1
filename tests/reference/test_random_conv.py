"""`RandomConvEncoder` against the plain formula in torch: relu(conv) and relu(-conv), pooled."""

import numpy as np
import pytest
import torch

from terracausal.encoders import RandomConvEncoder
from terracausal.imagery import Chips

TOLERANCE = 1e-5  # features are about 1, both sides compute in float32


def landscape(n_sites, n_bands, height, width, n_times=1, seed=0):
    """Return smooth images with bands of very different level and spread."""
    rng = np.random.default_rng(seed)
    rough = rng.normal(size=(n_sites, n_times, n_bands, height + 2, width + 2))
    smooth = np.lib.stride_tricks.sliding_window_view(rough, (3, 3), axis=(3, 4)).mean(axis=(5, 6))
    level = 10.0 ** np.arange(n_bands)[:, None, None] % 9973
    return smooth * (1 + level / 50) + level


def plain(pixels, encoder, pooling="mean"):
    """Return the mean over times of the two-sided formula, for pixels without NaN."""
    n_sites, n_times = pixels.shape[:2]
    mean, scale = (
        torch.from_numpy(moment).double()[:, None, None]
        for moment in (encoder.mean_, encoder.scale_)
    )
    images = torch.from_numpy(pixels.astype(np.float32)).flatten(0, 1)
    standard = ((images.double() - mean) / scale).float()
    z = torch.nn.functional.conv2d(
        standard, torch.from_numpy(encoder.filters_), torch.from_numpy(encoder.bias_)
    )
    sides = torch.relu(z), torch.relu(-z)
    both = torch.cat(
        [side.mean((2, 3)) if pooling == "mean" else side.amax((2, 3)) for side in sides], dim=1
    )
    return both.reshape(n_sites, n_times, -1).mean(dim=1).numpy()


@pytest.mark.parametrize(
    ("n_sites", "n_bands", "height", "width", "patch_px", "n_features"),
    [
        (20, 3, 35, 35, 3, 512),
        (3, 1, 8, 8, 3, 16),
        (2, 1, 6, 9, 1, 8),
        (4, 4, 21, 13, 5, 64),
        (2, 13, 64, 64, 3, 128),
        (2, 2, 7, 7, 7, 10),
        (1, 2, 150, 90, 4, 700),  # several strips and several blocks of filters
    ],
)
def test_equal_to_the_plain_formula(n_sites, n_bands, height, width, patch_px, n_features):
    pixels = landscape(n_sites, n_bands, height, width)
    chips = Chips.from_arrays(
        pixels, sites=range(n_sites), bands=[f"b{band}" for band in range(n_bands)]
    )
    encoder = RandomConvEncoder(n_features=n_features, patch_px=patch_px, random_state=0)
    found = encoder.fit_transform(chips).to_numpy()
    np.testing.assert_allclose(found, plain(pixels, encoder), rtol=0, atol=TOLERANCE)
    assert found.min() >= 0


@pytest.mark.parametrize(("height", "width", "patch_px"), [(12, 9, 3), (90, 150, 4), (7, 7, 7)])
def test_maxima_equal_to_the_plain_formula(height, width, patch_px):
    pixels = landscape(3, 2, height, width, n_times=2)
    chips = Chips.from_arrays(pixels, sites=list("abc"), bands=["red", "nir"])
    encoder = RandomConvEncoder(600, patch_px=patch_px, pooling="max", random_state=0)
    found = encoder.fit_transform(chips).to_numpy()
    # responses of single windows reach further than their means
    np.testing.assert_allclose(found, plain(pixels, encoder, "max"), rtol=TOLERANCE, atol=TOLERANCE)


def test_several_times_are_averaged():
    pixels = landscape(3, 2, 12, 12, n_times=4)
    chips = Chips.from_arrays(pixels, sites=list("abc"), bands=["red", "nir"])
    encoder = RandomConvEncoder(n_features=32, random_state=1)
    found = encoder.fit_transform(chips).to_numpy()
    np.testing.assert_allclose(found, plain(pixels, encoder), rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("share", [0.002, 0.02])
@pytest.mark.parametrize("pooling", ["mean", "max"])
def test_windows_that_touch_a_gap_are_left_out(share, pooling):
    pixels = landscape(4, 2, 40, 60)  # 40 x 58 windows: two strips
    pixels[np.random.default_rng(0).random(pixels.shape) < share] = np.nan
    chips = Chips.from_arrays(pixels, sites=list("abcd"), bands=["red", "nir"])
    encoder = RandomConvEncoder(n_features=20, pooling=pooling, random_state=2).fit(chips)
    found = encoder.transform(chips).to_numpy()
    for row, image in enumerate(pixels[:, 0]):
        standard = (image.astype(np.float32) - encoder.mean_[:, None, None]) / encoder.scale_[
            :, None, None
        ]
        sums, peaks, count = np.zeros(20), np.zeros(20), 0
        for top in range(38):
            for left in range(58):
                window = standard[:, top : top + 3, left : left + 3]
                if not np.isnan(window).any():
                    z = (encoder.filters_ * window).sum(axis=(1, 2, 3)) + encoder.bias_
                    sums += np.maximum(np.concatenate([z, -z]), 0)
                    peaks = np.maximum(np.concatenate([z, -z]), peaks)
                    count += 1
        assert 0 < count < 38 * 58
        expected = sums / count if pooling == "mean" else peaks
        np.testing.assert_allclose(found[row], expected, rtol=TOLERANCE, atol=TOLERANCE)
