"""Effect learners over many draws: errors shrink at the root of n, intervals cover."""

import runpy
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.linear_model import LinearRegression

from terracausal.effects import DRLearner, LinearDRLearner, RLearner, SLearner, TLearner, XLearner
from terracausal.effects.conformal import hierarchical_quantile
from terracausal.study import Study

pytestmark = pytest.mark.statistical

HARNESS = runpy.run_path(str(Path(__file__).parents[2] / "simulations" / "harness.py"))
PARTS = {"outcome_learner": LinearRegression(), "n_folds": 2, "random_state": 0}
LEARNERS = {
    "dr": DRLearner(LinearRegression(), **PARTS),
    "linear dr": LinearDRLearner(**PARTS),
    "r": RLearner(LinearRegression(), **PARTS),
    "s": SLearner(LinearRegression()),
    "t": TLearner(LinearRegression()),
    "x": XLearner(LinearRegression(), **PARTS),
}
SMALL, LARGE, N_DRAWS = 150, 1200, 12


def draw_table(rng, n, cluster_size=3):
    """Return units with an effect of 1 + x, in clusters with outcomes of their own."""
    site = np.arange(n) // cluster_size
    x, own = rng.normal(size=(2, n // cluster_size))[:, site]
    z, noise = rng.normal(size=(2, n))
    w = rng.integers(0, 2, n)
    y = z + w * (1 + x) + 0.7 * own + noise
    return pd.DataFrame({"y": y, "w": w, "x": x, "z": z, "site": site})


def study_of(table):
    roles = {"site": "site", "covariates": ["x", "z"], "propensity": 0.5}
    return Study(table, outcome="y", treatment="w", **roles)


@pytest.mark.parametrize("learner", LEARNERS.values(), ids=LEARNERS)
def test_errors_shrink_at_the_root_of_n(learner, rng):
    new = draw_table(rng, 600)
    ratios = []
    for _ in range(N_DRAWS):
        error = [
            learner.fit(study_of(draw_table(rng, n))).predict(new) - 1 - new["x"]
            for n in (SMALL, LARGE)
        ]
        ratios.append(np.log(error[0].std() + 1e-12) - np.log(error[1].std() + 1e-12))
    # the learners hold the truth, so their error falls by the root of 8; t at a rate of 1e-5
    expected = 0.5 * np.log(LARGE / SMALL)
    half = stats.t.isf(0.5e-5, N_DRAWS - 1) * np.std(ratios, ddof=1) / np.sqrt(N_DRAWS)
    assert abs(np.mean(ratios) - expected) < half
    assert np.mean(ratios) > 0


def test_intervals_of_the_linear_learner_cover(rng):
    point = pd.DataFrame({"x": [1.5], "z": [-1.0]})
    hits = []
    for _ in range(200):
        found = LinearDRLearner(**PARTS).fit(study_of(draw_table(rng, 120))).predict_interval(point)
        hits.append(found["ci_low"].iloc[0] <= 2.5 <= found["ci_high"].iloc[0])
    low, high = HARNESS["derived_interval"](200, 0.95)
    assert low <= np.mean(hits) <= high


def test_the_conformal_quantile_covers_a_unit_of_a_new_cluster(rng):
    n_draws, n_clusters, level = 4000, 15, 0.8
    hits = []
    for _ in range(n_draws):
        size = rng.integers(1, 6, n_clusters + 1)
        cluster = np.repeat(np.arange(n_clusters + 1), size)
        # most of the spread is between clusters
        between = 2 * rng.normal(size=n_clusters + 1)[cluster]
        distance = np.abs(between + rng.normal(size=len(cluster)))
        seen = cluster < n_clusters
        width = hierarchical_quantile(distance[seen], cluster[seen], np.ones(seen.sum()), level)
        hits.append(distance[~seen][0] <= width)
    # at least the level, and at most 2 / (K + 1) above it (Lee, Barber & Willett)
    tail = stats.norm.isf(0.5e-5) * 0.5 / np.sqrt(n_draws)
    assert level - tail < np.mean(hits) < level + 2 / (n_clusters + 1) + tail
