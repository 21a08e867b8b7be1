"""Runs whole analyses from one call."""

from terracausal.workflows.checkup import Check, check_installation
from terracausal.workflows.choice_regression import ChoiceRegression
from terracausal.workflows.choice_result import ChoiceComparison
from terracausal.workflows.choices import Choices
from terracausal.workflows.comparison import compare_choices
from terracausal.workflows.confounding import ConfoundingAnalysis, analyze_confounding
from terracausal.workflows.demonstration import Demonstration, demonstrate, write_demonstration
from terracausal.workflows.heterogeneity import analyze_heterogeneity
from terracausal.workflows.heterogeneity_result import HeterogeneityAnalysis
from terracausal.workflows.options import FitOptions, HeterogeneityOptions
from terracausal.workflows.specification_comparison import SpecificationComparison

__all__ = [
    "Check",
    "ChoiceComparison",
    "ChoiceRegression",
    "Choices",
    "ConfoundingAnalysis",
    "Demonstration",
    "FitOptions",
    "HeterogeneityAnalysis",
    "HeterogeneityOptions",
    "SpecificationComparison",
    "analyze_confounding",
    "analyze_heterogeneity",
    "check_installation",
    "compare_choices",
    "demonstrate",
    "write_demonstration",
]
