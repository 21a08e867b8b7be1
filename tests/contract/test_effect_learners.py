"""What every effect learner promises."""

import pickle

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.preprocessing import StandardScaler

from terracausal._foundation.errors import AlignmentError, LeakageError, RoleError
from terracausal.effects import (
    CausalForest,
    DRLearner,
    LinearDRLearner,
    RLearner,
    SLearner,
    TLearner,
    TunedEffectLearner,
    XLearner,
    origin_of,
)
from terracausal.evaluation import rank_weighted_effect
from terracausal.nuisance import Scores
from terracausal.study import Folds, Study

LEARNERS = {
    "dr": DRLearner(n_folds=3, random_state=0),
    "dr with least squares": DRLearner(LinearRegression(), n_folds=2, random_state=1),
    "linear dr": LinearDRLearner(n_folds=2, random_state=0),
    "r": RLearner(n_folds=2, random_state=0),
    "s": SLearner(random_state=0),
    "t": TLearner(random_state=0),
    "x": XLearner(n_folds=2, random_state=0),
    "tuned": TunedEffectLearner({"T": TLearner(), "S": SLearner()}, n_folds=2, random_state=0),
    "forest": CausalForest(n_trees=20, random_state=0),
}
EXACT = {name: learner for name, learner in LEARNERS.items() if name != "forest"}
# S and T learn outcomes at once where the propensity is known; few clusters are too few for least
# squares before there are any folds
INNER_FOLDS = {k: v for k, v in LEARNERS.items() if k not in ("s", "t", "linear dr")}
# the candidates of a tuned learner have features of their own
WITH_FEATURES = {k: v for k, v in LEARNERS.items() if k != "tuned"}
REDUCING = {k: v for k, v in EXACT.items() if k not in ("dr with least squares", "tuned")}


def each(learners):
    return pytest.mark.parametrize("learner", learners.values(), ids=learners)


every_learner = each(LEARNERS)


def make_table(rng, n=240, effect=lambda x: 1 + x, noise=0.5):
    site, x, z = np.arange(n) // 3, rng.normal(size=n), rng.normal(size=n)
    w = rng.permutation(np.arange(n) % 2)
    y = z + w * effect(x) + noise * rng.normal(size=n)
    index = pd.Index([f"u{k:04d}" for k in range(n)], name="unit")
    columns = {"y": y, "w": w, "site": site, "x": x, "z": z, "v": rng.uniform(0.5, 2, n)}
    return pd.DataFrame(columns, index=index)


def study_of(table, **roles):
    chosen = {"outcome": "y", "treatment": "w", "site": "site", "covariates": ["x", "z"]}
    return Study(table, **(chosen | {"propensity": 0.5} | roles))


@pytest.fixture
def table(rng):
    return make_table(rng)


@pytest.fixture
def study(table):
    return study_of(table)


@every_learner
def test_scikit_learn_habits(learner, study):
    fresh = clone(learner)
    assert repr(fresh) == repr(learner)
    assert set(fresh.get_params()) == set(learner.get_params())
    assert type(learner).__name__ in repr(learner)
    name, value = ("use", "covariates") if hasattr(fresh, "use") else ("n_folds", 3)
    assert getattr(fresh.set_params(**{name: value}), name) == value
    assert fresh.fit(study) is fresh
    learned = {name for name in vars(fresh) if name not in fresh.get_params(deep=False)}
    assert all(name.endswith("_") for name in learned)


@every_learner
def test_fit_does_not_change_the_learner_the_study_or_the_table(learner, study, table):
    before, given = study.table, table.copy()
    settings = {k: repr(v) for k, v in learner.get_params().items()}
    fresh = clone(learner).fit(study)
    fresh.predict(table)
    assert {k: repr(v) for k, v in fresh.get_params().items()} == settings
    pd.testing.assert_frame_equal(study.table, before)
    pd.testing.assert_frame_equal(table, given)


@every_learner
def test_predictions_keep_the_index_and_have_a_name(learner, study, table):
    fitted = clone(learner).fit(study)
    some = table.iloc[[7, 3, 50]]
    found = fitted.predict(some)
    assert found.name == "cate"
    assert found.index.equals(some.index)
    assert np.isfinite(found).all()
    pd.testing.assert_series_equal(found, fitted.predict(study).loc[some.index], rtol=1e-10)


