"""Networks and fields against brute force."""

import numpy as np
import pytest
from scipy import stats
from scipy.sparse import coo_array, csgraph

from terracausal.simulate.networks import (
    accumulate_upstream,
    draw_lines,
    grid_graph,
    nearest_source_tree,
    smooth_positions,
    spanning_paths,
    sum_downstream,
)
from terracausal.simulate.placement import place_apart
from terracausal.simulate.spectral import fractal_noise, soft_step


@pytest.fixture
def tree():
    """A random forest with two roots; parents have lower numbers, then all are renamed."""
    generator = np.random.default_rng(0)
    parent = np.array([0, 1, *(int(generator.integers(node)) for node in range(2, 60))])
    name = generator.permutation(60)
    renamed = np.empty(60, dtype=np.intp)
    renamed[name] = name[parent]
    return renamed, generator.random(60)


def walk(parent, node):
    path = [node]
    while parent[path[-1]] != path[-1]:
        path.append(int(parent[path[-1]]))
    return path


def test_upstream_sums_equal_a_walk_from_each_node(tree):
    parent, amount = tree
    expected = np.zeros(60)
    for node in range(60):
        for below in walk(parent, node):
            expected[below] += amount[node]
    np.testing.assert_allclose(accumulate_upstream(parent, amount), expected, rtol=1e-12)


def test_downstream_sums_equal_a_walk_without_the_outlet(tree):
    parent, amount = tree
    expected = [sum(amount[walk(parent, node)[:-1]]) for node in range(60)]
    np.testing.assert_allclose(sum_downstream(parent, amount), expected, rtol=1e-12)


def test_grid_has_eight_neighbours_with_costs_times_lengths():
    cost = np.arange(1.0, 10.0).reshape(3, 3)
    graph = grid_graph(cost).toarray()
    assert (graph > 0).sum(axis=1).tolist() == [3, 5, 3, 5, 8, 5, 3, 5, 3]
    assert graph[0, 1] == pytest.approx(1.5)
    assert graph[2, 4] == pytest.approx(np.sqrt(2) * (3 + 5) / 2)
    np.testing.assert_array_equal(graph, graph.T)


def test_climbing_costs_only_where_the_end_lies_below_the_start():
    height = np.array([[0.0, 2.0], [5.0, 1.0]])
    graph = grid_graph(np.ones((2, 2)), climb=height).toarray()
    assert graph[0, 1] == pytest.approx(1.0)
    assert graph[1, 0] == pytest.approx(1.0 + 2.0)


def test_each_node_drains_to_the_source_that_is_cheapest():
    cost = np.random.default_rng(1).random((7, 7)) + 0.1
    graph, sources = grid_graph(cost), np.array([3, 40])
    found, parent, source = nearest_source_tree(graph, sources)
    every = csgraph.dijkstra(graph, indices=sources)
    np.testing.assert_allclose(found, every.min(axis=0))
    np.testing.assert_array_equal(source, sources[every.argmin(axis=0)])
    assert all(walk(parent, node)[-1] == source[node] for node in range(49))


def test_paths_connect_all_sources_and_extra_ones_make_loops():
    generator = np.random.default_rng(2)
    graph = grid_graph(generator.random((20, 20)) + 0.1)
    sources = generator.choice(400, size=12, replace=False)

    def components(edges):
        matrix = coo_array((np.ones(len(edges)), tuple(edges.T)), shape=(400, 400))
        labels = csgraph.connected_components(matrix, directed=False)[1]
        return np.unique(labels[sources]).size

    tree = spanning_paths(graph, sources, 0.0)
    looped = spanning_paths(graph, sources, 0.5)
    assert components(tree) == 1
    assert len(tree) == np.unique(tree).size - 1  # a tree has one edge fewer than nodes
    assert {tuple(edge) for edge in tree} < {tuple(edge) for edge in looped}
    assert all(components(np.delete(tree, row, axis=0)) == 2 for row in range(len(tree)))


def test_two_sources_are_joined_by_the_shortest_path():
    graph = grid_graph(np.random.default_rng(3).random((9, 9)) + 0.1)
    edges = spanning_paths(graph, np.array([0, 80]), 0.0)
    length = sum(graph[start, end] for start, end in edges)
    assert length == pytest.approx(csgraph.dijkstra(graph, indices=0)[80])


