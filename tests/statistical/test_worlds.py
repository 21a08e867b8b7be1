"""Over many draws, a simulated trial tells the truth on average.

Each check is a two-sided t or chi-square test of a true statement; it alarms falsely once in
100,000 runs. Seeds are fixed, so a failure is a change of the code.
"""

import numpy as np
import pytest
from scipy import integrate, stats

from terracausal.nuisance.scores import aipw_scores
from terracausal.simulate import (
    ConfoundingSettings,
    KernelSettings,
    WorldSettings,
    simulate_landscape,
    simulate_study,
)
from terracausal.simulate.confounding import mean_logistic

pytestmark = pytest.mark.statistical

N_DRAWS = 200
FALSE_ALARM = 1e-5
SETTINGS = {"average_effect": 0.8, "effect_sd": 0.6}


@pytest.fixture(scope="module")
def landscape():
    return simulate_landscape(256, random_state=0)


def check_mean(draws, expected):
    """Compare the mean of independent draws with its expectation, within the Monte Carlo error."""
    std_error = np.std(draws, ddof=1) / np.sqrt(len(draws))
    limit = stats.t.isf(FALSE_ALARM / 2, len(draws) - 1) * std_error
    assert limit < 0.2, "the test could not tell the effect from its double"
    assert abs(np.mean(draws) - expected) < limit


@pytest.mark.parametrize("assignment", ["site", "unit"])
def test_a_trial_recovers_the_average_effect_and_its_modification(landscape, assignment):
    settings = WorldSettings(**SETTINGS, assignment=assignment)
    differences, slopes = [], []
    for random_state in range(N_DRAWS):
        data = simulate_study(
            n_sites=41,
            units_per_site=2,
            size_px=16,
            landscape=landscape,
            settings=settings,
            random_state=random_state,
        )
        outcome = data.study.outcome.to_numpy()
        treatment = data.study.treatment.to_numpy()
        treated, control = outcome[treatment == 1], outcome[treatment == 0]
        differences.append(treated.mean() - control.mean())
        # E[2 (2W - 1) Y | modifier] is the effect, so its mean product is effect_sd
        modifier = data.truth["modifier"].to_numpy()
        slopes.append(np.mean(2 * (2 * treatment - 1) * outcome * modifier))
    check_mean(differences, SETTINGS["average_effect"])
    check_mean(slopes, SETTINGS["effect_sd"])


def test_noise_and_site_effects_have_the_spread_that_was_asked_for(landscape):
    settings = WorldSettings(site_sd=0.3, noise_sd=2.0)
    data = simulate_study(
        n_sites=400,
        units_per_site=2,
        size_px=8,
        landscape=landscape,
        settings=settings,
        random_state=0,
    )
    noise = data.truth["noise"].to_numpy()
    site_effect = data.truth["site_effect"].to_numpy()[::2]
    for values, spread in ((noise, 2.0), (site_effect, 0.3)):
        low, high = stats.chi2.ppf([FALSE_ALARM / 2, 1 - FALSE_ALARM / 2], len(values))
        assert low < np.sum((values / spread) ** 2) < high


def arms(data):
    table = data.study.table
    return table["outcome"].to_numpy(), table["treatment"].to_numpy(dtype=float)


def naive(data):
    y, w = arms(data)
    return y[w == 1].mean() - y[w == 0].mean()


def oracle(data, target):
    """AIPW with the true nuisances, weighted to the target by its true tilting function."""
    y, w = arms(data)
    e, mu0, mu1 = (
        data.truth[name].to_numpy() for name in ("propensity", "outcome_control", "outcome_treated")
    )
    tilt = {"all": np.ones_like(e), "treated": e, "overlap": e * (1 - e)}[target]
    return np.average(aipw_scores(y, w, e, mu0, mu1), weights=tilt)


