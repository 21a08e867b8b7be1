"""Default nuisance learners: penalised regressions whose penalty is chosen by whole clusters.

Scikit-learn's own cross-validated ridge leaves out single rows. Units that share a site share its
embedding, so their neighbours give the answer away and the penalty comes out far too small.
"""

import warnings
from collections.abc import Iterator
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, StratifiedGroupKFold
from sklearn.utils.validation import check_is_fitted, validate_data

from terracausal._foundation.checks import check_count

Floats = NDArray[np.floating[Any]]
_PENALTIES = tuple(float(value) for value in np.logspace(-3, 6, 19))
_NEWTON_COLUMNS = 600
_INVERSE_PENALTIES = tuple(float(value) for value in np.logspace(-5, 1, 7))


class ClusterRidge(RegressorMixin, BaseEstimator):
    """Ridge regression on standardised columns, its penalty chosen on held-out clusters.

    Parameters
    ----------
    penalties : tuple of float, default=None
        Candidate penalties per unit; None tries 19 from 1e-3 to 1e6.
    n_folds : int, default=5
        Folds of whole clusters for the choice.

    Attributes
    ----------
    penalty_ : float
        The chosen penalty.
    coef_ : ndarray of shape (n_features,)
        Coefficients on the original columns.
    intercept_ : float

    Examples
    --------
    >>> X = np.arange(12.0).reshape(-1, 1)
    >>> ridge = ClusterRidge().fit(X, 2 * X[:, 0], groups=np.repeat(np.arange(6), 2))
    >>> bool(abs(ridge.coef_[0] - 2) < 0.01)
    True
    """

    def __init__(self, penalties: tuple[float, ...] | None = None, n_folds: int = 5) -> None:
        self.penalties = penalties
        self.n_folds = n_folds

    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        groups: ArrayLike | None = None,
    ) -> Self:
        """Choose the penalty and fit.

        Parameters
        ----------
        X : array-like of shape (n_units, n_features)
        y : array-like of shape (n_units,)
        sample_weight : array-like of shape (n_units,), default=None
        groups : array-like of shape (n_units,), default=None
            Clusters; None takes every unit as its own.

        Returns
        -------
        ClusterRidge
        """
        check_count("n_folds", self.n_folds, minimum=2)
        design, target = validate_data(self, X, y, dtype=np.float64, y_numeric=True)
        weight = np.ones(len(target)) if sample_weight is None else np.asarray(sample_weight)
        weight = weight / weight.mean()
        centre = np.average(design, axis=0, weights=weight)
        spread = np.sqrt(np.average((design - centre) ** 2, axis=0, weights=weight))
        spread[spread < 1e-12 * np.maximum(1.0, np.abs(centre))] = 1.0
        scores, rotation = _rotate((design - centre) / spread)
        penalties = np.asarray(self.penalties or _PENALTIES) * len(target)
        losses = np.zeros(len(penalties))
        for train, test in _cluster_splits(target, groups, self.n_folds):
            coef, intercept = ridge_path(scores[train], target[train], weight[train], penalties)
            error = target[test, None] - intercept - scores[test] @ coef
            losses += weight[test] @ error**2
        best = int(np.argmin(losses)) if losses.any() else len(penalties) // 2
        coef, intercept = ridge_path(scores, target, weight, penalties[best : best + 1])
        self.penalty_ = float(penalties[best] / len(target))
        self.coef_ = (rotation @ coef[:, 0]) / spread
        self.intercept_ = float(intercept[0] - centre @ self.coef_)
        return self

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
        design = validate_data(self, X, dtype=np.float64, order="C", reset=False)
        # row by row: BLAS rounds equal rows differently by position, which would break exact ties
        return np.asarray((design * self.coef_).sum(axis=1) + self.intercept_, dtype=np.float64)


def ridge_path(
    design: Floats, target: Floats, weight: Floats, penalties: Floats
) -> tuple[Floats, Floats]:
    """Solve one ridge regression for many penalties with a single eigendecomposition.

    Parameters
    ----------
    design : ndarray of shape (n, p)
    target : ndarray of shape (n,)
    weight : ndarray of shape (n,)
    penalties : ndarray of shape (n_penalties,)

    Returns
    -------
    coef : ndarray of shape (p, n_penalties)
    intercept : ndarray of shape (n_penalties,)
        The intercept is not penalised.
    """
    centre, level = np.average(design, axis=0, weights=weight), np.average(target, weights=weight)
    centred = design - centre
    gram = centred.T @ (weight[:, None] * centred)
    values, vectors = np.linalg.eigh(gram)
    moment = vectors.T @ (centred.T @ (weight * (target - level)))
    coef = vectors @ (moment[:, None] / (np.maximum(values, 0)[:, None] + penalties))
    return coef, level - centre @ coef


