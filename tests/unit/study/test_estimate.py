"""Estimates: intervals, algebra, tidy tables, text and pictures."""

import dataclasses
import pickle

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from terracausal._foundation.errors import AlignmentError
from terracausal.study import Dependence, Estimate, UnitFrame

N, G = 60, 12


def frame_of(keys, cluster=True, shift=0.0, treatment=None):
    keys = pd.Index(keys)
    number = np.asarray(keys)
    return UnitFrame(
        keys,
        pd.Series(number % G, index=keys) if cluster else None,
        pd.DataFrame({"lon": 30 + number / 50 + shift, "lat": 1 + number % 5 / 10}, index=keys),
        pd.Series(number % 2 if treatment is None else treatment, index=keys),
    )


def estimate_of(values, frame, terms=("ate",), **words):
    """The mean of some values of each unit."""
    values = np.asarray(values).reshape(frame.n_units, -1)
    mean = values.mean(axis=0)
    return Estimate(
        mean, values - mean, frame, terms, words.pop("estimand", "mean"), "mean", **words
    )


@pytest.fixture
def values(rng):
    return rng.normal(size=N) + 2


@pytest.fixture
def a(values):
    return estimate_of(values, frame_of(range(N)))


@pytest.fixture
def b(rng):
    return estimate_of(rng.normal(size=N), frame_of(range(N)))


@pytest.fixture(params=["hc", "cluster", "conley"])
def kind(request):
    return {"kind": request.param} | ({"cutoff_m": 2e5} if request.param == "conley" else {})


def test_independent_by_default_without_clusters(values):
    estimate = estimate_of(values, frame_of(range(N), cluster=False))
    assert estimate.std_error[0] == pytest.approx(values.std(ddof=1) / np.sqrt(N), rel=1e-12)
    assert estimate.n_clusters is None
    assert "independent" in estimate.summary()


def test_clustered_by_default_against_five_lines(a, values):
    residual = values - values.mean()
    total = 0.0
    for g in range(G):
        total += residual[np.arange(N) % G == g].sum() ** 2
    assert a.std_error[0] == pytest.approx(np.sqrt(total / N**2 * G / (G - 1)), rel=1e-12)
    assert "clustered (12 clusters, few: treat the interval with care)" in a.summary()


def test_degrees_of_freedom_and_quantiles(a):
    for kind, freedom in (("hc", N - 1), ("cluster", G - 1)):
        estimate = a.with_std_error(kind)
        half = stats.t.ppf(0.95, freedom) * estimate.std_error
        np.testing.assert_allclose(
            estimate.confint(0.9), np.c_[a.value - half, a.value + half], rtol=1e-12
        )
        p_value = 2 * stats.t.sf(abs(a.value / estimate.std_error), freedom)
        np.testing.assert_allclose(estimate.p_value, p_value, rtol=1e-12)
    spatial = a.with_std_error("conley", cutoff_m=1e5)
    half = stats.norm.ppf(0.975) * spatial.std_error
    np.testing.assert_allclose(spatial.confint()[0, 1], a.value + half)


@pytest.mark.parametrize("level", [0, 1, 95, -0.5])
def test_levels(a, level):
    with pytest.raises(ValueError, match=rf"`level` must lie .* got {level}"):
        a.confint(level)


def test_tidy_table(a):
    table = a.to_dataframe(level=0.9)
    names = ["term", "estimate", "std_error", "ci_low", "ci_high", "level", "n_units", "n_clusters"]
    assert table.columns.tolist() == names
    assert table.loc[0, ["term", "level", "n_units", "n_clusters"]].tolist() == ["ate", 0.9, N, G]
    assert table.loc[0, ["ci_low", "ci_high"]].tolist() == pytest.approx(list(a.confint(0.9)[0]))


def test_one_row_per_term(rng):
    both = estimate_of(rng.normal(size=(N, 2)), frame_of(range(N)), terms=("x", "y"))
    assert both.to_dataframe()["term"].tolist() == ["x", "y"]
    assert both.covariance.shape == (2, 2)
    np.testing.assert_allclose(np.sqrt(np.diag(both.covariance)), both.std_error)


