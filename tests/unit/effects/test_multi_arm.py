"""Several arms: two of them are the usual effect, and each mean is that of its indicator."""

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression, LogisticRegression

from terracausal._foundation.errors import OverlapWarning, RoleError
from terracausal.effects import average_effect
from terracausal.effects.multi_arm import multi_arm_effects
from terracausal.nuisance import cross_fit, doubly_robust_scores
from terracausal.study import Study

N = 900
LEARNERS = {"outcome_learner": LinearRegression(), "propensity_learner": LogisticRegression()}


@pytest.fixture
def table(rng):
    x = rng.normal(size=N)
    chance = np.exp(np.column_stack([0 * x, 0.7 * x, -0.7 * x]))
    arm = (rng.random(N)[:, None] > np.cumsum(chance / chance.sum(1, keepdims=True), 1)).sum(1)
    y = x + np.array([0.0, 1.0, -2.0])[arm] * (1 + 0.5 * x) + rng.normal(size=N)
    return pd.DataFrame({"y": y, "arm": np.array(["none", "cash", "food"])[arm], "x": x})


def test_effects_of_three_arms(table):
    found = multi_arm_effects(
        table, treatment="arm", reference="none", outcome="y", covariates=["x"],
        learners=LEARNERS, random_state=0,
    )  # fmt: skip
    assert found.terms == ("cash − none", "food − none")
    # truths 1 and -2; five standard errors
    assert np.all(np.abs(found.value - [1, -2]) < 5 * found.std_error)
    raw = table.groupby("arm")["y"].mean()
    assert abs(raw["cash"] - raw["none"] - 1) > 5 * found.std_error[0]
    # the arms share a reference, so their effects are correlated
    assert found.covariance[0, 1] > 0
    assert found.notes[0] == f"{(table['arm'] == 'none').sum()} units in arm 'none'"


def test_the_warning_names_the_arm(table):
    # and offers nothing that several arms do not have, such as trim
    chance = 1 / (1 + np.exp(-2 * table["x"] + 3))
    rare = np.where(np.random.default_rng(0).random(N) < chance, "food", "none")
    table = table.assign(arm=np.where(table["arm"] == "cash", "cash", rare))
    with pytest.warns(OverlapWarning, match=r"of an arm of 'arm': 'food' \(\d+\.\d%, least 0\.0"):
        multi_arm_effects(
            table, treatment="arm", reference="none", outcome="y", covariates=["x"],
            learners=LEARNERS, random_state=0,
        )  # fmt: skip


def test_two_arms_are_the_usual_effect(table):
    table = table[table["arm"] != "food"].assign(w=lambda t: (t["arm"] == "cash").astype(int))
    # learners without any noise from the folds: what they predict is the same on all of them
    found = multi_arm_effects(
        table, treatment="arm", reference="none", outcome="y", covariates=["x"],
        learners=LEARNERS, random_state=0,
    )  # fmt: skip
    study = Study(table, outcome="y", treatment="w", covariates=["x"])
    scores = doubly_robust_scores(study, cross_fit(study, random_state=0, **LEARNERS))
    plain = average_effect(scores)
    # they differ by their folds only, which move the estimate far less than sampling does
    assert found.value[0] == pytest.approx(plain.value[0], abs=plain.std_error[0] / 3)
    assert found.std_error[0] == pytest.approx(plain.std_error[0], rel=0.05)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"reference": "loan"}, r"got 'loan', and the arms are 'cash', 'food', 'none'"),
        ({"treatment": "bank"}, r"'bank' is not in the table"),
        ({"propensity": 0.3}, r"takes `propensities`, one for each arm"),
    ],
)
def test_refusals(table, change, message):
    given = {"treatment": "arm", "reference": "none", "outcome": "y", "covariates": ["x"]}
    with pytest.raises(RoleError, match=message):
        multi_arm_effects(table, **(given | change))


def test_missing_arms(table):
    table.loc[3, "arm"] = None
    with pytest.raises(RoleError, match=r"1 are missing: 3"):
        multi_arm_effects(table, treatment="arm", reference="none", outcome="y")
