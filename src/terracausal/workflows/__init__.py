"""Runs whole analyses from one call."""

from terracausal.workflows.checkup import Check, check_installation
from terracausal.workflows.confounding import ConfoundingAnalysis, analyze_confounding
from terracausal.workflows.demonstration import Demonstration, demonstrate, write_demonstration
from terracausal.workflows.options import FitOptions
from terracausal.workflows.specification_comparison import SpecificationComparison

__all__ = [
    "Check",
    "ConfoundingAnalysis",
    "Demonstration",
    "FitOptions",
    "SpecificationComparison",
    "analyze_confounding",
    "check_installation",
    "demonstrate",
    "write_demonstration",
]
