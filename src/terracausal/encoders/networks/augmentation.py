"""Changes of images that keep every value of every pixel: quarter turns and mirrors."""

import numpy as np
import torch
from torch import Tensor


def turn_and_mirror(pixels: Tensor, generator: np.random.Generator) -> Tensor:
    """Show each site in one of its eight positions (four where images are not square).

    Brightness and contrast are left alone: they may be what confounds.

    Parameters
    ----------
    pixels : Tensor of shape (b, n_times, n_bands, h, w)
        All times of a site are moved alike.
    generator : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    Tensor of the same shape

    Examples
    --------
    >>> pixels = torch.arange(4.0).reshape(1, 1, 1, 2, 2)
    >>> moved = turn_and_mirror(pixels, np.random.default_rng(0))
    >>> sorted(moved.flatten().tolist())
    [0.0, 1.0, 2.0, 3.0]
    """
    square = pixels.shape[-1] == pixels.shape[-2]
    turns = generator.integers(4, size=len(pixels)) if square else None
    if turns is None:
        turns = 2 * generator.integers(2, size=len(pixels))
    mirrored = generator.integers(2, size=len(pixels))
    moved = [
        torch.rot90(site.flip(-1) if flip else site, int(turn), (-2, -1))
        for site, turn, flip in zip(pixels, turns, mirrored, strict=True)
    ]
    return torch.stack(moved)
