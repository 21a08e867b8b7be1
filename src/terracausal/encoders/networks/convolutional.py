"""A small convolutional network for images of any size, with any bands and missing pixels."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from terracausal._foundation.checks import check_count
from terracausal.encoders.networks.missing import (
    PartialConvolution,
    halve,
    mean_and_max,
    seen_of,
)


class ConvNetwork(nn.Module):
    """Convolutions of 3 x 3 px with residuals, halved in size between stages, then mean and max.

    The first convolution reads the bands. Each stage adds to its maps a convolution of their
    normalised values; between stages maps are averaged over 2 x 2 and widened by a 1 x 1
    convolution. Normalisation is over the maps of one position, so that no image depends on
    another, and leaves the sum untouched, so that brightness reaches the end. Missing pixels are
    left out of every sum (see `PartialConvolution`).

    Parameters
    ----------
    n_bands : int
        Number of bands.
    widths : sequence of int, default=(16, 32, 64)
        Number of maps of each stage. A position of the last of three sees about 20 x 20 px.

    Attributes
    ----------
    n_features : int
        Length of the vector of an image: mean and maximum of the last maps.

    Examples
    --------
    >>> network = ConvNetwork(n_bands=2)
    >>> network(torch.zeros(5, 2, 20, 31)).shape
    torch.Size([5, 128])
    """

    def __init__(self, n_bands: int, widths: Sequence[int] = (16, 32, 64)) -> None:
        super().__init__()
        check_count("n_bands", n_bands)
        for width in widths:
            check_count("widths", width)
        self.n_features = 2 * widths[-1]
        self.first = PartialConvolution(n_bands, widths[0])
        self.stages = nn.ModuleList(_Residual(width) for width in widths)
        self.widen = nn.ModuleList(nn.Conv2d(one, two, 1) for one, two in pairwise(widths))

    def forward(self, images: Tensor) -> Tensor:
        """Return the vectors of images.

        Parameters
        ----------
        images : Tensor of shape (b, n_bands, h, w)
            Standardised, NaN where missing.

        Returns
        -------
        Tensor of shape (b, n_features)
            NaN for an image with too little to see.
        """
        x, seen = self.first(*seen_of(images))
        for number, stage in enumerate(self.stages):
            if number > 0:
                x, seen = halve(x, seen)
                x = self.widen[number - 1](x)
                x = x if seen is None else x * seen
            x, seen = stage(x, seen)
        return mean_and_max(x, seen)


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(width))
        self.convolution = PartialConvolution(width, width)

    def forward(self, x: Tensor, seen: Tensor | None) -> tuple[Tensor, Tensor | None]:
        size = x.square().mean(dim=1, keepdim=True).add(1e-6).sqrt()
        normal = functional.gelu(x / size * self.scale[:, None, None])
        added, kept = self.convolution(normal, seen)
        total = x + added
        return (total if kept is None else total * kept), kept
