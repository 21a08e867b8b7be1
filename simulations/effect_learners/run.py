"""Effect learners on the worlds of Nie & Wager (2021), and what their intervals cover."""

import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parents[1]))

from harness import Row, main

import terracausal as tc
from terracausal.effects import EffectLearner
from terracausal.nuisance import ClusterBoosting

ENTROPY = 174982230475518643296107324869201153647
REPLICATIONS = 20
N_INTERVALS = 10  # draws of the worlds with intervals per replication, which are quick
N_UNITS, N_COVARIATES = 500, 6
COVARIATES = [f"x{j + 1}" for j in range(N_COVARIATES)]
# clusters of the worlds with intervals
N_SITES, UNITS_PER_SITE, LEVEL = 60, 4, 0.8

Floats = NDArray[np.floating]
World = Callable[[Floats], tuple[Floats, Floats, Floats]]


def setup_a(x: Floats) -> tuple[Floats, Floats, Floats]:
    """Return propensity, baseline and effect: difficult nuisances, an easy effect."""
    curve = np.sin(np.pi * x[:, 0] * x[:, 1])
    baseline = curve + 2 * (x[:, 2] - 0.5) ** 2 + x[:, 3] + 0.5 * x[:, 4]
    return np.clip(curve, 0.1, 0.9), baseline, (x[:, 0] + x[:, 1]) / 2


def setup_b(x: Floats) -> tuple[Floats, Floats, Floats]:
    """Assign at random."""
    sums = x[:, 0] + x[:, 1], x[:, 3] + x[:, 4]
    baseline = np.maximum(np.maximum(0, sums[0]), x[:, 2]) + np.maximum(0, sums[1])
    return np.full(len(x), 0.5), baseline, x[:, 0] + np.log1p(np.exp(x[:, 1]))


def setup_c(x: Floats) -> tuple[Floats, Floats, Floats]:
    """Give all the same effect, with an easy propensity and a difficult baseline."""
    propensity = 1 / (1 + np.exp(x[:, 1] + x[:, 2]))
    return propensity, 2 * np.log1p(np.exp(x[:, :3].sum(axis=1))), np.ones(len(x))


def setup_d(x: Floats) -> tuple[Floats, Floats, Floats]:
    """Let the arms have nothing in common."""
    propensity = 1 / (1 + np.exp(-x[:, 0]) + np.exp(-x[:, 1]))
    treated, control = np.maximum(x[:, :3].sum(axis=1), 0), np.maximum(x[:, 3] + x[:, 4], 0)
    return propensity, (treated + control) / 2, treated - control


WORLDS: dict[str, World] = {
    "A: hard nuisances": setup_a,
    "B: a trial": setup_b,
    "C: constant effect": setup_c,
    "D: unrelated arms": setup_d,
}


def learners(seed: int) -> dict[str, EffectLearner]:
    """Return the learners that are compared, with three inner folds."""
    given = {"n_folds": 3, "random_state": seed}
    trees = ClusterBoosting(max_trees=80, learning_rate=0.1)
    boosted = given | {"effect_learner": trees, "outcome_learner": trees}
    quick = {
        "R, ridge": tc.RLearner(**given),
        "DR, ridge": tc.DRLearner(**given),
        "S, ridge": tc.SLearner(**given),
        "T, ridge": tc.TLearner(**given),
        "X, ridge": tc.XLearner(**given),
    }
    return quick | {
        "linear DR": tc.LinearDRLearner(**given),
        "T, boosting": tc.TLearner(trees, random_state=seed),
        "R, boosting": tc.RLearner(**boosted),
        "DR, boosting": tc.DRLearner(**boosted),
        "tuned (five with ridge)": tc.TunedEffectLearner(quick, n_folds=2, random_state=seed),
    }


def draw_world(rng: np.random.Generator, world: World, n_units: int) -> tuple[pd.DataFrame, Floats]:
    """Return units and their conditional effects."""
    uniform = world is setup_a
    x = rng.uniform(size=(n_units, 6)) if uniform else rng.normal(size=(n_units, 6))
    propensity, baseline, effect = world(x)
    w = (rng.uniform(size=n_units) < propensity).astype(int)
    y = baseline + (w - 0.5) * effect + rng.normal(size=n_units)
    return pd.DataFrame(x, columns=COVARIATES).assign(y=y, w=w), effect


def draw(rng: np.random.Generator) -> Iterator[Row]:
    """Yield the rows of one replication of all settings."""
    for name, world in WORLDS.items():
        yield from errors(rng, name, world)
    for _ in range(N_INTERVALS):
        yield from intervals_of_linear_effects(rng)
        yield from intervals_of_units(rng)


