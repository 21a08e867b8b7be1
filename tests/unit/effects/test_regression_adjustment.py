"""Regression adjustment against explicit interacted least squares."""

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm

from terracausal._foundation.errors import OverlapError, RoleError
from terracausal.effects import average_effect, entropy_balancing, regression_adjustment
from terracausal.effects.regression_adjustment import arm_regression
from terracausal.nuisance import Scores
from terracausal.study import Study

N = 120
ROLES = {"outcome": "y", "treatment": "w", "covariates": ["x", "z"]}


@pytest.fixture
def table(rng):
    x, z = rng.normal(size=N) + 3, rng.exponential(size=N)
    w = (rng.random(N) < 1 / (1 + np.exp(0.5 - 0.3 * x + 0.5 * z))).astype(int)
    y = x + z + w * (1 + x) + rng.normal(size=N) * (1 + z)
    return pd.DataFrame(
        {"y": y, "w": w, "x": x, "z": z, "v": rng.uniform(0.5, 2, N), "site": np.arange(N) // 4},
        index=pd.Index([f"u{k:03d}" for k in range(N)]),
    )


def interacted(table, target, weighted, **fit):
    """Outcome on treatment, centred covariates and their products, by statsmodels."""
    v = table["v"] if weighted else pd.Series(1.0, index=table.index)
    mass = v * {"all": 1, "treated": table["w"], "control": 1 - table["w"]}[target]
    centred = table[["x", "z"]] - np.average(table[["x", "z"]], axis=0, weights=mass)
    design = pd.concat(
        [table["w"], centred, centred.mul(table["w"], axis=0).add_prefix("w_")], axis=1
    )
    return sm.WLS(table["y"], sm.add_constant(design), weights=v).fit(**fit)


@pytest.mark.parametrize("target", ["all", "treated", "control"])
@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("correction", ["hc1", "hc2", "hc3"])
def test_against_interacted_least_squares(table, target, weighted, correction):
    study = Study(table, **ROLES, weight="v" if weighted else None)
    found = regression_adjustment(study, target, population="sample", correction=correction)
    # statsmodels divides weighted residuals by leverages of the weighted design, as we do
    fit = interacted(table, target, weighted, cov_type=correction.upper())
    assert found.value[0] == pytest.approx(fit.params["w"], rel=1e-9)
    assert found.std_error[0] == pytest.approx(fit.bse["w"], rel=1e-8)


def test_clustered_is_statsmodels_up_to_its_factor(table):
    found = regression_adjustment(
        Study(table, **ROLES, site="site"), population="sample", correction="hc1"
    )
    fit = interacted(
        table,
        "all",
        False,
        cov_type="cluster",
        cov_kwds={"groups": table["site"], "use_correction": False},
    )
    assert found.std_error[0] == pytest.approx(fit.bse["w"] * np.sqrt(30 / 29), rel=1e-9)
    assert "30 clusters" in found.summary()


@pytest.mark.parametrize("target", ["all", "treated", "control"])
def test_std_error_against_the_jackknife(table, target):
    found = regression_adjustment(Study(table, **ROLES), target, correction="hc3")
    values = [
        regression_adjustment(Study(table.drop(index=unit), **ROLES), target).value[0]
        for unit in table.index[::3]
    ]
    drawn = np.array(values) - found.value[0]
    jackknife = np.sqrt((N - 1) / N * np.sum(drawn**2) * 3)
    # HC3 is the jackknife of the coefficients; a third of the units estimates the sum of squares
    # with a relative error of about sqrt(2 / 40) / 2 (kurtosis 3), three of which are allowed
    assert found.std_error[0] == pytest.approx(jackknife, rel=0.35)
    inside = regression_adjustment(Study(table, **ROLES), target, population="sample")
    assert inside.std_error[0] < found.std_error[0]


def test_super_population_adds_the_spread_of_effects(table):
    # without noise the sample's effect is exact, and all error is that of the covariates' means
    table["y"] = table["x"] + table["w"] * (1 + 2 * table["x"])
    study = Study(table, outcome="y", treatment="w", covariates=["x"])
    found = regression_adjustment(study)
    assert found.std_error[0] == pytest.approx(2 * table["x"].std(ddof=0) / np.sqrt(N), rel=1e-6)
    assert regression_adjustment(study, population="sample").std_error[0] < 1e-10


def test_strata_alone_are_the_post_stratified_difference(table):
    table["stratum"] = np.array(list("abc"))[np.arange(N) % 3]
    study = Study(table, outcome="y", treatment="w", strata="stratum")
    cells = table.pivot_table(index="stratum", columns="w", values="y", aggfunc="mean")
    shares = table["stratum"].value_counts(normalize=True)
    expected = ((cells[1] - cells[0]) * shares).sum()
    assert regression_adjustment(study).value[0] == pytest.approx(expected, rel=1e-10)


def test_rows_in_any_order(table, rng):
    one = regression_adjustment(Study(table, **ROLES))
    other = regression_adjustment(Study(table.iloc[rng.permutation(N)], **ROLES))
    np.testing.assert_allclose(one.value, other.value, rtol=1e-12)
    joint = other.influence[other.frame.units.get_indexer(one.frame.units)]
    np.testing.assert_allclose(one.influence, joint, rtol=1e-8, atol=1e-10)


def test_adjusting_for_nothing_is_refused(table):
    with pytest.raises(RoleError, match=r"regression_adjustment needs covariates"):
        regression_adjustment(Study(table, outcome="y", treatment="w"))


def test_it_agrees_with_the_difference_when_the_covariate_is_useless(table):
    # a covariate balanced exactly in both arms and unrelated within them changes nothing
    w = np.arange(N) % 2
    sign = np.where(np.arange(N) // 2 % 2 == 0, 1.0, -1.0)
    y = pd.Series(table["y"].to_numpy())
    for arm in (0, 1):
        for level in (1.0, -1.0):
            own = (w == arm) & (sign == level)
            y[own] += y[w == arm].mean() - y[own].mean()
    frame = pd.DataFrame({"y": y, "w": w, "x": sign})
    study = Study(frame, outcome="y", treatment="w", covariates=["x"])
    scores = Scores.from_dataframe(
        pd.DataFrame({"score": 0.0, "outcome": y, "treatment": w.astype(float)})
    )
    plain = average_effect(scores, method="difference_in_means")
    assert regression_adjustment(study).value[0] == pytest.approx(plain.value[0], rel=1e-10)


def test_components_of_embeddings(table, rng):
    embeddings = pd.DataFrame(rng.normal(size=(30, 80))).add_prefix("e")
    study = Study(table, **ROLES, site="site").join(embeddings)
    with pytest.raises(OverlapError, match=r"82 columns needs at least 84 units"):
        regression_adjustment(study)
    found = regression_adjustment(study, n_components=3)
    assert "on 5 columns" in found.method


def test_a_stratum_with_one_arm_is_named(table):
    table["stratum"] = np.where(np.arange(N) < 10, "remote", "near")
    table.loc[table["stratum"] == "remote", "w"] = 1
    study = Study(table, **ROLES, strata="stratum")
    with pytest.raises(OverlapError, match=r"among the control units: 'stratum=remote'"):
        regression_adjustment(study)


def test_repeated_columns_are_refused(table):
    study = Study(
        table.assign(twice=2 * table["x"]),
        outcome="y",
        treatment="w",
        covariates=["x", "z", "twice"],
    )
    with pytest.raises(OverlapError, match=r"3 columns must be independent .* rank is 2"):
        regression_adjustment(study)


def test_missing_covariates_are_imputed_and_flagged(table):
    table.loc[table.index[::7], "z"] = np.nan
    found = regression_adjustment(Study(table, **ROLES))
    assert "on 3 columns" in found.method
    assert np.isfinite(found.std_error[0])


@pytest.mark.parametrize(
    ("option", "value"),
    [("target", "overlap"), ("target", "some"), ("population", "all"), ("correction", "hc4")],
)
def test_unknown_options(table, option, value):
    with pytest.raises(ValueError, match=rf"'{value}'"):
        regression_adjustment(Study(table, **ROLES), **{option: value})


def test_arms_that_do_not_reach_the_target_are_refused(table):
    # half of the treated lie far beyond all controls, and so does the mean of all
    far = (table["w"] == 1) & (np.arange(N) % 2 == 0)
    apart = table.assign(x=table["x"] + np.where(far, 100.0, 0.0))
    with pytest.raises(OverlapError, match=r"in 1 of 2 columns .* units have \('x'; by up to"):
        regression_adjustment(Study(apart, **ROLES))


def test_negative_weights_are_told(table):
    # of the treated two reach the others
    moved = np.where(table["w"] == 1, 4.0, 0.0)
    moved[np.flatnonzero(table["w"] == 1)[:2]] = -4.0
    far = table.assign(x=table["x"] + moved)
    found = regression_adjustment(Study(far, **ROLES), "control")
    assert any("the mean of the treated extrapolates" in note for note in found.notes)
    assert "extrapolates" in found.summary()
    assert regression_adjustment(Study(table, **ROLES)).notes == ()


def test_weights_of_an_arm_make_its_mean(table):
    own = table[table["w"] == 1]
    design = np.column_stack([np.ones(len(own)), own[["x", "z"]]])
    v, y = own["v"].to_numpy(), own["y"].to_numpy()
    coef, _, counted = arm_regression(design, y, v, "hc2")
    assert counted.sum() == pytest.approx(1)
    assert (counted * y).sum() == pytest.approx(coef[0])


@pytest.mark.parametrize("method", [regression_adjustment, entropy_balancing])
def test_what_was_done_to_the_data_is_told(table, method):
    study = Study(table.assign(y=table["y"].mask(np.arange(N) < 3)), **ROLES)
    assert any("3 units" in note for note in study.notes)
    assert method(study).notes[: len(study.notes)] == study.notes
