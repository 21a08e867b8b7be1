"""Binds one row per unit to its causal roles; folds; defines what an Estimate is."""

from terracausal.study.data import StudyData
from terracausal.study.estimate import Dependence, Estimate, UnitFrame
from terracausal.study.folds import Folds
from terracausal.study.study import Study

__all__ = ["Dependence", "Estimate", "Folds", "Study", "StudyData", "UnitFrame"]
