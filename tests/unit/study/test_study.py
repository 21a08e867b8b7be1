"""What a study holds: encoding, missing data, subsets, roles, dependence, immutability."""

import numpy as np
import pandas as pd
import pytest

from terracausal._foundation.errors import RoleError


def test_counts(table, make_study):
    study = make_study(table, site="village")
    assert (study.n_units, study.n_sites, study.n_clusters) == (60, 20, 20)


def test_missing_outcomes_are_dropped_and_counted(table, make_study):
    table.loc[["u00", "u31"], "income"] = np.nan
    study = make_study(table, site="village")
    assert study.n_units == 58
    assert "u31" not in study.units
    assert r"2 units (3.3%) without an outcome were dropped" in study.describe()
    assert "dropped: 1 of 30 treated, 1 of 30 control" in study.describe()


def test_describe_states_arms_sites_and_inference(table, make_study):
    text = make_study(table, site="village", strata="district", propensity=0.5).describe()
    for words in ("60: 30 treated (50.0%)", "20: 20 with both arms", "20 clusters", "known, 0.5"):
        assert words in text
    assert "4 levels of 'district'" in text


def test_categories_become_one_column_for_each_level_but_the_first(table, make_study):
    columns = make_study(table, covariates=["district", "age"]).features("outcome")
    expected = pd.get_dummies(table["district"], prefix_sep="=", prefix="district", dtype=float)
    assert sorted(columns) == ["age", *sorted(expected)[1:]]
    for name in sorted(expected)[1:]:
        assert columns[name].tolist() == expected[name].tolist()


def test_missing_categories_are_a_level(table, make_study):
    table.loc["u03", "district"] = None
    columns = make_study(table, covariates=["district"]).features("outcome")
    assert columns["district=missing"].sum() == 1
    assert columns.loc["u03", "district=missing"] == 1
    study = make_study(table, covariates=["district"])
    assert "district: 1 missing values taken as a level of their own" in study.describe()


def test_missing_numbers_become_the_median_and_a_flag(table, make_study):
    table.loc[["u03", "u08"], "age"] = np.nan
    study = make_study(table, covariates=["age"])
    columns = study.features("outcome")
    assert columns["age"].isna().sum() == 0
    assert columns.loc["u03", "age"] == table["age"].median()
    assert columns.index[columns["age_missing"] == 1].tolist() == ["u03", "u08"]
    assert "age: 2 missing values set to the median" in study.describe()


@pytest.mark.parametrize("covariates", [["age_missing", "age"], ["age", "age_missing"]])
def test_a_flag_never_overwrites_a_covariate(table, make_study, rng, covariates):
    table.loc["u03", "age"] = np.nan
    table["age_missing"] = rng.normal(size=len(table))
    columns = make_study(table, covariates=covariates).features("outcome")
    kept = [
        np.array_equal(columns.iloc[:, k], table["age_missing"]) for k in range(columns.shape[1])
    ]
    assert sum(kept) == 1
    assert columns.columns.is_unique


def test_nullable_numbers_are_numbers(table, make_study):
    table["age"] = table["age"].round().astype("Int64")
    table.loc["u03", "age"] = pd.NA
    assert make_study(table, covariates=["age"]).features("outcome").dtypes.eq("float64").all()


def test_unknown_levels_are_named(table, make_study):
    study = make_study(table, covariates=["district"])
    with pytest.raises(RoleError, match=r"'district' has 1 levels .*: 'z'"):
        study.encode(table.assign(district="z"), "effect")


def test_covariates_missing_from_a_new_table_are_named(table, make_study):
    study = make_study(table, covariates=["age", "female"])
    with pytest.raises(RoleError, match=r"lacks 1 covariates: 'age'"):
        study.encode(table.drop(columns="age"), "effect")


def test_a_single_covariate_may_be_a_plain_string(table, make_study):
    assert make_study(table, covariates="age").roles.covariates == ("age",)


def test_strata_enter_nuisances_but_not_effects(table, make_study):
    study = make_study(table, strata="district", covariates=["age"])
    assert study.features("propensity").shape[1] == 4
    assert study.features("effect").columns.tolist() == ["age"]


# -- dependence ------------------------------------------------------------------------------


def test_no_site_and_no_cluster_is_independence(table, make_study):
    assert make_study(table).clusters is None


def test_one_unit_per_site_is_independence(table, make_study):
    assert make_study(table.assign(village=range(60)), site="village").clusters is None


def test_site_only_and_cluster_only(table, make_study):
    for role in ("site", "cluster"):
        study = make_study(table, **{role: "village"})
        assert study.clusters.tolist() == table["village"].tolist()


def test_a_given_cluster_is_kept_even_if_all_are_single(table, make_study):
    assert make_study(table.assign(one=range(60)), cluster="one").n_clusters == 60


def test_sites_within_clusters_give_the_clusters(table, make_study):
    study = make_study(table, site="village", cluster="district")
    assert study.clusters.tolist() == table["district"].tolist()


