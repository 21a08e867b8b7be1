"""Shows what in the image goes with an effect or a type of place."""

from terracausal.interpret.exemplars import Exemplars, exemplars
from terracausal.interpret.profiles import ComponentProfile, component_profile

__all__ = ["ComponentProfile", "Exemplars", "component_profile", "exemplars"]
