"""Two priorities on the same half-samples, and the band of the targeting curve."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from terracausal._foundation.errors import AlignmentError, LeakageError, RoleError
from terracausal.effects import EffectOrigin
from terracausal.effects.origin import with_origin
from terracausal.evaluation import rank_weighted_effect
from terracausal.evaluation.priority_comparison import compare_priorities, targeting_curve
from terracausal.nuisance import Scores

N_UNITS = 400


@pytest.fixture
def table(rng):
    x, noise = rng.normal(size=(2, N_UNITS))
    table = pd.DataFrame({"x": x, "close": x + 0.3 * noise, "other": rng.normal(size=N_UNITS)})
    table["score"] = x + rng.normal(size=N_UNITS)
    table["cluster"] = np.arange(N_UNITS) % 80
    return table


@pytest.fixture
def scores(table):
    return Scores.from_dataframe(table)


@pytest.mark.parametrize("target", ["AUTOC", "QINI"])
def test_each_part_is_the_rank_weighted_effect(table, scores, target):
    found = compare_priorities(scores, table["x"], table["other"], target, random_state=3)
    for j, name in enumerate(("x", "other")):
        alone = rank_weighted_effect(scores, table[name], target, random_state=3)
        assert found.value[j] == pytest.approx(alone.value[0])
        assert found.std_error[j] == pytest.approx(alone.std_error[0])
    assert found.value[2] == pytest.approx(found.value[0] - found.value[1])
    assert found.p_value[2] < 0.01


def test_the_difference_counts_what_both_rankings_share(table, scores):
    found = compare_priorities(scores, table["x"], table["close"], random_state=0)
    assert found.std_error[2] < 0.7 * np.hypot(*found.std_error[:2])
    swapped = compare_priorities(scores, table["close"], table["x"], random_state=0)
    np.testing.assert_allclose(swapped.value[2], -found.value[2])
    np.testing.assert_allclose(swapped.std_error[2], found.std_error[2])


def test_out_of_fold_priorities_are_widened(table, scores):
    origin = EffectOrigin("learner", folds=table["cluster"] % 4)
    learned = [with_origin(table[name].copy(), origin) for name in ("x", "other")]
    found = compare_priorities(scores, *learned, random_state=0)
    ranks = [table[name].groupby(table["cluster"] % 4).rank() for name in ("x", "other")]
    plain = compare_priorities(scores, *ranks, random_state=0)
    np.testing.assert_allclose(found.value, plain.value)
    np.testing.assert_allclose(found.std_error, np.sqrt(2) * plain.std_error)
    assert "widened" in found.summary()


def test_results_can_be_shown(table, scores):
    found = compare_priorities(scores, table["x"], table["other"], names=("image", "table"))
    assert found.to_dataframe()["term"].tolist() == ["image", "table", "image less table"]
    assert "<table" in found._repr_html_()
    assert found.plot().get_xlabel() == "AUTOC (units of the outcome)"


def test_curve_is_that_of_the_rank_weighted_effect_with_a_wider_band(table, scores):
    curve = targeting_curve(scores, table["x"], n_bootstrap=200, random_state=1)
    toc = rank_weighted_effect(scores, table["x"], random_state=1).toc
    np.testing.assert_allclose(curve["estimate"], toc["estimate"])
    np.testing.assert_allclose(curve["std_error"], toc["std_error"], atol=1e-12)
    np.testing.assert_allclose(curve["ci_low"], toc["ci_low"], atol=1e-12)
    inner = curve["fraction"] < 1
    wider = (curve["band_high"] - curve["estimate"]) / (curve["ci_high"] - curve["estimate"])
    assert wider[inner].min() > 1.1
    assert np.ptp(wider[inner]) < 1e-9
    assert curve.iloc[-1]["band_high"] == pytest.approx(0, abs=1e-9)


def test_a_constant_priority_is_told(table, rng):
    scores = Scores.from_dataframe(table)
    flat = pd.Series(1.0, index=table.index)
    found = compare_priorities(scores, rng.normal(size=len(table)), flat, names=("a", "b"))
    assert found.value[1] == found.std_error[1] == 0
    assert "careful     'b' is constant, so it ranks nobody" in found.summary()
    assert "'a' is constant" not in found.summary()


def test_repeats_give_medians(table, rng):
    runs = [
        Scores.from_dataframe(table.assign(score=table["score"] + rng.normal(size=N_UNITS)))
        for _ in range(3)
    ]
    repeated = replace(runs[0], repeats=tuple(runs[1:]))
    alone = [compare_priorities(r, table["x"], table["other"], random_state=2) for r in runs]
    found = compare_priorities(repeated, table["x"], table["other"], random_state=2)
    values, spreads = (np.array([getattr(a, w) for a in alone]) for w in ("value", "std_error"))
    np.testing.assert_allclose(found.value, np.median(values, axis=0))
    variance = np.median(spreads**2 + (values - np.median(values, axis=0)) ** 2, axis=0)
    np.testing.assert_allclose(found.std_error, np.sqrt(variance))
    curves = [targeting_curve(r, table["x"], n_bootstrap=50, random_state=2) for r in runs]
    curve = targeting_curve(repeated, table["x"], n_bootstrap=50, random_state=2)
    each = np.array([c["estimate"] for c in curves])
    np.testing.assert_allclose(curve["estimate"], np.median(each, axis=0))
    assert curve["std_error"].iloc[3] >= min(c["std_error"].iloc[3] for c in curves)


def test_any_function_may_weigh(table, scores):
    found = compare_priorities(scores, table["x"], table["other"], np.ones_like, random_state=0)
    plain = compare_priorities(scores, table["x"], table["other"], random_state=0)
    np.testing.assert_allclose(found.value, plain.value)
    assert found.target == "ones_like"


def test_refusals(table, scores):
    with pytest.raises(RoleError, match="it is 2 for all 400 units"):
        targeting_curve(Scores.from_dataframe(table.assign(outcome=2.0)), table["x"])
    with pytest.raises(RoleError, match="it is 2 for all 400 units"):
        compare_priorities(Scores.from_dataframe(table.assign(outcome=2.0)), *[table["x"]] * 2)
    for change, error, message in (
        (lambda x: x.where(x.index > 3), ValueError, "4 of 400 values are NaN"),
        (lambda x: x.set_axis(x.index + 7), AlignmentError, "7 are missing"),
    ):
        with pytest.raises(error, match=message):
            targeting_curve(scores, change(table["x"]))
        with pytest.raises(error, match=message):
            compare_priorities(scores, table["x"], change(table["x"]))
    seen = with_origin(table["x"].copy(), EffectOrigin("Learner()", trained_on=table.index))
    with pytest.raises(LeakageError, match="The second priority was predicted"):
        compare_priorities(scores, table["x"], seen)
    with pytest.raises(LeakageError, match="The priority was predicted"):
        targeting_curve(scores, seen)
    with pytest.raises(RoleError, match="at least 2 clusters"):
        targeting_curve(Scores.from_dataframe(table.assign(cluster=0)), table["x"])
    with pytest.raises(ValueError, match=r"`fractions` must lie in \(0, 1\]"):
        targeting_curve(scores, table["x"], fractions=[0.0])
