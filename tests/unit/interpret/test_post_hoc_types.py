"""Types by predicted effect: honest means, groups as sklearn makes them, order, bad input."""

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.cluster import KMeans
from sklearn.dummy import DummyRegressor
from sklearn.metrics import adjusted_rand_score

from terracausal._foundation.errors import AlignmentError, RoleError
from terracausal.effects import CausalForest, DRLearner, ImageDRLearner, TLearner
from terracausal.interpret import PostHocTypes
from terracausal.interpret.effect_groups import group_by_center, group_by_tree
from terracausal.interpret.post_hoc_types import site_effects
from terracausal.nuisance import cross_fit, doubly_robust_scores
from terracausal.study import Study

QUICK = PostHocTypes(TLearner(), n_folds=3, random_state=0)


def make_world(n_sites=80, units_per_site=4, effects=(0.0, 4.0), random_state=0):
    rng = np.random.default_rng(random_state)
    x = rng.normal(size=(n_sites, 3))
    kind = (x[:, 0] + 0.3 * rng.normal(size=n_sites) > 0).astype(int)
    site = np.repeat(np.arange(n_sites), units_per_site)
    treated, age = rng.integers(0, 2, len(site)), rng.normal(size=len(site))
    outcome = 0.5 * x[site, 1] + age + np.array(effects)[kind[site]] * treated
    table = pd.DataFrame(
        {
            "outcome": outcome + 0.5 * rng.normal(size=len(site)),
            "treated": treated,
            "age": age,
            "site": [f"s{k:03d}" for k in site],
        },
        index=[f"u{k:04d}" for k in range(len(site))],
    )
    sites = pd.Index([f"s{k:03d}" for k in range(n_sites)], name="site")
    embeddings = pd.DataFrame(x, sites, ["e0", "e1", "e2"])
    return as_study(table, embeddings), embeddings, pd.Series(kind, sites)


def as_study(table, embeddings, **roles):
    study = Study(
        table,
        outcome="outcome",
        treatment="treated",
        site="site",
        covariates=["age"],
        propensity=0.5,
        **roles,
    )
    return study if embeddings is None else study.join(embeddings, role="modifier")


@pytest.fixture(scope="module")
def world():
    return make_world()


@pytest.fixture(scope="module")
def types(world):
    return clone(QUICK).fit(world[0])


# -- identities --------------------------------------------------------------------------------


def test_effects_are_means_of_scores_of_the_places_of_a_group(world, types):
    study, _, kind = world
    nuisances = cross_fit(study, random_state=1)
    found = clone(QUICK).fit(study, nuisances=nuisances)
    score = doubly_robust_scores(study, nuisances).score
    group = found.memberships_.to_numpy().argmax(axis=1)
    by_unit = pd.Series(group, found.memberships_.index).loc[study.sites].to_numpy()
    means = score.groupby(by_unit).mean()
    np.testing.assert_allclose(found.component_effects_.value, means, rtol=1e-10)
    shares = np.bincount(by_unit) / study.n_units
    np.testing.assert_allclose(found.shares_.value, shares, rtol=1e-12)
    assert found.contrast_.value[0] == pytest.approx(means[1] - means[0])
    low_high = found.component_effects_.covariance
    spread = np.sqrt(low_high[0, 0] + low_high[1, 1] - 2 * low_high[0, 1])
    assert found.contrast_.std_error[0] == pytest.approx(spread)
    # so that they average to the AIPW estimate
    assert found.component_effects_.value @ shares == pytest.approx(score.mean())
    assert found.component_effects_.n_clusters == 80
    # nuisances of other folds change scores, not groups
    pd.testing.assert_frame_equal(found.memberships_, types.memberships_)
    assert adjusted_rand_score(kind.loc[found.memberships_.index], group) > 0.5


def test_an_outcome_never_reaches_the_group_of_its_own_place(world, types):
    study, embeddings, _ = world
    table = study.table.drop(columns=embeddings.columns)
    own = table["site"] == "s007"
    table.loc[own, "outcome"] += 50.0 * (2 * table.loc[own, "treated"] - 1)
    other = clone(QUICK).fit(as_study(table, embeddings))
    # the fold of the place is that of many others, whose learner is the same as before
    np.testing.assert_allclose(
        other.memberships_.loc["s007"], types.memberships_.loc["s007"], atol=1e-12
    )
    assert not np.allclose(other.memberships_, types.memberships_)
    moved = (
        other.predict_proba(embeddings).loc["s007"] - types.predict_proba(embeddings).loc["s007"]
    )
    assert np.abs(moved).max() > 1e-3


