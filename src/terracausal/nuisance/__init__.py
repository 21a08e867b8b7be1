"""Predicts outcome and treatment out of fold, and forms doubly robust scores."""

from terracausal.nuisance.cross_fitting import Nuisances, cross_fit
from terracausal.nuisance.learners import ClusterLogistic, ClusterRidge
from terracausal.nuisance.scores import Scores, doubly_robust_scores

__all__ = [
    "ClusterLogistic",
    "ClusterRidge",
    "Nuisances",
    "Scores",
    "cross_fit",
    "doubly_robust_scores",
]
