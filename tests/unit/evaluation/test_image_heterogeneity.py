"""The permutation test of images: exchanges, statistics by brute force, resuming, refusals."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import Ridge

import terracausal as tc
from terracausal._foundation.errors import RoleError
from terracausal.evaluation.exchange import exchange_groups
from terracausal.evaluation.image_heterogeneity import image_heterogeneity_test
from terracausal.evaluation.site_statistics import (
    ranking_statistic,
    ridge_out_of_fold,
    standardise_columns,
)

N_SITES, N_COLUMNS = 60, 4


def make_units(rng, slope=0.0, per_site=3):
    """Sites of one arm each, whose effect rises with the first column of their image."""
    embeddings = pd.DataFrame(rng.normal(size=(N_SITES, N_COLUMNS))).add_prefix("e")
    site = np.repeat(np.arange(N_SITES), per_site)
    w = rng.permutation(np.arange(N_SITES) % 2)[site]
    effect = slope * embeddings["e0"].to_numpy()[site]
    outcome = w * effect + 0.5 * rng.normal(size=N_SITES)[site] + rng.normal(size=len(site))
    table = pd.DataFrame({"y": outcome, "w": w, "site": site, "x": rng.normal(size=len(site))})
    return table, embeddings


def make_study(table, embeddings, **roles):
    study = tc.Study(
        table, outcome="y", treatment="w", site="site", covariates=["x"], propensity=0.5, **roles
    )
    return study.join(embeddings, role="modifier")


@pytest.fixture
def study(rng):
    return make_study(*make_units(rng, slope=1.0))


# -- exchanges ---------------------------------------------------------------------------------


def test_clusters_exchange_with_their_like(rng):
    block = np.repeat(np.arange(60), 2)
    stratum = np.repeat(np.arange(60) % 2, 2)
    n_units = rng.integers(3, 9, 120)
    found = exchange_groups(block, stratum, n_units)
    assert sorted(np.concatenate([g.ravel() for g in found.groups])) == list(range(120))
    size = np.bincount(block, weights=n_units)
    for group in found.groups:
        assert len(group) >= 10
        assert len(np.unique(stratum[group])) == 1
        # both sites of a row are of one cluster, the smaller one first
        assert (block[group[:, 0]] == block[group[:, 1]]).all()
        assert (n_units[group[:, 0]] <= n_units[group[:, 1]]).all()
        assert np.ptp(size[block[group[:, 0]]]) <= found.units_range
    # groups of one stratum do not overlap in size
    own = [size[block[g[:, 0]]] for g in found.groups if stratum[g[0, 0]] == 0]
    assert all(a.max() < b.min() for a, b in pairwise(own))


def test_a_draw_moves_whole_clusters_inside_groups(rng):
    block, stratum = np.repeat(np.arange(40), 2), np.repeat(np.arange(40) % 2, 2)
    found = exchange_groups(block, stratum, np.full(80, 5))
    source = found.draw(rng)
    assert sorted(source) == list(range(80))
    assert (stratum[source] == stratum).all()
    assert (block[source][::2] == block[source][1::2]).all()
    fold = found.folds(5, rng)
    assert np.bincount(fold).tolist() == [16] * 5
    assert (fold[::2] == fold[1::2]).all()


def test_clusters_without_their_like_stay(rng):
    found = exchange_groups(np.r_[np.arange(12), 12, 12], np.zeros(14, int), np.full(14, 2))
    assert found.n_fixed == 1
    assert found.draw(rng)[12:].tolist() == [12, 13]
    assert found.log_arrangements == pytest.approx(np.log(479001600))


# -- statistics --------------------------------------------------------------------------------


def brute_ridge(x, y, weight, penalty):
    """Coefficients of one weighted ridge regression with an intercept, by normal equations."""
    share = weight / weight.sum()
    centre, level = share @ x, share @ y
    gram = (x - centre).T @ (share[:, None] * (x - centre))
    coef = np.linalg.solve(
        gram + penalty * np.eye(x.shape[1]), (x - centre).T @ (share * (y - level))
    )
    return level - centre @ coef, coef


@pytest.mark.parametrize("n_columns", [3, 40])
def test_ridge_predictions_match_refitted_regressions(rng, n_columns):
    x = standardise_columns(rng.normal(size=(30, n_columns)))
    y, weight, fold = rng.normal(size=(30, 2)), rng.uniform(0.5, 2, 30), np.arange(30) % 3
    found = ridge_out_of_fold(x, y, weight, fold)
    for k in range(3):
        train, test = np.flatnonzero(fold != k), fold == k
        share = weight[train] / weight[train].sum()
        centred = np.sqrt(share)[:, None] * (x[train] - share @ x[train])
        size = np.linalg.svd(centred, compute_uv=False)
        penalties = (size[size > 1e-10 * size[0]] ** 2).mean() * np.logspace(-2, 4, 13)
        for column in range(2):
            losses = []
            for penalty in penalties:
                # leaving out a site leaves the penalty, per unit of the full weight, as it is
                errors = []
                for left in train:
                    kept = train[train != left]
                    scale = weight[train].sum() / weight[kept].sum()
                    a, b = brute_ridge(x[kept], y[kept, column], weight[kept], penalty * scale)
                    errors.append(weight[left] * (y[left, column] - a - x[left] @ b) ** 2)
                losses.append(np.sum(errors))
            a, b = brute_ridge(
                x[train], y[train, column], weight[train], penalties[np.argmin(losses)]
            )
            np.testing.assert_allclose(found[test, column], a + x[test] @ b, atol=1e-8)


@pytest.mark.parametrize("kind", ["calibration", "AUTOC", "QINI"])
def test_the_statistic_matches_brute_force(rng, kind):
    predicted, score = rng.normal(size=(2, 24))
    weight, fold, block = (
        rng.integers(1, 4, 24).astype(float),
        np.arange(24) % 2,
        np.arange(24) // 4,
    )
    one = (predicted[:, None], (weight * score)[:, None], weight[:, None])
    found = ranking_statistic(*one, fold, block, kind)[0]
    mean = np.average(score, weights=weight)
    sums = np.zeros(6)
    for k in (0, 1):
        own = np.flatnonzero(fold == k)
        q = [np.mean(predicted[own] > predicted[i]) + 0.5 / len(own) for i in own]
        omega = {"calibration": predicted[own], "AUTOC": -np.log(q) - 1, "QINI": 0.5 - np.array(q)}
        centred = omega[kind] - np.average(omega[kind], weights=weight[own])
        for i, d in zip(own, centred, strict=True):
            sums[block[i]] += d * weight[i] * (score[i] - mean)
    assert found == pytest.approx(sums.sum() / np.sqrt((sums**2).sum()))


def test_rank_weights_are_those_of_the_rate(rng):
    """On one fold and units of their own, the numerator is n times the RATE, to order 1 / n."""
    n = 4000
    predicted, score = rng.normal(size=(2, n))
    scores = tc.Scores.from_dataframe(pd.DataFrame({"score": score}))
    for kind in ("AUTOC", "QINI"):
        rank = stats.rankdata(predicted)
        share = 1 - (rank - 0.5) / n
        omega = -np.log(share) - 1 if kind == "AUTOC" else 0.5 - share
        rate = tc.rank_weighted_effect(scores, predicted, kind, n_bootstrap=2).value[0]
        # a score moves by at most log(n) / n times its size where shares shift by 1 / n
        assert np.mean(omega * score) == pytest.approx(rate, abs=4 * np.log(n) / np.sqrt(n) / n)


def test_constant_predictions_have_a_statistic_of_0():
    one, code = np.ones((10, 1)), np.arange(10)
    totals = np.arange(10.0)[:, None]
    assert ranking_statistic(one, totals, one, code % 2, code, "calibration")[0] == 0


# -- the test ----------------------------------------------------------------------------------


def test_images_that_modify_effects_are_found(study):
    found = image_heterogeneity_test(study, n_permutations=99, random_state=0)
    assert found.p_value[0] == pytest.approx(0.01)
    assert (found.n_units, found.n_sites, found.n_clusters, found.n_groups) == (180, 60, 60, 1)
    told = found.to_dataframe().iloc[0]
    assert told["p_value"] == found.p_value[0]
    assert "99 permutations" in found.summary()
    assert "scores were made without the images" in found.summary()
    assert "<table" in found._repr_html_()
    assert found.plot().get_xlabel() == "calibration (clustered std. errors)"


def test_order_scale_and_shift_do_not_matter(study):
    scores = tc.doubly_robust_scores(study, tc.cross_fit(study, random_state=0))
    one = image_heterogeneity_test(study, scores, n_permutations=19, random_state=3)
    mixed = scores.table.sample(frac=1, random_state=1)
    other = image_heterogeneity_test(
        study.subset(np.ones(180, dtype=bool)),
        tc.Scores.from_dataframe(mixed.assign(score=5 + 3 * mixed["score"])),
        n_permutations=19,
        random_state=3,
    )
    np.testing.assert_allclose(one.value, other.value)
    np.testing.assert_allclose(one.permuted, other.permuted)
    assert "or the test is approximate" in one.summary()


def test_p_values_are_uniform_where_images_are_noise(seed):
    """Sizes and strata differ, outcomes depend on both; images are independent of everything."""
    rng, n_runs, p_values = np.random.default_rng([seed, 11]), 120, []
    site = np.repeat(np.arange(40), rng.integers(2, 5, 40))
    stratum, w = site % 2, rng.permutation(np.arange(40) % 2)[site]
    for _ in range(n_runs):
        noise = rng.standard_t(3, size=40)[site] * (1 + stratum) + rng.normal(size=len(site))
        table = pd.DataFrame({"y": noise + stratum, "w": w, "site": site, "area": stratum})
        table["score"] = noise * (4 * w - 2)
        study = tc.Study(table, outcome="y", treatment="w", site="site", strata="area")
        study = study.join(pd.DataFrame(rng.normal(size=(40, 3))).add_prefix("e"), role="modifier")
        found = image_heterogeneity_test(
            study, tc.Scores.from_dataframe(table[["score"]]), n_permutations=19, random_state=rng
        )
        p_values.append(found.p_value[0])
    # exact: p is uniform on 0.05, 0.10, … 1, so each count leaves this range in 1 of 10,000 runs
    for level in (0.05, 0.25, 0.5):
        hits = int((np.array(p_values) <= level + 1e-9).sum())
        low, high = stats.binom.ppf([5e-5, 1 - 5e-5], n_runs, level)
        assert low <= hits <= high, level


def test_a_given_learner_is_refitted_and_a_stopped_run_goes_on(study, tmp_path):
    path = tmp_path / "draws.csv"
    settings = {"learner": Ridge(5.0), "n_permutations": 19, "random_state": 1}
    whole = image_heterogeneity_test(study, **settings)
    image_heterogeneity_test(study, saved=path, **settings)
    lines = path.read_text().splitlines(keepends=True)
    assert len(lines) == 21
    # stopped in the middle of a line
    path.write_text("".join(lines[:8]) + lines[8][:5])
    again = image_heterogeneity_test(study, saved=path, n_jobs=2, **settings)
    assert again.value.tolist() == whole.value.tolist()
    assert again.permuted.tolist() == whole.permuted.tolist()
    assert "Ridge(alpha=5.0)" in again.summary()
    with pytest.raises(ValueError, match=r"draws\.csv holds draws of another run"):
        image_heterogeneity_test(study, saved=path, **{**settings, "random_state": 2})


def test_strata_of_the_study_are_used_and_told(rng):
    table, embeddings = make_units(rng)
    table["district"] = table["site"] % 3
    study = make_study(table, embeddings, strata="district")
    settings = {"n_permutations": 19, "random_state": 0}
    found = image_heterogeneity_test(study, **settings)
    assert found.n_groups == 3
    assert "exchanged inside 'district' only" in found.summary()
    plain = image_heterogeneity_test(make_study(table, embeddings), **settings)
    assert plain.n_groups == 1
    assert "none: images were exchanged between any places" in plain.summary()


def test_repeats_of_scores_are_averaged(study):
    runs = [
        tc.doubly_robust_scores(study, tc.cross_fit(study, random_state=seed)) for seed in (0, 1)
    ]
    both = replace(runs[0], repeats=(runs[1],))
    mean = pd.DataFrame({"score": (runs[0].score + runs[1].score) / 2})
    settings = {"n_permutations": 19, "random_state": 0}
    one = image_heterogeneity_test(study, both, **settings)
    other = image_heterogeneity_test(study, tc.Scores.from_dataframe(mean), **settings)
    np.testing.assert_allclose(one.value, other.value)


def test_learners_with_seeds_are_seeded(study):
    forest = RandomForestRegressor(n_estimators=3)
    runs = [
        image_heterogeneity_test(study, learner=forest, n_permutations=19, random_state=4)
        for _ in range(2)
    ]
    assert runs[0].permuted.tolist() == runs[1].permuted.tolist()


# -- refusals ----------------------------------------------------------------------------------


def test_bad_studies(rng):
    table, embeddings = make_units(rng)
    plain = make_study(table, embeddings)
    roles = {"outcome": "y", "treatment": "w"}
    with pytest.raises(RoleError, match="0 embedding columns and 60 sites"):
        image_heterogeneity_test(tc.Study(table, site="site", **roles))
    with pytest.raises(RoleError, match="joined as 'both' and the propensity is unknown"):
        image_heterogeneity_test(tc.Study(table, site="site", **roles).join(embeddings))
    with pytest.raises(RoleError, match="all 4 embedding columns have one value at all 60 sites"):
        image_heterogeneity_test(make_study(table, embeddings * 0 + 1))
    with pytest.raises(RoleError, match=r"at least 10 clusters.* the scores have 6"):
        image_heterogeneity_test(
            make_study(table.assign(area=table["site"] % 6), embeddings, cluster="area")
        )
    # clusters of 1, 2, …, 9 and 15 sites have no like
    area = np.minimum(np.repeat(np.arange(11), np.arange(1, 12))[table["site"]], 9)
    with pytest.raises(RoleError, match=r"10 clusters in 10 groups .* have 1\. Use coarser"):
        image_heterogeneity_test(make_study(table.assign(area=area), embeddings, cluster="area"))
    other = pd.DataFrame({"score": rng.normal(size=180)}, index=range(5, 185))
    with pytest.raises(RoleError, match="5 of 180 are not: 180, 181"):
        image_heterogeneity_test(plain, tc.Scores.from_dataframe(other))
    with pytest.raises(RoleError, match="it is 2 for all 180 units"):
        image_heterogeneity_test(plain, tc.Scores.from_dataframe(other * 0 + 2))


def test_one_outcome_is_refused_before_anything_is_fitted(rng, monkeypatch):
    table, embeddings = make_units(rng)
    study = make_study(table.assign(y=2.0), embeddings)
    monkeypatch.setattr("terracausal.evaluation.image_heterogeneity.repeat_cross_fit", None)
    with pytest.raises(RoleError, match="it is 2 for all 180 units"):
        image_heterogeneity_test(study, n_permutations=19)


def test_bad_options(study):
    with pytest.raises(TypeError, match="DRLearner learns from a study, not from scores"):
        image_heterogeneity_test(study, learner=tc.DRLearner())
    with pytest.raises(TypeError, match="int has no 'fit', 'predict'"):
        image_heterogeneity_test(study, learner=3)
    with pytest.raises(ValueError, match=r"`statistic` must be one of .* got 'RATE'"):
        image_heterogeneity_test(study, statistic="RATE")
    with pytest.raises(ValueError, match="`n_permutations` must be an integer of at least 19"):
        image_heterogeneity_test(study, n_permutations=10)
    with pytest.raises(ValueError, match=r"needs an integer `random_state`.* got None"):
        image_heterogeneity_test(study, learner=Ridge(), saved="draws.csv")
