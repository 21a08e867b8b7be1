"""Covariates made from the treatment are refused; honest ones never are."""

import numpy as np
import pandas as pd
import pytest

from terracausal._foundation.errors import LeakageError
from terracausal.study import Study

N = 300


def study_of(covariates, w, cluster=None):
    table = pd.DataFrame({"y": np.arange(len(w)) % 7.0, "w": w, **covariates})
    if cluster is not None:
        table["cluster"] = cluster
    return Study(
        table,
        outcome="y",
        treatment="w",
        covariates=list(covariates),
        cluster=None if cluster is None else "cluster",
    )


@pytest.fixture
def w(rng):
    return rng.permutation(np.arange(N) % 2)


def test_twin_of_the_uganda_covariates(rng, w):
    female, x3, x5 = rng.integers(0, 2, N), rng.integers(0, 2, N), rng.normal(size=N)
    columns = [w, female, w * female, x3, w * x3, x5, w * x5]
    covariates = {f"X{k}": column for k, column in enumerate(columns)}
    with pytest.raises(LeakageError, match=r"4 of 7 .*: 'X0', 'X2', 'X4', 'X6'"):
        study_of(covariates, w)
    honest = {name: covariates[name] for name in ("X1", "X3", "X5")}
    assert study_of(honest, w).features("effect").shape[1] == 3


@pytest.mark.parametrize(
    "make",
    [
        lambda w, x: w,
        lambda w, x: 1 - w,
        lambda w, x: 10.0 * w - 3,
        lambda w, x: np.where(w == 1, "yes", "no"),
        lambda w, x: w * x,
        lambda w, x: (1 - w) * x,
        lambda w, x: w * x + 5,
        lambda w, x: w * 100 + x,
        lambda w, x: -w * 100 + x,
        lambda w, x: np.where(w == 1, np.where(x > 0, "cash", "kind"), "none"),
        lambda w, x: np.where(w == 1, x, np.nan),
        lambda w, x: np.where(w == 0, x, np.nan),
        lambda w, x: np.where(w == 1, 1.0, np.nan),
    ],
    ids=[
        "copy",
        "opposite",
        "rescaled",
        "words",
        "interaction",
        "with controls",
        "shifted interaction",
        "threshold",
        "threshold below",
        "kind of treatment",
        "known of the treated only",
        "known of the controls only",
        "one value or missing",
    ],
)
def test_functions_of_the_treatment(rng, w, make):
    x = rng.normal(size=N)
    with pytest.raises(LeakageError, match=r"1 of 2 covariates .*: 'leak'"):
        study_of({"leak": make(w, x), "age": x}, w)


def test_an_interaction_with_missing_values(rng, w):
    x = rng.normal(size=N)
    x[rng.random(N) < 0.2] = np.nan
    with pytest.raises(LeakageError, match=r"'leak' is constant in the control arm"):
        study_of({"leak": w * x}, w)


def test_a_rare_dummy_may_be_absent_from_an_arm(w):
    rare = np.zeros(N, dtype=int)
    rare[np.flatnonzero(w == 1)[:3]] = 1
    assert study_of({"rare": rare}, w).n_units == N


def test_identifiers_and_names_are_no_leak(w):
    # every value occurs once, so each is "pure" without telling anything
    names = [f"name {k}" for k in range(N)]
    assert study_of({"name": names, "number": np.arange(N)}, w).n_units == N


def test_a_strong_confounder_is_no_leak(rng, w):
    assert study_of({"income": rng.normal(size=N) + 2 * w}, w).n_units == N


class TestTreatmentByVillage:
    """30 villages of 10 units: what a village is, it is for all of its units."""

    village = np.repeat(np.arange(30), 10)
    w = (np.arange(30) % 2)[village]

    @pytest.mark.parametrize("replication", range(20))
    def test_covariates_of_villages(self, replication):
        rng = np.random.default_rng(replication)
        covariates = {
            "distance": rng.normal(size=30)[self.village],
            "school": rng.integers(0, 2, 30)[self.village],
            "market": (np.arange(30) < 2)[self.village].astype(int),
            "region": np.array(list("abcdef"))[rng.integers(0, 6, 30)][self.village],
        }
        assert study_of(covariates, self.w, self.village).n_units == N

    def test_the_key_of_the_village(self):
        covariates = {"code": [f"v{v}" for v in self.village], "number": self.village}
        assert study_of(covariates, self.w, self.village).n_units == N

    def test_a_dummy_of_three_treated_villages(self):
        # 30 units, yet only 3 coincidences
        few = np.isin(self.village, [1, 3, 5]).astype(int)
        assert study_of({"few": few}, self.w, self.village).n_units == N

    def test_the_treatment_itself(self):
        with pytest.raises(LeakageError, match=r"'copy'"):
            study_of({"copy": self.w}, self.w, self.village)

    def test_an_interaction(self):
        x = np.random.default_rng(0).normal(size=N)
        with pytest.raises(LeakageError, match=r"'product'"):
            study_of({"product": self.w * x}, self.w, self.village)


def test_small_trials_with_honest_dummies_raise_no_alarm():
    # 8 units: a dummy splits the arms exactly with chance 2 / 70, far from proof
    w = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    assert study_of({"x": w.copy()}, w).n_units == 8
