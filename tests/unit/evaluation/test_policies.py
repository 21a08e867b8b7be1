"""Values of rules: brute force, budgets with ties, trees on other folds, refusals."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from terracausal._foundation.errors import AlignmentError, LeakageError, RoleError
from terracausal.effects import EffectOrigin
from terracausal.effects.origin import with_origin
from terracausal.evaluation.policies import policy_value, treat_within_budget
from terracausal.evaluation.policy_tree import learn_policy
from terracausal.nuisance import Scores

N_UNITS = 300


@pytest.fixture
def table(rng):
    x = rng.normal(size=N_UNITS)
    score = x + rng.normal(size=N_UNITS)
    return pd.DataFrame({"score": score, "x": x, "cluster": np.arange(N_UNITS) % 50})


@pytest.fixture
def scores(table):
    return Scores.from_dataframe(table)


def test_values_are_means(table, scores):
    treated = table["x"] > 0.5
    found = policy_value(scores, treated.sample(frac=1, random_state=0), cost=0.2)
    net = table["score"] - 0.2
    share = treated.mean()
    rule, everyone = (net * treated).mean(), net.mean()
    expected = [rule, everyone, rule - everyone, rule - share * everyone]
    np.testing.assert_allclose(found.value, expected)
    assert found.terms == ("rule", "treat all", "rule less treat all", "rule less random")


def test_errors_are_those_of_clustered_means(table, scores):
    treated = (table["x"] > 0.5).to_numpy()
    found = policy_value(scores, treated)
    y = table["score"].to_numpy()
    for j, values in enumerate((y * treated, y, y * treated - y)):
        sums = np.bincount(table["cluster"], weights=values - values.mean())
        expected = np.sqrt(sums @ sums * 50 / 49) / N_UNITS
        assert found.std_error[j] == pytest.approx(expected)
    # the gain over a random rule is a covariance, whose influence is the product of deviations
    moved = (treated - treated.mean()) * (y - y.mean())
    sums = np.bincount(table["cluster"], weights=moved - moved.mean())
    assert found.std_error[3] == pytest.approx(np.sqrt(sums @ sums * 50 / 49) / N_UNITS)


def test_trivial_rules(scores):
    everyone = policy_value(scores, np.ones(N_UNITS))
    nobody = policy_value(scores, np.zeros(N_UNITS))
    np.testing.assert_allclose(everyone.value, [everyone.value[1]] * 2 + [0, 0], atol=1e-12)
    np.testing.assert_allclose(everyone.std_error[2:], 0, atol=1e-12)
    assert nobody.value[0] == nobody.std_error[0] == 0
    coin = policy_value(scores, np.full(N_UNITS, 0.3))
    assert coin.value[0] == pytest.approx(0.3 * coin.value[1])
    assert coin.std_error[3] == pytest.approx(0, abs=1e-12)


def test_two_rules_are_compared_on_the_same_units(table, scores):
    good, bad = (policy_value(scores, table["x"] > cut) for cut in (0.0, -1.0))
    gap = good - bad
    between = table["x"].between(-1, 0, inclusive="right").to_numpy()
    assert gap.value[0] == pytest.approx(-(table["score"] * between).mean())
    assert gap.std_error[0] < np.hypot(good.std_error[0], bad.std_error[0])


def test_rules_made_across_folds_are_widened_where_the_rule_matters(table, scores):
    rule = (table["x"] > 0).astype(float)
    origin = EffectOrigin("learner", folds=pd.Series(np.arange(N_UNITS) % 5))
    plain = policy_value(scores, rule)
    found = policy_value(scores, with_origin(rule.copy(), origin))
    np.testing.assert_allclose(found.value, plain.value)
    wider = found.std_error / plain.std_error
    assert wider[1] == pytest.approx(1)
    assert wider[3] == pytest.approx(np.sqrt(2))
    assert 1 < wider[0] < np.sqrt(2)
    assert any("widened" in note for note in found.notes)


@pytest.mark.parametrize("budget", [0, 0.25, 0.5, 1])
def test_budgets_are_spent_exactly_and_ties_share(table, budget, rng):
    priority = table["x"].round()
    weighted = Scores.from_dataframe(table.assign(weight=rng.uniform(0.5, 2, N_UNITS)))
    policy = treat_within_budget(weighted, priority, budget)
    assert np.average(policy, weights=weighted.weight) == pytest.approx(budget)
    assert policy.groupby(priority).nunique().max() == 1
    assert policy.groupby(priority).first().is_monotonic_increasing
    mixed = treat_within_budget(weighted, priority.sample(frac=1, random_state=0), budget)
    pd.testing.assert_series_equal(policy, mixed)


def test_budgets_are_spent_inside_folds(table, scores):
    fold = table["cluster"] % 5
    learned = with_origin(table["x"] + 10 * fold, EffectOrigin("learner", folds=fold))
    policy = treat_within_budget(scores, learned, 0.2)
    np.testing.assert_allclose(policy.groupby(fold).mean(), 0.2)
    together = treat_within_budget(scores, learned, 0.2, rank_within="all")
    np.testing.assert_allclose(together.groupby(fold).mean(), [0, 0, 0, 0, 1])
    # the rule remembers where its priority comes from
    assert any("widened" in note for note in policy_value(scores, policy).notes)


def test_a_tree_finds_the_rule_and_is_valued_on_other_folds(table, scores, rng):
    columns = table[["x"]].assign(noise=rng.normal(size=N_UNITS))
    learned = learn_policy(scores, columns, depth=1, random_state=0)
    # the first question is about x, near the true cut at 0
    treat = [line for line in learned.rules() if line.startswith("treat if")]
    assert len(treat) == 1
    assert treat[0].startswith("treat if x > ")
    # treating where x > 0 is worth E max(x, 0) = 0.4; the SD of its mean over 300 units is 0.06
    assert learned.value[0] == pytest.approx(stats.norm.pdf(0), abs=4 * 0.06)
    assert learned.value[2] > 0 < learned.value[3]
    per_cluster = learned.policy.attrs["terracausal_origin"].folds.groupby(table["cluster"])
    assert per_cluster.nunique().max() == 1
    again = learn_policy(scores, columns.sample(frac=1, random_state=1), depth=1, random_state=0)
    pd.testing.assert_series_equal(learned.policy, again.policy)
    assert "treat if x >" in learned.summary()
    assert learned.plot().get_xlabel().startswith("Effect")


def test_rules_and_predictions_of_the_tree_agree(table, scores):
    learned = learn_policy(scores, table[["x"]], depth=2, random_state=0)
    elsewhere = pd.DataFrame({"x": np.linspace(-2, 2, 9)}, index=list("abcdefghi"))
    said = learned.predict(elsewhere)
    for line in learned.rules():
        verdict, conditions = line.split(" if ")
        inside = elsewhere.query(conditions.replace("≤", "<=")).index
        assert (said[inside] == (verdict == "treat")).all()
    with pytest.raises(LeakageError, match="fitted on 300 of the 300 units"):
        policy_value(scores, learned.predict(table))
    with pytest.raises(RoleError, match="lacks \\['x'\\]"):
        learned.predict(elsewhere.rename(columns={"x": "z"}))


def test_questions_that_change_nothing_are_not_told(table, scores):
    everybody = learn_policy(scores, table[["x"]], depth=2, cost=-99.0, random_state=0)
    assert everybody.rules() == ["treat everybody"]
    nobody = learn_policy(scores, table[["x"]], depth=2, cost=99.0, random_state=0)
    assert nobody.rules() == ["do not treat anybody"]
    # what cannot be tested has no p-value: treating all less treating all
    assert "nan" not in everybody.summary()
    deep = learn_policy(scores, table[["x"]], depth=4, min_leaf_units=5, random_state=0)
    for line in deep.rules():
        assert line.count("≤") <= 1 >= line.count(">")


# -- refusals ----------------------------------------------------------------------------------


@pytest.mark.parametrize("budget", [-0.1, 1.1, np.nan])
def test_bad_budgets(scores, table, budget):
    with pytest.raises(ValueError, match=r"`budget` must be a share from 0 to 1; got"):
        treat_within_budget(scores, table["x"], budget)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda x: x, ValueError, "chances from 0 to 1; .* treat_within_budget"),
        (lambda x: (x > 0).set_axis(x.index + 7), AlignmentError, "7 are missing"),
        (lambda x: x.clip(0, 1).where(x.index > 3), ValueError, "4 of 300 values are NaN"),
    ],
    ids=["priority", "other index", "nan"],
)
def test_bad_policies(scores, table, change, error, message):
    with pytest.raises(error, match=message):
        policy_value(scores, change(table["x"]))


def test_bad_scores_and_options(table, scores):
    with pytest.raises(RoleError, match="at least 2 clusters for an error; the scores have 1"):
        policy_value(Scores.from_dataframe(table.assign(cluster=0)), table["x"] > 0)
    with pytest.raises(RoleError, match="outcome must vary"):
        policy_value(Scores.from_dataframe(table.assign(outcome=1.0)), table["x"] > 0)
    with pytest.raises(RoleError, match=r"5 folds need .* the scores have 3"):
        learn_policy(Scores.from_dataframe(table, cluster=table["cluster"] % 3), table[["x"]])
    with pytest.raises(ValueError, match="`cost` must be a finite number; got nan"):
        policy_value(scores, table["x"] > 0, cost=np.nan)
    with pytest.raises(ValueError, match="`depth`"):
        learn_policy(scores, table[["x"]], depth=0)
