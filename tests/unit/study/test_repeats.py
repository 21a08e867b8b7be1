"""The median over repeats, estimates on a log scale, and studies made from studies."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from terracausal._foundation.errors import AlignmentError
from terracausal.study import Estimate, Study, UnitFrame, median_estimate
from terracausal.study.derived import resample_clusters, with_note

N = 40


def estimate_of(values, cluster=None, **options):
    keys = pd.RangeIndex(N)
    frame = UnitFrame(keys, None if cluster is None else pd.Series(cluster, index=keys))
    values = values.reshape(N, -1)
    terms = tuple(f"t{j}" for j in range(values.shape[1]))
    mean = values.mean(axis=0)
    return Estimate(mean, values - mean, frame, terms, "mean", "mean", **options)


@pytest.fixture
def runs(rng):
    base = rng.normal(size=(N, 2)) + 1
    return [estimate_of(base + rng.normal(size=(N, 2)) / 3) for _ in range(5)]


def test_the_median_rule(runs):
    found = median_estimate(runs)
    values = np.array([run.value for run in runs])
    middle = np.median(values, axis=0)
    np.testing.assert_array_equal(found.value, middle)
    for j in range(2):
        each = [run.std_error[j] ** 2 + (run.value[j] - middle[j]) ** 2 for run in runs]
        assert found.std_error[j] == pytest.approx(np.sqrt(np.median(each)), rel=1e-12)
    assert np.linalg.eigvalsh(found.covariance).min() > 0
    told = f"t0 from {values[:, 0].min():.4f} to {values[:, 0].max():.4f}"
    assert told in found.summary()
    assert f"SD {values[:, 1].std(ddof=1):.4f}" in found.summary()


def test_one_repeat_is_itself(runs):
    assert median_estimate(runs[:1]) is runs[0]


def test_equal_repeats_change_nothing(runs):
    found = median_estimate([runs[0]] * 3)
    np.testing.assert_allclose(found.covariance, runs[0].covariance, rtol=1e-12)


def test_another_std_error_reaches_every_repeat(rng):
    cluster = np.arange(N) // 4
    runs = [estimate_of(rng.normal(size=N), cluster) for _ in range(3)]
    plain = median_estimate([run.with_std_error("hc") for run in runs])
    assert median_estimate(runs).with_std_error("hc").std_error == pytest.approx(plain.std_error)


def test_algebra_is_done_repeat_by_repeat(runs):
    found = median_estimate(runs)
    other = median_estimate(runs[::-1])
    twice = found * 2.0
    np.testing.assert_allclose(twice.std_error, 2 * found.std_error)
    pairs = [a - b for a, b in zip(runs, runs[::-1], strict=True)]
    expected = median_estimate(pairs)
    np.testing.assert_allclose((found - other).std_error, expected.std_error)
    np.testing.assert_allclose((found - found).std_error, 0)
    shifted = found - runs[0]
    expected = median_estimate([run - runs[0] for run in runs])
    np.testing.assert_allclose(shifted.value, expected.value)
    with pytest.raises(AlignmentError, match=r"number of repeats; got 5 and 3"):
        found - median_estimate(runs[:3])


def test_repeats_of_other_terms(runs, rng):
    with pytest.raises(AlignmentError, match=r"share terms; got \('t0', 't1'\) and \('t0',\)"):
        median_estimate([runs[0], estimate_of(rng.normal(size=N))])


def test_log_scale(rng):
    values = rng.normal(size=N) + 3
    plain, ratio = estimate_of(values), estimate_of(values, scale="log")
    assert ratio.std_error == plain.std_error
    half = stats.t.ppf(0.975, N - 1) * plain.std_error / plain.value
    np.testing.assert_allclose(
        np.log(ratio.confint()[0]), np.log(plain.value) + np.r_[-half, half], rtol=1e-12
    )
    statistic = np.log(plain.value) / (plain.std_error / plain.value)
    np.testing.assert_allclose(ratio.p_value, 2 * stats.t.sf(abs(statistic), N - 1), rtol=1e-10)
    # a multiple or a difference of ratios is no ratio
    assert (2 * ratio).scale == (ratio - ratio).scale == "identity"


# -- derived studies ---------------------------------------------------------------------------


@pytest.fixture
def study(rng):
    table = pd.DataFrame({"y": rng.normal(size=N), "w": np.arange(N) % 2})
    table["site"] = [f"s{k}" for k in np.arange(N) // 4]
    study = Study(table, outcome="y", treatment="w", site="site")
    embeddings = pd.DataFrame({"a": rng.normal(size=10)}, index=[f"s{k}" for k in range(10)])
    return study.join(embeddings)


def test_resampled_clusters_are_whole_copies(study, rng):
    drawn = resample_clusters(study, rng)
    assert drawn.n_units == N
    assert drawn.units.is_unique
    table, source = drawn.table, study.table
    for site, rows in table.groupby("site"):
        own = source[source["site"] == site]
        n_copies = len(rows) // len(own)
        assert sorted(rows["y"]) == sorted(np.repeat(own["y"], n_copies))
        assert (rows["a"] == own["a"].iloc[0]).all()
        assert len(set(drawn.clusters[rows.index])) == 1
    assert table["site"].nunique() < 10  # seed 42 and most others draw some site twice
    # copies share a fold
    folds = drawn.folds(3, random_state=0).labels
    assert folds.groupby(table["site"]).nunique().max() == 1


def test_units_without_clusters_are_their_own(rng):
    table = pd.DataFrame({"y": rng.normal(size=N), "w": np.arange(N) % 2})
    drawn = resample_clusters(Study(table, outcome="y", treatment="w"), rng)
    labels = drawn.folds(4, random_state=0).labels
    assert labels.groupby(drawn.table["y"]).nunique().max() == 1


def test_both_arms_are_always_there(rng):
    table = pd.DataFrame({"y": rng.normal(size=8), "w": [1] + [0] * 7})
    study = Study(table, outcome="y", treatment="w")
    assert all(resample_clusters(study, rng).treatment.nunique() == 2 for _ in range(20))


def test_rows_in_any_order(study, rng):
    table = study.table.drop(columns="a").iloc[rng.permutation(N)]
    shuffled = Study(table, outcome="y", treatment="w", site="site")
    one, other = (resample_clusters(s, np.random.default_rng(0)) for s in (study, shuffled))
    np.testing.assert_array_equal(one.outcome, other.outcome)


def test_a_note_is_told(study):
    assert "note        two weirs were built" in with_note(study, "two weirs were built").describe()
    assert "weirs" not in study.describe()
