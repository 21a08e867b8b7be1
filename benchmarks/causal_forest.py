"""Seconds and memory of a causal forest and of its full evaluation, beside grf where R is there.

Run: python benchmarks/causal_forest.py [--units 2000] [--features 512] [--components 50]
         [--threads 2] [--evaluate] [--folds 5] [--grf]

Data are setup A of Nie & Wager (see simulations/forest_parity/worlds.py). "fit" has both nuisance
forests, the causal forest and out-of-bag effects with standard errors. --evaluate adds out-of-fold
effects (one more forest per fold), scores, the average, calibration and a RATE with 2,000
half-samples.
--grf runs causal_forest.R on the same data: grf's fit, predictions, average, calibration and RATE.
Both report wall time, and CPU time, which other work on the machine disturbs less.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).parents[1] / "simulations" / "forest_parity"))

from worlds import World, draw_world

import terracausal as tc


class TimedForest(tc.CausalForest):
    """Tells how long its nuisance forests take."""

    def _regress(self, study, task, *others):
        with timed(f"  of which {task} forest"):
            return super()._regress(study, task, *others)


@contextmanager
def timed(words: str) -> Iterator[None]:
    wall, cpu = time.perf_counter(), time.process_time()
    yield
    report(words, time.perf_counter() - wall, time.process_time() - cpu)


def report(words: str, wall: float, cpu: float) -> None:
    print(f"{words:<44} wall {wall:7.2f} s   CPU {cpu:7.2f} s", flush=True)


def study_of(world: World) -> tc.Study:
    """Return units that each have a site of their own, with the features as its embedding."""
    names = [f"x{j:03d}" for j in range(world.features.shape[1])]
    table = pd.DataFrame({"y": world.y, "w": world.w, "site": np.arange(len(world.y))})
    features = pd.DataFrame(world.features, columns=names)
    return tc.Study(table, outcome="y", treatment="w", site="site").join(features, "both")


def evaluate(study: tc.Study, forest: tc.CausalForest, n_folds: int) -> None:
    """Time everything that is said about effects, on scores of the forest's own nuisances."""
    with timed(f"effects out of {n_folds} folds"):
        priority = tc.CausalForest(**forest.get_params()).cross_predict(
            study, study.folds(n_folds, random_state=0)
        )
    with timed("scores, average, calibration"):
        scores = tc.doubly_robust_scores(study, forest.nuisances_)
        tc.average_effect(scores)
        tc.calibration_test(scores, forest.oob_effects_)
    with timed("RATE with 2,000 half-samples"):
        tc.rank_weighted_effect(scores, priority, n_bootstrap=2000, random_state=0)


def run_grf(world: World, threads: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "world.bin"
        np.column_stack([world.y, world.w, world.features]).ravel(order="F").tofile(path)
        script = Path(__file__).with_suffix(".R")
        command = ["Rscript", str(script), str(path), str(len(world.y)), str(threads)]
        subprocess.run(command, check=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--units", type=int, default=2000)
    parser.add_argument("--features", type=int, default=512)
    parser.add_argument("--components", type=int, default=None)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--evaluate", action="store_true")
    parser.add_argument("--grf", action="store_true")
    given = parser.parse_args()
    world = draw_world("nw1", given.features, np.random.default_rng(0), given.units)
    study = study_of(world)
    settings = {"n_components": given.components, "n_jobs": given.threads, "random_state": 0}
    with timed("loading compiled code"):
        tc.CausalForest(n_trees=20, random_state=0).fit(study.subset(np.arange(given.units) < 200))
    forest = TimedForest(**settings)
    print(f"{given.units} units, {given.features} features, components: {given.components}")
    with timed("fit"):
        forest.fit(study)
    error = np.sqrt(np.mean((forest.oob_effects_.to_numpy() - world.tau) ** 2))
    print(f"RMSE of the effects {error:.4f}")
    if given.evaluate:
        evaluate(study, forest, given.folds)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"peak memory {peak:,.0f} MB")
    if given.grf:
        run_grf(world, given.threads)


if __name__ == "__main__":
    main()
