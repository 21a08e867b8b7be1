"""Print how often each test rejects at 5 %, by strength of heterogeneity (replications)."""

import sys
from pathlib import Path

import pandas as pd

sys.path.insert(0, str(Path(__file__).parents[1]))

from harness import judge, markdown, read_results


def rejections(results: pd.DataFrame) -> pd.DataFrame:
    """Return the share of p-values of at most 5 %: one row per test, one column per strength."""
    # an exact test has p = 0.05 among its values
    found = results.assign(rejected=results["estimate"] <= 0.05 + 1e-9)
    rates = found.pivot_table(index="estimator", columns="truth", values="rejected", sort=False)
    return rates[sorted(rates.columns)]


def table(results: pd.DataFrame) -> str:
    rates = rejections(results)
    text = rates.map("{:.3f}".format)
    null = results[results["truth"] == 0]
    for name, rows in null.groupby("estimator", sort=False):
        text.loc[name, 0.0] = judge(rows["estimate"] <= 0.05 + 1e-9, 0.05)
    counts = results.groupby("truth")["replication"].nunique()
    text.columns = [f"SD of the effect {slope:g} ({counts[slope]})" for slope in text.columns]
    return markdown(text.reset_index(names="test"))


if __name__ == "__main__":
    print(table(read_results(Path(__file__).parent)))
