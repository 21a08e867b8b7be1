"""Table of what can be read off each embedding, from results.csv."""

import argparse
import sys
from pathlib import Path

import pandas as pd

sys.path.insert(0, str(Path(__file__).parents[1]))

from harness import markdown


def tabulate(results: pd.DataFrame) -> str:
    """Return a Markdown table with one line per encoder and one column per target.

    Parameters
    ----------
    results : DataFrame
        With the columns encoder, n_columns, target, r2, r2_low and r2_high.
    """
    order = list(dict.fromkeys(results["encoder"]))
    told = results.assign(
        cell=[
            f"{row.r2:.3f} ({row.r2_low:.3f} to {row.r2_high:.3f})" for row in results.itertuples()
        ]
    )
    targets = list(dict.fromkeys(told["target"]))
    wide = told.pivot_table(index="encoder", columns="target", values="cell", aggfunc="first")
    widths = told.groupby("encoder")["n_columns"].agg(lambda numbers: list(dict.fromkeys(numbers)))
    lines = pd.DataFrame({"encoder": order})
    lines["columns"] = [" / ".join(map(str, widths[name])) for name in order]
    for target in targets:
        lines[f"R², {target}"] = wide[target].reindex(order).fillna("").to_numpy()
    return markdown(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results.csv")
    print(tabulate(pd.read_csv(parser.parse_args().results)))
