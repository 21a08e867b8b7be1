"""Print how often each number of types is chosen, and how often the test rejects at 5 %."""

import sys
from pathlib import Path

import pandas as pd

sys.path.insert(0, str(Path(__file__).parents[1]))

from harness import markdown, read_results


def describe(setting: str, rows: pd.DataFrame) -> dict[str, str]:
    chosen = rows.loc[rows["estimator"] == "chosen"]
    test, images = (
        rows.loc[rows["estimator"] == name, "estimate"] < 0.05 for name in ("test", "images")
    )
    found = {"setting": setting, "replications": str(len(chosen))}
    for k in (1, 2, 3):
        found[f"K = {k}"] = f"{(chosen['estimate'] == k).mean():.3f}"
    found["right"] = f"{(chosen['estimate'] == chosen['truth']).mean():.3f}"
    found["types: p < 0.05"] = f"{test.mean():.3f}"
    found["images: p < 0.05"] = f"{images.mean():.3f}"
    found["mean seconds"] = f"{chosen['seconds'].mean():.1f}"
    return found


if __name__ == "__main__":
    results = read_results(Path(__file__).parent)
    by = results.groupby("setting", sort=False)
    print(markdown(pd.DataFrame([describe(str(name), rows) for name, rows in by])))
