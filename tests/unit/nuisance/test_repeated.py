"""Repeated cross-fitting, components learned in the fold, and named learners."""

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.linear_model import ElasticNet, LinearRegression

from terracausal._foundation.errors import OverlapError, RoleError
from terracausal.effects import average_effect
from terracausal.nuisance import (
    ClusterBoosting,
    ClusterElasticNet,
    ClusterLogistic,
    ClusterRidge,
    cross_fit,
    doubly_robust_scores,
    repeat_cross_fit,
    weight_for_missing_outcomes,
)
from terracausal.nuisance.components import reduce_columns

CHEAP = {"outcome_learner": LinearRegression(), "propensity": 0.5}


class Listening(RegressorMixin, BaseEstimator):
    """Remembers its training features."""

    seen: list = []  # noqa: RUF012

    def fit(self, X, y):
        self.seen.append(X)
        return self

    def predict(self, X):
        return np.zeros(len(X))


@pytest.fixture
def embeddings(rng):
    return pd.DataFrame(rng.normal(size=(30, 6)) @ rng.normal(size=(6, 6))).add_prefix("e")


# -- repeats -----------------------------------------------------------------------------------


def test_the_median_of_repeats(study):
    nuisances = repeat_cross_fit(study, 3, random_state=0, **CHEAP)
    assert "3 times, with other folds" in nuisances.summary()
    runs = (nuisances, *nuisances.repeats)
    assert not runs[0].table["fold"].equals(runs[1].table["fold"])
    scores = doubly_robust_scores(study, nuisances)
    assert len(scores.repeats) == 2
    single = [average_effect(s) for s in (scores, *scores.repeats)]
    # the first carries the others, so it is stripped for the comparison
    from dataclasses import replace

    single[0] = average_effect(replace(scores, repeats=()))
    found = average_effect(scores)
    values = np.array([run.value[0] for run in single])
    assert found.value[0] == np.median(values)
    each = [run.std_error[0] ** 2 + (run.value[0] - np.median(values)) ** 2 for run in single]
    assert found.std_error[0] == pytest.approx(np.sqrt(np.median(each)), rel=1e-12)
    assert "median of 3 cross-fits" in found.summary()
    again = repeat_cross_fit(study, 3, random_state=0, **CHEAP)
    pd.testing.assert_frame_equal(again.repeats[1].table, nuisances.repeats[1].table)


def test_trimming_keeps_the_same_units_in_all_repeats(study):
    nuisances = repeat_cross_fit(study, 3, random_state=0, outcome_learner=LinearRegression())
    runs = (nuisances, *nuisances.repeats)
    middle = pd.concat([run.propensity for run in runs], axis=1).median(axis=1)
    edge = float(middle.sort_values().iloc[5]) + 1e-9
    scores = doubly_robust_scores(study, nuisances, trim=edge)
    kept = middle.index[middle.between(edge, 1 - edge)]
    assert all(set(s.units) == set(kept) for s in (scores, *scores.repeats))
    assert average_effect(scores).n_units == len(kept)


# -- components --------------------------------------------------------------------------------


def test_components_against_a_decomposition(rng):
    table = pd.DataFrame(rng.normal(size=(40, 5)) * [1, 2, 3, 4, 5], columns=list("abcde"))
    train = np.arange(40) < 25
    found = reduce_columns(table, list("bcde"), 2, train)
    z = table[list("bcde")]
    z = (z - z[train].mean()) / z[train].std(ddof=0)
    _, _, axes = np.linalg.svd(z[train].to_numpy(), full_matrices=False)
    expected = z.to_numpy() @ axes[:2].T
    np.testing.assert_allclose(np.abs(found.iloc[:, 1:]), np.abs(expected), rtol=1e-9)
    pd.testing.assert_series_equal(found["a"], table["a"])
    # rows that are held out do not move the axes
    moved = table.copy()
    moved.loc[~train, "c"] += 100
    again = reduce_columns(moved, list("bcde"), 2, train)
    pd.testing.assert_frame_equal(again[train], found[train])


def test_components_enter_the_learners(study, embeddings):
    joined = study.join(embeddings, role="both")
    Listening.seen.clear()
    nuisances = cross_fit(
        joined, propensity=0.5, outcome_learner=Listening(), n_components=2, random_state=0
    )
    assert {tuple(x.columns) for x in Listening.seen} == {("x", "z", "component_0", "component_1")}
    Listening.seen.clear()
    assert "on 4 features (2 components of 6 embedding columns)" in nuisances.summary()


