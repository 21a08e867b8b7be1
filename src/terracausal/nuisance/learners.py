"""Default nuisance learners: penalised regressions whose penalty is chosen by whole clusters.

Scikit-learn's own cross-validated ridge leaves out single rows. Units that share a site share its
embedding, so their neighbours give the answer away and the penalty comes out far too small.
"""

import contextlib
import warnings
from collections.abc import Iterator
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import ElasticNetCV, LogisticRegression
from sklearn.model_selection import GroupKFold, StratifiedGroupKFold
from sklearn.preprocessing import StandardScaler
from sklearn.utils.validation import check_is_fitted, validate_data
from threadpoolctl import ThreadpoolController

from terracausal._foundation.checks import check_count

Floats = NDArray[np.floating[Any]]
_PENALTIES = tuple(float(value) for value in np.logspace(-3, 6, 19))
_NEWTON_COLUMNS = 600
_WIDE = 100
# the loss falls and then rises along the path, and weak penalties take longest to fit
_RISES = 2
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
        for train, test in cluster_splits(target, groups, self.n_folds):
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
    """Return fewer columns with the same inner products, where the rows vary in fewer directions.

    So it is with more columns than rows, and with wide embeddings of sites that have many units.
    """
    n_rows, n_columns = design.shape
    if n_columns > n_rows:
        left, size, right = np.linalg.svd(design, full_matrices=False)
        return left * size, right.T
    rotation = np.eye(n_columns)
    if n_columns >= _WIDE:
        values, vectors = np.linalg.eigh(design.T @ design)
        varied = values > 1e-12 * values[-1]
        # each penalty path costs the cube of the columns
        if varied.mean() < 0.8:
            rotation = vectors[:, varied]
            return design @ rotation, rotation
    return design, rotation


class ClusterElasticNet(RegressorMixin, BaseEstimator):
    """Elastic net on standardised columns, both penalties chosen on held-out clusters.

    Parameters
    ----------
    mixes : tuple of float, default=(0.1, 0.5, 0.95)
        Candidate shares of the absolute penalty (the lasso has 1).
    n_folds : int, default=5
        Folds of whole clusters for the choice.

    Attributes
    ----------
    net_ : sklearn.linear_model.ElasticNetCV
        The fitted net, on standardised columns.

    Examples
    --------
    >>> X = np.random.default_rng(0).normal(size=(60, 3))
    >>> bool(ClusterElasticNet().fit(X, X[:, 0]).predict([[1.0, 0, 0]])[0] > 0.9)
    True
    """

    def __init__(self, mixes: tuple[float, ...] = (0.1, 0.5, 0.95), n_folds: int = 5) -> None:
        self.mixes = mixes
        self.n_folds = n_folds

    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        groups: ArrayLike | None = None,
    ) -> Self:
        """Choose the penalties and fit.

        Parameters
        ----------
        X : array-like of shape (n_units, n_features)
        y : array-like of shape (n_units,)
        sample_weight : array-like of shape (n_units,), default=None
        groups : array-like of shape (n_units,), default=None
            Clusters; None takes every unit as its own.

        Returns
        -------
        ClusterElasticNet
        """
        check_count("n_folds", self.n_folds, minimum=2)
        design, target = validate_data(self, X, y, dtype=np.float64, y_numeric=True)
        splits = list(cluster_splits(target, groups, self.n_folds))
        if not splits:
            raise ValueError("ClusterElasticNet needs at least 2 clusters to choose its penalties.")
        self.scaler_ = StandardScaler().fit(design, sample_weight=sample_weight)
        self.net_ = ElasticNetCV(l1_ratio=list(self.mixes), cv=splits, max_iter=20_000).fit(
            self.scaler_.transform(design), target, sample_weight=sample_weight
        )
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
        design = validate_data(self, X, dtype=np.float64, reset=False)
        return np.asarray(self.net_.predict(self.scaler_.transform(design)), dtype=np.float64)


