"""Fitting any scikit-learn learner with weights, clusters, a seed and a readable error."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import has_fit_parameter

from terracausal._foundation.errors import list_some
from terracausal._foundation.randomness import draw_seed

Floats = NDArray[np.floating[Any]]


def fit_learner(
    learner: Any,
    features: pd.DataFrame,
    target: Floats,
    *,
    weight: Floats | None = None,
    groups: NDArray[np.int64] | None = None,
    rng: np.random.Generator,
    task: str,
) -> Any:
    """Fit a clone of `learner`; its unset `random_state` parameters are drawn from `rng`.

    Parameters
    ----------
    learner : scikit-learn estimator
    features : pandas.DataFrame of shape (n_units, n_features)
    target : ndarray of shape (n_units,)
    weight : ndarray of shape (n_units,), default=None
        A learner that cannot take weights is refused when there are some.
    groups : ndarray of shape (n_units,), default=None
        Clusters, handed on to learners whose `fit` takes `groups`.
    rng : numpy.random.Generator
    task : str
        What is being fitted, for messages: "the propensity learner on fold 3".

    Returns
    -------
    scikit-learn estimator
        The fitted clone.
    """
    fresh = seeded(learner, rng)
    last = fresh.steps[-1][1] if isinstance(fresh, Pipeline) else fresh
    prefix = f"{fresh.steps[-1][0]}__" if isinstance(fresh, Pipeline) else ""
    arguments: dict[str, Any] = {}
    if weight is not None:
        if not has_fit_parameter(last, "sample_weight"):
            raise ValueError(
                f"Units are weighted here, but {type(last).__name__} ({task}) takes no "
                "sample_weight. Use a learner that does, such as 'ridge'."
            )
        arguments[f"{prefix}sample_weight"] = weight
    if groups is not None and has_fit_parameter(last, "groups"):
        arguments[f"{prefix}groups"] = groups
    try:
        return fresh.fit(features, target, **arguments)
    except Exception as error:
        error.add_note(f"while fitting {task}: {type(last).__name__} on {len(target)} units")
        raise


def seeded(learner: Any, rng: np.random.Generator) -> Any:
    """Return a clone of `learner` whose unset `random_state` parameters are drawn from `rng`.

    Parameters
    ----------
    learner : scikit-learn estimator
    rng : numpy.random.Generator

    Returns
    -------
    scikit-learn estimator
    """
    fresh = clone(learner)
    seeds = {
        name: draw_seed(rng)
        for name, value in sorted(fresh.get_params(deep=True).items())
        if (name == "random_state" or name.endswith("__random_state")) and value is None
    }
    return fresh.set_params(**seeds) if seeds else fresh


def predict_numbers(fitted: Any, features: pd.DataFrame, task: str) -> Floats:
    """Return finite predictions: probabilities of class 1 where there are any.

    Parameters
    ----------
    fitted : scikit-learn estimator
    features : pandas.DataFrame of shape (n_units, n_features)
    task : str
        What was fitted, for messages.

    Returns
    -------
    ndarray of shape (n_units,)
    """
    try:
        numbers = _raw_numbers(fitted, features, task)
    except Exception as error:
        error.add_note(f"while predicting with {task}: {type(fitted).__name__}")
        raise
    bad = int((~np.isfinite(numbers)).sum())
    if bad:
        raise ValueError(
            f"Predictions must be finite; {bad} of {len(numbers)} from {type(fitted).__name__} "
            f"({task}) are NaN or infinite. Check its inputs or use another learner."
        )
    return numbers


def _raw_numbers(fitted: Any, features: pd.DataFrame, task: str) -> Floats:
    if hasattr(fitted, "predict_proba"):
        classes = list(fitted.classes_)
        if not set(classes) <= {0, 1}:
            raise ValueError(
                f"A classifier predicts the probability of 1, so it needs an outcome of 0 and 1; "
                f"{type(fitted).__name__} ({task}) was given {list_some(classes)}. Use a regressor."
            )
        raw = fitted.predict_proba(features)
        values = raw[:, classes.index(1)] if 1 in classes else np.zeros(len(features))
    else:
        values = fitted.predict(features)
    return np.asarray(values, dtype=np.float64).reshape(len(features))
