"""Size of the RATE test where the effect is the same for everybody, so that every RATE is 0."""

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.ensemble import RandomForestRegressor

sys.path.insert(0, str(Path(__file__).parents[1]))

from harness import Row, main, row

import terracausal as tc

ENTROPY = 262533079158391826734981067235061283471
REPLICATIONS = 500
EFFECT = 0.5
N_UNITS = 1000
N_SITES, UNITS_PER_SITE = 100, 10
N_SITES_LEARNED, UNITS_PER_SITE_LEARNED = 60, 5


def draw_units(rng: np.random.Generator, n_sites: int, units_per_site: int) -> pd.DataFrame:
    """Return units at sites: two covariates, one of the site and one of the unit; a site effect."""
    site = np.repeat(np.arange(n_sites), units_per_site)
    n_units = len(site)
    x_site, site_effect = rng.normal(size=(2, n_sites))[:, site]
    x_unit, noise = rng.normal(size=(2, n_units))
    treated = rng.permutation(np.arange(n_sites) % 2)[site]
    outcome = EFFECT * treated + 0.5 * x_site + 0.5 * x_unit + 0.5 * site_effect + noise
    return pd.DataFrame(
        {"y": outcome, "w": treated, "x_site": x_site, "x_unit": x_unit, "site": site}
    )


def fitted_scores(study: tc.Study, folds: tc.Folds, rng: np.random.Generator) -> tc.Scores:
    nuisances = tc.cross_fit(study, folds, random_state=rng)
    return tc.doubly_robust_scores(study, nuisances)


def draw(rng: np.random.Generator) -> Iterator[Row]:
    """Yield the rows of one replication of all settings."""
    yield from independent_units(rng)
    yield from priority_by_site(rng)
    yield from learned_priority(rng)


def independent_units(rng: np.random.Generator) -> Iterator[Row]:
    """Rank 1,000 independent units by a covariate."""
    table = draw_units(rng, N_UNITS, 1)
    study = tc.Study(
        table, outcome="y", treatment="w", covariates=["x_site", "x_unit"], propensity=0.5
    )
    scores = fitted_scores(study, study.folds(random_state=rng), rng)
    for target in ("AUTOC", "QINI"):
        started = time.perf_counter()
        rate = tc.rank_weighted_effect(scores, table["x_unit"], target, random_state=rng)
        yield row("independent units", "covariate", 0.0, rate, started)


def priority_by_site(rng: np.random.Generator) -> Iterator[Row]:
    """Rank 100 sites of 10 units, all of one arm, by a covariate of the site."""
    table = draw_units(rng, N_SITES, UNITS_PER_SITE)
    study = site_study(table, ["x_site", "x_unit"])
    scores = fitted_scores(study, study.folds(random_state=rng), rng)
    for target in ("AUTOC", "QINI"):
        started = time.perf_counter()
        rate = tc.rank_weighted_effect(scores, table["x_site"], target, random_state=rng)
        yield row("100 sites of 10", "covariate of the site", 0.0, rate, started)


def learned_priority(rng: np.random.Generator) -> Iterator[Row]:
    """Rank by out-of-fold effects of a DR-learner, within folds or all against all."""
    table = draw_units(rng, N_SITES_LEARNED, UNITS_PER_SITE_LEARNED)
    table["x_extra"] = rng.normal(size=N_SITES_LEARNED)[table["site"]]
    study = site_study(table, ["x_site", "x_unit", "x_extra"])
    folds = study.folds(random_state=rng)
    scores = fitted_scores(study, folds, rng)
    seed = int(rng.integers(2**31))
    forest = RandomForestRegressor(n_estimators=50, min_samples_leaf=10)
    ridge = tc.DRLearner(random_state=seed).cross_predict(study, folds)
    trees = tc.DRLearner(effect_learner=forest, random_state=seed).cross_predict(study, folds)
    for priority, within, name in (
        (ridge, "auto", "DR-learner within folds"),
        (trees, "auto", "DR-learner with a forest, within folds"),
        (ridge, "all", "DR-learner pooled"),
    ):
        for target in ("AUTOC", "QINI"):
            started = time.perf_counter()
            rate = tc.rank_weighted_effect(
                scores, priority, target, rank_within=within, random_state=rng
            )
            yield row("60 sites of 5", name, 0.0, rate, started)
    # the same units ranked by a covariate, to tell the learner from the small number of sites
    for target in ("AUTOC", "QINI"):
        started = time.perf_counter()
        rate = tc.rank_weighted_effect(scores, table["x_site"], target, random_state=rng)
        yield row("60 sites of 5", "covariate of the site", 0.0, rate, started)


def site_study(table: pd.DataFrame, covariates: list[str]) -> tc.Study:
    return tc.Study(
        table, outcome="y", treatment="w", site="site", covariates=covariates, propensity=0.5
    )


if __name__ == "__main__":
    main(draw, ENTROPY, Path(__file__).parent, REPLICATIONS)
