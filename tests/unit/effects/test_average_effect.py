"""Average effects against plain loops, against regressions, and their identities."""

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm

from terracausal._foundation.errors import OverlapError, RoleError
from terracausal.effects import average_effect
from terracausal.nuisance import Scores
from terracausal.study import Study

PAIRS = [
    *((target, method) for target in ("all", "treated", "control", "overlap")
      for method in ("aipw", "hajek", "ipw")),
    ("all", "plr"),
    ("overlap", "plr"),
    ("all", "difference_in_means"),
]  # fmt: skip


def loop(parts, target, method):
    """Every estimator from its textbook formula, one unit at a time."""
    rows = [
        (r.weight, r.outcome, r.treatment, r.propensity, r.outcome_control, r.outcome_treated)
        for r in parts.itertuples()
    ]
    tilt = {
        "all": lambda e: 1.0,
        "treated": lambda e: e,
        "control": lambda e: 1 - e,
        "overlap": lambda e: e * (1 - e),
    }[target]
    if method == "difference_in_means":
        tilt, method = (lambda e: None), "means"
    if method == "plr" or (method, target) == ("aipw", "overlap"):
        total = sum(v for v, *_ in rows)
        a = sum(v * (y - e * m1 - (1 - e) * m0) for v, y, w, e, m0, m1 in rows) / total
        b = sum(v * (w - e) for v, y, w, e, m0, m1 in rows) / total
        top = sum(v * (w - e - b) * (y - e * m1 - (1 - e) * m0 - a) for v, y, w, e, m0, m1 in rows)
        return top / sum(v * (w - e - b) ** 2 for v, y, w, e, m0, m1 in rows)
    if (method, target) == ("aipw", "all"):
        top = 0.0
        for v, y, w, e, m0, m1 in rows:
            top += v * (m1 - m0 + (w / e) * (y - m1) - (1 - w) / (1 - e) * (y - m0))
        return top / sum(v for v, *_ in rows)
    sums = {1: [0.0, 0.0], 0: [0.0, 0.0]}
    size = 0.0
    for v, y, w, e, m0, m1 in rows:
        surface = 0.0
        if method == "aipw":
            surface = m0 if target == "treated" else m1
        share = 1.0 if method == "means" else tilt(e) / (e if w == 1 else 1 - e)
        sums[int(w)][0] += v * share * (y - surface)
        sums[int(w)][1] += v * share
        size += v * {"all": 1, "treated": w, "control": 1 - w, "overlap": e * (1 - e)}[target]
    if method == "ipw":
        return (sums[1][0] - sums[0][0]) / size
    return sums[1][0] / sums[1][1] - sums[0][0] / sums[0][1]


@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize(("target", "method"), PAIRS)
def test_value_against_a_loop(parts, make_scores, target, method, weighted):
    if not weighted:
        parts["weight"] = 1.0
    scores = make_scores(parts if weighted else parts.drop(columns="weight"))
    found = average_effect(scores, target, method)
    assert found.value[0] == pytest.approx(loop(parts, target, method), rel=1e-10)
    assert abs(found.influence.mean()) < 1e-12


@pytest.mark.parametrize(("target", "method"), PAIRS)
def test_std_error_against_the_clustered_jackknife(parts, make_scores, target, method):
    # leaving out clusters is another road to the same limit: with 90 clusters both nearly agree
    parts["cluster"] = np.arange(90)
    found = average_effect(make_scores(parts), target, method)
    values = [loop(parts.drop(index=unit), target, method) for unit in parts.index]
    jackknife = np.sqrt(89 / 90 * np.sum((np.array(values) - np.mean(values)) ** 2))
    # they differ by terms of order 1 / n; a lost factor of two or a wrong weight would show
    assert found.std_error[0] == pytest.approx(jackknife, rel=0.12)


# -- regressions -------------------------------------------------------------------------------


