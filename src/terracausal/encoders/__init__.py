"""Encoders: turn pixels into numbers, one row per site."""

from terracausal.encoders.band_statistics import BandStatisticsEncoder
from terracausal.encoders.random_conv import RandomConvEncoder

__all__ = ["BandStatisticsEncoder", "RandomConvEncoder"]
