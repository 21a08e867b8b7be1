"""Conditional effects of several arms: each is the binary learner on its two arms."""

import numpy as np
import pandas as pd
import pytest

from terracausal._foundation.errors import OverlapError, RoleError
from terracausal.effects import RLearner, TLearner, cross_predict_arms, origin_of
from terracausal.evaluation import rank_weighted_effect
from terracausal.nuisance import cross_fit, doubly_robust_scores
from terracausal.study import Study

ROLES = {"treatment": "arm", "reference": "none", "outcome": "y", "covariates": ["x", "kind"]}
CHANCE = {"none": 0.5, "cash": 0.3, "food": 0.2}


@pytest.fixture
def table(rng):
    n = 300
    x, site = rng.normal(size=n), np.arange(n) // 3
    arm = rng.choice(list(CHANCE), size=n, p=list(CHANCE.values()))
    y = x + (arm == "cash") * (1 + x) - (arm == "food") * x + 0.5 * rng.normal(size=n)
    kind = rng.choice(["a", "b", "c"], size=n)
    return pd.DataFrame({"y": y, "arm": arm, "x": x, "site": site, "kind": kind})


def test_each_arm_has_its_own_effect(table):
    found = cross_predict_arms(
        table, TLearner(random_state=0), site="site", propensities=CHANCE, **ROLES
    )
    assert found.columns.tolist() == ["cash − none", "food − none"]
    assert found.index.equals(table.index)
    # chance would give a correlation beyond 0.26 = 4.42 / sqrt(300) once in 100,000
    assert np.corrcoef(found["cash − none"], table["x"])[0, 1] > 0.5
    assert np.corrcoef(found["food − none"], table["x"])[0, 1] < -0.5


def test_it_is_the_binary_learner_on_the_two_arms(table):
    learner = RLearner(n_folds=2, random_state=0)
    found = cross_predict_arms(table, learner, site="site", n_folds=3, propensities=CHANCE, **ROLES)
    folds = origin_of(found["cash − none"]).folds
    assert folds.groupby(table["site"]).nunique().eq(1).all()
    pair = table["arm"] != "food"
    binary = table.assign(w=(table["arm"] == "cash").astype(int))
    study = Study(binary[pair], outcome="y", treatment="w", site="site", covariates=["x", "kind"],
                  propensity=0.3 / 0.8)  # fmt: skip
    for fold in range(3):
        fitted = RLearner(n_folds=2, random_state=0).fit(study.subset(folds[pair] != fold))
        held = folds == fold
        expected = fitted.predict(table[held])
        np.testing.assert_allclose(found.loc[held, "cash − none"], expected, rtol=1e-8)


def test_a_units_own_outcome_never_reaches_its_effects(table):
    learner = TLearner("ridge", random_state=0)
    before = cross_predict_arms(table, learner, site="site", **ROLES)
    held = origin_of(before["cash − none"]).folds == 2
    changed = table.assign(y=table["y"].where(~held, 100 - 20 * table["y"]))
    after = cross_predict_arms(changed, learner, site="site", **ROLES)
    pd.testing.assert_frame_equal(before[held], after[held], check_exact=True)
    assert (before[~held] != after[~held]).all(axis=None)


def test_rows_in_any_order_and_columns_of_probabilities(table, rng):
    learner = TLearner("ridge", random_state=0)
    table = table.assign(p=0.5, q=0.3)
    columns = {"none": "p", "cash": "q", "food": 0.2}
    one = cross_predict_arms(table, learner, propensities=CHANCE, **ROLES)
    other = cross_predict_arms(
        table.iloc[rng.permutation(300)], learner, propensities=columns, **ROLES
    )
    pd.testing.assert_frame_equal(one, other.loc[one.index], rtol=1e-8)


def test_an_arm_is_evaluated_on_the_units_of_its_pair(table):
    effects = cross_predict_arms(
        table, TLearner("ridge", random_state=0), site="site", propensities=CHANCE, **ROLES
    )
    pair = table[table["arm"] != "food"].assign(w=lambda t: (t["arm"] == "cash").astype(int))
    study = Study(pair, outcome="y", treatment="w", site="site", covariates=["x"], propensity=0.375)
    scores = doubly_robust_scores(study, cross_fit(study, random_state=0))
    rate = rank_weighted_effect(scores, effects["cash − none"], random_state=0)
    assert rate.ranked_within == "each of 5 folds"
    assert rate.ratio[0] > 4


def test_levels_that_only_another_arm_has(table):
    table.loc[table.index[table["arm"] == "food"][:4], "kind"] = "d"
    found = cross_predict_arms(table, TLearner("ridge", random_state=0), **ROLES)
    assert np.isfinite(found).all(axis=None)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (
            {"propensities": {"none": 0.5, "cash": 0.5}},
            RoleError,
            r"each of 3 arms; 'food' missing",
        ),
        ({"propensities": CHANCE | {"cash": "oops"}}, RoleError, r"'oops' is not in the table"),
        ({"propensities": CHANCE | {"cash": 0.9}}, OverlapError, r"those of 300 of 300 units"),
        ({"propensities": CHANCE | {"cash": 0.0}}, OverlapError, r"those of 300 of 300 units"),
        ({"propensity": 0.5}, RoleError, r"takes `propensities`, one for each arm"),
        ({"reference": "nothing"}, RoleError, r"got 'nothing'"),
    ],
)
def test_bad_arms(table, change, error, message):
    with pytest.raises(error, match=message):
        cross_predict_arms(table, TLearner(), **(ROLES | change))


def test_an_arm_that_a_fold_holds_out_alone(table):
    # all of "food" lives at one site
    table["site"] = np.where(table["arm"] == "food", 1000, table["site"])
    with pytest.raises(RoleError, match=r"there are 0 treated and \d+ control") as caught:
        cross_predict_arms(table, TLearner(random_state=0), site="site", **ROLES)
    assert any("arm 'food' against 'none'" in note for note in caught.value.__notes__)
