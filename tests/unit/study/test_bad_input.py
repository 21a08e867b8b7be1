"""Every bad table is refused at the door of Study, with what was found."""

import numpy as np
import pandas as pd
import pytest

from terracausal._foundation.errors import AlignmentError, OverlapError, RoleError


@pytest.mark.parametrize("role", ["outcome", "treatment"])
def test_missing_main_column(table, make_study, role):
    with pytest.raises(RoleError, match=rf"{role} column 'profit' is not in the table.*'income'"):
        make_study(table, **{role: "profit"})


@pytest.mark.parametrize("role", ["site", "cluster", "strata", "weight", "propensity"])
def test_missing_other_column(table, make_study, role):
    with pytest.raises(RoleError, match=r"1 columns with a role are not in the table: 'absent'"):
        make_study(table, **{role: "absent"})


def test_missing_covariates_and_coords_are_all_named(table, make_study):
    with pytest.raises(RoleError, match=r"2 columns .*'height', 'x'"):
        make_study(table, covariates=["age", "height"], coords=("x", "lat"))


def test_treatment_date_is_a_date_or_a_column(table, make_study):
    # a misspelt column must not wait for the join, where it could even be skipped
    with pytest.raises(ValueError, match=r"treatment_date.*'paid_onn'"):
        make_study(table, treatment_date="paid_onn")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([0, 1, 2], r"found 3 values: 0, 1, 2. Use multi_arm_effects"),
        ([1, 2], r"found 2 values: 1, 2. Code the control as 0"),
        (np.arange(30) / 7, r"found 30 values: .*Use dose_response"),
        (["0", "1"], r"found 2 values: '0', '1'"),
        ([0.0, 0.5, 1.0], "found 3 values"),
    ],
)
def test_treatment_that_is_not_binary(table, make_study, values, message):
    table["paid"] = np.resize(values, len(table))
    with pytest.raises(RoleError, match=message):
        make_study(table)


@pytest.mark.parametrize("arm", [0, 1])
def test_one_arm_only(table, make_study, arm):
    table["paid"] = arm
    with pytest.raises(RoleError, match=rf"all 60 units have treatment {arm} in 'paid'"):
        make_study(table)


def test_one_arm_after_missing_outcomes_are_dropped(table, make_study):
    table.loc[table["paid"] == 1, "income"] = np.nan
    with pytest.raises(RoleError, match=r"all 30 units have treatment 0"):
        make_study(table)


def test_missing_treatment(table, make_study):
    table["paid"] = table["paid"].astype(float)
    table.loc[["u03", "u07"], "paid"] = np.nan
    with pytest.raises(RoleError, match=r"2 are missing: 'u03', 'u07'"):
        make_study(table)


def test_infinite_outcome(table, make_study):
    table.loc["u05", "income"] = -np.inf
    with pytest.raises(RoleError, match=r"1 units have an infinite outcome: 'u05'"):
        make_study(table)


def test_outcome_of_words(table, make_study):
    table["income"] = "high"
    with pytest.raises(RoleError, match=r"outcome 'income' must be a column of numbers"):
        make_study(table)


def test_outcome_missing_for_all(table, make_study):
    table["income"] = np.nan
    with pytest.raises(RoleError, match=r"missing for all 60 units"):
        make_study(table)


def test_doubled_unit_keys(table, make_study):
    table.index = ["u0", "u0", *table.index[2:]]
    with pytest.raises(AlignmentError, match=r"1 stand more than once: 'u0'"):
        make_study(table)


def test_doubled_column_names(table, make_study):
    with pytest.raises(RoleError, match=r"doubled: 'age'"):
        make_study(pd.concat([table, table[["age"]]], axis=1))


@pytest.mark.parametrize("covariates", [["income"], ["paid"], ["age", "age"]])
def test_doubled_roles(table, make_study, covariates):
    with pytest.raises(RoleError, match=rf"{covariates[0]!r} is named more than once"):
        make_study(table, covariates=covariates)


def test_outcome_and_treatment_must_differ(table, make_study):
    with pytest.raises(RoleError, match=r"'paid' is named more than once"):
        make_study(table, outcome="paid")


