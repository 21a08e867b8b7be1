"""Observational worlds keep the identities that their description promises, for every seed."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import integrate, stats
from scipy.special import expit, logit

from terracausal.simulate import ConfoundingSettings, KernelSettings, WorldSettings, simulate_study
from terracausal.simulate.confounding import mean_logistic
from terracausal.simulate.places import smooth_field

TOLERANCE = {"rtol": 0, "atol": 1e-12}


def draw(random_state=0, **changes):
    arguments = {
        name: changes.pop(name) for name in ("n_sites", "units_per_site") if name in changes
    }
    return simulate_study(
        "tutorial",
        **{"n_sites": 60, "size_px": 4, **arguments},
        settings=ConfoundingSettings(**changes),
        random_state=random_state,
    )


def test_outcome_surfaces_and_propensity_obey_their_formulas(seed):
    fields = {"field_in_treatment": 0.4, "field_in_outcome": 0.7}
    data = draw(seed, effect_slope=0.5, propensity_strength=1.3, site_sd=0.4, **fields)
    truth, table = data.truth, data.study.table
    control = truth["confounder"] + table["x1"] + table["x2"] + 0.7 * truth["field"]
    np.testing.assert_allclose(truth["outcome_control"], control, **TOLERANCE)
    np.testing.assert_allclose(truth["effect"], 2 + 0.5 * truth["confounder"], **TOLERANCE)
    np.testing.assert_allclose(truth["outcome_treated"], control + truth["effect"], **TOLERANCE)
    log_odds = 1.3 * (control - 0.3 * truth["field"])
    np.testing.assert_allclose(logit(truth["propensity"]), log_odds, atol=1e-9)
    outcome = control + truth["effect"] * table["treatment"] + truth["site_effect"] + truth["noise"]
    np.testing.assert_allclose(table["outcome"], outcome, **TOLERANCE)
    pd.testing.assert_index_equal(truth.index, data.study.units)


def test_red_shows_the_visible_part_and_nothing_else_does():
    data = draw(unseen_share=0.4)
    visible = data.truth["visible"].to_numpy()
    red = np.array([data.chips[site][0, 0] for site in data.chips.keys])
    expected = (visible - visible.min()) / np.ptp(visible)
    # the stripes of the first images fade: log(2)^u is 1 at u = 0, at most a share 1 / i away
    np.testing.assert_allclose(red[40:, -1, 0], expected[40:], atol=0.01)
    assert np.ptp(red, axis=2).max() == 0
    assert np.corrcoef(visible, data.truth["confounder"])[0, 1] < 0.99
    assert draw().truth["visible"].equals(draw().truth["confounder"])


def test_stripes_follow_the_number_of_the_image():
    data = draw(n_sites=40)
    for number, site in enumerate(data.chips.keys, start=1):
        chip = data.chips[site][0]
        base = np.log1p(np.arange(1, 5) / 4)
        ratio = chip[1] / chip[2]
        np.testing.assert_allclose(ratio, ratio[0, 0], rtol=1e-5)
        exponent = np.log(chip[1, :, 0] / chip[1, -1, 0])
        # between two rows u log(base) differs by at most its largest value
        assert np.abs(exponent).max() <= np.abs(np.log(base)).max() / number + 1e-5


def test_a_change_of_one_setting_leaves_the_other_causes_alone():
    base = draw()
    louder, larger = draw(noise_sd=3.0), draw(average_effect=5.0)
    treatment = base.study.table["treatment"]
    assert treatment.equals(louder.study.table["treatment"])
    np.testing.assert_allclose(louder.truth["noise"], 3 * base.truth["noise"], **TOLERANCE)
    gap = larger.study.outcome - base.study.outcome
    np.testing.assert_allclose(gap, 3 * treatment, **TOLERANCE)
    moved = draw(field_in_treatment=1.0)
    assert base.truth["field"].equals(moved.truth["field"])
    assert not treatment.equals(moved.study.table["treatment"])


def test_same_seed_same_table():
    one, again, other = draw(3), draw(3), draw(4)
    pd.testing.assert_frame_equal(one.study.table, again.study.table)
    np.testing.assert_array_equal(one.chips["s0005"], again.chips["s0005"])
    assert not np.allclose(one.study.outcome, other.study.outcome)


def test_whole_sites_are_assigned_when_asked_for():
    data = draw(n_sites=40, units_per_site=5, assignment="site", site_sd=0.5)
    by_site = data.study.table.groupby("site")
    for name in ("treatment", "x1", "x2"):
        assert by_site[name].nunique().eq(1).all()
    assert by_site["outcome"].nunique().eq(5).all()
    assert data.study.n_clusters == 40
    assert data.truth["site_effect"].groupby(data.study.table["site"]).nunique().eq(1).all()
    by_unit = draw(n_sites=40, units_per_site=5).study.table.groupby("site")
    assert by_unit["treatment"].nunique().max() == 2
    assert by_unit["x1"].nunique().eq(5).all()


def test_true_effects_weigh_units_as_their_targets_do():
    data = draw(effect_slope=1.0, n_sites=300)
    tau, e = data.truth["effect"].to_numpy(), data.truth["propensity"].to_numpy()
    expected = {
        "all": tau.mean(),
        "treated": (e * tau).sum() / e.sum(),
        "control": ((1 - e) * tau).sum() / (1 - e).sum(),
        "overlap": (e * (1 - e) * tau).sum() / (e * (1 - e)).sum(),
    }
    for target, value in expected.items():
        assert data.true_effect(target) == pytest.approx(value, abs=1e-12)
    assert expected["control"] < expected["all"] < expected["treated"]
    assert data.average_effect == data.true_effect()
    half = replace(data, study=data.study.subset(np.arange(300) < 150))
    assert half.average_effect == pytest.approx(tau[:150].mean(), abs=1e-12)
    with pytest.raises(ValueError, match="got 'everyone'"):
        data.true_effect("everyone")


def test_strength_violates_overlap():
    usual, strong = (draw(propensity_strength=s, n_sites=400).truth["propensity"] for s in (1, 4))
    extreme = [((e < 0.02) | (e > 0.98)).mean() for e in (usual, strong)]
    assert extreme[0] < 0.1 < 0.4 < extreme[1]


@pytest.mark.parametrize("noise_sd", [0.0, 0.1, 1.0])
def test_mean_logistic_is_the_integral(noise_sd):
    log_odds = np.array([-3.0, 0.0, 0.4, 5.0])
    expected = [
        integrate.quad(lambda z, a=a: expit(a + noise_sd * z) * stats.norm.pdf(z), -9, 9)[0]
        for a in log_odds
    ]
    # 15 nodes are exact up to degree 29; what is left of a logistic curve at noise 1 is below 1e-6
    np.testing.assert_allclose(mean_logistic(log_odds, noise_sd), expected, atol=1e-6)


def test_fields_have_the_correlation_that_was_asked_for():
    metres = np.array([[0.0, 0.0], [30_000.0, 0.0], [0.0, 90_000.0]])
    rng = np.random.default_rng(0)
    n_draws = 4000
    fields = np.array([smooth_field(metres, 30_000.0, rng) for _ in range(n_draws)])
    found = np.mean(fields[:, :1] * fields, axis=0)
    expected = np.exp(-(np.array([0.0, 1.0, 3.0]) ** 2) / 2)
    # products of normal numbers have variance 1 + rho²; alarms once in 100,000 runs
    limit = stats.norm.isf(5e-6 / 3) * np.sqrt((1 + expected**2) / n_draws)
    assert (np.abs(found - expected) < 1.05 * limit).all()  # 400 waves: 1 / 200 more variance


def test_spatial_noise_replaces_the_unit_s_own():
    own, patchy = (draw(spatial_noise_share=s, n_sites=500) for s in (0.0, 1.0))
    assert own.truth["noise"].std() == pytest.approx(1.0, abs=0.2)
    lon = own.study.table["lon"].to_numpy()
    lat = own.study.table["lat"].to_numpy()
    distance = np.hypot(lon[:, None] - lon, lat[:, None] - lat) + 99 * np.eye(500)
    nearest = distance.argmin(axis=1)
    alike = [np.corrcoef(d.truth["noise"], d.truth["noise"].to_numpy()[nearest])[0, 1]
             for d in (own, patchy)]  # fmt: skip
    assert alike[0] < 0.3 < 0.8 < alike[1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"noise_sd": -1.0}, "`noise_sd` must be finite and not negative; got -1.0"),
        ({"propensity_strength": -1.0}, "`propensity_strength` must be .* got -1.0"),
        ({"unseen_share": 1.5}, "`unseen_share` must lie in 0 to 1; got 1.5"),
        ({"spatial_noise_share": float("nan")}, "`spatial_noise_share` must lie .* got nan"),
        ({"range_m": 0.0}, "`range_m` must be a finite number above 0; got 0.0"),
        ({"effect_slope": float("inf")}, "`effect_slope` must be finite; got inf"),
        ({"assignment": "village"}, "must be one of 'site', 'unit'; got 'village'"),
    ],
)
def test_bad_settings_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        ConfoundingSettings(**arguments)


def test_settings_of_another_world_are_refused(landscape):
    for settings in (WorldSettings(), KernelSettings()):
        with pytest.raises(ValueError, match="'tutorial' takes ConfoundingSettings; got"):
            simulate_study("tutorial", n_sites=8, settings=settings)
    with pytest.raises(ValueError, match="paints its own images"):
        simulate_study("tutorial", n_sites=8, landscape=landscape)
    with pytest.raises(TypeError, match="needs the layers of a Landscape; got ndarray"):
        simulate_study(n_sites=8, landscape=np.ones((64, 64)))


def test_description_says_what_confounds():
    text = draw(unseen_share=0.3, field_in_outcome=1.0, propensity_strength=2.0).describe()
    for words in ("not randomised", "30% of the confounder is not in the image", "smooth field"):
        assert words in text