@every_learner
def test_columns_in_any_order(learner, study, table):
    fitted = clone(learner).fit(study)
    pd.testing.assert_series_equal(fitted.predict(table[["z", "x"]]), fitted.predict(table))


@every_learner
def test_a_missing_column_is_named(learner, study, table):
    fitted = clone(learner).fit(study)
    with pytest.raises(RoleError, match=r"lacks 1 covariates: 'z'"):
        fitted.predict(table.drop(columns="z"))


@every_learner
def test_missing_embedding_columns_are_named(learner, study, table, rng):
    embeddings = pd.DataFrame({"emb_0": rng.normal(size=80)})
    fitted = clone(learner).fit(study.join(embeddings, "modifier"))
    with pytest.raises(RoleError, match=r"lacks 1 embedding columns: 'emb_0'"):
        fitted.predict(table)


@every_learner
def test_unfitted(learner, table):
    with pytest.raises(NotFittedError):
        clone(learner).predict(table)


@every_learner
def test_without_features(learner, table):
    with pytest.raises(RoleError, match=r"needs at least one feature; the study has 0 covariates"):
        clone(learner).fit(study_of(table, covariates=[]))


@each(WITH_FEATURES)
def test_without_features_in_use(learner, table):
    with pytest.raises(RoleError, match=r"use='embeddings' keeps none"):
        clone(learner).set_params(use="embeddings").fit(study_of(table))


@each(WITH_FEATURES)
def test_unknown_use(learner, study):
    with pytest.raises(ValueError, match=r"`use` must be .* got 'pixels'"):
        clone(learner).set_params(use="pixels").fit(study)


@every_learner
def test_pickles(learner, study, table):
    fitted = clone(learner).fit(study)
    again = pickle.loads(pickle.dumps(fitted))
    pd.testing.assert_series_equal(again.predict(table), fitted.predict(table))


@every_learner
def test_same_seed_same_numbers_and_rows_in_any_order(learner, study, table, rng):
    shuffled = study_of(table.iloc[rng.permutation(240)])
    runs = [
        clone(learner).cross_predict(s, s.folds(2, random_state=5))
        for s in (study, study, shuffled)
    ]
    pd.testing.assert_series_equal(runs[0], runs[1], check_exact=True)
    np.testing.assert_allclose(runs[2].loc[table.index], runs[0], rtol=1e-8)
    one, other = (clone(learner).fit(s).predict(table) for s in (study, shuffled))
    np.testing.assert_allclose(one, other, rtol=1e-8)


@each({name: LEARNERS[name] for name in ("t", "forest")})
def test_n_jobs_does_not_matter(learner, study):
    folds = study.folds(2, random_state=0)
    one, two = (clone(learner).cross_predict(study, folds, n_jobs=n) for n in (1, 2))
    np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize(
    ("learner", "propensity"),
    [*((learner, 0.5) for learner in EXACT.values()), (LEARNERS["x"], None)],
    ids=[*EXACT, "x with an estimated propensity"],
)
def test_shift_and_scale_of_the_outcome(learner, table, propensity):
    one = study_of(table, propensity=propensity)
    other = study_of(table.assign(y=30 - 4 * table["y"]), propensity=propensity)
    folds = one.folds(2, random_state=0)
    found = [clone(learner).cross_predict(s, folds) for s in (one, other)]
    np.testing.assert_allclose(-4 * found[0], found[1], rtol=1e-6, atol=1e-6)


@each(EXACT)
def test_swapped_arms(learner, table):
    one, other = study_of(table), study_of(table.assign(w=1 - table["w"]))
    folds = one.folds(2, random_state=0)
    # both arms draw the same inner folds, as their deal looks at both arms alike
    found = [clone(learner).cross_predict(s, folds) for s in (one, other)]
    np.testing.assert_allclose(found[0], -found[1], rtol=1e-7, atol=1e-9)


