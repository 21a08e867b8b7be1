"""Seconds and peak memory of an effect mixture on embeddings of 20,000, 50,000 and 100,000 sites.

Run: python benchmarks/effect_mixture.py [--sites 20000 50000 100000] [--columns 16]

One unit at each site, two types, minibatches of 1,000 sites, no refits. Each size has a process of
its own: what a process once held stays in its peak. "Study" is the memory held before the fit, by
the libraries (a small study is fitted first, so that all are loaded) and the study; "above" is the
peak of the fit less that.
"""

import argparse
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd

import terracausal as tc


def draw_study(n_sites: int, n_columns: int, rng: np.random.Generator) -> tc.Study:
    """Return one unit at each site, whose type follows the first column of its embedding."""
    columns = rng.normal(size=(n_sites, n_columns))
    kind = rng.random(n_sites) < 1 / (1 + np.exp(-2 * columns[:, 0]))
    treated = rng.integers(0, 2, n_sites)
    outcome = 2 * kind * treated + columns[:, 1] + rng.normal(size=n_sites)
    table = pd.DataFrame({"y": outcome, "w": treated, "site": np.arange(n_sites)})
    study = tc.Study(table, outcome="y", treatment="w", site="site", propensity=0.5)
    return study.join(pd.DataFrame(columns).add_prefix("embedding_"), role="modifier")


def resident_mb() -> float:
    """Return the memory that the process holds now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def fit(study: tc.Study) -> tc.EffectMixture:
    """Return a mixture of two types, as a large study is fitted."""
    mixture = tc.EffectMixture(n_dimensions=8, batch_size=1_000, n_bootstrap=0, random_state=0)
    return mixture.fit(study)


def measure(n_sites: int, n_columns: int) -> None:
    """Fit one study and print its line."""
    fit(draw_study(200, n_columns, np.random.default_rng(0)))
    study = draw_study(n_sites, n_columns, np.random.default_rng(0))
    held, started, cpu = resident_mb(), time.perf_counter(), time.process_time()
    mixture = fit(study)
    seconds, used = time.perf_counter() - started, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    told = ", ".join(f"{value:.3f}" for value in mixture.component_effects_.value)
    shape = mixture.diagnostics_["pareto_shape"]
    print(
        f"{n_sites:>7,} sites {seconds:6.1f} s  {used:6.1f} s of CPU  study {held:5.0f} MB  "
        f"above {peak - held:5.0f} MB  effects {told}  k-hat {shape:.2f}  "
        f"{len(mixture.elbo_):,} steps",
        flush=True,
    )


def main() -> None:
    """Measure one size here, or several, each in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sites", type=int, nargs="+", default=[20_000, 50_000, 100_000])
    parser.add_argument("--columns", type=int, default=16)
    given = parser.parse_args()
    if len(given.sites) == 1:
        return measure(given.sites[0], given.columns)
    for n_sites in given.sites:
        command = [sys.executable, __file__, "--sites", str(n_sites), "--columns"]
        subprocess.run([*command, str(given.columns)], check=True)
    return None


if __name__ == "__main__":
    main()
