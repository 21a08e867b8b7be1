"""The kernel world: a pattern of a known width in a scene is the confounder."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.signal import fftconvolve

from terracausal._foundation.errors import BandError, list_some
from terracausal.imagery import Chips
from terracausal.simulate.confounding import describe_confounding, observe
from terracausal.simulate.landscape import Landscape
from terracausal.simulate.settings import KernelSettings, Pooling
from terracausal.simulate.simulated_study import SimulatedStudy, WorldSize
from terracausal.simulate.sites import standardise

_PIXELS_AT_ONCE = 4_000_000
Scenes = tuple[NDArray[np.float64], NDArray[np.float32]]


def run_kernel(
    settings: KernelSettings,
    size: WorldSize,
    imagery: Landscape | Chips | ArrayLike,
    generator: np.random.Generator,
) -> SimulatedStudy:
    """Run the simulation of Jerzak, Johansson & Daoud (2023); see `simulate_study`.

    Parameters
    ----------
    settings : KernelSettings
    size : WorldSize
    imagery : Landscape, Chips or array-like of shape (height, width)
        Where scenes are cut from, or the scenes themselves.
    generator : numpy.random.Generator
        The source of randomness.

    Returns
    -------
    SimulatedStudy
    """
    _check_sizes(settings, size)
    of_scenes, of_units = generator.spawn(2)
    if isinstance(imagery, Chips):
        pooled, pixels = scenes_of_chips(imagery, settings, size, of_scenes)
    else:
        raster = _raster_of(imagery, settings.band)
        pooled, pixels = scenes_of_raster(raster, settings, size, of_scenes)
    observed = observe(standardise(pooled), settings, size, 0, of_units)
    band = settings.band if isinstance(imagery, Landscape | Chips) else "band"
    how = {"max": "largest", "mean": "mean", "pixel": "central"}[settings.pooling]
    degraded = f", averaged over {settings.degrade} px" if settings.degrade > 1 else ""
    return SimulatedStudy(
        study=observed.study,
        chips=Chips.from_arrays(pixels[:, None, None], sites=observed.sites, bands=[band]),
        name="kernel",
        notes=(
            describe_confounding(settings),
            f"The confounder is the {how} response to a diagonal of {settings.width_px} px in "
            f"scenes of {size.size_px} px{degraded}. Scenes may share pixels; their places are "
            "drawn at random.",
        ),
        truth=observed.truth,
        settings=settings,
        landscape=imagery if isinstance(imagery, Landscape) else None,
    )


def _check_sizes(settings: KernelSettings, size: WorldSize) -> None:
    if settings.width_px > size.size_px:
        raise ValueError(
            f"The pattern must fit in the chips; `width_px` is {settings.width_px}, `size_px` is "
            f"{size.size_px}."
        )
    if size.size_px % settings.degrade:
        raise ValueError(
            f"`size_px` must be a multiple of `degrade`; got {size.size_px} and {settings.degrade}."
        )


def _raster_of(imagery: Landscape | ArrayLike, band: str) -> NDArray[np.float32]:
    """Return the band in which the pattern is looked for, NaN where missing."""
    if isinstance(imagery, Landscape):
        if band not in imagery.bands:
            raise BandError(f"`band` must be one of {list_some(imagery.bands, 12)}; got {band!r}.")
        return np.asarray(imagery.reflectance[imagery.bands.index(band)])
    raster = np.ma.filled(np.ma.asarray(imagery, dtype=np.float32), np.nan)
    if raster.ndim != 2:
        raise ValueError(
            "Imagery given as an array must be one band of shape (height, width); got "
            f"{raster.shape}. Pick a band, or pass chips."
        )
    return np.asarray(np.where(np.isfinite(raster), raster, np.nan), dtype=np.float32)


def diagonal_kernel(width_px: int) -> NDArray[np.float32]:
    """Return the pattern: ones on the anti-diagonal, shifted to mean 0.

    Parameters
    ----------
    width_px : int

    Returns
    -------
    ndarray of shape (width_px, width_px)
        Scaled as in the paper, by the root of 0.001 plus the variance times width_px².

    Examples
    --------
    >>> kernel = diagonal_kernel(4)
    >>> bool(abs(kernel.mean()) < 1e-7), bool(kernel[0, 3] > 0 > kernel[0, 0])
    (True, True)
    """
    kernel = np.fliplr(np.eye(width_px))
    scale = np.sqrt(0.001 + kernel.var() * width_px**2)
    return np.asarray((kernel - kernel.mean()) / scale, dtype=np.float32)


def kernel_response(images: NDArray[np.float32], width_px: int) -> NDArray[np.float32]:
    """Return how much each place of each image looks like the pattern.

    Parameters
    ----------
    images : ndarray of shape (..., height, width)
        NaN is taken as the mean of the image.
    width_px : int

    Returns
    -------
    ndarray of shape (..., height - width_px + 1, width - width_px + 1)
        Where the pattern lies inside the image.

    Examples
    --------
    >>> scene = np.fliplr(np.eye(6, dtype=np.float32))
    >>> response = kernel_response(scene, 4)
    >>> response.shape, int(response.argmax())
    ((3, 3), 2)
    """
    kernel = diagonal_kernel(width_px)
    # the pattern has mean 0, so the mean may go; it would cost digits of the FFT
    centred = images - np.nanmean(images, axis=(-2, -1), keepdims=True)
    centred = np.nan_to_num(centred, copy=False)
    kernel = kernel.reshape((1,) * (images.ndim - 2) + kernel.shape)
    response = fftconvolve(centred, kernel, mode="valid", axes=(-2, -1))
    return np.asarray(response, dtype=np.float32)


def scenes_of_raster(
    raster: NDArray[np.float32],
    settings: KernelSettings,
    size: WorldSize,
    generator: np.random.Generator,
) -> Scenes:
    """Cut scenes without missing pixels at random places out of a raster.

    Parameters
    ----------
    raster : ndarray of shape (height, width)
        NaN where missing.
    settings : KernelSettings
    size : WorldSize
    generator : numpy.random.Generator
        The source of randomness.

    Returns
    -------
    pooled : ndarray of shape (n_sites,)
        Pooled response of each scene.
    pixels : ndarray of shape (n_sites, size_px / degrade, size_px / degrade)
    """
    corners = _whole_windows(np.isnan(raster), size.size_px)
    if len(corners) < size.n_sites:
        raise ValueError(
            f"The imagery must have {size.n_sites} places for scenes of {size.size_px} px without "
            f"missing pixels; it has {len(corners)} ({raster.shape[0]} × {raster.shape[1]} px, "
            f"{np.isnan(raster).mean():.1%} missing). Take fewer or smaller scenes."
        )
    rows, columns = corners[generator.choice(len(corners), size.n_sites, replace=False)].T
    response = kernel_response(raster, settings.width_px)
    window = size.size_px - settings.width_px + 1
    views = (
        np.lib.stride_tricks.sliding_window_view(response, (window, window)),
        np.lib.stride_tricks.sliding_window_view(raster, (size.size_px, size.size_px)),
    )
    parts = [
        (
            pool_response(views[0][rows[part], columns[part]], settings.pooling),
            average_pixels(views[1][rows[part], columns[part]], settings.degrade),
        )
        for part in _parts(size)
    ]
    return np.concatenate([p for p, _ in parts]), np.concatenate([x for _, x in parts])


def scenes_of_chips(
    chips: Chips, settings: KernelSettings, size: WorldSize, generator: np.random.Generator
) -> Scenes:
    """Take the given chips as scenes, some of them if fewer sites are wanted.

    Parameters
    ----------
    chips : Chips
        Of one date, `size_px` high and wide.
    settings : KernelSettings
    size : WorldSize
    generator : numpy.random.Generator
        The source of randomness.

    Returns
    -------
    pooled : ndarray of shape (n_sites,)
        Pooled response of each scene.
    pixels : ndarray of shape (n_sites, size_px / degrade, size_px / degrade)
    """
    if chips.n_times != 1 or chips.size_px != (size.size_px, size.size_px):
        raise ValueError(
            f"Chips of one date and {size.size_px} × {size.size_px} px were expected; they have "
            f"{chips.n_times} dates and {chips.size_px[0]} × {chips.size_px[1]} px. Select a date "
            "and the size."
        )
    if size.n_sites > len(chips):
        raise ValueError(f"`n_sites` must be at most {len(chips)}, the chips; got {size.n_sites}.")
    chosen = generator.choice(len(chips), size.n_sites, replace=False)
    keys = chips.keys[chosen]
    band = chips.select(sites=keys, bands=[settings.band])
    pooled, pixels = [], []
    per_batch = max(1, _PIXELS_AT_ONCE // size.size_px**2)
    for found, batch in band.batches(min(per_batch, size.n_sites)):
        images = batch[:, 0, 0]
        gaps = np.flatnonzero(np.isnan(images).any(axis=(1, 2)))
        if gaps.size:
            raise ValueError(
                f"Scenes must have no missing pixels; {gaps.size} or more have some: "
                f"{list_some(found[gaps])}. Leave them out or fill the gaps."
            )
        pooled.append(pool_response(kernel_response(images, settings.width_px), settings.pooling))
        pixels.append(average_pixels(images, settings.degrade))
    return np.concatenate(pooled), np.concatenate(pixels)


def pool_response(response: NDArray[np.float32], pooling: Pooling) -> NDArray[np.float64]:
    """Return one number per scene: the largest, mean or central response.

    Parameters
    ----------
    response : ndarray of shape (n_sites, height, width)
    pooling : {"max", "mean", "pixel"}

    Returns
    -------
    ndarray of shape (n_sites,)

    Examples
    --------
    >>> response = np.arange(9.0).reshape(1, 3, 3)
    >>> [pool_response(response, how).item() for how in ("max", "mean", "pixel")]
    [8.0, 4.0, 4.0]
    """
    if pooling == "max":
        return np.asarray(response.max(axis=(1, 2)), dtype=np.float64)
    if pooling == "mean":
        return np.asarray(response.mean(axis=(1, 2), dtype=np.float64))
    middle = (response.shape[1] - 1) // 2, (response.shape[2] - 1) // 2
    return np.asarray(response[:, *middle], dtype=np.float64)


def average_pixels(images: NDArray[np.float32], factor: int) -> NDArray[np.float32]:
    """Average squares of `factor` × `factor` pixels.

    Parameters
    ----------
    images : ndarray of shape (n_sites, height, width)
        Height and width are multiples of `factor`.
    factor : int

    Returns
    -------
    ndarray of shape (n_sites, height / factor, width / factor)

    Examples
    --------
    >>> average_pixels(np.arange(4.0).reshape(1, 2, 2), 2).tolist()
    [[[1.5]]]
    """
    n, height, width = images.shape
    squares = images.reshape(n, height // factor, factor, width // factor, factor)
    return np.asarray(squares.mean(axis=(2, 4)), dtype=np.float32)


def _whole_windows(missing: NDArray[np.bool_], size_px: int) -> NDArray[np.intp]:
    """Return the upper left corners of all windows without a missing pixel, shape (n, 2)."""
    if min(missing.shape) < size_px:
        return np.empty((0, 2), dtype=np.intp)
    total = np.zeros((missing.shape[0] + 1, missing.shape[1] + 1), dtype=np.int64)
    total[1:, 1:] = missing.cumsum(axis=0).cumsum(axis=1)
    k = size_px
    count = total[k:, k:] - total[:-k, k:] - total[k:, :-k] + total[:-k, :-k]
    return np.argwhere(count == 0)


def _parts(size: WorldSize) -> Iterator[slice]:
    """Yield slices of sites that hold a bounded number of pixels."""
    step = max(1, _PIXELS_AT_ONCE // size.size_px**2)
    for start in range(0, size.n_sites, step):
        yield slice(start, start + step)
