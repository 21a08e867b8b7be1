"""Random convolutional features: the numbers behind `RandomConvEncoder`.

Rolf, E., Proctor, J., Carleton, T. et al. (2021). A generalizable and accessible approach to
machine learning with global satellite imagery. Nature Communications 12:4392.
https://doi.org/10.1038/s41467-021-24638-z

Coates, A. and Ng, A. (2012). Learning feature representations with k-means. In: Neural Networks:
Tricks of the Trade, 561-580. https://doi.org/10.1007/978-3-642-35289-8_30

With z a filter response, both signs cost one convolution: relu(-z) = relu(z) - z, and the mean of z
over a chip is the filter applied to the mean window, because z is linear in the pixels. The maxima
of relu(z) and relu(-z) follow from the largest and the smallest z.

Deviation from Rolf et al.: windows are centred by the mean window of the fitted chips, not each by
its own mean. Their centring makes every feature blind to the brightness of a place, which for one
band (night lights, a vegetation index) leaves texture alone.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from terracausal._foundation.optional import require

# Added to each eigenvalue, as a share of their sum: the 0.001 of Rolf et al., whose windows have
# unit norm and so eigenvalues that sum to 1.
WHITENING_SHARE = 1e-3

# Responses are standardised, so a bias of -1 lets relu(z) see windows that resemble the filter by
# more than one standard deviation, while relu(-z) stays close to linear.
RESPONSE_BIAS = -1.0

Pooling: TypeAlias = Literal["mean", "max", "both"]

_FILTERS_AT_ONCE = 256
_WINDOWS_AT_ONCE = 2048  # with the above, a block of responses has 2 MB and stays in the cache
_FRAMES_PER_TASK = 8


@dataclass(frozen=True, slots=True)
class Filters:
    """Filters on standardised pixels: response = sum(filter * window) + bias."""

    weights: NDArray[np.float32]
    """Shape (n_filters, n_bands, patch_px, patch_px)."""
    bias: NDArray[np.float32]
    """Shape (n_filters,)."""


def whitened_filters(patches: NDArray[np.float32], n_filters: int) -> Filters:
    """Turn patches into filters whose responses have unit variance over such patches.

    With C the covariance of the patches, W = (C + eps I)^(-1/2) and m their mean, patch p gives the
    direction u = W (p - m) / |W (p - m)| and the response z(x) = u' W (x - m) + bias.

    Parameters
    ----------
    patches : ndarray of shape (n_patches, n_bands, patch_px, patch_px)
        Standardised patches without NaN, in random order.
    n_filters : int
        The first `n_filters` patches become filters; all of them estimate C and m.

    Returns
    -------
    Filters
        `n_filters` filters.

    Raises
    ------
    ValueError
        If all patches are equal.
    """
    flat = patches.reshape(len(patches), -1).astype(np.float64)
    mean = flat.mean(axis=0)
    centred = flat - mean
    eigenvalues, vectors = np.linalg.eigh(centred.T @ centred / len(flat))
    total = float(np.maximum(eigenvalues, 0.0).sum())
    if not total > 0:
        raise ValueError(
            f"Patches must differ to become filters; all {len(flat)} that were drawn are equal. "
            "Check that the chips are not constant."
        )
    spread = np.maximum(eigenvalues, 0.0) + WHITENING_SHARE * total
    whitening = vectors / np.sqrt(spread) @ vectors.T
    directions = centred[:n_filters] @ whitening
    length = np.linalg.norm(directions, axis=1, keepdims=True)
    # a patch equal to the mean has no direction: its filter is 0 and its features are constant
    weights = directions / np.where(length > 0, length, 1.0) @ whitening
    bias = RESPONSE_BIAS - weights @ mean
    shape = (n_filters, *patches.shape[1:])
    return Filters(weights.reshape(shape).astype(np.float32), bias.astype(np.float32))


def complete_windows(frame: NDArray[np.float32], patch_px: int) -> NDArray[np.bool_]:
    """Say which windows of a frame (n_bands, height, width) hold no NaN.

    Returns
    -------
    ndarray of shape (height - patch_px + 1, width - patch_px + 1)
        True where the window that starts there is complete.
    """
    valid = ~np.isnan(frame).any(axis=0)
    windows = np.lib.stride_tricks.sliding_window_view(valid, (patch_px, patch_px))
    return np.asarray(windows.all(axis=(2, 3)))


class FeaturePool:
    """Filters laid out for the machine, applied to one frame after another.

    Parameters
    ----------
    filters : Filters
        What to convolve with.
    pooling : {"mean", "max", "both"}, default='mean'
        What is told of the responses at all positions.
    device : str, default='cpu'
        A torch device.
    """

    def __init__(self, filters: Filters, pooling: Pooling = "mean", device: str = "cpu") -> None:
        torch = require("torch", needed_by="RandomConvEncoder")
        n_filters, _, self.patch_px, _ = filters.weights.shape
        # channels last: a window is then patch_px runs of patch_px * n_bands neighbouring numbers
        flat = filters.weights.transpose(0, 2, 3, 1).reshape(n_filters, -1)
        with_bias = np.concatenate([flat, filters.bias[:, None]], axis=1)
        self._torch = torch
        self._n_threads: int = torch.get_num_threads() if device == "cpu" else 1
        self._device = torch.device(device)
        self._linear = with_bias.astype(np.float64)
        self._blocks = [
            torch.from_numpy(np.ascontiguousarray(block.T)).to(self._device)
            for block in np.split(with_bias, range(_FILTERS_AT_ONCE, n_filters, _FILTERS_AT_ONCE))
        ]
        self._n_filters = n_filters
        self._means, self._extremes = pooling != "max", pooling != "mean"
        self.n_features = 2 * n_filters * (self._means + self._extremes)

    def encode(self, frames: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the features of many frames, on as many threads as torch would use.

        Each thread convolves whole frames by itself. Threads inside one small product would wait
        for each other after every step, for milliseconds whenever the machine is busy; and so the
        number of threads changes no digit.

        Parameters
        ----------
        frames : ndarray of shape (n_frames, n_bands, height, width)
            Standardised pixels, NaN where missing.

        Returns
        -------
        ndarray of shape (n_frames, n_features)
            As from `features`.
        """
        tasks = [
            frames[start : start + _FRAMES_PER_TASK]
            for start in range(0, len(frames), _FRAMES_PER_TASK)
        ]
        with ThreadPoolExecutor(min(self._n_threads, len(tasks))) as threads:
            return np.concatenate(list(threads.map(self._encode_alone, tasks)))

    def _encode_alone(self, frames: NDArray[np.float32]) -> NDArray[np.float64]:
        # OpenMP keeps this limit for the thread that sets it, so torch elsewhere is untouched
        with _thread_pools().limit(limits=1, user_api="openmp"):
            return np.stack([self.features(frame) for frame in frames])

    def features(self, frame: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return what relu(z) and relu(-z) are over the complete windows of a frame.

        Parameters
        ----------
        frame : ndarray of shape (n_bands, height, width)
            Standardised pixels, NaN where missing.

        Returns
        -------
        ndarray of shape (n_features,)
            The means of relu(z), of relu(-z), then the maxima of both, as far as they are asked
            for; NaN if no window is complete.
        """
        positive, window_sum, n_windows = np.zeros(self._n_filters), 0.0, 0
        reached = np.zeros(2 * self._n_filters)  # the least that a relu can be
        with self._torch.no_grad():
            for windows in self._strips(frame):
                sums, peaks = self._pool(windows)
                positive += sums
                reached = np.maximum(reached, peaks)
                window_sum = window_sum + windows.sum(0, dtype=self._torch.float64).cpu().numpy()
                n_windows += len(windows)
        if n_windows == 0:
            return np.full(self.n_features, np.nan)
        if not self._means:
            return reached
        positive /= n_windows
        # einsum and not @: waking the threads of a second BLAS would stall those of torch
        response = np.einsum("fd,d->f", self._linear, window_sum / n_windows)
        # rounding must not turn a mean of relu below 0
        parts = [positive, np.maximum(positive - response, 0.0)]
        return np.concatenate([*parts, reached] if self._extremes else parts)

    def _strips(self, frame: NDArray[np.float32]) -> Any:
        """Yield the complete windows of horizontal strips, each row a window and a final 1."""
        torch, patch_px = self._torch, self.patch_px
        n_bands, height, width = frame.shape
        n_rows, n_columns = height - patch_px + 1, width - patch_px + 1
        complete = complete_windows(frame, patch_px) if np.isnan(frame).any() else None
        pixels = torch.from_numpy(np.ascontiguousarray(frame.transpose(1, 2, 0))).to(self._device)
        n_strips = -(-n_rows * n_columns // _WINDOWS_AT_ONCE)
        step = -(-n_rows // n_strips)
        run = patch_px * n_bands
        for start in range(0, n_rows, step):
            count = min(step, n_rows - start)
            view = pixels[start:].as_strided(
                (count, n_columns, patch_px, run), (width * n_bands, n_bands, width * n_bands, 1)
            )
            windows = torch.ones((count * n_columns, patch_px * run + 1), device=self._device)
            windows[:, :-1].unflatten(0, (count, n_columns)).unflatten(2, (patch_px, run)).copy_(
                view
            )
            if complete is not None:
                keep = torch.from_numpy(complete[start : start + count].reshape(-1))
                windows = windows[keep.to(self._device)]
            if len(windows):
                yield windows

    def _pool(self, windows: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the sum of relu(z) over windows (n_windows, d + 1), and the largest z and -z.

        Shapes (n_filters,) and (2 * n_filters,); 0 where it is not asked for.
        """
        sums, highest, lowest = [], [], []
        for block in self._blocks:
            z = self._torch.mm(windows, block)
            if self._extremes:
                highest.append(z.amax(0))
                lowest.append(z.amin(0))
            if self._means:
                sums.append(z.clamp_min_(0).sum(0))
        none = np.zeros(self._n_filters)
        if not self._extremes:
            return self._joined(sums), np.concatenate([none, none])
        peaks = np.concatenate([self._joined(highest), -self._joined(lowest)])
        return self._joined(sums) if self._means else none, peaks

    def _joined(self, parts: list[Any]) -> NDArray[np.float64]:
        return np.asarray(self._torch.cat(parts).cpu().numpy(), dtype=np.float64)


@lru_cache(maxsize=1)
def _thread_pools() -> Any:
    # looks through the libraries that are loaded, so it is called after the import of torch
    return require("threadpoolctl", needed_by="RandomConvEncoder").ThreadpoolController()