# -- algebra -----------------------------------------------------------------------------------


def test_minus_itself_is_nothing(a, kind):
    nothing = a.with_std_error(**kind) - a.with_std_error(**kind)
    assert nothing.value[0] == 0
    assert nothing.std_error[0] == 0


def test_minus_is_antisymmetric(a, b, kind):
    a, b = a.with_std_error(**kind), b.with_std_error(**kind)
    one, other = a - b, -(b - a)
    np.testing.assert_allclose(one.value, other.value, rtol=1e-12)
    np.testing.assert_allclose(one.std_error, other.std_error, rtol=1e-12)


@pytest.mark.parametrize("factor", [2, -3.0, 0.5, np.float64(4), np.int64(2)])
def test_scaling(a, factor, kind):
    a = a.with_std_error(**kind)
    for scaled in (a * factor, factor * a):
        assert scaled.value[0] == pytest.approx(factor * a.value[0], rel=1e-12)
        assert scaled.std_error[0] == pytest.approx(abs(factor) * a.std_error[0], rel=1e-12)
    assert (a / factor).value[0] == pytest.approx(a.value[0] / factor, rel=1e-12)
    assert (a / factor).std_error[0] == pytest.approx(a.std_error[0] / abs(factor), rel=1e-12)


def test_sum_and_difference_of_the_same_units(a, b, values):
    other = b.influence[:, 0] + b.value[0]
    for mark in (1, -1):
        combined = a + b if mark == 1 else a - b
        direct = estimate_of(values + mark * other, a.frame)
        np.testing.assert_allclose(combined.value, direct.value, rtol=1e-12, atol=1e-15)
        np.testing.assert_allclose(combined.std_error, direct.std_error, rtol=1e-12)


def test_difference_in_another_order_of_rows(a, b, rng):
    order = rng.permutation(N)
    shuffled = estimate_of((b.influence[:, 0] + b.value[0])[order], frame_of(order))
    np.testing.assert_allclose((a - shuffled).std_error, (a - b).std_error, rtol=1e-12)


@pytest.mark.parametrize("clustered", [True, False])
def test_difference_of_partly_shared_units_against_stacking(rng, clustered):
    keys_a, keys_b = range(40), range(25, 60)
    a = estimate_of(rng.normal(size=40), frame_of(keys_a, clustered))
    b = estimate_of(rng.normal(size=35), frame_of(keys_b, clustered))
    # variance of sum_i (psi_a,i / n_a - psi_b,i / n_b) over the units of either, by hand
    pushes = {key: 0.0 for key in range(60)}
    for key, push in zip(keys_a, a.influence[:, 0] / 40, strict=True):
        pushes[key] += push
    for key, push in zip(keys_b, b.influence[:, 0] / 35, strict=True):
        pushes[key] -= push
    totals = {}
    for key, push in pushes.items():
        group = key % G if clustered else key
        totals[group] = totals.get(group, 0.0) + push
    variance = sum(t**2 for t in totals.values()) * len(totals) / (len(totals) - 1)
    difference = a - b
    assert difference.value[0] == pytest.approx(a.value[0] - b.value[0], rel=1e-12)
    assert difference.std_error[0] == pytest.approx(np.sqrt(variance), rel=1e-10)
    assert difference.n_units == 60


