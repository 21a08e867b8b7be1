"""Worlds whose types are read off pixels, end to end: effects, intervals and memberships.

The first argument is the cell, one of `CELLS`; its rows go to results/CELL.csv.
"""

import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
from sklearn.metrics import roc_auc_score

sys.path.insert(0, str(Path(__file__).parents[1]))

from chip_worlds import EFFECTS, World, draw_world
from harness import Row, main, number, row, table_of

from terracausal.encoders import TrainingSettings
from terracausal.mixtures import EffectMixture, MixtureNetworks

ENTROPY = 70413962245801127349966100284753106253
REPLICATIONS = 200
CELLS = {
    f"{imagery}_{n_sites}x{units}": (imagery, n_sites, units)
    for imagery in ("landscape", "gewata")
    for n_sites, units in ((1000, 1), (300, 7))
}
NETWORKS = MixtureNetworks(
    "kernel_max",
    training=TrainingSettings(learning_rate=0.1, n_epochs=20, batch_size=64, n_restarts=2),
)


def draw(cell: str, rng: np.random.Generator) -> Iterator[Row]:
    """Yield the rows of one replication of a cell: end to end, and given the true moderator."""
    seed = int(rng.integers(2**31))
    world = draw_world(rng, *CELLS[cell])
    settings = EffectMixture(guide="laplace", n_restarts=4, n_bootstrap=100, random_state=seed)
    started = time.perf_counter()
    embedded = world.study.join(world.moderators, role="modifier")
    oracle = EffectMixture(**settings.get_params()).fit(embedded)
    chance = oracle.predict_proba(world.moderators)["probability_2"]
    yield from rows_of(cell, world, oracle, "given u", chance.to_numpy(), started)
    started = time.perf_counter()
    mixture = settings.set_params(networks=NETWORKS).fit(world.study, world.chips)
    chance = mixture.predict_proba(world.chips)["probability_2"]
    yield from rows_of(cell, world, mixture, "end to end", chance.to_numpy(), started)


def rows_of(
    cell: str, world: World, mixture: EffectMixture, name: str, chance: np.ndarray, started: float
) -> Iterator[Row]:
    """Yield effects with both kinds of intervals, and how well sites are sorted."""
    told = mixture.to_dataframe(level=0.95)
    for k, truth in enumerate(EFFECTS):
        line = told.iloc[[k]]
        yield row(cell, f"{name}: refits", truth, table_of(line), started)
        mean, sd = line["posterior_mean"].iloc[0], line["posterior_sd"].iloc[0]
        posterior = line.assign(
            estimate=mean, std_error=sd, ci_low=mean - 1.96 * sd, ci_high=mean + 1.96 * sd
        )
        yield row(cell, f"{name}: posterior", truth, table_of(posterior), started)
    gain = roc_auc_score(world.kind, chance) - roc_auc_score(world.kind, world.chance)
    yield row(cell, f"{name}: AUC less the oracle's", 0.0, number("auc", gain), started)


if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] not in CELLS:
        sys.exit(f"The first argument must be a cell, one of: {', '.join(CELLS)}")
    chosen = sys.argv.pop(1)
    if "--out" not in sys.argv:
        results = Path(__file__).parent / "results"
        results.mkdir(exist_ok=True)
        sys.argv += ["--out", str(results / f"{chosen}.csv")]
    main(partial(draw, chosen), ENTROPY, Path(__file__).parent, REPLICATIONS)
