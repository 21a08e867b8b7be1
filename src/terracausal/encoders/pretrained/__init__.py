"""Pretrained networks as encoders of chips."""

from terracausal.encoders.pretrained.adapters import ProjectBands, RepeatBand
from terracausal.encoders.pretrained.catalog import registered_weights
from terracausal.encoders.pretrained.encoder import PretrainedEncoder
from terracausal.encoders.pretrained.entry import Preprocessing

__all__ = [
    "Preprocessing",
    "PretrainedEncoder",
    "ProjectBands",
    "RepeatBand",
    "registered_weights",
]
