"""P-values of tests for effect heterogeneity, from no heterogeneity to a strong one."""

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from harness import Row, main
from image_trial import draw_trial

import terracausal as tc

ENTROPY = 307512962044517364417532519834271186412
REPLICATIONS = 400
SLOPES = (0.2, 0.4, 0.6, 0.9)
N_SITES, UNITS_PER_SITE = 100, 5
N_PERMUTATIONS, N_SPLITS = 99, 10


def draw(rng: np.random.Generator) -> Iterator[Row]:
    """Yield the rows of one replication: every test without heterogeneity and at one strength."""
    yield from tests(0.0, rng)
    yield from tests(SLOPES[rng.integers(len(SLOPES))], rng)


def tests(slope: float, rng: np.random.Generator) -> Iterator[Row]:
    """Yield one p-value per test on one trial."""
    study = draw_trial(rng, slope, N_SITES, UNITS_PER_SITE)
    folds = study.folds(random_state=rng)
    scores = tc.doubly_robust_scores(study, tc.cross_fit(study, folds, random_state=rng))
    seed = int(rng.integers(2**31))
    learner = tc.DRLearner(use="embeddings", n_folds=2)
    learned = tc.DRLearner(use="embeddings", n_folds=2, random_state=seed).cross_predict(
        study, folds
    )
    given = study.table["e0"] + 1  # knows the modifier, and has not seen an outcome
    runs: dict[str, Any] = {}
    for name, effects in (("learned", learned), ("given", given)):
        runs |= {
            f"AUTOC, {name}": lambda effects=effects: tc.rank_weighted_effect(
                scores, effects, random_state=rng
            ),
            f"QINI, {name}": lambda effects=effects: tc.rank_weighted_effect(
                scores, effects, "QINI", random_state=rng
            ),
            f"calibration, {name}": lambda effects=effects: tc.calibration_test(scores, effects),
            f"top less bottom group, {name}": lambda effects=effects: (
                tc.grouped_effects(scores, effects, random_state=rng).contrast
            ),
        }
    permutations = {"n_permutations": N_PERMUTATIONS, "random_state": rng}
    runs |= {
        "permuted images": lambda: tc.image_heterogeneity_test(study, **permutations),
        "permuted images, scores that saw them": lambda: tc.image_heterogeneity_test(
            study, scores, **permutations
        ),
        "splits in half": lambda: tc.split_sample_inference(
            study, learner, scores=scores, n_splits=N_SPLITS, random_state=rng
        ),
    }
    for name, run in runs.items():
        started = time.perf_counter()
        p_values = run().p_value
        # the second term of a calibration and of splits in half is the heterogeneity
        p_value = float(p_values[1] if len(p_values) > 1 else p_values[0])
        yield {
            "setting": f"{slope:.1f}",
            "estimator": name,
            "term": "p-value",
            "truth": slope,
            "estimate": f"{p_value:.5g}",
            "seconds": round(time.perf_counter() - started, 3),
        }


if __name__ == "__main__":
    main(draw, ENTROPY, Path(__file__).parent, REPLICATIONS)
