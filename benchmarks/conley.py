"""Seconds and peak memory of a Conley standard error with 20,000 units and a 20 km cutoff.

Run: python benchmarks/conley.py [--units 20000] [--cutoff-km 20]

Three layouts: units spread over 400 x 400 km, units at 1,000 villages there, and units crowded into
60 x 60 km, where almost a third of all pairs lie within the cutoff.
"""

import argparse
import resource
import time

import numpy as np
import pandas as pd

import terracausal as tc


def coordinates(layout: str, n_units: int, rng: np.random.Generator) -> pd.DataFrame:
    """Return lon and lat of the units, around 2 degrees north and 32 degrees east."""
    side_deg = 0.54 if layout == "crowded" else 3.6
    n_places = 1000 if layout == "villages" else n_units
    places = rng.uniform(0, side_deg, (n_places, 2)) + np.array([32, 2])
    at = rng.integers(n_places, size=n_units) if layout == "villages" else np.arange(n_units)
    return pd.DataFrame(places[at], columns=["lon", "lat"])


def main() -> None:
    """Measure and print one line per layout."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--units", type=int, default=20_000)
    parser.add_argument("--cutoff-km", type=float, default=20.0)
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    for layout in ("spread", "villages", "crowded"):
        table = coordinates(layout, arguments.units, rng)
        table["score"] = rng.normal(size=arguments.units)
        estimate = tc.average_effect(tc.Scores.from_dataframe(table))
        started = time.perf_counter()
        spatial = estimate.with_std_error("conley", cutoff_m=1000 * arguments.cutoff_km)
        error = float(spatial.std_error[0])
        seconds = time.perf_counter() - started
        peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"{layout:<9} std. error {error:.5f}  {seconds:6.2f} s  peak {peak_mb:6.0f} MB")


if __name__ == "__main__":
    main()
