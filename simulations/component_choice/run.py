"""Worlds of one and of two types: how often each number is chosen, and what the tests say."""

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[1] / "effect_types"))

from harness import Row, main, number, row
from worlds import N_FEATURES, draw_world

from terracausal.mixtures import EffectMixture, choose_components

ENTROPY = 195408241116402250731926330271044923571
REPLICATIONS = 200
# effects of the types, whether images tell them, and how many there are
WORLDS = {
    "constant effect 1": ((1.0, 1.0), True, 1),
    "effects 0 and 2": ((0.0, 2.0), True, 2),
    "effects 0 and 2, images blind": ((0.0, 2.0), False, 2),
}
N_SITES, UNITS_PER_SITE = 120, 5


def draw(rng: np.random.Generator) -> Iterator[Row]:
    """Yield the rows of one replication of both worlds."""
    seed = int(rng.integers(2**31))
    for setting, (effects, told, truth) in WORLDS.items():
        started = time.perf_counter()
        study, *_ = draw_world(rng, N_SITES, UNITS_PER_SITE, effects, told=told)
        mixture = EffectMixture(n_dimensions=N_FEATURES, n_restarts=4, random_state=seed)
        folds = study.folds(random_state=seed)
        choice = choose_components(study, (1, 2, 3), folds, mixture=mixture)
        yield row(setting, "chosen", truth, number("components", choice.n_components), started)
        yield row(setting, "test", 0.0, number("p_value", choice.p_value or 0.0), started)
        two = choice.to_dataframe().set_index("n_components").loc[2]
        yield row(setting, "images", 0.0, number("p_value", two["image_p_value"]), started)


if __name__ == "__main__":
    main(draw, ENTROPY, Path(__file__).parent, REPLICATIONS)
