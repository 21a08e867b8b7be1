"""Causal forests on grf's generating processes; `grf.R` fits grf to the same data."""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

sys.path.insert(0, str(Path(__file__).parents[1]))

from harness import Row, main, replication_seeds
from worlds import CELLS, World, draw_world

import terracausal as tc

ENTROPY = 312270844918345508812273094551046711263
REPLICATIONS = 5
LEVEL = 0.9


def draw(rng: np.random.Generator) -> Iterator[Row]:
    """Yield the rows of one replication of all worlds."""
    for (name, p), world, seed in worlds(rng):
        forest = fit(world, seed)
        effects, errors = forest.oob_effects_.to_numpy(), forest.oob_std_errors_.to_numpy()
        inside = np.abs(effects - world.tau) <= stats.norm.ppf(0.5 + LEVEL / 2) * errors
        found = {
            "RMSE": np.sqrt(np.mean((effects - world.tau) ** 2)),
            "coverage": inside.mean(),
            "mean SE": errors.mean(),
        }
        for term, value in found.items():
            yield {
                "setting": f"{name}, p = {p}",
                "estimator": "terracausal",
                "term": term,
                "estimate": f"{value:.5g}",
            }


def worlds(rng: np.random.Generator) -> Iterator[tuple[tuple[str, int], World, int]]:
    """Yield the worlds of one replication, each with a seed for its forest."""
    for cell, child in zip(CELLS, rng.spawn(len(CELLS)), strict=True):
        yield cell, draw_world(*cell, child), int(child.integers(2**31))


def fit(world: World, seed: int, n_jobs: int = 1) -> tc.CausalForest:
    names = [f"x{j:03d}" for j in range(world.features.shape[1])]
    table = pd.DataFrame(world.features, columns=names).assign(y=world.y, w=world.w)
    study = tc.Study(table, outcome="y", treatment="w", covariates=names)
    return tc.CausalForest(n_jobs=n_jobs, random_state=seed).fit(study)


def export(folder: Path, replications: int) -> None:
    """Write y, w, tau and the features of each world as float64, column by column, for R."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(replication_seeds(ENTROPY, replications)):
        for (name, p), world, forest_seed in worlds(np.random.default_rng(seed)):
            columns = np.column_stack([world.y, world.w, world.tau, world.features])
            path = folder / f"{number}_{name}_{p}_{forest_seed}.bin"
            columns.ravel(order="F").tofile(path)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--export", type=Path, help="write the data for grf.R here, and stop")
    given, others = parser.parse_known_args()
    if given.export:
        export(given.export, REPLICATIONS)
    else:
        sys.argv[1:] = others
        main(draw, ENTROPY, Path(__file__).parent, REPLICATIONS)
