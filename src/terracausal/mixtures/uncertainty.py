"""How far the answers would move with other sites: first order, and the weighted bootstrap."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor

from terracausal._foundation.progress import track
from terracausal.mixtures.density import MixtureDensity, answers_from
from terracausal.mixtures.fitting import (
    Mode,
    aligned,
    memberships_at,
    negative_log_density,
    weighted_answers,
)
from terracausal.mixtures.optimise import minimise

Floats = NDArray[np.float64]
AT_ONCE = 4  # second derivatives keep several times the memory


def site_influence(density: MixtureDensity, mode: Mode) -> Floats:
    """Return the derivative of each answer with respect to the weight of each site.

    With answers ``a(p, v)`` of parameters p and site weights v, and p the mode under v, it is
    ``da/dv + da/dp H^-1 (d log density / dp dv)``, the sandwich formula, centred over sites.

    Parameters
    ----------
    density : MixtureDensity
    mode : Mode

    Returns
    -------
    ndarray of shape (n_sites, 2 K + 1)
    """
    point = mode.parameters[None].clone().requires_grad_(True)
    total, mass = _totals(density, point)
    of_points, of_sums = [], []
    for answer in answers_from(total, mass)[0]:
        by_point, *by_sums = torch.autograd.grad(answer, (point, total, mass), retain_graph=True)
        of_points.append(by_point[0])
        of_sums.append(torch.cat(by_sums, dim=1)[0])
    moved = mode.inverse @ torch.stack(of_points, dim=1)
    direct = torch.stack(of_sums, dim=1).detach()
    # part by part: no array has a row for each site and a column for each parameter
    influence = torch.cat(
        [
            site_scores(part, mode.parameters) @ moved + _direct(part, mode.parameters) @ direct
            for _, part in density.parts(AT_ONCE)
        ]
    ).numpy()
    return np.asarray(influence - influence.mean(axis=0))


def site_scores(density: MixtureDensity, parameters: Tensor) -> Tensor:
    """Return the derivative of each site's log density, (n_sites, n_parameters).

    One pass for each parameter: the derivative by the weights of sites of the summed derivative.

    Parameters
    ----------
    density : MixtureDensity
    parameters : Tensor of shape (n_parameters,)

    Returns
    -------
    Tensor
    """
    weight = torch.ones((1, density.n_sites), dtype=torch.float64, requires_grad=True)
    point = parameters[None].clone().requires_grad_(True)
    likelihood = (weight * density.log_sites(point)).sum()
    (slope,) = torch.autograd.grad(likelihood, point, create_graph=True)
    columns = [torch.autograd.grad(s, weight, retain_graph=True)[0][0] for s in slope[0]]
    return torch.stack(columns, dim=1).detach()


def _totals(density: MixtureDensity, point: Tensor) -> tuple[Tensor, Tensor]:
    parts = [part.totals(point, point.new_ones((1, part.n_sites))) for _, part in density.parts()]
    total, mass = zip(*parts, strict=True)
    return torch.stack(total).sum(dim=0), torch.stack(mass).sum(dim=0)


def _direct(density: MixtureDensity, parameters: Tensor) -> Tensor:
    """Return each site's part in the totals of effects and weights, (n_sites, 2 K)."""
    weight = torch.ones((1, density.n_sites), dtype=torch.float64, requires_grad=True)
    both = torch.cat(density.totals(parameters[None], weight), dim=1)[0]
    columns = [torch.autograd.grad(x, weight, retain_graph=True)[0][0] for x in both]
    return torch.stack(columns, dim=1).detach()


