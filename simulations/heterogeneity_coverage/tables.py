"""Print bias, spread and coverage of every interval, against the derived interval of 95 %."""

import sys
from pathlib import Path

import pandas as pd

sys.path.insert(0, str(Path(__file__).parents[1]))

from harness import covered, judge, read_results, spread, tabulate


def describe(estimator: str, rows: pd.DataFrame) -> dict[str, str]:
    return spread(rows) | {"coverage of 95 % intervals": judge(covered(rows), 0.95)}


if __name__ == "__main__":
    print(tabulate(read_results(Path(__file__).parent), describe))