@each(EXACT)
def test_everybody_twice_in_the_same_cluster(learner, table):
    twice = pd.concat([table, table.set_axis(table.index + "b")])
    one, other = (clone(learner).fit(study_of(t)).predict(table) for t in (table, twice))
    np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("kind", [SLearner, TLearner])
def test_a_weight_of_two_is_the_unit_twice(kind, table):
    table["v"] = np.where(np.arange(240) % 5 == 0, 2.0, 1.0)
    double = table[table["v"] == 2]
    twice = pd.concat([table, double.set_axis(double.index + "b")]).assign(v=1.0)
    learner = kind(outcome_learner=LinearRegression())
    one, other = (
        clone(learner).fit(study_of(t, weight="v")).predict(table) for t in (table, twice)
    )
    np.testing.assert_allclose(one, other, rtol=1e-9)


@pytest.mark.parametrize("kind", [SLearner, TLearner])
def test_a_weight_of_zero_is_no_unit(kind, table):
    table["v"] = np.where(np.arange(240) % 5 == 0, 0.0, 1.0)
    learner = kind(outcome_learner=LinearRegression())
    one, other = (
        clone(learner).fit(study_of(t, weight="v")).predict(table)
        for t in (table, table[table["v"] == 1])
    )
    np.testing.assert_allclose(one, other, rtol=1e-9)


@every_learner
def test_cross_predictions_never_see_their_own_fold(learner, study, table):
    folds = study.folds(3, random_state=0)
    before = clone(learner).cross_predict(study, folds)
    held = (folds.labels == 1).to_numpy()
    changed = table.copy()
    changed.loc[held, "y"] = 1000 - 50 * changed.loc[held, "y"]
    after = clone(learner).cross_predict(study_of(changed), folds)
    np.testing.assert_array_equal(before[held], after[held])
    assert (before[~held] != after[~held]).all()


@every_learner
def test_cross_prediction_is_fitting_without_the_fold(learner, study, table):
    folds = study.folds(2, random_state=0)
    train, test = next(folds.split())
    expected = clone(learner).fit(study.subset(train)).predict(table[test])
    np.testing.assert_allclose(clone(learner).cross_predict(study, folds)[test], expected)


@every_learner
def test_origins(learner, study):
    folds = study.folds(2, random_state=0)
    out_of_fold = clone(learner).cross_predict(study, folds)
    assert origin_of(out_of_fold).folds.equals(folds.labels)
    scores = Scores.from_dataframe(pd.DataFrame({"score": study.outcome}))
    found = rank_weighted_effect(scores, out_of_fold, random_state=0)
    assert found.ranked_within == "each of 2 folds"
    fitted = clone(learner).fit(study)
    with pytest.raises(LeakageError, match=r"fitted on 240 of the 240 units"):
        rank_weighted_effect(scores, fitted.predict(study))


@every_learner
def test_folds_of_other_units(learner, study):
    folds = study.folds(2, random_state=0)
    part = Folds(folds.labels.iloc[:220], folds.table)
    with pytest.raises(AlignmentError, match=r"20 are missing"):
        clone(learner).cross_predict(study, part)


