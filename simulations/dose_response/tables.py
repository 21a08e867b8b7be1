"""Print coverage against the derived interval around 95 %."""

import sys
from pathlib import Path

import pandas as pd

sys.path.insert(0, str(Path(__file__).parents[1]))

from harness import covered, judge, read_results, spread, tabulate


def describe(estimator: str, rows: pd.DataFrame) -> dict[str, str]:
    told = spread(rows)
    if (rows["term"] == "whole curve").all():
        # there is no bias of a band, only the curve within it or not
        told |= dict.fromkeys(("mean bias (MC error)", "SD", "mean SE"), "")
    return told | {"coverage": judge(covered(rows), 0.95)}


if __name__ == "__main__":
    print(tabulate(read_results(Path(__file__).parent), describe))
