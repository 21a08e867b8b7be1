"""Repeats of scores and of priorities: every function gives the median over pairs of repeats."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from terracausal._foundation.errors import AlignmentError
from terracausal.effects import EffectOrigin
from terracausal.effects.origin import with_origin, with_repeats
from terracausal.evaluation import (
    calibration_test,
    compare_priorities,
    grouped_effects,
    policy_value,
    rank_weighted_effect,
    targeting_curve,
    treat_within_budget,
)
from terracausal.nuisance import Scores

N_UNITS, N_REPEATS = 120, 3


@pytest.fixture
def runs(rng):
    """Three runs of cross-fitting: scores and priorities with folds of their own."""
    base = pd.DataFrame({"outcome": rng.normal(size=N_UNITS), "propensity": 0.5})
    base["treatment"], base["cluster"] = np.arange(N_UNITS) % 2, np.arange(N_UNITS) // 3
    base["outcome_control"] = base["outcome_treated"] = 0.0
    score = base["outcome"] * (4 * base["treatment"] - 2)
    x = score + 2 * rng.normal(size=N_UNITS)
    scores, priorities = [], []
    for _ in range(N_REPEATS):
        noisy = score + 0.5 * rng.normal(size=N_UNITS)
        scores.append(Scores.from_dataframe(base.assign(score=noisy)))
        fold = pd.Series(rng.permutation(40) % 4)[base["cluster"]].set_axis(base.index)
        learned = x + rng.normal(size=N_UNITS)
        priorities.append(with_origin(learned, EffectOrigin("learner", folds=fold)))
    return scores, priorities


FUNCTIONS = {
    "rank_weighted_effect": lambda s, p: rank_weighted_effect(s, p, random_state=1),
    "calibration_test": calibration_test,
    "grouped_effects": lambda s, p: grouped_effects(s, p, 3, random_state=1),
    "highest less lowest": lambda s, p: grouped_effects(s, p, 3, random_state=1).contrast,
    "columns of groups": lambda s, p: grouped_effects(s, p, 3, random_state=1).compare(
        s.table[["outcome"]], random_state=1
    ),
    "policy_value": lambda s, p: policy_value(s, treat_within_budget(s, p, 0.4)),
    "compare_priorities": lambda s, p: compare_priorities(
        s, p, np.arange(N_UNITS) % 7, random_state=1
    ),
}


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("repeated", ["both", "scores", "priorities"])
def test_values_are_medians_and_errors_count_the_spread(runs, name, repeated):
    scores, priorities = runs
    one = [0] * N_REPEATS
    of_scores = one if repeated == "priorities" else range(N_REPEATS)
    of_priorities = one if repeated == "scores" else range(N_REPEATS)
    call = FUNCTIONS[name]
    alone = [call(scores[i], priorities[j]) for i, j in zip(of_scores, of_priorities, strict=True)]
    together = call(
        scores[0] if repeated == "priorities" else replace(scores[0], repeats=tuple(scores[1:])),
        priorities[0] if repeated == "scores" else with_repeats(priorities),
    )
    value = np.array([found.value for found in alone])
    error = np.array([found.std_error for found in alone])
    middle = np.median(value, axis=0)
    np.testing.assert_allclose(together.value, middle, atol=1e-12)
    variance = np.median(error**2 + (value - middle) ** 2, axis=0)
    np.testing.assert_allclose(together.std_error, np.sqrt(variance), atol=1e-12)


def test_curves_are_medians(runs):
    scores, priorities = runs
    found = targeting_curve(scores[0], with_repeats(priorities), n_bootstrap=50, random_state=0)
    alone = [targeting_curve(scores[0], p, n_bootstrap=50, random_state=0) for p in priorities]
    middle = np.median([curve["estimate"] for curve in alone], axis=0)
    np.testing.assert_allclose(found["estimate"], middle)


def test_summaries_tell_the_repeats(runs):
    scores, priorities = runs
    learned = with_repeats(priorities)
    for found in (rank_weighted_effect(scores[0], learned), grouped_effects(scores[0], learned, 3)):
        assert "median of 3 cross-fits" in found.summary()


def test_numbers_of_repeats_must_fit(runs):
    scores, priorities = runs
    two = replace(scores[0], repeats=tuple(scores[1:2]))
    for call in FUNCTIONS.values():
        with pytest.raises(AlignmentError, match="got 2 and 3"):
            call(two, with_repeats(priorities))
    with pytest.raises(AlignmentError, match="got 3 and 2"):
        compare_priorities(scores[0], with_repeats(priorities), with_repeats(priorities[:2]))
