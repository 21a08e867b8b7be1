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
    # what the reported interval is built on: wider than the standard error for learned priorities
    half = (rows["ci_high"] - rows["ci_low"]) / 2
    reported = rows["estimate"] / half * stats.norm.isf(0.025)
    given = float((ratio.abs() > stats.norm.isf(0.025)).mean())
    return spread(rows) | {
        "mean ratio (MC error)": f"{ratio.mean():.3f} ({ratio.std() / np.sqrt(len(rows)):.3f})",
        "two-sided, priority taken as given": f"{given:.3f}",
        "two-sided, as reported": judge(~covered(rows), 0.05),
        "one-sided (positive), as reported": judge(reported > stats.norm.isf(0.05), 0.05),
    }


if __name__ == "__main__":
    print(tabulate(read_results(Path(__file__).parent), describe))
