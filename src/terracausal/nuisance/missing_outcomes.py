"""Missing outcomes: weights by the inverse probability of having been observed."""

from typing import Any

import numpy as np
import pandas as pd

from terracausal._foundation.errors import OverlapError, RoleError, list_some
from terracausal._foundation.randomness import RandomState
from terracausal.nuisance.cross_fitting import cross_fit
from terracausal.study import Study
from terracausal.study.derived import with_note
from terracausal.study.study import EmbeddingRole

_WEIGHT = "observation_weight"
_OBSERVED = "outcome_observed"


def weight_for_missing_outcomes(
    table: pd.DataFrame,
    *,
    outcome: str,
    embeddings: pd.DataFrame | None = None,
    role: EmbeddingRole = "both",
    learner: Any = "logistic",
    random_state: RandomState = None,
    **roles: Any,
) -> Study:
    """Return a study in which units with an outcome also stand for those without one.

    Whether the outcome was observed is predicted out of fold in each arm, from all that a study
    sees. A unit with an outcome gets the weight 1 / probability (times its own weight), so averages
    speak for all units, if outcomes are missing at random given arm and features.

    Parameters
    ----------
    table : pandas.DataFrame of shape (n_units, any)
        As for `Study`, with NaN where the outcome is missing.
    outcome : str
        Column of the outcome.
    embeddings : pandas.DataFrame of shape (n_sites, n_features), default=None
        Joined by site, for the probabilities and for the study that is returned.
    role : {"confounder", "modifier", "both"}, default="both"
        Role of the embeddings.
    learner : str or scikit-learn classifier, default="logistic"
        Predicts whether the outcome was observed.
    random_state : None, int or Generator, default=None
        Seed.
    **roles : Any
        Further arguments of `Study`.

    Returns
    -------
    Study
        Of the units with an outcome; `describe` counts the others and tells the largest weight.

    Raises
    ------
    RoleError
        No outcome is missing.
    OverlapError
        Some units had almost no chance (below 1 %) of being observed.

    Notes
    -----
    Robins, Rotnitzky & Zhao (1994), JASA 89(427), doi:10.1080/01621459.1994.10476818. Standard
    errors take the weights as known, which is conservative.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> table = pd.DataFrame({"x": rng.normal(size=200), "w": np.arange(200) % 2})
    >>> table["y"] = (table["x"] + table["w"]).where(rng.random(200) < 0.8)
    >>> study = weight_for_missing_outcomes(
    ...     table, outcome="y", treatment="w", covariates=["x"], random_state=0
    ... )
    >>> bool(study.weight.min() > 1)
    True
    """
    if outcome not in table.columns:
        raise RoleError(
            f"The outcome column {outcome!r} is not in the table, which has "
            f"{list_some(table.columns, 12)}. Name one of these."
        )
    observed = table[outcome].notna()
    if observed.all():
        raise RoleError(f"No outcome is missing in {outcome!r}: use Study(...) as it is.")
    taken = [name for name in (_WEIGHT, _OBSERVED) if name in table.columns]
    if taken:
        raise RoleError(f"The table already has the columns {list_some(taken)}. Rename them.")
    everyone = Study(
        table.assign(**{_OBSERVED: observed.astype(float)}), outcome=_OBSERVED, **roles
    )
    if embeddings is not None:
        everyone = everyone.join(embeddings, role)
    # the propensity is not needed here, so any known one spares its learner
    found = cross_fit(everyone, propensity=0.5, outcome_learner=learner, random_state=random_state)
    treated = everyone.treatment == 1
    chance = found.table["outcome_treated"].where(treated, found.table["outcome_control"])
    low = observed & (chance < 0.01)
    if low.any():
        raise OverlapError(
            f"Units with an outcome must have had a fair chance of it; {int(low.sum())} had less "
            f"than 1 %: {list_some(table.index[low])}. Leave out units like these, or use fewer "
            "features for the probability of being observed."
        )
    own = 1.0 if everyone.weight is None else everyone.weight
    weighted = table.assign(**{_WEIGHT: np.where(observed, own / chance.clip(lower=0.01), own)})
    study = Study(weighted, outcome=outcome, **(roles | {"weight": _WEIGHT}))
    if embeddings is not None:
        study = study.join(embeddings, role)
    largest = 1 / chance[observed].min()
    return with_note(
        study,
        f"the other {int(observed.sum())} units stand for them with weights 1 / probability of an "
        f"outcome given arm and features (1 to {largest:.2f})",
    )
