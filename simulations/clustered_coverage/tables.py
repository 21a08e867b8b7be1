"""Print coverage against the derived interval: 95 % where clustered, 55 % where not."""

import sys
from pathlib import Path

import pandas as pd

sys.path.insert(0, str(Path(__file__).parents[1]))

from harness import covered, judge, read_results, spread, tabulate

CLAIMED = {"cluster": 0.95, "hc": 0.55}


def describe(estimator: str, rows: pd.DataFrame) -> dict[str, str]:
    claimed = CLAIMED[estimator.split()[-1]]
    return spread(rows) | {
        "claimed coverage": f"{claimed:.2f}",
        "coverage": judge(covered(rows), claimed),
    }


if __name__ == "__main__":
    print(tabulate(read_results(Path(__file__).parent), describe))
