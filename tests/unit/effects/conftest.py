"""A table of 90 units with everything that average effects are made of."""

import numpy as np
import pandas as pd
import pytest

from terracausal.nuisance import Scores


@pytest.fixture
def parts(rng):
    n = 90
    e = rng.uniform(0.2, 0.8, n)
    w = (rng.random(n) < e).astype(float)
    mu0 = rng.normal(size=n)
    mu1 = mu0 + 1 + 0.5 * rng.normal(size=n)
    y = np.where(w == 1, mu1, mu0) + rng.normal(size=n)
    return pd.DataFrame(
        {
            "outcome": y,
            "treatment": w,
            "propensity": e,
            "outcome_control": mu0,
            "outcome_treated": mu1,
            "weight": rng.uniform(0.5, 2, n),
            "cluster": np.arange(n) // 5,
            "lon": 32 + (np.arange(n) // 5) / 50,
            "lat": 2 + rng.uniform(0, 1, 18)[np.arange(n) // 5],
        },
        index=pd.Index([f"u{k:02d}" for k in range(n)], name="unit"),
    )


@pytest.fixture
def make_scores():
    def make(parts):
        y, w, e = parts["outcome"], parts["treatment"], parts["propensity"]
        mu0, mu1 = parts["outcome_control"], parts["outcome_treated"]
        score = mu1 - mu0 + w / e * (y - mu1) - (1 - w) / (1 - e) * (y - mu0)
        return Scores.from_dataframe(parts.assign(score=score))

    return make
