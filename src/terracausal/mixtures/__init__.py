"""Explains how effects differ by a few latent types of places, read off their images."""

from terracausal.mixtures.choosing import ComponentChoice, choose_components
from terracausal.mixtures.effect_mixture import EffectMixture
from terracausal.mixtures.networks import MixtureNetworks
from terracausal.mixtures.orthogonal import MembershipComparison, compare_orthogonalized
from terracausal.mixtures.results import MixtureWarning as MixtureWarning

__all__ = [
    "ComponentChoice",
    "EffectMixture",
    "MembershipComparison",
    "MixtureNetworks",
    "choose_components",
    "compare_orthogonalized",
]
