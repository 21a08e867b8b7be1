"""Entropy balancing: exact moments, the optimum by brute force, standard errors."""

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize

from terracausal._foundation.errors import OverlapError, RoleError
from terracausal.effects import average_effect, entropy_balancing, entropy_weights
from terracausal.effects.entropy_balancing import tilt
from terracausal.nuisance import Scores
from terracausal.study import Study

N = 120
ROLES = {"outcome": "y", "treatment": "w", "covariates": ["x", "z"]}
TARGETS = ("all", "treated", "control")


@pytest.fixture
def table(rng):
    x, z = rng.normal(size=N), rng.exponential(size=N)
    w = (rng.random(N) < 1 / (1 + np.exp(0.3 - 0.7 * x))).astype(int)
    y = x + z + w * (1 + x) + rng.normal(size=N)
    return pd.DataFrame({"y": y, "w": w, "x": x, "z": z, "v": rng.uniform(0.5, 2, N)})


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("weighted", [True, False])
def test_moments_are_exact(table, target, weighted):
    weight = entropy_weights(Study(table, **ROLES, weight="v" if weighted else None), target)
    v = table["v"] if weighted else pd.Series(1.0, index=table.index)
    mass = v * {"all": 1, "treated": table["w"], "control": 1 - table["w"]}[target]
    for name in ("x", "z"):
        for arm in (0, 1):
            own = table["w"] == arm
            mean = np.average(table.loc[own, name], weights=weight[own])
            assert mean == pytest.approx(np.average(table[name], weights=mass), abs=1e-8)
            assert weight[own].sum() == pytest.approx(1, rel=1e-12)
    if target != "all":
        own = table["w"] == (1 if target == "treated" else 0)
        np.testing.assert_allclose(weight[own], v[own] / v[own].sum(), rtol=1e-12)


@pytest.mark.parametrize("weighted", [True, False])
def test_the_optimum_by_brute_force(rng, weighted):
    x, base = rng.normal(size=(15, 2)), rng.uniform(0.5, 2, 15) if weighted else np.ones(15)
    base /= base.sum()
    centred = x - x.mean(axis=0) - 0.2
    found, left = tilt(centred, base)
    assert np.abs(left).max() < 1e-9
    brute = minimize(
        lambda p: np.sum(p * np.log(p / base)),
        np.full(15, 1 / 15),
        jac=lambda p: np.log(p / base) + 1,
        method="SLSQP",
        bounds=[(1e-9, 1)] * 15,
        constraints=[
            {"type": "eq", "fun": lambda p: p.sum() - 1},
            {"type": "eq", "fun": lambda p: p @ centred},
        ],
        options={"ftol": 1e-14, "maxiter": 500},
    )
    # SLSQP meets its constraints to about 1e-8; weights are of order 1/15
    np.testing.assert_allclose(found, brute.x, atol=1e-5)


@pytest.mark.parametrize("target", TARGETS)
def test_influence_is_the_derivative_by_the_unit_weight(table, target):
    # n v dvalue / dv is what a unit adds, whatever the estimator: an exact check of the formula
    found = entropy_balancing(Study(table, **ROLES, weight="v"), target)
    step = 1e-4
    for unit in table.index[::10]:
        ends = []
        for sign in (1, -1):
            moved = table["v"].where(table.index != unit, table["v"] * (1 + sign * step))
            study = Study(table.assign(v=moved), **ROLES, weight="v")
            ends.append(entropy_balancing(study, target).value[0])
        derivative = N * (ends[0] - ends[1]) / (2 * step)
        # the error of a central difference is of order step squared; balance is exact to 1e-10
        assert found.influence[unit, 0] == pytest.approx(derivative, abs=1e-3)
    assert abs(found.influence.mean()) < 1e-8


def test_linear_outcomes_leave_no_bias(table):
    # without noise the effect on any target is exact, whatever the treatment depends on
    table["y"] = 2 * table["x"] - table["z"] + 1.5 * table["w"]
    for target in TARGETS:
        found = entropy_balancing(Study(table, **ROLES), target)
        assert found.value[0] == pytest.approx(1.5, abs=1e-7)
        assert found.std_error[0] < 1e-6


def test_balanced_arms_need_no_weights(rng):
    x = np.tile(rng.normal(size=30), 2)
    table = pd.DataFrame({"y": rng.normal(size=60), "w": np.repeat([0, 1], 30), "x": x})
    found = entropy_balancing(Study(table, outcome="y", treatment="w", covariates=["x"]))
    plain = table.loc[30:, "y"].mean() - table.loc[:29, "y"].mean()
    assert found.value[0] == pytest.approx(plain, rel=1e-9)
    assert "30 of 30 treated, 30 of 30 control" in found.notes[0]


def test_rows_in_any_order(table, rng):
    one = entropy_balancing(Study(table, **ROLES))
    other = entropy_balancing(Study(table.iloc[rng.permutation(N)], **ROLES))
    np.testing.assert_allclose(one.value, other.value, rtol=1e-12)
    joint = other.influence[other.frame.units.get_indexer(one.frame.units)]
    np.testing.assert_allclose(one.influence, joint, rtol=1e-7, atol=1e-9)


def test_weights_are_those_of_hajek(table):
    # the estimate is the difference of the arms' means under the public weights
    study = Study(table, **ROLES)
    weight = entropy_weights(study)
    scores = Scores.from_dataframe(
        pd.DataFrame(
            {
                "score": 0.0,
                "outcome": table["y"],
                "treatment": table["w"].astype(float),
                "weight": weight,
            }
        )
    )
    plain = average_effect(scores, method="difference_in_means").value
    np.testing.assert_allclose(entropy_balancing(study).value, plain, rtol=1e-10)


def test_no_balance_is_possible(table):
    # all treated units but one lie beyond the controls, whose weights cannot reach their mean
    treated = table.index[table["w"] == 1]
    table.loc[treated[1:], "x"] += 20
    table.loc[treated[0], "x"] = 0.0
    with pytest.raises(OverlapError, match=r"units balance the 2 columns; .* in .*'x'"):
        entropy_balancing(Study(table, **ROLES), "treated")


def test_a_stratum_with_one_arm_cannot_be_balanced(table):
    table["stratum"] = np.where(np.arange(N) < 10, "remote", "near")
    table.loc[table["stratum"] == "remote", "w"] = 1
    with pytest.raises(OverlapError, match=r"control units balance .* 'stratum=remote'"):
        entropy_balancing(Study(table, **ROLES, strata="stratum"))


def test_modifiers_are_not_balanced(table, rng):
    table["site"] = np.arange(N) // 2
    study = Study(table, outcome="y", treatment="w", site="site")
    embeddings = pd.DataFrame(rng.normal(size=(60, 3))).add_prefix("e")
    with pytest.raises(RoleError, match=r"entropy_balancing needs covariates"):
        entropy_balancing(study.join(embeddings, role="modifier"))
    found = entropy_balancing(study.join(embeddings, role="confounder"), n_components=2)
    assert "of 2 columns" in found.method


def test_no_overlap_target(table):
    with pytest.raises(ValueError, match=r"entropy_balancing has no target='overlap'"):
        entropy_balancing(Study(table, **ROLES), "overlap")


def test_an_arm_without_weight(table):
    table["v"] = np.where(table["w"] == 1, 0.0, 1.0)
    with pytest.raises(RoleError, match=r"All \d+ treated units have a weight of zero"):
        entropy_balancing(Study(table, **ROLES, weight="v"))
