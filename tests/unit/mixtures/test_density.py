"""Identities of the densities: brute force over all types, Pyro, derivatives, refits."""

from dataclasses import replace
from itertools import product

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import integrate, stats

from terracausal.mixtures.density import MixtureDensity
from terracausal.mixtures.design import MixtureTable
from terracausal.mixtures.fitting import (
    component_answers,
    find_mode,
    negative_log_density,
    posterior_answers,
)
from terracausal.mixtures.labels import match_components
from terracausal.mixtures.layout import FAMILIES, NOISES, SMALLEST_SD, parameter_blocks, relabel
from terracausal.mixtures.optimise import minimise, polish
from terracausal.mixtures.uncertainty import (
    bootstrap_answers,
    match_covariance,
    refit_covariance,
    site_influence,
)
from terracausal.mixtures.variational import pyro_program

FLOOR = -0.5


def make_table(rng, n_sites=3, n_units=8, family="normal"):
    site = np.sort(
        np.concatenate([np.arange(n_sites), rng.integers(0, n_sites, n_units - n_sites)])
    )
    outcome = rng.normal(size=n_units)
    if family == "left_censored":
        outcome = np.maximum(outcome, FLOOR)
    if family == "bernoulli":
        outcome = (outcome > 0).astype(float)
    return MixtureTable(
        outcome=outcome,
        treatment=rng.integers(0, 2, n_units).astype(float),
        weight=np.ones(n_units),
        baseline=np.column_stack([np.ones(n_units), rng.normal(size=n_units)]),
        site=site,
        image=np.column_stack([np.ones(n_sites), rng.normal(size=n_sites)]),
        cluster=np.arange(n_sites),
        sites=pd.RangeIndex(n_sites),
    )


def make_density(rng, family="normal", n_components=2, noise="arm", **size):
    table = make_table(rng, family=family, **size)
    blocks = parameter_blocks(table, family, n_components, noise)
    return MixtureDensity(table, blocks, family, FLOOR if family == "left_censored" else None)


def by_name(density, point):
    return {
        b.name: density.part(torch.tensor(point)[None], b.name)[0].numpy() for b in density.blocks
    }


def log_site_given_type(table, parts, family, s, k):
    rows = table.site == s
    y, w = table.outcome[rows], table.treatment[rows].astype(int)
    mean = table.baseline[rows] @ parts["baseline"] + w * parts["effect"][k]
    if family == "bernoulli":
        return stats.bernoulli.logpmf(y, 1 / (1 + np.exp(-mean))).sum()
    by_arm = SMALLEST_SD + np.exp(parts["log_sd"])
    sd = by_arm[w, k if by_arm.shape[1] > 1 else 0]
    if family == "student_t":
        return stats.t.logpdf(y, 2 + np.exp(parts["log_df"][0]), mean, sd).sum()
    if family == "left_censored":
        inside = stats.norm.logpdf(y, mean, sd)
        return np.where(y <= FLOOR, stats.norm.logcdf(FLOOR, mean, sd), inside).sum()
    shared = np.exp(2 * parts["log_site_sd"][0])
    return stats.multivariate_normal.logpdf(y, mean, np.diag(sd**2) + shared)


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("family", FAMILIES)
def test_the_likelihood_is_that_of_all_assignments_of_types(family, noise, rng):
    density = make_density(rng, family, 3, noise)
    table = make_table(np.random.default_rng(1), family=family)
    density = MixtureDensity(table, density.blocks, family, FLOOR)
    point = rng.normal(size=density.n_parameters)
    parts = by_name(density, point)
    logits = table.image @ parts["membership"].T
    log_chance = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    total = 0.0
    for kinds in product(range(3), repeat=3):
        each = [
            log_chance[s, k] + log_site_given_type(table, parts, family, s, k)
            for s, k in enumerate(kinds)
        ]
        total += np.exp(sum(each))
    found = density.log_sites(torch.tensor(point)[None]).sum().item()
    assert found == pytest.approx(np.log(total), rel=1e-10)


@pytest.mark.parametrize("family", FAMILIES)
def test_pyro_sees_the_same_density(family, rng):
    import pyro

    density = make_density(rng, family)
    point = torch.tensor(rng.normal(size=density.n_parameters))
    values, start = {}, 0
    for block in density.blocks:
        values[block.name] = point[start : start + block.size]
        start += block.size
    trace = pyro.poutine.trace(pyro.condition(pyro_program, data=values)).get_trace(density)
    ones = torch.ones((1, density.n_sites), dtype=torch.float64)
    ours = -negative_log_density(density, ones)(point[None], torch.zeros(1, dtype=torch.long))
    assert trace.log_prob_sum().item() == pytest.approx(ours.item(), rel=1e-12)


def test_a_tiny_noise_does_not_break_the_shared_intercept(rng):
    # Woodbury's difference of squares would be lost to rounding here
    density = make_density(rng)
    point = torch.zeros((1, density.n_parameters), dtype=torch.float64)
    density.part(point, "log_site_sd")[:] = 20.0
    density.part(point, "log_sd")[:] = -30.0
    assert (density.log_units(point) < 1e3).all()