def test_clusters_within_sites_give_the_sites(table, make_study):
    table["household"] = np.arange(60)
    study = make_study(table, site="village", cluster="household")
    assert study.clusters.tolist() == table["village"].tolist()


def test_crossing_sites_and_clusters_are_linked(table, make_study):
    # a class of 4 reaches into the next village of 3, so chains of 12 units hang together
    table["class_"] = np.arange(60) // 4
    clusters = make_study(table, site="village", cluster="class_").clusters
    assert clusters.nunique() == 5
    assert pd.crosstab(clusters, np.arange(60) // 12).gt(0).sum().eq(1).all()


# -- other studies ---------------------------------------------------------------------------


def test_subset_keeps_roles_and_order(table, make_study, rng):
    study = make_study(table, site="village", weight="w", propensity="e", covariates=["age"])
    mask = rng.random(60) < 0.5
    part = study.subset(mask)
    assert part.units.tolist() == table.index[mask].tolist()
    assert part.weight.tolist() == table["w"][mask].tolist()
    assert part.n_clusters == table["village"][mask].nunique()
    assert study.n_units == 60


def test_subset_keeps_the_encoding(table, make_study):
    table.loc["u03", "age"] = np.nan
    study = make_study(table, covariates=["age"])
    part = study.subset(np.arange(60) < 10)
    assert part.features("outcome").loc["u03", "age"] == table["age"].median()


def test_subset_keeps_the_columns_of_strata(table, make_study):
    # whether somebody looked at the features before must not matter
    part = make_study(table, strata="district").subset(np.arange(60) < 20)
    assert part.features("outcome").shape[1] == 3


def test_subset_keeps_the_labels_of_linked_clusters(table, make_study):
    # estimates of a part and of the whole can be subtracted only if they agree on the clusters
    table["class_"] = np.arange(60) // 4
    study = make_study(table, site="village", cluster="class_")
    mask = np.arange(60) >= 12
    pd.testing.assert_series_equal(study.subset(mask).clusters, study.clusters[mask])


def test_subset_by_a_series_goes_by_unit(table, make_study, rng):
    study = make_study(table)
    mask = (table["age"] > 40).iloc[rng.permutation(60)]
    try:
        part = study.subset(mask)
    except ValueError:
        return
    assert (part.table["age"] > 40).all()


def test_sites_may_be_categories(table, make_study):
    table["village"] = pd.Categorical(table["village"])
    part = make_study(table, site="village").subset(np.arange(60) < 30)
    assert "3 to 3 units each, median 3" in part.describe()


def test_subset_of_one_arm_is_refused(table, make_study):
    with pytest.raises(RoleError, match=r"all 30 units have treatment 1"):
        make_study(table).subset(table["paid"] == 1)


def test_with_roles_changes_one_role(table, make_study):
    study = make_study(table, covariates=["age"]).with_roles(propensity="e", site="village")
    assert study.propensity.tolist() == table["e"].tolist()
    assert study.roles.covariates == ("age",)
    assert study.n_sites == 20


def test_with_roles_checks_anew(table, make_study):
    with pytest.raises(RoleError, match=r"'nothing'"):
        make_study(table).with_roles(strata="nothing")


@pytest.mark.parametrize("site", ["district", None])
def test_with_roles_never_unbinds_embeddings(table, make_study, embeddings, site):
    study = make_study(table, site="village").join(embeddings)
    with pytest.raises((RoleError, ValueError), match=r"embedding"):
        study.with_roles(site=site).features("effect")


def test_with_roles_keeps_the_count_of_dropped_units(table, make_study):
    table.loc["u00", "income"] = np.nan
    assert "1 units (1.7%)" in make_study(table).with_roles(site="village").describe()


# -- immutability ----------------------------------------------------------------------------


def test_the_input_is_not_changed(table, make_study, embeddings):
    before = table.copy()
    study = make_study(table, site="village", covariates=["district"], coords=("lon", "lat"))
    study.join(embeddings).features("effect")
    study.folds(3, random_state=0)
    pd.testing.assert_frame_equal(table, before)


def test_later_changes_of_the_input_do_not_reach_the_study(table, make_study):
    study = make_study(table)
    income = study.outcome.copy()
    table.loc[:, "income"] = 0.0
    pd.testing.assert_series_equal(study.outcome, income)


@pytest.mark.parametrize("name", ["table", "outcome", "treatment", "clusters", "sites"])
def test_changing_what_a_study_returns_does_not_change_it(table, make_study, name):
    study = make_study(table, site="village")
    before = getattr(study, name).copy()
    returned = getattr(study, name)
    returned.iloc[:] = returned.iloc[0]
    assert before.equals(getattr(study, name))


def test_rows_may_come_in_any_order(table, make_study, embeddings, rng):
    roles = {"site": "village", "covariates": ["age", "district"], "strata": "district"}
    shuffled = table.iloc[rng.permutation(60)]
    one = make_study(table, **roles).join(embeddings).features("outcome")
    other = make_study(shuffled, **roles).join(embeddings).features("outcome")
    pd.testing.assert_frame_equal(one, other.loc[one.index], check_exact=True)
