"""Networks in torch and how they are trained; each is imported only when it is asked for."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

_DOORS = {
    "ChannelViT": "channel_vit",
    "ConvNetwork": "convolutional",
    "KernelMaxNetwork": "kernel_max",
    "SiteNetwork": "site_network",
    "TemporalAttention": "temporal",
    "TrainedNetwork": "training",
    "TrainingSettings": "settings",
    "UnitTargets": "targets",
    "train_network": "training",
}

__all__ = sorted(_DOORS)


def __getattr__(name: str) -> Any:
    if name not in _DOORS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_DOORS[name]}"), name)


if TYPE_CHECKING:
    from terracausal.encoders.networks.channel_vit import ChannelViT as ChannelViT
    from terracausal.encoders.networks.convolutional import ConvNetwork as ConvNetwork
    from terracausal.encoders.networks.kernel_max import KernelMaxNetwork as KernelMaxNetwork
    from terracausal.encoders.networks.settings import TrainingSettings as TrainingSettings
    from terracausal.encoders.networks.site_network import SiteNetwork as SiteNetwork
    from terracausal.encoders.networks.targets import UnitTargets as UnitTargets
    from terracausal.encoders.networks.temporal import TemporalAttention as TemporalAttention
    from terracausal.encoders.networks.training import TrainedNetwork as TrainedNetwork
    from terracausal.encoders.networks.training import train_network as train_network