def test_smoothing_leaves_a_straight_line_and_its_ends_alone():
    line = np.column_stack([np.arange(5.0), 2.0 * np.arange(5.0)])
    edges = np.column_stack([np.arange(4), np.arange(1, 5)])
    np.testing.assert_allclose(smooth_positions(line, edges, np.array([0]), 5), line)
    bent = line.copy()
    bent[2] += [0.0, 3.0]
    smooth = smooth_positions(bent, edges, np.array([0]), 1)
    np.testing.assert_allclose(smooth[[0, 4]], bent[[0, 4]])
    np.testing.assert_allclose(smooth[2], line[2] + [0.0, 1.5])


def test_distances_to_lines_equal_exact_geometry():
    start, end = np.array([[3.0, 2.0], [20.0, 5.0]]), np.array([[17.0, 26.0], [28.0, 8.0]])
    found = draw_lines(start, end, np.array([1.0, 2.0]), 30)
    row, column = np.mgrid[:30, :30]
    exact = []
    for first, last in zip(start, end, strict=True):
        along = ((row - first[0]) * (last - first)[0] + (column - first[1]) * (last - first)[1]) / (
            (last - first) @ (last - first)
        )
        along = np.clip(along, 0, 1)
        nearest = first[:, None, None] + (last - first)[:, None, None] * along
        exact.append(np.hypot(nearest[0] - row, nearest[1] - column))
    # the nearest of points half a pixel apart, found by their rounded places
    np.testing.assert_allclose(found.distance_px, np.min(exact, axis=0), atol=0.8)
    clear = np.abs(exact[0] - exact[1]) > 2
    np.testing.assert_array_equal(found.value[clear], (1.0 + np.argmin(exact, axis=0))[clear])


@pytest.mark.parametrize("start", [np.zeros((0, 2)), np.full((1, 2), -50.0)])
def test_a_picture_without_lines_is_infinitely_far_from_them(start):
    found = draw_lines(start, start + 1.0, np.ones(len(start)), 5)
    assert np.isinf(found.distance_px).all()
    assert not found.value.any()


def test_places_keep_their_distance_and_avoid_forbidden_ground():
    weight = np.zeros((60, 60))
    weight[:, 30:] = -np.inf
    places = place_apart(weight, 1_000, 4, np.random.default_rng(0))
    gaps = np.abs(places[:, None] - places[None]).max(axis=2)
    assert gaps[~np.eye(len(places), dtype=bool)].min() > 4
    assert places[:, 1].max() < 30
    assert len(place_apart(weight, 3, 4, np.random.default_rng(0))) == 3


def test_places_follow_their_weights():
    generator = np.random.default_rng(0)
    weight = np.log(np.array([[1.0, 3.0]]))
    n_draws = 4_000
    heavy = sum(int(place_apart(weight, 1, 0, generator)[0, 1]) for _ in range(n_draws))
    low, high = stats.binom.ppf([5e-6, 1 - 5e-6], n_draws, 0.75)  # false alarms: 1e-5
    assert low <= heavy <= high


def test_noise_is_standardised_and_smoother_with_a_steeper_spectrum():
    def roughness(decay):
        field = fractal_noise(128, np.random.default_rng(0), correlation_px=40, decay=decay)
        assert field.dtype == np.float32
        assert field.mean() == pytest.approx(0, abs=1e-5)
        assert field.std() == pytest.approx(1, abs=1e-5)
        return np.diff(field, axis=0).std()

    assert roughness(2.2) > 1.5 * roughness(3.2) > 2.25 * roughness(4.2)


def test_noise_does_not_repeat_across_opposite_borders():
    field = fractal_noise(128, np.random.default_rng(0), correlation_px=30, decay=4.0)
    step = np.diff(field, axis=0).std()
    assert (field[0] - field[-1]).std() > 3 * step


def test_soft_step_is_symmetric_and_saturates():
    values = soft_step(np.array([-1e6, -1.0, 0.0, 1.0, 1e6], dtype=np.float32), 0.5)
    np.testing.assert_allclose(values + values[::-1], 1.0, atol=1e-6)
    assert values[[0, 4]].tolist() == pytest.approx([0.0, 1.0])
