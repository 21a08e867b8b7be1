"""A pretrained network inside a torch module that is trained."""

from typing import Any

import torch
from torch import Tensor, nn

from terracausal.encoders.pretrained.encoder import PretrainedEncoder
from terracausal.encoders.pretrained.inference import seen_by_network
from terracausal.encoders.pretrained.networks import ReadyNetwork


class TunedNetwork(nn.Module):
    """A pretrained network, as `SiteNetwork` takes networks of images.

    Parameters
    ----------
    encoder : PretrainedEncoder
        Fitted: bands, units and preprocessing.
    ready : ReadyNetwork
        The network; parameters that shall learn ask for gradients.
    frozen : bool
        Whether nothing learns, so that no gradients are kept.

    Attributes
    ----------
    n_features : int
        Length of the vectors.
    reads_units : bool
        True: images come in the units of the chips, and are not standardised before.
    """

    reads_units = True

    def __init__(self, encoder: PretrainedEncoder, ready: ReadyNetwork, *, frozen: bool) -> None:
        super().__init__()
        self.network = ready.module
        self.n_features = encoder.n_features_
        self.frozen = frozen
        self._forward = ready.forward
        self._encoder = encoder

    def train(self, mode: bool = True) -> "TunedNetwork":
        """Enter training mode, unless the network is frozen: dropout would only add noise."""
        super().train(mode and not self.frozen)
        return self

    def forward(self, images: Tensor) -> Tensor:
        """Return the vectors (b, n_features) of images, NaN where a band has no valid pixel.

        Parameters
        ----------
        images : Tensor of shape (b, n_bands, h, w)
            In the units of the chips, NaN where missing.
        """
        encoder, pixels = self._encoder, images.detach().cpu().numpy()
        whole = encoder._with_pixels(pixels, encoder.bands_)
        found = torch.full((len(images), self.n_features), torch.nan, device=images.device)
        if not whole.any():
            return found
        seen = seen_by_network(
            pixels[whole],
            encoder.adapter_,
            encoder.bands_,
            encoder.units_,
            encoder.preprocessing_,
            str(images.device),
        )
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            vectors: Any = self._forward(seen)
        where = torch.from_numpy(whole).to(images.device)
        return found.masked_scatter(where[:, None], vectors.float())
