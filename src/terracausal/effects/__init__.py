"""Estimates average and conditional effects from scores and studies."""

from terracausal.effects.average_effect import average_effect
from terracausal.effects.causal_forest import CausalForest
from terracausal.effects.dr_learner import DRLearner
from terracausal.effects.learner import EffectLearner
from terracausal.effects.origin import EffectOrigin, origin_of

__all__ = [
    "CausalForest",
    "DRLearner",
    "EffectLearner",
    "EffectOrigin",
    "average_effect",
    "origin_of",
]