def test_components_that_cannot_be_had(study, embeddings):
    with pytest.raises(RoleError, match=r"`n_components` reduces joined embeddings; .* none"):
        cross_fit(study, n_components=2)
    with pytest.raises(RoleError, match=r"got 500 for \d+ sites in a training part"):
        cross_fit(study.join(embeddings), n_components=500)
    with pytest.raises(ValueError, match=r"`n_components` must be .* got 0"):
        cross_fit(study.join(embeddings), n_components=0)


# -- learners ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("part", "name", "printed"),
    [
        ("outcome_learner", "ridge", "ClusterRidge()"),
        ("outcome_learner", "elastic_net", "ClusterElasticNet()"),
        ("outcome_learner", "boosting", "ClusterBoosting()"),
        ("propensity_learner", "logistic", "ClusterLogistic()"),
        ("propensity_learner", "boosting", "ClusterBoostingClassifier()"),
    ],
)
def test_learners_by_name(study, part, name, printed):
    other = {"outcome_learner": LinearRegression()} if part == "propensity_learner" else CHEAP
    options = {k: v for k, v in other.items() if k != part}
    nuisances = cross_fit(study, study.folds(2, random_state=0), **options, **{part: name})
    assert f"{printed} on 2 features" in nuisances.summary()
    assert np.isfinite(nuisances.table.to_numpy(dtype=float)).all()


def test_unknown_names(study):
    with pytest.raises(ValueError, match=r"`outcome_learner` must be one of 'ridge'.* got 'lasso'"):
        cross_fit(study, outcome_learner="lasso")
    with pytest.raises(ValueError, match=r"`propensity_learner` must be one of .* got 'ridge'"):
        cross_fit(study, propensity_learner="ridge")


def test_arms_are_counted_before_anything_is_fitted(table, make_study):
    # fold 0 is fine; the last fold holds all but one of the treated
    study = make_study(table, covariates=[], site=None)
    folds = study.folds(3, random_state=0)
    treated = table.index[table["w"] == 1]
    labels = folds.labels.copy()
    labels.loc[treated] = 2
    labels.loc[treated[0]] = 1
    from dataclasses import replace

    Listening.seen.clear()
    with pytest.raises(RoleError, match=r"without fold 2 there are 1 treated"):
        cross_fit(study, replace(folds, labels=labels), propensity=0.5, outcome_learner=Listening())
    assert not Listening.seen


def test_boosting_stops_before_it_learns_noise(rng):
    X, groups = rng.normal(size=(300, 3)), np.arange(300) // 5
    signal = np.sign(X[:, 0])
    few = ClusterBoosting(max_trees=60).fit(X, rng.normal(size=300), groups=groups)
    many = ClusterBoosting(max_trees=60).fit(X, signal, groups=groups)
    assert few.n_trees_ < many.n_trees_
    assert np.mean((many.predict(X) - signal) ** 2) < 0.05


def test_clusters_choose_the_number_of_trees(rng):
    # a feature that names the site: with single rows held out, more trees always help
    site = np.repeat(np.arange(30), 10)
    X = rng.normal(size=30)[site][:, None]
    y = rng.normal(size=30)[site] + 0.1 * rng.normal(size=300)
    whole = ClusterBoosting(max_trees=40).fit(X, y, groups=site).n_trees_
    single = ClusterBoosting(max_trees=40).fit(X, y).n_trees_
    assert whole < single


def test_elastic_net_at_the_chosen_penalties(rng):
    X, v = rng.normal(size=(120, 8)) * 3 + 1, rng.uniform(0.5, 2, 120)
    y = X[:, 0] + rng.normal(size=120)
    found = ClusterElasticNet().fit(X, y, sample_weight=v)
    net = found.net_
    plain = ElasticNet(alpha=net.alpha_, l1_ratio=net.l1_ratio_, tol=1e-10, max_iter=10**5)
    # the penalty acts on standardised columns, so the plain net gets the same ones
    Z = found.scaler_.transform(X)
    np.testing.assert_allclose(np.average(Z, axis=0, weights=v), 0, atol=1e-12)
    np.testing.assert_allclose(np.average(Z**2, axis=0, weights=v), 1, rtol=1e-12)
    expected = plain.fit(Z, y, sample_weight=v).predict(Z)
    # scikit-learn's default stops at a duality gap of 1e-4 of the sum of squares, and the squared
    # distance of the predictions is at most twice the gap
    assert np.average((found.predict(X) - expected) ** 2, weights=v) <= 2e-4 * np.average(
        y**2, weights=v
    )
    with pytest.raises(ValueError, match=r"at least 2 clusters"):
        ClusterElasticNet().fit(X, y, groups=np.zeros(120))


# -- calibration -------------------------------------------------------------------------------


