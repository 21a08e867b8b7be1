"""Nuisances of a unit come from learners that have not seen its fold."""

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from terracausal._foundation.errors import AlignmentError, OverlapError, RoleError
from terracausal.nuisance import cross_fit, doubly_robust_scores

SEEN: list[dict] = []
NAMES = ["propensity", "outcome_control", "outcome_treated"]


class Spy(RegressorMixin, BaseEstimator):
    """Remembers the units and clusters that it was fitted on and asked about."""

    def fit(self, X, y, sample_weight=None, groups=None):
        self.seen_ = {"fit": list(X.index), "y": list(y), "groups": groups, "v": sample_weight}
        return self

    def predict(self, X):
        SEEN.append(self.seen_ | {"predict": list(X.index)})
        return np.zeros(len(X))


class Broken(RegressorMixin, BaseEstimator):
    """Raises in `fit`, or returns a NaN."""

    def __init__(self, fails=True):
        self.fails = fails

    def fit(self, X, y, sample_weight=None):
        if self.fails:
            raise RuntimeError("no convergence")
        self.n_ = len(y)
        return self

    def predict(self, X):
        values = np.zeros(len(X))
        values[:2] = np.nan
        return values


@pytest.fixture
def spied():
    SEEN.clear()
    yield SEEN
    SEEN.clear()


def test_learners_never_see_the_held_out_fold(study, table, spied):
    folds = study.folds(3, random_state=0)
    cross_fit(study, folds, propensity=0.5, outcome_learner=Spy())
    assert len(spied) == 6
    for k, call in enumerate(spied):
        fold, arm = divmod(k, 2)
        held_out = set(table.index[folds.labels == fold])
        assert set(call["predict"]) == held_out
        assert set(call["fit"]) == set(table.index[table["w"] == arm]) - held_out
        assert call["y"] == table["y"][call["fit"]].tolist()
        sites = table["site"]
        assert not set(sites[call["fit"]]) & set(sites[call["predict"]])


def test_learners_get_the_clusters_of_their_rows(study, table, spied):
    cross_fit(study, propensity=0.5, outcome_learner=Spy(), random_state=0)
    for call in spied:
        pairs = {(g, s) for g, s in zip(call["groups"], table["site"][call["fit"]], strict=True)}
        assert len(pairs) == len(set(call["groups"])) == len({s for _, s in pairs})


def test_learners_get_the_weights_of_their_rows(table, make_study, spied):
    study = make_study(table, weight="v")
    cross_fit(study, propensity=0.5, outcome_learner=Spy(), random_state=0)
    for call in spied:
        ratio = call["v"] / table["v"][call["fit"]].to_numpy()
        np.testing.assert_allclose(ratio, ratio[0])


