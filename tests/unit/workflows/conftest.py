"""A tiny trial and a learner that costs nothing, so that many cells can be compared."""

import numpy as np
import pandas as pd
import pytest

from terracausal.effects import EffectLearner
from terracausal.study import Study
from terracausal.workflows import Choices

N_SITES = 20


class QuickLearner(EffectLearner):
    """Least squares of the outcome on features times treatment, disturbed by the seed."""

    def __init__(self, use="all", noise=0.1, fails_on=None, random_state=None):
        self.use = use
        self.noise = noise
        self.fails_on = fails_on
        self.random_state = random_state

    def _fit_features(self, study, features):
        if self.fails_on is not None and self.fails_on in features:
            raise FloatingPointError(f"no effect without {self.fails_on}")
        x, w = features.to_numpy(), study.treatment.to_numpy()
        design = np.column_stack([np.ones(len(x)), x, w, w[:, None] * x])
        found = np.linalg.lstsq(design, study.outcome.to_numpy(), rcond=None)[0]
        disturbance = np.random.default_rng(self.random_state).normal(size=x.shape[1])
        self.slopes_ = found[-x.shape[1] :] + self.noise * disturbance

    def _predict_features(self, features):
        # einsum: units of one site must stay exactly tied
        return np.einsum("up,p->u", features.to_numpy(), self.slopes_)


class ConstantLearner(QuickLearner):
    """The same effect for everybody."""

    def _predict_features(self, features):
        return np.ones(len(features))


def make_study():
    rng = np.random.default_rng(0)
    site = np.repeat(np.arange(N_SITES), 3)
    w, x = rng.permutation(len(site)) % 2, rng.normal(size=len(site))
    y = x + w * (1 + x) + rng.normal(size=len(site))
    index = pd.Index([f"u{k:03d}" for k in range(len(site))], name="unit")
    table = pd.DataFrame({"y": y, "w": w, "site": site, "x": x}, index=index)
    return Study(table, outcome="y", treatment="w", site="site", covariates=["x"], propensity=0.5)


def make_table(n_columns=4, seed=1):
    rows = np.random.default_rng(seed).normal(size=(N_SITES, n_columns))
    return pd.DataFrame(rows, columns=[f"e{j}" for j in range(n_columns)])


def make_choices(**changes):
    given = {
        "encoder": {"one": make_table(), "two": make_table(3, 2)},
        "components": (None, 2),
        "learner": {"quick": QuickLearner()},
        "n_seeds": 4,
        "n_folds": 2,
        "n_bootstrap": 20,
    }
    return Choices(**(given | changes))


@pytest.fixture
def study():
    return make_study()
