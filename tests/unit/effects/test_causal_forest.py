"""Settings of the causal forest: those of grf."""

import numpy as np
import pandas as pd
import pytest

from terracausal.effects import CausalForest
from terracausal.effects.causal_forest import grf_split_features
from terracausal.study import Study


@pytest.fixture
def study(rng):
    columns = {"y": rng.normal(size=160), "w": np.arange(160) % 2}
    columns |= {name: rng.normal(size=160) for name in ("x", "z")}
    return Study(pd.DataFrame(columns), outcome="y", treatment="w", covariates=["x", "z"])


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("n_trees", 1, "`n_trees` must be .* got 1"),
        ("min_node_size", 0, "`min_node_size` must be .* got 0"),
        ("n_split_features", 0, "`n_split_features` must be .* got 0"),
        ("sample_fraction", 0.6, "at most 0.5, .* got 0.6"),
        ("sample_fraction", 1.0, "strictly between 0 and 1; got 1.0"),
    ],
)
def test_bad_settings_of_the_forest(study, setting, value, message):
    with pytest.raises(ValueError, match=message):
        CausalForest(**{"n_trees": 20, setting: value}).fit(study)


def test_forest_splits_as_grf(study):
    # ceil(sqrt(p) + 20), at most p
    expected = {1: 1, 20: 20, 25: 25, 36: 26, 100: 30, 512: 43}
    assert {p: grf_split_features(p) for p in expected} == expected
    fitted = CausalForest(n_trees=20, random_state=0).fit(study)
    assert fitted.n_split_features_ == 2
    assert len(fitted.forest_.roots) == 20
    assert CausalForest().n_trees == 2000
