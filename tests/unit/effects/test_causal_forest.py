"""The causal forest: settings, out-of-bag effects, clusters, intervals."""

import numpy as np
import pandas as pd
import pytest

from terracausal._foundation.errors import LeakageError, RoleError
from terracausal.effects import CausalForest, origin_of
from terracausal.effects.causal_forest import grf_split_features
from terracausal.evaluation import calibration_test, grouped_effects, rank_weighted_effect
from terracausal.nuisance import cross_fit, doubly_robust_scores
from terracausal.study import Study


@pytest.fixture
def table(rng):
    columns = {"y": rng.normal(size=160), "w": np.arange(160) % 2, "c": np.arange(160) // 4}
    columns |= {name: rng.normal(size=160) for name in ("x", "z")}
    return pd.DataFrame(columns)


def study_of(table, **roles):
    return Study(table, **({"outcome": "y", "treatment": "w", "covariates": ["x", "z"]} | roles))


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("n_trees", 1, "`n_trees` must be .* got 1"),
        ("min_node_size", 0, "`min_node_size` must be .* got 0"),
        ("n_split_features", 0, "`n_split_features` must be .* got 0"),
        ("sample_fraction", 0.6, "at most 0.5, .* got 0.6"),
        ("sample_fraction", 1.0, "strictly between 0 and 1; got 1.0"),
    ],
)
def test_bad_settings_of_the_forest(table, setting, value, message):
    with pytest.raises(ValueError, match=message):
        CausalForest(**{"n_trees": 20, setting: value}).fit(study_of(table))


def test_few_clusters(table):
    study = study_of(table.assign(c=table["c"] % 3), cluster="c")
    with pytest.raises(RoleError, match=r"at least 4 clusters, .* found 3 clusters"):
        CausalForest(n_trees=20).fit(study)


def test_forest_splits_as_grf(table):
    # ceil(sqrt(p) + 20), at most p
    expected = {1: 1, 20: 20, 25: 25, 36: 26, 100: 30, 512: 43}
    assert {p: grf_split_features(p) for p in expected} == expected
    fitted = CausalForest(n_trees=21, random_state=0).fit(study_of(table))
    assert fitted.n_split_features_ == 2
    assert len(fitted.forest_.roots) == 22  # whole pairs
    assert CausalForest().n_trees == 2000


def test_threads_change_no_number(table):
    one, two = (
        CausalForest(n_trees=60, n_jobs=n, random_state=0).fit(study_of(table)) for n in (1, 2)
    )
    pd.testing.assert_series_equal(one.oob_effects_, two.oob_effects_, check_exact=True)
    pd.testing.assert_series_equal(one.oob_std_errors_, two.oob_std_errors_, check_exact=True)


def test_out_of_bag_effects_keep_the_order_of_the_study(table, rng):
    shuffled = table.iloc[rng.permutation(160)]
    one, other = (
        CausalForest(n_trees=100, random_state=0).fit(study_of(t)) for t in (table, shuffled)
    )
    for part in (
        lambda forest: forest.oob_effects_,
        lambda forest: forest.oob_std_errors_,
        lambda forest: forest.nuisances_.table,
    ):
        assert part(other).index.equals(shuffled.index)
        np.testing.assert_allclose(part(other).loc[table.index], part(one))


@pytest.mark.parametrize("cluster", [None, "c"])
def test_out_of_bag_effects_have_not_seen_their_cluster(table, cluster):
    # with known nuisances, the outcomes of a cluster reach its own effects by no other way
    known = {"propensity": 0.5, "cluster": cluster}
    groups = table.index if cluster is None else table[cluster]
    own = (groups == groups[8]).to_numpy() if cluster else np.asarray(groups == groups[8])
    effects = {}
    for name, y in (("before", table["y"]), ("after", table["y"].where(~own, 100.0))):
        forest = FixedOutcome(n_trees=100, random_state=0).fit(study_of(table.assign(y=y), **known))
        effects[name] = forest.oob_effects_
    np.testing.assert_array_equal(effects["before"][own], effects["after"][own])
    assert (effects["before"][~own] != effects["after"][~own]).mean() > 0.9


class FixedOutcome(CausalForest):
    """Expects an outcome of 0 from everybody, so that outcomes enter by the trees only."""

    def _regress(self, study, task, weight, draws, rng):
        return np.full(study.n_units, 0.0 if task == "outcome" else 0.5)