@pytest.mark.parametrize(
    ("values", "found"), [(7.0, "only the value 7.0"), (np.nan, "no value at all")]
)
def test_constant_covariate(table, make_study, values, found):
    with pytest.raises(RoleError, match=rf"covariate 'flat' is constant.*{found} in 60 units"):
        make_study(table.assign(flat=values), covariates=["flat"])


def test_infinite_covariate(table, make_study):
    table.loc["u01", "age"] = np.inf
    with pytest.raises(RoleError, match=r"'age' must be finite; 1 values are infinite"):
        make_study(table, covariates=["age"])


def test_covariate_of_dates(table, make_study):
    table["born"] = pd.date_range("1990-01-01", periods=len(table))
    with pytest.raises(RoleError, match=r"'born' holds dates"):
        make_study(table, covariates=["born"])


@pytest.mark.parametrize("role", ["site", "cluster", "strata"])
def test_missing_keys(table, make_study, role):
    table["village"] = table["village"].astype(float)
    table.loc["u09", "village"] = np.nan
    with pytest.raises(RoleError, match=rf"{role} 'village' .* 1 are missing: 'u09'"):
        make_study(table, **{role: "village"})


@pytest.mark.parametrize(("value", "count"), [(-1.0, 1), (np.nan, 1), (np.inf, 1)])
def test_bad_weights(table, make_study, value, count):
    table.loc["u02", "w"] = value
    with pytest.raises(RoleError, match=rf"weight 'w' .* {count} units break this: 'u02'"):
        make_study(table, weight="w")


def test_weights_that_are_all_zero(table, make_study):
    with pytest.raises(RoleError, match=r"not all zero"):
        make_study(table.assign(w=0.0), weight="w")


@pytest.mark.parametrize("value", [0.0, 1.0, -0.1, np.nan])
def test_known_propensity_outside(table, make_study, value):
    table.loc["u02", "e"] = value
    with pytest.raises(OverlapError, match=rf"found {value} at units 'u02'"):
        make_study(table, propensity="e")


@pytest.mark.parametrize("value", [0, 1.0, 1.5])
def test_known_propensity_number_outside(table, make_study, value):
    with pytest.raises(OverlapError, match=rf"found {float(value)}"):
        make_study(table, propensity=value)


def test_swapped_coordinates(table, make_study):
    table["lon"] += 60
    with pytest.raises(RoleError, match=r"Latitude \('lon'\) .* 9\d.* look swapped"):
        make_study(table, coords=("lat", "lon"))


def test_coordinates_in_metres(table, make_study):
    table[["lon", "lat"]] *= 100_000
    with pytest.raises(RoleError, match=r"Are they metres"):
        make_study(table, coords=("lon", "lat"))


def test_longitude_outside(table, make_study):
    with pytest.raises(RoleError, match=r"Longitude .* found 1032"):
        make_study(table.assign(lon=1032.0), coords=("lon", "lat"))


def test_missing_coordinates(table, make_study):
    table.loc["u11", "lat"] = np.nan
    with pytest.raises(RoleError, match=r"1 units have none: 'u11'"):
        make_study(table, coords=("lon", "lat"))


def test_table_of_another_kind(make_study):
    with pytest.raises(TypeError, match=r"got dict"):
        make_study({"income": [1.0]})


def test_empty_table(table, make_study):
    with pytest.raises(RoleError, match=r"it has no rows"):
        make_study(table.iloc[:0])


@pytest.mark.parametrize("kind", ["boolean", "Int64", "Float64", "bool", "category"])
def test_every_kind_of_binary_column_will_do(table, make_study, kind):
    study = make_study(table.assign(paid=table["paid"].astype(kind)))
    assert study.treatment.tolist() == table["paid"].tolist()


@pytest.mark.parametrize(
    "roles", [{"weight": "district"}, {"propensity": "district"}, {"coords": ("district", "lat")}]
)
def test_words_where_numbers_are_needed(table, make_study, roles):
    with pytest.raises(RoleError, match=r"'district'"):
        make_study(table, **roles)
