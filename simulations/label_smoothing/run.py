"""Hajek estimates with true, smoothed and fitted propensities where the model is right."""

import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from harness import Row, main, row

import terracausal as tc
from terracausal._foundation.errors import OverlapWarning

ENTROPY = 61203948871250983309217745518820934477
REPLICATIONS = 200
N_UNITS = 1000
SMOOTHING = 0.05  # labels 0 and 1 become 0.025 and 0.975, and so does the best fit: 0.95 p + 0.025


def draw(rng: np.random.Generator) -> Iterator[Row]:
    """Yield the rows of one tutorial world, whose confounder is given as a covariate."""
    warnings.simplefilter("ignore", OverlapWarning)
    data = tc.simulate_study("tutorial", n_sites=N_UNITS, size_px=4, random_state=rng)
    table = data.study.table.assign(confounder=data.truth["confounder"])
    study = tc.Study(
        table,
        outcome="outcome",
        treatment="treatment",
        covariates=["x1", "x2", "confounder"],
    )
    started = time.perf_counter()
    fitted = tc.cross_fit(study, random_state=rng)
    columns = fitted.table.drop(columns="propensity")
    true = data.truth["propensity"].loc[study.units]
    for name, propensity in {
        "true propensity": true,
        "true propensity, smoothed": (1 - SMOOTHING) * true + SMOOTHING / 2,
        "fitted propensity": fitted.propensity,
    }.items():
        nuisances = tc.Nuisances(
            columns.assign(propensity=propensity),
            propensity_known=name != "fitted propensity",
            learners={},
            quality=fitted.quality,
        )
        scores = tc.doubly_robust_scores(study, nuisances)
        for method in ("hajek", "aipw"):
            found = tc.average_effect(scores, method=method)
            setting = "tutorial, confounder given"
            yield row(setting, f"{method}, {name}", data.average_effect, found, started)


if __name__ == "__main__":
    main(draw, ENTROPY, Path(__file__).parent, REPLICATIONS)