class ClusterLogistic(ClassifierMixin, BaseEstimator):
    """Ridge-penalised logistic regression, its penalty chosen by log-loss on held-out clusters.

    A penalty draws probabilities towards the base rate. The log-odds of the held-out clusters tell
    by how much, so they are rescaled to be calibrated (Platt scaling).

    Parameters
    ----------
    inverse_penalties : tuple of float, default=None
        Candidates for scikit-learn's `C` on standardised columns; None tries 7 from 1e-5 to 10.
        They are tried in turn until two in a row were worse than the best.
    n_folds : int, default=5
        Folds of whole clusters for the choice.
    calibrate : bool, default=True
        Whether log-odds are rescaled on the held-out clusters.

    Attributes
    ----------
    inverse_penalty_ : float
        The chosen `C`.
    calibration_ : (float, float)
        Intercept and slope by which log-odds are rescaled; (0, 1) where they are not.

    Notes
    -----
    Platt (1999), Probabilistic outputs for support vector machines, Advances in Large Margin
    Classifiers, with true labels (not smoothed ones), and a slope held near 1 by the weight of one
    unit, so that it stays finite where the arms separate.

    Examples
    --------
    >>> X = np.arange(20.0).reshape(-1, 1)
    >>> fitted = ClusterLogistic().fit(X, np.tile([0, 1], 10))
    >>> fitted.predict_proba(X).shape
    (20, 2)
    """

    def __init__(
        self,
        inverse_penalties: tuple[float, ...] | None = None,
        n_folds: int = 5,
        calibrate: bool = True,
    ) -> None:
        self.inverse_penalties = inverse_penalties
        self.n_folds = n_folds
        self.calibrate = calibrate

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
        is_one = (target == self.classes_[-1]).astype(np.float64)
        splits = [
            (train, test)
            for train, test in cluster_splits(target, groups, self.n_folds, stratify=True)
            if len(np.unique(target[train])) == 2
        ]
        held_out = np.isin(np.arange(len(target)), np.concatenate([[], *(t for _, t in splits)]))
        best, chosen, losses = 0, np.zeros(len(target)), []
        solver = _solver_for(design.shape[1])
        held = [_logistic(solver) for _ in splits]
        for j, candidate in enumerate(candidates if splits else ()):
            odds = np.zeros(len(target))
            for learner, (train, test) in zip(held, splits, strict=True):
                _refit(learner, candidate, design[train], target[train], weight[train])
                odds[test] = learner.decision_function(design[test])
            losses.append(float((weight * _log_loss(odds, is_one))[held_out].sum()))
            if j == 0 or losses[j] < losses[best]:
                best, chosen = j, odds
            elif j - best >= _RISES:
                break
        self.inverse_penalty_ = float(candidates[best])
        self.logistic_ = _refit(_logistic(solver), self.inverse_penalty_, design, target, weight)
        self.calibration_ = (0.0, 1.0)
        if self.calibrate and splits:
            self.calibration_ = fit_calibration(
                chosen[held_out], is_one[held_out], weight[held_out]
            )
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
        intercept, slope = self.calibration_
        odds = self.logistic_.decision_function((design - self.mean_) / self.scale_)
        probability = expit(intercept + slope * odds)
        return np.column_stack([1 - probability, probability])

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Return the likelier class of each unit."""
        check_is_fitted(self)
        return np.asarray(self.classes_[self.predict_proba(X).argmax(axis=1)])


def fit_calibration(odds: Floats, target: Floats, weight: Floats) -> tuple[float, float]:
    """Return intercept and slope that calibrate log-odds, by Newton steps on the log-loss.

    Parameters
    ----------
    odds : ndarray of shape (n,)
        Log-odds predicted for units that did not train.
    target : ndarray of shape (n,)
        0 or 1.
    weight : ndarray of shape (n,)
        With mean about one; the slope is held near 1 by one such unit.

    Returns
    -------
    (float, float)
        The slope is not negative.

    Examples
    --------
    >>> odds = np.log([1, 3, 1, 3])  # probabilities 1/2 and 3/4
    >>> intercept, slope = fit_calibration(odds, np.array([0.0, 1, 1, 1]), np.ones(4))
    >>> bool(intercept > 0 and slope > 1)
    True
    """
    # one unit's worth of pull, in the units of the log-odds
    variance = float(np.average((odds - odds.mean()) ** 2, weights=weight)) or 1.0
    for slopes in (True, False):
        design = np.column_stack([np.ones(len(odds)), odds if slopes else np.zeros(len(odds))])
        prior, ridge = np.array([0.0, float(slopes)]), np.diag([0.0, variance])
        calibration = prior.copy()
        for _ in range(50):
            probability = expit(design @ calibration)
            pull = design.T @ (weight * (target - probability)) - ridge @ (calibration - prior)
            curve = design.T * (weight * probability * (1 - probability)) @ design + ridge
            curve[0, 0] += 1e-9
            step = np.linalg.solve(curve, pull)
            # at most one unit of log-odds at a time
            size = float(np.abs(step * [1.0, np.sqrt(variance)]).max())
            calibration = calibration + step / max(1.0, size)
            if size < 1e-10:
                break
        if calibration[1] >= 0:
            break
    return float(calibration[0]), float(calibration[1])


def _log_loss(odds: Floats, target: Floats) -> Floats:
    return np.logaddexp(0, np.where(target == 1, -odds, odds))


def _solver_for(n_columns: int) -> str:
    # Newton steps need a p-by-p matrix and then converge in a handful of passes
    return "newton-cholesky" if n_columns <= _NEWTON_COLUMNS else "lbfgs"


def _logistic(solver: str) -> LogisticRegression:
    # each penalty starts where the stronger one before it ended
    return LogisticRegression(max_iter=500, solver=solver, warm_start=True)


def _refit(
    learner: LogisticRegression,
    inverse_penalty: float,
    design: Floats,
    target: Floats,
    weight: Floats,
) -> LogisticRegression:
    wide = design.shape[1] >= _WIDE
    threads = _scipy_on_one_thread() if wide else contextlib.nullcontext()
    with warnings.catch_warnings(), threads:
        # a weak penalty on separable data never converges; log-loss then chooses a stronger one
        warnings.simplefilter("ignore", ConvergenceWarning)
        learner.set_params(C=inverse_penalty).fit(design, target, sample_weight=weight)
    return learner


def _scipy_on_one_thread() -> Any:
    # scikit-learn forms the matrix with numpy's BLAS and solves with scipy's, a library of its own:
    # each keeps its threads spinning for the other's turn, which costs more than the threads gain
    controller = ThreadpoolController()
    own = [lib["filepath"] for lib in controller.info() if "scipy.libs" in lib["filepath"]]
    return controller.select(filepath=own).limit(limits=1)


def cluster_splits(
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