def _rotate(design: Floats) -> tuple[Floats, Floats]:
    """Return fewer columns with the same inner products when there are more columns than rows."""
    n_rows, n_columns = design.shape
    if n_columns <= n_rows:
        return design, np.eye(n_columns)
    left, size, right = np.linalg.svd(design, full_matrices=False)
    return left * size, right.T


class ClusterLogistic(ClassifierMixin, BaseEstimator):
    """Ridge-penalised logistic regression, its penalty chosen by log-loss on held-out clusters.

    Parameters
    ----------
    inverse_penalties : tuple of float, default=None
        Candidates for scikit-learn's `C` on standardised columns; None tries 7 from 1e-5 to 10.
    n_folds : int, default=5
        Folds of whole clusters for the choice.

    Attributes
    ----------
    inverse_penalty_ : float
        The chosen `C`.

    Examples
    --------
    >>> X = np.arange(20.0).reshape(-1, 1)
    >>> fitted = ClusterLogistic().fit(X, np.tile([0, 1], 10))
    >>> fitted.predict_proba(X).shape
    (20, 2)
    """

    def __init__(
        self, inverse_penalties: tuple[float, ...] | None = None, n_folds: int = 5
    ) -> None:
        self.inverse_penalties = inverse_penalties
        self.n_folds = n_folds

    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        groups: ArrayLike | None = None,
    ) -> Self:
        """Choose the penalty and fit.

        Parameters
        ----------
        X : array-like of shape (n_units, n_features)
        y : array-like of shape (n_units,)
            0 or 1.
        sample_weight : array-like of shape (n_units,), default=None
        groups : array-like of shape (n_units,), default=None
            Clusters; None takes every unit as its own.

        Returns
        -------
        ClusterLogistic
        """
        check_count("n_folds", self.n_folds, minimum=2)
        design, target = validate_data(self, X, y, dtype=np.float64)
        weight = np.ones(len(target)) if sample_weight is None else np.asarray(sample_weight)
        weight = weight / weight.mean()
        self.classes_ = np.unique(target)
        self.mean_ = np.average(design, axis=0, weights=weight)
        spread = np.sqrt(np.average((design - self.mean_) ** 2, axis=0, weights=weight))
        self.scale_ = np.where(spread > 1e-12 * np.maximum(1.0, np.abs(self.mean_)), spread, 1.0)
        design = (design - self.mean_) / self.scale_
        candidates = self.inverse_penalties or _INVERSE_PENALTIES
        losses, is_one = np.zeros(len(candidates)), target == self.classes_[-1]
        for train, test in _cluster_splits(target, groups, self.n_folds, stratify=True):
            if len(np.unique(target[train])) < 2:
                continue
            for j, candidate in enumerate(candidates):
                fitted = _logistic(candidate, design[train], target[train], weight[train])
                odds = fitted.decision_function(design[test])
                losses[j] += weight[test] @ np.logaddexp(0, np.where(is_one[test], -odds, odds))
        self.inverse_penalty_ = float(candidates[int(np.argmin(losses))])
        self.logistic_ = _logistic(self.inverse_penalty_, design, target, weight)
        return self

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
        scaled = (design - self.mean_) / self.scale_
        return np.asarray(self.logistic_.predict_proba(scaled), dtype=np.float64)

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Return the likelier class of each unit."""
        check_is_fitted(self)
        return np.asarray(self.classes_[self.predict_proba(X).argmax(axis=1)])


def _logistic(inverse_penalty: float, design: Floats, target: Floats, weight: Floats) -> Any:
    # Newton steps need a p-by-p matrix and then converge in a handful of passes
    solver = "newton-cholesky" if design.shape[1] <= _NEWTON_COLUMNS else "lbfgs"
    learner = LogisticRegression(C=inverse_penalty, max_iter=500, solver=solver)
    with warnings.catch_warnings():
        # a weak penalty on separable data never converges; log-loss then chooses a stronger one
        warnings.simplefilter("ignore", ConvergenceWarning)
        return learner.fit(design, target, sample_weight=weight)


def _cluster_splits(
    target: Floats, groups: ArrayLike | None, n_folds: int, *, stratify: bool = False
) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Yield training and held-out rows of whole clusters; nothing when there is one cluster."""
    codes = np.arange(len(target)) if groups is None else pd.factorize(np.asarray(groups))[0]
    n_splits = min(n_folds, int(codes.max()) + 1)
    if stratify:
        n_splits = min(n_splits, int(np.unique(target, return_counts=True)[1].min()))
    if n_splits < 2:
        return
    splitter = (StratifiedGroupKFold if stratify else GroupKFold)(n_splits)
    yield from splitter.split(np.zeros((len(target), 1)), target, codes)
