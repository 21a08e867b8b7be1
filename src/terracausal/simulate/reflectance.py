"""From land cover to surface reflectance: spectra, mixing, light, optics and sensor noise."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

BANDS = ("blue", "green", "red", "nir", "swir1", "swir2")

# surface reflectance in the order of BANDS; rounded from published Landsat and library spectra
SPECTRA: dict[str, tuple[float, float, float, float, float, float]] = {
    "clear_water": (0.045, 0.050, 0.038, 0.018, 0.009, 0.006),
    "silty_water": (0.070, 0.095, 0.105, 0.055, 0.018, 0.011),
    "forest": (0.022, 0.043, 0.026, 0.310, 0.140, 0.058),
    "shrub": (0.034, 0.060, 0.052, 0.250, 0.195, 0.105),
    "green_grass": (0.034, 0.067, 0.056, 0.290, 0.225, 0.115),
    "dry_grass": (0.050, 0.082, 0.106, 0.245, 0.315, 0.205),
    "reeds": (0.026, 0.052, 0.036, 0.280, 0.125, 0.055),
    "green_crop": (0.034, 0.074, 0.045, 0.390, 0.205, 0.092),
    "ripe_crop": (0.056, 0.092, 0.116, 0.270, 0.310, 0.190),
    "red_soil": (0.060, 0.098, 0.172, 0.262, 0.355, 0.300),
    "dark_soil": (0.055, 0.078, 0.112, 0.172, 0.240, 0.205),
    "murram": (0.078, 0.122, 0.205, 0.300, 0.400, 0.340),
    "pale_soil": (0.110, 0.165, 0.235, 0.310, 0.395, 0.345),
    "rock": (0.045, 0.072, 0.085, 0.155, 0.205, 0.175),
    "burnt": (0.024, 0.041, 0.036, 0.085, 0.128, 0.115),
    "metal_roof": (0.135, 0.155, 0.180, 0.225, 0.250, 0.230),
    "thatch": (0.078, 0.108, 0.150, 0.225, 0.300, 0.240),
    "tarmac": (0.085, 0.096, 0.108, 0.130, 0.150, 0.140),
}

_BLUR_PX = 0.45  # width of the point spread function, of the order of Landsat's and Sentinel-2's


def mix_reflectance(
    shares: Mapping[str, NDArray[np.float32]],
    illumination: NDArray[np.float32],
    generator: np.random.Generator,
) -> NDArray[np.float32]:
    """Mix the materials of each pixel linearly and observe them with a real sensor's faults.

    ``surface = Σ share × spectrum``, times the light on the slope, blurred by the optics, plus
    noise with standard deviation 0.0015 + 1 % of the signal.

    Parameters
    ----------
    shares : mapping of str to ndarray of shape (size_px, size_px)
        Share of each material of `SPECTRA`; shares of a pixel add up to 1.
    illumination : ndarray of shape (size_px, size_px)
        Light relative to flat ground.
    generator : numpy.random.Generator
        The source of randomness.

    Returns
    -------
    ndarray of shape (n_bands, size_px, size_px)
        Reflectance between 0 and 1, in the order of `BANDS`.
    """
    image = np.zeros((len(BANDS), *illumination.shape), dtype=np.float32)
    for material, share in shares.items():
        for band, value in enumerate(SPECTRA[material]):
            image[band] += np.float32(value) * share
    for band in image:
        # the diffuse sky lights shaded slopes, most of all in the blue: half of the contrast stays
        band *= 0.35 + 0.65 * illumination
        ndimage.gaussian_filter(band, _BLUR_PX, output=band, mode="nearest")
        noise = generator.standard_normal(band.shape, dtype=np.float32)
        band += (np.float32(0.0015) + np.float32(0.01) * band) * noise
    return np.clip(image, 0.0, 1.0, out=image)
