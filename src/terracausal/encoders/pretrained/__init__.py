"""Pretrained networks as encoders of chips."""

from terracausal.encoders.pretrained.adapters import ProjectBands, RepeatBand
from terracausal.encoders.pretrained.catalog import registered_weights
from terracausal.encoders.pretrained.encoder import PretrainedEncoder
from terracausal.encoders.pretrained.entry import Preprocessing
from terracausal.encoders.pretrained.finetuning import Finetuning

__all__ = [
    "Finetuning",
    "Preprocessing",
    "PretrainedEncoder",
    "ProjectBands",
    "RepeatBand",
    "registered_weights",
]
