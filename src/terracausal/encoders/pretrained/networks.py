"""Networks ready to encode: built by transformers, torchgeo or timm, with the weights of a file."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from terracausal._foundation.errors import list_some

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class ReadyNetwork:
    """A network and how its embedding is read.

    Parameters
    ----------
    module : torch.nn.Module
        In evaluation mode.
    forward : callable
        Returns the embeddings (b, n_features) of images (b, n_bands, size_px, size_px), or of
        sequences (b, n_frames, n_bands, size_px, size_px).
    """

    module: Any
    forward: Callable[["Tensor"], "Tensor"]


@dataclass(frozen=True)
class NetworkRequest:
    """What a network is built from.

    Parameters
    ----------
    name : str
        Of the weights, for messages.
    state : mapping of str to Tensor
        The weights.
    folder : str
        Where they lie, with their configuration.
    layer : str
        Which output is the embedding.
    n_bands, size_px : int
        Of the images that it will see.
    wavelengths_nm, bandwidths_nm : tuple of float
        Of the bands, where the network asks for them.
    resolution_m : float or None
        Length of a pixel that the network will see.
    """

    name: str
    state: Mapping[str, Any]
    folder: str
    layer: str
    n_bands: int
    size_px: int
    wavelengths_nm: tuple[float, ...] = ()
    bandwidths_nm: tuple[float, ...] = ()
    resolution_m: float | None = None


def refuse_missing(name: str, missing: list[str], shapes: list[str]) -> None:
    """Refuse weights that leave parts of the network at random.

    Parameters
    ----------
    name : str
        Of the weights.
    missing : list of str
        Names of tensors that the network has and the file lacks.
    shapes : list of str
        Names of tensors whose shapes differ.
    """
    if missing or shapes:
        kinds = [
            f"{len(names)} {what} ({list_some(names, 4)})"
            for names, what in ((missing, "are missing"), (shapes, "have other shapes"))
            if names
        ]
        raise ValueError(
            f"The file of {name!r} does not fit the network: of its tensors {' and '.join(kinds)}. "
            "These parts would be random. Use the weights of this network, or another `layer`."
        )
