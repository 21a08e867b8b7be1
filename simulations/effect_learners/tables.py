"""Print the errors of effect learners, and what their intervals cover."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).parents[1]))

from harness import covered, judge, markdown, read_results

CONFORMAL_LEVEL = 0.8


def describe(errors: "pd.Series[float]") -> str:
    """Return a mean with its Monte Carlo error."""
    return f"{errors.mean():.3f} ({errors.std() / np.sqrt(len(errors)):.3f})"


def error_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Mean RMSE with its Monte Carlo error, a line per learner and a column per world."""
    spread = rows.groupby("setting", sort=False)["truth"].mean()
    table = rows.pivot_table("estimate", "estimator", "setting", describe)[list(spread.index)]
    table = table.loc[rows["estimator"].drop_duplicates()]
    seconds = rows.groupby("estimator")["seconds"].median()
    table["median seconds"] = seconds.loc[table.index].map("{:.2f}".format)
    table.loc["SD of the effect"] = [*(f"{s:.3f}" for s in spread), ""]
    return table.rename_axis("learner").reset_index().astype(str)


def interval_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Coverage of each kind of interval, against the derived interval of what it claims."""
    lines = []
    for (setting, estimator, term), own in rows.groupby(
        ["setting", "estimator", "term"], sort=False
    ):
        conformal = estimator.startswith("conformal")
        share = float(covered(own).mean())
        told = (
            f"{share:.3f} (at least {CONFORMAL_LEVEL})" if conformal else judge(covered(own), 0.95)
        )
        width = (own["ci_high"] - own["ci_low"]).mean()
        lines.append([setting, estimator, term, str(len(own)), told, f"{width:.2f}"])
    names = ["setting", "learner", "what", "replications", "coverage", "mean width"]
    return pd.DataFrame(lines, columns=names)


if __name__ == "__main__":
    results = read_results(Path(__file__).parent)
    of_errors = results["term"] == "rmse"
    print(markdown(error_table(results[of_errors])))
    print()
    print(markdown(interval_table(results[~of_errors])))
