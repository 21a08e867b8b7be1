"""Out-of-fold statistics of scores on the features of sites, for many arrangements at once.

An exchange of images among sites is the same as an exchange of scores among images, which leaves
features and folds where they are: one decomposition per fold serves every arrangement.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Floats = NDArray[np.floating[Any]]
Codes = NDArray[np.int64]
_PENALTIES = np.logspace(-2, 4, 13)
_ARRANGEMENTS_AT_ONCE = 500


def standardise_columns(features: Floats) -> Floats:
    """Return columns with mean 0 and standard deviation 1; constant ones become 0.

    Parameters
    ----------
    features : ndarray of shape (n_sites, n_features)

    Returns
    -------
    ndarray of shape (n_sites, n_features)
    """
    centred = features - features.mean(axis=0)
    spread = centred.std(axis=0)
    varies = spread > 1e-12 * np.maximum(1.0, np.abs(features).max(axis=0, initial=0.0))
    return np.where(varies, centred / np.where(varies, spread, 1.0), 0.0)


def ridge_out_of_fold(features: Floats, targets: Floats, weight: Floats, fold: Codes) -> Floats:
    """Predict each site by ridge regressions on the other folds, one for each column of targets.

    The penalty is chosen for each column by the leave-one-out error among the training sites.

    Parameters
    ----------
    features : ndarray of shape (n_sites, n_features)
        Standardised.
    targets : ndarray of shape (n_sites, n_arrangements)
    weight : ndarray of shape (n_sites,)
        Of each site in training, the same for all arrangements.
    fold : ndarray of shape (n_sites,)

    Returns
    -------
    ndarray of shape (n_sites, n_arrangements)
    """
    predicted = np.empty_like(targets)
    for label in np.unique(fold):
        train = fold != label
        predict = _RidgePath(features[train], weight[train], features[~train])
        for start in range(0, targets.shape[1], _ARRANGEMENTS_AT_ONCE):
            columns = slice(start, start + _ARRANGEMENTS_AT_ONCE)
            predicted[~train, columns] = predict(targets[train, columns])
    return predicted


class _RidgePath:
    """Ridge regressions on one set of training sites, for any targets."""

    def __init__(self, x: Floats, weight: Floats, x_new: Floats) -> None:
        self.share = weight / weight.sum()
        self.root = np.sqrt(self.share)[:, None]
        centre = self.share @ x
        u, s, vt = np.linalg.svd(self.root * (x - centre), full_matrices=False)
        kept = s > 1e-10 * s[0]
        self.u, self.s = u[:, kept], s[kept]
        self.new = (x_new - centre) @ vt[kept].T
        self.penalties = (self.s**2).mean() * _PENALTIES

    def __call__(self, targets: Floats) -> Floats:
        level = self.share @ targets
        y = self.root * (targets - level)
        z = self.u.T @ y
        losses = np.empty((len(self.penalties), targets.shape[1]))
        for row, penalty in enumerate(self.penalties):
            shrink = self.s**2 / (self.s**2 + penalty)
            leverage = self.u**2 @ shrink + self.share
            left_out = (y - self.u @ (shrink[:, None] * z)) / (1 - leverage)[:, None]
            losses[row] = (left_out**2).sum(axis=0)
        penalty = self.penalties[losses.argmin(axis=0)]
        coef = self.s[:, None] / (self.s[:, None] ** 2 + penalty) * z
        return np.asarray(level + self.new @ coef)


def ranking_statistic(
    predicted: Floats, totals: Floats, weight: Floats, fold: Codes, block: Codes, kind: str
) -> Floats:
    """Return how well predictions rank the scores, in clustered standard errors.

    Parameters
    ----------
    predicted, totals, weight : ndarray of shape (n_sites, n_arrangements)
        Predicted effects, weighted sum of scores, and weight of each site.
    fold, block : ndarray of shape (n_sites,)
        Fold, and cluster from 0.
    kind : {"calibration", "AUTOC", "QINI"}
        Whether scores are multiplied by predictions or by a function of their rank, in their fold.

    Returns
    -------
    ndarray of shape (n_arrangements,)
        ``sum(u) / sqrt(sum(u^2))`` with ``u`` the sum over a cluster of (prediction less the mean
        of the fold) times (score less the mean of all); 0 where predictions are constant.
    """
    moved = np.empty_like(predicted)
    for label in np.unique(fold):
        own = fold == label
        value = predicted[own] if kind == "calibration" else _rank_weights(predicted[own], kind)
        moved[own] = value - (weight[own] * value).sum(axis=0) / weight[own].sum(axis=0)
    mean = totals.sum(axis=0) / weight.sum(axis=0)
    evidence = moved * (totals - weight * mean)
    order = np.argsort(block, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(block[order]) > 0])
    sums = np.add.reduceat(evidence[order], starts, axis=0)
    size = np.sqrt((sums**2).sum(axis=0))
    flat = np.abs(moved).max(axis=0) <= 1e-12 * np.abs(predicted).max(axis=0, initial=0.0)
    return np.where(flat | (size == 0), 0.0, sums.sum(axis=0) / np.where(size > 0, size, 1.0))


def _rank_weights(predicted: Floats, kind: str) -> Floats:
    """Return what a RATE multiplies each score by: -log q - 1, or 1/2 - q, at its top share q."""
    rank = stats.rankdata(predicted, axis=0)
    share = 1 - (rank - 0.5) / len(predicted)
    return np.asarray(-np.log(share) - 1 if kind == "AUTOC" else 0.5 - share)
