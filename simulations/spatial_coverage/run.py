"""Coverage of spatial (Conley) intervals where treatment and error are spatial patches."""

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).parents[1]))

from harness import Row, main, row

import terracausal as tc

ENTROPY = 301826174053396518220711985640093347216
REPLICATIONS = 500
N_UNITS = 1500
SIDE_M = 300_000
BLOCK_M = 20_000
RANGE_M = 15_000
EFFECT = 0.5
METRES_PER_DEGREE = 111_195  # on the sphere of the library, near the equator
N_WAVES = 400


def smooth_field(metres: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return a field with unit variance and correlation exp(-(d / RANGE_M)^2 / 2).

    A sum of random waves (Rahimi & Recht, 2007); metres has the shape (n_units, 2).
    """
    wave = rng.normal(scale=1 / RANGE_M, size=(2, N_WAVES))
    phase = rng.uniform(0, 2 * np.pi, size=N_WAVES)
    height = rng.normal(size=N_WAVES)
    return np.cos(metres @ wave + phase) @ height * np.sqrt(2 / N_WAVES)


def draw_table(rng: np.random.Generator) -> pd.DataFrame:
    """Return units at random places; square blocks are treated with probability one half."""
    metres = rng.uniform(0, SIDE_M, size=(N_UNITS, 2))
    block = (metres // BLOCK_M).astype(int)
    n_side = -(-SIDE_M // BLOCK_M)
    treated = rng.integers(0, 2, size=(n_side, n_side))[block[:, 0], block[:, 1]]
    error = 0.8 * smooth_field(metres, rng) + 0.6 * rng.normal(size=N_UNITS)
    degrees = 30 + metres / METRES_PER_DEGREE - [0, 30 + SIDE_M / METRES_PER_DEGREE / 2]
    return pd.DataFrame(
        {"y": EFFECT * treated + error, "w": treated, "lon": degrees[:, 0], "lat": degrees[:, 1]}
    )


def draw(rng: np.random.Generator) -> Iterator[Row]:
    """Yield the rows of one replication."""
    started = time.perf_counter()
    study = tc.Study(
        draw_table(rng), outcome="y", treatment="w", coords=("lon", "lat"), propensity=0.5
    )
    scores = tc.doubly_robust_scores(study, tc.cross_fit(study, random_state=rng))
    effect = tc.average_effect(scores, method="difference_in_means")
    yield row("patches of 20 km", "hc", EFFECT, effect, started)
    for cutoff_km in (20, 40, 80):
        spatial = effect.with_std_error("conley", cutoff_m=1000 * cutoff_km)
        yield row("patches of 20 km", f"conley {cutoff_km} km", EFFECT, spatial, started)


if __name__ == "__main__":
    main(draw, ENTROPY, Path(__file__).parent, REPLICATIONS)