def errors(rng: np.random.Generator, name: str, world: World) -> Iterator[Row]:
    """Measure the error on new units; the column truth holds the SD of the effect."""
    table, _ = draw_world(rng, world, N_UNITS)
    new, effect = draw_world(rng, world, 1000)
    known = 0.5 if world is setup_b else None
    study = tc.Study(table, outcome="y", treatment="w", covariates=COVARIATES, propensity=known)
    for learner_name, learner in learners(int(rng.integers(2**31))).items():
        started = time.perf_counter()
        found = learner.fit(study).predict(new).to_numpy()
        rmse = float(np.sqrt(np.mean((found - effect) ** 2)))
        yield told(name, learner_name, "rmse", (float(effect.std()), rmse), started)


def told(
    setting: str,
    estimator: str,
    term: str,
    numbers: tuple[float, float],
    started: float,
    interval: tuple[float, float] = (np.nan, np.nan),
) -> Row:
    """Return a row with truth and estimate, and an interval where there is one."""
    names = ("truth", "estimate", "ci_low", "ci_high")
    texts = {k: f"{v:.5g}" for k, v in zip(names, (*numbers, *interval), strict=True)}
    seconds = round(time.perf_counter() - started, 3)
    row = {"setting": setting, "estimator": estimator, "term": term, "std_error": "nan"}
    return row | texts | {"seconds": seconds}


def clustered_units(rng: np.random.Generator, n_columns: int) -> tuple[pd.DataFrame, Floats]:
    """Return units at sites with site effects, and the effect of each single unit."""
    site = np.repeat(np.arange(N_SITES), UNITS_PER_SITE)
    x = rng.normal(size=(N_SITES, n_columns))[site]
    z, noise = rng.normal(size=(2, len(site)))
    single = 1 + x[:, 0] + 0.5 * rng.normal(size=len(site))
    w = rng.integers(0, 2, len(site))
    y = z + 0.7 * rng.normal(size=N_SITES)[site] + w * single + noise
    columns = {f"x{j + 1}": x[:, j] for j in range(n_columns)}
    return pd.DataFrame(columns | {"z": z, "y": y, "w": w, "site": site}), single


def study_at_sites(table: pd.DataFrame, n_columns: int) -> tc.Study:
    covariates = [*(f"x{j + 1}" for j in range(n_columns)), "z"]
    return tc.Study(
        table, outcome="y", treatment="w", site="site", covariates=covariates, propensity=0.5
    )


def intervals_of_linear_effects(rng: np.random.Generator) -> Iterator[Row]:
    """Intervals of the linear DR-learner, with few and with as many columns as it takes."""
    for n_columns in (2, N_SITES // 5 - 2):
        table, _ = clustered_units(rng, n_columns)
        study = study_at_sites(table, n_columns)
        point = pd.DataFrame(np.full((1, n_columns + 1), 0.5), columns=study.roles.covariates)
        started = time.perf_counter()
        learner = tc.LinearDRLearner(random_state=int(rng.integers(2**31))).fit(study)
        found = learner.predict_interval(point).iloc[0]
        name = f"{N_SITES} sites, {n_columns + 1} columns"
        ends = (found["ci_low"], found["ci_high"])
        numbers = (1.5, found["cate"])
        yield told(name, "linear DR", "effect at a point", numbers, started, ends)


def intervals_of_units(rng: np.random.Generator) -> Iterator[Row]:
    """Conformal intervals for units of the study, whose single effects are known here.

    The effect of one unit, drawn at random, is held against its interval.
    """
    table, single = clustered_units(rng, 2)
    study = study_at_sites(table, 2)
    started = time.perf_counter()
    seed = int(rng.integers(2**31))
    learner = tc.DRLearner(random_state=seed)
    found = tc.conformal_intervals(learner, study, level=LEVEL, n_folds=5, random_state=seed)
    unit = int(rng.integers(len(table)))
    one = found.table.iloc[unit]
    name, ends = f"{N_SITES} sites, single units", (one["ci_low"], one["ci_high"])
    numbers = (single[unit], one["cate"])
    yield told(name, "conformal, DR", "effect of one unit", numbers, started, ends)


if __name__ == "__main__":
    # setups C and D have units with propensities near 0 and 1: that is their point
    warnings.filterwarnings("ignore", message=".* of units have a propensity below")
    main(draw, ENTROPY, Path(__file__).parent, REPLICATIONS)
