"""The wild cluster bootstrap against a plain re-implementation, and its identities."""

import itertools

import numpy as np
import pandas as pd
import pytest

from terracausal.study import Estimate, UnitFrame, wild_cluster_bootstrap


def mean_of(values, cluster, keys=None):
    keys = pd.RangeIndex(len(values)) if keys is None else keys
    frame = UnitFrame(keys, pd.Series(cluster, index=keys))
    shift = (values - values.mean())[:, None]
    return Estimate(np.array([values.mean()]), shift, frame, ("ate",), "mean", "mean")


@pytest.fixture
def values(rng):
    return rng.normal(size=36) + 0.5


@pytest.fixture
def cluster():
    return np.repeat(np.arange(8), [2, 3, 4, 5, 5, 5, 6, 6])


def restricted(values, cluster, null, signs):
    """Wild bootstrap of a mean by resampling rows, the null imposed; one draw at a time."""
    n, labels = len(values), np.unique(cluster)
    g = len(labels)

    def squared_t(sample):
        residual = sample - sample.mean()
        sums = np.array([residual[cluster == k].sum() for k in labels])
        return (sample.mean() - null) ** 2 / ((sums**2).sum() / n**2 * g / (g - 1))

    own = squared_t(values)
    drawn = []
    for row in signs:
        sample = null + (values - null) * row[np.searchsorted(labels, cluster)]
        drawn.append(squared_t(sample))
    return np.mean(np.array(drawn) >= own * (1 - 1e-9))


def test_against_resampled_rows(values, cluster):
    found = wild_cluster_bootstrap(mean_of(values, cluster), n_draws=199, random_state=0)

    def p_of(null):
        # the sample is one of the draws, so that no p-value is 0
        return (1 + 199 * restricted(values, cluster, null, found.multipliers)) / 200

    assert found.p_value[0] == pytest.approx(p_of(0.0), abs=1e-12)
    assert found.p_value[0] >= 1 / 200
    low, high = found.confint()[0]
    # the ends of the interval are where the same test starts to reject
    for end, out in ((low, -1), (high, 1)):
        assert p_of(end - out * 1e-6) > 0.05
        assert p_of(end + out * 1e-6) <= 0.05
    assert low < found.value[0] < high


def test_all_signs_give_the_exact_sign_test(values, cluster):
    estimate = mean_of(values, cluster)
    found = wild_cluster_bootstrap(
        estimate, law="rademacher", n_draws=40_000, random_state=0
    ).p_value[0]
    exact = restricted(
        values, cluster, 0.0, np.array(list(itertools.product([-1.0, 1.0], repeat=8)))
    )
    # a share of 40,000 draws: five binomial standard errors
    assert found == pytest.approx(exact, abs=5 * np.sqrt(exact * (1 - exact) / 40_000))


def test_scale_and_sign(values, cluster):
    one = wild_cluster_bootstrap(mean_of(values, cluster), n_draws=199, random_state=0)
    other = wild_cluster_bootstrap(mean_of(-3 * values, cluster), n_draws=199, random_state=0)
    assert one.p_value[0] == other.p_value[0]
    np.testing.assert_allclose(other.confint()[0], -3 * one.confint()[0][::-1], rtol=1e-6)
    assert other.std_error[0] == pytest.approx(3 * one.std_error[0])


def test_rows_in_any_order(values, cluster, rng):
    order = rng.permutation(36)
    one = wild_cluster_bootstrap(mean_of(values, cluster), n_draws=199, random_state=0)
    other = wild_cluster_bootstrap(
        mean_of(values[order], cluster[order], pd.Index(order)), n_draws=199, random_state=0
    )
    assert one.p_value[0] == other.p_value[0]


def test_tidy_table_text_and_std_error(values, cluster):
    estimate = mean_of(values, cluster)
    found = wild_cluster_bootstrap(estimate, n_draws=199, random_state=0)
    table = found.to_dataframe()
    assert table.columns[:8].tolist() == estimate.to_dataframe().columns.tolist()
    assert table.loc[0, ["n_units", "n_clusters"]].tolist() == [36, 8]
    assert found.std_error[0] == pytest.approx(estimate.std_error[0], rel=1e-12)
    assert "drawn       199 times with webb weights on 8 clusters" in str(found)
    assert found.plot().get_figure() is not None


def test_too_few_clusters_to_reject_anything(values):
    # three clusters have eight patterns of signs, so no p-value is below 1/4
    cluster = np.arange(36) % 3
    found = wild_cluster_bootstrap(
        mean_of(values, cluster), law="rademacher", n_draws=999, random_state=0
    )
    assert np.isinf(found.confint()).all()


@pytest.mark.parametrize("labels", [None, 2])
def test_refusals(values, labels):
    cluster = None if labels is None else np.arange(36) % labels
    keys = pd.RangeIndex(36)
    frame = UnitFrame(keys, None if cluster is None else pd.Series(cluster, index=keys))
    estimate = Estimate(np.zeros(1), np.zeros((36, 1)), frame, ("ate",), "mean", "mean")
    found = "none" if labels is None else labels
    with pytest.raises(ValueError, match=rf"at least 3 clusters; found {found}"):
        wild_cluster_bootstrap(estimate)


def test_ratios_are_refused(values, cluster):
    estimate = mean_of(values + 5, cluster)
    ratio = Estimate(
        estimate.value, estimate.influence, estimate.frame, ("ratio",), "r", "m", scale="log"
    )
    with pytest.raises(ValueError, match=r"got a ratio"):
        wild_cluster_bootstrap(ratio)
