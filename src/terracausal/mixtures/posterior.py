"""The posterior of a mixture's parameters: the curvature at the mode, SVI or NUTS, in Pyro."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from terracausal._foundation.optional import require
from terracausal._foundation.randomness import draw_seed
from terracausal.mixtures.density import MixtureDensity
from terracausal.mixtures.fitting import Mode
from terracausal.mixtures.pareto import pareto_shape


@dataclass(frozen=True, eq=False)
class Posterior:
    """Draws of the parameters, and how the search for them went.

    Parameters
    ----------
    draws : Tensor of shape (n_draws, n_parameters)
    elbo : ndarray of shape (n_steps,)
        Noisy evidence lower bound at each step; empty where there was no search.
    converged : bool
        Whether the bound stopped rising before the steps ran out, or the chains agree.
    diagnostics : dict of str to float
        "pareto_shape" of a normal; "gradient_ratio" of a search: the squared mean gradient of its
        last steps over what noise alone would leave, about 1 at the end; "r_hat" (the worst),
        "effective_draws" (the fewest) and "divergences" of chains.
    """

    draws: Tensor
    elbo: NDArray[np.float64]
    converged: bool
    diagnostics: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class PosteriorSearch:
    """How the posterior is sought.

    Parameters
    ----------
    guide : str
        As in `EffectMixture`.
    learning_rate : float, default=0.01
        In SDs of the normal at the mode.
    batch_size : int, default=None
        Sites in each step; None takes all.
    max_steps : int, default=3000
    n_draws : int, default=500
    """

    guide: str
    learning_rate: float = 0.01
    batch_size: int | None = None
    max_steps: int = 3_000
    n_draws: int = 500


def find_posterior(
    density: MixtureDensity, mode: Mode, search: PosteriorSearch, rng: np.random.Generator
) -> Posterior:
    """Return draws from the posterior around a mode.

    Parameters
    ----------
    density : MixtureDensity
    mode : Mode
    search : PosteriorSearch
    rng : numpy.random.Generator
        Global generators are left as they were.

    Returns
    -------
    Posterior
    """
    if search.guide == "laplace":
        found = laplace_posterior(mode, search.n_draws, rng)
        apart = torch.linalg.solve_triangular(
            torch.linalg.cholesky(mode.inverse), (found.draws - mode.parameters).T, upper=False
        )
        shape = pareto_shape(log_ratios(density, found.draws, -0.5 * (apart**2).sum(dim=0)))
        return replace(found, diagnostics={"pareto_shape": shape})
    if search.guide == "nuts":
        from terracausal.mixtures.sampling import sample_posterior

        return sample_posterior(density, mode, search.n_draws, rng)
    from terracausal.mixtures.variational import fit_posterior

    return fit_posterior(density, mode, search, draw_seed(rng))


def laplace_posterior(mode: Mode, n_draws: int, rng: np.random.Generator) -> Posterior:
    """Draw from the normal that has the mode and the curvature of the posterior; no search.

    Parameters
    ----------
    mode : Mode
    n_draws : int
    rng : numpy.random.Generator

    Returns
    -------
    Posterior
    """
    root = torch.linalg.cholesky(mode.inverse)
    noise = torch.from_numpy(rng.standard_normal((n_draws, len(root))))
    return Posterior(mode.parameters + noise @ root.T, np.empty(0), mode.converged)


def pyro_program(density: MixtureDensity, sites: NDArray[np.intp] | None = None) -> Tensor:
    """Declare priors and likelihood to Pyro; the types of sites are summed out exactly.

    Parameters
    ----------
    density : MixtureDensity
    sites : ndarray of int, default=None
        The sites of a step, which stand for all; None takes all.

    Returns
    -------
    Tensor of shape (n_parameters,)
        The drawn parameters.
    """
    pyro = require("pyro", needed_by="EffectMixture")
    normal = pyro.distributions.Normal
    drawn = [
        pyro.sample(
            block.name,
            normal(torch.from_numpy(block.location), torch.from_numpy(block.scale)).to_event(1),
        )
        for block in density.blocks
    ]
    parameters = torch.cat(drawn)
    part = density if sites is None else density.at(sites)
    log_sites = part.log_sites(parameters[None]).sum()
    pyro.factor("sites", log_sites * (density.n_sites / part.n_sites))
    return parameters


def log_ratios(density: MixtureDensity, draws: Tensor, log_guide: Tensor) -> NDArray[np.float64]:
    """Return log posterior densities less those of the guide, up to a constant.

    Parameters
    ----------
    density : MixtureDensity
    draws : Tensor of shape (n_draws, n_parameters)
    log_guide : Tensor of shape (n_draws,)

    Returns
    -------
    ndarray of shape (n_draws,)
    """
    with torch.no_grad():
        # filled in place: small tensors that are kept among large ones that go fragment the memory
        total = density.log_prior(draws)
        for _, part in density.parts():
            for rows in part.rows(len(draws)):
                total[rows] += part.log_sites(draws[rows]).sum(dim=1)
    return np.asarray((total - log_guide).numpy())


@contextmanager
def alone(seed: int) -> Iterator[None]:
    """Seed torch and give Pyro an empty parameter store; put both back at the end."""
    pyro = require("pyro", needed_by="EffectMixture")
    with (
        torch.random.fork_rng(devices=[]),
        pyro.get_param_store().scope(),
        pyro.validation_enabled(False),
        warnings.catch_warnings(),
    ):
        # a bound that is not finite is an error here, with the step and the learning rate
        warnings.filterwarnings("ignore", message="Encountered NaN")
        torch.set_rng_state(torch.Generator().manual_seed(seed).get_state())
        yield
