"""Identities of the densities: brute force over all types, Pyro, derivatives, refits."""

import copy
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
    weighted_answers,
)
from terracausal.mixtures.labels import match_components
from terracausal.mixtures.layout import (
    SMALLEST_SD,
    parameter_blocks,
    relabel,
)
from terracausal.mixtures.optimise import hessian, minimise, polish, value_and_gradient
from terracausal.mixtures.outcomes import FAMILIES, OutcomeScale
from terracausal.mixtures.posterior import pyro_program
from terracausal.mixtures.settings import MixtureSpec
from terracausal.mixtures.uncertainty import (
    bootstrap_answers,
    degrees_of_freedom_factor,
    match_covariance,
    refit_covariance,
    site_influence,
)

FLOOR = -0.5
SCALES = {
    "left_censored": OutcomeScale(0.0, 1.0, FLOOR),
    "log_normal": OutcomeScale(0.4, 0.5, log=True),
    "zero_inflated": OutcomeScale(0.4, 0.5, 0.0, log=True),
    "poisson": OutcomeScale(0.0, 1.0, offset=0.7),
    "negative_binomial": OutcomeScale(0.0, 1.0, offset=0.7),
}


def scale_of(family):
    return SCALES.get(family, OutcomeScale(0.0, 1.0))


def make_table(rng, n_sites=3, n_units=8, family="normal", n_modifiers=0):
    site = np.sort(
        np.concatenate([np.arange(n_sites), rng.integers(0, n_sites, n_units - n_sites)])
    )
    observed = rng.normal(size=n_units)
    if family == "left_censored":
        observed = np.maximum(observed, FLOOR)
    if family == "bernoulli":
        observed = (observed > 0).astype(float)
    if family in ("log_normal", "zero_inflated"):
        observed = np.exp(observed)
    if family == "zero_inflated":
        observed = np.where(rng.random(n_units) < 0.4, 0.0, observed)
    if family in ("poisson", "negative_binomial"):
        observed = rng.poisson(2.0, n_units).astype(float)
    scale = scale_of(family)
    treatment = rng.integers(0, 2, n_units).astype(float)
    return MixtureTable(
        observed=observed,
        outcome=scale.standardise(observed),
        treatment=treatment,
        dose=treatment,
        weight=np.ones(n_units),
        at_floor=scale.at_floor(observed),
        baseline=np.column_stack([np.ones(n_units), rng.normal(size=n_units)]),
        modifier=rng.normal(size=(n_units, n_modifiers)),
        site=site,
        image=np.column_stack([np.ones(n_sites), rng.normal(size=n_sites)]),
        cluster=np.arange(n_sites),
        sites=pd.RangeIndex(n_sites),
    )


def make_density(
    rng, family="normal", n_components=2, noise="arm", table=None, baseline="shared", **size
):
    table = make_table(rng, family=family, **size) if table is None else table
    spec = MixtureSpec(n_components, family, noise, baseline=baseline)
    blocks = parameter_blocks(table, spec)
    return MixtureDensity(table, blocks, family, scale_of(family))


def by_name(density, point):
    return {
        b.name: density.part(torch.tensor(point)[None], b.name)[0].numpy() for b in density.blocks
    }


def log_unit(family, y, eta, odds, sd, parts):
    """Log density of outcomes in their own units, by scipy; odds of lying above the floor."""
    scale = scale_of(family)
    if family == "bernoulli":
        return stats.bernoulli.logpmf(y, 1 / (1 + np.exp(-eta)))
    if family == "poisson":
        return stats.poisson.logpmf(y, np.exp(scale.offset + eta))
    if family == "negative_binomial":
        size = np.exp(parts["log_size"][0])
        mean = np.exp(scale.offset + eta)
        return stats.nbinom.logpmf(y, size, size / (size + mean))
    if family == "student_t":
        return stats.t.logpdf(y, 2 + np.exp(parts["log_df"][0]), eta, sd)
    if family == "left_censored":
        inside = stats.norm.logpdf(y, eta, sd)
        return np.where(y <= FLOOR, stats.norm.logcdf(FLOOR, eta, sd), inside)
    # zero_inflated
    law = stats.lognorm(scale.spread * sd, scale=np.exp(scale.centre + scale.spread * eta))
    above = 1 / (1 + np.exp(-odds))
    return np.where(y == 0, np.log1p(-above), np.log(above) + law.logpdf(np.maximum(y, 1e-300)))


