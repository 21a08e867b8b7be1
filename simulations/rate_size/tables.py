"""Print how often the RATE test rejects a true null, against the derived interval of 5 %."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

sys.path.insert(0, str(Path(__file__).parents[1]))

from harness import covered, judge, read_results, spread, tabulate


def describe(estimator: str, rows: pd.DataFrame) -> dict[str, str]:
    ratio = rows["estimate"] / rows["std_error"]
    return spread(rows) | {
        "mean ratio (MC error)": f"{ratio.mean():.3f} ({ratio.std() / np.sqrt(len(rows)):.3f})",
        "two-sided rejection": judge(~covered(rows), 0.05),
        "one-sided (positive)": judge(ratio > stats.norm.isf(0.05), 0.05),
    }


if __name__ == "__main__":
    print(tabulate(read_results(Path(__file__).parent), describe))
