"""Bad data end to end: each is refused or told, with names, before numbers come out."""

import numpy as np
import pandas as pd
import pytest
from sklearn.dummy import DummyClassifier

from terracausal._foundation.errors import OverlapError, OverlapWarning, RoleError
from terracausal.effects import average_effect, bootstrap_effect, multi_arm_effects
from terracausal.nuisance import Scores, cross_fit, doubly_robust_scores
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


def test_lone_strata_are_told_by_other_methods_too(table):
    table["stratum"] = np.where(np.arange(N) < 12, "lone", "mixed")
    table.loc[table["stratum"] == "lone", "w"] = 1
    study = Study(table, outcome="y", treatment="w", strata="stratum", propensity=0.5)
    assert "2 levels of 'stratum', 1 of them with one arm only" in study.describe()
    scores = doubly_robust_scores(study, cross_fit(study, random_state=0))
    for method in ("aipw", "hajek"):
        assert (
            "1 of 2 strata have one arm only (12 units)"
            in average_effect(scores, method=method).summary()
        )


def test_treatment_constant_within_all_strata_is_refused(table):
    table["village"] = np.arange(N) // 10
    table["w"] = table["village"] % 2
    with pytest.raises(RoleError, match=r"constant in each of the 12 strata of 'village'"):
        Study(table, **ROLES, strata="village")


# -- one unit ----------------------------------------------------------------------------------


def scores_with(propensity, residual, target_arm=0):
    """Return scores of 60 units with propensities around 1/2, but for one unit."""
    e = np.linspace(0.3, 0.7, 60)
    w = np.arange(60) % 2
    own = np.flatnonzero(w == target_arm)[3]
    e[own] = propensity if target_arm == 0 else 1 - propensity
    y = np.where(np.arange(60) % 4 < 2, 1.0, -1.0)
    y[own] = residual
    weight = np.where(w == 1, 1 / e, 1 / (1 - e))
    table = pd.DataFrame(
        {
            "score": np.where(w == 1, 1, -1) * weight * y,
            "outcome": y,
            "treatment": w,
            "propensity": e,
            "outcome_control": 0.0,
            "outcome_treated": 0.0,
        },
        index=[f"u{k}" for k in range(60)],
    )
    return Scores.from_dataframe(table)


@pytest.mark.parametrize("arm", [0, 1])
@pytest.mark.parametrize("method", ["aipw", "hajek", "ipw", "tmle", "tmle_linear"])
def test_an_average_that_rests_on_one_unit_is_refused(arm, method):
    scores = scores_with(1 - 2e-9, 1.0, arm)
    unit, word = ("u6", "control") if arm == 0 else ("u7", "treated")
    told = rf"one unit: '{unit}' \({word}\) .* 100\.0% .* 30 units {word}, .* 1\.0 effective"
    with pytest.raises(OverlapError, match=told):
        average_effect(scores, method=method)
    assert np.isfinite(average_effect(scores, "overlap").value[0])


def test_the_rule_looks_at_the_weights_of_the_target():
    # a control that is sure to be treated stands for many treated, a sure control for none
    with pytest.raises(OverlapError, match=r"'u6' \(control\)"):
        average_effect(scores_with(1 - 2e-9, 1.0), "treated")
    assert np.isfinite(average_effect(scores_with(1 - 2e-9, 1.0), "control").value[0])


def test_two_effective_units_are_the_edge():
    # 29 controls weigh about 2 each; Kish's number is (58 + g)² / (118 + g²), 2 at g = 126
    average_effect(scores_with(1 - 1 / 110, 0.0))
    with pytest.raises(OverlapError, match=r"leaves 1\.[89] effective units; a variance needs 2"):
        average_effect(scores_with(1 - 1 / 170, 0.0))


def test_a_unit_without_which_the_estimate_moves_is_told():
    # weight 110 and residual 1 against 59 squares of about 4: nearly all of the variance
    (note,) = average_effect(scores_with(1 - 1 / 110, 1.0)).notes
    assert note.startswith("unit 'u6' (propensity 0.9909) carries 9")
    # its residual is what counts, and the arms' weights alone do not decide
    assert average_effect(scores_with(1 - 1 / 110, 0.0)).notes == ()
    # an outlying outcome is not poor overlap
    assert average_effect(scores_with(0.5, 500.0)).notes == ()


