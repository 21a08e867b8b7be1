"""Many splits in half: brute force on one halving, medians, flat proxies, refusals."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.regression.linear_model import OLS

import terracausal as tc
from terracausal._foundation.errors import AlignmentError, RoleError
from terracausal.effects import EffectLearner
from terracausal.evaluation.split_sample import SplitSampleInference, split_sample_inference
from terracausal.nuisance import ClusterRidge

N_CLUSTERS, PER_CLUSTER = 40, 5


class GivenColumn(EffectLearner):
    """Predicts a multiple of a covariate: fast, and known in advance."""

    def __init__(self, factor=1.0, use="all"):
        self.factor = factor
        self.use = use

    def _fit_features(self, study, features):
        self.seen_ = study.n_units

    def _predict_features(self, features):
        return self.factor * features["x"].to_numpy()


@pytest.fixture
def study(rng):
    cluster = np.repeat(np.arange(N_CLUSTERS), PER_CLUSTER)
    n_units = len(cluster)
    x, noise = rng.normal(size=(2, n_units))
    w = rng.permutation(np.arange(n_units) % 2)
    outcome = w * (1 + 2 * x) + rng.normal(size=N_CLUSTERS)[cluster] + noise
    table = pd.DataFrame({"y": outcome, "w": w, "x": x, "cluster": cluster})
    table["z"] = x + rng.normal(size=n_units)
    return tc.Study(
        table, outcome="y", treatment="w", covariates=["x"], cluster="cluster", propensity=0.5
    )


@pytest.fixture
def scores(study):
    return tc.doubly_robust_scores(study, tc.cross_fit(study, random_state=0))


def test_one_halving_matches_regressions_on_each_half(study, scores):
    table = study.table
    found = split_sample_inference(
        study, GivenColumn(), table["z"], scores=scores, n_splits=2, n_groups=2, random_state=5
    )
    half = study.folds(2, random_state=np.random.default_rng(5).spawn(1)[0]).labels
    for split in (0, 1):
        own = table[half == split]
        score = scores.score.loc[own.index]
        x = own["x"].to_numpy()
        fitted = OLS(score.to_numpy(), np.column_stack([np.ones(len(x)), x - x.mean()])).fit()
        np.testing.assert_allclose(found.estimates[split, :2], fitted.params)
        high = (own["x"].rank() > len(own) / 2).to_numpy()
        groups = [score[~high].mean(), score[high].mean()]
        np.testing.assert_allclose(found.estimates[split, 2:5], [*groups, groups[1] - groups[0]])
        gap = own["z"][high].mean() - own["z"][~high].mean()
        assert found.estimates[split, 5] == pytest.approx(gap)
        # errors of leaving out one cluster at a time
        cluster, n = own["cluster"].to_numpy(), own["cluster"].nunique()
        moves = [
            [
                score[kept & part].mean() - mean
                for part, mean in zip((~high, high), groups, strict=True)
            ]
            for kept in (cluster != c for c in np.unique(cluster))
        ]
        expected = np.sqrt(np.sum(np.square(moves), axis=0))
        np.testing.assert_allclose(found.errors[split, 2:4], expected)
        assert found.degrees_of_freedom[split] == n - 1
    assert found.terms[-1] == "z"
    assert found.means.index.tolist() == ["z"]


def test_medians_intervals_and_p_values(rng):
    estimates, errors = rng.normal(1, 1, (7, 5)), rng.uniform(0.5, 1, (7, 5))
    terms = ("mean effect", "heterogeneity", "group 1", "group 2", "highest less lowest")
    found = SplitSampleInference(
        estimates, errors, np.full(7, 9.0), terms, 2, pd.DataFrame(), (0.0, 0.0), "x", 100, 20
    )
    half = stats.t.ppf(0.9875, 9) * errors
    np.testing.assert_allclose(
        found.confint(),
        np.column_stack([np.median(estimates - half, axis=0), np.median(estimates + half, axis=0)]),
    )
    p_values = 2 * stats.t.sf(np.abs(estimates / errors), 9)
    np.testing.assert_allclose(found.p_value, np.minimum(1, 2 * np.median(p_values, axis=0)))
    np.testing.assert_allclose(found.value, np.median(estimates, axis=0))
    assert found.to_dataframe()["n_clusters"].tolist() == [20] * 5


def test_heterogeneity_is_found_and_told(study):
    learner = tc.DRLearner(effect_learner=ClusterRidge(penalties=(1e-3,)), n_folds=2)
    found = split_sample_inference(
        study, learner, study.table[["z"]], n_splits=6, n_groups=3, random_state=0
    )
    table = found.to_dataframe().set_index("term")
    assert table.loc["heterogeneity", "p_value"] < 0.01
    assert table.loc["highest less lowest", "ci_low"] > 0 < table.loc["z", "ci_low"]
    assert table["part"].value_counts().to_dict() == {
        "groups": 4, "projection": 2, "comparison": 1
    }  # fmt: skip
    assert found.means.loc["z", "highest"] > found.means.loc["z", "lowest"]
    assert "medians over 6 splits" in found.summary()
    assert "<table" in found._repr_html_()
    assert [t.get_text() for t in found.plot().get_yticklabels()].count("group 1") == 1
    # effects are 1 + 2 x: the variance of the best predictor is 4 times that of x
    assert found.fit[0] == pytest.approx(4, rel=0.6)


def test_rows_and_jobs_do_not_matter(study, scores):
    settings = {"n_splits": 4, "n_groups": 2, "random_state": 1}
    one = split_sample_inference(study, GivenColumn(), scores=scores, **settings)
    mixed = study.table.sample(frac=1, random_state=0)
    other = tc.Study(mixed, **study.roles.arguments())
    again = split_sample_inference(other, GivenColumn(), scores=scores, **settings)
    np.testing.assert_allclose(one.estimates, again.estimates)
    np.testing.assert_allclose(one.errors, again.errors)


def test_a_constant_proxy_says_nothing(study, scores):
    found = split_sample_inference(
        study, GivenColumn(0.0), scores=scores, n_splits=4, n_groups=2, random_state=1
    )
    assert found.n_flat == 4
    assert found.value[1] == 0
    assert found.p_value[1] == 1
    assert np.isinf(found.confint()[1]).all()
    assert np.isfinite(found.confint()[[0, 2, 3, 4]]).all()
    assert "constant in 4 splits" in found.summary()


def test_halvings_with_a_group_of_one_arm_are_drawn_anew(study, scores):
    settings = {"scores": scores, "n_splits": 8, "random_state": 2}
    # groups of 5 units: some have one arm by chance
    found = split_sample_inference(study, GivenColumn(), n_groups=20, **settings)
    assert found.n_redrawn > 0
    assert f"{found.n_redrawn} halvings, as a group" in found.summary()
    assert np.isfinite(found.estimates).all()
    assert split_sample_inference(study, GivenColumn(), n_groups=2, **settings).n_redrawn == 0


def test_seeds_of_learners_are_drawn(study):
    learner = tc.DRLearner(n_folds=2)
    runs = [
        split_sample_inference(study, learner, n_splits=2, n_groups=2, random_state=3).estimates
        for _ in range(2)
    ]
    assert runs[0].tolist() == runs[1].tolist()
    assert learner.random_state is None


def test_refusals(study, scores):
    few = study.with_roles(cluster=None).table.assign(cluster=lambda t: t["cluster"] % 3)
    few = tc.Study(few, **study.roles.arguments())
    with pytest.raises(RoleError, match="at least 2 clusters for an error; the study has 3"):
        split_sample_inference(few, GivenColumn())
    with pytest.raises(ValueError, match=r"`n_splits` must be even.* got 5"):
        split_sample_inference(study, GivenColumn(), n_splits=5)
    with pytest.raises(TypeError, match=r"such as DRLearner.* got ClusterRidge"):
        split_sample_inference(study, ClusterRidge())
    with pytest.raises(RoleError, match="1 of 2 have one value: 'flat'"):
        split_sample_inference(study, GivenColumn(), study.table[["z"]].assign(flat=1.0))
    with pytest.raises(AlignmentError, match="100 are missing"):
        split_sample_inference(study, GivenColumn(), study.table[["z"]].iloc[:100])
    with pytest.raises(RoleError, match=r"groups .* of 60 have no (treated|control) unit"):
        split_sample_inference(study, GivenColumn(), scores=scores, n_splits=2, n_groups=60)
    n_half = study.n_units // 2
    with pytest.raises(RoleError, match=f"got 5000 groups for {n_half} units"):
        split_sample_inference(study, GivenColumn(), n_splits=2, n_groups=5000)
    flat = tc.Study(study.table.assign(y=1.0), **study.roles.arguments())
    with pytest.raises(RoleError, match=f"it is 1 for all {study.n_units} units"):
        split_sample_inference(flat, GivenColumn(), n_splits=2)
