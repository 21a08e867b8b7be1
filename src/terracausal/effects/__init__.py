"""Estimates average and conditional effects from scores and studies."""

from terracausal.effects.average_effect import average_effect
from terracausal.effects.bootstrap import BootstrapEffect, bootstrap_effect
from terracausal.effects.causal_forest import CausalForest
from terracausal.effects.dose_curve import DoseResponse
from terracausal.effects.dose_response import dose_response
from terracausal.effects.dr_learner import DRLearner
from terracausal.effects.entropy_balancing import entropy_balancing, entropy_weights
from terracausal.effects.learner import EffectLearner
from terracausal.effects.multi_arm import multi_arm_effects
from terracausal.effects.origin import EffectOrigin, origin_of
from terracausal.effects.regression_adjustment import regression_adjustment

__all__ = [
    "BootstrapEffect",
    "CausalForest",
    "DRLearner",
    "DoseResponse",
    "EffectLearner",
    "EffectOrigin",
    "average_effect",
    "bootstrap_effect",
    "dose_response",
    "entropy_balancing",
    "entropy_weights",
    "multi_arm_effects",
    "origin_of",
    "regression_adjustment",
]
