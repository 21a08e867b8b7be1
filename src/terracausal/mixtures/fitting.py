"""The mode of a mixture: restarts, ordered labels, curvature."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from terracausal.mixtures.density import MixtureDensity, answers_from
from terracausal.mixtures.design import MixtureDesign, MixtureTable
from terracausal.mixtures.labels import match_components, mean_agreement
from terracausal.mixtures.layout import parameter_blocks, relabel
from terracausal.mixtures.optimise import Objective, Summed, hessian, minimise, polish

Floats = NDArray[np.float64]
# of random starts around the centres of the priors; other parameters start close to these
_SPREAD = {"membership": 0.5, "effect": 0.7, "baseline_shift": 0.3}
_SAME_MODE = 0.1  # on the log density: far less than anything that matters to a posterior
_MOST_TO_SEARCH = 5_000  # sites among which restarts are compared; the best goes on with all


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


def make_density(design: MixtureDesign, table: MixtureTable) -> MixtureDensity:
    """Return the density of a table, with its priors.

    Parameters
    ----------
    design : MixtureDesign
    table : MixtureTable

    Returns
    -------
    MixtureDensity
    """
    blocks = parameter_blocks(table, design.spec)
    return MixtureDensity(table, blocks, design.spec.family, design.scale)


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
    memberships = np.zeros((density.n_sites, density.n_components))
    total = draws.new_zeros((len(draws), density.n_components))
    mass = torch.zeros_like(total)
    with torch.no_grad():
        for sites, part in density.parts():
            ones = draws.new_ones((1, part.n_sites))
            for rows in part.rows(len(draws)):
                some, share = part.totals(draws[rows], ones)
                total[rows] += some
                mass[rows] += share
                memberships[sites] += part.responsibilities(draws[rows]).sum(dim=0).numpy()
    return answers_from(total, mass).numpy(), memberships / len(draws)


def weighted_answers(
    density: MixtureDensity, points: Tensor, site_weight: Tensor | None = None
) -> Tensor:
    """Return answers, (n_batch, 2 K + 1), adding up sites part by part.

    Parameters
    ----------
    density : MixtureDensity
    points : Tensor of shape (n_batch, n_parameters)
    site_weight : Tensor of shape (n_batch, n_sites), default=None
        None weights all alike.

    Returns
    -------
    Tensor
    """
    total = mass = torch.zeros((len(points), density.n_components), dtype=points.dtype)
    for sites, part in density.parts(len(points)):
        weight = (
            points.new_ones((1, part.n_sites)) if site_weight is None else site_weight[:, sites]
        )
        some, share = part.totals(points, weight)
        total, mass = total + some, mass + share
    return answers_from(total, mass)


def memberships_at(density: MixtureDensity, points: Tensor) -> Floats:
    """Return probabilities of types given image and outcomes, (n_batch, n_sites, K).

    Parameters
    ----------
    density : MixtureDensity
    points : Tensor of shape (n_batch, n_parameters)

    Returns
    -------
    ndarray
    """
    with torch.no_grad():
        found = [part.responsibilities(points).numpy() for _, part in density.parts(len(points))]
    return np.concatenate(found, axis=1)


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

    def prior(points: Tensor, rows: Tensor) -> Tensor:
        return -density.log_prior(points)

    def piece(sites: slice, part: MixtureDensity) -> Objective:
        def objective(points: Tensor, rows: Tensor) -> Tensor:
            weight = site_weight if len(site_weight) == 1 else site_weight[rows]
            return -(weight[:, sites] * part.log_sites(points)).sum(dim=1)

        return objective

    def pieces(n_rows: int) -> Iterable[Objective]:
        return [prior, *(piece(*given) for given in density.parts(n_rows))]

    return Summed(pieces)


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
            for spread in [_SPREAD.get(block.name, 0.05)]
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
    searched = density
    if density.n_sites > _MOST_TO_SEARCH:
        some = rng.choice(density.n_sites, _MOST_TO_SEARCH, replace=False)
        searched = density.at(np.sort(some))
    ones = torch.ones((1, searched.n_sites), dtype=torch.float64)
    starts = random_starts(density, n_restarts, rng)
    points, values, done = minimise(negative_log_density(searched, ones), starts)
    order = torch.argsort(values, stable=True)
    memberships = list(memberships_at(searched, points[order]))
    best, converged = points[order[0]], bool(done[order[0]])
    ones = torch.ones((1, density.n_sites), dtype=torch.float64)
    objective = negative_log_density(density, ones)
    if searched is not density:
        start = hessian(negative_log_density(searched, ones), best)
        # curvature grows with the number of sites
        guess = torch.linalg.pinv(start) * (searched.n_sites / density.n_sites)
        found, _, reached = minimise(objective, best[None], guess)
        best, converged = found[0], bool(reached[0])
    best, curvature = polish(objective, best)
    place = order_by_effect(density, best)
    best, curvature = best[place], curvature[place][:, place]
    positive = torch.linalg.cholesky_ex(curvature).info.item() == 0
    return Mode(
        best,
        curvature,
        -values[order].numpy(),
        mean_agreement(memberships[0], memberships[1:]),
        converged and positive,
    )


def order_by_effect(density: MixtureDensity, parameters: Tensor) -> Tensor:
    """Return the places of parameters that put components in ascending order of their effect.

    Parameters
    ----------
    density : MixtureDensity
    parameters : Tensor of shape (n_parameters,)

    Returns
    -------
    Tensor of int of shape (n_parameters,)
    """
    effects = component_answers(density, parameters)[: density.n_components]
    order = np.argsort(effects, kind="stable")
    places = np.arange(len(parameters), dtype=np.float64)
    return torch.from_numpy(relabel(places, density.blocks, order).astype(np.int64))


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
    with torch.no_grad():
        return np.asarray(weighted_answers(density, parameters[None])[0].numpy())


def aligned(density: MixtureDensity, points: Tensor, reference: Floats) -> Tensor:
    """Return points with their labels matched to reference memberships, each on its own.

    Parameters
    ----------
    density : MixtureDensity
    points : Tensor of shape (n_batch, n_parameters)
    reference : ndarray of shape (n_sites, K)

    Returns
    -------
    Tensor of shape (n_batch, n_parameters)
    """
    if density.n_components == 1:
        return points
    rows = []
    for some in torch.split(points, density.rows_at_once):
        for point, found in zip(some.numpy(), memberships_at(density, some), strict=True):
            rows.append(relabel(point, density.blocks, match_components(reference, found)))
    return torch.from_numpy(np.stack(rows))
