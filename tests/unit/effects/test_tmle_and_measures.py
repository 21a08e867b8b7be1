"""TMLE against a small reference written from its definition; ratios by the delta method."""

import numpy as np
import pytest
import statsmodels.api as sm
from scipy.special import expit, logit

from terracausal._foundation.errors import OverlapError
from terracausal.effects import average_effect
from terracausal.nuisance import Scores

TARGETS = ("all", "treated", "control")
TMLE = [(target, method) for target in TARGETS for method in ("tmle", "tmle_linear")]


@pytest.fixture
def binary(parts, rng):
    mu0 = rng.uniform(0.2, 0.6, 90)
    mu1 = np.clip(mu0 + 0.2 + 0.1 * rng.normal(size=90), 0.1, 0.9)
    y = (rng.random(90) < np.where(parts["treatment"] == 1, mu1, mu0)).astype(float)
    return parts.assign(outcome=y, outcome_control=mu0, outcome_treated=mu1)


def reference(parts, target, method):
    """TMLE with the fluctuation fitted as a weighted regression by statsmodels."""
    y, w, e, v = (parts[n].to_numpy() for n in ("outcome", "treatment", "propensity", "weight"))
    h = {"all": np.ones(90), "treated": w, "control": 1 - w}[target]
    tilt = {"all": np.ones(90), "treated": e, "control": 1 - e}[target]
    low, high = y.min(), y.max()
    means, influences = [], []
    for arm, name in enumerate(("outcome_control", "outcome_treated")):
        own = w == arm
        g = own * tilt / (e if arm else 1 - e)
        mu = parts[name].to_numpy()
        if method == "tmle":
            start = logit(np.clip((mu - low) / (high - low), 5e-4, 1 - 5e-4))
            fit = sm.GLM(
                (y[own] - low) / (high - low),
                np.ones(own.sum()),
                family=sm.families.Binomial(),
                offset=start[own],
                var_weights=(v * g)[own],
            ).fit(tol=1e-14)
            share = expit(start + fit.params[0])
            mu, slope = low + (high - low) * share, share * (1 - share)
        else:
            slope = np.ones(90)
            mu = mu + sm.WLS((y - mu)[own], np.ones(own.sum()), weights=(v * g)[own]).fit().params
        mean = np.average(mu, weights=v * h)
        means.append(mean)
        # the delta method for a mean that moves with the fluctuation
        carried = np.sum(v * h * slope) / np.sum(v * g * slope)
        influences.append(v * (carried * g * (y - mu) + h * (mu - mean)) / np.mean(v * h))
    return means, influences


@pytest.mark.parametrize(("target", "method"), TMLE)
@pytest.mark.parametrize("kind", ["binary", "continuous"])
def test_tmle_against_the_reference(parts, binary, make_scores, target, method, kind):
    table = binary if kind == "binary" else parts
    table["cluster"] = np.arange(90)
    found = average_effect(make_scores(table), target, method)
    means, influences = reference(table, target, method)
    assert found.value[0] == pytest.approx(means[1] - means[0], rel=1e-7)
    shift = influences[1] - influences[0]
    assert found.std_error[0] == pytest.approx(np.sqrt(np.sum(shift**2) / 90 / 89), rel=1e-7)


@pytest.mark.parametrize(("target", "method"), TMLE)
def test_the_score_equation_holds(binary, make_scores, target, method):
    # the influence values have mean zero exactly because the fluctuation solves their equation
    found = average_effect(make_scores(binary), target, method)
    assert abs(found.influence.mean()) < 1e-10


def test_means_stay_within_the_range_of_the_outcome(binary, make_scores):
    # predictions far outside, and three units with a tiny propensity
    binary["outcome_treated"] += 3
    binary.loc[binary.index[:3], ["propensity", "treatment", "outcome"]] = [0.005, 1.0, 0.0]
    table = make_scores(binary)
    for measure in ("ratio", "odds_ratio"):
        assert average_effect(table, method="tmle", measure=measure).value[0] > 0
    assert -1 <= average_effect(table, method="tmle").value[0] <= 1


def test_an_arm_in_which_everybody_has_the_outcome(binary, make_scores):
    binary.loc[binary["treatment"] == 1, "outcome"] = 1.0
    found = average_effect(make_scores(binary), method="tmle")
    control = binary["treatment"] == 0
    assert 0 < found.value[0] < 1
    assert found.value[0] > 1 - binary.loc[control, "outcome_control"].max()


def test_constant_outcome(parts, make_scores):
    found = average_effect(make_scores(parts.assign(outcome=2.0)), method="tmle")
    assert found.value[0] == found.std_error[0] == 0


