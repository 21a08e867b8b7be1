"""Identities of average effects: exact for any data."""

import numpy as np
import pandas as pd
import pytest

from terracausal.effects import average_effect
from terracausal.nuisance import Scores

TARGETS = ("all", "treated", "control", "overlap")
# Horvitz-Thompson alone is not invariant to a shift of the outcome
INVARIANT = [
    *((target, method) for target in TARGETS for method in ("aipw", "hajek")),
    ("all", "plr"),
    ("overlap", "plr"),
    ("all", "difference_in_means"),
]
PAIRS = [*INVARIANT, *((target, "ipw") for target in TARGETS)]
SWAPPED = {"all": "all", "treated": "control", "control": "treated", "overlap": "overlap"}


@pytest.mark.parametrize(("target", "method"), INVARIANT)
def test_shift_of_the_outcome(parts, make_scores, target, method):
    moved = parts.copy()
    moved[["outcome", "outcome_control", "outcome_treated"]] += 50.0
    one, other = (average_effect(make_scores(p), target, method) for p in (parts, moved))
    np.testing.assert_allclose(one.value, other.value, rtol=1e-9)
    np.testing.assert_allclose(one.std_error, other.std_error, rtol=1e-9)


@pytest.mark.parametrize(("target", "method"), PAIRS)
class TestIdentities:
    def test_scale_of_the_outcome(self, parts, make_scores, target, method):
        scaled = parts.copy()
        scaled[["outcome", "outcome_control", "outcome_treated"]] *= -3.0
        one, other = (average_effect(make_scores(p), target, method) for p in (parts, scaled))
        np.testing.assert_allclose(-3 * one.value, other.value, rtol=1e-10)
        np.testing.assert_allclose(3 * one.std_error, other.std_error, rtol=1e-10)

    def test_swapped_arms(self, parts, make_scores, target, method):
        swapped = parts.assign(
            treatment=1 - parts["treatment"],
            propensity=1 - parts["propensity"],
            outcome_control=parts["outcome_treated"],
            outcome_treated=parts["outcome_control"],
        )
        one = average_effect(make_scores(parts), target, method)
        other = average_effect(make_scores(swapped), SWAPPED[target], method)
        np.testing.assert_allclose(one.value, -other.value, rtol=1e-10)
        np.testing.assert_allclose(one.std_error, other.std_error, rtol=1e-10)

    def test_weight_two_is_a_row_twice(self, parts, make_scores, target, method):
        parts["weight"] = np.where(np.arange(90) % 3 == 0, 2.0, 1.0)
        twice = parts.loc[parts.index.repeat(parts["weight"].astype(int))].assign(weight=1.0)
        twice.index = pd.RangeIndex(len(twice))
        one, other = (average_effect(make_scores(p), target, method) for p in (parts, twice))
        np.testing.assert_allclose(one.value, other.value, rtol=1e-10)
        # a pair stays within its cluster, so the clustered error is the same as well
        np.testing.assert_allclose(one.std_error, other.std_error, rtol=1e-10)

    def test_all_rows_twice_in_their_clusters(self, parts, make_scores, target, method):
        twice = parts.loc[parts.index.repeat(2)].set_axis(range(180))
        one, other = (average_effect(make_scores(p), target, method) for p in (parts, twice))
        np.testing.assert_allclose(one.value, other.value, rtol=1e-10)
        np.testing.assert_allclose(one.std_error, other.std_error, rtol=1e-10)

    def test_weight_zero_is_no_row(self, parts, make_scores, target, method):
        parts.loc[parts.index[::4], "weight"] = 0.0
        one = average_effect(make_scores(parts), target, method)
        other = average_effect(make_scores(parts[parts["weight"] > 0]), target, method)
        np.testing.assert_allclose(one.value, other.value, rtol=1e-10)
        np.testing.assert_allclose(one.std_error, other.std_error, rtol=1e-10)

    def test_scale_of_the_weights(self, parts, make_scores, target, method):
        scaled = parts.assign(weight=7 * parts["weight"])
        one, other = (average_effect(make_scores(p), target, method) for p in (parts, scaled))
        np.testing.assert_allclose(one.value, other.value, rtol=1e-12)
        np.testing.assert_allclose(one.std_error, other.std_error, rtol=1e-12)

    @pytest.mark.parametrize("std_error", ["hc", "cluster", "conley"])
    def test_rows_in_any_order(self, parts, make_scores, rng, target, method, std_error):
        options = {"std_error": std_error, "cutoff_m": 3e4 if std_error == "conley" else None}
        shuffled = parts.iloc[rng.permutation(90)]
        one, other = (
            average_effect(make_scores(p), target, method, **options) for p in (parts, shuffled)
        )
        np.testing.assert_allclose(one.value, other.value, rtol=1e-12)
        np.testing.assert_allclose(one.std_error, other.std_error, rtol=1e-11)

    def test_round_trip_of_the_table(self, parts, make_scores, target, method):
        scores = make_scores(parts)
        again = Scores.from_dataframe(scores.to_dataframe())
        one, other = (average_effect(s, target, method) for s in (scores, again))
        assert one.value[0] == other.value[0]
        assert one.std_error[0] == other.std_error[0]
