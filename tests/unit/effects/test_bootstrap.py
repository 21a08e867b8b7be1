"""The refit bootstrap: what it draws, and that it tells two sources of noise apart."""

import warnings

import numpy as np
import pandas as pd
import pytest

from terracausal._foundation.errors import OverlapWarning
from terracausal.effects import (
    BootstrapEffect,
    average_effect,
    bootstrap_effect,
    regression_adjustment,
)
from terracausal.nuisance import Scores
from terracausal.study import Study

N = 80


@pytest.fixture
def study(rng):
    site = np.arange(N) // 4
    table = pd.DataFrame({"w": np.arange(N) % 2, "x": rng.normal(size=N), "site": site})
    table["y"] = table["w"] + rng.normal(size=20)[site] + rng.normal(size=N)
    return Study(table, outcome="y", treatment="w", covariates=["x"], site="site")


def difference(study, rng):
    table = pd.DataFrame({"score": 0.0, "outcome": study.outcome, "treatment": study.treatment})
    return average_effect(Scores.from_dataframe(table), method="difference_in_means")


def noisy(study, rng):
    """A mean whose fit adds noise of SD 0.5."""
    found = difference(study, rng)
    return found.__class__(
        found.value + rng.normal(scale=0.5, size=1),
        found.influence, found.frame, found.terms, found.estimand, found.method,
    )  # fmt: skip


def test_refits_do_not_repeat_the_warning(study):
    def warning(study, rng):
        warnings.warn("poor", OverlapWarning, stacklevel=2)
        return difference(study, rng)

    with pytest.warns(OverlapWarning) as told:
        bootstrap_effect(study, warning, n_draws=3, n_seeds=2, random_state=0)
    assert len(told) == 1


def test_total_is_the_cluster_bootstrap(study):
    found = bootstrap_effect(study, difference, n_draws=150, n_seeds=2, random_state=0)
    frame = study.frame
    plain = difference(study, None)
    clustered = plain.__class__(
        plain.value, plain.influence, frame, plain.terms, plain.estimand, plain.method
    )
    # an SD of 150 draws has a relative error of 1 / sqrt(300), and a bootstrap lacks the factor
    # G / (G - 1) of the clustered error, 5 % of the variance: four errors and 2.5 %
    assert found.std_error[0] == pytest.approx(clustered.std_error[0], rel=4 / np.sqrt(300) + 0.03)
    assert found.seed_sd[0] == 0
    assert found.sampling_sd[0] == found.std_error[0]
    assert found.value[0] == plain.value[0]
    assert f"assumes     {plain.assumptions[0]}" in found.summary()


def test_two_sources_of_noise(study):
    found = bootstrap_effect(study, noisy, n_draws=100, n_seeds=100, random_state=0)
    # relative errors of 1 / sqrt(200) for both SDs, five of them
    assert found.seed_sd[0] == pytest.approx(0.5, rel=5 / np.sqrt(200))
    plain = bootstrap_effect(study, difference, n_draws=100, n_seeds=2, random_state=1)
    total = np.hypot(plain.std_error[0], 0.5)
    assert found.std_error[0] == pytest.approx(total, rel=8 / np.sqrt(200))
    told = found.summary()
    assert f"seeds at fixed data {found.seed_sd[0]:.4f}" in told
    assert "100 resamples of 20 clusters, 100 seeds" in told


def test_same_seed_same_numbers_whatever_n_jobs(study):
    one, other = (
        # workers cannot import this module, so they get a function by value
        bootstrap_effect(
            study,
            lambda s, rng: regression_adjustment(s),
            n_draws=6,
            n_seeds=2,
            n_jobs=k,
            random_state=3,
        )
        for k in (1, 2)
    )
    np.testing.assert_array_equal(one.draws, other.draws)


def test_rows_in_any_order(study, rng):
    table = study.table.iloc[rng.permutation(N)]
    shuffled = Study(table, outcome="y", treatment="w", covariates=["x"], site="site")
    one, other = (
        bootstrap_effect(s, difference, n_draws=6, n_seeds=2, random_state=3)
        for s in (study, shuffled)
    )
    np.testing.assert_allclose(one.draws, other.draws, rtol=1e-12)


def test_the_default_refits_the_nuisances(study):
    found = bootstrap_effect(study, n_draws=2, n_seeds=2, random_state=0)
    assert found.seed_sd[0] > 0
    assert found.terms == ("ate",)


def test_any_estimator(study):
    found = bootstrap_effect(
        study, lambda s, rng: regression_adjustment(s), n_draws=20, n_seeds=2, random_state=0
    )
    assert found.to_dataframe().columns[-2:].tolist() == ["sampling_sd", "seed_sd"]
    assert found.plot().get_figure() is not None


def spread_of(draws):
    n_terms = draws.shape[1]
    terms = tuple(f"t{k}" for k in range(n_terms))
    value, seeds = np.zeros(n_terms), np.zeros((2, n_terms))
    return BootstrapEffect(value, draws, seeds, terms, "effect", "example", 100, 20)


def test_ends_are_the_ranks_that_hold_one_more_draw_at_the_level(rng):
    draws = rng.normal(size=(39, 4000))
    interval, ordered = spread_of(draws).confint(0.95), np.sort(draws, axis=0)
    # ranks 40 * 0.025 = 1 and 39; 40 * 0.05 = 2; 40 * 0.0375 = 1.5
    np.testing.assert_allclose(interval.T, ordered[[0, -1]], rtol=1e-12)
    np.testing.assert_allclose(spread_of(draws).confint(0.9).T, ordered[[1, -2]], rtol=1e-12)
    low = spread_of(draws).confint(0.925)[:, 0]
    np.testing.assert_allclose(low, (ordered[0] + ordered[1]) / 2, rtol=1e-12)
    # exactly 0.95 by exchangeability; a false alarm once in 100,000 is 4.42 binomial errors.
    # Ranks of 1 + 38 * 0.025, which NumPy takes by default, would hold 0.90
    new = rng.normal(size=4000)
    held = (interval[:, 0] <= new) & (new <= interval[:, 1])
    assert held.mean() == pytest.approx(0.95, abs=4.42 * np.sqrt(0.95 * 0.05 / 4000))


def test_too_few_draws_for_the_level_are_told(rng):
    told = "a 95% interval needs 39 draws or more"
    assert told in spread_of(rng.normal(size=(38, 1))).summary()
    assert told not in spread_of(rng.normal(size=(39, 1))).summary()


@pytest.mark.parametrize("option", ["n_draws", "n_seeds"])
def test_at_least_two(study, option):
    with pytest.raises(ValueError, match=rf"`{option}` must be .* got 1"):
        bootstrap_effect(study, difference, **{option: 1})
