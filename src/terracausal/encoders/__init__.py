"""Encoders: turn pixels into numbers, one row per site."""

from terracausal.encoders.band_statistics import BandStatisticsEncoder
from terracausal.encoders.embedding import embed
from terracausal.encoders.kept_embeddings import load_embeddings
from terracausal.encoders.networks.settings import TrainingSettings
from terracausal.encoders.places import LocationEncoder
from terracausal.encoders.pretrained import (
    Finetuning,
    Preprocessing,
    PretrainedEncoder,
    ProjectBands,
    RepeatBand,
    registered_weights,
)
from terracausal.encoders.random_conv import RandomConvEncoder
from terracausal.encoders.random_networks import RandomNetworkEncoder
from terracausal.encoders.scales import MultiScaleEncoder
from terracausal.encoders.sequences import SequenceEncoder
from terracausal.encoders.texture import Texture
from terracausal.encoders.trained import TrainedEncoder
from terracausal.encoders.views import (
    nearest_sites,
    plot_embeddings,
    plot_filters,
    plot_neighbours,
)

__all__ = [
    "BandStatisticsEncoder",
    "Finetuning",
    "LocationEncoder",
    "MultiScaleEncoder",
    "Preprocessing",
    "PretrainedEncoder",
    "ProjectBands",
    "RandomConvEncoder",
    "RandomNetworkEncoder",
    "RepeatBand",
    "SequenceEncoder",
    "Texture",
    "TrainedEncoder",
    "TrainingSettings",
    "embed",
    "load_embeddings",
    "nearest_sites",
    "plot_embeddings",
    "plot_filters",
    "plot_neighbours",
    "registered_weights",
]
