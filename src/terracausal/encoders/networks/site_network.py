"""From the pixels of a site to the outputs of a network: standardise, read images, join times."""

import torch
from torch import Tensor, nn


class SiteNetwork(nn.Module):
    """A network of images, shared by all times of a site, with the moments of bands and a head.

    The moments are part of the parameters that are stored, so that pixels in the units of the
    chips go in, and standardising cannot be forgotten.

    Parameters
    ----------
    images : torch.nn.Module
        Maps standardised images (b, n_bands, h, w), NaN where missing, to vectors
        (b, n_features), NaN where an image cannot be read; has an attribute `n_features`.
    n_outputs : int
        Number of outputs of the linear head.
    mean, scale : Tensor of shape (n_bands,)
        Moments of the bands.
    times : torch.nn.Module, default=None
        Joins vectors of several times: called with vectors (b, T, d), missing (b, T) and days
        (b, T), as `TemporalAttention` is. None takes their mean.

    Examples
    --------
    >>> from terracausal.encoders.networks.kernel_max import KernelMaxNetwork
    >>> network = SiteNetwork(KernelMaxNetwork(2), 3, torch.zeros(2), torch.ones(2))
    >>> network(torch.zeros(5, 4, 2, 9, 9), torch.zeros(5, 4)).shape
    torch.Size([5, 3])
    """

    mean: Tensor
    scale: Tensor

    def __init__(
        self,
        images: nn.Module,
        n_outputs: int,
        mean: Tensor,
        scale: Tensor,
        times: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.images = images
        self.times = times
        self.head = nn.Linear(int(images.n_features), n_outputs)  # type: ignore[arg-type]
        self.register_buffer("mean", mean.to(torch.float32))
        self.register_buffer("scale", scale.to(torch.float32))

    @property
    def oriented(self) -> bool:
        """Whether turned and mirrored images are other images to the network."""
        return bool(getattr(self.images, "oriented", False))

    def encode_images(self, images: Tensor) -> Tensor:
        """Return vectors (b, n_features) of images (b, n_bands, h, w) in the units of the chips."""
        standard = (images - self.mean[:, None, None]) / self.scale[:, None, None]
        vectors: Tensor = self.images(standard)
        return vectors

    def encode(self, pixels: Tensor, days: Tensor) -> Tensor:
        """Return one vector by site.

        Parameters
        ----------
        pixels : Tensor of shape (b, n_times, n_bands, h, w)
            In the units of the chips, NaN where missing.
        days : Tensor of shape (b, n_times)
            Days since any origin; read by `times` alone.

        Returns
        -------
        Tensor of shape (b, n_features)
            NaN for a site without an image that can be read.
        """
        by_time = self.encode_images(pixels.flatten(0, 1)).reshape(*pixels.shape[:2], -1)
        missing = by_time.isnan().any(dim=2)
        known = by_time.masked_fill(missing[..., None], 0.0)
        if self.times is None:
            found: Tensor = known.sum(dim=1) / (~missing).sum(dim=1, keepdim=True).clamp_min(1)
        else:
            # a site without images would make the attention divide nothing by nothing
            nothing = missing.all(dim=1, keepdim=True)
            found = self.times(known, missing & ~nothing, days.masked_fill(nothing, 0.0))
        return found.masked_fill(missing.all(dim=1, keepdim=True), torch.nan)

    def forward(self, pixels: Tensor, days: Tensor) -> Tensor:
        """Return the outputs (b, n_outputs) of the head; see `encode`."""
        outputs: Tensor = self.head(self.encode(pixels, days))
        return outputs
