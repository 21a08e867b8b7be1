"""Print how far out-of-bag effects are from a fair ranking where effects do not vary."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

sys.path.insert(0, str(Path(__file__).parents[1]))

from harness import judge, read_results, tabulate


def describe(estimator: str, rows: pd.DataFrame) -> dict[str, str]:
    half = (rows["ci_high"] - rows["ci_low"]) / 2
    reported = rows["estimate"] / half * stats.norm.isf(0.025)
    error = reported.std() / np.sqrt(len(rows))
    return {
        "replications": str(len(rows)),
        "mean z (MC error)": f"{reported.mean():.3f} ({error:.3f})",
        "below, 5 %": judge(reported < -stats.norm.isf(0.05), 0.05),
        "above, 5 %": judge(reported > stats.norm.isf(0.05), 0.05),
    }


if __name__ == "__main__":
    print(tabulate(read_results(Path(__file__).parent), describe))