@pytest.mark.parametrize("strata", [True, False])
def test_difference_in_means_is_ols_with_hc1(parts, make_scores, strata):
    parts = parts.drop(columns=["weight", "cluster"])
    design = sm.add_constant(parts[["treatment"]])
    if strata:
        parts["stratum"] = np.array(list("abcdef"))[np.arange(90) // 15]
        design = pd.get_dummies(parts["stratum"], dtype=float).assign(treatment=parts["treatment"])
    found = average_effect(make_scores(parts), method="difference_in_means")
    ols = sm.OLS(parts["outcome"], design).fit(cov_type="HC1")
    assert found.value[0] == pytest.approx(ols.params["treatment"], rel=1e-10)
    assert found.std_error[0] == pytest.approx(ols.bse["treatment"], rel=1e-10)


@pytest.mark.parametrize("weighted", [True, False])
def test_strata_are_dummies(parts, make_scores, weighted):
    parts["stratum"] = np.array(list("abcdef"))[np.arange(90) // 15]
    parts["cluster"] = np.arange(90)
    if not weighted:
        parts["weight"] = 1.0
    found = average_effect(make_scores(parts), method="difference_in_means")
    design = pd.get_dummies(parts["stratum"], dtype=float).assign(treatment=parts["treatment"])
    wls = sm.WLS(parts["outcome"], design, weights=parts["weight"]).fit(cov_type="HC0")
    assert found.value[0] == pytest.approx(wls.params["treatment"], rel=1e-10)
    assert found.std_error[0] == pytest.approx(wls.bse["treatment"] * np.sqrt(90 / 89), rel=1e-10)


def test_clustered_is_statsmodels_up_to_its_factor(parts, make_scores):
    found = average_effect(make_scores(parts), method="difference_in_means")
    wls = sm.WLS(
        parts["outcome"], sm.add_constant(parts["treatment"]), weights=parts["weight"]
    ).fit(cov_type="cluster", cov_kwds={"groups": parts["cluster"], "use_correction": False})
    assert found.std_error[0] == pytest.approx(wls.bse["treatment"] * np.sqrt(18 / 17), rel=1e-10)


def test_a_stratum_with_one_arm_adds_nothing_and_is_told(parts, make_scores):
    parts["stratum"] = np.where(np.arange(90) < 80, "mixed", "lone")
    parts.loc[parts["stratum"] == "lone", "treatment"] = 1.0
    found = average_effect(make_scores(parts), method="difference_in_means")
    rest = parts[parts["stratum"] == "mixed"]
    assert found.value[0] == pytest.approx(loop(rest, "all", "difference_in_means"), rel=1e-10)
    assert "adjusted for 2 strata, 1 of them with one arm, which add nothing" in found.notes


def test_overlap_is_partially_linear(parts, make_scores):
    scores = make_scores(parts)
    one, other = average_effect(scores, "overlap"), average_effect(scores, method="plr")
    assert one.value[0] == other.value[0]
    assert one.std_error[0] == other.std_error[0]
    assert one.terms == other.terms == ("ato",)


def test_targets_add_up_to_the_whole_for_exact_surfaces(parts, make_scores):
    # without residuals the ATE is the mean over the treated and the controls, by their shares
    parts["weight"] = 1.0
    parts["outcome_control"] = np.where(
        parts["treatment"] == 0, parts["outcome"], parts["outcome_control"]
    )
    parts["outcome_treated"] = np.where(
        parts["treatment"] == 1, parts["outcome"], parts["outcome_treated"]
    )
    scores = make_scores(parts)
    share = parts["treatment"].mean()
    own = parts["outcome_treated"] - parts["outcome_control"]
    att = average_effect(scores, "treated").value[0]
    assert att == pytest.approx(own[parts["treatment"] == 1].mean(), rel=1e-10)
    atc = average_effect(scores, "control").value[0]
    ate = average_effect(scores).value[0]
    assert ate == pytest.approx(share * att + (1 - share) * atc, rel=1e-10)


# -- what is told and refused ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "method", "column"),
    [
        ("treated", "aipw", "outcome"),
        ("overlap", "aipw", "outcome"),
        ("all", "hajek", "outcome"),
        ("all", "ipw", "outcome"),
        ("all", "plr", "outcome"),
        ("all", "difference_in_means", "outcome"),
    ],
)
def test_scores_alone(rng, target, method, column):
    scores = Scores.from_dataframe(pd.DataFrame({"score": rng.normal(size=50)}))
    plain = average_effect(scores)
    assert plain.value[0] == pytest.approx(scores.score.mean(), rel=1e-12)
    assert plain.std_error[0] == pytest.approx(scores.score.std() / np.sqrt(50), rel=1e-12)
    with pytest.raises(RoleError, match=rf"needs the column '{column}'.*they have 'score'"):
        average_effect(scores, target, method)


@pytest.mark.parametrize("column", ["propensity", "outcome_control", "treatment"])
def test_a_missing_column_is_named(parts, make_scores, column):
    table = make_scores(parts).to_dataframe().drop(columns=column)
    with pytest.raises(RoleError, match=rf"target='treated'.* needs the column '{column}'"):
        average_effect(Scores.from_dataframe(table), "treated")


@pytest.mark.parametrize(
    ("target", "method"),
    [("treated", "plr"), ("control", "difference_in_means"), ("overlap", "difference_in_means")],
)
def test_targets_that_a_method_does_not_have(parts, make_scores, target, method):
    with pytest.raises(ValueError, match=rf"method='{method}' .*'{target}'"):
        average_effect(make_scores(parts), target, method)


@pytest.mark.parametrize(("argument", "value"), [("target", "everyone"), ("method", "ols")])
def test_unknown_options(parts, make_scores, argument, value):
    with pytest.raises(ValueError, match=rf"`{argument}` must be .* got '{value}'"):
        average_effect(make_scores(parts), **{argument: value})


@pytest.mark.parametrize("arm", [0, 1])
@pytest.mark.parametrize("method", ["hajek", "difference_in_means"])
def test_an_arm_without_weight(parts, make_scores, method, arm):
    parts.loc[parts["treatment"] == arm, "weight"] = 0.0
    with pytest.raises(OverlapError, match=rf"{method} estimate .* not finite"):
        average_effect(make_scores(parts), method=method)


@pytest.mark.parametrize(
    ("target", "term"),
    [("all", "ate"), ("treated", "att"), ("control", "atc"), ("overlap", "ato")],
)
def test_terms_and_population(parts, make_scores, target, term):
    table = make_scores(parts).table
    scores = Scores(table, "units near a road", ("2 units fell",), ("overlap: yes", "no doubt"))
    found = average_effect(scores, target)
    assert found.terms == (term,)
    assert "units near a road" in found.estimand
    assert found.notes == ("2 units fell",)
    # overlap weights need no overlap
    assert ("overlap: yes" in found.assumptions) == (target != "overlap")


def test_std_errors_on_demand(parts, make_scores):
    scores = make_scores(parts)
    assert "18 clusters" in average_effect(scores).summary()
    assert "independent" in average_effect(scores, std_error="hc").summary()
    spatial = average_effect(scores, std_error="conley", cutoff_m=5000, kernel="uniform")
    assert "uniform kernel, 5 km" in spatial.summary()
    with pytest.raises(ValueError, match=r"needs `cutoff_m`"):
        average_effect(scores, std_error="conley")


def test_scores_are_not_changed(parts, make_scores):
    scores = make_scores(parts)
    before = scores.to_dataframe()
    for target, method in PAIRS:
        average_effect(scores, target, method)
    pd.testing.assert_frame_equal(scores.table, before)


def test_a_study_in_place_of_scores(rng):
    table = pd.DataFrame({"y": rng.normal(size=8), "w": np.arange(8) % 2})
    with pytest.raises(TypeError, match=r"Expected Scores, .*; got a Study"):
        average_effect(Study(table, outcome="y", treatment="w"))
