"""Which learner stands behind a name, and which is the default."""

from typing import Any

from sklearn.dummy import DummyClassifier, DummyRegressor

from terracausal._foundation.checks import check_choice
from terracausal.nuisance.boosting import ClusterBoosting, ClusterBoostingClassifier
from terracausal.nuisance.learners import ClusterElasticNet, ClusterLogistic, ClusterRidge

OUTCOME_LEARNERS = {
    "ridge": ClusterRidge,
    "elastic_net": ClusterElasticNet,
    "boosting": ClusterBoosting,
    "logistic": ClusterLogistic,
}
PROPENSITY_LEARNERS = {"logistic": ClusterLogistic, "boosting": ClusterBoostingClassifier}


def outcome_learner_of(given: Any, n_features: int) -> Any:
    """Return the learner that was meant: a name, None for the default, or a learner.

    Parameters
    ----------
    given : str, None or scikit-learn estimator
    n_features : int
        Without any, the default is the mean.

    Returns
    -------
    scikit-learn estimator

    Examples
    --------
    >>> outcome_learner_of(None, 3), outcome_learner_of("boosting", 3)
    (ClusterRidge(), ClusterBoosting())
    """
    return _learner_of("outcome_learner", given, n_features, OUTCOME_LEARNERS, DummyRegressor())


def propensity_learner_of(given: Any, n_features: int) -> Any:
    """Return the learner that was meant: a name, None for the default, or a learner.

    Parameters
    ----------
    given : str, None or scikit-learn classifier
    n_features : int
        Without any, the default is the share treated.

    Returns
    -------
    scikit-learn classifier

    Examples
    --------
    >>> propensity_learner_of(None, 0)
    DummyClassifier()
    """
    share = DummyClassifier(strategy="prior")
    return _learner_of("propensity_learner", given, n_features, PROPENSITY_LEARNERS, share)


def _learner_of(
    name: str, given: Any, n_features: int, known: dict[str, Any], constant: Any
) -> Any:
    if isinstance(given, str):
        return known[check_choice(name, given, tuple(known))]()
    if given is not None:
        return given
    return next(iter(known.values()))() if n_features else constant
