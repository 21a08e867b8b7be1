"""Estimates average and conditional effects from scores and studies."""

from terracausal.effects.arm_learners import cross_predict_arms
from terracausal.effects.average_effect import average_effect
from terracausal.effects.bootstrap import BootstrapEffect, bootstrap_effect
from terracausal.effects.causal_forest import CausalForest
from terracausal.effects.conformal import ConformalIntervals, conformal_intervals
from terracausal.effects.dose_curve import DoseResponse
from terracausal.effects.dose_response import dose_response
from terracausal.effects.dr_learner import DRLearner
from terracausal.effects.encoded_learner import EncodedLearner
from terracausal.effects.entropy_balancing import entropy_balancing, entropy_weights
from terracausal.effects.image_learners import ImageDRLearner, ImageRLearner
from terracausal.effects.learner import EffectLearner
from terracausal.effects.linear_dr_learner import LinearDRLearner
from terracausal.effects.multi_arm import multi_arm_effects
from terracausal.effects.origin import EffectOrigin, mean_of_repeats, origin_of, repeats_of
from terracausal.effects.outcome_learners import SLearner, TLearner
from terracausal.effects.r_learner import RLearner
from terracausal.effects.r_loss import LearnerComparison, compare_learners
from terracausal.effects.regression_adjustment import regression_adjustment
from terracausal.effects.tuned_learner import TunedEffectLearner
from terracausal.effects.x_learner import XLearner

__all__ = [
    "BootstrapEffect",
    "CausalForest",
    "ConformalIntervals",
    "DRLearner",
    "DoseResponse",
    "EffectLearner",
    "EffectOrigin",
    "EncodedLearner",
    "ImageDRLearner",
    "ImageRLearner",
    "LearnerComparison",
    "LinearDRLearner",
    "RLearner",
    "SLearner",
    "TLearner",
    "TunedEffectLearner",
    "XLearner",
    "average_effect",
    "bootstrap_effect",
    "compare_learners",
    "conformal_intervals",
    "cross_predict_arms",
    "dose_response",
    "entropy_balancing",
    "entropy_weights",
    "mean_of_repeats",
    "multi_arm_effects",
    "origin_of",
    "regression_adjustment",
    "repeats_of",
]
