"""Imagery: turns places and dates into pixels."""

from terracausal.imagery.chips import Chips
from terracausal.imagery.folder import read_chips

__all__ = ["Chips", "read_chips"]
