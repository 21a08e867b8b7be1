"""Groups by priority: identities, joint band, order, comparison of groups, refusals."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import terracausal as tc
from terracausal._foundation.errors import AlignmentError, LeakageError, RoleError
from terracausal.effects import EffectOrigin
from terracausal.effects.origin import with_origin
from terracausal.evaluation.grouped import grouped_effects
from terracausal.nuisance import Scores
from terracausal.study.simultaneous import draw_statistics, stepdown_p_values

N_UNITS, N_CLUSTERS = 200, 40


def make_table(rng):
    x = rng.normal(size=N_UNITS)
    table = pd.DataFrame({"score": x + rng.normal(size=N_UNITS), "x": x})
    table["cluster"] = np.arange(N_UNITS) % N_CLUSTERS
    table["treatment"] = rng.permutation(np.arange(N_UNITS) % 2)
    return table


@pytest.fixture
def table(rng):
    return make_table(rng)


def test_groups_are_means_of_sorted_scores(table):
    found = grouped_effects(Scores.from_dataframe(table), table["x"], n_groups=4, random_state=0)
    means = table.sort_values("x")["score"].to_numpy().reshape(4, -1).mean(axis=1)
    np.testing.assert_allclose(found.value, means)
    assert found.contrast.value[0] == pytest.approx(means[3] - means[0])
    assert found.average.value[0] == pytest.approx(table["score"].mean())
    assert found.to_dataframe()["n_units"].tolist() == [50] * 4


@pytest.mark.parametrize("clustered", [True, False])
@pytest.mark.parametrize("weighted", [True, False])
def test_errors_are_those_of_leaving_out_clusters(table, rng, clustered, weighted):
    weight = rng.uniform(0.5, 2, N_UNITS) if weighted else np.ones(N_UNITS)
    given = table.assign(weight=weight) if weighted else table
    scores = Scores.from_dataframe(given if clustered else given.drop(columns="cluster"))
    found = grouped_effects(scores, table["x"], n_groups=4, random_state=0)
    cluster = table["cluster"].to_numpy() if clustered else np.arange(N_UNITS)
    group, score = found.group.to_numpy(), table["score"].to_numpy()

    def means(kept):
        inside = [kept & (group == g) for g in range(1, 5)]
        return np.array([np.average(score[own], weights=weight[own]) for own in inside])

    moves = np.array([means(cluster != c) - found.value for c in np.unique(cluster)])
    covariance = moves.T @ moves
    np.testing.assert_allclose(found.std_error, np.sqrt(np.diag(covariance)))
    gap = covariance[3, 3] + covariance[0, 0] - 2 * covariance[0, 3]
    assert found.contrast.std_error[0] == pytest.approx(np.sqrt(gap))


def test_weights_count_like_copies(rng, table):
    weight = rng.integers(1, 4, N_UNITS)
    plain = table.drop(columns="treatment")
    copies = plain.loc[plain.index.repeat(weight)].reset_index(drop=True)
    one = grouped_effects(
        Scores.from_dataframe(plain.assign(weight=weight)), table["x"], 3, random_state=0
    )
    many = grouped_effects(Scores.from_dataframe(copies), copies["x"], 3, random_state=0)
    np.testing.assert_allclose(one.value, many.value)
    np.testing.assert_allclose(one.std_error, many.std_error)


def test_rows_may_come_in_any_order(table):
    one = grouped_effects(Scores.from_dataframe(table), table["x"], random_state=0)
    mixed = table.sample(frac=1, random_state=1)
    other = grouped_effects(Scores.from_dataframe(mixed), table["x"], random_state=0)
    pd.testing.assert_frame_equal(one.to_dataframe(), other.to_dataframe())
    assert one.monotonicity_p_value == pytest.approx(other.monotonicity_p_value)


def test_joint_bands_are_wider_and_near_sidak_for_independent_groups(table):
    scores = Scores.from_dataframe(table.drop(columns="cluster"))
    found = grouped_effects(scores, table["x"], n_groups=5, random_state=0)
    alone, joint = found.confint(), found.confint(joint=True)
    factor = (joint[:, 1] - joint[:, 0]) / (alone[:, 1] - alone[:, 0])
    sidak = stats.t.ppf(0.5 + 0.95**0.2 / 2, 195) / stats.t.ppf(0.975, 195)
    # The 95 % quantile of 10,000 draws has the SD sqrt(0.95 * 0.05 / 1e4) / density, and the
    # density of the largest of five |t| at 2.6 is about 0.13: 0.017 of 1.97, times 4.
    np.testing.assert_allclose(factor, sidak, atol=4 * 0.017 / 1.97)


def test_out_of_fold_priorities_are_ranked_in_folds_and_widened(table):
    fold = table["cluster"] % 5
    shifted = table["x"] + 10 * fold
    learned = with_origin(shifted.copy(), EffectOrigin("learner", folds=fold))
    scores = Scores.from_dataframe(table.drop(columns="cluster"))
    found = grouped_effects(scores, learned, n_groups=5, random_state=0)
    inside = table["x"].groupby(fold).rank()
    plain = grouped_effects(scores, inside, n_groups=5, random_state=0)
    np.testing.assert_allclose(found.value, plain.value)
    wider = found.contrast.std_error / plain.contrast.std_error
    assert wider[0] == pytest.approx(np.sqrt(2))
    np.testing.assert_allclose(found.average.std_error, plain.average.std_error)
    # the variance of the average is not doubled, only that of the deviation from it
    shift = plain.average.influence
    exact = np.var(shift + np.sqrt(2) * (plain.estimate.influence - shift), axis=0)
    ratio = np.sqrt(exact / np.var(plain.estimate.influence, axis=0))
    np.testing.assert_allclose(found.std_error / plain.std_error, ratio)
    assert "widened" in found.summary()


def test_the_order_is_rejected_only_where_effects_fall(table):
    scores = Scores.from_dataframe(table)
    rises = grouped_effects(scores, table["x"], n_groups=4, random_state=0)
    falls = grouped_effects(scores, -table["x"], n_groups=4, random_state=0)
    assert falls.monotonicity_p_value < 0.01 < 0.5 < rises.monotonicity_p_value
    assert falls.contrast.value[0] == pytest.approx(-rises.contrast.value[0])


def test_top_and_bottom_of_learned_rankings_reject_a_true_null_at_5_percent(seed):
    """No effect varies; each fold is ranked by a regression of scores on the other folds."""
    rng, n_runs, rejected, naive = np.random.default_rng([seed, 7]), 800, 0, 0
    for _ in range(n_runs):
        x, score = rng.normal(size=(200, 3)), rng.normal(size=200)
        fold, effects = rng.permutation(np.arange(200) % 5), np.empty(200)
        for k in range(5):
            train = fold != k
            effects[~train] = x[~train] @ np.linalg.lstsq(x[train], score[train], rcond=None)[0]
        learned = with_origin(pd.Series(effects), EffectOrigin("ols", folds=pd.Series(fold)))
        scores = Scores.from_dataframe(pd.DataFrame({"score": score}))
        contrast = grouped_effects(scores, learned, random_state=rng).contrast
        ratio = abs(contrast.value[0] / contrast.std_error[0])
        rejected += ratio > stats.t.ppf(0.975, 195)
        naive += np.sqrt(2) * ratio > stats.t.ppf(0.975, 195)
    # A size of 5 % passes this limit in 1 of 10,000 runs; without the widening the size is 13 %
    # (1,000 replications), 106 rejections with an SD of 9.6, which lie 4 SDs above the limit.
    limit = stats.binom.isf(1e-4, n_runs, 0.05)
    assert rejected <= limit < naive


# -- who is affected most ----------------------------------------------------------------------


def test_comparison_of_groups(table, rng):
    groups = grouped_effects(Scores.from_dataframe(table), table["x"], n_groups=4, random_state=0)
    cover = rng.choice(["forest", "crops"], N_UNITS)
    columns = pd.DataFrame({"x": table["x"], "noise": rng.normal(size=N_UNITS), "cover": cover})
    found = groups.compare(columns.sample(frac=1, random_state=0), random_state=0)
    result = found.to_dataframe().set_index("term")
    ends = columns["x"].sort_values().to_numpy()
    assert result.index[0] == "x"
    assert result.loc["x", "lowest"] == pytest.approx(ends[:50].mean())
    assert result.loc["x", "highest"] == pytest.approx(ends[-50:].mean())
    gap = result.loc["x", "estimate"] / columns["x"].std(ddof=0)
    assert result.loc["x", "standardised"] == pytest.approx(gap)
    assert result.loc["x", "p_adjusted"] < 0.01
    assert (result["p_adjusted"] >= result["p_value"]).all()
    crops, forest = (
        result.loc["cover = crops", "estimate"],
        result.loc["cover = forest", "estimate"],
    )
    assert crops == pytest.approx(-forest)
    assert "careful" not in found.summary()
    assert found.plot().get_xlabel() == "Highest less lowest group (standard deviations)"


def test_errors_of_the_comparison_are_clustered(table):
    scores = Scores.from_dataframe(table)
    groups = grouped_effects(scores, table["x"], n_groups=2, random_state=0)
    by_cluster = pd.Series(np.random.default_rng(0).normal(size=N_CLUSTERS)[table["cluster"]])
    found = groups.compare(by_cluster.rename("z"), random_state=0)
    high = (groups.group == 2).to_numpy()
    z, cluster = by_cluster.to_numpy(), table["cluster"].to_numpy()

    def gap(kept):
        return z[kept & high].mean() - z[kept & ~high].mean()

    moves = [gap(cluster != c) - found.value[0] for c in range(N_CLUSTERS)]
    assert found.std_error[0] == pytest.approx(np.sqrt(np.sum(np.square(moves))))


def test_comparison_warns_where_effects_do_not_differ(rng):
    x = rng.normal(size=400)
    scores = Scores.from_dataframe(pd.DataFrame({"score": np.tile([1.0, -1.0], 200)}))
    groups = grouped_effects(scores, pd.Series(np.repeat(np.arange(200.0), 2)), random_state=0)
    assert "not who benefits" in groups.compare(x, random_state=0).summary()


def test_stepdown_p_values_match_brute_force(rng):
    draws = draw_statistics(np.array([[1.0, 0.5], [0.5, 2.0]]), np.inf, 2000, rng)
    statistic = np.array([1.0, -2.5])
    largest = np.abs(draws).max(axis=1)
    expected = [
        (1 + (np.abs(draws[:, 0]) >= 1.0).sum()) / 2001,
        (1 + (largest >= 2.5).sum()) / 2001,
    ]
    np.testing.assert_allclose(stepdown_p_values(statistic, draws), expected)
    # the correlation of 2,000 draws with a true one of 0.35 has the SD (1 - 0.35^2) / sqrt(2000)
    assert np.corrcoef(draws.T)[0, 1] == pytest.approx(0.5 / np.sqrt(2), abs=4 * 0.02)


def test_a_real_flow(seed):
    rng = np.random.default_rng(seed)
    x, noise = rng.normal(size=(2, 150))
    units = pd.DataFrame({"x": x, "w": rng.permutation(np.arange(150) % 2)})
    units["y"] = units["w"] * (1 + x) + noise
    study = tc.Study(units, outcome="y", treatment="w", covariates=["x"], propensity=0.5)
    folds = study.folds(3, random_state=0)
    nuisances = tc.cross_fit(study, folds, random_state=0)
    scores = tc.doubly_robust_scores(study, nuisances)
    effects = tc.DRLearner(random_state=0).cross_predict(study, folds)
    groups = grouped_effects(scores, effects, n_groups=3, random_state=0)
    assert groups.ranked_within == "each of 3 folds"
    assert "<table" in groups._repr_html_()
    assert groups.plot(show_prediction=True).get_legend() is not None
    assert groups.plot().get_ylabel() == "Average effect (units of the outcome)"
    fitted = tc.DRLearner(random_state=0).fit(study)
    with pytest.raises(LeakageError, match="fitted on 150 of the 150 units"):
        grouped_effects(scores, fitted.predict(study), n_groups=3)


# -- refusals ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "n_groups", "error", "message"),
    [
        (lambda x: x * 0, 5, RoleError, "is constant, so there is nothing to sort by"),
        (lambda x: (x > 0) * 1.0, 5, RoleError, "The priority has 2 values among 200 units"),
        (lambda x: x.where(x.index > 3), 5, ValueError, "4 of 200 values are NaN"),
        (lambda x: x.set_axis(x.index + 7), 5, AlignmentError, "7 are missing"),
        (lambda x: x, 201, RoleError, "more groups than units; got 201 groups and 200 units"),
        (lambda x: x, 1, ValueError, "`n_groups` must be an integer of at least 2; got 1"),
    ],
    ids=["constant", "few values", "nan", "other index", "many groups", "one group"],
)
def test_bad_priorities(table, change, n_groups, error, message):
    with pytest.raises(error, match=message):
        grouped_effects(Scores.from_dataframe(table), change(table["x"]), n_groups)


def test_bad_scores(table):
    with pytest.raises(RoleError, match="at least 2 clusters for an error; the scores have 1"):
        grouped_effects(Scores.from_dataframe(table.assign(cluster=0)), table["x"])
    with pytest.raises(RoleError, match=r"outcome must vary .* it is 3 for all 200"):
        grouped_effects(Scores.from_dataframe(table.assign(outcome=3.0)), table["x"])
    one_cluster = table["cluster"].where(table["x"].rank() > 50, -1)
    with pytest.raises(RoleError, match=r"at least 2 clusters .* groups 1 of 4 have 1"):
        grouped_effects(Scores.from_dataframe(table.assign(cluster=one_cluster)), table["x"], 4)
    lowest = table["x"].rank() <= 50
    one_arm = table.assign(treatment=table["treatment"].where(~lowest, 1))
    with pytest.raises(RoleError, match="groups 1 of 4 have no control unit"):
        grouped_effects(Scores.from_dataframe(one_arm), table["x"], n_groups=4)


def test_bad_columns_to_compare(table):
    groups = grouped_effects(Scores.from_dataframe(table), table["x"], random_state=0)
    with pytest.raises(RoleError, match="1 of 2 have one value: 'flat'"):
        groups.compare(table[["x"]].assign(flat=4.0))
    with pytest.raises(AlignmentError, match="100 are missing"):
        groups.compare(table.iloc[:100])
