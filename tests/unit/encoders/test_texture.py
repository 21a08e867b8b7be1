"""Texture against a count of pairs by hand, and levels that transfer."""

import numpy as np
import pytest
from sklearn.base import clone

from terracausal._foundation.errors import MissingExtraError
from terracausal.encoders import BandStatisticsEncoder
from terracausal.encoders.texture import MEASURES, Texture, image_texture, learn_levels
from terracausal.imagery import Chips

BANDS = ["red", "nir"]


def chips_of(pixels):
    return Chips.from_arrays(pixels, sites=range(len(pixels)), bands=BANDS)


def pixels_of(n_sites=6, size=9, seed=0):
    return np.random.default_rng(seed).gamma(3, 20, size=(n_sites, 1, 2, size, size))


def by_hand(levels, missing, distance, n_levels):
    """Return the shares of pairs of levels, over four directions and both senses."""
    counts = np.zeros((n_levels, n_levels))
    height, width = levels.shape
    # skimage rounds the ends of diagonals
    diagonal = round(distance * np.sqrt(0.5))
    steps = [(0, distance), (distance, 0), (diagonal, diagonal), (diagonal, -diagonal)]
    for row in range(height):
        for column in range(width):
            for down, right in steps:
                other = row + down, column + right
                inside = 0 <= other[0] < height and 0 <= other[1] < width
                if inside and not missing[row, column] and not missing[other]:
                    one, two = levels[row, column], levels[other]
                    counts[one, two] += 1
                    counts[two, one] += 1
    return counts / counts.sum()


def measures_by_hand(p):
    i, j = np.indices(p.shape)
    mean = (i * p).sum()
    variance = ((i - mean) ** 2 * p).sum()
    logs = np.log(np.where(p > 0, p, 1))
    return {
        "contrast": ((i - j) ** 2 * p).sum(),
        "dissimilarity": (abs(i - j) * p).sum(),
        "homogeneity": (p / (1 + (i - j) ** 2)).sum(),
        "energy": np.sqrt((p**2).sum()),
        "correlation": ((i - mean) * (j - mean) * p).sum() / variance,
        "entropy": -(p * logs).sum(),
    }


@pytest.mark.parametrize("distances", [(1,), (1, 3)])
@pytest.mark.parametrize("share_missing", [0.0, 0.2])
def test_measures_are_those_of_the_pairs_counted_by_hand(distances, share_missing):
    image = pixels_of()[0, 0].astype(np.float32)
    image[np.random.default_rng(1).random(image.shape) < share_missing] = np.nan
    texture = Texture(measures=MEASURES, distances_px=distances, n_levels=5)
    edges = np.array([[20, 40, 60, 80], [10, 50, 70, 90]], dtype=np.float32)
    found = iter(image_texture(image, edges, texture))
    for band, cuts in zip(image, edges, strict=True):
        levels = (band[..., None] > cuts).sum(axis=-1)
        for distance in distances:
            expected = measures_by_hand(by_hand(levels, np.isnan(band), distance, 5))
            for name in MEASURES:
                assert next(found) == pytest.approx(expected[name], rel=1e-10), name
    assert next(found, None) is None


def test_grey_levels_are_equally_frequent_over_the_fitted_chips():
    pixels = pixels_of(10, 20)
    edges = learn_levels(chips_of(pixels), 4)
    values = pixels[:, 0].swapaxes(0, 1).reshape(2, -1)
    np.testing.assert_allclose(edges, np.quantile(values, [0.25, 0.5, 0.75], axis=1).T, rtol=1e-5)


def test_levels_look_at_some_pixels_of_every_chip(monkeypatch):
    monkeypatch.setattr("terracausal.encoders.texture._PIXELS_LOOKED_AT", 600)
    pixels = pixels_of(6, 20)
    pixels[5] += 1000
    edges = learn_levels(chips_of(pixels), 6)  # 100 of 400 pixels each
    # one sixth of all lies above 1000, so the highest cut lies in the gap or at its ends
    assert (edges[:, -1] > pixels[:5].max() / 2).all()
    shares = [(pixels[:, 0, 0] <= cut).mean() for cut in edges[0]]
    # 600 of 2,400 pixels: five standard errors of a share
    np.testing.assert_allclose(shares, np.arange(1, 6) / 6, atol=5 * np.sqrt(0.25 / 600))


