"""Worlds with two types of places: effects, intervals and memberships."""

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from sklearn.metrics import roc_auc_score

sys.path.insert(0, str(Path(__file__).parents[1]))

from harness import Row, main, number, row, table_of
from worlds import N_FEATURES, draw_world

from terracausal.mixtures import EffectMixture

ENTROPY = 308173642205518117240963417158430921837
REPLICATIONS = 200
DESIGNS = {"300 sites of 7": (300, 7), "1,000 sites of 1": (1000, 1)}
EFFECTS = (0.0, 2.0)


def draw(rng: np.random.Generator) -> Iterator[Row]:
    """Yield the rows of one replication of all settings."""
    seed = int(rng.integers(2**31))
    for setting, (n_sites, units_per_site) in DESIGNS.items():
        yield from recover(rng, setting, n_sites, units_per_site, seed)


def recover(
    rng: np.random.Generator, setting: str, n_sites: int, units_per_site: int, seed: int
) -> Iterator[Row]:
    """Fit two components; compare effects, posterior and memberships with the truth."""
    started = time.perf_counter()
    study, embeddings, kind, chance = draw_world(rng, n_sites, units_per_site, EFFECTS)
    mixture = EffectMixture(
        n_dimensions=N_FEATURES, guide="laplace", n_restarts=4, n_bootstrap=100, random_state=seed
    ).fit(study)
    told = mixture.to_dataframe(level=0.95)
    for k, truth in enumerate(EFFECTS):
        line = told.iloc[[k]]
        yield row(setting, "refits", truth, table_of(line), started)
        mean, sd = line["posterior_mean"].iloc[0], line["posterior_sd"].iloc[0]
        posterior = line.assign(
            estimate=mean, std_error=sd, ci_low=mean - 1.96 * sd, ci_high=mean + 1.96 * sd
        )
        yield row(setting, "posterior", truth, table_of(posterior), started)
    found = mixture.predict_proba(embeddings)["probability_2"]
    gain = roc_auc_score(kind, found) - roc_auc_score(kind, chance)
    yield row(setting, "AUC less that of the oracle", 0.0, number("auc", gain), started)


if __name__ == "__main__":
    main(draw, ENTROPY, Path(__file__).parent, REPLICATIONS)
