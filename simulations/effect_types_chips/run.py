"""Worlds whose types are read off pixels, end to end: effects, intervals and memberships."""

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from sklearn.metrics import roc_auc_score

sys.path.insert(0, str(Path(__file__).parents[1]))

from chip_worlds import EFFECTS, draw_world
from harness import Row, main, number, row, table_of

from terracausal.encoders import TrainingSettings
from terracausal.mixtures import EffectMixture, MixtureNetworks

ENTROPY = 70413962245801127349966100284753106253
REPLICATIONS = 200
WORLDS = {
    "landscape, 300 sites of 7": ("landscape", 300, 7),
    "landscape, 1,000 sites of 1": ("landscape", 1000, 1),
    "Landsat, 300 sites of 7": ("landsat", 300, 7),
}
NETWORKS = MixtureNetworks(
    "kernel_max", training=TrainingSettings(learning_rate=0.1, n_epochs=20, n_restarts=2)
)


def draw(rng: np.random.Generator) -> Iterator[Row]:
    """Yield the rows of one replication of all worlds."""
    seed = int(rng.integers(2**31))
    for setting, (imagery, n_sites, units_per_site) in WORLDS.items():
        started = time.perf_counter()
        world = draw_world(rng, imagery, n_sites, units_per_site)
        mixture = EffectMixture(
            guide="laplace", n_restarts=4, n_bootstrap=100, networks=NETWORKS, random_state=seed
        ).fit(world.study, world.chips)
        told = mixture.to_dataframe(level=0.95)
        for k, truth in enumerate(EFFECTS):
            line = told.iloc[[k]]
            yield row(setting, "refits", truth, table_of(line), started)
            mean, sd = line["posterior_mean"].iloc[0], line["posterior_sd"].iloc[0]
            posterior = line.assign(
                estimate=mean, std_error=sd, ci_low=mean - 1.96 * sd, ci_high=mean + 1.96 * sd
            )
            yield row(setting, "posterior", truth, table_of(posterior), started)
        found = mixture.predict_proba(world.chips)["probability_2"]
        gain = roc_auc_score(world.kind, found) - roc_auc_score(world.kind, world.chance)
        yield row(setting, "AUC less that of the oracle", 0.0, number("auc", gain), started)


if __name__ == "__main__":
    main(draw, ENTROPY, Path(__file__).parent, REPLICATIONS)
