"""Average effects of a treatment with several arms, each against a reference arm."""

import warnings
from typing import Any

import numpy as np
import pandas as pd

from terracausal._foundation.errors import OverlapWarning, RoleError, list_some
from terracausal._foundation.randomness import RandomState, random_generator
from terracausal.effects.arm_means import Parts, arm_means
from terracausal.effects.averages import Ratio
from terracausal.effects.indicator import check_treatment_column, study_of_indicator
from terracausal.effects.overlap import lost_note, lost_share, refuse_collapsed_arm
from terracausal.nuisance import cross_fit, doubly_robust_scores
from terracausal.nuisance.scores import EXTREME
from terracausal.study import Estimate
from terracausal.study.study import EmbeddingRole

_ADVICE = (
    "Use fewer confounders, merge arms, or compare two of them with average_effect and "
    "target='overlap'."
)


def multi_arm_effects(
    table: pd.DataFrame,
    *,
    treatment: str,
    reference: Any,
    embeddings: pd.DataFrame | None = None,
    role: EmbeddingRole = "both",
    learners: dict[str, Any] | None = None,
    random_state: RandomState = None,
    **roles: Any,
) -> Estimate:
    """Estimate the average effect of each arm of a treatment against a reference arm.

    The mean outcome under each arm is doubly robust: the chance of that arm and the outcome in it
    are predicted out of fold. Effects are differences of these means over all units.

    Parameters
    ----------
    table : pandas.DataFrame of shape (n_units, any)
        As for `Study`.
    treatment : str
        Column with the arm of each unit, any labels.
    reference : object
        The label of the arm that the others are compared with.
    embeddings : pandas.DataFrame of shape (n_sites, n_features), default=None
        Joined by site.
    role : {"confounder", "modifier", "both"}, default="both"
        Role of the embeddings.
    learners : dict, default=None
        Further arguments of `cross_fit`, such as ``{"outcome_learner": "boosting"}``.
    random_state : None, int or Generator, default=None
        Seed.
    **roles : Any
        Further arguments of `Study`, `outcome` among them. A known propensity is not taken.

    Returns
    -------
    Estimate
        One term per arm but the reference, named "ARM − REFERENCE".

    Raises
    ------
    RoleError
        Arms are missing, fewer than two, or the reference is none of them.
    OverlapError
        One unit carries nearly all of the balancing weight of an arm, or more than half of the
        units lack a counterpart in an arm.

    Notes
    -----
    Cattaneo (2010), Journal of Econometrics 155(2), doi:10.1016/j.jeconom.2009.09.023. With two
    arms and the same folds it is `average_effect`. Assumes no unmeasured confounding, overlap of
    every arm, and no interference.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> table = pd.DataFrame({"arm": np.arange(90) % 3, "x": rng.normal(size=90)})
    >>> table["y"] = table["arm"] + table["x"]
    >>> multi_arm_effects(
    ...     table, treatment="arm", reference=0, outcome="y", covariates=["x"], random_state=0
    ... ).terms
    ('1 − 0', '2 − 0')
    """
    arms = arms_of(table, treatment, reference, roles)
    rng = random_generator(random_state)
    means: dict[Any, Ratio] = {}
    notes: list[str] = []
    rare: list[str] = []
    for arm in (reference, *arms):
        study = study_of_indicator(table, table[treatment] == arm, embeddings, role, roles)
        try:
            nuisances = cross_fit(study, random_state=rng, **(learners or {}))
            with warnings.catch_warnings():
                # of one arm against the rest; below, arms are named
                warnings.simplefilter("ignore", OverlapWarning)
                scores = doubly_robust_scores(study, nuisances)
        except ValueError as error:
            error.add_note(f"while comparing arm {list_some([arm])} (as treated) with all others")
            raise
        y, w, e, mu0, mu1 = (
            scores.table[name].to_numpy(dtype=np.float64)
            for name in ("outcome", "treatment", "propensity", "outcome_control", "outcome_treated")
        )
        if (e < EXTREME).any():
            rare.append(f"{list_some([arm])} ({(e < EXTREME).mean():.1%}, least {e.min():.4f})")
        own = (w == 1) & (scores.weight > 0)
        word = f"in arm {list_some([arm])}"
        refuse_collapsed_arm(1 / e[own], e[own], scores.units[own], word, _ADVICE)
        notes += [
            f"arm {list_some([arm])}: {note}"
            for note in lost_note(*lost_share([w / e], np.ones_like(e), scores.weight), _ADVICE)
        ]
        parts = Parts(y, w, e, mu0, mu1, scores.weight)
        means[arm] = arm_means(parts, "all", "aipw")[1]
    _warn_of_rare_arms(rare, treatment)
    base = means[reference]
    return Estimate(
        np.array([means[arm].value - base.value for arm in arms]),
        np.column_stack([means[arm].influence - base.influence for arm in arms]),
        # the arm indicator of the last study says nothing about who was compared
        type(study.frame)(study.units, study.clusters, study.coordinates),
        tuple(f"{arm} − {reference}" for arm in arms),
        f"average effects of {treatment!r} against {reference!r} on all units",
        "augmented inverse propensity weighting of each arm (doubly robust)",
        None,
        (
            "no unmeasured confounding given the features",
            "overlap: every unit could have been in each arm",
            "no interference",
        ),
        tuple(
            f"{int((table.loc[study.units, treatment] == arm).sum())} units in arm {arm!r}"
            for arm in (reference, *arms)
        )
        + tuple(notes),
    )


def _warn_of_rare_arms(rare: list[str], treatment: str) -> None:
    if rare:
        warnings.warn(
            f"Some units had a chance below {EXTREME:g} of an arm of {treatment!r}: "
            f"{', '.join(rare)}. Those who got it carry huge weight. {_ADVICE}",
            OverlapWarning,
            stacklevel=3,
        )


def arms_of(
    table: pd.DataFrame, treatment: str, reference: Any, roles: dict[str, Any]
) -> list[Any]:
    """Return the labels but the reference, in a fixed order."""
    check_treatment_column(
        table,
        treatment,
        roles,
        "One `propensity` does not describe several arms (multi_arm_effects estimates the chance "
        "of each, cross_predict_arms takes `propensities`, one for each arm)",
    )
    arms = sorted(table[treatment].unique(), key=str)
    if len(arms) < 2 or reference not in arms:
        raise RoleError(
            f"The reference must be one of at least two arms of {treatment!r}; got {reference!r}, "
            f"and the arms are {list_some(arms, 12)}."
        )
    return [arm for arm in arms if arm != reference]
