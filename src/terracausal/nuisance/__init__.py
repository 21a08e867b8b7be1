"""Predicts outcome and treatment out of fold, and forms doubly robust scores."""

from terracausal.nuisance.boosting import ClusterBoosting, ClusterBoostingClassifier
from terracausal.nuisance.cross_fitting import Nuisances, cross_fit, repeat_cross_fit
from terracausal.nuisance.image_learner import ImageNuisanceLearner
from terracausal.nuisance.learners import ClusterElasticNet, ClusterLogistic, ClusterRidge
from terracausal.nuisance.missing_outcomes import weight_for_missing_outcomes
from terracausal.nuisance.network_choice import NetworkComparison, choose_network
from terracausal.nuisance.scores import Scores, doubly_robust_scores

__all__ = [
    "ClusterBoosting",
    "ClusterBoostingClassifier",
    "ClusterElasticNet",
    "ClusterLogistic",
    "ClusterRidge",
    "ImageNuisanceLearner",
    "NetworkComparison",
    "Nuisances",
    "Scores",
    "choose_network",
    "cross_fit",
    "doubly_robust_scores",
    "repeat_cross_fit",
    "weight_for_missing_outcomes",
]
