"""grf 2.6.1 on the same scores: the calibration test and the best linear projection."""

import json

import pandas as pd
import pytest
from scipy import stats

from terracausal.evaluation.calibration import calibration_test
from terracausal.evaluation.projection import best_linear_projection
from terracausal.nuisance import Scores
from terracausal.study import Dependence

EXACT = 1e-6  # what the reference promises
FITS = {"independent": "", "clustered": "_clustered"}


@pytest.fixture(scope="module")
def units(reference_root):
    return pd.read_csv(reference_root / "grf" / "units.csv", index_col="unit")


@pytest.fixture(scope="module")
def answers(reference_root):
    return json.loads((reference_root / "grf" / "answers.json").read_text())


@pytest.fixture(params=FITS)
def fit(request):
    return request.param


@pytest.fixture
def effects(units, fit):
    return units[f"tau_hat{FITS[fit]}"]


@pytest.fixture
def scores(units, fit, effects):
    y_hat, w_hat, score = (units[f"{name}{FITS[fit]}"] for name in ("y_hat", "w_hat", "score"))
    table = pd.DataFrame(
        {
            "score": score,
            "propensity": w_hat,
            "outcome_control": y_hat - w_hat * effects,
            "outcome_treated": y_hat + (1 - w_hat) * effects,
            "outcome": units["y"],
            "treatment": units["w"],
        }
    )
    cluster = units["cluster"] if fit == "clustered" else None
    # another order of rows must not matter
    return Scores.from_dataframe(table.iloc[::-1], cluster=cluster)


def compare(found, expected):
    assert found.value.tolist() == pytest.approx(
        [one["Estimate"] for one in expected.values()], abs=EXACT
    )
    assert found.std_error.tolist() == pytest.approx(
        [one["Std. Error"] for one in expected.values()], abs=EXACT
    )


def test_calibration(scores, effects, answers, fit):
    found, expected = calibration_test(scores, effects), answers[fit]["calibration"]
    compare(found, expected)
    # grf: one-sided, with t of n - k degrees of freedom; ours counts clusters where there are any
    degrees = 2000 - 2 if fit == "independent" else 200 - 1
    ratio = [one["t value"] for one in expected.values()]
    assert found.p_value.tolist() == pytest.approx(stats.t.sf(ratio, degrees).tolist(), rel=1e-4)


def test_projection(scores, units, answers, fit):
    compare(best_linear_projection(scores, units[["x1", "x2"]]), answers[fit]["blp_x1_x2"])


@pytest.mark.parametrize("fit", ["clustered"])
def test_the_dependence_can_be_chosen(scores, units):
    own = best_linear_projection(scores, units[["x1", "x2"]])
    plain = best_linear_projection(scores, units[["x1", "x2"]], dependence=Dependence("hc"))
    assert own.value.tolist() == plain.value.tolist()
    assert abs(own.std_error / plain.std_error - 1).max() > 0.01