def log_site_given_type(table, parts, family, s, k):
    rows = table.site == s
    y, w = table.observed[rows], table.treatment[rows].astype(int)
    mean = table.baseline[rows] @ parts["baseline"] + w * parts["effect"][k]
    mean = mean + parts.get("baseline_shift", np.zeros(k + 1))[k]
    sd, odds = None, None
    if "log_sd" in parts:
        by_arm = SMALLEST_SD + np.exp(parts["log_sd"])
        sd = by_arm[w, k if by_arm.shape[1] > 1 else 0]
    if "odds_baseline" in parts:
        odds = table.baseline[rows] @ parts["odds_baseline"] + w * parts["odds_effect"][k]
        odds = odds + parts.get("odds_baseline_shift", np.zeros(k + 1))[k]
    if family not in ("normal", "log_normal"):
        return log_unit(family, y, mean, odds, sd, parts).sum()
    scale, volume = scale_of(family), 0.0
    if family == "log_normal":
        volume = -np.log(y).sum()
        y = np.log(y)
    cover = scale.spread**2 * (np.diag(sd**2) + np.exp(2 * parts["log_site_sd"][0]))
    return volume + stats.multivariate_normal.logpdf(y, scale.centre + scale.spread * mean, cover)


@pytest.mark.parametrize(
    ("noise", "baseline"),
    [("arm", "shared"), ("arm_and_component", "shared"), ("arm", "by_type")],
)
@pytest.mark.parametrize("family", FAMILIES)
def test_the_likelihood_is_that_of_all_assignments_of_types(family, noise, baseline, rng):
    table = make_table(np.random.default_rng(1), family=family)
    density = make_density(rng, family, 3, noise, table, baseline)
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
    found += scale_of(family).log_volume(table.observed).sum()
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


def moments_of(family, eta, odds, sd, parts):
    """Expected outcome and its variance, by numerical integration or sums over scipy's laws."""
    if family in ("bernoulli", "poisson", "negative_binomial"):
        y = np.arange(2.0 if family == "bernoulli" else 400.0)
        chance = np.exp(log_unit(family, y, eta, odds, sd, parts))
        mean = (y * chance).sum()
        return mean, ((y - mean) ** 2 * chance).sum()
    if family == "log_normal":
        scale = scale_of(family)
        wide = scale.spread * np.sqrt(sd**2 + np.exp(2 * parts["log_site_sd"][0]))
        return stats.lognorm(wide, scale=np.exp(scale.centre + scale.spread * eta)).stats("mv")
    if family == "normal":
        return eta, sd**2 + np.exp(2 * parts["log_site_sd"][0])
    low, extra = (0.0, 0.0) if family == "zero_inflated" else (-np.inf, 0.0)
    if family == "left_censored":
        low, extra = FLOOR, stats.norm.cdf(FLOOR, eta, sd)

    def law(y):
        return float(np.exp(log_unit(family, np.array([y]), eta, odds, sd, parts))[0])

    first, second = (
        integrate.quad(lambda y, p=p: y**p * law(y), low + 1e-12, np.inf, limit=200)[0]
        for p in (1, 2)
    )
    mean = first + extra * FLOOR
    return mean, second + extra * FLOOR**2 - mean**2


