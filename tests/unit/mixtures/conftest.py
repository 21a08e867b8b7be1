"""A small world with two types of places, and densities of a handful of units."""

import numpy as np
import pandas as pd
import pytest

from terracausal.study import Study


def _study(table, embeddings):
    return Study(
        table,
        outcome="outcome",
        treatment="treated",
        site="site",
        covariates=["age"],
        propensity=0.5,
    ).join(embeddings, role="modifier")


@pytest.fixture(scope="session")
def study_of():
    """What makes a study of a changed table of `two_types`, or of other embeddings."""
    return _study


@pytest.fixture(scope="session")
def two_types():
    """Studies whose sites have effect 0 or 2, by the first of four embedding columns."""

    def make(n_sites=300, units_per_site=7, *, effects=(0.0, 2.0), random_state=0):
        rng = np.random.default_rng(random_state)
        embedding = rng.normal(size=(n_sites, 4))
        chance = 1 / (1 + np.exp(-2 * embedding[:, 0]))
        kind = (rng.random(n_sites) < chance).astype(int)
        site = np.repeat(np.arange(n_sites), units_per_site)
        n_units = len(site)
        treated = rng.integers(0, 2, n_units)
        age = rng.normal(size=n_units)
        shared = 0.3 * rng.normal(size=n_sites)
        outcome = 0.5 * embedding[site, 1] + 0.3 * age + shared[site] + rng.normal(size=n_units)
        table = pd.DataFrame(
            {
                "outcome": outcome + np.array(effects)[kind[site]] * treated,
                "treated": treated,
                "age": age,
                "site": [f"s{k:03d}" for k in site],
            },
            index=[f"u{k:05d}" for k in range(n_units)],
        )
        sites = pd.Index([f"s{k:03d}" for k in range(n_sites)], name="site")
        embeddings = pd.DataFrame(embedding, sites, [f"e{j}" for j in range(4)])
        study = _study(table, embeddings)
        return study, embeddings, pd.Series(kind, sites)

    return make
