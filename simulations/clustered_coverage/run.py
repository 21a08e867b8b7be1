"""Coverage of clustered and of unclustered intervals where whole sites are treated."""

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).parents[1]))

from harness import Row, main, row

import terracausal as tc

ENTROPY = 118395740616243391870562940337428160855
REPLICATIONS = 1000
N_SITES, UNITS_PER_SITE = 100, 10
EFFECT = 0.5
# An interval that takes units as independent covers 55 % when the variance is D times as large as
# it thinks: 2 Phi(1.96 / sqrt(D)) - 1 = 0.55, so D = 6.73 = 1 + (10 - 1) rho, and rho = 0.637.
SITE_SHARE = 0.637


def draw_table(rng: np.random.Generator) -> pd.DataFrame:
    """Return a trial that treats half of the sites; every variable has the same correlation."""
    site = np.repeat(np.arange(N_SITES), UNITS_PER_SITE)
    x, noise = (correlated(site, rng) for _ in range(2))
    treated = rng.permutation(np.arange(N_SITES) % 2)[site]
    outcome = EFFECT * treated + (0.7 + 0.2 * treated) * x + noise
    return pd.DataFrame({"y": outcome, "w": treated, "x": x, "site": site})


def correlated(site: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return standard normal numbers of which the site explains `SITE_SHARE`."""
    of_site, of_unit = rng.normal(size=N_SITES)[site], rng.normal(size=len(site))
    return np.sqrt(SITE_SHARE) * of_site + np.sqrt(1 - SITE_SHARE) * of_unit


def draw(rng: np.random.Generator) -> Iterator[Row]:
    """Yield the rows of one replication."""
    started = time.perf_counter()
    study = tc.Study(
        draw_table(rng), outcome="y", treatment="w", site="site", covariates=["x"], propensity=0.5
    )
    nuisances = tc.cross_fit(study, study.folds(random_state=rng), random_state=rng)
    scores = tc.doubly_robust_scores(study, nuisances)
    for method in ("difference_in_means", "aipw"):
        for kind in ("cluster", "hc"):
            effect = tc.average_effect(scores, method=method, std_error=kind)
            yield row("100 sites of 10", f"{method} {kind}", EFFECT, effect, started)


if __name__ == "__main__":
    main(draw, ENTROPY, Path(__file__).parent, REPLICATIONS)
