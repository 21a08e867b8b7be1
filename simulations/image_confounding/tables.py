"""Print bias, share of the naive bias that was removed, SD and coverage of every cell."""

import argparse
import sys
from pathlib import Path

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).parents[1]))

from harness import covered, judge, spread, tabulate

NAIVE = "difference in means"


def describe_cell(results: pd.DataFrame) -> str:
    """Return the table of one cell; the share removed is that of its own naive bias."""
    if (results["term"] == "width_px").all():
        return tabulate(results, describe_choice)
    naive = bias(results[results["estimator"] == NAIVE])

    def describe(estimator: str, rows: pd.DataFrame) -> dict[str, str]:
        removed = "" if estimator == NAIVE else f"{1 - bias(rows) / naive:.0%}"
        return spread(rows) | {
            "naive bias removed": removed,
            "coverage, 0.95 expected": judge(covered(rows), 0.95),
        }

    return tabulate(results, describe)


def describe_choice(_: str, rows: pd.DataFrame) -> dict[str, str]:
    """Return how often the true width was chosen, of how many replications."""
    right = rows["estimate"] == rows["truth"]
    return {"replications": str(len(rows)), "true width chosen": f"{right.mean():.0%}"}


def bias(rows: pd.DataFrame) -> float:
    return float(np.mean(rows["estimate"] - rows["truth"]))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results")
    for file in sorted(parser.parse_args().results.glob("*.csv")):
        print(describe_cell(pd.read_csv(file).assign(setting=file.stem)), end="\n\n")
