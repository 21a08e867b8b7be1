"""Coverage of intervals for the RATE, the groups and the policies of a fitted ranking."""

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

sys.path.insert(0, str(Path(__file__).parents[1]))

from harness import Row, main
from image_trial import EFFECT, draw_trial

import terracausal as tc

ENTROPY = 118402957713090482371958220947146600331
REPLICATIONS = 400
SLOPES = (0.0, 0.9)
N_SITES, UNITS_PER_SITE = 100, 5
BUDGET, N_GROUPS = 0.3, 5
# RATE of a ranking whose correlation with a standard normal effect is 1
UNIT_RATES = {"AUTOC": 0.903197, "QINI": 0.282095}


def draw(rng: np.random.Generator) -> Iterator[Row]:
    """Yield the rows of one replication: both kinds of ranking at every strength."""
    for slope, child in zip(SLOPES, rng.spawn(len(SLOPES)), strict=True):
        yield from rankings(slope, child)


def rankings(slope: float, rng: np.random.Generator) -> Iterator[Row]:
    """Yield the rows of one trial, ranked by effects learned elsewhere and out of fold."""
    study = draw_trial(rng, slope, N_SITES, UNITS_PER_SITE)
    elsewhere = draw_trial(rng, slope, N_SITES, UNITS_PER_SITE)
    folds = study.folds(random_state=rng)
    scores = tc.doubly_robust_scores(study, tc.cross_fit(study, folds, random_state=rng))
    learner = tc.DRLearner(use="embeddings", n_folds=2, random_state=int(rng.integers(2**31)))
    trained = learner.fit(elsewhere).predict(study)
    # the units of both trials bear the same keys, so the mark of their origin is taken away
    trained = pd.Series(trained.to_numpy(), index=study.units)
    features = study.table[list(study.embedding_columns)]
    everyone = pd.Series(0, index=study.units)
    for name, effects, parts in (
        ("learned elsewhere", trained, everyone),
        ("out of fold", learner.cross_predict(study, folds), folds.labels.loc[study.units]),
    ):
        strength = slope * agreement(effects, features, parts)
        yield from evaluations(f"{name}, SD {slope:.1f}", strength, scores, effects, rng)


def agreement(effects: pd.Series, features: pd.DataFrame, parts: pd.Series) -> float:
    """Return the correlation of a linear ranking with the true effect, its mean over parts."""
    found = []
    for label in parts.unique():
        own = (parts == label).to_numpy()
        design = np.column_stack([np.ones(own.sum()), features.to_numpy()[own]])
        # predictions of a ridge are linear in the features, so this is exact
        coef = np.linalg.lstsq(design, effects.to_numpy()[own], rcond=None)[0][1:]
        found.append(coef[0] / np.linalg.norm(coef))
    return float(np.mean(found))


def evaluations(
    setting: str, strength: float, scores: tc.Scores, effects: Any, rng: np.random.Generator
) -> Iterator[Row]:
    """Yield one row per interval; the effect has the mean 0.5 and falls with the rank as Z."""
    for target, unit in UNIT_RATES.items():
        started = time.perf_counter()
        rate = tc.rank_weighted_effect(scores, effects, target, random_state=rng)
        yield from rows(setting, "RATE", [strength * unit], rate, started)
    started = time.perf_counter()
    groups = tc.grouped_effects(scores, effects, N_GROUPS, random_state=rng)
    density = stats.norm.pdf(stats.norm.ppf(np.linspace(0, 1, N_GROUPS + 1)))
    means = EFFECT - strength * N_GROUPS * np.diff(density)
    yield from rows(setting, "groups", means, groups, started)
    yield from rows(setting, "groups", [means[-1] - means[0]], groups.contrast, started)
    half = np.ptp(groups.confint(joint=True), axis=1) / 2
    furthest = float((np.abs(groups.value - means) / half).max())
    # the band holds all groups where the furthest is within its half width, which is 1 here
    numbers = {"truth": 0, "estimate": furthest, "std_error": np.nan, "ci_low": furthest - 1}
    yield row(setting, "groups", "joint band", numbers | {"ci_high": furthest + 1}, started)
    started = time.perf_counter()
    value = tc.policy_value(scores, tc.treat_within_budget(scores, effects, BUDGET))
    gain = strength * stats.norm.pdf(stats.norm.ppf(BUDGET))
    worth = BUDGET * EFFECT + gain
    yield from rows(setting, "policy", [worth, EFFECT, worth - EFFECT, gain], value, started)


def rows(setting: str, estimator: str, truth: Any, result: Any, started: float) -> Iterator[Row]:
    """Yield one row per term of a result."""
    for true, told in zip(truth, result.to_dataframe().to_dict("records"), strict=True):
        yield row(setting, estimator, told["term"], told | {"truth": true}, started)


def row(setting: str, estimator: str, term: str, numbers: dict[str, Any], started: float) -> Row:
    names = ("truth", "estimate", "std_error", "ci_low", "ci_high")
    named = {"setting": setting, "estimator": estimator, "term": term}
    seconds = round(time.perf_counter() - started, 3)
    return named | {name: f"{numbers[name]:.5g}" for name in names} | {"seconds": seconds}


if __name__ == "__main__":
    main(draw, ENTROPY, Path(__file__).parent, REPLICATIONS)
