"""Gradient-boosted trees whose number is chosen on whole held-out clusters."""

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.utils.validation import check_is_fitted, validate_data

from terracausal._foundation.checks import check_count, check_positive
from terracausal.nuisance.learners import cluster_splits

Floats = NDArray[np.floating[Any]]


class _Boosting(BaseEstimator):
    """What both boosters share: the number of trees is chosen on held-out clusters."""

    def __init__(
        self,
        max_trees: int = 200,
        learning_rate: float = 0.05,
        max_leaves: int = 15,
        n_folds: int = 3,
        random_state: int | None = None,
    ) -> None:
        self.max_trees = max_trees
        self.learning_rate = learning_rate
        self.max_leaves = max_leaves
        self.n_folds = n_folds
        self.random_state = random_state

    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        groups: ArrayLike | None = None,
    ) -> Self:
        """Choose the number of trees and fit.

        Parameters
        ----------
        X : array-like of shape (n_units, n_features)
        y : array-like of shape (n_units,)
        sample_weight : array-like of shape (n_units,), default=None
        groups : array-like of shape (n_units,), default=None
            Clusters; None takes every unit as its own.

        Returns
        -------
        The same object.
        """
        check_count("max_trees", self.max_trees)
        check_count("max_leaves", self.max_leaves, minimum=2)
        check_count("n_folds", self.n_folds, minimum=2)
        check_positive("learning_rate", self.learning_rate)
        design, target = validate_data(self, X, y, dtype=np.float64)
        weight = np.ones(len(target)) if sample_weight is None else np.asarray(sample_weight)
        self._learn_target(target)
        losses = np.zeros(self.max_trees)
        stratify = isinstance(self, ClassifierMixin)
        for train, test in cluster_splits(target, groups, self.n_folds, stratify=stratify):
            if len(np.unique(target[train])) < 2:
                continue
            fitted = self._grow(self.max_trees, design[train], target[train], weight[train])
            losses += [
                weight[test] @ self._loss(stage, target[test])
                for stage in self._stages(fitted, design[test])
            ]
        self.n_trees_ = int(np.argmin(losses)) + 1 if losses.any() else self.max_trees
        self.trees_ = self._grow(self.n_trees_, design, target, weight)
        return self

    def _grow(self, n_trees: int, design: Floats, target: Floats, weight: Floats) -> Any:
        kind = (
            HistGradientBoostingClassifier
            if isinstance(self, ClassifierMixin)
            else HistGradientBoostingRegressor
        )
        learner = kind(
            learning_rate=self.learning_rate,
            max_iter=n_trees,
            max_leaf_nodes=self.max_leaves,
            # early stopping would hold out single rows, whose neighbours give them away
            early_stopping=False,
            random_state=self.random_state,
        )
        return learner.fit(design, target, sample_weight=weight)

    def _learn_target(self, target: Floats) -> None:
        """Note what the target looks like."""

    def _stages(self, fitted: Any, design: Floats) -> Any:
        raise NotImplementedError

    def _loss(self, predicted: Floats, target: Floats) -> Floats:
        raise NotImplementedError


class ClusterBoosting(RegressorMixin, _Boosting):
    """Gradient-boosted trees for an outcome, their number chosen on held-out clusters.

    Parameters
    ----------
    max_trees : int, default=200
        Largest number of trees.
    learning_rate : float, default=0.05
        Share of each tree's prediction that is added.
    max_leaves : int, default=15
        Leaves of a tree.
    n_folds : int, default=3
        Folds of whole clusters for the choice.
    random_state : int, default=None
        Seed.

    Attributes
    ----------
    n_trees_ : int
        The chosen number of trees.

    Examples
    --------
    >>> X = np.linspace(-1, 1, 200).reshape(-1, 1)
    >>> fitted = ClusterBoosting(max_trees=50).fit(X, np.sign(X[:, 0]))
    >>> bool(fitted.predict([[0.9]])[0] > 0.5)
    True
    """

    def predict(self, X: ArrayLike) -> Floats:
        """Return predictions.

        Parameters
        ----------
        X : array-like of shape (n_units, n_features)

        Returns
        -------
        ndarray of shape (n_units,)
        """
        check_is_fitted(self)
        design = validate_data(self, X, dtype=np.float64, reset=False)
        return np.asarray(self.trees_.predict(design), dtype=np.float64)

    def _stages(self, fitted: Any, design: Floats) -> Any:
        return fitted.staged_predict(design)

    def _loss(self, predicted: Floats, target: Floats) -> Floats:
        return np.asarray((target - predicted) ** 2)


class ClusterBoostingClassifier(ClassifierMixin, _Boosting):
    """Gradient-boosted trees for a 0/1 variable, their number chosen by held-out log-loss.

    Parameters
    ----------
    max_trees : int, default=200
        Largest number of trees.
    learning_rate : float, default=0.05
        Share of each tree's prediction that is added.
    max_leaves : int, default=15
        Leaves of a tree.
    n_folds : int, default=3
        Folds of whole clusters for the choice.
    random_state : int, default=None
        Seed.

    Attributes
    ----------
    n_trees_ : int
        The chosen number of trees.

    Examples
    --------
    >>> X = np.linspace(-1, 1, 200).reshape(-1, 1)
    >>> fitted = ClusterBoostingClassifier(max_trees=50).fit(X, X[:, 0] > 0)
    >>> bool(fitted.predict_proba([[0.9]])[0, 1] > 0.5)
    True
    """

    def predict_proba(self, X: ArrayLike) -> Floats:
        """Return the probability of each class.

        Parameters
        ----------
        X : array-like of shape (n_units, n_features)

        Returns
        -------
        ndarray of shape (n_units, 2)
        """
        check_is_fitted(self)
        design = validate_data(self, X, dtype=np.float64, reset=False)
        return np.asarray(self.trees_.predict_proba(design), dtype=np.float64)

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Return the likelier class of each unit."""
        return np.asarray(self.classes_[self.predict_proba(X).argmax(axis=1)])

    def _learn_target(self, target: Floats) -> None:
        self.classes_ = np.unique(target)

    def _stages(self, fitted: Any, design: Floats) -> Any:
        return (stage[:, -1] for stage in fitted.staged_predict_proba(design))

    def _loss(self, predicted: Floats, target: Floats) -> Floats:
        likelihood = np.where(target == self.classes_[-1], predicted, 1 - predicted)
        return np.asarray(-np.log(np.maximum(likelihood, np.finfo(float).tiny)))
