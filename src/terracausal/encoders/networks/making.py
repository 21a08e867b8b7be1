"""Networks by name, with heads for any number of outputs, and the training that each needs."""

from collections.abc import Callable
from importlib import import_module
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from terracausal._foundation.checks import check_choice
from terracausal.encoders.networks.settings import TrainingSettings
from terracausal.encoders.networks.site_network import SiteNetwork

NetworkChoice: TypeAlias = "str | Callable[[int], Any]"

_NETWORKS = {
    "cnn": ("convolutional", "ConvNetwork"),
    "channelvit": ("channel_vit", "ChannelViT"),
    "kernel_max": ("kernel_max", "KernelMaxNetwork"),
}
# what found the pattern at every seed of a simulated world; the general defaults do not
_ADVISED = {"KernelMaxNetwork": TrainingSettings(learning_rate=0.1, n_epochs=20, n_restarts=4)}


def network_maker(network: NetworkChoice) -> Callable[[int], Any]:
    """Return the function of the number of bands that a name stands for.

    Examples
    --------
    >>> network_maker("kernel_max").__name__
    'KernelMaxNetwork'
    """
    if callable(network):
        return network
    check_choice("network", network, tuple(_NETWORKS))
    module, name = _NETWORKS[network]
    found: Callable[[int], Any] = getattr(
        import_module(f"terracausal.encoders.networks.{module}"), name
    )
    return found


def advised_training(network: NetworkChoice) -> TrainingSettings:
    """Return how a network, or a `functools.partial` of one, is best trained.

    Examples
    --------
    >>> advised_training("kernel_max").n_restarts, advised_training("cnn").n_restarts
    (4, 1)
    """
    maker = network_maker(network)
    name = getattr(getattr(maker, "func", maker), "__name__", "")
    return _ADVISED.get(name, TrainingSettings())


def new_site_network(
    network: NetworkChoice, times: str, n_bands: int, n_outputs: int, moments: tuple[Tensor, Tensor]
) -> SiteNetwork:
    """Return a network from the pixels of a site to outputs, with fresh parameters.

    Parameters
    ----------
    network : str or callable
        As for `TrainedEncoder`.
    times : {'mean', 'attention'}
        How the vectors of several images become one.
    n_bands, n_outputs : int
    moments : pair of Tensor of shape (n_bands,)
        Mean and scale of the bands.

    Returns
    -------
    SiteNetwork

    Examples
    --------
    >>> import torch
    >>> moments = torch.zeros(2), torch.ones(2)
    >>> new_site_network("kernel_max", "mean", 2, 3, moments).head.out_features
    3
    """
    images: nn.Module = network_maker(network)(n_bands)
    if not hasattr(images, "n_features"):
        raise TypeError(
            "`network` must return a torch module with an attribute `n_features`, the length "
            f"of its vectors; {type(images).__name__} has none."
        )
    joined = None
    if times == "attention":
        from terracausal.encoders.networks.temporal import TemporalAttention

        n_features = int(images.n_features)  # type: ignore[arg-type]
        n_heads = next((n for n in (8, 4, 2, 1) if n_features % (2 * n) == 0), 1)
        joined = TemporalAttention(n_features, n_heads)
    if getattr(images, "reads_units", False):
        moments = torch.zeros_like(moments[0]), torch.ones_like(moments[1])
    return SiteNetwork(images, n_outputs, *moments, joined)


def check_bands(network: NetworkChoice, bands: tuple[str, ...]) -> None:
    """Let a network that knows its bands refuse others."""
    check = getattr(network, "check_bands", None)
    if check is not None:
        check(bands)
