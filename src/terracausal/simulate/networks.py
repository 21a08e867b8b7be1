"""Line networks on a grid: drainage trees and least-cost roads, smoothed and drawn on pixels."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, sparse
from scipy.sparse import csgraph

# half of the eight neighbours; the other half is the same edges backwards
_STEPS = ((0, 1), (1, 0), (1, 1), (1, -1))


@dataclass(frozen=True)
class NearestLine:
    """For each pixel, the nearest point of a line network.

    Parameters
    ----------
    distance_px : ndarray of shape (size_px, size_px)
        Distance from the pixel's centre to the line; infinite when there is no line at all.
    value : ndarray of shape (size_px, size_px)
        The line's value (its width, its class) at that point; 0 when there is no line.
    """

    distance_px: NDArray[np.float32]
    value: NDArray[np.float32]


def grid_graph(
    cost: NDArray[np.float64], climb: NDArray[np.float64] | None = None
) -> sparse.csr_array:
    """Connect each node of a grid with its eight neighbours.

    Parameters
    ----------
    cost : ndarray of shape (side, side)
        Cost of crossing one node, above 0; an edge costs the mean of its ends times its length.
    climb : ndarray of shape (side, side), default=None
        Heights; an edge also costs every unit of height by which its end lies *below* its start,
        so that a search which starts at the outlets seldom lets water run uphill.

    Returns
    -------
    csr_array of shape (side * side, side * side)
        Directed edges, both ways.
    """
    side = cost.shape[0]
    node = np.arange(side * side).reshape(side, side)
    starts, ends, weights = [], [], []
    for down, right in _STEPS:
        first = (slice(0, side - down), slice(max(0, -right), side - max(0, right)))
        second = (slice(down, side), slice(max(0, right), side + min(0, right)))
        length = float(np.hypot(down, right))
        mean_cost = 0.5 * length * (cost[first] + cost[second])
        drop = 0.0 if climb is None else climb[first] - climb[second]
        starts += [node[first].ravel(), node[second].ravel()]
        ends += [node[second].ravel(), node[first].ravel()]
        forth, back = mean_cost + np.maximum(drop, 0.0), mean_cost + np.maximum(-drop, 0.0)
        weights += [forth.ravel(), back.ravel()]
    edges = (np.concatenate(starts), np.concatenate(ends))
    return sparse.csr_array((np.concatenate(weights), edges), shape=(side**2, side**2))


def nearest_source_tree(
    graph: sparse.csr_array, sources: NDArray[np.intp]
) -> tuple[NDArray[np.float64], NDArray[np.intp], NDArray[np.intp]]:
    """Grow the cheapest paths from a set of nodes to all nodes.

    Parameters
    ----------
    graph : csr_array of shape (n_nodes, n_nodes)
        Edge costs.
    sources : ndarray of shape (n_sources,)
        Nodes at which paths may start.

    Returns
    -------
    cost : ndarray of shape (n_nodes,)
        Cost of the cheapest path.
    parent : ndarray of shape (n_nodes,)
        The node before; a source is its own parent.
    source : ndarray of shape (n_nodes,)
        The source at which the path starts.
    """
    cost, parent, source = csgraph.dijkstra(
        graph, directed=True, indices=sources, min_only=True, return_predecessors=True
    )
    own = np.arange(parent.size)
    return cost, np.where(parent < 0, own, parent), np.asarray(source, dtype=np.intp)


def accumulate_upstream(
    parent: NDArray[np.intp], amount: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Sum `amount` over each node and all nodes that drain through it.

    Pointer doubling: after k rounds a node holds its descendants of fewer than 2^k generations.

    Parameters
    ----------
    parent : ndarray of shape (n_nodes,)
        The node downstream; an outlet is its own parent.
    amount : ndarray of shape (n_nodes,)
        What each node adds.

    Returns
    -------
    ndarray of shape (n_nodes,)
        The sums.

    Examples
    --------
    >>> accumulate_upstream(np.array([0, 0, 1]), np.ones(3)).tolist()
    [3.0, 2.0, 1.0]
    """
    n_nodes = parent.size
    ancestor = np.append(np.where(parent == np.arange(n_nodes), n_nodes, parent), n_nodes)
    total = np.append(amount, 0.0)
    while bool((ancestor < n_nodes).any()):
        total = total + np.bincount(ancestor, weights=total, minlength=n_nodes + 1)
        total[n_nodes] = 0.0
        ancestor = ancestor[ancestor]
    return total[:n_nodes]


