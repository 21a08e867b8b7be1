"""Moran's I against brute force: double loops, and all permutations of a small example."""

from itertools import permutations

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.sparse import csr_matrix

from terracausal.evaluation import residuals_of, spatial_autocorrelation
from terracausal.evaluation.moran import (
    distance_weights,
    moran_moments,
    morans_i,
    nearest_weights,
    permuted_morans,
)
from terracausal.nuisance import Scores
from terracausal.study.geography import great_circle_m


def brute_moran(values, weights):
    n, mean = len(values), np.mean(values)
    total = cross = 0.0
    for i in range(n):
        for j in range(n):
            total += weights[i, j]
            cross += weights[i, j] * (values[i] - mean) * (values[j] - mean)
    return n / total * cross / sum((value - mean) ** 2 for value in values)


def brute_distances(lon, lat):
    n = len(lon)
    return np.array(
        [[great_circle_m(lon[i], lat[i], lon[j], lat[j]) for j in range(n)] for i in range(n)]
    )


@pytest.fixture
def places(rng):
    return rng.uniform(30, 33, 40), rng.uniform(-2, 2, 40)


def test_moran_is_the_double_loop(places, rng):
    values = rng.normal(size=(40, 2))
    for weights in (nearest_weights(*places, 5), distance_weights(*places, 60_000)):
        expected = [brute_moran(column, weights.toarray()) for column in values.T]
        np.testing.assert_allclose(morans_i(values, weights), expected, rtol=1e-12)


def test_neighbours_are_the_nearest_places(places):
    weights, distance = nearest_weights(*places, 5).toarray(), brute_distances(*places)
    for i in range(40):
        nearest = [j for j in np.argsort(distance[i]) if j != i][:5]
        assert sorted(np.flatnonzero(weights[i])) == sorted(nearest)
        np.testing.assert_allclose(weights[i, nearest], 0.2)


def test_neighbours_are_all_places_within_the_cutoff(places):
    weights, distance = distance_weights(*places, 60_000).toarray(), brute_distances(*places)
    near = (distance <= 60_000) & ~np.eye(40, dtype=bool)
    np.testing.assert_array_equal(weights > 0, near)
    sums = weights.sum(axis=1)
    np.testing.assert_allclose(sums, near.any(axis=1))


def test_moments_are_those_of_all_permutations(rng):
    values = rng.exponential(size=6)
    weights = csr_matrix(rng.random((6, 6)) * ~np.eye(6, dtype=bool))
    found = [brute_moran(np.array(order), weights.toarray()) for order in permutations(values)]
    mean, variance = moran_moments(values[:, None], weights)
    assert mean == pytest.approx(np.mean(found), abs=1e-12)
    assert variance[0] == pytest.approx(np.var(found), rel=1e-9)


def test_permutations_have_these_moments(places, rng):
    values = rng.exponential(size=(40, 1))
    weights = nearest_weights(*places, 4)
    draws = permuted_morans(values, weights, 4000, rng)
    mean, variance = moran_moments(values, weights)
    # the limit of a mean of 4,000 draws that is crossed once in 100,000 runs
    limit = stats.norm.isf(5e-6) * np.sqrt(variance[0] / 4000)
    assert abs(draws.mean() - mean) < limit
    # the SD of a variance of draws with kurtosis k is its size times sqrt((k - 1) / 4000); k < 6
    assert draws.var() == pytest.approx(variance[0], rel=stats.norm.isf(5e-6) * np.sqrt(5 / 4000))


def table_at(places, rng):
    coords = pd.DataFrame({"lon": places[0], "lat": places[1]})
    values = pd.DataFrame({"smooth": places[0], "noise": rng.normal(size=40)})
    return values, coords


def test_smooth_values_are_found_and_noise_is_not(places, rng):
    values, coords = table_at(places, rng)
    for n_permutations in (0, 499):
        result = spatial_autocorrelation(
            values, coords, n_permutations=n_permutations, random_state=0
        )
        table = result.to_dataframe().set_index("value")
        assert table.loc["smooth", "p_value"] < 0.005
        assert "Conley" in result.summary()
        assert result.plot().get_xlabel() == "Moran's I"
        assert "smooth" in result._repr_html_()
    # the smallest that 499 permutations can give
    assert table.loc["smooth", "p_value"] == pytest.approx(1 / 500)


