"""Causal forests against grf 2.6.1 on the same units, and against a published analysis."""

import numpy as np
import pandas as pd
import pytest

import terracausal as tc

SCHOOLS = ["S3", "C1", "C2", "C3", "XC", "X1", "X2", "X3", "X4", "X5"]


@pytest.fixture(scope="module")
def units(reference_root):
    return pd.read_csv(reference_root / "grf" / "units.csv", index_col="unit")


@pytest.mark.parametrize("suffix", ["", "_clustered"])
def test_out_of_bag_predictions_are_those_of_grf(units, suffix):
    """Ours are no further from grf's than from each other: the rest is the chance of seeds."""
    study = tc.Study(
        units,
        outcome="y",
        treatment="w",
        covariates=[f"x{j}" for j in range(1, 11)],
        cluster="cluster" if suffix else None,
    )
    found = []
    for seed in (0, 1):
        forest = tc.CausalForest(n_trees=500, random_state=seed).fit(study)
        e, mu0, mu1 = forest.nuisances_.table.to_numpy().T
        found.append({"tau": mu1 - mu0, "w": e, "y": e * mu1 + (1 - e) * mu0})
    for name, column in (("tau", "tau_hat"), ("w", "w_hat"), ("y", "y_hat")):
        one, other = found[0][name], found[1][name]
        theirs = units[f"{column}{suffix}"].to_numpy()
        # with s² the variance of one of ours between seeds, two of them are 1.4 s apart, and their
        # mean is sqrt(s² / 2 + s² / 4) = 0.87 s from a forest with four times the trees
        apart = np.sqrt(np.mean((one - other) ** 2))
        assert np.sqrt(np.mean(((one + other) / 2 - theirs) ** 2)) < apart
        assert theirs.std() > 2 * apart  # so there is something to agree on


def test_learning_mindsets(data_root):
    """Athey & Wager (2019), sections 1 and 2.2: 0.247 with a clustered forest, calibration 1.0."""
    table = pd.read_csv(data_root / "reference_tables" / "nslm_synthetic.csv")
    # race and the urbanicity of the school are codes
    table = table.astype({"C1": str, "XC": str})
    study = tc.Study(table, outcome="Y", treatment="Z", covariates=SCHOOLS, cluster="schoolid")
    forest = tc.CausalForest(n_trees=1000, random_state=0).fit(study)
    scores = tc.doubly_robust_scores(study, forest.nuisances_)
    average = tc.average_effect(scores)
    # the limits that issue 6 sets; theirs is a 95 % interval of ± 0.040
    assert average.value[0] == pytest.approx(0.247, abs=0.01)
    assert average.std_error[0] == pytest.approx(0.040 / 1.96, rel=0.25)
    calibration = tc.calibration_test(scores, forest.oob_effects_)
    assert calibration.value[0] == pytest.approx(1.0, abs=0.1)
    assert calibration.p_value[1] > 0.05  # theirs is not significant either