@pytest.mark.parametrize("target", ["treated", "control"])
def test_tmle_linear_is_normalised_aipw(parts, make_scores, target):
    one = average_effect(make_scores(parts), target, "tmle_linear")
    expected = average_effect(make_scores(parts), target)
    assert one.value[0] == pytest.approx(expected.value[0], rel=1e-10)
    assert one.std_error[0] == pytest.approx(expected.std_error[0], rel=1e-10)


@pytest.mark.parametrize("method", ["tmle", "tmle_linear"])
class TestIdentities:
    def test_shift_and_scale_of_the_outcome(self, parts, make_scores, method):
        moved = parts.copy()
        names = ["outcome", "outcome_control", "outcome_treated"]
        moved[names] = 50 - 3 * moved[names]
        one, other = (average_effect(make_scores(p), method=method) for p in (parts, moved))
        np.testing.assert_allclose(-3 * one.value, other.value, rtol=1e-7)
        np.testing.assert_allclose(3 * one.std_error, other.std_error, rtol=1e-7)

    def test_swapped_arms(self, parts, make_scores, method):
        swapped = parts.assign(
            treatment=1 - parts["treatment"],
            propensity=1 - parts["propensity"],
            outcome_control=parts["outcome_treated"],
            outcome_treated=parts["outcome_control"],
        )
        one = average_effect(make_scores(parts), "treated", method)
        other = average_effect(make_scores(swapped), "control", method)
        np.testing.assert_allclose(one.value, -other.value, rtol=1e-9)
        np.testing.assert_allclose(one.std_error, other.std_error, rtol=1e-9)

    def test_weight_two_is_a_row_twice(self, parts, make_scores, method):
        parts["weight"] = np.where(np.arange(90) % 3 == 0, 2.0, 1.0)
        twice = parts.loc[parts.index.repeat(parts["weight"].astype(int))].assign(weight=1.0)
        twice.index = range(len(twice))
        one, other = (average_effect(make_scores(p), method=method) for p in (parts, twice))
        np.testing.assert_allclose(one.value, other.value, rtol=1e-9)
        np.testing.assert_allclose(one.std_error, other.std_error, rtol=1e-9)


# -- ratios ------------------------------------------------------------------------------------


def arm_values(binary, method, target, make_scores):
    """Risks of both arms from plain averages."""
    y, w, e, v = (binary[n].to_numpy() for n in ("outcome", "treatment", "propensity", "weight"))
    tilt = {"all": 1.0, "treated": e, "control": 1 - e, "overlap": e * (1 - e)}[target]
    size = {"all": 1.0, "treated": w, "control": 1 - w, "overlap": e * (1 - e)}[target] + 0 * y
    means = []
    for arm, name in enumerate(("outcome_control", "outcome_treated")):
        g = (w == arm) * tilt / (e if arm else 1 - e)
        mu = binary[name].to_numpy()
        if method == "hajek":
            means.append(np.average(y, weights=v * g))
        elif method == "ipw":
            means.append(np.sum(v * g * y) / np.sum(v * size))
        elif target == "all":
            means.append(np.average(mu + g * (y - mu), weights=v))
        else:
            residual = np.average(y - mu, weights=v * g)
            means.append(np.average(mu, weights=v * size) + residual)
    return means


@pytest.mark.parametrize(
    ("target", "method"),
    [(t, m) for t in TARGETS for m in ("aipw", "hajek", "ipw")] + [("overlap", "hajek")],
)
@pytest.mark.parametrize("measure", ["ratio", "odds_ratio"])
def test_ratios_of_plain_averages(binary, make_scores, target, method, measure):
    control, treated = arm_values(binary, method, target, make_scores)
    scores = make_scores(binary)
    found = average_effect(scores, target, method, measure=measure)
    odds = treated / (1 - treated) / (control / (1 - control))
    assert found.value[0] == pytest.approx(treated / control if measure == "ratio" else odds)
    difference = average_effect(scores, target, method)
    assert difference.value[0] == pytest.approx(treated - control, rel=1e-9)


@pytest.mark.parametrize(
    ("measure", "method"),
    [("ratio", "aipw"), ("odds_ratio", "hajek"), ("difference", "tmle"), ("ratio", "tmle")],
)
def test_std_error_against_the_jackknife(binary, make_scores, measure, method):
    binary["cluster"] = np.arange(90)
    found = average_effect(make_scores(binary), method=method, measure=measure)
    values = np.log if measure != "difference" else np.asarray
    left = [
        average_effect(make_scores(binary.drop(index=unit)), method=method, measure=measure)
        for unit in binary.index
    ]
    drawn = values(np.array([one.value[0] for one in left]))
    jackknife = np.sqrt(89 / 90 * np.sum((drawn - drawn.mean()) ** 2))
    own = found.std_error[0] / (1 if measure == "difference" else found.value[0])
    # terms of order 1 / n apart, as for the differences in test_average_effect
    assert own == pytest.approx(jackknife, rel=0.12)


