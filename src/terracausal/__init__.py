"""terracausal: what a policy did, where, and for whom, read with satellite images of the places.

Every name below is imported when it is first used, so `import terracausal` is quick and loads
neither torch, econml nor matplotlib.
"""

from importlib import import_module
from importlib.metadata import version as _version
from typing import TYPE_CHECKING, Any

_DOORS = {
    "BandStatisticsEncoder": "encoders",
    "CausalForest": "effects",
    "Chips": "imagery",
    "Choices": "workflows",
    "DRLearner": "effects",
    "EffectMixture": "mixtures",
    "EncodedLearner": "effects",
    "Estimate": "study",
    "Finetuning": "encoders",
    "Folds": "study",
    "ImageDRLearner": "effects",
    "ImageNuisanceLearner": "nuisance",
    "ImageRLearner": "effects",
    "LinearDRLearner": "effects",
    "LocationEncoder": "encoders",
    "MixtureNetworks": "mixtures",
    "MultiScaleEncoder": "encoders",
    "Nuisances": "nuisance",
    "PostHocTypes": "interpret",
    "PretrainedEncoder": "encoders",
    "RLearner": "effects",
    "RandomConvEncoder": "encoders",
    "RandomNetworkEncoder": "encoders",
    "Report": "report",
    "SLearner": "effects",
    "Scores": "nuisance",
    "SequenceEncoder": "encoders",
    "Study": "study",
    "StudyData": "study",
    "TLearner": "effects",
    "TargetingResult": "evaluation",
    "TrainedEncoder": "encoders",
    "TunedEffectLearner": "effects",
    "XLearner": "effects",
    "analyze_confounding": "workflows",
    "analyze_heterogeneity": "workflows",
    "average_effect": "effects",
    "best_linear_projection": "evaluation",
    "bootstrap_effect": "effects",
    "calibration_test": "evaluation",
    "check_balance": "evaluation",
    "check_overlap": "evaluation",
    "check_propensity": "evaluation",
    "choose_components": "mixtures",
    "choose_network": "nuisance",
    "compare_choices": "workflows",
    "compare_learners": "effects",
    "compare_orthogonalized": "mixtures",
    "compare_policies": "evaluation",
    "compare_priorities": "evaluation",
    "component_profile": "interpret",
    "conformal_intervals": "effects",
    "cross_fit": "nuisance",
    "cross_predict_arms": "effects",
    "dose_response": "effects",
    "doubly_robust_scores": "nuisance",
    "embed": "encoders",
    "entropy_balancing": "effects",
    "exemplars": "interpret",
    "grouped_effects": "evaluation",
    "image_heterogeneity_test": "evaluation",
    "learn_policy": "evaluation",
    "load_dataset": "datasets",
    "load_embeddings": "encoders",
    "map_types": "interpret",
    "multi_arm_effects": "effects",
    "open_chips": "imagery",
    "policy_value": "evaluation",
    "rank_weighted_effect": "evaluation",
    "read_chips": "imagery",
    "regression_adjustment": "effects",
    "repeat_cross_fit": "nuisance",
    "simulate_study": "simulate",
    "spatial_autocorrelation": "evaluation",
    "split_sample_inference": "evaluation",
    "target_sites": "evaluation",
    "targeting_curve": "evaluation",
    "treat_within_budget": "evaluation",
    "wild_cluster_bootstrap": "study",
}

__all__ = sorted(_DOORS)
__version__ = _version("terracausal")


def __getattr__(name: str) -> Any:
    if name not in _DOORS:
        raise AttributeError(f"module 'terracausal' has no attribute {name!r}")
    return getattr(import_module(f"terracausal.{_DOORS[name]}"), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]