def bootstrap_answers(
    density: MixtureDensity,
    mode: Mode,
    cluster: NDArray[np.int64],
    n_bootstrap: int,
    rng: np.random.Generator,
) -> tuple[Floats, float]:
    """Refit under random weights of clusters, from the mode on, and align the labels.

    Weights are Dirichlet(1, …, 1) times the number of clusters: the weighted likelihood bootstrap
    of Newton & Raftery (1994), doi:10.1111/j.2517-6161.1994.tb01956.x, by cluster.

    Parameters
    ----------
    density : MixtureDensity
    mode : Mode
    cluster : ndarray of shape (n_sites,)
        Codes from 0.
    n_bootstrap : int
    rng : numpy.random.Generator

    Returns
    -------
    answers : ndarray of shape (n_bootstrap, 2 K + 1)
    done : float
        Share of refits that converged.
    """
    n_clusters = int(cluster.max()) + 1
    by_cluster = rng.dirichlet(np.ones(n_clusters), size=n_bootstrap) * n_clusters
    weight = torch.from_numpy(by_cluster[:, cluster])
    reference = memberships_at(density, mode.parameters[None])[0]
    found, done = [], []
    parts = torch.split(weight, density.rows_at_once)
    for part in track(parts, "refitting the mixture on weighted clusters", len(parts)):
        start = mode.parameters.repeat(len(part), 1)
        objective = negative_log_density(density, part)
        points, _, converged = minimise(objective, start, mode.inverse, tolerance=1e-2)
        points = aligned(density, points, reference)
        with torch.no_grad():
            found.append(weighted_answers(density, points, part).numpy())
        done.append(converged.numpy())
    return np.concatenate(found), float(np.mean(np.concatenate(done)))


def degrees_of_freedom_factor(density: MixtureDensity, mode: Mode) -> float:
    """Return n / (n - p) for n sites and p parameters: what fitting takes from the variance.

    A parameter counts less the more its prior holds it: p is ``tr(H^-1 (H - L))`` with H the
    curvature at the mode and L the precision of the priors.

    Parameters
    ----------
    density : MixtureDensity
    mode : Mode

    Returns
    -------
    float
    """
    held = float((torch.diag(mode.inverse) * density.prior_precision).sum())
    informed = len(mode.parameters) - held
    return density.n_sites / max(density.n_sites - informed, 1.0)


def refit_covariance(draws: Floats) -> Floats:
    """Return the covariance of refits, by their central 90 %.

    In a weak mixture a few refits lose a component and its effect runs away; a standard deviation
    would be made by these. Each standard error is half the width of the central 90 % over its
    normal quantile, and correlations are those of the draws clipped to it. Quantiles are those that
    are unbiased for normal draws; numpy's default would be 3 % too narrow with 100 of them.

    Parameters
    ----------
    draws : ndarray of shape (n_draws, m)

    Returns
    -------
    ndarray of shape (m, m)
    """
    low, high = np.quantile(draws, [0.05, 0.95], axis=0, method="normal_unbiased")
    clipped = np.clip(draws, low, high)
    spread = clipped.std(axis=0, ddof=1)
    wanted = (high - low) / (2 * stats.norm.ppf(0.95))
    factor = np.divide(wanted, spread, out=np.zeros_like(spread), where=spread > 0)
    return np.asarray(np.atleast_2d(np.cov(clipped, rowvar=False)) * np.outer(factor, factor))


def match_covariance(
    influence: NDArray[np.floating[Any]], current: NDArray[np.floating[Any]], wanted: Floats
) -> Floats:
    """Map influence values linearly so that their covariance becomes another one.

    Parameters
    ----------
    influence : ndarray of shape (n, m)
    current : ndarray of shape (m, m)
        The covariance that the influence values give.
    wanted : ndarray of shape (m, m)

    Returns
    -------
    ndarray of shape (n, m)
        The nearest map: ``current^-1/2 (current^1/2 wanted current^1/2)^1/2 current^-1/2``.
    """
    values, vectors = np.linalg.eigh(current)
    kept = values > 1e-12 * values.max()
    root = (vectors[:, kept] * np.sqrt(values[kept])) @ vectors[:, kept].T
    inverse = (vectors[:, kept] / np.sqrt(values[kept])) @ vectors[:, kept].T
    inner, turned = np.linalg.eigh(root @ wanted @ root)
    middle = (turned * np.sqrt(np.maximum(inner, 0.0))) @ turned.T
    return np.asarray(influence @ (inverse @ middle @ inverse))
