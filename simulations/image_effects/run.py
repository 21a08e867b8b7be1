"""Do networks trained on the effect rank sites by what pooled frozen features cannot say.

    python simulations/image_effects/run.py pattern
    python simulations/image_effects/run.py null

The first argument is the cell, one of `CELLS`; its rows go to results/CELL.csv. Networks are
trained on TERRACAUSAL_DEVICE ("cpu" if it is not set; "cuda" for a GPU).
"""

import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parents[1]))

from harness import Row, main

import terracausal as tc
from terracausal.encoders.networks import ConvNetwork, TrainingSettings
from terracausal.simulate import simulate_landscape
from terracausal.simulate.sites import standardise

ENTROPY = 195240177361286045391752018846302177261
DEVICE = os.environ.get("TERRACAUSAL_DEVICE", "cpu")
GEWATA_NIR, SATURATED = 4, 16_000
SIZE_PX, MARGIN_PX, OBJECT_PX = 20, 3, 3
NEAR_PX, FAR_PX = 5, 11
"""Between the centres of the two objects, in the direction in which they are further apart."""
OBJECT_SD = 4.0
AVERAGE_EFFECT, NOISE_SD, PROGNOSTIC = 0.5, 0.5, 0.5
NETWORK = partial(ConvNetwork, widths=(8, 16, 16))
TRAINING = TrainingSettings(learning_rate=0.01, n_epochs=15, patience=8)


def random_convolutions(patch_px: int, pooling: Any) -> tc.RandomConvEncoder:
    """Return the frozen encoder that a learner reads."""
    return tc.RandomConvEncoder(128, patch_px=patch_px, pooling=pooling, random_state=0)


ENCODERS = {
    "3 px, mean": random_convolutions(3, "mean"),
    "3 px, max": random_convolutions(3, "max"),
    "8 px, max": random_convolutions(8, "max"),
}


@dataclass(frozen=True)
class Cell:
    """A randomised trial on scenes with two objects.

    Parameters
    ----------
    imagery : str
        "landscape" or "gewata".
    effect_sd : float
        Standard deviation of the effect over sites; half of the sites are above the mean by it.
    prognostic : float
        By how much sites with near objects are above the mean in both arms.
    replications : int
    n_sites : int, default=500
    units_per_site : int, default=4
    n_networks : int, default=2
    frozen : tuple of str
        Keys of `ENCODERS`, whose embeddings a DR-learner and a forest read.
    """

    imagery: str
    effect_sd: float
    prognostic: float
    replications: int
    n_sites: int = 500
    units_per_site: int = 4
    n_networks: int = 2
    frozen: tuple[str, ...] = tuple(ENCODERS)


CELLS = {
    "smoke": Cell("landscape", 1.0, 0.0, 2, 60, 2, 1, ("3 px, mean",)),
    "pattern": Cell("gewata", 1.0, 0.0, 15),
    "null": Cell("gewata", 0.0, PROGNOSTIC, 40, frozen=()),
}


def raster_of(imagery: str) -> Any:
    """Return what scenes are cut from."""
    if imagery == "landscape":
        return simulate_landscape(512, random_state=0)
    import rasterio

    root = Path(os.environ.get("TERRACAUSAL_DATA", "../shared/data"))
    with rasterio.open(root / "gewata_landsat" / "gewata.tif") as source:
        nir = source.read(GEWATA_NIR, masked=True)
    return np.ma.masked_equal(nir, SATURATED)