def test_trimming_the_unit_is_a_way_out(rng):
    n = 400
    x = rng.normal(size=n)
    w = (rng.random(n) < 1 / (1 + np.exp(-x))).astype(int)
    e = 1 / (1 + np.exp(-x))
    lone = np.flatnonzero(w == 0)[0]
    e[lone] = 1 - 1e-9
    table = pd.DataFrame({"y": x + w + rng.normal(size=n), "w": w, "x": x, "e": e})
    study = Study(table, **ROLES, propensity="e")
    nuisances = cross_fit(study, random_state=0)
    with pytest.warns(OverlapWarning, match=r"max 1\.0000"):
        scores = doubly_robust_scores(study, nuisances)
    with pytest.raises(OverlapError, match=rf"one unit: {lone} .* 0\.999999999 "):
        average_effect(scores)
    found = average_effect(doubly_robust_scores(study, nuisances, trim=0.02))
    assert abs(found.value[0] - 1) < 5 * found.std_error[0]


def test_an_arm_of_several_rests_on_one_unit(rng):
    class Certain(DummyClassifier):
        def predict_proba(self, X):
            rare = np.abs(X.to_numpy()[:, 0]) > 50
            p = np.where(rare, 1e-9, 1 / 3)
            return np.column_stack([1 - p, p])

    table = pd.DataFrame({"arm": np.arange(90) % 3, "x": rng.normal(size=90), "y": 1.0})
    table["y"] += table["arm"] + rng.normal(size=90)
    table.loc[1, "x"] = 99.0
    with pytest.raises(OverlapError, match=r"one unit: 1 \(in arm 1\)"):
        multi_arm_effects(
            table, treatment="arm", reference=0, outcome="y", covariates=["x"], random_state=0,
            learners={"propensity_learner": Certain()},
        )  # fmt: skip


def test_an_arm_that_is_too_small_is_named(rng):
    table = pd.DataFrame({"arm": ["a"] * 60 + ["b"] * 60 + ["c"] * 2, "y": rng.normal(size=122)})
    with pytest.raises(RoleError, match=r"Every fold must have both arms") as caught:
        multi_arm_effects(table, treatment="arm", reference="a", outcome="y", random_state=0)
    assert caught.value.__notes__ == ["while comparing arm 'c' (as treated) with all others"]


# -- resamples ---------------------------------------------------------------------------------


def test_refused_resamples_are_left_out_and_counted(table):
    calls = iter(range(100))

    def picky(study, rng):
        if next(calls) in (4, 9):  # the first two are on the data themselves
            raise RoleError("no arm")
        return average_effect(doubly_robust_scores(study, cross_fit(study, propensity=0.5)))

    found = bootstrap_effect(Study(table, **ROLES), picky, n_draws=20, n_seeds=2, random_state=0)
    assert (len(found.draws), found.n_refused) == (18, 2)
    assert "2 further resamples were refused" in found.summary()


def test_many_refused_resamples_are_refused(table):
    calls = iter(range(100))

    def picky(study, rng):
        if next(calls) > 6:
            raise OverlapError("no overlap.")
        return average_effect(doubly_robust_scores(study, cross_fit(study, propensity=0.5)))

    with pytest.raises(OverlapError, match=r"5 of 10 resamples were refused.* no overlap\."):
        bootstrap_effect(Study(table, **ROLES), picky, n_draws=10, n_seeds=2, random_state=0)


# -- covariates and strata ---------------------------------------------------------------------


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


# -- units without a counterpart ---------------------------------------------------------------


def one_sided(share, n=400):
    """Return scores where a share of the units have a propensity of 1 % and are never treated."""
    e = np.where(np.arange(n) < share * n, 0.01, 0.5)
    w = np.where(e < 0.1, 0, np.arange(n) % 2)
    table = pd.DataFrame({"outcome": 0.0, "treatment": w, "propensity": e, "score": 0.0})
    return Scores.from_dataframe(table.assign(outcome_control=0.0, outcome_treated=0.0))


def test_a_population_without_counterparts_is_refused_or_told():
    with pytest.raises(OverlapError, match=r"hardly overlap: 59% of the target population"):
        average_effect(one_sided(0.6))
    found = average_effect(one_sided(0.3))
    # controls with a propensity of 0.01 weigh 1 / 0.99, a percent more than they are
    assert "30% of the target population have no counterpart" in found.notes[-1]
    assert average_effect(one_sided(0.1)).notes == ()
    # for the treated there is no such unit
    assert average_effect(one_sided(0.6), "treated").notes == ()
    assert np.isfinite(average_effect(one_sided(0.6), "overlap").value[0])


def test_a_propensity_that_is_wrong_throughout_is_not_taken_for_it(parts, make_scores):
    # half as many treated as the propensities say
    kept = parts.drop(index=parts.index[parts["treatment"] == 1][::2])
    scores = make_scores(kept.assign(propensity=0.5).drop(columns="weight"))
    assert average_effect(scores).notes == ()


def test_units_without_weight_do_not_train(table):
    table["v"] = np.where(table["w"] == 1, 0.0, 1.0)
    with pytest.raises(RoleError, match=r"weight above zero; without fold 0 there are 0 treated"):
        analyse(table, weight="v")
