"""Published answers of adjusted analyses: LaLonde with CPS controls, NHEFS standardised."""

import numpy as np
import pandas as pd
import pytest
from statsmodels.formula import api as formula

import terracausal as tc
from terracausal.effects import entropy_balancing, entropy_weights, regression_adjustment

COVARIATES = ["age", "educ", "black", "hisp", "marr", "nodegree", "re74", "re75"]
EXPERIMENT = 1_794.34
CHAPTER_13 = (
    "wt82_71 ~ qsmk + sex + race + age + I(age**2) + C(education) + smokeintensity"
    " + I(smokeintensity**2) + smokeyrs + I(smokeyrs**2) + C(exercise) + C(active) + wt71"
    " + I(wt71**2) + qsmk:smokeintensity"
)


@pytest.fixture(scope="module")
def folder(data_root):
    found = data_root / "reference_tables"
    if not found.is_dir():
        pytest.skip(f"no reference tables in {data_root}")
    return found


@pytest.fixture(scope="module")
def cps(folder):
    """Return the 185 treated of the experiment and the 15,992 controls of the survey."""
    treated = pd.read_csv(folder / "lalonde_nsw.csv").query("treat == 1")
    controls = pd.read_csv(folder / "lalonde_cps.csv.gz").query("treat == 0")
    table = pd.concat([treated, controls], ignore_index=True)
    # unemployment before treatment is what distinguishes the trainees
    table["none74"], table["none75"] = table["re74"] == 0, table["re75"] == 0
    return table


@pytest.fixture(scope="module")
def study(cps):
    covariates = [*COVARIATES, "none74", "none75"]
    return tc.Study(cps, outcome="re78", treatment="treat", covariates=covariates)


def test_lalonde_with_survey_controls_balanced(cps, study):
    assert (study.n_units, study.treatment.sum()) == (16_177, 185)
    raw = cps.groupby("treat")["re78"].mean()
    assert raw[1] - raw[0] == pytest.approx(-8_497.5, abs=0.05)
    found = entropy_balancing(study, "treated")
    weight = entropy_weights(study, "treated")
    for name in study.roles.covariates:
        own = cps["treat"] == 0
        mean = np.average(cps.loc[own, name], weights=weight[own])
        expected = cps.loc[~own, name].mean()
        assert mean == pytest.approx(expected, abs=1e-6 * cps[name].std())
    low, high = found.confint()[0]
    assert low < EXPERIMENT < high
    # the treated alone have a standard error of 579, so no honest one is smaller
    treated = cps.loc[cps["treat"] == 1, "re78"]
    assert found.std_error[0] > 0.9 * treated.std() / np.sqrt(185)


@pytest.mark.filterwarnings("ignore::terracausal._foundation.errors.OverlapWarning")
def test_lalonde_with_survey_controls_doubly_robust(study):
    nuisances = tc.cross_fit(study, random_state=0)
    found = tc.average_effect(tc.doubly_robust_scores(study, nuisances), "treated")
    low, high = found.confint()[0]
    assert low < EXPERIMENT < high


def test_lalonde_experiment_with_regression_adjustment(folder):
    table = pd.read_csv(folder / "lalonde_nsw.csv")
    study = tc.Study(table, outcome="re78", treatment="treat", covariates=COVARIATES)
    found = regression_adjustment(study, population="sample")
    centred = (table[COVARIATES] - table[COVARIATES].mean()).assign(
        re78=table["re78"], treat=table["treat"]
    )
    products = " + ".join(f"{name} + treat:{name}" for name in COVARIATES)
    fit = formula.ols(f"re78 ~ treat + {products}", centred).fit(cov_type="HC2")
    assert found.value[0] == pytest.approx(fit.params["treat"], rel=1e-8)
    assert found.std_error[0] == pytest.approx(fit.bse["treat"], rel=1e-8)


def test_nhefs_standardised(folder):
    table = pd.read_csv(folder / "nhefs.csv").dropna(subset=["wt82_71"])
    fit = formula.ols(CHAPTER_13, table).fit()
    share = table["qsmk"].mean()
    parts = pd.DataFrame(
        {
            "outcome": table["wt82_71"],
            "treatment": table["qsmk"],
            "propensity": share,
            "outcome_control": fit.predict(table.assign(qsmk=0)),
            "outcome_treated": fit.predict(table.assign(qsmk=1)),
        }
    )
    # residuals of least squares add up to zero in each arm, so with a constant propensity the
    # doubly robust average is the standardised difference, 3.517 in chapter 13
    y, w, mu0, mu1 = (parts[n] for n in ("outcome", "treatment", "outcome_control",
                                         "outcome_treated"))  # fmt: skip
    parts["score"] = mu1 - mu0 + w / share * (y - mu1) - (1 - w) / (1 - share) * (y - mu0)
    scores = tc.Scores.from_dataframe(parts)
    for method in ("aipw", "tmle_linear"):
        assert tc.average_effect(scores, method=method).value[0] == pytest.approx(3.517, abs=0.001)
