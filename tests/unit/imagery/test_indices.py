import numpy as np
import pytest

from terracausal._foundation.errors import BandError
from terracausal.imagery.indices import INDICES, index_positions, spectral_index

BANDS = ("blue", "green", "red", "nir", "swir1")
BLUE, GREEN, RED, NIR, SWIR = 0.04, 0.08, 0.06, 0.40, 0.22

# by hand from the papers, with other letters than the code
BY_HAND = {
    "NDVI": (0.40 - 0.06) / (0.40 + 0.06),
    "NDWI": (0.08 - 0.40) / (0.08 + 0.40),
    "MNDWI": (0.08 - 0.22) / (0.08 + 0.22),
    "NDBI": (0.22 - 0.40) / (0.22 + 0.40),
    "EVI": 2.5 * 0.34 / (0.40 + 0.36 - 0.30 + 1),
    "BSI": (0.28 - 0.44) / (0.28 + 0.44),
}


def chip(values=(BLUE, GREEN, RED, NIR, SWIR)):
    return np.broadcast_to(np.array(values, np.float32)[:, None, None], (5, 3, 4)).copy()


@pytest.mark.parametrize(("name", "value"), BY_HAND.items())
def test_indices_by_hand(name, value):
    found = spectral_index(chip(), BANDS, name)
    assert found.shape == (3, 4)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, value, rtol=1e-6)
    assert set(BY_HAND) == set(INDICES)


@pytest.mark.parametrize("name", sorted(BY_HAND))
def test_the_order_of_bands_and_the_leading_axes_do_not_matter(name, rng):
    pixels = rng.uniform(0.02, 0.6, (2, 3, 5, 4, 4)).astype(np.float32)
    order = rng.permutation(5)
    plain = spectral_index(pixels, BANDS, name)
    mixed = spectral_index(pixels[:, :, order], [BANDS[k] for k in order], name)
    assert plain.shape == (2, 3, 4, 4)
    np.testing.assert_array_equal(plain, mixed)


@pytest.mark.parametrize("name", sorted(BY_HAND))
def test_a_missing_band_makes_the_index_missing(name):
    for common in INDICES[name].bands:
        pixels = chip()
        pixels[BANDS.index(common), 1, 2] = np.nan
        found = spectral_index(pixels, BANDS, name)
        assert np.isnan(found[1, 2])
        assert np.isnan(found).sum() == 1


def test_a_denominator_that_is_not_positive_is_missing():
    for values in ((0, 0, 0, 0, 0), (0, 0, -0.2, 0.1, 0)):
        assert np.isnan(spectral_index(chip(values), BANDS, "NDVI")).all()


def test_a_common_factor_changes_all_but_evi():
    for name, value in BY_HAND.items():
        if INDICES[name].needs_reflectance:
            with pytest.raises(
                ValueError, match=r"median of 'nir' is 4000, its largest value 4000"
            ):
                spectral_index(chip() * 10_000, BANDS, name)
        else:
            found = spectral_index(chip() * 10_000, BANDS, name)
            np.testing.assert_allclose(found, value, rtol=1e-5)


def test_evi_stands_a_few_saturated_pixels_and_an_empty_chip():
    pixels = chip()
    pixels[:, 0, 0] = 6.5535
    assert np.isfinite(spectral_index(pixels, BANDS, "EVI")[1:]).all()
    assert np.isnan(spectral_index(np.full_like(pixels, np.nan), BANDS, "EVI")).all()


def test_bands_by_own_names():
    bands = ("B1", "B2", "B3", "B4", "B5")
    names = {"nir": "B4", "red": "B3"}
    found = spectral_index(chip(), bands, "NDVI", band_names=names)
    np.testing.assert_allclose(found, BY_HAND["NDVI"], rtol=1e-6)
    assert index_positions(("RED", "Nir"), INDICES["NDVI"]) == (1, 0)


def test_missing_bands_are_named():
    with pytest.raises(
        BandError, match=r"BSI needs .* 'swir1', 'blue' not found among 'red', 'nir'"
    ):
        index_positions(("red", "nir"), INDICES["BSI"])
    with pytest.raises(BandError, match=r"'B9' not found among"):
        index_positions(BANDS, INDICES["NDVI"], {"nir": "B9"})
    with pytest.raises(BandError, match=r"got 'infrared'"):
        index_positions(BANDS, INDICES["NDVI"], {"infrared": "nir"})
    with pytest.raises(BandError, match=r"one band 'nir'; found 2: 'nir', 'NIR'"):
        index_positions((*BANDS, "NIR"), INDICES["NDVI"])
    with pytest.raises(ValueError, match=r"got 'SAVI'"):
        spectral_index(chip(), BANDS, "SAVI")
