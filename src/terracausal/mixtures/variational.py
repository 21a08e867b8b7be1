"""The posterior of a mixture's parameters by stochastic variational inference in Pyro."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import isfinite
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from terracausal._foundation.optional import require
from terracausal.mixtures.density import MixtureDensity
from terracausal.mixtures.fitting import Mode

_WINDOW = 100
_SLOWER = 3  # times the learning rate is halved before the search ends


@dataclass(frozen=True, eq=False)
class Posterior:
    """Draws of the parameters, and how the search for them went.

    Parameters
    ----------
    draws : Tensor of shape (n_draws, n_parameters)
    elbo : ndarray of shape (n_steps,)
        Noisy evidence lower bound at each step.
    converged : bool
        Whether the bound stopped rising before the steps ran out.
    """

    draws: Tensor
    elbo: NDArray[np.float64]
    converged: bool


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


def pyro_program(density: MixtureDensity) -> Tensor:
    """Declare priors and likelihood to Pyro; the types of sites are summed out exactly.

    Parameters
    ----------
    density : MixtureDensity

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
    pyro.factor("sites", density.log_sites(parameters[None]).sum())
    return parameters


def fit_posterior(
    density: MixtureDensity,
    mode: Mode,
    guide: str,
    *,
    learning_rate: float,
    max_steps: int,
    n_draws: int,
    seed: int,
) -> Posterior:
    """Fit a normal guide around the mode and draw from it.

    The guide starts at the mode with the curvature there. Its learning rate is halved whenever the
    mean bound of 100 steps rises by less than its standard error, three times.

    Parameters
    ----------
    density : MixtureDensity
    mode : Mode
    guide : {"full_rank", "low_rank", "mean_field"}
        Covariance of the normal.
    learning_rate : float
    max_steps : int
    n_draws : int
    seed : int
        Global generators are left as they were.

    Returns
    -------
    Posterior

    Raises
    ------
    FloatingPointError
        The bound is not finite.
    """
    with _alone(seed):
        pyro = require("pyro", needed_by="EffectMixture")
        family = _start_guide(density, mode, guide)
        optimizer = torch.optim.Adam(family.parameters(), lr=learning_rate)
        loss_of = pyro.infer.Trace_ELBO().differentiable_loss
        elbo: list[float] = []
        halved = 0
        while len(elbo) < max_steps and halved <= _SLOWER:
            optimizer.zero_grad()
            loss = loss_of(pyro_program, family, density)
            if not isfinite(loss.item()):
                raise FloatingPointError(
                    f"The evidence lower bound is {-loss.item()} at step {len(elbo) + 1} with "
                    f"learning rate {optimizer.param_groups[0]['lr']:g}. Use a smaller "
                    "`learning_rate`."
                )
            loss.backward()
            optimizer.step()
            elbo.append(-loss.item())
            if len(elbo) % _WINDOW == 0 and _has_plateaued(elbo):
                halved += 1
                optimizer.param_groups[0]["lr"] /= 2
        with torch.no_grad():
            draws = family.get_posterior().sample((n_draws,))
    return Posterior(draws, np.array(elbo), halved > _SLOWER)


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
    family(density)
    if guide == "full_rank":
        root = torch.linalg.cholesky(mode.inverse)
        family.scale = torch.diagonal(root).clone()
        family.scale_tril = root / torch.diagonal(root)[:, None]
    else:
        family.scale = torch.diagonal(mode.curvature) ** -0.5
    return family


@contextmanager
def _alone(seed: int) -> Iterator[None]:
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
