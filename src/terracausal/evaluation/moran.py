"""Moran's I: the numbers.

Symbols: z values less their mean, W weights of pairs with zero diagonal, S0 the sum of all weights;
``I = (n / S0) z'Wz / z'z``. Cliff & Ord (1981), Spatial Processes, chapters 1 and 2.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix, csr_matrix, diags
from scipy.spatial import cKDTree

from terracausal.study.geography import neighbour_blocks, sphere_points

Floats = NDArray[np.floating[Any]]
_CELLS_AT_ONCE = 2_000_000


def nearest_weights(lon: Floats, lat: Floats, n_neighbors: int) -> csr_matrix:
    """Give each place's nearest neighbours the same weight, 1 in all.

    Parameters
    ----------
    lon, lat : ndarray of shape (n_places,)
        Degrees; no two places are the same.
    n_neighbors : int

    Returns
    -------
    csr_matrix of shape (n_places, n_places)

    Examples
    --------
    >>> lon = np.array([0.0, 1.0, 3.0])
    >>> nearest_weights(lon, np.zeros(3), 1).toarray().tolist()
    [[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
    """
    points = sphere_points(lon, lat)
    n = len(points)
    found = cKDTree(points).query(points, k=n_neighbors + 1)[1]
    rows = np.repeat(np.arange(n), n_neighbors)
    # distances may tie at 0 in floating point, so oneself is not always the first
    others = np.array(
        [[j for j in row if j != i][:n_neighbors] for i, row in enumerate(found)], dtype=np.intp
    )
    shares = np.full(n * n_neighbors, 1.0 / n_neighbors)
    return csr_matrix((shares, (rows, others.ravel())), shape=(n, n))


def distance_weights(lon: Floats, lat: Floats, cutoff_m: float) -> csr_matrix:
    """Give all other places within a distance the same weight, 1 in all; none where there are none.

    Parameters
    ----------
    lon, lat : ndarray of shape (n_places,)
        Degrees.
    cutoff_m : float

    Returns
    -------
    csr_matrix of shape (n_places, n_places)

    Examples
    --------
    >>> lon = np.array([0.0, 1.0, 3.0])
    >>> distance_weights(lon, np.zeros(3), 150_000).toarray().tolist()
    [[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]]
    """
    n = len(lon)
    order = np.argsort(lon, kind="stable")
    rows, columns = [], []
    for part, distances in neighbour_blocks(sphere_points(lon[order], lat[order]), cutoff_m):
        pairs = distances.tocoo()
        above = pairs.col > pairs.row
        rows.append(order[pairs.row[above] + part.start])
        columns.append(order[pairs.col[above] + part.start])
    row, column = np.concatenate(rows), np.concatenate(columns)
    upper = coo_matrix((np.ones(len(row)), (row, column)), shape=(n, n)).tocsr()
    near = (upper + upper.T).tocsr()
    n_near = np.asarray(near.sum(axis=1)).ravel()
    return csr_matrix(diags(1.0 / np.maximum(n_near, 1.0)) @ near)


def morans_i(values: Floats, weights: csr_matrix) -> Floats:
    """Return Moran's I of each column.

    Parameters
    ----------
    values : ndarray of shape (n_places, n_columns)
    weights : csr_matrix of shape (n_places, n_places)

    Returns
    -------
    ndarray of shape (n_columns,)

    Examples
    --------
    >>> pair = csr_matrix(np.array([[0.0, 1.0], [1.0, 0.0]]))
    >>> morans_i(np.array([[1.0], [3.0]]), pair).tolist()
    [-1.0]
    """
    z = values - values.mean(axis=0)
    lagged = weights @ z
    return np.asarray(len(z) / weights.sum() * (z * lagged).sum(axis=0) / (z**2).sum(axis=0))


def moran_moments(values: Floats, weights: csr_matrix) -> tuple[float, Floats]:
    """Return mean and variance of Moran's I over all permutations of the values.

    Parameters
    ----------
    values : ndarray of shape (n_places, n_columns)
    weights : csr_matrix of shape (n_places, n_places)

    Returns
    -------
    mean : float
    variance : ndarray of shape (n_columns,)

    Notes
    -----
    Cliff & Ord (1981), equation 2.38 ("randomisation").
    """
    n = len(values)
    z = values - values.mean(axis=0)
    kurtosis = n * (z**4).sum(axis=0) / (z**2).sum(axis=0) ** 2
    s0 = float(weights.sum())
    both = weights + weights.T
    s1 = float(both.multiply(both).sum()) / 2
    margins = np.asarray(weights.sum(axis=0)).ravel() + np.asarray(weights.sum(axis=1)).ravel()
    s2 = float((margins**2).sum())
    mean = -1.0 / (n - 1)
    first = n * ((n**2 - 3 * n + 3) * s1 - n * s2 + 3 * s0**2)
    second = kurtosis * ((n**2 - n) * s1 - 2 * n * s2 + 6 * s0**2)
    variance = (first - second) / ((n - 1) * (n - 2) * (n - 3) * s0**2) - mean**2
    return mean, np.asarray(variance)


def permuted_morans(
    values: Floats, weights: csr_matrix, n_permutations: int, rng: np.random.Generator
) -> Floats:
    """Return Moran's I of permuted values; all columns are permuted alike.

    Parameters
    ----------
    values : ndarray of shape (n_places, n_columns)
    weights : csr_matrix of shape (n_places, n_places)
    n_permutations : int
    rng : numpy.random.Generator

    Returns
    -------
    ndarray of shape (n_permutations, n_columns)
    """
    n, n_columns = values.shape
    step = max(1, _CELLS_AT_ONCE // (n * n_columns))
    parts = []
    for start in range(0, n_permutations, step):
        count = min(step, n_permutations - start)
        orders = [rng.permutation(n) for _ in range(count)]
        wide = np.concatenate([values[order] for order in orders], axis=1)
        parts.append(morans_i(wide, weights).reshape(count, n_columns))
    return np.concatenate(parts)
