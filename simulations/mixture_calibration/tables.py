"""Print rank histograms and whether they lie inside their bands."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

sys.path.insert(0, str(Path(__file__).parents[1]))

from harness import FALSE_ALARM, markdown, read_results

N_BINS = 10


def describe(guide: str, term: str, rows: pd.DataFrame) -> dict[str, str]:
    """Return the counts of ranks in ten bins, and the band of a bin and of their chi-square."""
    n_ranks = int(rows["truth"].iloc[0]) + 1
    counts = np.bincount(
        (rows["estimate"].to_numpy() * N_BINS // n_ranks).astype(int), minlength=N_BINS
    )
    # all bins of all terms of a guide
    rate = FALSE_ALARM / N_BINS
    low, high = stats.binom(len(rows), 1 / N_BINS).ppf([rate / 2, 1 - rate / 2])
    outside = int(((counts < low) | (counts > high)).sum())
    p_value = stats.chisquare(counts).pvalue
    return {
        "posterior": guide,
        "term": term,
        "replications": str(len(rows)),
        "ranks, by tenths": " ".join(map(str, counts)),
        "band of a bin": f"{low:.0f} to {high:.0f}",
        "bins outside": str(outside),
        "p (chi-square)": f"{p_value:.2g}",
        "mean rank": f"{rows['estimate'].mean() / (n_ranks - 1):.3f}",
    }


if __name__ == "__main__":
    results = read_results(Path(__file__).parent)
    by = results.groupby(["estimator", "term"], sort=False)
    print(markdown(pd.DataFrame([describe(*map(str, name), rows) for name, rows in by])))