def test_known_propensities_are_used(table):
    study = study_of(table.assign(e=np.where(table["x"] > 0, 0.3, 0.6)), propensity="e")
    fitted = CausalForest(n_trees=20, random_state=0).fit(study)
    np.testing.assert_array_equal(fitted.nuisances_.propensity, np.where(table["x"] > 0, 0.3, 0.6))


def test_nuisances_add_up(table):
    """The outcome of each arm, weighted by propensity, is the mean; their difference the effect."""
    study = study_of(table)
    fitted = CausalForest(n_trees=100, random_state=0).fit(study)
    e, mu0, mu1 = fitted.nuisances_.table.to_numpy().T
    np.testing.assert_allclose(mu1 - mu0, fitted.oob_effects_)
    assert e.min() > 0
    assert e.max() < 1
    scores = doubly_robust_scores(study, fitted.nuisances_)
    m = e * mu1 + (1 - e) * mu0
    residual = table["y"] - m - (table["w"] - e) * (mu1 - mu0)
    expected = mu1 - mu0 + (table["w"] - e) / (e * (1 - e)) * residual
    np.testing.assert_allclose(scores.score, expected)


def test_too_few_trees_leave_units_without_nuisances(table):
    study = study_of(table)
    fitted = CausalForest(n_trees=2, random_state=0).fit(study)
    with pytest.raises(ValueError, match=r"'outcome_control'.*80 of 160 values are NaN"):
        doubly_robust_scores(study, fitted.nuisances_)


def test_nuisances_without_features_are_means(table):
    embeddings = pd.DataFrame({"e0": np.random.default_rng(0).normal(size=40)})
    study = study_of(table, covariates=[], site="c").join(embeddings, "modifier")
    fitted = CausalForest(n_trees=20, random_state=0).fit(study)
    assert (fitted.nuisances_.propensity == 0.5).all()


def test_origin_of_out_of_bag_effects(table):
    study = study_of(table, cluster="c", propensity=0.5)
    effects = CausalForest(n_trees=200, random_state=0).fit(study).oob_effects_
    assert origin_of(effects).out_of_bag
    scores = doubly_robust_scores(study, cross_fit(study, random_state=0))
    for ask in (rank_weighted_effect, grouped_effects):
        with pytest.raises(LeakageError, match=r"out-of-bag effects \(CausalForest\(n_trees=200"):
            ask(scores, effects)
    assert np.isfinite(calibration_test(scores, effects).value).all()


def test_intervals(table):
    study = study_of(table)
    fitted = CausalForest(n_trees=100, random_state=0).fit(study)
    found = fitted.predict_interval(table.iloc[[5, 2]], level=0.9)
    assert found.columns.tolist() == ["cate", "std_error", "ci_low", "ci_high"]
    assert found.index.tolist() == [5, 2]
    np.testing.assert_allclose(found["cate"], fitted.predict(table.iloc[[5, 2]]))
    np.testing.assert_allclose(found["ci_high"] - found["cate"], 1.6448536 * found["std_error"])
    with pytest.raises(ValueError, match=r"`level` must .* got 90"):
        fitted.predict_interval(table, level=90)


def test_equalised_clusters(table):
    # the effect is 4 in one large cluster and 0 in many small ones
    sizes = np.r_[np.zeros(80, int), 1 + np.arange(80) // 2]
    table["y"] = 0.1 * table["y"] + np.where(sizes == 0, 4.0, 0.0) * table["w"]
    study = study_of(table.assign(c=sizes), cluster="c", propensity=0.5)
    plain, equal = (
        CausalForest(n_trees=400, equalize_cluster_weights=e, random_state=0).fit(study)
        for e in (False, True)
    )
    small = sizes > 0
    assert plain.predict(study)[small].mean() > equal.predict(study)[small].mean() + 0.5
    with pytest.raises(RoleError, match=r"the weight 'v' says"):
        CausalForest(equalize_cluster_weights=True).fit(
            study_of(table.assign(c=sizes, v=1.0), cluster="c", weight="v")
        )


def test_components_replace_embeddings(table, rng):
    embeddings = pd.DataFrame(rng.normal(size=(40, 6)), columns=[f"e{j}" for j in range(6)])
    study = study_of(table, site="c").join(embeddings, "both")
    fitted = CausalForest(n_trees=20, n_components=2, random_state=0).fit(study)
    assert len(fitted.codes_.edges) == 4
    assert len(fitted.predict_interval(study)) == 160
