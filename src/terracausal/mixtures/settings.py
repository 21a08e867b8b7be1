"""What can be chosen, and what cannot be combined."""

from dataclasses import dataclass
from typing import Literal, get_args

from terracausal._foundation.checks import check_choice

Family = Literal[
    "normal",
    "log_normal",
    "student_t",
    "left_censored",
    "zero_inflated",
    "bernoulli",
    "poisson",
    "negative_binomial",
]
Noise = Literal["arm", "arm_and_component"]
Effect = Literal["constant", "covariates", "image"]
Adjustment = Literal["baseline", "orthogonal"]
Baseline = Literal["shared", "by_type"]
Guide = Literal["full_rank", "low_rank", "mean_field", "laplace", "nuts"]
MIN_REFITS = 10
MIN_SITES = 10  # of each component
OF_RESIDUALS = ("normal", "student_t")


@dataclass(frozen=True)
class MixtureSpec:
    """What is fitted, short of the data.

    Parameters
    ----------
    n_components : int, default=2
    family, noise, effect, adjustment, baseline : str
        As in `EffectMixture`.
    """

    n_components: int = 2
    family: str = "normal"
    noise: str = "arm"
    effect: str = "constant"
    adjustment: str = "baseline"
    baseline: str = "shared"


def check_settings(spec: MixtureSpec, guide: str) -> None:
    """Refuse settings that do not exist, or do not go together.

    Parameters
    ----------
    spec : MixtureSpec
    guide : str

    Raises
    ------
    ValueError
        One is unknown, or the family cannot be orthogonalized.
    """
    check_choice("family", spec.family, get_args(Family))
    check_choice("noise", spec.noise, get_args(Noise))
    check_choice("effect", spec.effect, get_args(Effect))
    check_choice("adjustment", spec.adjustment, get_args(Adjustment))
    check_choice("baseline", spec.baseline, get_args(Baseline))
    check_choice("guide", guide, get_args(Guide))
    if spec.adjustment == "orthogonal" and spec.family not in OF_RESIDUALS:
        raise ValueError(
            "adjustment='orthogonal' fits what is left of outcomes after their prediction, which "
            f"is of no family but {' and '.join(map(repr, OF_RESIDUALS))}; got "
            f"family={spec.family!r}."
        )
