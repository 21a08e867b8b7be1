"""Random fields with a power-law spectrum: the texture of terrain, moisture and soils."""

import numpy as np
from numpy.typing import NDArray
from scipy import fft


def fractal_noise(
    size_px: int, generator: np.random.Generator, *, correlation_px: float, decay: float = 3.6
) -> NDArray[np.float32]:
    """Draw a Gaussian field whose power falls with spatial frequency f as (f² + f₀²)^(-decay/2).

    Parameters
    ----------
    size_px : int
        Height and width of the field.
    generator : numpy.random.Generator
        The source of randomness.
    correlation_px : float
        The longest wavelength with structure, 1 / f₀; beyond it the field is white.
    decay : float, default=3.6
        Exponent of the power spectrum; 3.6 is typical of land surfaces (Hurst exponent 0.8).

    Returns
    -------
    ndarray of shape (size_px, size_px)
        Mean 0 and standard deviation 1.

    Examples
    --------
    >>> field = fractal_noise(64, np.random.default_rng(0), correlation_px=16)
    >>> field.shape, bool(abs(field.std() - 1) < 1e-3)
    ((64, 64), True)
    """
    # an FFT field is periodic: a margin is cut off, so that opposite borders are not alike
    side = fft.next_fast_len(size_px + min(size_px // 4, int(correlation_px)) + 1, real=True)
    frequency_y = fft.fftfreq(side).astype(np.float32)[:, None]
    frequency_x = fft.rfftfreq(side).astype(np.float32)[None, :]
    power = frequency_x**2 + frequency_y**2 + np.float32(1.0 / correlation_px) ** 2
    amplitude = power ** np.float32(-decay / 4.0)
    amplitude[0, 0] = 0.0
    shape = amplitude.shape
    spectrum = np.empty(shape, dtype=np.complex64)
    spectrum.real = generator.standard_normal(shape, dtype=np.float32) * amplitude
    spectrum.imag = generator.standard_normal(shape, dtype=np.float32) * amplitude
    field = fft.irfft2(spectrum, s=(side, side), workers=1)[:size_px, :size_px]
    field = (field - field.mean()) / field.std()
    return np.asarray(field, dtype=np.float32)


def soft_step(field: NDArray[np.float32], width: float) -> NDArray[np.float32]:
    """Return the logistic curve of `field` / `width`, from 0 to 1.

    Parameters
    ----------
    field : ndarray
        Any values; 0 is mapped to one half.
    width : float
        The distance from 0 at which the step has reached 0.73.

    Returns
    -------
    ndarray
        Of the shape of `field`.

    Examples
    --------
    >>> soft_step(np.zeros(1, dtype=np.float32), 0.1).tolist()
    [0.5]
    """
    bounded = np.clip(field / np.float32(width), -30.0, 30.0)
    return np.asarray(1.0 / (1.0 + np.exp(-bounded)), dtype=np.float32)
