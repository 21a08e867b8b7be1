"""The kernel world: the pattern in the pixels is the confounder."""

import numpy as np
import pandas as pd
import pytest

from terracausal.imagery import Chips
from terracausal.simulate import KernelSettings, simulate_study
from terracausal.simulate.kernel import diagonal_kernel, kernel_response


def draw(imagery, random_state=0, n_sites=30, size_px=20, **settings):
    return simulate_study(
        "kernel",
        n_sites=n_sites,
        size_px=size_px,
        landscape=imagery,
        settings=KernelSettings(**settings),
        random_state=random_state,
    )


def pixels_of(data):
    return np.stack([data.chips[site][0, 0] for site in data.chips.keys]).astype(np.float64)


def brute_response(image, width):
    """Correlate an image with the paper's kernel, pixel by pixel."""
    kernel = np.zeros((width, width))
    for i in range(width):
        kernel[i, width - 1 - i] = 1.0
    kernel = (kernel - kernel.mean()) / np.sqrt(0.001 + kernel.var() * width**2)
    n = image.shape[0] - width + 1
    return np.array(
        [[(image[i : i + width, j : j + width] * kernel).sum() for j in range(n)] for i in range(n)]
    )


@pytest.fixture(scope="module")
def raster():
    return np.random.default_rng(0).random((70, 90)).astype(np.float32)


@pytest.mark.parametrize("pooling", ["max", "mean", "pixel"])
@pytest.mark.parametrize("width_px", [2, 5, 8])
def test_the_confounder_can_be_read_off_the_chips(raster, pooling, width_px):
    data = draw(raster, pooling=pooling, width_px=width_px)
    pooled = []
    for image in pixels_of(data):
        response = brute_response(image, width_px)
        middle = (20 - width_px) // 2
        how = {"max": response.max(), "mean": response.mean(), "pixel": response[middle, middle]}
        pooled.append(how[pooling])
    pooled = np.array(pooled)
    expected = (pooled - pooled.mean()) / pooled.std()
    # float32 responses of order 1 over their spread
    np.testing.assert_allclose(data.truth["confounder"], expected, atol=1e-4)


def test_scenes_are_windows_of_the_raster(raster):
    windows = np.lib.stride_tricks.sliding_window_view(raster, (20, 20)).reshape(-1, 20, 20)
    known = {window.tobytes() for window in windows}
    images = pixels_of(draw(raster)).astype(np.float32)
    assert {image.tobytes() for image in images} <= known
    assert len({image.tobytes() for image in images}) == 30


def test_degraded_chips_are_averages_and_the_confounder_stays(raster):
    sharp, blurred = draw(raster), draw(raster, degrade=4)
    pd.testing.assert_frame_equal(sharp.truth, blurred.truth)
    pd.testing.assert_frame_equal(sharp.study.table, blurred.study.table)
    expected = pixels_of(sharp).reshape(30, 5, 4, 5, 4).mean(axis=(2, 4))
    np.testing.assert_allclose(pixels_of(blurred), expected, atol=1e-6)


def test_given_chips_are_the_scenes(raster):
    scenes = np.random.default_rng(1).random((12, 1, 2, 20, 20)).astype(np.float32)
    chips = Chips.from_arrays(scenes, sites=list("abcdefghijkl"), bands=["red", "nir"])
    data = simulate_study("kernel", landscape=chips, random_state=0)
    assert (data.study.n_sites, data.chips.bands, data.chips.size_px) == (12, ("nir",), (20, 20))
    given = {scene[0, 1].tobytes() for scene in scenes}
    assert {image.tobytes() for image in pixels_of(data).astype(np.float32)} == given
    pooled = np.array([brute_response(image, 8).max() for image in pixels_of(data)])
    expected = (pooled - pooled.mean()) / pooled.std()
    np.testing.assert_allclose(data.truth["confounder"], expected, atol=1e-4)
    fewer = simulate_study("kernel", landscape=chips, n_sites=6, random_state=0)
    assert fewer.study.n_sites == 6


def test_landscapes_give_their_band(landscape):
    nir, red = (draw(landscape, n_sites=8, band=band) for band in ("nir", "red"))
    assert nir.chips.bands == ("nir",)
    assert nir.landscape is landscape
    # the same windows of another band
    assert not np.allclose(pixels_of(nir), pixels_of(red))
    assert nir.study.n_clusters is None


def test_scenes_avoid_missing_pixels(raster):
    holed = raster.copy()
    holed[30:40, :60] = np.nan
    images = pixels_of(draw(holed))
    assert np.isfinite(images).all()
    masked = np.ma.masked_invalid(holed)
    np.testing.assert_array_equal(pixels_of(draw(masked)), images)
    np.testing.assert_array_equal(draw(masked).truth["confounder"], draw(holed).truth["confounder"])


def test_the_pattern_is_the_anti_diagonal_and_ignores_levels():
    kernel = diagonal_kernel(6)
    assert (kernel > 0).sum() == 6
    assert (np.fliplr(kernel).diagonal() > 0).all()
    image = np.random.default_rng(0).random((1, 15, 15)).astype(np.float32)
    lifted = kernel_response(image + 100, 6)
    # float32 numbers near 100 are rounded to 8e-6, and 36 of them are summed
    np.testing.assert_allclose(lifted, kernel_response(image, 6), atol=36 * 8e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"width_px": 21}, "`width_px` is 21, `size_px` is 20"),
        ({"degrade": 3}, "`size_px` must be a multiple of `degrade`; got 20 and 3"),
        ({"size_px": 80}, r"it has 0 \(70 × 90 px, 0\.0% missing\)"),
        ({"n_sites": 5000}, r"must have 5000 places .* it has 3621"),
    ],
)
def test_what_does_not_fit_is_counted(raster, arguments, message):
    with pytest.raises(ValueError, match=message):
        draw(raster, **arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"width_px": 1}, "`width_px` must be an integer of at least 2; got 1"),
        ({"pooling": "sum"}, "must be one of 'max', 'mean', 'pixel'; got 'sum'"),
        ({"degrade": 0}, "`degrade` must be an integer of at least 1; got 0"),
        ({"treatment_noise_sd": -0.1}, "`treatment_noise_sd` must be .* got -0.1"),
    ],
)
def test_bad_settings_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        KernelSettings(**arguments)


def test_imagery_that_cannot_serve_is_refused(raster, landscape):
    with pytest.raises(ValueError, match=r"one band of shape .* got \(2, 70, 90\)"):
        draw(np.stack([raster, raster]))
    with pytest.raises(ValueError, match=r"must be one of 'blue'.* got 'pan'"):
        draw(landscape, band="pan")
    flat = np.ones((40, 40))
    with pytest.raises(ValueError, match="must differ between sites"):
        draw(flat)
    pixels = np.ones((6, 1, 1, 20, 20))
    pixels[2, 0, 0, 3, 3] = np.nan
    chips = Chips.from_arrays(pixels, sites=list("abcdef"), bands=["nir"])
    with pytest.raises(ValueError, match="no missing pixels; 1 or more have some: 'c'"):
        simulate_study("kernel", landscape=chips)
    with pytest.raises(ValueError, match="`n_sites` must be at most 6, the chips; got 9"):
        simulate_study("kernel", landscape=chips, n_sites=9)
    with pytest.raises(ValueError, match="one date and 10 × 10 px were expected"):
        simulate_study("kernel", landscape=chips, size_px=10)
