"""Conditional effects of a treatment with several arms, each against a reference arm."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import clone

from terracausal._foundation.errors import OverlapError, RoleError, list_some
from terracausal.effects.cross_prediction import fold_masks, predict_folds
from terracausal.effects.indicator import study_of_indicator
from terracausal.effects.learner import EffectLearner
from terracausal.effects.multi_arm import arms_of
from terracausal.effects.origin import ORIGIN, EffectOrigin
from terracausal.nuisance.cross_fitting import check_training_arms
from terracausal.study import Study
from terracausal.study.study import EmbeddingRole

Floats = NDArray[np.floating[Any]]
Mask = NDArray[np.bool_]
_SHARE = "share_in_arm"


def cross_predict_arms(
    table: pd.DataFrame,
    learner: EffectLearner,
    *,
    treatment: str,
    reference: Any,
    embeddings: pd.DataFrame | None = None,
    role: EmbeddingRole = "both",
    propensities: Mapping[Any, float | str] | None = None,
    n_folds: int = 5,
    **roles: Any,
) -> pd.DataFrame:
    """Predict for each unit the effect of each arm against a reference arm, out of fold.

    For each arm the learner is fitted on the training units of that arm and of the reference, and
    predicts all held-out units, those of further arms among them. All arms share the folds.

    Parameters
    ----------
    table : pandas.DataFrame of shape (n_units, any)
        As for `Study`.
    learner : EffectLearner
        Its settings; fitted anew for each arm and fold. Its `random_state` seeds the folds too.
    treatment : str
        Column with the arm of each unit, any labels.
    reference : object
        The label of the arm that the others are compared with.
    embeddings : pandas.DataFrame of shape (n_sites, n_features), default=None
        Joined by site.
    role : {"confounder", "modifier", "both"}, default="both"
        Role of the embeddings.
    propensities : mapping, default=None
        Known probability of each arm, by label: numbers or columns, as in an RCT. None estimates
        the chance of each arm against the reference.
    n_folds : int, default=5
        Folds of whole clusters.
    **roles : Any
        Further arguments of `Study`, `outcome` among them.

    Returns
    -------
    pandas.DataFrame of shape (n_units, n_arms - 1)
        Columns "ARM − REFERENCE". Each is a priority that knows its folds, to be evaluated on
        scores of the units in that arm or the reference.

    Raises
    ------
    RoleError
        Arms or their probabilities are missing, or a fold leaves an arm with fewer than two units.

    Notes
    -----
    Among units of two arms the treatment is binary, with the propensity
    ``p_arm / (p_arm + p_reference)``. The effect is that given the features, which is the same
    function for all units if assignment is unconfounded given these. Assumes overlap of every arm,
    and no interference.

    Examples
    --------
    >>> from terracausal.effects import TLearner
    >>> rng = np.random.default_rng(0)
    >>> table = pd.DataFrame({"arm": np.arange(90) % 3, "x": rng.normal(size=90)})
    >>> table["y"] = table["arm"] * table["x"]
    >>> cross_predict_arms(
    ...     table, TLearner(), treatment="arm", reference=0, outcome="y", covariates=["x"]
    ... ).columns.tolist()
    ['1 − 0', '2 − 0']
    """
    arms = arms_of(table, treatment, reference, roles)
    shares = _conditional_shares(table, [reference, *arms], propensities)
    studies = {}
    for arm in arms:
        given = {} if shares is None else {"propensity": _SHARE}
        own = table if shares is None else table.assign(**{_SHARE: shares[arm]})
        studies[arm] = study_of_indicator(
            own, own[treatment] == arm, embeddings, role, roles | given
        )
    everyone = study_of_indicator(table, table[treatment] == reference, embeddings, role, roles)
    folds = everyone.folds(n_folds, random_state=getattr(learner, "random_state", None))
    in_arm = table.loc[everyone.units, treatment].to_numpy()
    for arm, study in studies.items():
        pair = np.isin(in_arm, [arm, reference])
        splits = [(train & pair, test) for train, test in fold_masks(study, folds)]
        _check_pair(splits, in_arm == arm, f"{arm!r} against {reference!r}")
    found = {}
    for arm, study in studies.items():
        pair = np.isin(in_arm, [arm, reference])
        name = f"{type(learner).__name__} of arm {arm!r}"
        found[f"{arm} − {reference}"] = predict_folds(
            study, folds, partial(_fit_predict, learner, study, pair), name
        )
    effects = pd.DataFrame(found, index=everyone.units)
    effects.attrs[ORIGIN] = EffectOrigin(repr(learner), folds=folds.labels)
    return effects


def _fit_predict(
    learner: EffectLearner, study: Study, pair: Mask, train: Mask, test: Mask
) -> Floats:
    fitted = clone(learner).fit(study.subset(train & pair))
    return np.asarray(fitted.predict(study.table.loc[test]))


def _check_pair(splits: list[tuple[Mask, Mask]], treated: Mask, words: str) -> None:
    try:
        check_training_arms(splits, treated.astype(np.float64))
    except RoleError as error:
        error.add_note(f"while comparing arm {words}")
        raise


def _conditional_shares(
    table: pd.DataFrame, arms: list[Any], propensities: Mapping[Any, float | str] | None
) -> "dict[Any, pd.Series[float]] | None":
    """Return for each arm its probability given that it is this arm or the reference."""
    if propensities is None:
        return None
    absent = [arm for arm in arms if arm not in propensities]
    if absent:
        raise RoleError(
            f"`propensities` must have the probability of each of {len(arms)} arms; "
            f"{list_some(absent)} missing. Give all, the reference too, or none."
        )
    for name in (name for name in propensities.values() if isinstance(name, str)):
        if name not in table.columns:
            raise RoleError(f"The propensity column {name!r} is not in the table.")
    p = {
        arm: pd.Series(table[given] if isinstance(given, str) else given, index=table.index)
        for arm, given in ((arm, propensities[arm]) for arm in arms)
    }
    total = sum(p.values())
    bad = ~((pd.concat(p, axis=1) > 0).all(axis=1) & (total < 1 + 1e-6))
    if bad.any():
        raise OverlapError(
            "Probabilities of arms must be above 0 and sum to at most 1; those of "
            f"{int(bad.sum())} of {len(bad)} units do not: {list_some(bad.index[bad])}."
        )
    reference = p[arms[0]]
    return {arm: p[arm] / (p[arm] + reference) for arm in arms[1:]}
