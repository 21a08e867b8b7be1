import numpy as np
import pytest
from scipy import stats

from terracausal._foundation.errors import BandError
from terracausal.encoders import BandStatisticsEncoder
from terracausal.imagery import Chips, index_chips

BANDS = ["red", "nir"]


def chips_of(pixels):
    return Chips.from_arrays(pixels, sites=range(len(pixels)), bands=BANDS)


def reflectance(n_sites=5, n_times=1):
    return np.random.default_rng(0).uniform(0.1, 0.9, size=(n_sites, n_times, 2, 6, 7))


def test_statistics_are_those_of_numpy():
    pixels = reflectance().astype(np.float32).astype(float)
    table = BandStatisticsEncoder(quantiles=(0.05, 0.5, 0.975)).fit_transform(chips_of(pixels))
    flat = pixels[:, 0].reshape(5, 2, -1)
    for position, band in enumerate(BANDS):
        values = flat[:, position]
        expected = {
            "mean": values.mean(axis=1),
            "sd": values.std(axis=1),
            "q05": np.quantile(values, 0.05, axis=1),
            "q50": np.quantile(values, 0.5, axis=1),
            "q97.5": np.quantile(values, 0.975, axis=1),
        }
        for name, numbers in expected.items():
            np.testing.assert_allclose(table[f"{band}_{name}"], numbers, rtol=1e-12)
    assert table.shape == (5, 10)


def test_normalised_difference_of_named_bands():
    pixels = reflectance()
    encoder = BandStatisticsEncoder(normalized_differences=(("nir", "red"),))
    table = encoder.fit_transform(chips_of(pixels))
    red, nir = pixels[:, 0, 0], pixels[:, 0, 1]
    ndvi = ((nir - red) / (nir + red)).reshape(5, -1)
    np.testing.assert_allclose(table["nd_nir_red_mean"], ndvi.mean(axis=1), rtol=1e-5)
    np.testing.assert_allclose(table["nd_nir_red_sd"], ndvi.std(axis=1), rtol=1e-5)


def test_normalised_difference_leaves_out_pixels_without_signal():
    pixels = np.zeros((1, 1, 2, 1, 2))
    pixels[0, 0, :, 0, 0] = 1, 3
    encoder = BandStatisticsEncoder(normalized_differences=(("nir", "red"),))
    assert encoder.fit_transform(chips_of(pixels))["nd_nir_red_mean"].tolist() == [0.5]
    with pytest.raises(ValueError, match="sites 0 have none for 'nd_nir_red_mean'"):
        encoder.transform(chips_of(np.zeros((1, 1, 2, 1, 2))))


def test_missing_pixels_are_left_out():
    pixels = reflectance()
    pixels[0, 0, 0, :3] = np.nan
    table = BandStatisticsEncoder().fit_transform(chips_of(pixels))
    assert table.loc[0, "red_mean"] == pytest.approx(pixels[0, 0, 0, 3:].mean(), rel=1e-6)
    assert table.loc[0, "red_q10"] == pytest.approx(np.quantile(pixels[0, 0, 0, 3:], 0.1), rel=1e-6)


def test_times_are_averaged_where_they_have_data():
    pixels = reflectance(n_times=3)
    pixels[1, 2] = np.nan
    table = BandStatisticsEncoder().fit_transform(chips_of(pixels))
    assert table.loc[0, "nir_sd"] == pytest.approx(
        pixels[0, :, 1].std(axis=(1, 2)).mean(), rel=1e-6
    )
    assert table.loc[1, "nir_sd"] == pytest.approx(
        pixels[1, :2, 1].std(axis=(1, 2)).mean(), rel=1e-6
    )


def test_band_without_pixels_names_site_and_column():
    pixels = reflectance()
    pixels[3, 0, 1] = np.nan
    with pytest.raises(ValueError, match=r"sites 3 have none for 'nir_mean', 'nir_sd'"):
        BandStatisticsEncoder(quantiles=()).fit_transform(chips_of(pixels))


