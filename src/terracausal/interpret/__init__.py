"""Shows what in the image goes with an effect or a type of place."""

from terracausal.interpret.exemplars import Exemplars, exemplars
from terracausal.interpret.post_hoc_types import PostHocTypes
from terracausal.interpret.profiles import ComponentProfile, component_profile

__all__ = ["ComponentProfile", "Exemplars", "PostHocTypes", "component_profile", "exemplars"]