def test_unadjusted_risk_ratio_against_a_poisson_regression(binary, make_scores):
    table = binary.drop(columns=["weight", "cluster"])
    found = average_effect(make_scores(table), method="difference_in_means", measure="ratio")
    design = sm.add_constant(table["treatment"])
    fit = sm.GLM(table["outcome"], design, family=sm.families.Poisson()).fit(cov_type="HC0")
    assert np.log(found.value[0]) == pytest.approx(fit.params["treatment"], rel=1e-8)
    factor = np.sqrt(90 / 88)
    own = found.std_error[0] / found.value[0]
    assert own == pytest.approx(fit.bse["treatment"] * factor, rel=1e-6)
    logistic = sm.Logit(table["outcome"], design).fit(disp=0, cov_type="HC0")
    odds = average_effect(make_scores(table), method="difference_in_means", measure="odds_ratio")
    assert np.log(odds.value[0]) == pytest.approx(logistic.params["treatment"], rel=1e-6)
    own = odds.std_error[0] / odds.value[0]
    assert own == pytest.approx(logistic.bse["treatment"] * factor, rel=1e-6)


def test_ratios_of_swapped_arms_are_inverse(binary, make_scores):
    swapped = binary.assign(
        treatment=1 - binary["treatment"],
        propensity=1 - binary["propensity"],
        outcome_control=binary["outcome_treated"],
        outcome_treated=binary["outcome_control"],
    )
    one, other = (average_effect(make_scores(p), measure="ratio") for p in (binary, swapped))
    assert one.value[0] == pytest.approx(1 / other.value[0])
    assert one.p_value[0] == pytest.approx(other.p_value[0])
    np.testing.assert_allclose(one.confint()[0], 1 / other.confint()[0][::-1])
    assert one.terms == ("ate ratio",)
    assert one.summary().startswith("Ratio of means: average effect on all units")


def test_measures_that_are_not_defined(parts, binary, make_scores):
    with pytest.raises(OverlapError, match=r"mean outcomes above 0; the one without treatment"):
        average_effect(make_scores(parts.assign(outcome=-1.0)), method="hajek", measure="ratio")
    with pytest.raises(OverlapError, match=r"between 0 and 1"):
        average_effect(make_scores(parts.assign(outcome=9.0)), measure="odds_ratio", method="hajek")
    with pytest.raises(ValueError, match=r"`measure` must be .* got 'risk'"):
        average_effect(make_scores(binary), measure="risk")
    for target, method in (("all", "plr"), ("overlap", "aipw")):
        with pytest.raises(ValueError, match=r"estimates a difference .* got measure='ratio'"):
            average_effect(make_scores(binary), target, method, measure="ratio")
    with pytest.raises(ValueError, match=r"adjusts for strata"):
        average_effect(
            make_scores(binary.assign(stratum=1)), method="difference_in_means", measure="ratio"
        )
    with pytest.raises(ValueError, match=r"no target='overlap'"):
        average_effect(make_scores(binary), "overlap", "tmle")


# -- overlap and small arms --------------------------------------------------------------------


def test_no_overlap_at_all(parts, make_scores):
    parts["propensity"] = np.where(parts["treatment"] == 1, 0.9, 0.1)
    scores = make_scores(parts)
    for method in ("aipw", "hajek", "ipw", "tmle"):
        with pytest.raises(OverlapError, match=r"reach 0.1000, .* begin at 0.9000.*'overlap'"):
            average_effect(scores, method=method)
    assert np.isfinite(average_effect(scores, "overlap").value[0])
    assert np.isfinite(average_effect(scores, method="difference_in_means").value[0])
    # one control with a propensity like that of the treated is enough to estimate something
    parts.loc[parts["treatment"] == 0, "propensity"] = np.r_[
        0.95, np.full(int((parts["treatment"] == 0).sum()) - 1, 0.1)
    ]
    assert np.isfinite(average_effect(make_scores(parts)).value[0])


def test_a_constant_propensity_overlaps(parts, make_scores):
    assert np.isfinite(average_effect(make_scores(parts.assign(propensity=0.5))).value[0])


def test_five_treated_units_are_told(parts, make_scores):
    parts["treatment"] = (np.arange(90) < 5).astype(float)
    found = average_effect(make_scores(parts))
    assert any(note.startswith("only 5 treated units") for note in found.notes)


def test_negative_and_zero_weights_are_refused(parts, make_scores):
    with pytest.raises(ValueError, match=r"must not be negative, nor all zero"):
        make_scores(parts.assign(weight=0.0))
    with pytest.raises(ValueError, match=r"smallest is -1"):
        make_scores(parts.assign(weight=np.where(np.arange(90) == 3, -1.0, 1.0)))


def test_scores_without_arms_need_no_overlap(rng):
    import pandas as pd

    scores = Scores.from_dataframe(pd.DataFrame({"score": rng.normal(size=20)}))
    assert np.isfinite(average_effect(scores).value[0])