def draw_objects(near: bool, rng: np.random.Generator) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the upper left corners of a bright and a dark object, near each other or far."""
    far = NEAR_PX if near else FAR_PX
    offset = rng.permutation([far, rng.integers(-far, far + 1)]) * rng.choice([-1, 1])
    first, last = MARGIN_PX - 1, SIZE_PX - MARGIN_PX - OBJECT_PX + 1
    lowest, highest = first - np.minimum(offset, 0), last - np.maximum(offset, 0)
    bright = rng.integers(lowest, highest + 1)
    return bright, bright + offset


def draw_trial(cell: Cell, rng: np.random.Generator) -> tuple[tc.Study, tc.Chips, "pd.Series[Any]"]:
    """Return a trial in which the distance of two objects modifies the effect.

    With near = ±1 for the halves of the sites, and the contrast of the scene behind the objects::

        effect = AVERAGE_EFFECT + effect_sd * near
        outcome = standardised(log contrast) + prognostic * near + effect * treatment + noise
    """
    world = tc.simulate_study(
        "kernel",
        n_sites=cell.n_sites,
        size_px=SIZE_PX,
        landscape=raster_of(cell.imagery),
        random_state=rng,
    )
    sites = world.chips.keys
    scenes = np.stack([world.chips[site][0, 0] for site in sites]).astype(np.float64)
    contrast = standardise(np.log(scenes.std(axis=(1, 2)) + 1e-6))
    level, spread = scenes.mean(), OBJECT_SD * scenes.std()
    near = rng.permutation(np.arange(cell.n_sites) % 2) == 1
    for scene, is_near in zip(scenes, near, strict=True):
        for (i, j), value in zip(draw_objects(is_near, rng), (spread, -spread), strict=True):
            scene[i : i + OBJECT_PX, j : j + OBJECT_PX] = level + value
    chips = tc.Chips.from_arrays(
        scenes[:, None, None].astype(np.float32), sites=sites, bands=["nir"]
    )
    side = np.where(near, 1.0, -1.0)
    of_site = AVERAGE_EFFECT + cell.effect_sd * side, contrast + cell.prognostic * side
    effect, control = (np.repeat(x, cell.units_per_site) for x in of_site)
    n_units = len(effect)
    treated = rng.permuted(np.arange(n_units).reshape(cell.n_sites, -1) % 2, axis=1).ravel()
    noise = NOISE_SD * rng.normal(size=n_units)
    columns = {"outcome": control + effect * treated + noise, "treated": treated}
    table = pd.DataFrame(columns | {"site": np.repeat(np.asarray(sites), cell.units_per_site)})
    study = tc.Study(table, outcome="outcome", treatment="treated", site="site", propensity=0.5)
    # what explains the outcome is known to every learner alike, and to the scores
    statistics = tc.BandStatisticsEncoder().fit_transform(chips)
    return study.join(statistics, role="confounder"), chips, pd.Series(effect, index=table.index)


def priorities(
    cell: Cell, study: tc.Study, chips: tc.Chips, folds: tc.Folds, rng: np.random.Generator
) -> Iterator[tuple[str, "pd.Series[float]"]]:
    """Yield out-of-fold effects of every learner."""
    seed = int(rng.integers(2**31))
    learner = tc.ImageRLearner(
        NETWORK,
        nuisances="table",
        n_networks=cell.n_networks,
        training=TRAINING,
        device=DEVICE,
        random_state=seed,
    )
    # where the propensity is 1/2, the DR-loss is four times the R-loss: the same networks
    yield "image R-learner", learner.cross_predict(study, folds, chips=chips)
    for name in cell.frozen:
        joined = study.join(ENCODERS[name].fit_transform(chips), role="modifier")
        frozen = {
            "ridge DR-learner": tc.DRLearner(random_state=seed),
            "forest": tc.CausalForest(n_trees=500, random_state=seed),
        }
        for word, other in frozen.items():
            yield f"random convolutions {name}, {word}", other.cross_predict(joined, folds)


def draw(cell: Cell, rng: np.random.Generator) -> Iterator[Row]:
    """Yield AUTOC of every learner, all on the same scores, and what it is with true effects."""
    study, chips, effect = draw_trial(cell, rng)
    folds = study.folds(random_state=rng)
    scores = tc.doubly_robust_scores(study, tc.cross_fit(study, folds, random_state=rng))
    exact = scores.to_dataframe().assign(score=effect.loc[scores.score.index])
    true_scores = tc.Scores.from_dataframe(exact)
    seed = int(rng.integers(2**31))
    started = time.perf_counter()
    for name, priority in priorities(cell, study, chips, folds, rng):
        spent = time.perf_counter() - started
        rate = tc.rank_weighted_effect(scores, priority, random_state=seed)
        truth = 0.0
        if cell.effect_sd:
            truth = tc.rank_weighted_effect(
                true_scores, priority, n_bootstrap=2, random_state=seed
            ).value[0]
        told = rate.to_dataframe(level=0.95).iloc[0]
        numbers = {key: told[key] for key in ("estimate", "std_error", "ci_low", "ci_high")}
        numbers |= {"truth": truth, "seconds": round(spent, 3)}
        setting = f"{cell.imagery}, {cell.n_sites} sites of {cell.units_per_site}"
        named = {"setting": setting, "estimator": name}
        yield named | {"term": "AUTOC"} | {key: f"{x:.5g}" for key, x in numbers.items()}
        started = time.perf_counter()


if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] not in CELLS:
        sys.exit(f"The first argument must be a cell, one of: {', '.join(CELLS)}")
    chosen = sys.argv.pop(1)
    if "--out" not in sys.argv:
        results = Path(__file__).parent / "results"
        results.mkdir(exist_ok=True)
        sys.argv += ["--out", str(results / f"{chosen}.csv")]
    cell = CELLS[chosen]
    main(partial(draw, cell), ENTROPY, Path(__file__).parent, cell.replications)
