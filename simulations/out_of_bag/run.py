"""Rankings and calibration by out-of-bag effects where the effect is the same for everybody."""

import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).parents[1]))

from harness import Row, main, row

import terracausal as tc
from terracausal.evaluation import CalibrationTest

ENTROPY = 90413755128834096151207743388120457631
REPLICATIONS = 200
EFFECT = 0.5
N_CLUSTERS, N_UNITS, N_FEATURES = 100, 600, 5


@dataclass(frozen=True)
class Differential:
    """The second term of a calibration test."""

    test: CalibrationTest

    def to_dataframe(self, level: float) -> pd.DataFrame:
        """Return the row that `row` reads."""
        return self.test.to_dataframe(level).iloc[1:]


def draw(rng: np.random.Generator) -> Iterator[Row]:
    """Yield the rows of one replication: clusters in one arm, an effect that does not vary."""
    cluster = np.arange(N_UNITS) % N_CLUSTERS
    features = rng.normal(size=(N_CLUSTERS, N_FEATURES))[cluster]
    treated = rng.permutation(np.arange(N_CLUSTERS) % 2)[cluster]
    shared, own = 0.7 * rng.normal(size=N_CLUSTERS)[cluster], rng.normal(size=N_UNITS)
    names = [f"x{j}" for j in range(N_FEATURES)]
    table = pd.DataFrame(features, columns=names).assign(
        y=EFFECT * treated + features[:, 0] + shared + own, w=treated, cluster=cluster
    )
    study = tc.Study(
        table, outcome="y", treatment="w", covariates=names, cluster="cluster", propensity=0.5
    )
    folds = study.folds(random_state=rng)
    scores = tc.doubly_robust_scores(study, tc.cross_fit(study, folds, random_state=rng))
    forest = tc.CausalForest(n_trees=200, random_state=int(rng.integers(2**31)))
    out_of_fold = forest.cross_predict(study, folds)
    # as an array they have no origin that is refused
    out_of_bag = forest.fit(study).oob_effects_.to_numpy()
    for name, effects in (("out of bag", out_of_bag), ("out of fold", out_of_fold)):
        started = time.perf_counter()
        rate = tc.rank_weighted_effect(scores, effects, random_state=rng)
        yield row(f"{N_CLUSTERS} clusters", f"RATE, {name}", 0.0, rate, started)
        started = time.perf_counter()
        test = Differential(tc.calibration_test(scores, effects))
        yield row(f"{N_CLUSTERS} clusters", f"calibration, {name}", 0.0, test, started)


if __name__ == "__main__":
    main(draw, ENTROPY, Path(__file__).parent, REPLICATIONS)
