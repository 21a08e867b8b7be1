"""Random convolutional features (MOSAIKS) as an encoder of chips."""

from collections.abc import Iterator
from hashlib import blake2b
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from terracausal._foundation.checks import check_count
from terracausal._foundation.errors import list_some
from terracausal._foundation.progress import track
from terracausal._foundation.randomness import RandomState, canonical_order, random_generator
from terracausal.encoders.base import ChipEncoder, numbered
from terracausal.encoders.random_features import (
    FeaturePool,
    Filters,
    complete_windows,
    whitened_filters,
)
from terracausal.imagery import Chips

_MIN_PATCHES = 10_000
_PATCHES_PER_NUMBER = 20  # patches that estimate the covariance, per number in a patch


class RandomConvEncoder(ChipEncoder):
    """Random convolutional features (MOSAIKS): patches of the images themselves as filters.

    Each filter is a whitened patch of the fitted chips; a chip is described by the mean of relu(z)
    and relu(-z) over all positions of each filter, where z is its response.

    Parameters
    ----------
    n_features : int, default=512
        Number of columns: `n_features / 2` filters, each with both signs. Must be even.
    patch_px : int, default=3
        Height and width of a filter in pixels.
    batch_size : int, default=64
        Number of chips held in memory together; changes no number.
    device : str, default='cpu'
        Where torch convolves, such as "cpu" or "cuda".
    random_state : None, int or numpy.random.Generator, default=None
        Seed of the sampled patches.

    Attributes
    ----------
    mean_, scale_ : ndarray of shape (n_bands,)
        Mean and standard deviation of all valid pixels of each band of the fitted chips; the scale
        of a constant band is 1.
    filters_ : ndarray of shape (n_features / 2, n_bands, patch_px, patch_px)
        Whitened filters on standardised pixels.
    bias_ : ndarray of shape (n_features / 2,)
        Added to the response of each filter.
    bands_ : tuple of str
        Bands of the fitted chips.
    n_sites_fitted_ : int
        Number of fitted sites.

    Notes
    -----
    `fit` standardises each band, draws at least 10,000 patches (first a site, then a time and a
    position, each uniformly among those without NaN), estimates their mean m and covariance C, and
    whitens with W = (C + eps I)^(-1/2), eps = 0.001 trace(C). The first patches become filters of
    unit length in whitened space, so that responses have about unit variance. The bias is not
    tuned: z = u' W (x - m) - 1, so relu(z) sees windows more than one standard deviation towards
    the filter. Unlike the paper, the mean of each window is kept, because the brightness of a place
    is information.

    Columns `rcf_000`, … hold first relu(z), then relu(-z) of the same filters. Windows that touch a
    missing pixel are left out of the mean. With several times, every column is the mean of its
    value at the times with a complete window. All that was learned is in the attributes above, so
    chips of a new area are encoded with the filters and the standardisation of the fitted one.

    References
    ----------
    .. [1] Rolf, E., Proctor, J., Carleton, T. et al. (2021). A generalizable and accessible
       approach to machine learning with global satellite imagery. Nature Communications 12:4392.
       https://doi.org/10.1038/s41467-021-24638-z

    Examples
    --------
    >>> import numpy as np
    >>> from terracausal.imagery import Chips
    >>> pixels = np.random.default_rng(0).normal(size=(4, 1, 2, 8, 8))
    >>> chips = Chips.from_arrays(pixels, sites=list("abcd"), bands=["red", "nir"])
    >>> features = RandomConvEncoder(n_features=8, random_state=0).fit_transform(chips)
    >>> features.shape, list(features.columns[:2])
    ((4, 8), ['rcf_000', 'rcf_001'])
    """

    mean_: NDArray[np.float32]
    scale_: NDArray[np.float32]
    filters_: NDArray[np.float32]
    bias_: NDArray[np.float32]

    def __init__(
        self,
        n_features: int = 512,
        patch_px: int = 3,
        batch_size: int = 64,
        device: str = "cpu",
        random_state: RandomState = None,
    ) -> None:
        self.n_features = n_features
        self.patch_px = patch_px
        self.batch_size = batch_size
        self.device = device
        self.random_state = random_state

    def _learn(self, chips: Chips, y: object) -> None:
        if check_count("n_features", self.n_features, minimum=2) % 2:
            raise ValueError(
                "`n_features` must be even, because each filter gives two features; got "
                f"{self.n_features}."
            )
        check_count("patch_px", self.patch_px)
        check_count("batch_size", self.batch_size)
        _check_size(chips, self.patch_px)
        generator = random_generator(self.random_state)
        self.mean_, self.scale_, n_windows = scan_chips(chips, self.patch_px)
        n_filters = self.n_features // 2
        numbers = len(chips.bands) * self.patch_px**2
        n_patches = max(_MIN_PATCHES, _PATCHES_PER_NUMBER * numbers, n_filters)
        places = draw_places(n_windows, n_patches, generator)
        patches = cut_patches(chips, places, self.patch_px)
        patches = standardise(patches, self.mean_, self.scale_)
        filters = whitened_filters(patches, n_filters)
        self.filters_, self.bias_ = filters.weights, filters.bias

    def _columns(self) -> list[str]:
        return numbered("rcf", 2 * len(self.filters_))

    def encode(self, chips: Chips) -> pd.DataFrame:
        """Encode the chips with the fitted filters; see `ChipEncoder.encode`."""
        if isinstance(chips, Chips) and hasattr(self, "filters_"):
            _check_size(chips, self.filters_.shape[-1])
        return super().encode(chips)

    def _encode_images(self, pixels: NDArray[np.float32]) -> NDArray[np.float64]:
        pool = FeaturePool(Filters(self.filters_, self.bias_), self.device)
        return pool.encode(standardise(pixels, self.mean_, self.scale_))

    def _need(self) -> str:
        patch_px = self.filters_.shape[-1]
        return f"a window of {patch_px} x {patch_px} px without missing pixels"

    def _sites_at_once(self) -> int:
        return self.batch_size

    def _description(self) -> dict[str, Any]:
        learned = (self.mean_, self.scale_, self.filters_, self.bias_)
        moments, everything = (_digest(*arrays) for arrays in (learned[:2], learned))
        return {
            **super()._description(),
            "moments": {"mean": self.mean_.tolist(), "scale": self.scale_.tolist()},
            "moments_digest": moments,
            "filters_digest": everything,
        }


