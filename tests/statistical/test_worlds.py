"""Over many draws, a simulated trial tells the truth on average.

Each check is a two-sided t or chi-square test of a true statement; it alarms falsely once in
100,000 runs. Seeds are fixed, so a failure is a change of the code.
"""

import numpy as np
import pytest
from scipy import stats

from terracausal.simulate import WorldSettings, simulate_landscape, simulate_study

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
