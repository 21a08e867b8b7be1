"""Print the explained variance of one and of two scales, and what the second scale adds."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

sys.path.insert(0, str(Path(__file__).parents[1]))

from harness import markdown, read_results

LEVEL = 0.99
SCALES = ["16 px", "64 px"]
TOGETHER = ["both scales", "both, width of one"]


def gain(together: pd.Series, best: pd.Series) -> str:
    """Return the mean paired difference, its interval at `LEVEL`, and what that says."""
    difference = together - best
    error = difference.std() / np.sqrt(len(difference))
    half = error * stats.t.isf((1 - LEVEL) / 2, len(difference) - 1)
    mean = difference.mean()
    verdict = "gains" if mean > half else "loses" if mean < -half else "even"
    return f"{mean:+.3f} ± {half:.3f} ({verdict})"


def lines(results: pd.DataFrame) -> pd.DataFrame:
    """Return one line per setting."""
    table = []
    for setting, rows in results.groupby("setting", sort=False):
        wide = rows.pivot_table(index="replication", columns="estimator", values="estimate")
        best = wide[SCALES].mean().idxmax()
        means = {name: f"{wide[name].mean():.3f}" for name in TOGETHER + SCALES}
        gains = {f"gain of {name}": gain(wide[name], wide[best]) for name in TOGETHER}
        table.append({"changes": str(setting), "replications": str(len(wide))} | means | gains)
    return pd.DataFrame(table)


if __name__ == "__main__":
    found = read_results(Path(__file__).parent)
    print(markdown(lines(found)))
