"""Seconds and peak memory of an adjusted average effect with 10,000 units and 512 columns.

Run: python benchmarks/average_effect.py [--units 10000] [--columns 512]

Cross-fits the default learners on 5 folds, forms the doubly robust scores, and computes the average
effect with a clustered and with a Conley standard error (20 km).
"""

import argparse
import resource
import time

import numpy as np
import pandas as pd

import terracausal as tc


def draw_study(n_units: int, n_columns: int, rng: np.random.Generator) -> tc.Study:
    """Return units at half as many sites, confounded by a few directions of the embeddings."""
    n_sites = n_units // 2
    latent = rng.normal(size=(n_sites, 20))
    columns = latent @ rng.normal(size=(20, n_columns)) + rng.normal(size=(n_sites, n_columns))
    places = rng.uniform(0, 3.6, (n_sites, 2)) + np.array([32, 2])
    site = np.arange(n_units) % n_sites
    chance = 1 / (1 + np.exp(-latent[site, 0]))
    treated = (rng.random(n_units) < chance).astype(int)
    outcome = treated + latent[site, :2].sum(axis=1) + rng.normal(size=n_units)
    table = pd.DataFrame({"y": outcome, "w": treated, "site": site})
    table[["lon", "lat"]] = places[site]
    study = tc.Study(table, outcome="y", treatment="w", site="site", coords=("lon", "lat"))
    return study.join(pd.DataFrame(columns).add_prefix("embedding_"))


def main() -> None:
    """Measure and print one line per step."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--units", type=int, default=10_000)
    parser.add_argument("--columns", type=int, default=512)
    arguments = parser.parse_args()
    study = draw_study(arguments.units, arguments.columns, np.random.default_rng(0))
    started, cpu = time.perf_counter(), time.process_time()

    def told(step: str) -> None:
        peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        seconds, used = time.perf_counter() - started, time.process_time() - cpu
        print(f"{step:<24} {seconds:7.1f} s  {used:7.1f} s of CPU  peak {peak_mb:6.0f} MB")

    nuisances = tc.cross_fit(study, random_state=0)
    told("nuisances, 5 folds")
    effect = tc.average_effect(tc.doubly_robust_scores(study, nuisances))
    told("average effect")
    spatial = effect.with_std_error("conley", cutoff_m=20_000)
    print(effect.summary(), spatial.summary(), sep="\n")
    told("Conley standard error")


if __name__ == "__main__":
    main()
