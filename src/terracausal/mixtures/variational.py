"""Variational inference in Pyro: a normal around the mode, moved by stochastic gradients.

Parameters are measured from the mode in its own SDs, so that a learning rate means the same in a
study of 60 sites and in one of 100,000. Two devices keep the noise of the gradients from moving a
normal that is right already: the density of the normal is held fixed in its own parameters
("sticking the landing", Roeder et al. 2017, arXiv:1703.09194), and a minibatch tells only what the
tangent at the mode does not, which is known for all sites (as in Johnson & Zhang 2013, SVRG).
"""

from collections.abc import Callable, Iterator
from math import isfinite
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from terracausal._foundation.optional import require
from terracausal._foundation.progress import track
from terracausal.mixtures.density import MixtureDensity
from terracausal.mixtures.fitting import Mode
from terracausal.mixtures.pareto import pareto_shape
from terracausal.mixtures.posterior import (
    Posterior,
    PosteriorSearch,
    alone,
    log_ratios,
    pyro_program,
)

Sites = NDArray[np.intp] | None
_WINDOW = 100
_SLOWER = 3  # times the learning rate is halved before the search ends


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
    unit = _unit(mode, search.guide)
    with alone(seed):
        pyro = require("pyro", needed_by="EffectMixture")
        program = _centred(density, mode.parameters, unit)
        family, guide = _guide(program, search.guide, density.n_parameters)
        optimizer = torch.optim.Adam(family.parameters(), lr=search.learning_rate)
        loss_of = pyro.infer.Trace_ELBO().differentiable_loss
        elbo: list[float] = []
        gradients: list[Tensor] = []
        halved = 0
        for _ in track(range(search.max_steps), "fitting the posterior"):
            optimizer.zero_grad()
            try:
                loss = loss_of(program, guide, next(batches))
            except torch.linalg.LinAlgError:  # type: ignore[attr-defined]
                # the spread of the normal has run away
                loss = torch.tensor(torch.inf)
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
            away = normal.sample((search.n_draws,))
            draws = mode.parameters + away @ unit.T
            ratios = log_ratios(density, draws, normal.log_prob(away))
    found = {"pareto_shape": pareto_shape(ratios), "gradient_ratio": _gradient_ratio(gradients)}
    # with the volume of the units, so that the bound is that of the parameters
    bound = np.array(elbo) + float(torch.linalg.slogdet(unit).logabsdet)
    return Posterior(draws, bound, halved > _SLOWER, found)


def _unit(mode: Mode, guide: str) -> Tensor:
    """Return the SDs of the normal at the mode, and for a full covariance its Cholesky root."""
    if guide == "full_rank":
        root: Tensor = torch.linalg.cholesky(mode.inverse)
        return root
    return torch.diag(torch.diagonal(mode.curvature) ** -0.5)


def _centred(density: MixtureDensity, centre: Tensor, unit: Tensor) -> Callable[[Sites], None]:
    """Return the program of Pyro whose latent is the distance from the mode, in its SDs."""
    pyro = require("pyro", needed_by="EffectMixture")
    everyone = _tangent(density, centre)

    def program(sites: Sites) -> None:
        away = pyro.sample("away", _anywhere(len(centre)))
        parameters = centre + unit @ away
        values, start = {}, 0
        for block in density.blocks:
            values[block.name] = parameters[start : start + block.size]
            start += block.size
        pyro.condition(pyro_program, data=values)(density, sites)
        if sites is not None:
            level, slope = _tangent(density.at(sites), centre)
            share = density.n_sites / len(sites)
            rest = everyone[0] - share * level
            pyro.factor("others", rest + (everyone[1] - share * slope) @ (parameters - centre))

    return program


def _anywhere(size: int) -> Any:
    """Return a law without a density of its own: priors are those of the parameters."""
    normal = require("pyro", needed_by="EffectMixture").distributions.Normal
    zeros = torch.zeros(size, dtype=torch.float64)
    return normal(zeros, torch.ones_like(zeros)).to_event(1).mask(False)


def _tangent(density: MixtureDensity, centre: Tensor) -> tuple[Tensor, Tensor]:
    """Return the log density of all sites at a point, and its slope there."""
    level, slope = centre.new_zeros(()), torch.zeros_like(centre)
    for _, part in density.parts():
        point = centre.clone().requires_grad_(True)
        with torch.enable_grad():
            value = part.log_sites(point[None]).sum()
        slope = slope + torch.autograd.grad(value, point)[0]
        level = level + value.detach()
    return level, slope


def _guide(
    program: Callable[[Sites], None], kind: str, n_parameters: int
) -> tuple[Any, Callable[[Sites], None]]:
    """Return the family of normals, standard at first, and the guide that draws from it."""
    pyro = require("pyro", needed_by="EffectMixture")
    autoguide = require("pyro.infer.autoguide", needed_by="EffectMixture")
    kinds = {
        "full_rank": autoguide.AutoMultivariateNormal,
        "low_rank": autoguide.AutoLowRankMultivariateNormal,
        "mean_field": autoguide.AutoDiagonalNormal,
    }
    zeros = torch.zeros(n_parameters, dtype=torch.float64)
    family = kinds[kind](program, init_loc_fn=autoguide.init_to_value(values={"away": zeros}))
    family(np.arange(1))  # a site will do: the guide looks at names and shapes
    family.scale = torch.ones_like(zeros)
    if kind == "full_rank":
        family.scale_tril = torch.eye(n_parameters, dtype=torch.float64)

    def guide(sites: Sites) -> None:
        normal = family.get_posterior()
        away = normal.rsample()
        log_density = _still(normal).log_prob(away)  # type: ignore[no-untyped-call]
        pyro.sample("away", pyro.distributions.Delta(away, log_density, event_dim=1))

    return family, guide


def _still(normal: Any) -> torch.distributions.MultivariateNormal:
    """Return the normal with parameters that have no gradient."""
    with torch.no_grad():
        kept = getattr(normal, "covariance_matrix", None)
        covariance = torch.diag(normal.variance) if kept is None else kept
        return torch.distributions.MultivariateNormal(
            normal.mean.detach(), covariance.detach(), validate_args=False
        )


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
