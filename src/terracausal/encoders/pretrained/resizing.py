"""Resizing that gives the numbers of the libraries the networks were trained with."""

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from terracausal._foundation.optional import require
from terracausal.encoders.pretrained.entry import Interpolation, Preprocessing

if TYPE_CHECKING:
    from torch import Tensor

_PRECISION_BITS = 22  # of Pillow's weights


def size_before_crop(height: int, width: int, how: Preprocessing) -> tuple[int, int]:
    """Return the height and width that an image is resized to before its centre is cropped.

    Examples
    --------
    >>> how = Preprocessing("uint8", (0.5,), (0.5,), resize="shortest_edge", size_px=224)
    >>> size_before_crop(100, 150, how)
    (224, 336)
    """
    target = how.resize_px or how.size_px
    if how.resize == "square":
        return target, target
    if how.resize == "none":
        if min(height, width) >= how.size_px:
            return height, width
        target = how.size_px
    short, long = sorted((height, width))
    stretched = int(target * long / short)
    return (target, stretched) if height <= width else (stretched, target)


def crop_centre(images: "Tensor", how: Preprocessing) -> "Tensor":
    """Return the central `size_px` x `size_px` of images (..., height, width)."""
    top, left = (
        # Pillow-based processors round an odd margin down, torchvision to the even number
        (side - how.size_px) // 2 if how.arithmetic == "bytes" else round((side - how.size_px) / 2)
        for side in images.shape[-2:]
    )
    return images[..., top : top + how.size_px, left : left + how.size_px]


def resize_floats(
    images: "Tensor", size: tuple[int, int], interpolation: Interpolation
) -> "Tensor":
    """Resize images (b, n_bands, height, width) with antialiasing, as torchvision does."""
    if tuple(images.shape[-2:]) == size:
        return images
    functional = require("torch.nn.functional", needed_by="PretrainedEncoder")
    resized: Tensor = functional.interpolate(
        images, size=size, mode=interpolation, antialias=True, align_corners=False
    )
    return resized


def resize_bytes(images: "Tensor", size: tuple[int, int], interpolation: Interpolation) -> "Tensor":
    """Resize whole numbers 0..255 exactly as Pillow does, on any device.

    Parameters
    ----------
    images : Tensor of shape (b, n_bands, height, width)
        float64 with whole numbers from 0 to 255.
    size : tuple of int
        Height and width wanted.
    interpolation : {"bilinear", "bicubic"}
        Kernel; bicubic with a = -0.5.

    Returns
    -------
    Tensor of shape (b, n_bands, *size)
        float64 with whole numbers from 0 to 255.

    Notes
    -----
    Pillow resizes rows and then columns, each with weights rounded to 22 binary digits, and rounds
    to bytes after each. Both are products of matrices of whole numbers, exact in float64, which
    take all images at once. Images that are not square go through Pillow one by one: which side it
    resizes first depends on its version, and decides about the last digit.
    """
    if images.shape[-2] != images.shape[-1] or size[0] != size[1]:
        return _resize_by_pillow(images, size, interpolation)
    torch = require("torch", needed_by="PretrainedEncoder")
    n_in, n_out = images.shape[-1], size[0]
    if n_in == n_out:
        return images
    weights = torch.from_numpy(byte_weights(n_in, n_out, interpolation)).to(images.device)
    half, one = 2.0 ** (_PRECISION_BITS - 1), 2.0**_PRECISION_BITS
    across = torch.floor((images @ weights.T + half) / one).clamp(0, 255)
    resized: Tensor = torch.floor((weights @ across + half) / one).clamp(0, 255)
    return resized


def _resize_by_pillow(
    images: "Tensor", size: tuple[int, int], interpolation: Interpolation
) -> "Tensor":
    torch = require("torch", needed_by="PretrainedEncoder")
    pillow = require("PIL.Image", needed_by="PretrainedEncoder", extra="pretrained")
    kernel = {"bilinear": pillow.Resampling.BILINEAR, "bicubic": pillow.Resampling.BICUBIC}
    planes = images.reshape(-1, *images.shape[-2:]).cpu().numpy().astype(np.uint8)
    resized = [
        np.asarray(pillow.fromarray(plane).resize(size[::-1], resample=kernel[interpolation]))
        for plane in planes
    ]
    stacked: Tensor = torch.from_numpy(np.stack(resized)).to(images)
    return stacked.reshape(*images.shape[:2], *size)


@lru_cache(maxsize=64)
def byte_weights(n_in: int, n_out: int, interpolation: Interpolation) -> NDArray[np.float64]:
    """Return Pillow's weights (n_out, n_in), whole numbers that sum to about 2^22 in each row."""
    support, kernel = {"bilinear": (1.0, _triangle), "bicubic": (2.0, _cubic)}[interpolation]
    step = n_in / n_out
    stretch = max(step, 1.0)
    centre = (np.arange(n_out)[:, None] + 0.5) * step
    first = np.maximum(np.trunc(centre - support * stretch + 0.5), 0)
    last = np.minimum(np.trunc(centre + support * stretch + 0.5), n_in)
    place = np.arange(n_in)[None, :]
    inside = (place >= first) & (place < last)
    raw = np.where(inside, kernel((place - centre + 0.5) * (1.0 / stretch)), 0.0)
    # summed one by one like Pillow does, because the last digit can decide about rounding
    shares = raw / np.cumsum(raw, axis=1)[:, -1:]
    scaled = shares * 2.0**_PRECISION_BITS
    whole: NDArray[np.float64] = np.trunc(np.where(scaled < 0, scaled - 0.5, scaled + 0.5))
    return whole


def _triangle(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.maximum(1.0 - np.abs(x), 0.0)


def _cubic(x: NDArray[np.float64]) -> NDArray[np.float64]:
    a, x = -0.5, np.abs(x)
    near = ((a + 2.0) * x - (a + 3.0)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * a
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))
