"""Two-way clustering against plain loops and statsmodels."""

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm

from terracausal._foundation.errors import AlignmentError
from terracausal.study import Estimate, UnitFrame
from terracausal.study.standard_errors import clustered_covariance, two_way_covariance

N = 60


def codes(rng):
    return rng.integers(8, size=N), rng.integers(5, size=N)


@pytest.fixture
def labels(rng):
    first, second = codes(rng)
    return pd.Series(first), pd.Series([f"year {k}" for k in second])


@pytest.fixture
def estimate(rng, labels):
    values = rng.normal(size=N) + labels[0] / 4
    frame = UnitFrame(pd.RangeIndex(N), labels[0])
    return Estimate(
        np.array([values.mean()]),
        (values - values.mean()).to_numpy()[:, None],
        frame,
        ("ate",),
        "mean",
        "mean",
    )


def test_against_a_double_loop(rng):
    first, second = codes(rng)
    influence = rng.normal(size=(N, 1))

    def loop(same):
        total = 0.0
        for i in range(N):
            for j in range(N):
                if same(i, j):
                    total += influence[i, 0] * influence[j, 0]
        return total / N**2

    def factor(*groups):
        g = len({tuple(row) for row in np.column_stack(groups)})
        return g / (g - 1)

    expected = (
        factor(first) * loop(lambda i, j: first[i] == first[j])
        + factor(second) * loop(lambda i, j: second[i] == second[j])
        - factor(first, second) * loop(lambda i, j: first[i] == first[j] and second[i] == second[j])
    )
    if expected < 0:
        pytest.skip("this draw takes the conservative road")
    assert two_way_covariance(influence, first, second)[0, 0] == pytest.approx(expected, rel=1e-10)


def test_against_statsmodels(rng):
    first, second = codes(rng)
    x = rng.normal(size=N) + first / 4
    y = x + rng.normal(size=8)[first] + rng.normal(size=5)[second] + rng.normal(size=N)
    design = sm.add_constant(x)
    fit = sm.OLS(y, design).fit()
    influence = N * design * fit.resid[:, None] @ np.linalg.inv(design.T @ design)
    found = two_way_covariance(influence, first, second)
    groups = np.column_stack([first, second])
    expected = fit.get_robustcov_results("cluster", groups=groups, use_correction=False)
    # each part of ours has its own G / (G - 1), so the parts are compared
    total = sum(
        sign
        * clustered_covariance(influence, np.unique(g, axis=0, return_inverse=True)[1])
        * (1 - 1 / len(np.unique(g, axis=0)))
        for sign, g in ((1, groups[:, :1]), (1, groups[:, 1:]), (-1, groups))
    )
    np.testing.assert_allclose(total, expected.cov_params(), rtol=1e-9)
    assert np.linalg.eigvalsh(found).min() >= 0


def test_nested_clusters_are_the_coarser_ones(rng):
    fine, influence = np.arange(N) // 5, rng.normal(size=(N, 2))
    coarse = fine // 3
    np.testing.assert_allclose(
        two_way_covariance(influence, coarse, fine), clustered_covariance(influence, coarse)
    )


def test_what_is_no_covariance_is_not_subtracted():
    # both marginal sums vanish, so that only the intersection is left, with a minus
    first, second = np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1])
    influence = np.array([[1.0], [-1.0], [-1.0], [1.0]])
    assert two_way_covariance(influence, first, second)[0, 0] == 0


def test_on_demand(estimate, labels):
    found = estimate.with_std_error("two_way", by=labels[1].iloc[::-1])
    first, second = (pd.factorize(label)[0] for label in labels)
    expected = two_way_covariance(estimate.influence, first, second)
    assert found.std_error[0] == pytest.approx(np.sqrt(expected[0, 0]), rel=1e-12)
    n_first, n_second = labels[0].nunique(), labels[1].nunique()
    assert f"clustered two ways ({n_first} and {n_second} clusters, few" in found.summary()
    assert found.degrees_of_freedom == min(n_first, n_second) - 1
    assert found.to_dataframe().loc[0, "n_clusters"] == min(n_first, n_second)
    assert (found - found).std_error[0] == 0


def test_without_a_second_cluster(estimate, labels):
    with pytest.raises(ValueError, match=r"needs the second cluster .* none was given"):
        estimate.with_std_error("two_way")
    with pytest.raises(TypeError, match=r"a Series indexed by unit.* got a ndarray"):
        estimate.with_std_error("two_way", by=labels[1].to_numpy())
    with pytest.raises(AlignmentError, match=r"`by` .* 1 are missing \(59\)"):
        estimate.with_std_error("two_way", by=labels[1].iloc[:-1])
    with pytest.raises(AlignmentError, match=r"second cluster; 2 of 60 have none: 0, 1"):
        estimate.with_std_error("two_way", by=labels[1].where(labels[1].index > 1))
