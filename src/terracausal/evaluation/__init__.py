"""Asks whether effects rank, and whether the adjustment behind them can be believed."""

from terracausal.evaluation.balance import BalanceCheck, check_balance
from terracausal.evaluation.calibration import CalibrationTest, calibration_test
from terracausal.evaluation.group_comparison import GroupComparison
from terracausal.evaluation.grouped import GroupedEffects, grouped_effects
from terracausal.evaluation.image_heterogeneity import (
    ImageHeterogeneityTest,
    image_heterogeneity_test,
)
from terracausal.evaluation.overlap import OverlapCheck, check_overlap
from terracausal.evaluation.policies import policy_value, treat_within_budget
from terracausal.evaluation.policy_comparison import PolicyComparison, compare_policies
from terracausal.evaluation.policy_tree import LearnedPolicy, learn_policy
from terracausal.evaluation.priority_comparison import (
    PriorityComparison,
    compare_priorities,
    targeting_curve,
)
from terracausal.evaluation.projection import best_linear_projection
from terracausal.evaluation.propensity import PropensityCheck, check_propensity
from terracausal.evaluation.spatial import (
    SpatialAutocorrelation,
    residuals_of,
    spatial_autocorrelation,
)
from terracausal.evaluation.split_sample import (
    SplitSampleInference,
    split_sample_inference,
)
from terracausal.evaluation.targeted_sites import TargetedSites, target_sites
from terracausal.evaluation.targeting import TargetingResult, rank_weighted_effect
from terracausal.evaluation.trimming import TrimmedUnits, trimmed_units

__all__ = [
    "BalanceCheck",
    "CalibrationTest",
    "GroupComparison",
    "GroupedEffects",
    "ImageHeterogeneityTest",
    "LearnedPolicy",
    "OverlapCheck",
    "PolicyComparison",
    "PriorityComparison",
    "PropensityCheck",
    "SpatialAutocorrelation",
    "SplitSampleInference",
    "TargetedSites",
    "TargetingResult",
    "TrimmedUnits",
    "best_linear_projection",
    "calibration_test",
    "check_balance",
    "check_overlap",
    "check_propensity",
    "compare_policies",
    "compare_priorities",
    "grouped_effects",
    "image_heterogeneity_test",
    "learn_policy",
    "policy_value",
    "rank_weighted_effect",
    "residuals_of",
    "spatial_autocorrelation",
    "split_sample_inference",
    "target_sites",
    "targeting_curve",
    "treat_within_budget",
    "trimmed_units",
]
