"""Runs whole analyses from one call."""

from terracausal.workflows.checkup import Check, check_installation
from terracausal.workflows.choice_regression import ChoiceRegression
from terracausal.workflows.choice_result import ChoiceComparison
from terracausal.workflows.choices import Choices
from terracausal.workflows.comparison import compare_choices
from terracausal.workflows.demonstration import Demonstration, demonstrate, write_demonstration

__all__ = [
    "Check",
    "ChoiceComparison",
    "ChoiceRegression",
    "Choices",
    "Demonstration",
    "check_installation",
    "compare_choices",
    "demonstrate",
    "write_demonstration",
]
