"""A vision transformer whose tokens are patches of single bands, so that bands may be absent.

Bao, Y., Sivanandan, S. and Karaletsos, T. (2024). Channel vision transformers: an image is worth
1 x 16 x 16 words. ICLR. arXiv:2309.16108.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from terracausal._foundation.checks import check_count
from terracausal.encoders.networks.missing import split_missing
from terracausal.encoders.networks.temporal import RotaryTransformer


class ChannelViT(nn.Module):
    """Tokens of one patch of one band, with 2-D positions and a learned vector of the band.

    A patch without a seen pixel is left out of attention; in others a missing pixel counts as the
    mean of its band, which is 0. A band that is NaN everywhere is therefore absent: any subset of
    bands can be read. In training a random number of bands, chosen at random, is read in each
    step (hierarchical channel sampling, section 3.2), so that the network learns to do with few.

    Parameters
    ----------
    n_bands : int
        Number of bands.
    patch_px : int, default=8
        Side of the patches; images are filled up to a multiple with missing pixels.
    n_features : int, default=64
        Length of the tokens, and of the vector of an image; a multiple of 4 and of 2 `n_heads`.
    n_heads : int, default=4
        Number of attention heads.
    depth : int, default=2
        Number of blocks.
    sample_bands : bool, default=True
        Whether training reads random subsets of the bands.

    Attributes
    ----------
    any_bands : bool
        True: reads any subset of the bands.

    Examples
    --------
    >>> network = ChannelViT(n_bands=3, patch_px=4, n_features=16).eval()
    >>> network(torch.zeros(2, 3, 12, 10)).shape
    torch.Size([2, 16])
    """

    any_bands = True

    def __init__(
        self,
        n_bands: int,
        patch_px: int = 8,
        n_features: int = 64,
        n_heads: int = 4,
        depth: int = 2,
        sample_bands: bool = True,
    ) -> None:
        super().__init__()
        check_count("n_bands", n_bands)
        if check_count("n_features", n_features) % 4:
            raise ValueError(
                f"`n_features` must be a multiple of 4 for positions in two directions; got "
                f"{n_features}."
            )
        self.n_features = n_features
        self.sample_bands = sample_bands
        self.patches = nn.Conv2d(1, n_features, check_count("patch_px", patch_px), patch_px)
        self.bands = nn.Parameter(torch.randn(n_bands, n_features) / math.sqrt(2))
        # a generator of its own is not needed: whoever makes networks seeds torch's for a moment
        self.transformer = RotaryTransformer(n_features, n_heads, depth)
        self.norm = nn.LayerNorm(n_features)

    def forward(self, images: Tensor) -> Tensor:
        """Return the vectors of images.

        Parameters
        ----------
        images : Tensor of shape (b, n_bands, h, w)
            Standardised, NaN where missing and in absent bands.

        Returns
        -------
        Tensor of shape (b, n_features)
            NaN for an image without a seen pixel.
        """
        pixels, seen = split_missing(images)
        empty = seen.amax(dim=(1, 2, 3)) == 0
        # bands that no image has need no tokens
        chosen = seen.amax(dim=(0, 2, 3)).nonzero()[:, 0]
        if self.training and self.sample_bands and len(chosen) > 1:
            n_read = int(torch.randint(1, len(chosen) + 1, ()))
            chosen = chosen[torch.randperm(len(chosen))[:n_read].to(chosen.device)]
        tokens, missing = self._tokens(pixels[:, chosen], seen[:, chosen], self.bands[chosen])
        # places are in the tokens, so that none is left to the order of the line
        found = self.transformer(tokens, missing, torch.zeros_like(tokens[..., 0]))
        vectors: Tensor = self.norm(found)
        return vectors.masked_fill(empty[:, None], torch.nan)

    def _tokens(self, pixels: Tensor, seen: Tensor, bands: Tensor) -> tuple[Tensor, Tensor]:
        """Return tokens (b, n_bands * n_patches, n_features) and which of them are missing."""
        patch_px = self.patches.kernel_size[0]
        around = [side for n in reversed(pixels.shape[-2:]) for side in (0, -n % patch_px)]
        pixels, seen = functional.pad(pixels, around), functional.pad(seen, around)
        n_images, n_bands = pixels.shape[:2]
        found = self.patches(pixels.flatten(0, 1)[:, None])
        height, width = found.shape[-2:]
        found = found.flatten(2).transpose(1, 2).unflatten(0, (n_images, n_bands))
        places = plane_positions(height, width, self.n_features).to(found)
        tokens = found + places + bands[:, None]
        missing = functional.max_pool2d(seen, patch_px) == 0
        return tokens.flatten(1, 2), missing.flatten(1)


def plane_positions(height: int, width: int, n_features: int) -> Tensor:
    """Return sines and cosines of rows and columns, by position in the order of rows.

    A quarter of the numbers each: sines and cosines of the row, then of the column, at wavelengths
    from 2 pi to 2 pi 10,000 patches (as in Vaswani et al. 2017, section 3.5, for each direction).

    Parameters
    ----------
    height, width : int
        Number of rows and columns of patches.
    n_features : int
        A multiple of 4.

    Returns
    -------
    Tensor of shape (height * width, n_features)

    Examples
    --------
    >>> plane_positions(1, 2, 4).round(decimals=2).tolist()
    [[0.0, 1.0, 0.0, 1.0], [0.0, 1.0, 0.8399999737739563, 0.5400000214576721]]
    """
    n_waves = n_features // 4
    waves = 10_000.0 ** -(torch.arange(n_waves) / n_waves)
    rows = (torch.arange(float(height))[:, None] * waves)[:, None].expand(-1, width, -1)
    columns = (torch.arange(float(width))[:, None] * waves)[None].expand(height, -1, -1)
    parts = [rows.sin(), rows.cos(), columns.sin(), columns.cos()]
    return torch.cat(parts, dim=2).flatten(0, 1)