def sum_downstream(parent: NDArray[np.intp], amount: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sum `amount` over each node and all nodes on its way to the outlet, the outlet left out.

    Parameters
    ----------
    parent : ndarray of shape (n_nodes,)
        The node downstream; an outlet is its own parent.
    amount : ndarray of shape (n_nodes,)
        What each node adds.

    Returns
    -------
    ndarray of shape (n_nodes,)
        The sums; 0 at outlets.

    Examples
    --------
    >>> sum_downstream(np.array([0, 0, 1]), np.array([9.0, 1.0, 2.0])).tolist()
    [0.0, 1.0, 3.0]
    """
    is_outlet = parent == np.arange(parent.size)
    total, ancestor = np.where(is_outlet, 0.0, amount), parent.copy()
    while not bool(is_outlet[ancestor].all()):
        total = total + total[ancestor]
        ancestor = ancestor[ancestor]
    return total


def spanning_paths(
    graph: sparse.csr_array, sources: NDArray[np.intp], extra_share: float
) -> NDArray[np.intp]:
    """Connect sources by the cheapest paths through a grid.

    Where the territories of two sources touch, their cheapest joining path is a candidate; the
    minimum spanning tree of the candidates is kept, and the cheapest others up to `extra_share`.

    Parameters
    ----------
    graph : csr_array of shape (n_nodes, n_nodes)
        Edge costs, symmetric.
    sources : ndarray of shape (n_sources,)
        Nodes to connect.
    extra_share : float
        Number of further paths, as a share of the number of sources; they make loops.

    Returns
    -------
    ndarray of shape (n_edges, 2)
        The edges of all paths, each once.
    """
    cost, parent, source = nearest_source_tree(graph, sources)
    edges = graph.tocoo()
    start, end = edges.coords
    is_border = (source[start] != source[end]) & (start < end)
    start, end = start[is_border], end[is_border]
    total = cost[start] + edges.data[is_border] + cost[end]
    rank = np.full(parent.size, -1)
    rank[sources] = np.arange(sources.size)
    low = np.minimum(rank[source[start]], rank[source[end]])
    high = np.maximum(rank[source[start]], rank[source[end]])
    cheapest_first = np.lexsort((total, high, low))
    pair = (low * sources.size + high)[cheapest_first]
    joins = cheapest_first[np.unique(pair, return_index=True)[1]]
    shape = (sources.size, sources.size)
    candidates = sparse.csr_array((total[joins], (low[joins], high[joins])), shape=shape)
    tree = csgraph.minimum_spanning_tree(candidates).tocoo()
    in_tree = np.isin(low[joins] * sources.size + high[joins], tree.row * sources.size + tree.col)
    others = joins[~in_tree]
    others = others[np.argsort(total[others])][: int(extra_share * sources.size)]
    kept = np.concatenate([joins[in_tree], others])
    return _trace_edges(parent, start[kept], end[kept])


def _trace_edges(
    parent: NDArray[np.intp], start: NDArray[np.intp], end: NDArray[np.intp]
) -> NDArray[np.intp]:
    """Return the edges from both ends of each join back to their sources."""
    on_path = np.zeros(parent.size, dtype=bool)
    front = np.unique(np.concatenate([start, end]))
    while front.size:
        on_path[front] = True
        front = np.unique(parent[front])
        front = front[~on_path[front]]
    nodes = np.flatnonzero(on_path & (parent != np.arange(parent.size)))
    edges = np.concatenate([np.column_stack([nodes, parent[nodes]]), np.column_stack([start, end])])
    return np.asarray(np.unique(np.sort(edges, axis=1), axis=0), dtype=np.intp)


def smooth_positions(
    positions: NDArray[np.float64],
    edges: NDArray[np.intp],
    fixed: NDArray[np.intp],
    n_rounds: int,
) -> NDArray[np.float64]:
    """Move each node of a network towards the mean of its neighbours, `n_rounds` times.

    Parameters
    ----------
    positions : ndarray of shape (n_nodes, 2)
        Rows and columns.
    edges : ndarray of shape (n_edges, 2)
        Pairs of nodes.
    fixed : ndarray of shape (n_fixed,)
        Nodes that stay where they are.
    n_rounds : int
        Number of half-way steps.

    Returns
    -------
    ndarray of shape (n_nodes, 2)
        The new positions.
    """
    n_nodes = positions.shape[0]
    both = np.concatenate([edges, edges[:, ::-1]])
    neighbours = sparse.csr_array((np.ones(len(both)), tuple(both.T)), shape=(n_nodes, n_nodes))
    degree = neighbours.sum(axis=1)
    moving = degree > 1
    moving[fixed] = False
    smooth = positions.copy()
    for _ in range(n_rounds):
        mean = (neighbours @ smooth)[moving] / degree[moving, None]
        smooth[moving] = 0.5 * smooth[moving] + 0.5 * mean
    return smooth


def draw_lines(
    start: NDArray[np.float64], end: NDArray[np.float64], value: NDArray[np.float64], size_px: int
) -> NearestLine:
    """Measure how far each pixel lies from a set of straight lines.

    Parameters
    ----------
    start, end : ndarray of shape (n_lines, 2)
        Rows and columns in pixels; a pixel's centre has whole numbers.
    value : ndarray of shape (n_lines,)
        What the line carries; where lines share a pixel the highest is drawn.
    size_px : int
        Height and width of the picture.

    Returns
    -------
    NearestLine
        Distances to points every half pixel along the lines, and the values there.
    """
    if not len(start):
        blank = np.full((size_px, size_px), np.inf, dtype=np.float32)
        return NearestLine(blank, np.zeros_like(blank))
    order = np.argsort(value, kind="stable")
    start, end, value = start[order], end[order], value[order]
    n_steps = int(np.ceil(2.0 * np.abs(end - start).max())) + 1
    along = np.linspace(0.0, 1.0, n_steps)[:, None]
    points = (start[:, None] + (end - start)[:, None] * along).reshape(-1, 2)
    values = np.repeat(value, n_steps)
    pixel = np.rint(points).astype(np.intp)
    inside = ((pixel >= 0) & (pixel < size_px)).all(axis=1)
    points, values, pixel = points[inside], values[inside], pixel[inside]
    if not len(points):
        return draw_lines(start[:0], end[:0], value[:0], size_px)
    index = np.full((size_px, size_px), -1)
    index[pixel[:, 0], pixel[:, 1]] = np.arange(len(points))
    rows, columns = ndimage.distance_transform_edt(
        index < 0, return_distances=False, return_indices=True
    )
    nearest = index[rows, columns]
    row, column = np.ogrid[:size_px, :size_px]
    distance = np.hypot(points[nearest, 0] - row, points[nearest, 1] - column)
    return NearestLine(distance.astype(np.float32), values[nearest].astype(np.float32))
