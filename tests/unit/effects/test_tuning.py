"""Choosing among effect learners by R-loss: the loss, the budget, the table."""

import time

import numpy as np
import pandas as pd
import pytest
from sklearn.tree import DecisionTreeRegressor

from terracausal._foundation.errors import RoleError
from terracausal.effects import RLearner, SLearner, TLearner, TunedEffectLearner, compare_learners
from terracausal.nuisance import cross_fit
from terracausal.study import Study


class Slow(TLearner):
    """Takes its time."""

    def fit(self, study):
        time.sleep(0.05)
        return super().fit(study)


class Broken(TLearner):
    """Cannot be fitted."""

    def fit(self, study):
        raise ZeroDivisionError("no")


@pytest.fixture
def table(rng):
    n = 240
    site, x = np.arange(n) // 3, rng.normal(size=n)
    w = rng.permutation(np.arange(n) % 2)
    y = w * (1 + 2 * x) + rng.normal(size=n)
    z, v = rng.normal(size=n), rng.uniform(0.5, 2, n)
    return pd.DataFrame({"y": y, "w": w, "site": site, "x": x, "z": z, "v": v})


def study_of(table, **roles):
    chosen = {"site": "site", "covariates": ["x", "z"], "propensity": 0.5} | roles
    return Study(table, outcome="y", treatment="w", **chosen)


CANDIDATES = {"T": TLearner("ridge"), "S": SLearner("ridge")}


def test_losses_by_hand(table):
    study = study_of(table, weight="v")
    found = compare_learners(study, {"T": TLearner("ridge")}, n_folds=3, random_state=0)
    rng = np.random.default_rng(0)
    folds = study.folds(3, random_state=rng)
    nuisances = cross_fit(study, folds, random_state=rng).table
    y = table["y"] - nuisances[["outcome_control", "outcome_treated"]].mean(axis=1)
    w = table["w"] - 0.5
    effects = TLearner("ridge").cross_predict(study, folds)
    losses = (y - effects * w) ** 2
    np.testing.assert_allclose(found.losses["T"], losses, rtol=1e-8)
    assert found.loss["T"] == pytest.approx(np.average(losses, weights=table["v"]))
    constant = np.empty(240)
    for train, test in folds.split():
        v = table["v"][train]
        constant[test] = (v * y[train] * w[train]).sum() / (v * w[train] ** 2).sum()
    np.testing.assert_allclose(found.losses["constant effect"], (y - constant * w) ** 2)


def test_differences_are_paired_and_clustered(table):
    study = study_of(table)
    found = compare_learners(study, CANDIDATES, n_folds=3, random_state=0)
    told = found.to_dataframe().set_index("learner")
    assert told.loc[found.best, ["above_best", "std_error"]].tolist() == [0, 0]
    assert told["r_loss"].is_monotonic_increasing
    above = found.losses["constant effect"] - found.losses[found.best]
    by_site = (above - above.mean()).groupby(table["site"]).sum()
    by_hand = np.sqrt((by_site**2).sum() * 80 / 79) / 240
    assert told.loc["constant effect", "std_error"] == pytest.approx(by_hand)
    assert told.loc["constant effect", "status"] == "reference"
    gain = found.gain.to_dataframe().set_index("term")
    below = told.loc["constant effect", "above_best"]
    assert gain.loc[found.best, "estimate"] == pytest.approx(below)
    assert gain.loc[found.best, "std_error"] == pytest.approx(by_hand)


def test_order_of_rows_and_of_candidates(table, rng):
    candidates = {"R": RLearner("boosting", n_folds=2), "T": TLearner("ridge")}
    shuffled = table.iloc[rng.permutation(240)]
    one, other = (
        compare_learners(study_of(t), candidates, n_folds=2, random_state=0)
        for t in (table, shuffled)
    )
    pd.testing.assert_frame_equal(one.losses, other.losses, rtol=1e-7)


def test_a_better_learner_is_chosen_and_fitted_on_all(table):
    study = study_of(table)
    # sees a column of noise only
    site = pd.DataFrame({"noise": np.random.default_rng(1).normal(size=80)})
    joined = study.join(site, "modifier")
    candidates = {
        "blind": TLearner("ridge", use="embeddings"),
        "sees": TLearner("ridge", use="covariates"),
    }
    tuned = TunedEffectLearner(candidates, n_folds=3, random_state=0).fit(joined)
    assert tuned.best_ == "sees"
    expected = TLearner("ridge", use="covariates").fit(joined).predict(joined)
    pd.testing.assert_series_equal(tuned.predict(joined), expected, rtol=1e-12)
    told = tuned.comparison_.summary()
    assert "R-losses of 2 effect learners" in told
    assert "clustered (80 clusters)" in told
    assert tuned.comparison_.plot().get_xlabel() == "R-loss below that of a constant effect"
    assert "R-losses" in tuned.comparison_._repr_html_()


def test_no_learner_beats_a_constant_effect(table, rng):
    flat = table.assign(y=table["w"] + rng.normal(size=240))
    wild = TLearner(DecisionTreeRegressor(), random_state=0)
    found = compare_learners(study_of(flat), {"wild": wild}, n_folds=2, random_state=0)
    assert "no learner predicts better than a constant effect" in found.summary()


def test_the_budget_tries_the_first_and_names_the_others(table):
    study = study_of(table)
    candidates = {"first": Slow("ridge"), "second": Slow("ridge"), "third": Slow("ridge")}
    found = compare_learners(study, candidates, n_folds=2, budget_s=1e-3, random_state=0)
    assert found.not_tried == ("second", "third")
    assert found.to_dataframe()["status"].tolist().count("not tried") == 2
    assert "not tried        second, third: the 0.001 s were spent" in found.summary()
    assert found.seconds["first"] >= 0.1
    everything = compare_learners(study, candidates, n_folds=2, budget_s=600, random_state=0)
    assert everything.not_tried == ()
    np.testing.assert_array_equal(everything.losses["first"], found.losses["first"])


def test_default_candidates_have_names_and_a_seed(table):
    tuned = TunedEffectLearner(budget_s=1e-3, n_folds=2, random_state=0)
    one, other = (tuned.fit(study_of(table)).predict(table) for _ in range(2))
    assert tuned.best_ == "R, ridge"
    np.testing.assert_array_equal(one, other)


def test_candidates_that_cannot_be_used(table):
    study = study_of(table)
    for bad, message in (
        ({}, r"by name.* got none"),
        ([TLearner()], r"by name.* got list"),
        ({"a": 3}, r"candidate 'a' must be an effect learner.* got int"),
        ({"a": TLearner}, r"got the class TLearner"),
    ):
        with pytest.raises(TypeError, match=message):
            compare_learners(study, bad)
    with pytest.raises(RoleError, match=r"'constant effect' is taken"):
        compare_learners(study, {"constant effect": TLearner()})
    with pytest.raises(ValueError, match=r"`budget_s` must be .* got -1"):
        compare_learners(study, CANDIDATES, budget_s=-1)
    with pytest.raises(ZeroDivisionError) as caught:
        compare_learners(study, {"good": TLearner("ridge"), "bad": Broken()}, n_folds=2)
    assert any("candidate 'bad'" in note for note in caught.value.__notes__)
