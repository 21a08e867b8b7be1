"""The two stages that effect learners are built from: nuisances inside, and a regression on top.

Symbols: y outcome, w treatment, e propensity, mu0 and mu1 predicted outcomes; shape (n_units,).
"""

from typing import Any, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.dummy import DummyRegressor

from terracausal.nuisance import Nuisances, cross_fit
from terracausal.nuisance.fitting import fit_learner
from terracausal.nuisance.scores import check_propensity
from terracausal.study import Study
from terracausal.study.features import EffectFeatures

Floats = NDArray[np.floating[Any]]


class TwoStage(Protocol):
    """Settings of a learner that fits nuisances on inner folds of whole clusters."""

    outcome_learner: Any
    propensity_learner: Any
    n_components: int | None
    n_folds: int


def inner_nuisances(
    settings: TwoStage, study: Study, rng: np.random.Generator, outcome_learner: Any = None
) -> Nuisances:
    """Cross-fit the nuisances of a study over the inner folds of a learner.

    Parameters
    ----------
    settings : TwoStage
    study : Study
        In canonical order; its known propensity, if any, is used.
    rng : numpy.random.Generator
        Draws the folds, then the seeds of learners.
    outcome_learner : scikit-learn estimator, default=None
        Instead of that of the settings.

    Returns
    -------
    Nuisances
    """
    nuisances = cross_fit(
        study,
        study.folds(settings.n_folds, random_state=rng),
        outcome_learner=settings.outcome_learner if outcome_learner is None else outcome_learner,
        propensity_learner=settings.propensity_learner,
        n_components=settings.n_components,
        random_state=rng,
    )
    check_propensity(nuisances.propensity)
    return nuisances


def fit_stage(
    learner: Any,
    study: Study,
    features: pd.DataFrame,
    target: Floats,
    *,
    rows: NDArray[np.bool_] | None = None,
    weight: Floats | None = None,
    rng: np.random.Generator,
    task: str,
) -> Any:
    """Fit a learner on some units, with the study's weights and clusters.

    Parameters
    ----------
    learner : scikit-learn estimator
    study : Study
    features : pandas.DataFrame of shape (n_units, n_features)
    target : ndarray of shape (n_units,)
    rows : ndarray of bool of shape (n_units,), default=None
        The units to fit on; None takes all.
    weight : ndarray of shape (n_units,), default=None
        Multiplies the study's own; what is used has mean one.
    rng : numpy.random.Generator
    task : str
        For messages.

    Returns
    -------
    scikit-learn estimator
        The fitted clone.
    """
    rows = np.ones(len(target), dtype=bool) if rows is None else rows
    own = study.weight
    v = weight if own is None else own.to_numpy() * (1.0 if weight is None else weight)
    groups = study.frame.cluster_codes
    return fit_learner(
        learner,
        features.loc[rows],
        target[rows],
        weight=None if v is None else v[rows] / v[rows].mean(),
        groups=None if groups is None else groups[rows],
        rng=rng,
        task=task,
    )


def needs_balance(study: Study, use: EffectFeatures) -> bool:
    """Tell whether arms differ in ways that the features in use do not show.

    So it is where a known propensity varies, and where an estimated one sees more than the effect:
    strata, or the columns that `use` leaves out.

    Parameters
    ----------
    study : Study
    use : {"all", "embeddings", "covariates"}

    Returns
    -------
    bool
    """
    known = study.propensity
    if known is not None:
        return bool(np.ptp(known.to_numpy()) > 0)
    seen = study.features("effect", use=use).columns
    return bool(len(study.features("propensity").columns.difference(seen)))


def balance_weights(w: Floats, e: Floats) -> Floats:
    """Return the inverse probability of each unit's own arm.

    Examples
    --------
    >>> balance_weights(np.array([1.0, 0.0]), np.array([0.25, 0.5])).tolist()
    [4.0, 2.0]
    """
    return np.asarray(w / e + (1 - w) / (1 - e))


def arm_balance(
    settings: TwoStage, study: Study, use: EffectFeatures, rng: np.random.Generator
) -> Floats | None:
    """Return the weights that balance the arms of a learner without other use for a propensity.

    Parameters
    ----------
    settings : TwoStage
    study : Study
        In canonical order.
    use : {"all", "embeddings", "covariates"}
    rng : numpy.random.Generator

    Returns
    -------
    ndarray of shape (n_units,) or None
        None where features alone make the arms comparable.
    """
    if not needs_balance(study, use):
        return None
    known, w = study.propensity, study.treatment.to_numpy()
    if known is not None:
        return balance_weights(w, known.to_numpy())
    e = inner_nuisances(settings, study, rng, DummyRegressor()).propensity
    return balance_weights(w, e.to_numpy())