def _check_size(chips: Chips, patch_px: int) -> None:
    if min(chips.size_px) < patch_px:
        height, width = chips.size_px
        raise ValueError(
            f"Chips must be at least as large as a patch of {patch_px} x {patch_px} px; these have "
            f"{height} x {width} px. Choose a smaller `patch_px`, or read larger chips."
        )


def standardise(
    pixels: NDArray[np.float32], mean: NDArray[np.float32], scale: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return (pixels - mean) / scale for pixels of shape (..., n_bands, height, width)."""
    return (pixels - mean[:, None, None]) / scale[:, None, None]


def scan_chips(
    chips: Chips, patch_px: int
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]:
    """Read all chips once, in order of keys, and return their moments and numbers of windows.

    Returns
    -------
    mean, scale : ndarray of shape (n_bands,)
        Of all valid pixels; the scale of a constant band is 1.
    n_windows : ndarray of shape (n_sites, n_times)
        Number of windows without NaN, by site in order of keys.
    """
    total, squares, count = (np.zeros(chips.n_bands) for _ in range(3))
    centre: NDArray[np.float64] | None = None
    n_windows = np.empty((chips.n_sites, chips.n_times), dtype=np.int64)
    for row, chip in enumerate(track(_in_order(chips), "reading chips", total=chips.n_sites)):
        values = chip.transpose(1, 0, 2, 3).reshape(chips.n_bands, -1).astype(np.float64)
        valid = ~np.isnan(values)
        if centre is None:
            # moments about a typical value, so that squares of large numbers do not cancel
            centre = np.array(
                [
                    band[seen].mean() if seen.any() else 0.0
                    for band, seen in zip(values, valid, strict=True)
                ]
            )
        moved = np.where(valid, values - centre[:, None], 0.0)
        total += moved.sum(axis=1)
        squares += (moved**2).sum(axis=1)
        count += valid.sum(axis=1)
        n_windows[row] = [complete_windows(frame, patch_px).sum() for frame in chip]
    _check_counts(chips, count, n_windows, patch_px)
    shift = total / count
    scale = np.sqrt(np.maximum(squares / count - shift**2, 0.0))
    mean = (shift + (0.0 if centre is None else centre)).astype(np.float32)
    # what remains of a constant band is rounding
    constant = scale <= 1e-7 * np.abs(mean)
    return mean, np.where(constant, 1.0, scale).astype(np.float32), n_windows


def draw_places(
    n_windows: NDArray[np.int64], n_patches: int, generator: np.random.Generator
) -> NDArray[np.int64]:
    """Draw where patches are cut: a site, then one of its complete windows, each uniformly.

    Parameters
    ----------
    n_windows : ndarray of shape (n_sites, n_times)
        Number of complete windows.
    n_patches : int
        Number of draws, with replacement.
    generator : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    ndarray of shape (n_patches, 2)
        Row of the site, and number of the window counted over times and positions.
    """
    per_site = n_windows.sum(axis=1)
    rows = generator.choice(np.flatnonzero(per_site), size=n_patches)
    return np.column_stack([rows, generator.integers(per_site[rows])])


def cut_patches(chips: Chips, places: NDArray[np.int64], patch_px: int) -> NDArray[np.float32]:
    """Return the patches at `places`, shape (n_patches, n_bands, patch_px, patch_px)."""
    patches = np.empty((len(places), chips.n_bands, patch_px, patch_px), dtype=np.float32)
    wanted = np.unique(places[:, 0])
    order = canonical_order(chips.keys)
    for row in track(wanted, "cutting patches"):
        chip = chips[chips.keys[order[row]]]
        slots = np.flatnonzero(places[:, 0] == row)
        complete = np.stack([complete_windows(frame, patch_px) for frame in chip])
        time, top, left = np.argwhere(complete)[places[slots, 1]].T
        views = np.lib.stride_tricks.sliding_window_view(chip, (patch_px, patch_px), axis=(2, 3))
        patches[slots] = views[time, :, top, left]
    return patches


def _in_order(chips: Chips) -> Iterator[NDArray[np.float32]]:
    for position in canonical_order(chips.keys):
        yield chips[chips.keys[position]]


def _check_counts(
    chips: Chips, count: NDArray[np.float64], n_windows: NDArray[np.int64], patch_px: int
) -> None:
    empty = [band for band, n_valid in zip(chips.bands, count, strict=True) if n_valid == 0]
    if empty:
        raise ValueError(
            f"Every band needs valid pixels; {list_some(empty)} have none in "
            f"{chips.n_sites} chips. Leave these bands out."
        )
    if not n_windows.any():
        raise ValueError(
            f"Filters are cut from windows of {patch_px} x {patch_px} px without missing pixels; "
            f"none of the {chips.n_sites} chips has one. Use a smaller `patch_px`."
        )


def _digest(*arrays: NDArray[Any]) -> str:
    hashed = blake2b(digest_size=16)
    for array in arrays:
        hashed.update(np.ascontiguousarray(array).tobytes())
    return hashed.hexdigest()
