"""How well two types are found as outcomes get noisier: the mixture against post-hoc groups."""

import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.metrics import adjusted_rand_score, roc_auc_score
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[2]))

from harness import Row, main, number, row, table_of
from worlds import N_FEATURES, draw_world

import terracausal as tc

ENTROPY = 96220847513370925408816322541703
REPLICATIONS = 20
DESIGNS = {
    "300 sites of 7": (300, 7, (0.25, 0.5, 1.0, 2.0, 3.0)),
    "1,000 sites of 1": (1000, 1, (0.25, 1.0, 3.0)),
}
EFFECTS = (0.0, 2.0)
N_NEW = 2000


def methods(seed: int) -> dict[str, tc.EffectMixture | tc.PostHocTypes]:
    """Return the mixture and its rivals; all know the propensity and read four columns."""
    network = MLPRegressor(hidden_layer_sizes=(32,), alpha=1e-3, early_stopping=True, max_iter=300)
    forest = tc.CausalForest(500, use="embeddings")
    return {
        "mixture": tc.EffectMixture(
            n_dimensions=N_FEATURES,
            guide="laplace",
            n_restarts=4,
            n_bootstrap=0,
            random_state=seed,
        ),
        "T-learner, ridge": tc.PostHocTypes(tc.TLearner(), random_state=seed),
        "T-learner, networks": tc.PostHocTypes(
            tc.TLearner(make_pipeline(StandardScaler(), network)), random_state=seed
        ),
        "causal forest": tc.PostHocTypes(forest, random_state=seed),
        "tree of forest": tc.PostHocTypes(forest, grouping="tree", random_state=seed),
    }


def draw(rng: np.random.Generator) -> Iterator[Row]:
    """Yield the rows of one replication of all settings."""
    warnings.simplefilter("ignore")  # weak mixtures and unfinished networks are the point here
    seed = int(rng.integers(2**31))
    for design, (n_sites, units_per_site, noise) in DESIGNS.items():
        for noise_sd in noise:
            # the same places, types and units at every noise
            world = np.random.default_rng(seed)
            setting = f"{design}, noise SD {noise_sd:g}"
            yield from compare(world, setting, (n_sites, units_per_site, EFFECTS, noise_sd), seed)


def compare(rng: np.random.Generator, setting: str, size: tuple, seed: int) -> Iterator[Row]:
    """Fit all methods to one world, and compare effects and memberships with the truth."""
    study, embeddings, kind, _ = draw_world(rng, *size)
    _, new, new_kind, chance = draw_world(rng, N_NEW, 1, EFFECTS)
    nuisances = tc.cross_fit(study, random_state=seed)
    started = time.perf_counter()
    yield from sorted_well(setting, "oracle", "new", new_kind, chance, started)
    for name, types in methods(seed).items():
        started = time.perf_counter()
        types.fit(study, nuisances=nuisances)
        told = types.to_dataframe(level=0.95)
        for k, truth in enumerate(EFFECTS):
            yield row(setting, name, truth, table_of(told.iloc[[k]]), started)
            if "predicted_effect" in told:
                center = number(f"center {k + 1}", told["predicted_effect"].iloc[k])
                yield row(setting, name, truth, center, started)
        found = types.predict_proba(new)[["probability_1", "probability_2"]]
        yield from sorted_well(
            setting, name, "new", new_kind, found["probability_2"].to_numpy(), started
        )
        miss = found.to_numpy() @ told["estimate"].to_numpy() - np.dot(
            np.column_stack([1 - chance, chance]), EFFECTS
        )
        rmse = number("RMSE of effects by place", float(np.sqrt(np.mean(miss**2))))
        yield row(setting, name, 0.0, rmse, started)
        # places whose outcomes were seen: the mixture has a formula for what these say of the type
        seen = (
            types.memberships_.loc[embeddings.index]
            if name == "mixture"
            else types.predict_proba(embeddings)
        )
        yield from sorted_well(setting, name, "seen", kind, seen["probability_2"], started)


def sorted_well(
    setting: str,
    name: str,
    which: str,
    kind: np.ndarray,
    chance: "np.ndarray | pd.Series[float]",
    started: float,
) -> Iterator[Row]:
    """Yield AUC and adjusted Rand index of memberships of new or seen places."""
    auc = float(roc_auc_score(kind, chance))
    yield row(setting, name, 1.0, number(f"AUC, {which} places", auc), started)
    ari = float(adjusted_rand_score(kind, np.asarray(chance) > 0.5))
    yield row(setting, name, 1.0, number(f"ARI, {which} places", ari), started)


if __name__ == "__main__":
    main(draw, ENTROPY, Path(__file__).parent, REPLICATIONS)
