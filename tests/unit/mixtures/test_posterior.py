"""How posteriors are sought: minibatches, chains, and what tells that a search went well."""

import numpy as np
import pytest
import torch
from scipy import stats

from terracausal.mixtures import EffectMixture, sampling
from terracausal.mixtures.fitting import find_mode, make_density
from terracausal.mixtures.pareto import pareto_shape
from terracausal.mixtures.posterior import (
    PosteriorSearch,
    alone,
    find_posterior,
    pyro_program,
)
from terracausal.mixtures.preparing import prepare
from terracausal.mixtures.variational import (
    _batches,
    _centred,
    _gradient_of,
    _gradient_ratio,
    _guide,
    _unit,
)


@pytest.fixture(scope="module")
def found(two_types):
    """A density of 60 sites and its mode."""
    study, _, _ = two_types(60, 4, effects=(0.0, 4.0), random_state=1)
    design, table = prepare(study, EffectMixture(2, n_dimensions=2))
    density = make_density(design, table)
    return density, find_mode(density, 2, np.random.default_rng(0))


@pytest.mark.parametrize("shape", [0.1, 0.5, 0.9])
def test_the_shape_of_a_pareto_tail_is_found(shape, rng):
    n_draws = 20_000
    ratios = stats.genpareto.rvs(shape, size=n_draws, random_state=rng)
    n_tail = 3 * np.sqrt(n_draws)
    # the asymptotic error of the shape, and the weight of the prior at 0.5
    error = (1 + shape) / np.sqrt(n_tail)
    wanted = (n_tail * shape + 5) / (n_tail + 10)
    assert abs(pareto_shape(np.log(ratios)) - wanted) < stats.norm.isf(1e-5) * error


def test_an_exact_approximation_has_no_tail():
    assert pareto_shape(np.full(500, -3.0)) == 0.0


def test_batches_visit_each_site_once_and_their_mean_is_the_whole(found, rng):
    import pyro

    density, mode = found
    values, start = {}, 0
    for block in density.blocks:
        values[block.name] = mode.parameters[start : start + block.size]
        start += block.size
    program = pyro.condition(pyro_program, data=values)

    def log_density(*sites):
        return pyro.poutine.trace(program).get_trace(density, *sites).log_prob_sum().item()

    steps = _batches(60, 20, rng)
    batches = [next(steps) for _ in range(3)]
    assert sorted(np.concatenate(batches)) == list(range(60))
    # each batch stands for all sites: the mean over a pass is exact
    mean = np.mean([log_density(batch) for batch in batches])
    assert mean == pytest.approx(log_density(), rel=1e-12)
    assert next(_batches(60, None, rng)) is None
    assert next(_batches(60, 60, rng)) is None


def test_at_the_mode_each_batch_tells_the_same_as_all_sites(found, rng):
    import pyro

    density, mode = found
    program = _centred(density, mode.parameters, _unit(mode, "full_rank"))

    def told(away, sites):
        away = away.clone().requires_grad_(True)
        conditioned = pyro.condition(program, data={"away": away})
        value = pyro.poutine.trace(conditioned).get_trace(sites).log_prob_sum()
        return value.item(), torch.autograd.grad(value, away)[0]

    zeros = torch.zeros(density.n_parameters, dtype=torch.float64)
    value, slope = told(zeros, None)
    steps = _batches(60, 20, rng)
    batches = [next(steps) for _ in range(3)]
    for batch in batches:
        one, its_slope = told(zeros, batch)
        assert one == pytest.approx(value, rel=1e-12)
        torch.testing.assert_close(its_slope, slope, atol=1e-7, rtol=0)
    # away from it their mean does
    away = torch.tensor(rng.normal(size=density.n_parameters))
    mean = np.mean([told(away, batch)[0] for batch in batches])
    assert mean == pytest.approx(told(away, None)[0], rel=1e-10)


@pytest.mark.parametrize("kind", ["full_rank", "low_rank", "mean_field"])
def test_a_normal_that_is_right_has_no_noise_in_its_gradient(kind):
    import pyro

    def program(sites):
        zeros = torch.zeros(4, dtype=torch.float64)
        return pyro.sample("away", pyro.distributions.Normal(zeros, 1.0).to_event(1))

    with alone(0):
        family, guide = _guide(program, kind, 4)
        if kind == "low_rank":
            family.cov_factor.data.zero_()
        loss = pyro.infer.Trace_ELBO().differentiable_loss(program, guide, None)
        loss.backward()
        assert loss.item() == pytest.approx(0, abs=1e-10)
        assert _gradient_of(family).abs().max() < 1e-10
        # and a normal that is wrong is moved
        family.scale = 2 * torch.ones(4, dtype=torch.float64)
        loss = pyro.infer.Trace_ELBO().differentiable_loss(program, guide, None)
        loss.backward()
        assert _gradient_of(family).abs().max() > 0.1


def test_minibatches_leave_the_normal_of_a_large_study_where_it_is(two_types):
    study, _, _ = two_types(1_500, 1, effects=(1.0, 1.0), random_state=2)
    design, table = prepare(study, EffectMixture(1, n_dimensions=2))
    density = make_density(design, table)
    mode = find_mode(density, 2, np.random.default_rng(0))
    # nearly normal, so that the curvature is nearly right; the error is that of 2,000 draws
    search = PosteriorSearch("full_rank", batch_size=100, max_steps=300, n_draws=2_000)
    posterior = find_posterior(density, mode, search, _rng())
    sd = torch.diagonal(mode.inverse).sqrt()
    gap = ((posterior.draws.mean(dim=0) - mode.parameters) / sd).abs().max()
    assert gap < stats.norm.isf(1e-6) / np.sqrt(2_000) + 0.1
    assert posterior.diagnostics["pareto_shape"] < 0.5


def test_chains_agree_with_the_curvature_at_the_mode(found, monkeypatch):
    density, mode = found
    monkeypatch.setattr(sampling, "_N_CHAINS", 2)
    monkeypatch.setattr(sampling, "_WARM_UP", 40)
    before = torch.random.get_rng_state()
    chains = find_posterior(density, mode, PosteriorSearch("nuts", n_draws=80), _rng())
    again = find_posterior(density, mode, PosteriorSearch("nuts", n_draws=80), _rng())
    assert torch.equal(chains.draws, again.draws)
    assert torch.equal(torch.random.get_rng_state(), before)
    normal = find_posterior(density, mode, PosteriorSearch("laplace", n_draws=2_000), _rng())
    sd = normal.draws.std(dim=0)
    gap = (chains.draws.mean(dim=0) - normal.draws.mean(dim=0)).abs() / sd
    # means of 80 draws worth at least 20, and a posterior that leans to one side
    assert gap.max() < stats.norm.isf(1e-5) / np.sqrt(20) + 0.3
    ratio = chains.draws.std(dim=0) / sd
    assert (ratio > 0.5).all()
    assert (ratio < 2.0).all()
    assert chains.draws.shape == (80, density.n_parameters)
    assert set(chains.diagnostics) == {"r_hat", "effective_draws", "divergences"}


def _rng():
    return np.random.default_rng(4)


def test_a_gradient_of_noise_has_a_ratio_of_one(rng):
    noise = torch.tensor(rng.normal(size=(100, 2_000)))
    # a chi-square over its degrees of freedom, 1 ± 5 sqrt(2 / 2000)
    assert _gradient_ratio(list(noise)) == pytest.approx(1, abs=0.16)
    assert _gradient_ratio(list(noise + 1.0)) > 50
    assert np.isnan(_gradient_ratio([]))
