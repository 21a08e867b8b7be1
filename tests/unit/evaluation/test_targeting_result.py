"""What a TargetingResult says."""

import dataclasses
import pickle

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from terracausal.evaluation import TargetingResult, rank_weighted_effect
from terracausal.nuisance import Scores


@pytest.fixture
def result(rng):
    effect = rng.normal(size=200)
    table = pd.DataFrame({"score": effect + rng.normal(size=200), "cluster": np.arange(200) // 4})
    return rank_weighted_effect(Scores.from_dataframe(table), effect, random_state=0)


def test_ratio_interval_and_p_value(result):
    assert result.ratio[0] == pytest.approx(result.value[0] / result.std_error[0])
    half = stats.norm.ppf(0.95) * result.std_error[0]
    expected = [result.value[0] - half, result.value[0] + half]
    assert result.confint(0.9)[0].tolist() == pytest.approx(expected)
    assert result.p_value[0] == pytest.approx(2 * stats.norm.sf(abs(result.ratio[0])))


def test_tidy_table(result):
    names = [
        "term",
        "estimate",
        "std_error",
        "ci_low",
        "ci_high",
        "level",
        "n_units",
        "n_clusters",
        "ratio",
    ]
    table = result.to_dataframe(0.9)
    assert table.columns.tolist() == names
    shown = table.loc[0, ["term", "level", "n_units", "n_clusters"]].tolist()
    assert shown == ["AUTOC", 0.9, 200, 50]


def test_curve(result):
    toc = result.toc
    assert toc["fraction"].tolist() == pytest.approx([k / 20 for k in range(1, 21)])
    half = (toc["ci_high"] - toc["ci_low"]) / 2
    np.testing.assert_allclose(half, stats.norm.ppf(0.975) * toc["std_error"])


def test_summary_states_clusters_and_bootstrap(result):
    for words in ("50 clusters", "200 half-samples", "200 units", "RATE ratio", "90% interval"):
        assert words in result.summary(0.9)


def test_object(result):
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.target = "QINI"
    assert pickle.loads(pickle.dumps(result)).value == result.value
    assert len(pickle.dumps(result)) < 10_000
    assert type(result.plot()).__name__ == "Axes"


def test_html_is_escaped(result):
    html = dataclasses.replace(result, assumptions=("<script>",))._repr_html_()
    assert "<script>" not in html


def test_no_error_no_ratio():
    curve = pd.DataFrame({"fraction": [1.0], "estimate": [0.0], "std_error": [0.0]})
    result = TargetingResult(np.zeros(1), np.zeros(1), "QINI", curve, 10)
    assert np.isnan(result.ratio[0])
    assert np.isnan(result.p_value[0])