@pytest.mark.parametrize("family", FAMILIES)
def test_effects_are_differences_of_expected_outcomes_and_draws_have_these(family, rng):
    table = make_table(np.random.default_rng(3), family=family)
    density = make_density(rng, family, 1, table=table)
    point = rng.normal(scale=0.3, size=density.n_parameters)
    parts = by_name(density, point)
    arms = []
    for arm in (0, 1):
        sd = None if "log_sd" not in parts else SMALLEST_SD + np.exp(parts["log_sd"][arm, 0])
        eta = table.baseline @ parts["baseline"] + arm * parts["effect"][0]
        odds = np.zeros(len(eta))
        if "odds_baseline" in parts:
            odds = table.baseline @ parts["odds_baseline"] + arm * parts["odds_effect"][0]
        both = zip(eta, odds, strict=True)
        arms.append(np.array([moments_of(family, e, o, sd, parts) for e, o in both]))
    wanted = np.mean(arms[1][:, 0] - arms[0][:, 0])
    found = component_answers(density, torch.tensor(point))
    assert found[0] == pytest.approx(wanted, rel=1e-6)
    assert found[1:].tolist() == pytest.approx([wanted, 1.0], rel=1e-6)
    n_draws = 4_000
    generator = torch.Generator().manual_seed(1)
    drawn = density.draw_outcomes(torch.tensor(point).expand(n_draws, -1), generator).numpy()
    mean, variance = np.where(table.treatment[:, None] == 1, arms[1], arms[0]).T
    # 16 means of 4,000 draws; 1e-5 over all families
    z = np.abs(drawn.mean(axis=0) - mean) / np.sqrt(variance / n_draws)
    assert z.max() < stats.norm.isf(1e-5 / (2 * 8 * len(z)))


def test_an_effect_linear_in_modifiers_adds_to_the_dose(rng):
    table = make_table(np.random.default_rng(3), n_modifiers=2)
    density = make_density(rng, table=table)
    point = rng.normal(size=density.n_parameters)
    parts = by_name(density, point)
    effect = parts["effect"] + table.modifier @ parts["effect_slope"].T
    found = density.unit_effects(torch.tensor(point)[None])[0].numpy()
    np.testing.assert_allclose(found, effect, rtol=1e-12)
    # as if the baseline of each unit held its own effect
    other, parts["effect"] = replace(table, modifier=np.empty((8, 0))), np.zeros(2)
    for k in (0, 1):
        moved = replace(other, outcome=table.outcome - table.dose * effect[:, k])
        plain = make_density(rng, table=moved)
        kept = np.concatenate([parts[b.name].ravel() for b in plain.blocks])
        mine = density.log_units(torch.tensor(point)[None])[0, :, k]
        np.testing.assert_allclose(mine, plain.log_units(torch.tensor(kept)[None])[0, :, k])


@pytest.mark.parametrize("baseline", ["shared", "by_type"])
@pytest.mark.parametrize("n_components", [1, 3])
def test_residuals_are_centred_at_what_was_expected(n_components, baseline, rng):
    table = make_table(np.random.default_rng(5))
    blocks = parameter_blocks(table, MixtureSpec(n_components, baseline=baseline))
    plain = MixtureDensity(table, blocks, "normal")
    point = torch.tensor(rng.normal(size=(1, plain.n_parameters)))
    own = {block.name: plain.part(point, block.name)[0].numpy() for block in blocks}
    propensity = rng.random(8)[:, None]
    of_type = own.get("baseline_shift", 0.0) + propensity * own["effect"]
    chance = torch.exp(plain.log_membership(point))[0].numpy()
    expected = (chance[table.site] * of_type).sum(axis=1)
    moved = replace(
        table, outcome=table.outcome - expected, dose=table.treatment - propensity[:, 0]
    )
    density = MixtureDensity(moved, blocks, "normal")
    np.testing.assert_allclose(density.log_units(point), plain.log_units(point))
    some = np.array([0, 2])
    np.testing.assert_allclose(
        density.at(some).log_sites(point)[0], plain.log_sites(point)[0, some]
    )
    np.testing.assert_allclose(density.unit_effects(point), plain.unit_effects(point))


