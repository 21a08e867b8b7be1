"""Would the fitted mixture produce data like these? Posterior-predictive checks; unit effects."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor

from terracausal.mixtures.density import MixtureDensity
from terracausal.mixtures.design import MixtureTable

Floats = NDArray[np.float64]
_N_REPLICATES = 100
_DRAWS_AT_ONCE = 20


def predictive_checks(
    density: MixtureDensity, table: MixtureTable, draws: Tensor, rng: np.random.Generator
) -> pd.DataFrame:
    """Compare statistics of the outcomes with those of outcomes drawn from the posterior.

    Parameters
    ----------
    density : MixtureDensity
    table : MixtureTable
    draws : Tensor of shape (n_draws, n_parameters)
    rng : numpy.random.Generator

    Returns
    -------
    pandas.DataFrame
        One row per statistic and arm: statistic, arm, observed, replicated (median), low and high
        (central 90 %), p_value (two-sided; small where the mixture would rarely do this).
    """
    generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
    chosen = draws[torch.from_numpy(rng.permutation(len(draws))[:_N_REPLICATES])]
    order = np.argsort(table.site, kind="stable")
    site, arm = table.site[order], table.treatment[order] == 1
    floor = density.family.scale.floor
    observed = _statistics(table.observed[order], site, arm, floor)
    found = []
    with torch.no_grad():
        for some in torch.split(chosen, density.rows_at_once):
            for outcome in density.draw_outcomes(some, generator).numpy():
                found.append(_statistics(outcome, site, arm, floor))
    drawn = np.array([list(one.values()) for one in found])
    right = np.array(list(observed.values()))
    low, middle, high = np.quantile(drawn, [0.05, 0.5, 0.95], axis=0)
    above = (drawn > right).mean(axis=0) + 0.5 * (drawn == right).mean(axis=0)
    names = pd.MultiIndex.from_tuples(list(observed), names=["statistic", "arm"])
    table_of_checks = pd.DataFrame(
        {
            "observed": right,
            "replicated": middle,
            "low": low,
            "high": high,
            "p_value": 2 * np.minimum(above, 1 - above),
        },
        index=names,
    )
    return table_of_checks.reset_index()


def _statistics(
    outcome: Floats, site: NDArray[np.int64], arm: NDArray[np.bool_], floor: float | None
) -> dict[tuple[str, str], float]:
    """Return the statistics of one set of outcomes, by arm."""
    found = {}
    rules: dict[str, Callable[[Floats], float]] = {
        "mean": lambda y: float(y.mean()),
        "SD": lambda y: float(y.std()),
        "skewness": lambda y: float(stats.skew(y)) if np.ptp(y) > 0 else 0.0,
        "largest": lambda y: float(y.max()),
    }
    lowest = 0.0 if floor is None else floor
    if floor is not None:
        rules["share at the floor"] = lambda y: float((y <= lowest).mean())
    for name, rows in (("control", ~arm), ("treated", arm)):
        for statistic, rule in rules.items():
            found[statistic, name] = rule(outcome[rows])
        counts = np.bincount(site[rows])
        means = np.bincount(site[rows], weights=outcome[rows])[counts > 0] / counts[counts > 0]
        found["SD of site means", name] = float(means.std())
    return found


def unit_effects(density: MixtureDensity, draws: Tensor) -> Floats:
    """Return the effect of each unit given image and outcomes, and its SD.

    Parameters
    ----------
    density : MixtureDensity
    draws : Tensor of shape (n_draws, n_parameters)

    Returns
    -------
    ndarray of shape (n_units, 2)
        Posterior mean and SD over parameters and types, in the order of units by site.
    """
    # filled in place: small tensors that are kept among large ones that go fragment the memory
    mean = torch.zeros(len(density.unit_sites), dtype=torch.float64)
    square, done = torch.zeros_like(mean), 0
    with torch.no_grad():
        for _, part in density.parts(_DRAWS_AT_ONCE):
            units = slice(done, done := done + len(part.unit_sites))
            for some in torch.split(draws, _DRAWS_AT_ONCE):
                effect = part.unit_effects(some)
                chance = part.responsibilities(some)[:, part.unit_sites]
                mean[units] += (chance * effect).sum(dim=(0, 2))
                square[units] += (chance * effect**2).sum(dim=(0, 2))
    mean, square = mean / len(draws), square / len(draws)
    sd = (square - mean**2).clamp_min(0).sqrt()
    return np.asarray(torch.stack([mean, sd], dim=1).numpy())
