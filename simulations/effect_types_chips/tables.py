"""Print bias and coverage of component effects, and how well sites are sorted."""

import argparse
import sys
from pathlib import Path

import pandas as pd
from scipy import stats

sys.path.insert(0, str(Path(__file__).parents[1]))

from harness import judge, spread, tabulate


def describe(estimator: str, rows: pd.DataFrame) -> dict[str, str]:
    cells = spread(rows)
    if rows["std_error"].eq(0).all():
        return cells | {"coverage of 90 % intervals": ""}
    # the archived interval is that of 95 %, with its own degrees of freedom (many)
    half = (rows["ci_high"] - rows["ci_low"]) / 2 * stats.norm.isf(0.05) / stats.norm.isf(0.025)
    hits = (rows["estimate"] - rows["truth"]).abs() <= half
    return cells | {"coverage of 90 % intervals": judge(hits, 0.90)}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results")
    files = sorted(parser.parse_args().results.glob("*.csv"))
    print(tabulate(pd.concat([pd.read_csv(file) for file in files]), describe))
