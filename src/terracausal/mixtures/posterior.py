"""The posterior of a mixture's parameters: the curvature at the mode, SVI or NUTS, in Pyro."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from math import isfinite
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from terracausal._foundation.optional import require
from terracausal._foundation.progress import track
from terracausal._foundation.randomness import draw_seed
from terracausal.mixtures.density import MixtureDensity
from terracausal.mixtures.fitting import Mode
from terracausal.mixtures.pareto import pareto_shape

_WINDOW = 100
_SLOWER = 3  # times the learning rate is halved before the search ends


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
        shape = pareto_shape(_log_ratios(density, found.draws, -0.5 * (apart**2).sum(dim=0)))
        return replace(found, diagnostics={"pareto_shape": shape})
    if search.guide == "nuts":
        from terracausal.mixtures.sampling import sample_posterior

        return sample_posterior(density, mode, search.n_draws, rng)
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


def fit_posterior(
    density: MixtureDensity, mode: Mode, search: PosteriorSearch, seed: int
) -> Posterior:
    """Fit a normal guide around the mode and draw from it.

    The guide starts at the mode with the curvature there. Its learning rate is halved whenever the
    mean bound of 100 steps rises by less than its standard error, three times.

    Parameters
    ----------
    density : MixtureDensity
    mode : Mode
    search : PosteriorSearch
    seed : int

    Returns
    -------
    Posterior

    Raises
    ------
    FloatingPointError
        The bound is not finite.
    """
    batches = _batches(density.n_sites, search.batch_size, np.random.default_rng(seed))
    with alone(seed):
        pyro = require("pyro", needed_by="EffectMixture")
        family = _start_guide(density, mode, search.guide)
        optimizer = torch.optim.Adam(family.parameters(), lr=search.learning_rate)
        loss_of = pyro.infer.Trace_ELBO().differentiable_loss
        elbo: list[float] = []
        gradients: list[Tensor] = []
        halved = 0
        for _ in track(range(search.max_steps), "fitting the posterior"):
            optimizer.zero_grad()
            loss = loss_of(pyro_program, family, density, next(batches))
            if not isfinite(loss.item()):
                raise FloatingPointError(
                    f"The evidence lower bound is {-loss.item()} at step {len(elbo) + 1} with "
                    f"learning rate {optimizer.param_groups[0]['lr']:g}. Use a smaller "
                    "`learning_rate`."
                )
            loss.backward()
            gradients = [*gradients[1 - _WINDOW :], _gradient_of(family)]
            optimizer.step()
            elbo.append(-loss.item())
            if len(elbo) % _WINDOW == 0 and _has_plateaued(elbo):
                halved += 1
                optimizer.param_groups[0]["lr"] /= 2
                if halved > _SLOWER:
                    break
        with torch.no_grad():
            normal = family.get_posterior()
            draws = normal.sample((search.n_draws,))
            ratios = _log_ratios(density, draws, normal.log_prob(draws))
    found = {"pareto_shape": pareto_shape(ratios), "gradient_ratio": _gradient_ratio(gradients)}
    return Posterior(draws, np.array(elbo), halved > _SLOWER, found)


def _batches(
    n_sites: int, batch_size: int | None, rng: np.random.Generator
) -> "Iterator[NDArray[np.intp] | None]":
    """Yield sites of endless steps, each site once in a pass."""
    while batch_size is None or batch_size >= n_sites:
        yield None
    while True:
        order = rng.permutation(n_sites)
        for start in range(0, n_sites - batch_size + 1, batch_size):
            yield order[start : start + batch_size]


def _log_ratios(density: MixtureDensity, draws: Tensor, log_guide: Tensor) -> NDArray[np.float64]:
    """Return log posterior densities less those of the guide, up to a constant."""
    found = []
    with torch.no_grad():
        for some in torch.split(draws, density.rows_at_once):
            total = density.log_prior(some)
            for _, part in density.parts(len(some)):
                total = total + part.log_sites(some).sum(dim=1)
            found.append(total)
    return np.asarray((torch.cat(found) - log_guide).numpy())


def _gradient_of(family: Any) -> Tensor:
    return torch.cat([p.grad.reshape(-1) for p in family.parameters() if p.grad is not None])


def _gradient_ratio(gradients: list[Tensor]) -> float:
    """Return the squared mean gradient over its expectation without a slope."""
    if len(gradients) < 2:
        return float("nan")
    each = torch.stack(gradients)
    noise = each.var(dim=0).sum() / len(each)
    return float((each.mean(dim=0) ** 2).sum() / noise)


def _has_plateaued(elbo: list[float]) -> bool:
    if len(elbo) < 2 * _WINDOW:
        return False
    before, now = np.array(elbo[-2 * _WINDOW : -_WINDOW]), np.array(elbo[-_WINDOW:])
    error = np.sqrt((before.var(ddof=1) + now.var(ddof=1)) / _WINDOW)
    return bool(now.mean() - before.mean() < error)


def _start_guide(density: MixtureDensity, mode: Mode, guide: str) -> Any:
    """Return the guide, at the mode and with the curvature there."""
    autoguide = require("pyro.infer.autoguide", needed_by="EffectMixture")
    kinds = {
        "full_rank": autoguide.AutoMultivariateNormal,
        "low_rank": autoguide.AutoLowRankMultivariateNormal,
        "mean_field": autoguide.AutoDiagonalNormal,
    }
    values, start = {}, 0
    for block in density.blocks:
        values[block.name] = mode.parameters[start : start + block.size]
        start += block.size
    family = kinds[guide](pyro_program, init_loc_fn=autoguide.init_to_value(values=values))
    family(density, np.arange(1))  # a site will do: the guide looks at names and shapes
    if guide == "full_rank":
        root = torch.linalg.cholesky(mode.inverse)
        family.scale = torch.diagonal(root).clone()
        family.scale_tril = root / torch.diagonal(root)[:, None]
    else:
        family.scale = torch.diagonal(mode.curvature) ** -0.5
    return family


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
