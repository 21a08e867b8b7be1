"""Binds one row per unit to its causal roles; folds; defines what an Estimate is."""

from terracausal.study.data import StudyData
from terracausal.study.estimate import Estimate, median_estimate
from terracausal.study.folds import Folds
from terracausal.study.study import Study
from terracausal.study.units import Dependence, UnitFrame
from terracausal.study.wild_bootstrap import WildBootstrap, wild_cluster_bootstrap

__all__ = [
    "Dependence",
    "Estimate",
    "Folds",
    "Study",
    "StudyData",
    "UnitFrame",
    "WildBootstrap",
    "median_estimate",
    "wild_cluster_bootstrap",
]
