"""Which learner stands behind a name, and which is the default."""

from typing import Any

from sklearn.dummy import DummyClassifier, DummyRegressor

from terracausal._foundation.checks import check_choice
from terracausal._foundation.errors import list_some
from terracausal.nuisance.boosting import ClusterBoosting, ClusterBoostingClassifier
from terracausal.nuisance.learners import ClusterElasticNet, ClusterLogistic, ClusterRidge

OUTCOME_LEARNERS = {
    "ridge": ClusterRidge,
    "elastic_net": ClusterElasticNet,
    "boosting": ClusterBoosting,
    "logistic": ClusterLogistic,
}
EFFECT_LEARNERS = {name: OUTCOME_LEARNERS[name] for name in ("ridge", "elastic_net", "boosting")}
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


def effect_learner_of(given: Any) -> Any:
    """Return the regressor that was meant for effects: a name, None for the default, or a learner.

    Parameters
    ----------
    given : str, None or scikit-learn regressor

    Returns
    -------
    scikit-learn regressor

    Examples
    --------
    >>> effect_learner_of(None), effect_learner_of("elastic_net")
    (ClusterRidge(), ClusterElasticNet())
    """
    learner = _learner_of("effect_learner", given, 1, EFFECT_LEARNERS, None)
    if hasattr(learner, "predict_proba"):
        raise ValueError(
            "`effect_learner` must be a regressor, since effects are numbers; got the classifier "
            f"{type(learner).__name__}."
        )
    return learner


def _learner_of(
    name: str, given: Any, n_features: int, known: dict[str, Any], constant: Any
) -> Any:
    if isinstance(given, str):
        return known[check_choice(name, given, tuple(known))]()
    if given is not None:
        return _checked(name, given)
    return next(iter(known.values()))() if n_features else constant


def _checked(name: str, given: Any) -> Any:
    """Refuse what cannot be fitted and asked, before anything is trained."""
    if isinstance(given, type):
        raise TypeError(
            f"`{name}` must be a learner; got the class {given.__name__}. Call it: "
            f"{given.__name__}()."
        )
    absent = [method for method in ("fit", "predict") if not hasattr(given, method)]
    if absent:
        raise TypeError(
            f"`{name}` must be a scikit-learn learner; {type(given).__name__} has no "
            f"{' and no '.join(absent)}. Known names: {list_some(_NAMES[name], 12)}."
        )
    return given


_NAMES = {
    "outcome_learner": OUTCOME_LEARNERS,
    "propensity_learner": PROPENSITY_LEARNERS,
    "effect_learner": EFFECT_LEARNERS,
}
