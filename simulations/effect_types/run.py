"""Worlds with two types of places: effects, intervals, memberships and the number of types."""

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score

sys.path.insert(0, str(Path(__file__).parents[1]))

from harness import Row, main, row

import terracausal as tc
from terracausal.mixtures import EffectMixture, choose_components

ENTROPY = 308173642205518117240963417158430921837
REPLICATIONS = 200
N_FEATURES = 4
DESIGNS = {"300 sites of 7": (300, 7), "1,000 sites of 1": (1000, 1)}
EFFECTS = (0.0, 2.0)
CHOICES = {"constant effect 1": ((1.0, 1.0), 1), "effects 0 and 2": (EFFECTS, 2)}
N_SITES_CHOICE, UNITS_CHOICE = 120, 5


def draw_world(
    rng: np.random.Generator, n_sites: int, units_per_site: int, effects: tuple[float, float]
) -> tuple[tc.Study, pd.DataFrame, np.ndarray, np.ndarray]:
    """Return a study, embeddings, types and their true probabilities.

    The type follows the first of four standard normal embedding columns, with logit 2 x; the second
    moves the baseline by 0.5, a covariate by 0.3, the site by a normal of SD 0.3, noise has SD 1.
    Half of the units are treated, by a coin.
    """
    x = rng.normal(size=(n_sites, N_FEATURES))
    chance = 1 / (1 + np.exp(-2 * x[:, 0]))
    kind = (rng.random(n_sites) < chance).astype(int)
    site = np.repeat(np.arange(n_sites), units_per_site)
    n_units = len(site)
    treated, covariate = rng.integers(0, 2, n_units), rng.normal(size=n_units)
    control = 0.5 * x[site, 1] + 0.3 * covariate + 0.3 * rng.normal(size=n_sites)[site]
    outcome = control + np.array(effects)[kind[site]] * treated + rng.normal(size=n_units)
    table = pd.DataFrame({"y": outcome, "w": treated, "x": covariate, "site": site})
    embeddings = pd.DataFrame(x, columns=[f"e{j}" for j in range(N_FEATURES)])
    study = tc.Study(
        table, outcome="y", treatment="w", site="site", covariates=["x"], propensity=0.5
    )
    return study.join(embeddings, role="modifier"), embeddings, kind, chance


def draw(rng: np.random.Generator) -> Iterator[Row]:
    """Yield the rows of one replication of all settings."""
    seed = int(rng.integers(2**31))
    for setting, (n_sites, units_per_site) in DESIGNS.items():
        yield from recover(rng, setting, n_sites, units_per_site, seed)
    for setting, (effects, truth) in CHOICES.items():
        started = time.perf_counter()
        study, *_ = draw_world(rng, N_SITES_CHOICE, UNITS_CHOICE, effects)
        quick = EffectMixture(n_dimensions=N_FEATURES, n_restarts=4, random_state=seed)
        folds = study.folds(random_state=seed)
        chosen = choose_components(study, (1, 2, 3), folds, mixture=quick).n_components
        yield row(setting, "choose_components", truth, number("chosen", chosen), started)


def recover(
    rng: np.random.Generator, setting: str, n_sites: int, units_per_site: int, seed: int
) -> Iterator[Row]:
    """Fit two components; compare effects, posterior and memberships with the truth."""
    started = time.perf_counter()
    study, embeddings, kind, chance = draw_world(rng, n_sites, units_per_site, EFFECTS)
    mixture = EffectMixture(
        n_dimensions=N_FEATURES, guide="laplace", n_restarts=4, n_bootstrap=100, random_state=seed
    ).fit(study)
    told = mixture.to_dataframe(level=0.95)
    for k, truth in enumerate(EFFECTS):
        line = told.iloc[[k]]
        yield row(setting, "refits", truth, table_of(line), started)
        mean, sd = line["posterior_mean"].iloc[0], line["posterior_sd"].iloc[0]
        posterior = line.assign(
            estimate=mean, std_error=sd, ci_low=mean - 1.96 * sd, ci_high=mean + 1.96 * sd
        )
        yield row(setting, "posterior", truth, table_of(posterior), started)
    found = mixture.predict_proba(embeddings)["probability_2"]
    gain = roc_auc_score(kind, found) - roc_auc_score(kind, chance)
    yield row(setting, "AUC less that of the oracle", 0.0, number("auc", gain), started)


def table_of(line: pd.DataFrame) -> SimpleNamespace:
    """Dress a tidy row as a result."""
    return SimpleNamespace(to_dataframe=lambda level: line)


def number(term: str, value: float) -> SimpleNamespace:
    """Dress a number without an error as a result."""
    line = {"term": term, "estimate": value, "std_error": 0.0, "ci_low": value, "ci_high": value}
    return table_of(pd.DataFrame([line]))


if __name__ == "__main__":
    main(draw, ENTROPY, Path(__file__).parent, REPLICATIONS)