def test_errors_are_those_of_the_jackknife_widened_around_the_average(world, types):
    study, _, _ = world
    nuisances = cross_fit(study, random_state=1)
    found = clone(QUICK).fit(study, nuisances=nuisances)
    score = doubly_robust_scores(study, nuisances).score
    site = study.sites
    group = (found.memberships_.to_numpy().argmax(axis=1) == 1)[
        found.memberships_.index.get_indexer(site)
    ]
    average, deviation = [], []
    for key in site.unique():
        kept = (site != key).to_numpy()
        average.append(score[kept].mean())
        deviation.append(score[kept & group].mean() - score[kept].mean())
    n = len(average)
    wide = np.array(average) + np.sqrt(2) * np.array(deviation)
    brute = np.sqrt((n - 1) / n * np.sum((wide - wide.mean()) ** 2))
    assert found.component_effects_.std_error[1] == pytest.approx(brute, rel=0.02)


@pytest.mark.parametrize("grouping", ["kmeans", "tree"])
def test_order_of_rows_scale_and_shift_do_not_matter(world, grouping):
    study, embeddings, _ = world
    one = clone(QUICK).set_params(grouping=grouping).fit(study)
    table = study.table.drop(columns=embeddings.columns).sample(frac=1, random_state=3)
    table["outcome"] = 3 + 2 * table["outcome"]
    other = clone(one).fit(as_study(table, embeddings.iloc[::-1]))
    effects = one.component_effects_
    np.testing.assert_allclose(other.component_effects_.value, 2 * effects.value, rtol=1e-6)
    np.testing.assert_allclose(other.component_effects_.std_error, 2 * effects.std_error, rtol=1e-6)
    np.testing.assert_allclose(other.memberships_, one.memberships_, atol=1e-6)
    np.testing.assert_allclose(
        other.predict_proba(embeddings), one.predict_proba(embeddings), atol=1e-6
    )
    assert other.component_effects_.frame.units.equals(table.index)


def test_probabilities_are_means_over_folds_with_jackknife_errors(world, types):
    _, embeddings, _ = world
    chance = types.predict_proba(embeddings)
    parts = [part.memberships(embeddings, types.covariates_)[:, 1] for part in types.parts_]
    np.testing.assert_allclose(chance["probability_2"], np.mean(parts, axis=0))
    spread = np.sum((np.array(parts) - np.mean(parts, axis=0)) ** 2, axis=0)
    np.testing.assert_allclose(chance["sd_2"], np.sqrt(2 / 3 * spread), atol=1e-12)
    np.testing.assert_allclose(chance[["probability_1", "probability_2"]].sum(axis=1), 1)
    assert (types.predict(embeddings) - 1 == (chance["probability_2"] > 0.5)).all()
    assert types.predict(embeddings).name == "component"


def test_groups_by_center_are_nearest_centers(rng):
    effect = np.concatenate([rng.normal(0, 0.2, 50), rng.normal(3, 0.2, 25)])
    groups = group_by_center(effect, np.ones(75), 2, rng)
    np.testing.assert_allclose(groups.centers, [effect[:50].mean(), effect[50:].mean()])
    within = np.concatenate([effect[:50] - effect[:50].mean(), effect[50:] - effect[50:].mean()])
    assert groups.spread == pytest.approx(np.sqrt(np.mean(within**2)))
    chance = groups.memberships(effect, pd.DataFrame(index=range(75)))
    assert (chance.argmax(axis=1) == np.repeat([0, 1], [50, 25])).all()
    middle = groups.memberships(groups.centers.mean(keepdims=True), pd.DataFrame(index=[0]))
    np.testing.assert_allclose(middle, 0.5)


def test_a_tree_groups_by_the_column_that_moves_effects(rng):
    x = pd.DataFrame({"a": rng.normal(size=100), "b": np.linspace(-1, 1, 100)})
    effect = np.where(x["b"] < 0.3, 2.0, -1.0) + 0.01 * rng.normal(size=100)
    groups = group_by_tree(effect, x, np.ones(100), 2, rng)
    assert (groups.memberships(effect, x)[:, 1] == (x["b"] < 0.3)).all()
    np.testing.assert_allclose(groups.centers, [-1, 2], atol=0.01)


