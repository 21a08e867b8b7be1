"""Distances on the sphere, and who is near whom, without an n × n matrix."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

EARTH_RADIUS_M = 6_371_008.8  # mean radius of the Earth (IUGG)

Floats = NDArray[np.floating[Any]]


def sphere_points(lon: Floats, lat: Floats) -> Floats:
    """Return points on the unit sphere.

    Parameters
    ----------
    lon, lat : ndarray of shape (n,)
        Degrees.

    Returns
    -------
    ndarray of shape (n, 3)
    """
    lam, phi = np.radians(lon), np.radians(lat)
    return np.column_stack([np.cos(phi) * np.cos(lam), np.cos(phi) * np.sin(lam), np.sin(phi)])


def chord_of_distance(distance_m: float) -> float:
    """Return the straight-line distance on the unit sphere of a great-circle distance."""
    return float(2 * np.sin(min(distance_m / EARTH_RADIUS_M, np.pi) / 2))


def distance_of_chord(chord: Floats) -> Floats:
    """Return the great-circle distance in metres of straight lines on the unit sphere."""
    distance: Floats = 2 * EARTH_RADIUS_M * np.arcsin(np.clip(chord / 2, 0, 1))
    return distance


def great_circle_m(lon_a: Floats, lat_a: Floats, lon_b: Floats, lat_b: Floats) -> Floats:
    """Return great-circle distances in metres, point by point (haversine formula).

    Examples
    --------
    >>> one = np.array([0.0]), np.array([0.0]), np.array([1.0]), np.array([0.0])
    >>> great_circle_m(*one).round(-2).tolist()
    [111200.0]
    """
    phi_a, phi_b = np.radians(lat_a), np.radians(lat_b)
    half = np.sin((phi_b - phi_a) / 2) ** 2
    half = half + np.cos(phi_a) * np.cos(phi_b) * np.sin(np.radians(lon_b - lon_a) / 2) ** 2
    distance: Floats = 2 * EARTH_RADIUS_M * np.arcsin(np.sqrt(np.clip(half, 0, 1)))
    return distance


def neighbour_blocks(
    points: Floats, cutoff_m: float, max_pairs: int = 2_000_000
) -> Iterator[tuple[slice, csr_matrix]]:
    """Yield the upper triangle of the sparse matrix of distances, a block of points at a time.

    Parameters
    ----------
    points : ndarray of shape (n, 3)
        Points on the unit sphere.
    cutoff_m : float
        Pairs further apart than this many metres are left out.
    max_pairs : int, default=2_000_000
        About as many pairs are held at once, which bounds the memory.

    Yields
    ------
    rows : slice
        Which points the block is about.
    distances : csr_matrix of shape (n_rows, n - rows.start)
        Metres to the block's own points, then to all later ones; a stored 0 is a pair at
        distance 0.
    """
    radius = chord_of_distance(cutoff_m)
    # callers sort by longitude, so a block is a thin strip and its tree is cheap to search
    start, n = 0, len(points)
    rows = max(1, min(n, 256))
    while start < n:
        part = slice(start, min(start + rows, n))
        block, rest = cKDTree(points[part]), cKDTree(points[start:])
        pairs = block.sparse_distance_matrix(rest, radius, output_type="coo_matrix")
        metres = distance_of_chord(pairs.data)
        shape = (part.stop - start, n - start)
        yield part, csr_matrix((metres, (pairs.row, pairs.col)), shape=shape)
        per_row = max(1.0, pairs.nnz / (part.stop - start))
        start = part.stop
        rows = int(np.clip(max_pairs / per_row, 1, 4 * rows))


def spatial_blocks(lon: Floats, lat: Floats, block_m: float) -> NDArray[np.int64]:
    """Return the square block of `block_m` metres in which each point lies.

    The grid is sinusoidal: rows of equal height, and columns measured along each row's own
    parallel, so blocks have the same area at every latitude.
    """
    row = np.floor(np.radians(lat) * EARTH_RADIUS_M / block_m)
    middle = (row + 0.5) * block_m / EARTH_RADIUS_M
    width = np.radians(lon) * np.maximum(np.cos(middle), 0) * EARTH_RADIUS_M
    cells = np.column_stack([row, np.floor(width / block_m)]).astype(np.int64)
    return np.unique(cells, axis=0, return_inverse=True)[1].reshape(-1).astype(np.int64)


def linked_groups(*labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the smallest groups that split none of the given labellings.

    Two rows are in one group when a chain of shared labels leads from one to the other.

    Examples
    --------
    >>> linked_groups(np.array([0, 0, 1, 2]), np.array([5, 6, 6, 7])).tolist()
    [0, 0, 0, 1]
    """
    n = len(labels[0])
    offset, rows, columns = n, [], []
    for label in labels:
        codes = np.unique(label, return_inverse=True)[1].reshape(-1)
        rows.append(np.arange(n))
        columns.append(codes + offset)
        offset += int(codes.max(initial=-1)) + 1
    row, column = np.concatenate(rows), np.concatenate(columns)
    graph = csr_matrix((np.ones(len(row), dtype=np.int8), (row, column)), shape=(offset, offset))
    return np.asarray(connected_components(graph, directed=False)[1][:n], dtype=np.int64)
