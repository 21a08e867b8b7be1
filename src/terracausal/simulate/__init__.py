"""Simulate: landscapes that look like satellite imagery, and studies whose effects are known."""

from terracausal.simulate.landscape import Landscape, simulate_landscape
from terracausal.simulate.settings import ConfoundingSettings, KernelSettings, WorldSettings
from terracausal.simulate.simulated_study import SimulatedStudy
from terracausal.simulate.worlds import simulate_study

__all__ = [
    "ConfoundingSettings",
    "KernelSettings",
    "Landscape",
    "SimulatedStudy",
    "WorldSettings",
    "simulate_landscape",
    "simulate_study",
]
