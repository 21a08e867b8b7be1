"""Coverage of adjusted average effects, and of intervals for few and for crossing clusters."""

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import norm
from sklearn.linear_model import LogisticRegression

sys.path.insert(0, str(Path(__file__).parents[1]))

from harness import Row, main, row

import terracausal as tc
from terracausal.effects import entropy_balancing, regression_adjustment
from terracausal.study import wild_cluster_bootstrap

ENTROPY = 279105566181840251743094318021977534011
REPLICATIONS = 1000
N_UNITS = 500
SLOPES = np.array([1.0, 0.5, -0.5])
EFFECT, MORE = 1.0, 0.5  # the effect is EFFECT + MORE * x1, and x1 has mean 0
RISK, LIFT = -0.3, 0.6  # of a probit: without treatment, and what treatment adds
N_FEW = 12
N_PLACES, N_YEARS = 40, 30


def confounded(rng: np.random.Generator) -> tuple[pd.DataFrame, np.ndarray]:
    """Return covariates and a treatment that depends on them, and their index."""
    x = rng.normal(size=(N_UNITS, 3))
    chance = 1 / (1 + np.exp(-x @ np.array([0.5, 0.5, 0.0])))
    table = pd.DataFrame(x, columns=["x1", "x2", "x3"])
    return table.assign(w=(rng.random(N_UNITS) < chance).astype(int)), x @ SLOPES


def continuous(rng: np.random.Generator) -> Iterator[Row]:
    """Yield the estimates of a linear outcome: ATE 1; ATT and ATC differ from draw to draw."""
    started = time.perf_counter()
    table, index = confounded(rng)
    effect = EFFECT + MORE * table["x1"]
    table["y"] = index + effect * table["w"] + rng.normal(size=N_UNITS)
    study = tc.Study(table, outcome="y", treatment="w", covariates=["x1", "x2", "x3"])
    setting = "confounded, linear"
    yield row(setting, "regression adjustment", EFFECT, regression_adjustment(study), started)
    inside = regression_adjustment(study, population="sample")
    yield row(setting, "regression adjustment, sample", float(effect.mean()), inside, started)
    yield row(setting, "entropy balancing", EFFECT, entropy_balancing(study), started)


def binary(rng: np.random.Generator) -> Iterator[Row]:
    """Yield the estimates of a probit outcome, whose mean risks are known in closed form."""
    started = time.perf_counter()
    table, index = confounded(rng)
    chance = norm.cdf(RISK + index + LIFT * table["w"])
    table["y"] = (rng.random(N_UNITS) < chance).astype(float)
    study = tc.Study(table, outcome="y", treatment="w", covariates=["x1", "x2", "x3"])
    nuisances = tc.cross_fit(
        study,
        study.folds(random_state=rng),
        outcome_learner=LogisticRegression(C=1e3),
        propensity_learner=LogisticRegression(C=1e3),
        random_state=rng,
    )
    scores = tc.doubly_robust_scores(study, nuisances)
    spread = np.sqrt(1 + SLOPES @ SLOPES)
    low, high = (float(norm.cdf((RISK + lift) / spread)) for lift in (0, LIFT))
    truths = {"difference": high - low, "ratio": high / low}
    for measure, truth in truths.items():
        for method in ("tmle", "aipw"):
            found = tc.average_effect(scores, method=method, measure=measure)
            yield row("confounded, binary", f"{method} {measure}", truth, found, started)


def few_clusters(rng: np.random.Generator) -> Iterator[Row]:
    """Yield t and wild bootstrap intervals where 6 of 12 sites of 5 to 40 units are treated."""
    started = time.perf_counter()
    site = np.repeat(np.arange(N_FEW), rng.integers(5, 41, N_FEW))
    treated = rng.permutation(np.arange(N_FEW) % 2)[site]
    outcome = EFFECT * treated + rng.normal(size=N_FEW)[site] + rng.normal(size=len(site))
    table = pd.DataFrame({"y": outcome, "w": treated, "site": site})
    study = tc.Study(table, outcome="y", treatment="w", site="site", propensity=0.5)
    nuisances = tc.cross_fit(study, study.folds(3, random_state=rng))
    effect = tc.average_effect(tc.doubly_robust_scores(study, nuisances))
    yield row("12 clusters", "t of 11", EFFECT, effect, started)
    wild = wild_cluster_bootstrap(effect, n_draws=999, random_state=rng)
    yield row("12 clusters", "wild", EFFECT, wild, started)
    hc = effect.with_std_error("hc")
    yield row("12 clusters", "hc", EFFECT, hc, started)


def two_ways(rng: np.random.Generator) -> Iterator[Row]:
    """Yield intervals where treatment and outcome depend on place and on year."""
    started = time.perf_counter()
    place = np.repeat(np.arange(N_PLACES), N_YEARS)
    year = np.tile(np.arange(N_YEARS), N_PLACES)

    def crossed() -> np.ndarray:
        of_place, of_year = rng.normal(size=N_PLACES)[place], rng.normal(size=N_YEARS)[year]
        return (of_place + of_year + rng.normal(size=len(place))) / np.sqrt(3)

    treated = (crossed() > 0).astype(int)
    scores = tc.Scores.from_dataframe(
        pd.DataFrame(
            {
                "score": 0.0,  # not used by this method
                "outcome": EFFECT * treated + crossed(),
                "treatment": treated,
                "cluster": place,
            }
        )
    )
    effect = tc.average_effect(scores, method="difference_in_means")
    years = pd.Series(year, index=scores.units)
    both = effect.with_std_error("two_way", by=years)
    yield row("places and years", "two ways", EFFECT, both, started)
    yield row("places and years", "one way", EFFECT, effect, started)


def draw(rng: np.random.Generator) -> Iterator[Row]:
    """Yield the rows of one replication."""
    for setting in (continuous, binary, few_clusters, two_ways):
        yield from setting(rng)


if __name__ == "__main__":
    main(draw, ENTROPY, Path(__file__).parent, REPLICATIONS)
