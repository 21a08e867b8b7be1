"""The numbers of a doubly robust dose-response curve.

Pseudo-outcomes as in Kennedy, Ma, McHugh & Small (2017), JRSS-B 79(4), doi:10.1111/rssb.12212,
equation 3: for unit i with outcome y, dose a and features x,

    m(a) + (y - mu(x, a)) * g,    g = omega(a) / pi(a | x),

where mu predicts the outcome, pi is the density of the dose given features, and omega and m are
the means over all units of pi(a | x) and mu(x, a). Their mean at dose a is the mean outcome if all
units had that dose, when either mu or pi is right. They are regressed on splines of the dose, as in
Semenova & Chernozhukov (2021), Econometrics Journal 24(2), doi:10.1093/ectj/utaa027, which gives
influence values for every dose at once.

Deviations: the residuals are regressed with g as weights instead of being multiplied by them (as
Hajek does with weights that should average 1, here at each dose), so that a part of the outcome
which depends on the dose alone needs no weights to be right. The influence values also count that
omega and m are means over the units at hand, and are those of the jackknife (HC3).
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from terracausal.nuisance.dose import DoseNuisances
from terracausal.study.jackknife import jackknife_regression

Floats = NDArray[np.floating[Any]]


def _marginals(nuisances: DoseNuisances, surface: Floats, weight: Floats) -> Floats:
    """Return the weighted mean of a surface over the units of each fold, one row per unit."""
    means = np.empty_like(surface)
    for fold in np.unique(nuisances.fold):
        own = nuisances.fold == fold
        means[own] = np.average(surface[own], axis=0, weights=weight[own])
    return means


def _interpolation(grid: Floats, dose: Floats) -> tuple[NDArray[np.intp], Floats]:
    """Return the cell of each dose in the grid, and how far it lies to its right end."""
    cell = np.clip(np.searchsorted(grid, dose, side="right") - 1, 0, len(grid) - 2)
    return cell, (dose - grid[cell]) / (grid[cell + 1] - grid[cell])


def _at_own(surface: Floats, cell: NDArray[np.intp], far: Floats) -> Floats:
    """Interpolate each row of a surface at the unit's own dose."""
    rows = np.arange(len(cell))
    return np.asarray((1 - far) * surface[rows, cell] + far * surface[rows, cell + 1])


def balancing_weights(
    nuisances: DoseNuisances, dose: Floats, weight: Floats
) -> tuple[Floats, NDArray[np.bool_]]:
    """Return omega(a) / pi(a | x) of each unit, capped, and which were.

    They make features independent of the dose. None exceeds the root of the number of units times
    their mean (Ionides 2008).

    Parameters
    ----------
    nuisances : DoseNuisances
    dose, weight : ndarray of shape (n_units,)

    Returns
    -------
    balancing : ndarray of shape (n_units,)
    capped : ndarray of bool of shape (n_units,)
    """
    marginal = _marginals(nuisances, nuisances.density, weight)
    # between doses of the grid the log is nearly linear, the density is not
    log_marginal = np.log(np.maximum(marginal, np.finfo(float).tiny))
    own = np.exp(_at_own(log_marginal, *_interpolation(nuisances.grid, dose)))
    balancing = own / nuisances.density_at_own
    cap = np.sqrt(len(dose)) * np.average(balancing, weights=weight)
    return np.minimum(balancing, cap), balancing > cap


class CurveParts(NamedTuple):
    """What the coefficients of the curve are made from; arrays by unit."""

    nuisances: DoseNuisances
    basis: Floats  # splines of the dose, zero outside the support
    dose: Floats
    residual: Floats  # outcome less its prediction
    balancing: Floats
    moves: NDArray[np.bool_]  # whether the balancing weight follows omega (it is not capped)
    weight: Floats


def curve_coefficients(
    parts: CurveParts, cluster: NDArray[np.int64] | None
) -> tuple[Floats, Floats]:
    """Regress means and balanced residuals on splines.

    With p the splines, v the unit weights, g the balancing weights and r the residuals, the
    coefficients are those of m on p with weights v, plus those of r on p with weights v g. The
    means m and omega move with the weight of every unit of a fold, which is averaged over the doses
    of all units.

    Parameters
    ----------
    parts : CurveParts
    cluster : ndarray of shape (n_units,), default=None
        Codes of clusters, for the jackknife.

    Returns
    -------
    value : ndarray of shape (n_basis,)
    influence : ndarray of shape (n_units, n_basis)
    """
    nuisances, basis, dose, residual, balancing, moves, weight = parts
    n_units = len(dose)
    cell, far = _interpolation(nuisances.grid, dose)
    mean_outcome = _marginals(nuisances, nuisances.outcome, weight)
    mean_density = _marginals(nuisances, nuisances.density, weight)
    level, of_level = jackknife_regression(basis, _at_own(mean_outcome, cell, far), weight, cluster)
    gap, of_gap = jackknife_regression(basis, residual, weight * balancing, cluster)
    influence = n_units * (of_level + of_gap)
    left = np.where(moves, residual - basis @ gap, 0.0) / nuisances.density_at_own
    for surface, mean, factor, mass in (
        (nuisances.outcome, mean_outcome, np.ones(n_units), weight),
        (nuisances.density, mean_density, left, weight * balancing),
    ):
        inverse = np.linalg.inv((basis * mass[:, None]).T @ basis / n_units)
        # the mean of v p f over units by cell of the grid, as weights on the grid's doses
        spread = np.zeros((surface.shape[1], basis.shape[1]))
        share = basis * (weight * factor / n_units)[:, None]
        np.add.at(spread, cell, share * (1 - far)[:, None])
        np.add.at(spread, cell + 1, share * far[:, None])
        influence += weight[:, None] * ((surface - mean) @ spread @ inverse)
    # the jackknife has its own small-sample correction; undo the factor of `Estimate`
    lost = basis.shape[1] / n_units if cluster is None else 1 / (cluster.max() + 1)
    return level + gap, influence * np.sqrt(1 - lost)