def test_calibration_undoes_the_penalty(rng):
    X = rng.normal(size=(1500, 10))
    e = 1 / (1 + np.exp(-X[:, :4].sum(axis=1)))
    w = (rng.random(1500) < e).astype(int)
    settings = {"inverse_penalties": (1e-4,)}
    plain = ClusterLogistic(calibrate=False, **settings).fit(X[:1000], w[:1000])
    calibrated = ClusterLogistic(**settings).fit(X[:1000], w[:1000])
    error = [np.mean((f.predict_proba(X[1000:])[:, 1] - e[1000:]) ** 2)
             for f in (plain, calibrated)]  # fmt: skip
    assert error[1] < error[0] / 5
    assert calibrated.calibration_[1] > 3
    assert plain.calibration_ == (0.0, 1.0)
    p = calibrated.predict_proba(X)
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-12)


def test_separated_arms_stay_finite():
    X = np.r_[np.linspace(-3, -1, 30), np.linspace(1, 3, 30)][:, None]
    fitted = ClusterLogistic().fit(X, np.arange(60) >= 30)
    assert np.isfinite(fitted.calibration_).all()
    assert ((fitted.predict_proba(X) > 0) & (fitted.predict_proba(X) < 1)).all()


def test_predictions_that_turn_the_order_around_become_the_base_rate():
    # held out by parity, the sign of the slope is always wrong
    from terracausal.nuisance.learners import fit_calibration

    odds = np.linspace(-1, 1, 100)
    intercept, slope = fit_calibration(odds, (odds < 0).astype(float), np.ones(100))
    assert slope == 0
    assert intercept == pytest.approx(0, abs=1e-8)


# -- missing outcomes --------------------------------------------------------------------------


@pytest.fixture
def gaps(rng):
    n = 1000
    x = rng.normal(size=n)
    w = rng.integers(2, size=n)
    y = x * (1 + w) + w + rng.normal(size=n) / 2
    # units with a large x are lost, the more so if treated
    seen = rng.random(n) < 1 / (1 + np.exp((0.5 + 0.5 * w) * x - 1))
    return pd.DataFrame({"y": np.where(seen, y, np.nan), "w": w, "x": x, "full": y})


def test_missing_outcomes_are_stood_for(gaps):
    roles = {"treatment": "w", "covariates": ["x"]}
    study = weight_for_missing_outcomes(gaps, outcome="y", random_state=0, **roles)
    n_seen = int(gaps["y"].notna().sum())
    assert study.n_units == n_seen
    assert f"{1000 - n_seen} units" in study.describe()
    assert f"the other {n_seen} units stand for them" in study.describe()
    # weighted means of the covariate are those of everybody, in each arm
    for arm in (0, 1):
        own = study.treatment == arm
        everyone = gaps.loc[gaps["w"] == arm, "x"]
        mean = np.average(study.table.loc[own, "x"], weights=study.weight[own])
        # the error of a mean of about 1,000 weighted units of SD 1, five times
        assert mean == pytest.approx(everyone.mean(), abs=5 * 2 / np.sqrt(own.sum()))
    weights = study.weight.to_numpy()
    assert weights.sum() == pytest.approx(1000, rel=0.1)


def test_unit_weights_are_kept(gaps):
    roles = {"treatment": "w", "covariates": ["x"], "random_state": 0}
    plain = weight_for_missing_outcomes(gaps, outcome="y", **roles).weight
    doubled = weight_for_missing_outcomes(gaps.assign(v=2.0), outcome="y", weight="v", **roles)
    np.testing.assert_allclose(doubled.weight, 2 * plain, rtol=1e-8)


def test_bad_tables_of_outcomes(gaps):
    roles = {"treatment": "w", "covariates": ["x"]}
    with pytest.raises(RoleError, match=r"No outcome is missing in 'full'"):
        weight_for_missing_outcomes(gaps, outcome="full", **roles)
    with pytest.raises(RoleError, match=r"'z' is not in the table"):
        weight_for_missing_outcomes(gaps, outcome="z", **roles)
    with pytest.raises(RoleError, match=r"already has the columns 'observation_weight'"):
        weight_for_missing_outcomes(gaps.assign(observation_weight=1), outcome="y", **roles)


def test_units_that_were_hardly_ever_observed(gaps):
    gaps["y"] = gaps["full"].where(gaps["x"] < -1)
    gaps.loc[gaps.index[gaps["x"] > 1][0], "y"] = 3.0
    with pytest.raises(OverlapError, match=r"1 had less than 1 %"):
        weight_for_missing_outcomes(
            gaps, outcome="y", treatment="w", covariates=["x"], random_state=0
        )


def test_default_learners_are_the_named_ones(study):
    learners = cross_fit(study, random_state=0).learners
    assert learners["propensity"] == f"{ClusterLogistic()} on 2 features"
    assert learners["outcome_treated"] == f"{ClusterRidge()} on 2 features"
