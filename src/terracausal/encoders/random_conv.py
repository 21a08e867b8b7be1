"""Random convolutional features (MOSAIKS) as an encoder of chips."""

from collections.abc import Iterator, Sequence
from hashlib import blake2b
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from terracausal._foundation.checks import check_choice, check_count
from terracausal._foundation.errors import list_some
from terracausal._foundation.progress import track
from terracausal._foundation.randomness import RandomState, canonical_order, random_generator
from terracausal.encoders.base import ChipEncoder, numbered
from terracausal.encoders.random_features import (
    FeaturePool,
    Filters,
    Pooling,
    complete_windows,
    whitened_filters,
)
from terracausal.imagery import Chips

_MIN_PATCHES = 10_000
_PATCHES_PER_NUMBER = 20  # patches that estimate the covariance, per number in a patch


class RandomConvEncoder(ChipEncoder):
    """Random convolutional features (MOSAIKS): patches of the images themselves as filters.

    Each filter is a whitened patch of the fitted chips; a chip is described by the mean, the
    maximum or both of relu(z) and relu(-z) over all positions of each filter, where z is its
    response.

    Parameters
    ----------
    n_features : int, default=512
        Number of columns before any reduction: two for each filter (both signs), or four where
        `pooling` is "both", which it must be a multiple of.
    patch_px : int or tuple of int, default=3
        Height and width of a filter in pixels; filters are split evenly over several sizes.
    pooling : {"mean", "max", "both"}, default='mean'
        The mean tells how much of something there is in a chip, the maximum whether there is any.
    n_components : int, default=None
        Number of principal components of the fitted chips that replace the columns; None for none.
    whiten : bool, default=False
        Whether components have unit variance over the fitted chips.
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
    filters_ : ndarray of shape (n_filters, n_bands, patch_px, patch_px)
        Whitened filters on standardised pixels; those of a smaller size fill the first rows and
        columns of a field of the largest size, with 0 elsewhere.
    bias_ : ndarray of shape (n_filters,)
        Added to the response of each filter.
    patch_px_ : ndarray of shape (n_filters,)
        Size of each filter in pixels.
    components_ : PrincipalComponents
        The reduction; None where there is none.
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
    is information. Several sizes have a covariance and a whitening each.

    Columns `rcf_000`, … hold, for one patch size after the other, the means of relu(z), the means
    of relu(-z), then the maxima of both; `feature_origins` says which is which. Windows that touch
    a missing pixel are left out. With several times, every column is the mean of its value at the
    times with a complete window. All that was learned is in the attributes above, so chips of a new
    area are encoded with the standardisation, the whitening and the filters of the fitted one.

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
    patch_px_: NDArray[np.int64]

    def __init__(
        self,
        n_features: int = 512,
        patch_px: int | Sequence[int] = 3,
        pooling: Pooling = "mean",
        n_components: int | None = None,
        whiten: bool = False,
        batch_size: int = 64,
        device: str = "cpu",
        random_state: RandomState = None,
    ) -> None:
        self.n_features = n_features
        self.patch_px = patch_px
        self.pooling = pooling
        self.n_components = n_components
        self.whiten = whiten
        self.batch_size = batch_size
        self.device = device
        self.random_state = random_state

    def _learn(self, chips: Chips, y: object) -> None:
        sizes = patch_sizes(self.patch_px)
        per_filter = 2 * len(self._poolings())
        n_filters, odd = divmod(check_count("n_features", self.n_features), per_filter)
        if odd or n_filters < len(sizes):
            raise ValueError(
                f"`n_features` must be a multiple of {per_filter}, because each filter gives "
                f"{per_filter} features, and at least {per_filter * len(sizes)} for "
                f"{len(sizes)} patch sizes; got {self.n_features}."
            )
        check_count("batch_size", self.batch_size)
        _check_size(chips, max(sizes))
        generator = random_generator(self.random_state)
        self.mean_, self.scale_, n_windows = scan_chips(chips, sizes)
        shares = [len(part) for part in np.array_split(np.arange(n_filters), len(sizes))]
        self.patch_px_ = np.repeat(sizes, shares)
        self.filters_ = np.zeros(
            (n_filters, chips.n_bands, max(sizes), max(sizes)), dtype=np.float32
        )
        self.bias_ = np.zeros(n_filters, dtype=np.float32)
        for size, count, windows in zip(sizes, shares, n_windows, strict=True):
            n_patches = max(_MIN_PATCHES, _PATCHES_PER_NUMBER * chips.n_bands * size**2, count)
            places = draw_places(windows, n_patches, generator)
            patches = standardise(cut_patches(chips, places, size), self.mean_, self.scale_)
            filters = whitened_filters(patches, count)
            self.filters_[self.patch_px_ == size, :, :size, :size] = filters.weights
            self.bias_[self.patch_px_ == size] = filters.bias

    def _poolings(self) -> tuple[str, ...]:
        chosen = check_choice("pooling", self.pooling, ("mean", "max", "both"))
        return ("mean", "max") if chosen == "both" else (chosen,)

    def _filters(self) -> list[Filters]:
        """Return the filters of one size after the other."""
        return [
            Filters(
                np.ascontiguousarray(self.filters_[self.patch_px_ == size, :, :size, :size]),
                self.bias_[self.patch_px_ == size],
            )
            for size in dict.fromkeys(self.patch_px_.tolist())
        ]

    def _columns(self) -> list[str]:
        return numbered("rcf", 2 * len(self._poolings()) * len(self.filters_))

    def feature_origins(self) -> pd.DataFrame:
        """Say which filter, sign and pooling each column comes from.

        Returns
        -------
        DataFrame of shape (n_features, 4)
            Indexed by the columns before any reduction: `filter`, the row of `filters_`;
            `patch_px`, its size; `sign`, 1 for relu(z) and -1 for relu(-z); `pooling`.

        Examples
        --------
        >>> pixels = np.random.default_rng(0).normal(size=(4, 1, 1, 8, 8))
        >>> chips = Chips.from_arrays(pixels, sites=list("abcd"), bands=["lights"])
        >>> encoder = RandomConvEncoder(n_features=4, patch_px=(3, 5), random_state=0).fit(chips)
        >>> encoder.feature_origins().loc["rcf_003"].to_dict()
        {'filter': 1, 'patch_px': 5, 'sign': -1, 'pooling': 'mean'}
        """
        check_is_fitted(self, "bands_")
        parts = [
            pd.DataFrame({"filter": rows, "patch_px": size, "sign": sign, "pooling": pooling})
            for size in dict.fromkeys(self.patch_px_.tolist())
            for rows in [np.flatnonzero(self.patch_px_ == size)]
            for pooling in self._poolings()
            for sign in (1, -1)
        ]
        return pd.concat(parts, ignore_index=True).set_index(pd.Index(self._columns()))

    def encode(self, chips: Chips) -> pd.DataFrame:
        """Encode the chips with the fitted filters; see `ChipEncoder.encode`."""
        if isinstance(chips, Chips) and hasattr(self, "filters_"):
            _check_size(chips, self.filters_.shape[-1])
        return super().encode(chips)

    def _encode_images(self, pixels: NDArray[np.float32]) -> NDArray[np.float64]:
        standard = standardise(pixels, self.mean_, self.scale_)
        pools = [FeaturePool(filters, self.pooling, self.device) for filters in self._filters()]
        return np.concatenate([pool.encode(standard) for pool in pools], axis=1)

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


def patch_sizes(patch_px: int | Sequence[int]) -> tuple[int, ...]:
    """Return one or more different sizes of patches as a tuple.

    Examples
    --------
    >>> patch_sizes(3), patch_sizes([3, 5])
    ((3,), (3, 5))
    """
    given = tuple(patch_px) if isinstance(patch_px, Sequence) else (patch_px,)
    sizes = tuple(check_count("patch_px", size) for size in given)
    if not sizes or len(set(sizes)) < len(sizes):
        raise ValueError(f"`patch_px` must be one size or several that differ; got {patch_px!r}.")
    return sizes


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
    chips: Chips, sizes: Sequence[int]
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]:
    """Read all chips once, in order of keys, and return their moments and numbers of windows.

    Parameters
    ----------
    chips : Chips
        What to read.
    sizes : sequence of int
        Sizes of windows in pixels.

    Returns
    -------
    mean, scale : ndarray of shape (n_bands,)
        Of all valid pixels; the scale of a constant band is 1.
    n_windows : ndarray of shape (n_sizes, n_sites, n_times)
        Number of windows without NaN, by site in order of keys.
    """
    total, squares, count = (np.zeros(chips.n_bands) for _ in range(3))
    centre: NDArray[np.float64] | None = None
    n_windows = np.zeros((len(sizes), chips.n_sites, chips.n_times), dtype=np.int64)
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
        for time, frame in enumerate(chip):
            n_windows[:, row, time] = [complete_windows(frame, size).sum() for size in sizes]
    _check_counts(chips, count, n_windows, sizes)
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
    chips: Chips, count: NDArray[np.float64], n_windows: NDArray[np.int64], sizes: Sequence[int]
) -> None:
    empty = [band for band, n_valid in zip(chips.bands, count, strict=True) if n_valid == 0]
    if empty:
        raise ValueError(
            f"Every band needs valid pixels; {list_some(empty)} have none in "
            f"{chips.n_sites} chips. Leave these bands out."
        )
    for size, windows in zip(sizes, n_windows, strict=True):
        if not windows.any():
            raise ValueError(
                f"Filters are cut from windows of {size} x {size} px without missing pixels; "
                f"none of the {chips.n_sites} chips has one. Use a smaller `patch_px`."
            )


def _digest(*arrays: NDArray[Any]) -> str:
    hashed = blake2b(digest_size=16)
    for array in arrays:
        hashed.update(np.ascontiguousarray(array).tobytes())
    return hashed.hexdigest()
