"""Runs whole analyses from one call."""

from terracausal.workflows.checkup import Check, check_installation
from terracausal.workflows.demonstration import Demonstration, demonstrate, write_demonstration

__all__ = ["Check", "Demonstration", "check_installation", "demonstrate", "write_demonstration"]
