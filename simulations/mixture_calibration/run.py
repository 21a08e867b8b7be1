"""Simulation-based calibration: the rank of the truth among draws of the posterior."""

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from harness import Row, main, number, row

from terracausal.mixtures.density import MixtureDensity
from terracausal.mixtures.design import MixtureTable
from terracausal.mixtures.fitting import find_mode, one_thread
from terracausal.mixtures.layout import parameter_blocks
from terracausal.mixtures.posterior import PosteriorSearch, find_posterior
from terracausal.mixtures.settings import MixtureSpec

ENTROPY = 263914550192847735601827364519284756102
REPLICATIONS = 200
N_SITES, UNITS_PER_SITE, N_DRAWS = 60, 4, 99


def draw_table(rng: np.random.Generator) -> MixtureTable:
    """Return 60 sites of 4 units, half of them treated, with outcomes still to be drawn."""
    n_units = N_SITES * UNITS_PER_SITE
    treatment = rng.permutation(np.arange(n_units) % 2).astype(float)
    image = np.column_stack([np.ones(N_SITES), rng.normal(size=(N_SITES, 2))])
    site = np.repeat(np.arange(N_SITES), UNITS_PER_SITE)
    return MixtureTable(
        observed=np.zeros(n_units),
        outcome=np.zeros(n_units),
        treatment=treatment,
        dose=treatment,
        weight=np.ones(n_units),
        at_floor=np.zeros(n_units, dtype=bool),
        baseline=np.column_stack([image[site], rng.normal(size=n_units)]),
        modifier=np.empty((n_units, 0)),
        site=site,
        image=image,
        cluster=np.arange(N_SITES),
        sites=pd.RangeIndex(N_SITES),
    )


def draw(rng: np.random.Generator, guides: tuple[str, ...] = ("laplace",)) -> Iterator[Row]:
    """Draw parameters from their priors and outcomes from these; rank the parameters."""
    blocks = parameter_blocks(table := draw_table(rng), MixtureSpec(2))
    density = MixtureDensity(table, blocks, "normal")
    location, scale = (
        np.concatenate([getattr(b, part) for b in blocks]) for part in ("location", "scale")
    )
    truth = torch.from_numpy(location + scale * rng.standard_normal(len(scale)))
    generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
    density._outcome = density.draw_outcomes(truth[None], generator)[0]
    right = functionals(density, truth[None]).iloc[0]
    with one_thread():
        mode = find_mode(density, 8, rng)
        for guide in guides:
            started = time.perf_counter()
            found = find_posterior(density, mode, PosteriorSearch(guide, n_draws=N_DRAWS), rng)
            ranks = (functionals(density, found.draws) < right).sum()
            for name, rank in ranks.items():
                yield row("2 types", guide, float(N_DRAWS), number(str(name), rank), started)


def functionals(density: MixtureDensity, draws: torch.Tensor) -> pd.DataFrame:
    """Return, by draw, numbers that do not depend on the labels of the types."""
    with torch.no_grad():
        answers = density.answers(draws, torch.ones((1, N_SITES), dtype=torch.float64)).numpy()
        types = density.part(draws, "membership").numpy()
    order = answers[:, :2].argsort(axis=1)
    rows = np.arange(len(draws))
    slope = types[rows, order[:, 1], 1] - types[rows, order[:, 0], 1]
    return pd.DataFrame(
        {
            "smaller effect": answers[rows, order[:, 0]],
            "larger effect": answers[rows, order[:, 1]],
            "average effect": answers[:, 2],
            "share of the larger": answers[rows, 3 + order[:, 1]],
            "slope of its log odds": slope,
            "log SD of controls": density.part(draws, "log_sd")[:, 0, 0].numpy(),
            "log SD of sites": density.part(draws, "log_site_sd")[:, 0].numpy(),
        }
    )


if __name__ == "__main__":
    main(draw, ENTROPY, Path(__file__).parent, REPLICATIONS)
