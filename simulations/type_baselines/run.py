"""Types of places that differ in their baselines too: one baseline for all, and one by type."""

import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[1] / "effect_types"))

from harness import Row, main, number, row, table_of
from worlds import N_FEATURES, draw_world

from terracausal.mixtures import EffectMixture
from terracausal.mixtures.results import MixtureWarning

ENTROPY = 261904716602938451118340927756310284461
REPLICATIONS = 100
DESIGNS = {"300 x 7": (300, 7), "1,000 x 1": (1000, 1)}
JUMPS = (0.0, 0.5, -2.0)
EFFECTS = (0.0, 2.0)


def draw(rng: np.random.Generator) -> Iterator[Row]:
    """Yield the rows of one replication of all settings."""
    seed = int(rng.integers(2**31))
    for design, (n_sites, units_per_site) in DESIGNS.items():
        for jump in JUMPS:
            study, *_ = draw_world(rng, n_sites, units_per_site, EFFECTS, jump=jump)
            for baseline in ("shared", "by_type"):
                started = time.perf_counter()
                mixture = EffectMixture(
                    baseline=baseline,
                    n_dimensions=N_FEATURES,
                    guide="laplace",
                    n_restarts=4,
                    n_bootstrap=0,
                    random_state=seed,
                )
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", MixtureWarning)
                    mixture.fit(study)
                told, setting = mixture.to_dataframe(level=0.95), f"{design}, jump {jump:+g}"
                for k, truth in enumerate(EFFECTS):
                    yield row(setting, baseline, truth, table_of(told.iloc[[k]]), started)
                if mixture.baseline_p_value_ is not None:
                    p_value = number("p_value", mixture.baseline_p_value_)
                    yield row(setting, "score test", 0.0, p_value, started)


if __name__ == "__main__":
    main(draw, ENTROPY, Path(__file__).parent, REPLICATIONS)
