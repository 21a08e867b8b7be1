"""Print RMSE and coverage of our forest and of grf on the same data, and what was promised."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).parents[1]))

from harness import markdown, read_results

FOLDER = Path(__file__).parent
RMSE_WITHIN, COVERAGE_WITHIN = 0.10, 0.03


def paired(ours: pd.DataFrame, theirs: pd.DataFrame) -> pd.DataFrame:
    """Return one row per replication, setting and term that both have: columns ours and grf."""
    by = ["setting", "replication", "term"]
    both = [
        table.set_index(by)["estimate"].rename(name)
        for table, name in ((ours, "ours"), (theirs, "grf"))
    ]
    return pd.concat(both, axis=1, join="inner").reset_index()


def describe(rows: pd.DataFrame) -> dict[str, str]:
    by_term = {term: part for term, part in rows.groupby("term")}
    rmse, cover, error = (by_term[term] for term in ("RMSE", "coverage", "mean SE"))
    ratio = rmse["ours"].mean() / rmse["grf"].mean()
    lower = cover["grf"].mean() - cover["ours"].mean()
    kept = ratio <= 1 + RMSE_WITHIN and lower <= COVERAGE_WITHIN
    cells = {"setting": rows["setting"].iloc[0], "replications": str(len(rmse))}
    for name, part in (("RMSE", rmse), ("coverage of 90 %", cover), ("mean SE", error)):
        cells |= {f"{name}, ours": f"{part['ours'].mean():.3f}"}
        cells |= {f"{name}, grf": f"{part['grf'].mean():.3f}"}
    return cells | {
        "RMSE over grf's (MC error)": f"{ratio:.3f} ({spread(rmse['ours'] / rmse['grf'])})",
        "coverage less grf's (MC error)": f"{-lower:.3f} ({spread(cover['ours'] - cover['grf'])})",
        "promise": "kept" if kept else "broken",
    }


def spread(values: "pd.Series[float]") -> str:
    return f"{values.std(ddof=1) / np.sqrt(len(values)):.3f}" if len(values) > 1 else "one only"


if __name__ == "__main__":
    ours = read_results(FOLDER)
    rows = paired(ours, pd.read_csv(FOLDER / "grf.csv"))
    order = [name for name in ours["setting"].unique() if name in set(rows["setting"])]
    lines = [describe(rows[rows["setting"] == name]) for name in order]
    print(markdown(pd.DataFrame(lines)))
