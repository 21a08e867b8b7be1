"""Rules in one table, and sites within a budget."""

import numpy as np
import pandas as pd
import pytest

import terracausal as tc
from terracausal._foundation.errors import AlignmentError, LeakageError, RoleError
from terracausal.effects import EffectOrigin
from terracausal.effects.origin import with_origin
from terracausal.evaluation.policies import policy_value
from terracausal.evaluation.policy_comparison import compare_policies
from terracausal.evaluation.targeted_sites import target_sites
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


@pytest.fixture
def rules(table, rng):
    image = (table["x"] > 0.5).astype(float)
    return {"image": image, "tabular": pd.Series(rng.permutation(image), index=table.index)}


def test_one_table_of_rules(scores, rules):
    found = compare_policies(scores, rules, cost=0.1)
    table = found.to_dataframe().set_index("term")
    assert table.index.tolist() == ["treat none", "treat all", "image", "tabular"]
    alone = {name: policy_value(scores, rule, cost=0.1) for name, rule in rules.items()}
    for name, one in alone.items():
        row = table.loc[name]
        assert [row["estimate"], row["over_all"], row["over_random"]] == pytest.approx(
            one.value[[0, 2, 3]]
        )
        assert [row["std_error"], row["over_random_std_error"]] == pytest.approx(
            one.std_error[[0, 3]]
        )
        assert row["over_random_p_value"] == pytest.approx(one.p_value[3])
        assert row["share_treated"] == pytest.approx(rules[name].mean())
    gap = alone["image"] - alone["tabular"]
    assert table.loc["image", "over_reference"] == pytest.approx(gap.value[0])
    assert table.loc["image", "over_reference_std_error"] == pytest.approx(gap.std_error[0])
    assert np.isnan(table.loc["tabular", "over_reference"])
    assert table.loc["treat none", "over_all"] == pytest.approx(-table.loc["treat all", "estimate"])
    assert table.loc["treat none", "estimate"] == table.loc["treat none", "std_error"] == 0
    assert found.value.tolist() == table.loc[["image", "tabular"], "estimate"].tolist()
    assert found.std_error.tolist() == table.loc[["image", "tabular"], "std_error"].tolist()
    assert "over tabular" in found.summary()
    assert "<table" in found._repr_html_()
    assert found.plot().get_xlabel() == "Gain per unit (units of the outcome)"


def test_rules_made_across_folds_keep_their_note(table, scores, rules):
    origin = EffectOrigin("learner", folds=pd.Series(np.arange(N_UNITS) % 5))
    learned = {**rules, "image": with_origin(rules["image"].copy(), origin)}
    assert "gain over random widened by 1.41" in compare_policies(scores, learned).summary()


def test_bad_rules(scores, rules, table):
    with pytest.raises(ValueError, match="at least one rule; got none"):
        compare_policies(scores, {})
    with pytest.raises(ValueError, match="one of the rules 'image', 'tabular'; got 'tree'"):
        compare_policies(scores, rules, reference="tree")
    with pytest.raises(ValueError, match="chances from 0 to 1") as caught:
        compare_policies(scores, {"wild": table["x"]})
    assert caught.value.__notes__ == ["while valuing the rule 'wild'"]
    seen = with_origin(rules["image"].copy(), EffectOrigin("x", trained_on=table.index))
    with pytest.raises(LeakageError, match="300 of the 300"):
        compare_policies(scores, {"image": seen})


# -- sites -------------------------------------------------------------------------------------


@pytest.fixture
def study(rng):
    site = np.repeat([f"s{k:02d}" for k in range(30)], rng.integers(1, 6, 30))
    n_units = len(site)
    table = pd.DataFrame({"site": site, "w": rng.permutation(np.arange(n_units) % 2)})
    table["y"], table["v"] = rng.normal(size=n_units), rng.uniform(0.5, 2, n_units)
    place = pd.DataFrame({"lon": rng.uniform(30, 34, 30), "lat": rng.uniform(0, 3, 30)})
    table[["lon", "lat"]] = place.loc[pd.factorize(site)[0]].to_numpy()
    roles = {"weight": "v", "coords": ("lon", "lat")}
    return tc.Study(table, outcome="y", treatment="w", site="site", **roles)


@pytest.mark.parametrize("budget", [0, 0.3, 1])
def test_the_best_sites_use_the_budget(study, rng, budget):
    priority = pd.Series(rng.normal(size=study.n_units), index=study.units)
    found = target_sites(study, priority.sample(frac=1, random_state=0), budget)
    weight = study.weight / study.weight.sum()
    assert (found.policy * weight).sum() == pytest.approx(budget)
    assert found.table["treated"] @ found.table["weight"] == pytest.approx(budget)
    # no site is treated before one with a higher mean priority
    mean = (priority * weight).groupby(study.sites).sum() / weight.groupby(study.sites).sum()
    pd.testing.assert_series_equal(
        found.table["priority"], mean.sort_values(ascending=False), check_names=False
    )
    assert found.table["treated"].is_monotonic_decreasing
    assert found.table["treated"].between(0, 1, inclusive="neither").sum() <= 1
    by_site = found.policy.groupby(study.sites)
    assert (by_site.max() == by_site.min()).all()
    assert found.to_dataframe().columns[0] == "site"
    assert f"{budget:.1%}" in found.summary()
    labels = [text.get_text() for text in found.plot().get_legend().get_texts()]
    assert sum(int(text.split("(")[1].strip(")")) for text in labels) == 30


def test_units_one_by_one(study, rng):
    priority = rng.permutation(study.n_units).astype(float)
    found = target_sites(study, priority, 0.4, whole_sites=False)
    plain = tc.treat_within_budget(
        Scores.from_dataframe(pd.DataFrame({"score": study.outcome, "weight": study.weight})),
        priority,
        0.4,
    )
    np.testing.assert_allclose(found.policy, plain)
    v = study.weight
    expected = (plain * v).groupby(study.sites).sum() / v.groupby(study.sites).sum()
    np.testing.assert_allclose(found.table["treated"], expected[found.table.index])


def test_out_of_fold_priorities_spend_in_their_folds(study, rng):
    folds = study.folds(3, random_state=0).labels.loc[study.units]
    priority = pd.Series(rng.normal(size=study.n_units) + 10 * folds, index=study.units)
    learned = with_origin(priority, EffectOrigin("learner", folds=folds))
    found = target_sites(study, learned, 0.25)
    v = study.weight
    spent = (found.policy * v).groupby(folds).sum() / v.groupby(folds).sum()
    np.testing.assert_allclose(spent, 0.25)
    assert found.policy.attrs["terracausal_origin"].folds is folds


def test_bad_budgets_and_priorities(study):
    one = pd.Series(1.0, index=study.units)
    with pytest.raises(ValueError, match=r"from 0 to 1; got 1\.2"):
        target_sites(study, one, 1.2)
    with pytest.raises(ValueError, match=r"1 of .* values are NaN"):
        target_sites(study, one.where(one.index > 0), 0.5)
    with pytest.raises(AlignmentError, match="7 are missing"):
        target_sites(study, one.set_axis(one.index + 7), 0.5)
    with pytest.raises(AlignmentError, match=r"got \(3,\)"):
        target_sites(study, [1, 2, 3], 0.5)
    plain = tc.Study(study.table, outcome="y", treatment="w")
    with pytest.raises(RoleError, match="has no `site` column"):
        target_sites(plain, one, 0.5)
    placeless = tc.Study(study.table, outcome="y", treatment="w", site="site")
    with pytest.raises(RoleError, match="A map needs coordinates"):
        target_sites(placeless, one, 0.5).plot()