def test_levels_of_the_fitted_area_are_used_elsewhere():
    encoder = BandStatisticsEncoder(quantiles=(), texture=Texture()).fit(chips_of(pixels_of()))
    levels = encoder.levels_.copy()
    brighter = encoder.transform(chips_of(pixels_of() + 30))
    same = encoder.transform(chips_of(pixels_of()))
    np.testing.assert_array_equal(encoder.levels_, levels)
    # levels of their own would undo the shift
    assert (brighter - same)["red_contrast_1"].abs().min() > 0
    refitted = clone(encoder).fit_transform(chips_of(pixels_of() + 30))
    np.testing.assert_allclose(refitted["red_contrast_1"], same["red_contrast_1"], rtol=1e-10)


def test_turning_a_chip_changes_no_texture():
    encoder = BandStatisticsEncoder(texture=Texture(distances_px=(1, 2))).fit(chips_of(pixels_of()))
    turned = np.rot90(pixels_of(), axes=(3, 4))
    np.testing.assert_allclose(
        encoder.transform(chips_of(turned)), encoder.transform(chips_of(pixels_of())), rtol=1e-10
    )


def test_columns_settings_and_levels_are_told():
    texture = Texture(measures=("contrast", "entropy"), distances_px=(1, 2), n_levels=4)
    table = BandStatisticsEncoder((), moments=(), texture=texture).fit_transform(
        chips_of(pixels_of())
    )
    assert list(table.columns[:4]) == [
        "red_contrast_1",
        "red_entropy_1",
        "red_contrast_2",
        "red_entropy_2",
    ]
    told = table.attrs["encoder"]
    assert told["parameters"]["texture"]["distances_px"] == [1, 2]
    assert np.shape(told["grey_levels"]) == (2, 3)


def test_chips_without_a_pair_are_named():
    pixels = pixels_of()
    encoder = BandStatisticsEncoder(texture=Texture()).fit(chips_of(pixels))
    lonely = np.full((9, 9), np.nan)
    lonely[::2, ::2] = 1.0
    pixels[3, 0, 1] = lonely
    with pytest.raises(ValueError, match="sites 3 have none for 'nir_contrast_1', 'nir_hom"):
        encoder.transform(chips_of(pixels))


def test_a_band_without_pixels_is_named():
    pixels = pixels_of()
    pixels[:, :, 1] = np.nan
    with pytest.raises(ValueError, match="'nir' have none in 6 chips"):
        BandStatisticsEncoder(texture=Texture()).fit(chips_of(pixels))


@pytest.mark.parametrize(
    ("texture", "error", "message"),
    [
        (Texture(measures=("roughness",)), ValueError, "`measures` must be one of .*'roughness'"),
        (Texture(measures=()), ValueError, "`measures` of a texture .* empty"),
        (Texture(distances_px=(0,)), ValueError, "`distances_px` .* at least 1; got 0"),
        (Texture(distances_px=(9,)), ValueError, "smaller than the chips of 9 x 9 px; got 9"),
        (Texture(n_levels=1), ValueError, "`n_levels` .* at least 2; got 1"),
        (Texture(n_levels=256), ValueError, "`n_levels` must be at most 255; got 256"),
        (("contrast",), TypeError, "`texture` must be a Texture or None; got tuple"),
    ],
)
def test_settings_are_checked(texture, error, message):
    with pytest.raises(error, match=message):
        BandStatisticsEncoder(texture=texture).fit(chips_of(pixels_of()))


def test_a_missing_package_is_named_with_its_extra(monkeypatch):
    encoder = BandStatisticsEncoder(texture=Texture()).fit(chips_of(pixels_of()))
    monkeypatch.setitem(__import__("sys").modules, "skimage.feature", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'terracausal\[texture\]'"):
        encoder.transform(chips_of(pixels_of()))
