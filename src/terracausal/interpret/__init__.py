"""Shows what in the image goes with an effect or a type of place."""

from terracausal.interpret.exemplars import Exemplars, exemplars
from terracausal.interpret.post_hoc_types import PostHocTypes
from terracausal.interpret.profiles import ComponentProfile, component_profile
from terracausal.interpret.type_map import TypeMap, map_types

__all__ = [
    "ComponentProfile",
    "Exemplars",
    "PostHocTypes",
    "TypeMap",
    "component_profile",
    "exemplars",
    "map_types",
]
