"""Bad priorities, fractions and options are refused with what was found."""

import numpy as np
import pandas as pd
import pytest

from terracausal._foundation.errors import AlignmentError, RoleError
from terracausal.effects.origin import EffectOrigin, with_origin
from terracausal.evaluation import (
    best_linear_projection,
    calibration_test,
    compare_policies,
    compare_priorities,
    grouped_effects,
    learn_policy,
    policy_value,
    rank_weighted_effect,
    targeting_curve,
    treat_within_budget,
)
from terracausal.nuisance import Scores


@pytest.fixture
def scores(rng):
    return Scores.from_dataframe(pd.DataFrame({"score": rng.normal(size=60)}))


@pytest.mark.parametrize(
    ("priority", "error", "message"),
    [
        (np.arange(59.0), AlignmentError, r"shape \(60,\); got \(59,\)"),
        (np.ones((60, 2)), AlignmentError, r"got \(60, 2\)"),
        (np.r_[np.nan, np.arange(59.0)], ValueError, "1 of 60 values are NaN"),
        (pd.Series(np.arange(60.0), index=range(5, 65)), AlignmentError, "5 are missing"),
        (pd.Series(np.arange(60.0)).mask(lambda s: s > 57), ValueError, "2 of 60 values"),
        (pd.DataFrame(np.ones((60, 2))), ValueError, "a table of 2 columns"),
        (
            pd.Series(["low", "high"] * 30),
            ValueError,
            r"must hold numbers; got 'low', 'high' \(str",
        ),
        (np.array(["low", "high"] * 30), ValueError, "must hold numbers; got 'low', 'high'"),
        (None, AlignmentError, r"shape \(60,\); got NoneType"),
        (pd.Series(np.arange(60.0)).add_prefix("u"), AlignmentError, r"60 keys are such as 'u0'"),
        (pd.Series(np.arange(61.0), index=[0, *range(60)]), ValueError, "once|unique|doubled"),
    ],
    ids=[
        *("short", "table", "nan", "misaligned", "nan series", "frame", "words", "array of words"),
        *("nothing", "other keys", "doubled key"),
    ],
)
def test_bad_priorities(scores, priority, error, message):
    with pytest.raises(error, match=message):
        rank_weighted_effect(scores, priority)


@pytest.mark.parametrize("fractions", [[0.0], [1.1], [-0.2, 0.5], [], [np.nan]])
def test_bad_fractions(scores, fractions):
    with pytest.raises(ValueError, match=r"`fractions` must lie in \(0, 1\]"):
        rank_weighted_effect(scores, scores.score, fractions=fractions)


@pytest.mark.parametrize(
    ("name", "value"), [("target", "AUC"), ("rank_within", "sites"), ("n_bootstrap", 1)]
)
def test_bad_options(scores, name, value):
    with pytest.raises(ValueError, match=rf"`{name}` must be .* got {value!r}"):
        rank_weighted_effect(scores, scores.score, **{name: value})


def test_one_cluster(scores):
    with pytest.raises(RoleError, match=r"at least 2 clusters; the scores have 1"):
        rank_weighted_effect(
            Scores.from_dataframe(scores.table, cluster=np.zeros(60)), scores.score
        )


# -- every function refuses the same things ----------------------------------------------------

FUNCTIONS = {
    "rank_weighted_effect": rank_weighted_effect,
    "compare_priorities": lambda scores, x: compare_priorities(scores, x, x),
    "targeting_curve": targeting_curve,
    "calibration_test": calibration_test,
    "best_linear_projection": best_linear_projection,
    "grouped_effects": grouped_effects,
    "policy_value": policy_value,
    "compare_policies": lambda scores, x: compare_policies(scores, {"rule": x}),
    "learn_policy": learn_policy,
}


@pytest.fixture
def units(rng):
    """Units with all columns of scores, and a chance per unit that all functions take."""
    table = pd.DataFrame({"outcome": rng.normal(size=60), "propensity": 0.5})
    table["treatment"] = np.arange(60) % 2
    table["outcome_control"] = table["outcome_treated"] = 0.0
    table["score"] = table["outcome"] * (4 * table["treatment"] - 2)
    table["cluster"] = np.arange(60) // 4
    return table, pd.Series(rng.uniform(size=60), name="x")


@pytest.mark.parametrize("name", FUNCTIONS)
def test_what_all_functions_refuse(units, name):
    table, x = units
    call, scores = FUNCTIONS[name], Scores.from_dataframe(table)
    with pytest.raises(ValueError, match=r"4 of 60 values are NaN|1 of 1 columns do: 'x'"):
        call(scores, x.where(x.index > 3))
    with pytest.raises(AlignmentError, match="7 are missing"):
        call(scores, x.set_axis(x.index + 7))
    with pytest.raises(RoleError, match=r"clusters.*; the scores have 1"):
        call(Scores.from_dataframe(table.assign(cluster=0)), x)
    with pytest.raises(RoleError, match="it is 3 for all 60 units"):
        call(Scores.from_dataframe(table.assign(outcome=3.0)), x)
    with pytest.raises(TypeError, match=r"Expected Scores.*; got a DataFrame"):
        call(table, x)


def test_a_priority_without_a_record_is_taken_on_trust(units):
    table, x = units
    scores = Scores.from_dataframe(table)
    made = with_origin(x, EffectOrigin("learner", folds=pd.Series(np.arange(60) % 3, x.index)))
    for call in (rank_weighted_effect, policy_value, lambda *both: grouped_effects(*both, 2)):
        assert "taken on trust" not in call(scores, made).summary()
        # as a column of a table, pandas forgets where it comes from
        assert "taken on trust" in call(scores, pd.DataFrame({"c": made})["c"]).summary()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("calibration_test", r"all 60 are 0\.25"),
        ("best_linear_projection", r"1 of 2 terms are constant .*'x'"),
        ("grouped_effects", "It is constant, so there is nothing to sort by"),
    ],
)
def test_constant_priorities_are_refused_where_they_say_nothing(units, name, message):
    table, x = units
    with pytest.raises(RoleError, match=message):
        FUNCTIONS[name](Scores.from_dataframe(table), 0 * x + 0.25)


@pytest.mark.parametrize("budget", [-0.1, 1.1, np.nan, "a third", None, True])
def test_budgets_that_are_no_share(scores, budget):
    with pytest.raises(ValueError, match=f"`budget` must be a share from 0 to 1; got {budget!r}"):
        treat_within_budget(scores, scores.score, budget)