N_OBSERVATIONAL = 120
OBSERVATIONAL = {
    "tutorial": ("tutorial", ConfoundingSettings(effect_slope=0.5)),
    "unseen, field, patches": (
        "tutorial",
        ConfoundingSettings(
            unseen_share=0.5,
            field_in_treatment=0.8,
            field_in_outcome=0.8,
            spatial_noise_share=0.5,
        ),
    ),
    "whole sites": (
        "tutorial",
        ConfoundingSettings(assignment="site", site_sd=0.5, effect_slope=0.5),
    ),
    "kernel": ("kernel", KernelSettings(effect_slope=0.3, treatment_noise_sd=0.5)),
    "mean of the pattern": ("kernel", KernelSettings(pooling="mean", width_px=4)),
}


@pytest.fixture(scope="module", params=list(OBSERVATIONAL))
def draws(request):
    world, settings = OBSERVATIONAL[request.param]
    raster = np.random.default_rng(0).random((120, 120), dtype=np.float32)
    return [
        simulate_study(
            world,
            n_sites=150,
            units_per_site=2 if request.param == "whole sites" else 1,
            size_px=12,
            landscape=raster if world == "kernel" else None,
            settings=settings,
            random_state=number,
        )
        for number in range(N_OBSERVATIONAL)
    ]


def test_true_propensities_are_those_of_the_treatment(draws):
    for moment in (np.ones_like, lambda e: e, lambda e: (e > 0.5).astype(float)):
        gaps = []
        for data in draws:
            e, (_, w) = data.truth["propensity"].to_numpy(), arms(data)
            gaps.append(np.mean(moment(e) * (w - e)))
        check_mean(gaps, 0.0)


@pytest.mark.parametrize("target", ["all", "treated", "overlap"])
def test_the_oracle_is_unbiased_for_every_target(draws, target):
    check_mean([oracle(data, target) - data.true_effect(target) for data in draws], 0.0)


def test_the_naive_bias_is_what_the_true_propensities_say(draws):
    gaps = []
    for data in draws:
        e, control, effect = (
            data.truth[name].to_numpy() for name in ("propensity", "outcome_control", "effect")
        )
        treated = np.average(control + effect, weights=e)
        gaps.append(naive(data) - treated + np.average(control, weights=1 - e))
    # a ratio of sums is off by a term of order 1 / n_sites, whose derived size is below 0.02
    assert (
        abs(np.mean(gaps))
        < 0.02 + stats.norm.isf(FALSE_ALARM / 2) * np.std(gaps) / len(gaps) ** 0.5
    )


def bias_of_normal_confounding(variance, noise_sd=0.0):
    """Return the naive bias where log odds and outcome share one normal sum: an integral."""

    def mean(weight):
        density = stats.norm(scale=np.sqrt(variance)).pdf
        parts = [
            integrate.quad(lambda s, k=k: s**k * weight(s) * density(s), -12, 12)[0] for k in (1, 0)
        ]
        return parts[0] / parts[1]

    def treated(s):
        return mean_logistic(np.array([s]), noise_sd)[0]

    return mean(treated) - mean(lambda s: 1 - treated(s))


def test_the_tutorial_is_biased_by_1_97():
    bias = bias_of_normal_confounding(3.0)
    assert bias == pytest.approx(1.97, abs=0.01)
    draws = [naive(simulate_study("tutorial", size_px=1, random_state=k)) for k in range(60)]
    check_mean(draws, 2 + bias)


def test_the_kernel_world_is_biased_by_0_82_where_responses_are_normal():
    """White noise through a pattern of 64 pixels is normal but for an excess kurtosis of -0.1."""
    bias = bias_of_normal_confounding(1.0, noise_sd=0.1)
    assert bias == pytest.approx(0.825, abs=0.01)
    raster = np.random.default_rng(0).random((300, 300), dtype=np.float32)
    settings = KernelSettings(pooling="pixel")
    arguments = {"n_sites": 1000, "size_px": 12, "landscape": raster, "settings": settings}
    draws = [naive(simulate_study("kernel", **arguments, random_state=k)) for k in range(40)]
    check_mean(draws, 1 + bias)