def test_separate_units_add_their_variances(rng):
    a = estimate_of(rng.normal(size=N), frame_of(range(N), cluster=False))
    b = estimate_of(rng.normal(size=N), frame_of(range(100, 100 + N), cluster=False))
    # the factor n / (n - 1) is that of all units
    factor = (2 * N / (2 * N - 1)) / (N / (N - 1))
    expected = np.sqrt((a.std_error**2 + b.std_error**2) * factor)
    np.testing.assert_allclose((a - b).std_error, expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("other", "word"),
    [
        ({"treatment": np.arange(N) // 2 % 2}, "treatment"),
        ({"shift": 1.0}, "coordinates"),
    ],
)
def test_other_studies_with_the_same_keys(a, values, other, word):
    stranger = estimate_of(values, frame_of(range(N), **other))
    with pytest.raises(AlignmentError, match=rf"share 60 unit keys, .* another {word}"):
        a - stranger


def test_clusters_of_one_only(a, values):
    with pytest.raises((AlignmentError, ValueError), match=r"cluster|std|standard error"):
        a - estimate_of(values, frame_of(range(N), cluster=False))


def test_another_dependence(a, b):
    with pytest.raises(ValueError, match=r"same kind of standard error; got clustered"):
        a - b.with_std_error("hc")


def test_another_number_of_terms(a, rng):
    both = estimate_of(rng.normal(size=(N, 2)), frame_of(range(N)), terms=("x", "y"))
    with pytest.raises(AlignmentError, match=r"got 1 and 2 terms"):
        a - both


@pytest.mark.parametrize("operation", [lambda a: a - 1, lambda a: a + "x", lambda a: a * "x"])
def test_other_things(a, operation):
    with pytest.raises(TypeError):
        operation(a)


# -- dependence --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kind": "white"}, "`kind` must be .* got 'white'"),
        ({"kind": "conley"}, "needs `cutoff_m`.*got None"),
        ({"kind": "conley", "cutoff_m": -1.0}, "got -1.0"),
        ({"kind": "conley", "cutoff_m": 1.0, "kernel": "flat"}, "got 'flat'"),
        ({"kind": "hc", "cutoff_m": 5.0}, "for 'conley' only; got it with 'hc'"),
    ],
)
def test_bad_dependence(arguments, message):
    with pytest.raises(ValueError, match=message):
        Dependence(**arguments)


@pytest.mark.parametrize(
    ("kind", "needs"), [("cluster", "cluster of each unit"), ("conley", "coordinates of each")]
)
def test_dependence_that_the_units_do_not_allow(values, kind, needs):
    bare = estimate_of(values, UnitFrame(pd.RangeIndex(N)))
    with pytest.raises(ValueError, match=needs):
        bare.with_std_error(kind, cutoff_m=1.0 if kind == "conley" else None)


def test_a_single_cluster(values):
    keys = pd.RangeIndex(N)
    with pytest.raises(
        ValueError, match=r"at least 2 clusters; found 1, with all 60 units.*finer `site`"
    ):
        estimate_of(values, UnitFrame(keys, pd.Series(1, index=keys)))


def test_shapes(a):
    with pytest.raises(ValueError, match=r"shape \(1,\) .* got \(2,\) and \(60, 1\)"):
        dataclasses.replace(a, value=np.zeros(2))


# -- object ------------------------------------------------------------------------------------


def test_frozen(a):
    with pytest.raises(dataclasses.FrozenInstanceError):
        a.value = np.zeros(1)


def test_pickles_small(a):
    assert a.std_error == pickle.loads(pickle.dumps(a)).std_error
    large = estimate_of(np.arange(2000.0), frame_of(range(2000)))
    assert len(pickle.dumps(large)) < 200 * 2000


def test_plot_draws_on_the_given_axes(a):
    from matplotlib.figure import Figure

    ax = Figure().subplots()
    assert a.plot(ax=ax) is ax
    assert type(a.plot()).__name__ == "Axes"


def test_html_is_escaped(values):
    html = estimate_of(values, frame_of(range(N)), ("<b>x",), estimand="<script>")._repr_html_()
    assert "<script>" not in html
    assert "<b>x" not in html


def test_summary_states_everything(a):
    text = dataclasses.replace(a, notes=("3 units fell",), assumptions=("overlap",)).summary(0.9)
    for words in (f"{a.value[0]:.4f}", "90% interval", "60 units", "3 units fell", "overlap"):
        assert words in text
