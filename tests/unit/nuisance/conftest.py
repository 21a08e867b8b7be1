"""A study of 120 units at 30 sites whose outcome depends on what the learners see."""

import numpy as np
import pandas as pd
import pytest

from terracausal.study import Study


@pytest.fixture
def table(rng):
    n = 120
    site = np.arange(n) // 4
    x, z = rng.normal(size=n), rng.normal(size=n)
    w = (rng.random(n) < 1 / (1 + np.exp(-1.0 * x))).astype(int)
    return pd.DataFrame(
        {
            "y": x + 0.5 * z + w * (1 + 0.5 * x) + rng.normal(size=n),
            "w": w,
            "site": site,
            "x": x,
            "z": z,
            "e": 1 / (1 + np.exp(-1.0 * x)),
            "v": rng.uniform(0.5, 2, n),
            # neighbouring sites share a place
            "lon": 32 + site // 2 / 50,
            "lat": 2 + site / 10_000,
        },
        index=pd.Index([f"u{k:03d}" for k in range(n)], name="unit"),
    )


@pytest.fixture
def make_study():
    def make(table, **roles):
        chosen = {"outcome": "y", "treatment": "w", "site": "site", "covariates": ["x", "z"]}
        return Study(table, **(chosen | roles))

    return make


@pytest.fixture
def study(table, make_study):
    return make_study(table)
