"""Print AUTOC of every learner: what it is in truth, what it seems, and how often it is claimed."""

import argparse
import sys
from pathlib import Path

import pandas as pd
from scipy.stats import norm

sys.path.insert(0, str(Path(__file__).parents[1]))

from harness import covered, judge, markdown

IMAGE = "image R-learner"


def describe_cell(results: pd.DataFrame) -> pd.DataFrame:
    """Return one row of text per learner of one cell."""
    # what intervals are made of: the standard error, widened for out-of-fold priorities
    widened = (results["ci_high"] - results["ci_low"]) / (2 * norm.ppf(0.975))
    results = results.assign(
        ratio=results["estimate"] / results["std_error"], widened=results["estimate"] / widened
    )
    wide = results.pivot_table(index="replication", columns="estimator", values="truth")
    null = (results["truth"] == 0).all()
    lines = []
    for name, rows in results.groupby("estimator", sort=False):
        line = {"cell": rows["setting"].iloc[0], "learner": name, "replications": str(len(rows))}
        if null:
            line |= {
                "RATE ratio within 2": judge(rows["ratio"].abs() <= 2, 0.95),
                "ratio to the widened error within 2": judge(rows["widened"].abs() <= 2, 0.95),
                "mean ratio (SD)": f"{rows['ratio'].mean():.2f} ({rows['ratio'].std():.2f})",
            }
        else:
            gap = wide[IMAGE] - wide[name]
            line |= {
                "true AUTOC": f"{rows['truth'].mean():.3f}",
                "AUTOC": f"{rows['estimate'].mean():.3f}",
                "RATE ratio above 2": share(rows),
                "interval holds the true one": judge(covered(rows), 0.95),
                f"{IMAGE} is better by (MC error)": f"{gap.mean():.3f} ({gap.sem():.3f})",
                "in": f"{int((gap > 0).sum())} of {len(gap)}",
                "seconds": f"{rows['seconds'].mean():.0f}",
            }
            if name == IMAGE:
                line |= {f"{IMAGE} is better by (MC error)": "", "in": ""}
        lines.append(line)
    return pd.DataFrame(lines)


def share(rows: pd.DataFrame) -> str:
    return f"{(rows['ratio'] > 2).mean():.2f}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results")
    for file in sorted(parser.parse_args().results.glob("*.csv")):
        print(markdown(describe_cell(pd.read_csv(file))), end="\n\n")