def test_buffered_units_do_not_train(table, make_study, spied):
    study = make_study(table, coords=("lon", "lat"))
    folds = study.folds(2, buffer_m=1_000, random_state=0)
    cross_fit(study, folds, propensity=0.5, outcome_learner=Spy())
    for k, call in enumerate(spied):
        assert not set(call["fit"]) & set(table.index[folds.buffered[:, k // 2]])
    assert folds.buffered.any()


def test_a_linear_regression_by_hand(study, table):
    folds = study.folds(4, random_state=1)
    found = cross_fit(study, folds, propensity=0.5, outcome_learner=LinearRegression()).table
    for fold in range(4):
        for arm, name in enumerate(("outcome_control", "outcome_treated")):
            train = table[(folds.labels != fold) & (table["w"] == arm)]
            test = table[folds.labels == fold]
            design = np.column_stack([np.ones(len(train)), train["x"], train["z"]])
            b = np.linalg.lstsq(design, train["y"].to_numpy(), rcond=None)[0]
            expected = b[0] + b[1] * test["x"] + b[2] * test["z"]
            np.testing.assert_allclose(found.loc[test.index, name], expected, rtol=1e-9)
    pd.testing.assert_series_equal(found["fold"], folds.labels)


@pytest.mark.parametrize("known", [0.4, "e"])
def test_known_propensity(study, table, known):
    nuisances = cross_fit(study, propensity=known, random_state=0)
    expected = table["e"] if known == "e" else 0.4
    assert (nuisances.propensity == expected).all()
    assert nuisances.propensity_known
    assert "known" in nuisances.summary()


def test_the_known_propensity_of_the_study_is_used(table, make_study):
    assert (cross_fit(make_study(table, propensity=0.3), random_state=0).propensity == 0.3).all()


def test_impossible_propensity(study):
    with pytest.raises(OverlapError, match=r"found 1.5"):
        cross_fit(study, propensity=1.5)


def test_defaults_estimate_something(make_study, rng):
    x = rng.normal(size=400)
    e = 1 / (1 + np.exp(-x))
    w = (rng.random(400) < e).astype(int)
    columns = {"w": w, "x": x, "z": rng.normal(size=400), "site": np.arange(400) // 4}
    table = pd.DataFrame(columns | {"y": x + w + rng.normal(size=400)})
    nuisances = cross_fit(make_study(table), random_state=0)
    assert not nuisances.propensity_known
    assert nuisances.propensity.between(0, 1, "neither").all()
    # a learner whose predictions were shuffled would not correlate
    assert np.corrcoef(nuisances.propensity, e)[0, 1] > 0.5
    assert np.corrcoef(nuisances.table["outcome_control"], x)[0, 1] > 0.5


def test_folds_that_split_clusters_are_refused(study, table, make_study):
    # made before it was known that five sites make a parish
    folds = study.folds(3, random_state=0)
    parishes = make_study(table.assign(parish=table["site"] // 5), cluster="parish")
    with pytest.raises(ValueError, match=r"cluster"):
        cross_fit(parishes, folds)


def test_without_features_the_mean_of_the_other_folds(table, make_study):
    study = make_study(table, covariates=[])
    folds = study.folds(3, random_state=0)
    found = cross_fit(study, folds).table
    for fold in range(3):
        rest = table[folds.labels != fold]
        own = found[folds.labels == fold]
        np.testing.assert_allclose(own["propensity"], rest["w"].mean(), rtol=1e-12)
        for arm, name in enumerate(("outcome_control", "outcome_treated")):
            np.testing.assert_allclose(own[name], rest["y"][rest["w"] == arm].mean(), rtol=1e-12)


def test_a_binary_outcome_may_have_a_classifier(table, make_study):
    study = make_study(table.assign(y=(table["y"] > 0.5).astype(int)))
    folds = study.folds(3, random_state=0)
    learner = LogisticRegression()
    found = cross_fit(study, folds, propensity=0.5, outcome_learner=learner).table
    train = (folds.labels != 0) & (study.treatment == 1)
    fitted = learner.fit(table.loc[train, ["x", "z"]], study.outcome[train])
    expected = fitted.predict_proba(table.loc[folds.labels == 0, ["x", "z"]])[:, 1]
    np.testing.assert_allclose(found.loc[folds.labels == 0, "outcome_treated"], expected, rtol=1e-5)


def test_a_classifier_for_another_outcome_is_refused(table, make_study):
    # the probability of class 1 says nothing about an outcome of 0 and 2
    study = make_study(table.assign(y=2 * (table["y"] > 0.5)))
    with pytest.raises(ValueError, match=r"LogisticRegression|classifier"):
        cross_fit(study, propensity=0.5, outcome_learner=LogisticRegression(), random_state=0)


# -- determinism -------------------------------------------------------------------------------


def test_rows_in_any_order(study, table, make_study, rng):
    one = cross_fit(study, random_state=0).table
    other = cross_fit(make_study(table.iloc[rng.permutation(120)]), random_state=0).table
    pd.testing.assert_frame_equal(one, other.loc[one.index], rtol=0, atol=1e-12)


def test_folds_in_another_order_of_rows(study, table, make_study, rng):
    folds = make_study(table.iloc[rng.permutation(120)]).folds(3, random_state=0)
    one = cross_fit(study, folds, random_state=0).table
    other = cross_fit(study, study.folds(3, random_state=0), random_state=0).table
    pd.testing.assert_frame_equal(one, other)


@pytest.mark.parametrize("learner", [None, RandomForestRegressor(n_estimators=5)])
def test_same_seed_same_numbers_whatever_n_jobs(study, learner):
    runs = [
        cross_fit(study, propensity=0.5, outcome_learner=learner, n_jobs=n, random_state=0).table
        for n in (1, 1, 2)
    ]
    pd.testing.assert_frame_equal(runs[0], runs[1], check_exact=True)
    pd.testing.assert_frame_equal(runs[0], runs[2], check_exact=True)


def test_another_seed_reaches_the_learners(study):
    folds = study.folds(3, random_state=0)
    options = {"propensity": 0.5, "outcome_learner": RandomForestRegressor(n_estimators=5)}
    one, other = (cross_fit(study, folds, random_state=s, **options).table for s in (0, 1))
    assert not one[NAMES].equals(other[NAMES])


def test_scaling_all_weights_changes_nothing(table, make_study):
    table["v10"] = 10 * table["v"]
    one, other = (
        cross_fit(make_study(table, weight=v), random_state=0).table for v in ("v", "v10")
    )
    pd.testing.assert_frame_equal(one, other, rtol=1e-8)


def test_the_learner_that_was_passed_stays_unfitted(study):
    learner = LinearRegression()
    cross_fit(study, propensity=0.5, outcome_learner=learner, random_state=0)
    assert not hasattr(learner, "coef_")


# -- what goes wrong ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("part", "note"),
    [
        ("outcome_learner", "while fitting the outcome learner (control) on fold 0: Broken on"),
        ("propensity_learner", "while fitting the propensity learner on fold 0: Broken on"),
    ],
)
def test_a_learner_that_raises_is_named(study, part, note):
    with pytest.raises(RuntimeError, match=r"no convergence") as caught:
        cross_fit(study, random_state=0, **{part: Broken()})
    assert any(note in line for line in caught.value.__notes__)


def test_a_learner_that_returns_nan_is_named(study):
    with pytest.raises(ValueError, match=r"2 of \d+ from Broken .*\(control\) on fold 0"):
        cross_fit(study, propensity=0.5, outcome_learner=Broken(fails=False), random_state=0)


@pytest.mark.parametrize(
    "learner", [KNeighborsRegressor(), make_pipeline(StandardScaler(), KNeighborsRegressor())]
)
def test_a_learner_without_weights(table, make_study, learner):
    with pytest.raises(ValueError, match=r"weighted here, but KNeighborsRegressor .* on fold 0"):
        cross_fit(make_study(table, weight="v"), propensity=0.5, outcome_learner=learner)


def test_a_pipeline_gets_weights_at_its_last_step(table, make_study):
    study = make_study(table, weight="v")
    learner = make_pipeline(StandardScaler(), LinearRegression())
    folds = study.folds(2, random_state=0)
    one = cross_fit(study, folds, propensity=0.5, outcome_learner=learner).table
    plain = cross_fit(study, folds, propensity=0.5, outcome_learner=LinearRegression()).table
    pd.testing.assert_frame_equal(one, plain, rtol=1e-9)
    unweighted = cross_fit(make_study(table), folds, propensity=0.5, outcome_learner=learner).table
    assert not np.allclose(one[NAMES], unweighted[NAMES])


def test_a_propensity_learner_that_is_certain(study):
    nuisances = cross_fit(study, propensity_learner=Spy(), random_state=0)
    with pytest.raises(OverlapError, match=r"120 of 120 do not: units 'u000'"):
        doubly_robust_scores(study, nuisances)


def test_too_few_of_an_arm(table, make_study):
    table["w"] = (np.arange(120) % 60 == 0).astype(int)
    study = make_study(table, covariates=[])
    with pytest.raises(RoleError, match=r"without fold 0 there are 1 treated and"):
        cross_fit(study, study.folds(2, random_state=0))


def test_folds_of_another_study(study):
    folds = study.subset(np.arange(120) < 100).folds(2, random_state=0)
    with pytest.raises(AlignmentError, match=r"`folds` .* same 120 units .* 20 are missing"):
        cross_fit(study, folds)


def test_quality_against_the_formula(study, table):
    nuisances = cross_fit(study, random_state=0)
    own = table["w"] == 1
    y, fitted = table["y"][own], nuisances.table["outcome_treated"][own]
    expected = 1 - ((y - fitted) ** 2).sum() / ((y - y.mean()) ** 2).sum()
    found = nuisances.quality.set_index("nuisance")["value"]
    assert found["outcome_treated"] == pytest.approx(expected)
    e = nuisances.propensity
    assert found["propensity"] == pytest.approx(-np.log(np.where(own, e, 1 - e)).mean())
    assert "ClusterRidge() on 2 features; R²" in str(nuisances)


@pytest.mark.parametrize("n_components", [None, 1])
def test_embeddings_of_held_out_units_stay_in_the_range_of_the_training_units(
    table, make_study, rng, n_components
):
    images = pd.DataFrame(rng.normal(size=(30, 2)), index=range(30), columns=["a", "b"])
    found = []
    for how_far in (1e3, 1e6):
        images.loc[0, "a"] = how_far
        study = make_study(table).join(images.rename_axis("site"), role="both")
        folds = study.folds(5, random_state=0)
        nuisances = cross_fit(study, folds, n_components=n_components, random_state=0)
        alike = folds.labels == folds.labels[table.index[0]]
        found.append(nuisances.table.loc[alike, NAMES])
    # the outlier's own fold never trains on it, so it cannot matter how far out it lies
    pd.testing.assert_frame_equal(*found, rtol=1e-10)
    # covariates are what the analyst says they are: the same outlier is extrapolated to
    moved = table.assign(x=table["x"].where(table["site"] > 0, 1e3))
    away = cross_fit(make_study(moved), random_state=0).table
    assert away["outcome_treated"].abs().max() > 10
