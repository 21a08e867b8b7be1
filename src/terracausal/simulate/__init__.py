"""Simulate: landscapes that look like satellite imagery, and studies whose effects are known."""

from terracausal.simulate.landscape import Landscape, simulate_landscape
from terracausal.simulate.worlds import SimulatedStudy, WorldSettings, simulate_study

__all__ = ["Landscape", "SimulatedStudy", "WorldSettings", "simulate_landscape", "simulate_study"]