@every_learner
def test_folds_that_split_clusters_are_refused(learner, study, table):
    folds = study.folds(2, random_state=0)
    parishes = study_of(table.assign(parish=table["site"] // 5), cluster="parish")
    with pytest.raises(ValueError, match=r"cluster"):
        clone(learner).cross_predict(parishes, folds)


@each(INNER_FOLDS)
def test_errors_name_the_fold(learner, table):
    # 4 sites: without a fold 2 are left, too few for the inner folds, or the halves of a forest
    study = study_of(table.assign(site=np.arange(240) // 60))
    fresh = clone(learner)
    if "n_folds" in fresh.get_params():
        fresh.set_params(n_folds=4)
    with pytest.raises(RoleError, match=r"found 2 clusters") as caught:
        fresh.cross_predict(study, study.folds(2, random_state=0))
    assert any("while cross-predicting fold 0 with" in note for note in caught.value.__notes__)


@every_learner
def test_weights_reach_the_learner(learner, table):
    # among units with weight the effect is 5, among the others -5
    heavy = np.arange(240) % 6 < 3
    table["y"] = table["y"] + table["w"] * np.where(heavy, 5, -5)
    table["v"] = np.where(heavy, 1.0, 1e-6)
    weighted = clone(learner).fit(study_of(table, weight="v")).predict(table)
    plain = clone(learner).fit(study_of(table)).predict(table)
    assert weighted.mean() > 3.5
    assert abs(plain.mean() - 1) < 2


@every_learner
def test_scale_of_the_weights_does_not_matter(learner, table):
    table["v10"] = 10 * table["v"]
    one, other = (
        clone(learner).fit(study_of(table, weight=name)).predict(table) for name in ("v", "v10")
    )
    np.testing.assert_allclose(one, other, rtol=1e-6)


@every_learner
def test_small_studies_bring_no_stray_warning(learner, rng):
    # warnings are errors here; whoever has 60 units cannot act on the inside of a forest
    table = make_table(rng, n=60)
    assert len(clone(learner).fit(study_of(table)).predict(table)) == 60


@every_learner
def test_a_constant_effect_is_recovered(learner, rng):
    table = make_table(rng, n=300, effect=lambda x: 2.0, noise=0.3)
    found = clone(learner).cross_predict(study_of(table), study_of(table).folds(3, random_state=0))
    # scores have an SD of at most sd(y | arm) / sqrt(e (1 - e)); the mean over units inherits it
    spread = table["y"].groupby(table["w"]).std().max() / 0.5
    tolerance = stats.norm.isf(0.5e-5) * spread / np.sqrt(300)
    assert abs(found.mean() - 2.0) < tolerance
    assert found.std() < spread / 2


@every_learner
def test_a_strong_modifier_is_found(learner, rng):
    table = make_table(rng, n=300, effect=lambda x: 3 * (x > 0), noise=0.3)
    study = study_of(table)
    found = clone(learner).cross_predict(study, study.folds(3, random_state=0))
    # pure chance would give a correlation beyond 0.26 = 4.42 / sqrt(300) once in 100,000
    assert np.corrcoef(found, table["x"] > 0)[0, 1] > 0.5


@every_learner
def test_estimated_propensities(learner, table):
    study = study_of(table, propensity=None)
    found = clone(learner).cross_predict(study, study.folds(2, random_state=0))
    assert np.isfinite(found).all()


@every_learner
def test_an_outcome_of_one_value(learner, table):
    study = study_of(table.assign(y=3.0))
    with pytest.raises(RoleError, match=r"'y' must vary.* it is 3 for all 240 units"):
        clone(learner).fit(study)
    with pytest.raises(RoleError, match=r"'y' must vary.* it is 3 for all 240 units"):
        clone(learner).cross_predict(study)


@every_learner
def test_a_fold_without_one_arm(learner, study, table):
    # all treated units are held out together
    labels = pd.Series((table["w"] == 1).astype(int), index=study.units)
    folds = Folds(labels, pd.DataFrame({"fold": [0, 1]}))
    single = study_of(table, site=None)
    with pytest.raises(RoleError, match=r"without fold 0 there are 120 treated and 0 control"):
        clone(learner).cross_predict(single, folds)


PARTS = [
    (name, part)
    for name, learner in LEARNERS.items()
    for part in learner.get_params(deep=False)
    if part.endswith("_learner")
]


@pytest.mark.parametrize(("name", "part"), PARTS)
def test_parts_that_cannot_be_used(name, part, table):
    # an estimated propensity, so that every part has work; strata, so that S and T need it
    study = study_of(table.assign(s=np.arange(240) % 2), propensity=None, strata="s")
    for bad, message in (
        (StandardScaler(), f"`{part}` must be a .*; StandardScaler has no predict"),
        (LinearRegression, f"`{part}` must be a learner; got the class LinearRegression"),
    ):
        learner = clone(LEARNERS[name]).set_params(**{part: None})
        setattr(learner, part, bad)
        with pytest.raises(TypeError, match=message):
            learner.fit(study)
    learner = clone(LEARNERS[name]).set_params(**{part: "oracle"})
    with pytest.raises(ValueError, match=f"`{part}` must be one of .* got 'oracle'"):
        learner.fit(study)


class NanRegressor(LinearRegression):
    """Forgets some of its predictions."""

    def predict(self, X):
        found = super().predict(X)
        found[:3] = np.nan
        return found


@pytest.mark.parametrize(("name", "part"), [(n, p) for n, p in PARTS if p != "propensity_learner"])
def test_nan_predictions_name_the_fold(name, part, study):
    learner = clone(LEARNERS[name]).set_params(**{part: NanRegressor()})
    with pytest.raises(ValueError, match=r"must be finite; 3 of \d+ from NanRegressor") as caught:
        learner.cross_predict(study, study.folds(2, random_state=0))
    assert any("while cross-predicting fold 0 with" in note for note in caught.value.__notes__)


@pytest.mark.parametrize("kind", [DRLearner, RLearner, XLearner])
def test_an_effect_learner_is_a_regressor(kind, study):
    with pytest.raises(ValueError, match=r"must be a regressor.* LogisticRegression"):
        kind(effect_learner=LogisticRegression()).fit(study)


@each(REDUCING)
def test_components_of_embeddings(learner, table, rng):
    embeddings = pd.DataFrame(rng.normal(size=(80, 30)) @ rng.normal(size=(30, 30))).add_prefix("e")
    study = study_of(table).join(embeddings, "modifier")
    reduced = clone(learner).set_params(n_components=3).fit(study)
    assert reduced.components_.transform(study.features("effect")).shape == (240, 5)
    assert np.isfinite(reduced.predict(study)).all()
    with pytest.raises(RoleError, match=r"the study has none"):
        clone(learner).set_params(n_components=3).fit(study_of(table))
    # three units share each of 80 embeddings
    with pytest.raises(RoleError, match=r"got 80 for 80 sites in the study. Use at most 79"):
        clone(learner).set_params(n_components=80).fit(study)


@pytest.mark.parametrize(
    ("learner", "n_components"),
    [(x, n) for name, x in LEARNERS.items() for n in (None, 1) if n is None or name in REDUCING],
)
def test_an_image_unlike_all_others_gets_the_effect_of_the_outermost(
    learner, n_components, table, rng
):
    embeddings = pd.DataFrame(rng.normal(size=(80, 2)), columns=["a", "b"])
    study = study_of(table).join(embeddings, "modifier")
    fitted = clone(learner)
    if n_components is not None:
        fitted.set_params(n_components=n_components)
    fitted.fit(study)
    rows = study.table.iloc[[0, 0, 0]].set_axis(["far", "farther", "inside"], axis=0)
    rows.loc["far", ["a", "b"]] = 1e3 * (embeddings.max() + 1)
    rows.loc["farther", ["a", "b"]] = 1e6 * (embeddings.max() + 1)
    found = fitted.predict(rows)
    assert found["far"] == pytest.approx(found["farther"], abs=1e-9)
    if n_components is None:
        rows.loc["far", ["a", "b"]] = embeddings.max()
        assert fitted.predict(rows)["far"] == pytest.approx(found["farther"], abs=1e-9)


@pytest.mark.parametrize(
    ("name", "known"),
    [*((name, True) for name in REDUCING), ("t", False)],
)
def test_strata_with_other_shares_do_not_confound(name, known, rng):
    # the outcome is higher by 5 where more are treated; the effect is 1 everywhere
    table = make_table(rng, n=900, effect=lambda x: 1.0)
    table["s"] = rng.integers(0, 2, 900)
    table["p"] = np.where(table["s"] == 1, 0.8, 0.2)
    w = rng.random(900) < table["p"]
    table["y"] = table["z"] + 5 * table["s"] + w + 0.5 * rng.normal(size=900)
    table["w"] = w.astype(int)
    study = study_of(table, site=None, strata="s", propensity="p" if known else None)
    found = clone(LEARNERS[name]).fit(study).predict(table)
    # a difference in means would be 1 + 5 * (0.8 - 0.2) = 4; scores have an SD below 2.7 / 0.4
    assert abs(found.mean() - 1) < stats.norm.isf(0.5e-5) * 2.7 / 0.4 / np.sqrt(900)
