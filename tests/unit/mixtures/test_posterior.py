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
    find_posterior,
    pyro_program,
)
from terracausal.mixtures.preparing import prepare
from terracausal.mixtures.variational import _batches, _gradient_ratio


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
