"""Standard errors against plain loops."""

from math import asin, cos, radians, sin, sqrt

import numpy as np
import pytest

from terracausal.study.standard_errors import (
    clustered_covariance,
    conley_covariance,
    independent_covariance,
)


@pytest.fixture
def influence(rng):
    values = rng.normal(size=(60, 2))
    return values - values.mean(axis=0)


@pytest.fixture
def places(rng):
    # 25 places, so units share some of them
    return np.column_stack([rng.uniform(30, 31, 25), rng.uniform(1, 2, 25)])[
        rng.integers(0, 25, 60)
    ]


def loop_conley(influence, places, cutoff_m, kernel):
    n, k = influence.shape
    total = np.zeros((k, k))
    for i in range(n):
        for j in range(n):
            (lon_i, lat_i), (lon_j, lat_j) = np.radians(places[i]), np.radians(places[j])
            half = sin((lat_j - lat_i) / 2) ** 2
            half += cos(lat_i) * cos(lat_j) * sin((lon_j - lon_i) / 2) ** 2
            distance = 2 * 6_371_008.8 * asin(min(1.0, sqrt(half)))
            if distance <= cutoff_m:
                share = 1.0 if kernel == "uniform" else 1 - distance / cutoff_m
                total += share * np.outer(influence[i], influence[j])
    return total / n**2


def loop_clusters(influence, cluster):
    totals = [influence[cluster == g].sum(axis=0) for g in set(cluster)]
    meat = sum(np.outer(t, t) for t in totals)
    return meat / len(influence) ** 2 * len(totals) / (len(totals) - 1)


def test_independent_is_the_variance_of_a_mean(influence):
    expected = np.cov(influence.T, ddof=1) / len(influence)
    np.testing.assert_allclose(independent_covariance(influence), expected, rtol=1e-12)


def test_singletons_are_independent_units(influence):
    np.testing.assert_allclose(
        clustered_covariance(influence, np.arange(60)),
        independent_covariance(influence),
        rtol=1e-12,
    )


def test_clusters_against_a_loop(influence, rng):
    cluster = np.r_[np.arange(7), rng.integers(0, 7, 53)]
    np.testing.assert_allclose(
        clustered_covariance(influence, cluster), loop_clusters(influence, cluster), rtol=1e-12
    )


def test_names_of_clusters_do_not_matter(influence, rng):
    cluster = np.arange(60) % 9
    relabelled = rng.permutation(9)[cluster]
    np.testing.assert_allclose(
        clustered_covariance(influence, cluster),
        clustered_covariance(influence, relabelled),
        rtol=1e-12,
    )


def test_units_doubled_in_their_cluster_change_nothing(influence):
    cluster = np.arange(60) % 9
    np.testing.assert_allclose(
        clustered_covariance(np.repeat(influence, 2, axis=0), np.repeat(cluster, 2)),
        clustered_covariance(influence, cluster),
        rtol=1e-12,
    )


@pytest.mark.parametrize("kernel", ["bartlett", "uniform"])
@pytest.mark.parametrize("cutoff_m", [500.0, 15_000.0, 60_000.0, 3e7])
def test_conley_against_a_double_loop(influence, places, kernel, cutoff_m):
    np.testing.assert_allclose(
        conley_covariance(influence, places, cutoff_m, kernel),
        loop_conley(influence, places, cutoff_m, kernel),
        rtol=1e-10,
        atol=1e-14,
    )


@pytest.mark.parametrize("kernel", ["bartlett", "uniform"])
def test_conley_across_the_date_line_and_near_a_pole(influence, rng, kernel):
    places = np.column_stack([rng.uniform(-181, -179, 60), rng.uniform(85, 89.9, 60)])
    places[::2, 0] += 360
    np.testing.assert_allclose(
        conley_covariance(influence, places, 100_000.0, kernel),
        loop_conley(influence, places, 100_000.0, kernel),
        rtol=1e-9,
        atol=1e-14,
    )


def test_a_tiny_cutoff_clusters_by_place(influence, places):
    place = np.unique(places, axis=0, return_inverse=True)[1].reshape(-1)
    n_places = place.max() + 1
    np.testing.assert_allclose(
        conley_covariance(influence, places, 1e-3, "uniform"),
        loop_clusters(influence, place) * (n_places - 1) / n_places,
        rtol=1e-10,
    )


def test_a_huge_uniform_cutoff_adds_everything_up(rng, places):
    values = rng.normal(size=(60, 2)) + 1
    np.testing.assert_allclose(
        conley_covariance(values, places, 3e7, "uniform"),
        np.outer(values.mean(axis=0), values.mean(axis=0)),
        rtol=1e-10,
    )


@pytest.mark.parametrize("kernel", ["bartlett", "uniform"])
def test_conley_in_any_order(influence, places, rng, kernel):
    order = rng.permutation(60)
    np.testing.assert_allclose(
        conley_covariance(influence[order], places[order], 20_000.0, kernel),
        conley_covariance(influence, places, 20_000.0, kernel),
        rtol=1e-11,
        atol=1e-15,
    )


def test_conley_does_not_depend_on_the_size_of_its_blocks(influence, places):
    from terracausal.study.geography import neighbour_blocks, sphere_points

    points = sphere_points(places[:, 0], places[:, 1])

    def matrix(max_pairs):
        blocks = neighbour_blocks(points, 20_000.0, max_pairs)
        return np.vstack([part.toarray() for _, part in blocks])

    np.testing.assert_allclose(matrix(3), matrix(2_000_000), rtol=1e-12)
    lon, lat = radians(places[0][0]), radians(places[0][1])
    assert points[0] == pytest.approx([cos(lat) * cos(lon), cos(lat) * sin(lon), sin(lat)])


def test_conley_of_many_units_needs_no_square_matrix(rng):
    # 20,000 units would need 3.2 GB squared; here the pairs within 20 km are few
    import tracemalloc

    places = np.column_stack([rng.uniform(28, 36, 5_000), rng.uniform(-2, 6, 5_000)])
    values = rng.normal(size=(5_000, 1))
    tracemalloc.start()
    conley_covariance(values, places, 20_000.0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5_000**2 * 8 / 2
