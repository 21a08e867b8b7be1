"""Print bias and coverage of component effects, and how often the score test rejects."""

import sys
from pathlib import Path

import pandas as pd

sys.path.insert(0, str(Path(__file__).parents[1]))

from harness import covered, judge, read_results, spread, tabulate


def describe(estimator: str, rows: pd.DataFrame) -> dict[str, str]:
    if estimator == "score test":
        below = [
            f"p < {level} in {(rows['estimate'] < level).mean():.3f}" for level in (0.05, 0.01)
        ]
        rejected = ", ".join(below)
        return dict.fromkeys(spread(rows), "") | {
            "replications": str(len(rows)),
            "coverage of 95 % intervals, or rejections": rejected,
        }
    cells = spread(rows)
    return cells | {"coverage of 95 % intervals, or rejections": judge(covered(rows), 0.95)}


if __name__ == "__main__":
    print(tabulate(read_results(Path(__file__).parent), describe))
