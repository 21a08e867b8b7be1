"""Asks whether estimated effects rank and calibrate."""

from terracausal.evaluation.targeting import TargetingResult, rank_weighted_effect

__all__ = ["TargetingResult", "rank_weighted_effect"]
