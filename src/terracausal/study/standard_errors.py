"""Covariances of a mean of influence values: independent, clustered (one or two ways), spatial.

Every estimator of the library is, to first order, ``value - truth = mean(influence)``, so one
small function per dependence assumption covers all of them.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from terracausal.study.geography import neighbour_blocks, sphere_points

Floats = NDArray[np.floating[Any]]


def independent_covariance(influence: Floats, n_parameters: int = 1) -> Floats:
    """Return the heteroskedasticity-robust covariance, with the factor n / (n - k) of HC1.

    Parameters
    ----------
    influence : ndarray of shape (n_units, n_terms)
        Mean-zero influence values.
    n_parameters : int, default=1
        Means or coefficients that were estimated to form them, k.

    Returns
    -------
    ndarray of shape (n_terms, n_terms)
    """
    n_units = len(influence)
    return influence.T @ influence / n_units / max(n_units - n_parameters, 1)


def clustered_covariance(influence: Floats, cluster: NDArray[np.int64]) -> Floats:
    """Return the cluster-robust covariance, with the factor G / (G - 1).

    Parameters
    ----------
    influence : ndarray of shape (n_units, n_terms)
        Mean-zero influence values.
    cluster : ndarray of shape (n_units,)
        Codes from 0 to G - 1.

    Returns
    -------
    ndarray of shape (n_terms, n_terms)

    References
    ----------
    Liang, K.-Y. & Zeger, S. L. (1986). Longitudinal data analysis using generalized linear
    models. Biometrika 73(1). doi:10.1093/biomet/73.1.13
    """
    n_clusters = int(cluster.max()) + 1
    totals = group_sums(influence, cluster, n_clusters)
    return totals.T @ totals / len(influence) ** 2 * n_clusters / (n_clusters - 1)


def two_way_covariance(
    influence: Floats, first: NDArray[np.int64], second: NDArray[np.int64]
) -> Floats:
    """Return the covariance for units that depend when they share either of two clusters.

    The clustered covariance of the first, plus that of the second, less that of the groups that
    share both; each with its own factor G / (G - 1). Where the difference is not a covariance
    (a negative eigenvalue), nothing is subtracted, which is conservative.

    Parameters
    ----------
    influence : ndarray of shape (n_units, n_terms)
        Mean-zero influence values.
    first, second : ndarray of shape (n_units,)
        Codes from 0.

    Returns
    -------
    ndarray of shape (n_terms, n_terms)

    References
    ----------
    Cameron, A. C., Gelbach, J. B. & Miller, D. L. (2011). Robust inference with multiway
    clustering. Journal of Business & Economic Statistics 29(2). doi:10.1198/jbes.2010.07136.
    Davezies, L., D'Haultfoeuille, X. & Guyonvarch, Y. (2021). Empirical process results for
    exchangeable arrays. Annals of Statistics 49(2). doi:10.1214/20-AOS1981
    """
    both = np.unique(np.column_stack([first, second]), axis=0, return_inverse=True)[1].reshape(-1)
    total = clustered_covariance(influence, first) + clustered_covariance(influence, second)
    covariance = total - clustered_covariance(influence, both.astype(np.int64))
    return total if np.linalg.eigvalsh(covariance).min(initial=0.0) < 0 else covariance


def repeated_covariance(values: Floats, covariances: Floats) -> Floats:
    """Return the covariance of the median over repeats of the same analysis.

    The variance of a term is the median over repeats of ``variance + (value - median)^2``, so it
    counts the noise of folds and seeds. Correlations are those of the mean over repeats.

    Parameters
    ----------
    values : ndarray of shape (n_repeats, n_terms)
    covariances : ndarray of shape (n_repeats, n_terms, n_terms)

    Returns
    -------
    ndarray of shape (n_terms, n_terms)

    References
    ----------
    Chernozhukov, V. et al. (2018). Double/debiased machine learning for treatment and structural
    parameters. Econometrics Journal 21(1), definition 3.3. doi:10.1111/ectj.12097
    """
    shift = values - np.median(values, axis=0)
    each = covariances + shift[:, :, None] * shift[:, None, :]
    mean = each.mean(axis=0)
    variance = np.median(np.diagonal(each, axis1=1, axis2=2), axis=0)
    own = np.diag(mean)
    scale = np.sqrt(np.divide(variance, own, out=np.zeros_like(own), where=own > 0))
    return np.asarray(mean * scale[:, None] * scale[None, :])


def conley_covariance(
    influence: Floats, coordinates: Floats, cutoff_m: float, kernel: str = "bartlett"
) -> Floats:
    """Return the spatial covariance of Conley (1999): nearby units may depend on each other.

    ``sum_ij k(d_ij) influence_i influence_j / n^2`` with the great-circle distance ``d_ij``,
    ``k(d) = 1 - d / cutoff`` (bartlett) or 1 (uniform) up to the cutoff and 0 beyond.
    Units at one place are added up first, and neighbours come from a spatial index, so neither
    time nor memory grows with the number of units squared.

    Parameters
    ----------
    influence : ndarray of shape (n_units, n_terms)
        Mean-zero influence values.
    coordinates : ndarray of shape (n_units, 2)
        Longitude and latitude in degrees.
    cutoff_m : float
        Metres beyond which units are independent.
    kernel : {"bartlett", "uniform"}, default="bartlett"
        The uniform kernel can give a negative variance; the bartlett kernel hardly ever does.

    Returns
    -------
    ndarray of shape (n_terms, n_terms)

    References
    ----------
    Conley, T. G. (1999). GMM estimation with cross sectional dependence. Journal of
    Econometrics 92(1). doi:10.1016/S0304-4076(98)00084-0
    """
    places, place = np.unique(coordinates, axis=0, return_inverse=True)
    totals = group_sums(influence, place.reshape(-1), len(places))
    middle = np.zeros((influence.shape[1], influence.shape[1]))
    for rows, distances in neighbour_blocks(sphere_points(places[:, 0], places[:, 1]), cutoff_m):
        if kernel == "bartlett":
            distances.data = np.maximum(1 - distances.data / cutoff_m, 0.0)
        else:
            distances.data = np.ones_like(distances.data)
        own = rows.stop - rows.start
        later = totals[rows].T @ (distances[:, own:] @ totals[rows.stop :])
        middle += totals[rows].T @ (distances[:, :own] @ totals[rows]) + later + later.T
    return middle / len(influence) ** 2


def group_sums(values: Floats, group: NDArray[np.int64], n_groups: int) -> Floats:
    """Return the sum of the rows of each group.

    Parameters
    ----------
    values : ndarray of shape (n, k)
    group : ndarray of shape (n,)
        Codes from 0 to n_groups - 1.
    n_groups : int

    Returns
    -------
    ndarray of shape (n_groups, k)
    """
    columns = [np.bincount(group, weights=column, minlength=n_groups) for column in values.T]
    return np.column_stack(columns) if columns else np.zeros((n_groups, 0))