def test_moments_are_those_of_scipy():
    pixels = np.random.default_rng(1).gamma(2, size=(4, 1, 2, 8, 8)).astype(np.float32)
    pixels[0, 0, 0, :3] = np.nan
    encoder = BandStatisticsEncoder((), moments=("kurtosis", "skewness"))
    table = encoder.fit_transform(chips_of(pixels))
    assert list(table.columns[:2]) == ["red_kurtosis", "red_skewness"]
    for site, image in enumerate(pixels[:, 0].astype(float)):
        for band, layer in zip(BANDS, image, strict=True):
            seen = layer[~np.isnan(layer)]
            assert table.loc[site, f"{band}_skewness"] == pytest.approx(stats.skew(seen))
            assert table.loc[site, f"{band}_kurtosis"] == pytest.approx(stats.kurtosis(seen))


def test_equal_pixels_have_no_skewness():
    # 0.1 in float32: its mean is not exact
    table = BandStatisticsEncoder((), moments=("skewness", "kurtosis")).fit_transform(
        chips_of(np.full((2, 1, 2, 7, 9), 0.1))
    )
    assert (table == 0).all(axis=None)


def test_indices_by_name_are_those_of_index_chips():
    pixels = reflectance()
    encoder = BandStatisticsEncoder(indices=("NDVI",), moments=("mean", "sd", "skewness"))
    table = encoder.fit_transform(chips_of(pixels))
    assert list(table.columns[-3:]) == ["NDVI_mean", "NDVI_sd", "NDVI_skewness"]
    ndvi = BandStatisticsEncoder(moments=("mean", "sd", "skewness")).fit_transform(
        index_chips(chips_of(pixels), "NDVI")
    )
    for name in table.columns[-3:]:
        np.testing.assert_array_equal(table[name], ndvi[name])
    difference = BandStatisticsEncoder(normalized_differences=(("nir", "red"),))
    same = difference.fit_transform(chips_of(pixels))["nd_nir_red_mean"]
    np.testing.assert_allclose(table["NDVI_mean"], same, rtol=1e-6)


def test_valid_share_of_each_band_at_the_times_with_data():
    pixels = reflectance(n_times=3)  # 42 pixels
    pixels[0, 0, 0, 0] = np.nan
    pixels[0, 2] = np.nan
    pixels[1, 1, 1, :5] = np.nan
    table = BandStatisticsEncoder(valid_share=True).fit_transform(chips_of(pixels))
    assert list(table.columns[-2:]) == ["red_valid", "nir_valid"]
    assert table.loc[0, "red_valid"] == pytest.approx((35 / 42 + 1) / 2)
    assert table.loc[0, "nir_valid"] == 1
    assert table.loc[1, "nir_valid"] == pytest.approx((1 + 7 / 42 + 1) / 3)


@pytest.mark.parametrize(
    ("setting", "error", "message"),
    [
        ({"quantiles": (0.1, 10)}, ValueError, r"`quantiles` must lie in \[0, 1\]; got 10"),
        ({"quantiles": (0.1, 0.1)}, ValueError, "'nir_q10', 'red_q10' would stand"),
        (
            {"normalized_differences": (("nir", "swir"),)},
            BandError,
            "needs the bands 'swir'; the chips have 'red', 'nir'",
        ),
        ({"normalized_differences": ("nir",)}, ValueError, "pairs of band names; got 'nir'"),
        ({"indices": ("NDWI",)}, BandError, "NDWI needs the bands 'green', 'nir'; 'green' not"),
        ({"indices": ("NDXI",)}, ValueError, "`indices` must be one of .*; got 'NDXI'"),
        ({"indices": "NDVI"}, TypeError, "`indices` must be a tuple of names; got 'NDVI'"),
        ({"indices": ("NDVI", "NDVI")}, ValueError, "'NDVI_mean', 'NDVI_sd' would stand"),
        ({"moments": ("mean", "mode")}, ValueError, "`moments` must be one of .*; got 'mode'"),
        ({"moments": "mean"}, TypeError, "`moments` must be a tuple of names; got 'mean'"),
        ({"moments": (), "quantiles": ()}, ValueError, "no statistic is asked for"),
    ],
)
def test_settings_are_checked(setting, error, message):
    with pytest.raises(error, match=message):
        BandStatisticsEncoder(**setting).fit(chips_of(reflectance()))
