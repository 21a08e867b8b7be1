"""The mode of a mixture: restarts, ordered labels, curvature."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from terracausal.mixtures.density import MixtureDensity
from terracausal.mixtures.design import MixtureDesign, MixtureTable
from terracausal.mixtures.labels import mean_agreement
from terracausal.mixtures.layout import parameter_blocks, relabel
from terracausal.mixtures.optimise import Objective, minimise, polish

Floats = NDArray[np.float64]
_SAME_MODE = 0.1  # on the log density: far less than anything that matters to a posterior


@dataclass(frozen=True, eq=False)
class Mode:
    """The best of several restarts, components in order of their effect.

    Parameters
    ----------
    parameters : Tensor of shape (n_parameters,)
    curvature : Tensor of shape (n_parameters, n_parameters)
        Second derivatives of the negative log density.
    log_densities : ndarray of shape (n_restarts,)
        Best first.
    agreement : float
        Mean adjusted Rand index between the best restart and the others.
    converged : bool
        Whether the best restart met the tolerance and its curvature is positive.
    """

    parameters: Tensor
    curvature: Tensor
    log_densities: Floats
    agreement: float
    converged: bool

    @property
    def inverse(self) -> Tensor:
        """Inverse curvature, of shape (n_parameters, n_parameters)."""
        root, failed = torch.linalg.cholesky_ex(self.curvature)
        if failed.item():
            raise FloatingPointError(
                f"The best of {len(self.log_densities)} restarts did not end at a mode: the "
                f"curvature of its {len(self.parameters)} parameters is not positive. Use fewer "
                "components or dimensions, or more restarts."
            )
        return torch.cholesky_inverse(root)

    @property
    def n_at_best(self) -> int:
        """Number of restarts that ended at the best mode."""
        return int((self.log_densities > self.log_densities[0] - _SAME_MODE).sum())


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch use one thread: on arrays of this size, more threads wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def make_density(
    design: MixtureDesign, table: MixtureTable, family: str, n_components: int, noise: str
) -> MixtureDensity:
    """Return the density of a table under a family, with its priors.

    Parameters
    ----------
    design : MixtureDesign
    table : MixtureTable
    family : str
    n_components : int
    noise : str

    Returns
    -------
    MixtureDensity
    """
    blocks = parameter_blocks(table, family, n_components, noise)
    return MixtureDensity(table, blocks, family, design.standard_floor)


def posterior_answers(density: MixtureDensity, draws: Tensor) -> tuple[Floats, Floats]:
    """Return answers by draw (n_draws, 2 K + 1) and mean memberships of sites (n_sites, K).

    Parameters
    ----------
    density : MixtureDensity
    draws : Tensor of shape (n_draws, n_parameters)

    Returns
    -------
    tuple of ndarray
    """
    ones = torch.ones((1, density.n_sites), dtype=torch.float64)
    answers = []
    memberships = np.zeros((density.n_sites, n_components_of(density)))
    with torch.no_grad():
        for part in torch.split(draws, density.rows_at_once):
            answers.append(density.answers(part, ones).numpy())
            memberships += density.responsibilities(part).sum(dim=0).numpy()
    return np.concatenate(answers), memberships / len(draws)


def negative_log_density(density: MixtureDensity, site_weight: Tensor) -> Objective:
    """Return the objective of weighted sites.

    Parameters
    ----------
    density : MixtureDensity
    site_weight : Tensor of shape (n_draws, n_sites)
        Weight of each site in each draw; a single row serves all.

    Returns
    -------
    callable
        As `minimise` takes it.
    """

    def objective(points: Tensor, rows: Tensor) -> Tensor:
        weight = site_weight if len(site_weight) == 1 else site_weight[rows]
        return -(density.log_prior(points) + (weight * density.log_sites(points)).sum(dim=1))

    return objective


def random_starts(density: MixtureDensity, n_restarts: int, rng: np.random.Generator) -> Tensor:
    """Return starts: the priors' centres, with the memberships and effects of the types drawn.

    Parameters
    ----------
    density : MixtureDensity
    n_restarts : int
    rng : numpy.random.Generator

    Returns
    -------
    Tensor of shape (n_restarts, n_parameters)
    """
    starts = []
    for _ in range(n_restarts):
        parts = [
            block.location + spread * rng.standard_normal(block.size)
            for block in density.blocks
            for spread in [{"membership": 0.5, "effect": 0.7}.get(block.name, 0.05)]
        ]
        starts.append(np.concatenate(parts))
    return torch.from_numpy(np.stack(starts))


def find_mode(density: MixtureDensity, n_restarts: int, rng: np.random.Generator) -> Mode:
    """Find the mode of the posterior density from several starts.

    Parameters
    ----------
    density : MixtureDensity
    n_restarts : int
    rng : numpy.random.Generator

    Returns
    -------
    Mode
    """
    ones = torch.ones((1, density.n_sites), dtype=torch.float64)
    objective = negative_log_density(density, ones)
    points, values, done = minimise(objective, random_starts(density, n_restarts, rng))
    order = torch.argsort(values, stable=True)
    with torch.no_grad():
        memberships = list(density.responsibilities(points[order]).numpy())
    best, curvature = polish(objective, points[order[0]])
    best = order_by_effect(density, best)
    curvature = polish(objective, best, n_steps=0)[1]
    positive = torch.linalg.cholesky_ex(curvature).info.item() == 0
    return Mode(
        best,
        curvature,
        -values[order].numpy(),
        mean_agreement(memberships[0], memberships[1:]),
        bool(done[order[0]]) and positive,
    )


def order_by_effect(density: MixtureDensity, parameters: Tensor) -> Tensor:
    """Return one vector of parameters with components in ascending order of their effect.

    Parameters
    ----------
    density : MixtureDensity
    parameters : Tensor of shape (n_parameters,)

    Returns
    -------
    Tensor of shape (n_parameters,)
    """
    effects = component_answers(density, parameters)[: n_components_of(density)]
    order = np.argsort(effects, kind="stable")
    return torch.from_numpy(relabel(parameters.numpy(), density.blocks, order))


def component_answers(density: MixtureDensity, parameters: Tensor) -> Floats:
    """Return component effects, implied average effect and shares at one point.

    Parameters
    ----------
    density : MixtureDensity
    parameters : Tensor of shape (n_parameters,)

    Returns
    -------
    ndarray of shape (2 K + 1,)
    """
    ones = torch.ones((1, density.n_sites), dtype=torch.float64)
    with torch.no_grad():
        return np.asarray(density.answers(parameters[None], ones)[0].numpy())


def n_components_of(density: MixtureDensity) -> int:
    """Return the number of components of a density."""
    return next(block.shape[0] for block in density.blocks if block.name == "effect")
