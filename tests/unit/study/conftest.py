"""A table of 60 units at 20 sites, and a way to make a study of it."""

import numpy as np
import pandas as pd
import pytest

from terracausal.study import Study


@pytest.fixture
def table(rng):
    n = 60
    site = np.arange(n) // 3
    return pd.DataFrame(
        {
            "income": rng.normal(size=n),
            "paid": np.arange(n) % 2,
            "village": site,
            "age": rng.uniform(18, 60, n),
            "female": rng.integers(0, 2, n),
            "lon": 32 + rng.uniform(0, 1, 20)[site],
            "lat": 2 + rng.uniform(0, 1, 20)[site],
            "w": rng.uniform(0.5, 2, n),
            "e": rng.uniform(0.3, 0.7, n),
            "district": np.array(list("abcd"))[site // 5],
        },
        index=pd.Index([f"u{k:02d}" for k in range(n)], name="unit"),
    )


@pytest.fixture
def make_study():
    def make(table, **roles):
        return Study(table, **{"outcome": "income", "treatment": "paid", **roles})

    return make


@pytest.fixture
def embeddings(rng):
    return pd.DataFrame(rng.normal(size=(20, 3)), columns=["emb_0", "emb_1", "emb_2"])