def test_p_values_are_uniform_without_dependence(rng):
    coords = pd.DataFrame({"lon": rng.uniform(0, 1, 60), "lat": rng.uniform(0, 1, 60)})
    noise = pd.DataFrame(rng.normal(size=(60, 400)))
    p = spatial_autocorrelation(noise, coords, n_permutations=199, random_state=rng).table
    low, high = stats.binom.ppf([5e-6, 1 - 5e-6], 400, 0.05)
    # one set of permutations serves all columns, given which the columns are independent
    assert low <= (p["p_value"] <= 0.05).sum() <= high


def test_row_order_is_irrelevant_and_units_of_a_place_are_averaged(places, rng):
    values, coords = table_at(places, rng)
    once = spatial_autocorrelation(values, coords, random_state=0)
    shuffled = values.sample(frac=1, random_state=1)
    again = spatial_autocorrelation(shuffled, coords, random_state=0)
    pd.testing.assert_frame_equal(once.table, again.table)
    offset = rng.normal(size=(40, 1))
    doubled = pd.concat([values + offset, (values - offset).set_axis(range(100, 140))])
    both = pd.concat([coords, coords.set_axis(range(100, 140))])
    twice = spatial_autocorrelation(doubled, both, random_state=0)
    assert (twice.n_places, twice.n_units) == (40, 80)
    np.testing.assert_allclose(twice.table["moran"], once.table["moran"], rtol=1e-9)


def scores_at(places, rng, **columns):
    n = len(places[0])
    table = {"score": rng.normal(size=n), "lon": places[0], "lat": places[1], **columns}
    return Scores.from_dataframe(pd.DataFrame(table))


def test_scores_stand_for_their_residuals(places, rng):
    w = np.arange(40) % 2
    mu0, mu1 = rng.normal(size=(2, 40))
    y = places[0] + np.where(w == 1, mu1, mu0)
    columns = {"outcome_control": mu0, "outcome_treated": mu1, "propensity": 0.4}
    scores = scores_at(places, rng, treatment=w, outcome=y, **columns)
    residuals = residuals_of(scores)
    np.testing.assert_allclose(residuals["outcome_residual"], places[0], atol=1e-12)
    np.testing.assert_allclose(residuals["treatment_residual"], w - 0.4, atol=1e-12)
    result = spatial_autocorrelation(scores, random_state=0)
    assert result.table["value"].tolist() == ["score", "outcome_residual", "treatment_residual"]
    assert "outcome less its prediction: Moran's I 0." in result.summary()
    assert spatial_autocorrelation(scores_at(places, rng)).table["value"].tolist() == ["score"]


def test_bad_input_is_named(places, rng):
    values, coords = table_at(places, rng)
    no_place = Scores.from_dataframe(pd.DataFrame({"score": [1.0, 2.0]}))
    with pytest.raises(ValueError, match="needs places; found none"):
        spatial_autocorrelation(no_place)
    with pytest.raises(ValueError, match=r"needs the columns lon and lat .* has 'x', 'lat'"):
        spatial_autocorrelation(values, coords.rename(columns={"lon": "x"}))
    with pytest.raises(ValueError, match="at least 10 distinct places; found 9"):
        spatial_autocorrelation(values[:9], coords[:9])
    with pytest.raises(ValueError, match="below the number of places, 40; got 40"):
        spatial_autocorrelation(values, coords, n_neighbors=40)
    with pytest.raises(ValueError, match="No two places are within 1 m"):
        spatial_autocorrelation(values, coords, cutoff_m=1.0)
    with pytest.raises(ValueError, match="must differ between places; 'noise' do not"):
        spatial_autocorrelation(values.assign(noise=0.1), coords)
    gap = values.assign(noise=values["noise"].where(values.index != 3))
    with pytest.raises(ValueError, match="1 of 80 values are NaN"):
        spatial_autocorrelation(gap, coords)
    with pytest.raises(ValueError, match="describe the same 40 units"):
        spatial_autocorrelation(values, coords[1:])