def test_parts_of_sites_add_up(rng, monkeypatch):
    density = make_density(rng, n_sites=20, n_units=70)
    points = torch.tensor(rng.normal(size=(3, density.n_parameters)))
    weight = torch.tensor(rng.random((3, 20)))
    objective = negative_log_density(density, weight)
    rows = torch.arange(3)
    whole = [*value_and_gradient(objective, points, rows), hessian(objective, points[0])]
    whole += [weighted_answers(density, points, weight), density.log_sites(points)]
    monkeypatch.setattr("terracausal.mixtures.density._UNITS_AT_ONCE", 30)
    assert len(density.parts(3)) > 5
    parts = [*value_and_gradient(objective, points, rows), hessian(objective, points[0])]
    some = [part.log_sites(points) for _, part in density.parts()]
    parts += [weighted_answers(density, points, weight), torch.cat(some, dim=1)]
    for one, other in zip(whole, parts, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9)
    chosen = np.array([7, 2, 11])
    found = density.at(chosen).log_sites(points)
    np.testing.assert_allclose(found, density.log_sites(points)[:, chosen], rtol=1e-12)


def test_images_of_a_network_take_the_place_of_the_linear_ones(rng):
    density = make_density(rng)
    point = torch.tensor(rng.normal(size=density.n_parameters))[None]
    logits = torch.einsum("sd,kd->sk", density._image, density.part(point, "membership")[0])
    same = density.with_images(logits, torch.zeros(3, dtype=torch.float64))
    np.testing.assert_allclose(same.log_sites(point), density.log_sites(point), rtol=1e-12)
    moved = density.with_images(logits, torch.ones(3, dtype=torch.float64))
    shifted = copy.copy(density)
    shifted._outcome = density._outcome - 1
    np.testing.assert_allclose(moved.log_sites(point), shifted.log_sites(point), rtol=1e-9)


def test_pyro_enumerates_the_same_likelihood(rng):
    import pyro
    from pyro import distributions as laws

    table = make_table(rng, n_sites=4, n_units=4)
    density = make_density(rng, n_components=3, table=table)
    point = torch.tensor(rng.normal(size=density.n_parameters))[None]
    mean = density._predictors(point, density._dose)[0][0]
    sd = torch.exp(density._noise(point, density._treatment.long()).log_sd)[0]

    def program():
        with pyro.plate("sites", 4):
            logits = density.log_membership(point)[0]
            kind = pyro.sample(
                "type", laws.Categorical(logits=logits), infer={"enumerate": "parallel"}
            )
            chosen = laws.Normal(pyro.ops.indexing.Vindex(mean)[torch.arange(4), kind], sd[:, 0])
            pyro.sample("outcome", chosen, obs=density._outcome)

    loss = pyro.infer.TraceEnum_ELBO(max_plate_nesting=1).loss(program, lambda: None)
    assert -loss == pytest.approx(density.log_sites(point).sum().item(), rel=1e-10)


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


def test_standard_errors_of_few_normal_refits_are_unbiased(rng):
    draws = rng.normal(size=(50, 2_000))
    found = np.sqrt(np.diag(refit_covariance(draws)))
    # the quantile method leaves 0.005 with 50 draws; numpy's default would leave -0.056
    error = found.std() / np.sqrt(len(found))
    assert found.mean() == pytest.approx(1, abs=0.01 + 4.5 * error)


@pytest.mark.parametrize("width", [1e-3, 1e3])
def test_degrees_of_freedom_count_what_the_sites_inform(rng, width):
    table = make_table(rng, n_sites=40, n_units=400)
    spec = MixtureSpec(1)
    blocks = parameter_blocks(table, spec)
    scaled = tuple(replace(b, scale=b.scale * width) for b in blocks)
    density = MixtureDensity(table, scaled, "normal")
    mode = find_mode(density, 1, rng)
    # one type: its logits are told by the priors alone; tight priors leave nothing to tell
    informed = sum(b.size for b in blocks if b.name != "membership") if width > 1 else 0
    wanted = 40 / (40 - informed)
    assert degrees_of_freedom_factor(density, mode) == pytest.approx(wanted, rel=1e-2)
