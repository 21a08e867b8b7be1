"""Bad data end to end: each is refused or told, with names, before numbers come out."""

import numpy as np
import pandas as pd
import pytest

from terracausal._foundation.errors import OverlapError, RoleError
from terracausal.effects import average_effect
from terracausal.nuisance import cross_fit, doubly_robust_scores
from terracausal.study import Study

N = 120
ROLES = {"outcome": "y", "treatment": "w", "covariates": ["x"]}


@pytest.fixture
def table(rng):
    x = rng.normal(size=N)
    w = (rng.random(N) < 1 / (1 + np.exp(-x))).astype(int)
    return pd.DataFrame({"y": x + w + rng.normal(size=N), "w": w, "x": x})


def analyse(table, **options):
    study = Study(table, **(ROLES | options))
    return average_effect(doubly_robust_scores(study, cross_fit(study, random_state=0)))


@pytest.mark.filterwarnings("ignore::terracausal._foundation.errors.OverlapWarning")
def test_arms_that_two_covariates_separate_have_no_average_effect(rng):
    # neither covariate alone tells the arm, their sum does, and nobody is near the line
    x, z = rng.normal(size=(2, 600))
    near = np.abs(x + z) < 0.7
    table = pd.DataFrame({"x": x, "z": z, "w": (x + z > 0).astype(int)})[~near]
    table["y"] = table["x"] + table["w"]
    study = Study(table, outcome="y", treatment="w", covariates=["x", "z"])
    scores = doubly_robust_scores(study, cross_fit(study, random_state=0))
    with pytest.raises(OverlapError, match=r"do not overlap at all.*target='overlap'"):
        average_effect(scores)
    assert np.isfinite(average_effect(scores, "overlap").value[0])


@pytest.mark.filterwarnings("ignore::terracausal._foundation.errors.OverlapWarning")
def test_five_treated_units(table):
    table["w"] = (np.arange(N) % 24 == 0).astype(int)
    found = analyse(table)
    assert found.notes[-1].startswith("only 5 treated units")


def test_two_treated_units_cannot_be_cross_fitted(table):
    table["w"] = (np.arange(N) < 2).astype(int)
    with pytest.raises(RoleError, match=r"Every fold must have both arms; .* 0 treated"):
        analyse(table)


def test_fewer_than_ten_clusters(table):
    found = analyse(table.assign(site=np.arange(N) % 8), site="site")
    assert "8 clusters, few" in found.summary()
    assert "wild_cluster_bootstrap" in found.summary()


@pytest.mark.parametrize("weight", [-1.0, 0.0])
def test_weights(table, weight):
    with pytest.raises(RoleError, match=r"not negative and not all zero"):
        analyse(table.assign(v=weight), weight="v")


def test_treatment_constant_within_strata_is_told(table):
    table["stratum"] = np.where(np.arange(N) < 12, "lone", "mixed")
    table.loc[table["stratum"] == "lone", "w"] = 1
    study = Study(table, outcome="y", treatment="w", strata="stratum", propensity=0.5)
    scores = doubly_robust_scores(study, cross_fit(study, random_state=0))
    found = average_effect(scores, method="difference_in_means")
    assert "adjusted for 2 strata, 1 of them with one arm, which add nothing" in found.notes


def test_missing_covariates_are_imputed_and_counted(table):
    table.loc[::10, "x"] = np.nan
    study = Study(table, **ROLES)
    assert "x: 12 missing values set to the median" in study.describe()
    assert np.isfinite(analyse(table).value[0])


def test_known_strata_lower_the_error(rng):
    # outcomes differ between strata far more than within: the error must not count that
    n = 400
    stratum = np.arange(n) % 8
    w = np.array([rng.permutation(np.arange(n // 8) % 2) for _ in range(8)]).T.ravel()
    table = pd.DataFrame({"y": 10.0 * stratum + w + rng.normal(size=n), "w": w, "s": stratum})
    roles = {"outcome": "y", "treatment": "w", "propensity": 0.5}
    studies = [Study(table, **roles), Study(table, **roles, strata="s")]
    blind, aware = (
        average_effect(doubly_robust_scores(s, cross_fit(s, random_state=0))) for s in studies
    )
    # 2 / sqrt(n) is the error without strata to explain; theirs has the SD of the strata in it
    assert aware.std_error[0] == pytest.approx(2 / np.sqrt(n), rel=0.15)
    assert blind.std_error[0] > 5 * aware.std_error[0]