@pytest.mark.parametrize("family", FAMILIES)
def test_effects_are_differences_of_expected_outcomes(family, rng):
    density = make_density(rng, family, 1)
    table = make_table(np.random.default_rng(3), family=family)
    density = MixtureDensity(table, density.blocks, family, FLOOR)
    point = rng.normal(scale=0.5, size=density.n_parameters)
    parts = by_name(density, point)

    def expected(mean, arm):
        if family == "bernoulli":
            return 1 / (1 + np.exp(-mean))
        if family != "left_censored":
            return mean
        law = stats.norm(mean, SMALLEST_SD + np.exp(parts["log_sd"][arm, 0]))
        above, _ = integrate.quad(lambda y: y * law.pdf(y), FLOOR, np.inf)
        return FLOOR * law.cdf(FLOOR) + above

    means = table.baseline @ parts["baseline"]
    wanted = np.mean([expected(m + parts["effect"][0], 1) - expected(m, 0) for m in means])
    found = component_answers(density, torch.tensor(point))
    assert found[0] == pytest.approx(wanted, rel=1e-6)
    assert found[1:].tolist() == pytest.approx([wanted, 1.0], rel=1e-6)


def test_relabelled_parameters_have_the_same_density(rng):
    density = make_density(rng, n_components=3, noise="arm_and_component")
    point = rng.normal(size=density.n_parameters)
    order = np.array([2, 0, 1])
    other = relabel(point, density.blocks, order)
    both = torch.tensor(np.stack([point, other]))
    first, second = density.log_prior(both) + density.log_sites(both).sum(dim=1)
    assert first.item() == pytest.approx(second.item(), rel=1e-12)
    memberships = density.responsibilities(both).numpy()
    np.testing.assert_allclose(memberships[1], memberships[0][:, order])
    assert match_components(memberships[1], memberships[0]).tolist() == order.tolist()


# -- modes and how they move -------------------------------------------------------------------


def test_the_batch_finds_what_each_row_would(rng):
    def rosenbrock(points, rows):
        a = 1.0 + rows.to(points.dtype)
        x, y = points.T
        return (a - x) ** 2 + 20 * (y - x**2) ** 2

    points, values, done = minimise(
        rosenbrock, torch.zeros((3, 2), dtype=torch.float64), tolerance=1e-8
    )
    assert done.all()
    np.testing.assert_allclose(points.numpy(), [[1, 1], [2, 4], [3, 9]], rtol=1e-6)
    assert values.max() < 1e-10


@pytest.fixture(scope="module")
def fitted():
    """A mode of 60 sites, and its density."""
    rng = np.random.default_rng(5)
    density = make_density(rng, n_sites=60, n_units=240)
    outcome = density._outcome + 3.0 * density._treatment * (density._image[density._site, 1] > 0)
    density._outcome = (outcome - outcome.mean()) / outcome.std()
    return density, find_mode(density, 3, rng)


def test_influence_is_the_derivative_of_a_weighted_refit(fitted):
    density, mode = fitted
    found, step = site_influence(density, mode), 1e-4
    refits = []
    for s in range(8):
        for sign in (1, -1):
            weight = torch.ones((1, density.n_sites), dtype=torch.float64)
            weight[0, s] += sign * step
            objective = negative_log_density(density, weight)
            point, _ = polish(objective, mode.parameters)
            refits.append(density.answers(point[None], weight)[0].numpy())
    slopes = (np.array(refits[::2]) - np.array(refits[1::2])) / (2 * step)
    # influence is centred over sites, the slopes are not
    gap = slopes - found[:8]
    np.testing.assert_allclose(gap, np.broadcast_to(gap[0], gap.shape), atol=1e-6)


def test_components_are_in_order_of_their_effect(fitted):
    density, mode = fitted
    assert mode.converged
    effects = component_answers(density, mode.parameters)[:2]
    assert effects[0] < effects[1]


def test_a_point_that_is_no_mode_is_refused(fitted):
    mode = replace(fitted[1], curvature=-torch.eye(len(fitted[1].parameters)))
    with pytest.raises(FloatingPointError, match=r"The best of 3 restarts did not end at a mode"):
        _ = mode.inverse


def test_draws_in_parts_are_the_draws_together(fitted, monkeypatch):
    density, mode = fitted
    draws = mode.parameters + 0.1 * torch.randn(
        (7, len(mode.parameters)), dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    )
    together = posterior_answers(density, draws)
    monkeypatch.setattr("terracausal.mixtures.density._UNITS_AT_ONCE", 2 * 240)
    for one, other in zip(together, posterior_answers(density, draws), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12)


def test_equal_weights_of_clusters_give_the_mode_back(fitted):
    density, mode = fitted

    class Even:
        def dirichlet(self, alpha, size):
            return np.full((size, len(alpha)), 1 / len(alpha))

    draws, done = bootstrap_answers(density, mode, np.arange(60), 2, Even())
    assert done == 1
    np.testing.assert_allclose(draws, [component_answers(density, mode.parameters)] * 2, atol=1e-8)


def test_influence_takes_the_wanted_covariance(rng):
    influence = rng.normal(size=(50, 3))
    current = influence.T @ influence
    root = rng.normal(size=(3, 3))
    wanted = root @ root.T
    mapped = match_covariance(influence, current, wanted)
    np.testing.assert_allclose(mapped.T @ mapped, wanted, rtol=1e-9)
    np.testing.assert_allclose(match_covariance(influence, current, current), influence)


def test_standard_errors_of_refits_ignore_a_runaway(rng):
    draws = rng.normal(size=(4_000, 2)) @ np.array([[1.0, 0.5], [0.0, 1.0]])
    clean = refit_covariance(draws)
    draws[:20, 0] = 1e6
    spoiled = refit_covariance(draws)
    # 20 of 4,000 draws move the 95 % quantile of a normal by about 0.005 / (2 * 0.103) = 0.024
    assert np.sqrt(spoiled[0, 0] / clean[0, 0]) == pytest.approx(1, abs=0.05)