def test_the_effect_of_a_place_is_a_mean_over_covariates(world):
    study, embeddings, _ = world
    learner = TLearner("boosting", random_state=0).fit(study)
    some = pd.DataFrame({"age": [-1.0, 0.5]})
    both = [learner.predict(embeddings.assign(age=age)).to_numpy() for age in some["age"]]
    np.testing.assert_allclose(site_effects(learner, embeddings, some), np.mean(both, axis=0))


@pytest.mark.parametrize(
    "learner",
    [CausalForest(60, use="embeddings"), CausalForest(60), DRLearner(n_folds=2)],
    ids=repr,
)
@pytest.mark.parametrize("grouping", ["kmeans", "tree"])
def test_any_learner_finds_two_clear_types(world, learner, grouping):
    study, embeddings, kind = world
    found = clone(QUICK).set_params(learner=learner, grouping=grouping).fit(study)
    assert adjusted_rand_score(kind, found.predict(embeddings)) > 0.4
    low, high = found.component_effects_.value
    # places near the border are mistaken, so effects lie between 0 and 4
    assert -0.5 < low < 1.5
    assert 2.5 < high < 4.5


def test_it_is_shown(types):
    text = types.summary()
    for words in (
        "component 2",
        "difference",
        "k-means of the effects of TLearner",
        "clustered (80 clusters",
    ):
        assert words in text
    assert "component 1" in types._repr_html_()
    assert types.plot().get_yticklabels()[0].get_text().startswith("component 1")
    table = types.to_dataframe()
    assert table["share"].sum() == pytest.approx(1)
    assert {"predicted_effect", "ci_low", "n_clusters"} <= set(table.columns)
    assert "PostHocTypes" in str(clone(QUICK))


# -- bad input ---------------------------------------------------------------------------------


def test_what_cannot_be_grouped_is_refused(world):
    study, embeddings, _ = world
    bare = as_study(study.table.drop(columns=embeddings.columns), None)
    with pytest.raises(RoleError, match="0 joined embedding columns"):
        clone(QUICK).fit(bare)
    with pytest.raises(ValueError, match="80 sites support at most 8, got n_components=9"):
        clone(QUICK).set_params(n_components=9).fit(study)
    with pytest.raises(ValueError, match=r"n_components.*got 1"):
        clone(QUICK).set_params(n_components=1).fit(study)
    with pytest.raises(ValueError, match="'forest'"):
        clone(QUICK).set_params(grouping="forest").fit(study)
    with pytest.raises(RoleError, match="ImageDRLearner reads chips"):
        clone(QUICK).set_params(learner=ImageDRLearner()).fit(study)
    with pytest.raises(RoleError, match="use='covariates'"):
        clone(QUICK).set_params(learner=TLearner(use="covariates")).fit(study)
    with pytest.raises(TypeError, match="got KMeans"):
        clone(QUICK).set_params(learner=KMeans()).fit(study)


def test_one_effect_for_all_makes_no_groups(world):
    study, _, _ = world
    with pytest.raises(RoleError, match=r"predicts 1 for 5\d sites"):
        clone(QUICK).set_params(learner=TLearner(DummyRegressor())).fit(study)


def test_scores_of_other_units_are_refused_before_any_learner_is_fitted(world):
    study, _, _ = world
    some = cross_fit(study.subset(np.arange(study.n_units) >= 5), random_state=0)
    # this learner would be refused once it is fitted
    useless = clone(QUICK).set_params(learner=TLearner(DummyRegressor()))
    with pytest.raises(AlignmentError, match=r"5 are missing \('u0000'"):
        useless.fit(study, nuisances=some)


def test_other_embeddings_are_refused(world, types):
    _, embeddings, _ = world
    with pytest.raises(AlignmentError, match="'e1'"):
        types.predict_proba(embeddings.drop(columns="e1"))
    with pytest.raises(ValueError, match="images"):
        types.predict_proba(embeddings.replace(embeddings.iloc[0, 0], np.nan))
    with pytest.raises(TypeError, match="not ndarray"):
        types.predict_proba(embeddings.to_numpy())


def test_a_component_without_an_arm_is_refused(world):
    study, embeddings, kind = world
    table = study.table.drop(columns=embeddings.columns)
    high = table["site"].map(kind) == 1
    far = embeddings.assign(e0=np.where(kind == 1, 5.0, -5.0))
    table.loc[high, "treated"] = 1
    with pytest.raises(RoleError, match=r"components 2 of 2 have no control unit"):
        clone(QUICK).fit(as_study(table, far))
