"""Do networks trained on the effect rank sites better than learners on frozen embeddings.

    python simulations/image_effects/run.py gewata_pattern_1000
    python simulations/image_effects/run.py gewata_null_1000

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

sys.path.insert(0, str(Path(__file__).parents[1]))

from harness import Row, main

import terracausal as tc
from terracausal.encoders.networks import KernelMaxNetwork, TrainingSettings
from terracausal.simulate import simulate_landscape
from terracausal.simulate.kernel import kernel_response
from terracausal.simulate.sites import standardise

ENTROPY = 195240177361286045391752018846302177261
DEVICE = os.environ.get("TERRACAUSAL_DEVICE", "cpu")
GEWATA_NIR, SATURATED = 4, 16_000
SIZE_PX, WIDTH_PX, N_FILTERS = 32, 8, 8
AVERAGE_EFFECT, NOISE_SD = 0.5, 0.5
SITES_SHOWN = 20_000


ENCODERS: dict[str, Any] = {
    "random convolutions": tc.RandomConvEncoder(128, random_state=0),
    "random convolutions 8 px, max": tc.RandomConvEncoder(
        128, patch_px=WIDTH_PX, pooling="max", random_state=0
    ),
}


@dataclass(frozen=True)
class Cell:
    """A randomised trial on cut scenes.

    Parameters
    ----------
    imagery : str
        "landscape" or "gewata".
    n_sites : int
    effect_sd : float
        Standard deviation of the effect over sites.
    replications : int, default=100
    n_networks : int, default=2
    frozen : tuple of str
        Keys of `ENCODERS`, whose embeddings a DR-learner and a forest read.
    """

    imagery: str
    n_sites: int
    effect_sd: float
    replications: int = 100
    n_networks: int = 2
    frozen: tuple[str, ...] = tuple(ENCODERS)


CELLS = {"smoke": Cell("landscape", 60, 1.0, 2, 1, ())} | {
    f"{imagery}_{name}_{n_sites}": Cell(imagery, n_sites, effect_sd)
    for imagery in ("landscape", "gewata")
    for name, effect_sd in (("pattern", 1.0), ("null", 0.0))
    for n_sites in (500, 1000, 2000)
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


def draw_trial(cell: Cell, rng: np.random.Generator) -> tuple[tc.Study, tc.Chips, "pd.Series[Any]"]:
    """Return a trial in which lines that rise modify the effect, and lines of any kind do not.

    With the strongest responses of a scene to a rising and to a falling diagonal, r and f::

        effect = AVERAGE_EFFECT + effect_sd * standardised(r - f)
        outcome = standardised(r + f) + effect * treatment + NOISE_SD * noise

    Contrast, which every embedding shows, moves r and f alike, and so the outcome alone.
    """
    world = tc.simulate_study(
        "kernel",
        n_sites=cell.n_sites,
        size_px=SIZE_PX,
        landscape=raster_of(cell.imagery),
        random_state=rng,
    )
    chips, sites = world.chips, world.chips.keys
    scenes = np.stack([chips[site][0, 0] for site in sites])
    rising, falling = (
        kernel_response(np.ascontiguousarray(x), WIDTH_PX).max(axis=(1, 2)).astype(np.float64)
        for x in (scenes, scenes[:, :, ::-1])
    )
    effect = AVERAGE_EFFECT + cell.effect_sd * standardise(rising - falling)
    treated = rng.permutation(np.arange(len(sites)) % 2)
    noise = NOISE_SD * rng.normal(size=len(sites))
    outcome = standardise(rising + falling) + effect * treated + noise
    table = pd.DataFrame({"outcome": outcome, "treated": treated, "site": sites}, index=sites)
    study = tc.Study(table, outcome="outcome", treatment="treated", site="site", propensity=0.5)
    return study, chips, pd.Series(effect, index=sites)


def priorities(
    cell: Cell, study: tc.Study, chips: tc.Chips, folds: tc.Folds, rng: np.random.Generator
) -> Iterator[tuple[str, "pd.Series[float]"]]:
    """Yield out-of-fold effects of every learner."""
    seed = int(rng.integers(2**31))
    network = partial(KernelMaxNetwork, width_px=WIDTH_PX, n_filters=N_FILTERS)
    training = TrainingSettings(learning_rate=0.1, n_epochs=max(1, SITES_SHOWN // cell.n_sites))
    learner = tc.ImageRLearner(
        network,
        n_networks=cell.n_networks,
        training=training,
        n_folds=2,
        device=DEVICE,
        random_state=seed,
    )
    # where the propensity is 1/2, the DR-loss is four times the R-loss: the same networks
    yield "image R-learner", learner.cross_predict(study, folds, chips=chips)
    for name in cell.frozen:
        joined = study.join(ENCODERS[name].fit_transform(chips), role="modifier")
        frozen = {
            "DR-learner": tc.DRLearner(random_state=seed),
            "forest": tc.CausalForest(n_trees=500, random_state=seed),
        }
        for word, other in frozen.items():
            yield f"{name}, {word}", other.cross_predict(joined, folds)


def draw(cell: Cell, rng: np.random.Generator) -> Iterator[Row]:
    """Yield AUTOC of every learner, all on the same scores, and what it is with true effects."""
    study, chips, effect = draw_trial(cell, rng)
    folds = study.folds(random_state=rng)
    adjusted = study.join(tc.BandStatisticsEncoder().fit_transform(chips))
    scores = tc.doubly_robust_scores(adjusted, tc.cross_fit(adjusted, folds, random_state=rng))
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
        named = {"setting": f"{cell.imagery}, {cell.n_sites} sites", "estimator": name}
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