if TYPE_CHECKING:
    from terracausal.datasets import load_dataset as load_dataset
    from terracausal.effects import CausalForest as CausalForest
    from terracausal.effects import DRLearner as DRLearner
    from terracausal.effects import EncodedLearner as EncodedLearner
    from terracausal.effects import ImageDRLearner as ImageDRLearner
    from terracausal.effects import ImageRLearner as ImageRLearner
    from terracausal.effects import LinearDRLearner as LinearDRLearner
    from terracausal.effects import RLearner as RLearner
    from terracausal.effects import SLearner as SLearner
    from terracausal.effects import TLearner as TLearner
    from terracausal.effects import TunedEffectLearner as TunedEffectLearner
    from terracausal.effects import XLearner as XLearner
    from terracausal.effects import average_effect as average_effect
    from terracausal.effects import bootstrap_effect as bootstrap_effect
    from terracausal.effects import compare_learners as compare_learners
    from terracausal.effects import conformal_intervals as conformal_intervals
    from terracausal.effects import cross_predict_arms as cross_predict_arms
    from terracausal.effects import dose_response as dose_response
    from terracausal.effects import entropy_balancing as entropy_balancing
    from terracausal.effects import multi_arm_effects as multi_arm_effects
    from terracausal.effects import regression_adjustment as regression_adjustment
    from terracausal.encoders import BandStatisticsEncoder as BandStatisticsEncoder
    from terracausal.encoders import Finetuning as Finetuning
    from terracausal.encoders import LocationEncoder as LocationEncoder
    from terracausal.encoders import MultiScaleEncoder as MultiScaleEncoder
    from terracausal.encoders import PretrainedEncoder as PretrainedEncoder
    from terracausal.encoders import RandomConvEncoder as RandomConvEncoder
    from terracausal.encoders import RandomNetworkEncoder as RandomNetworkEncoder
    from terracausal.encoders import SequenceEncoder as SequenceEncoder
    from terracausal.encoders import TrainedEncoder as TrainedEncoder
    from terracausal.encoders import embed as embed
    from terracausal.encoders import load_embeddings as load_embeddings
    from terracausal.evaluation import TargetingResult as TargetingResult
    from terracausal.evaluation import best_linear_projection as best_linear_projection
    from terracausal.evaluation import calibration_test as calibration_test
    from terracausal.evaluation import check_balance as check_balance
    from terracausal.evaluation import check_overlap as check_overlap
    from terracausal.evaluation import check_propensity as check_propensity
    from terracausal.evaluation import compare_policies as compare_policies
    from terracausal.evaluation import compare_priorities as compare_priorities
    from terracausal.evaluation import grouped_effects as grouped_effects
    from terracausal.evaluation import image_heterogeneity_test as image_heterogeneity_test
    from terracausal.evaluation import learn_policy as learn_policy
    from terracausal.evaluation import policy_value as policy_value
    from terracausal.evaluation import rank_weighted_effect as rank_weighted_effect
    from terracausal.evaluation import spatial_autocorrelation as spatial_autocorrelation
    from terracausal.evaluation import split_sample_inference as split_sample_inference
    from terracausal.evaluation import target_sites as target_sites
    from terracausal.evaluation import targeting_curve as targeting_curve
    from terracausal.evaluation import treat_within_budget as treat_within_budget
    from terracausal.imagery import Chips as Chips
    from terracausal.imagery import open_chips as open_chips
    from terracausal.imagery import read_chips as read_chips
    from terracausal.interpret import PostHocTypes as PostHocTypes
    from terracausal.interpret import component_profile as component_profile
    from terracausal.interpret import exemplars as exemplars
    from terracausal.interpret import map_types as map_types
    from terracausal.mixtures import EffectMixture as EffectMixture
    from terracausal.mixtures import MixtureNetworks as MixtureNetworks
    from terracausal.mixtures import choose_components as choose_components
    from terracausal.mixtures import compare_orthogonalized as compare_orthogonalized
    from terracausal.nuisance import ImageNuisanceLearner as ImageNuisanceLearner
    from terracausal.nuisance import Nuisances as Nuisances
    from terracausal.nuisance import Scores as Scores
    from terracausal.nuisance import choose_network as choose_network
    from terracausal.nuisance import cross_fit as cross_fit
    from terracausal.nuisance import doubly_robust_scores as doubly_robust_scores
    from terracausal.nuisance import repeat_cross_fit as repeat_cross_fit
    from terracausal.report import Report as Report
    from terracausal.simulate import simulate_study as simulate_study
    from terracausal.study import Estimate as Estimate
    from terracausal.study import Folds as Folds
    from terracausal.study import Study as Study
    from terracausal.study import StudyData as StudyData
    from terracausal.study import wild_cluster_bootstrap as wild_cluster_bootstrap
    from terracausal.workflows import Choices as Choices
    from terracausal.workflows import analyze_confounding as analyze_confounding
    from terracausal.workflows import analyze_heterogeneity as analyze_heterogeneity
    from terracausal.workflows import compare_choices as compare_choices
