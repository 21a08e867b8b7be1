"""Print RATE ratios by choice and what each choice adds to them, from the committed results."""

import argparse
import sys
from pathlib import Path

import pandas as pd

sys.path.insert(0, str(Path(__file__).parents[1]))

from harness import markdown

HERE = Path(__file__).parent
CHOICES = ["learner", "data", "encoder", "components"]


def ratios(ranking: pd.DataFrame) -> pd.DataFrame:
    """Return one line per combination, with the mean ratio and both errors for each metric."""
    lines = []
    for names, rows in ranking.groupby(CHOICES, sort=False):
        line = dict(zip(CHOICES, names, strict=True))
        for row in rows.sort_values("metric").itertuples():
            line[f"{row.metric} (mean)"] = f"{row.estimate:.3f}"
            line[f"{row.metric} ratio"] = f"{row.ratio:.2f}"
            line[f"{row.metric}: error of seeds, of sampling"] = (
                f"{row.std_error_seeds:.2f}, {row.std_error_sampling:.2f}"
            )
            line[f"{row.metric} 95 % interval"] = f"{row.ci_low:.2f} to {row.ci_high:.2f}"
        line["seeds"] = str(int(rows["n_seeds"].min()))
        lines.append(line)
    return pd.DataFrame(lines)


def verdicts(ranking: pd.DataFrame, joint: float) -> str:
    """Return how many combinations could be the best of each metric, and the joint test."""
    told = [
        f"{metric}: {int(rows['could_be_best'].sum())} of {len(rows)} could be the best"
        for metric, rows in ranking.groupby("metric")
    ]
    return f"{'; '.join(told)}. Joint p-value for having looked at all: {joint:.3f}."


def coefficients(regression: pd.DataFrame) -> pd.DataFrame:
    """Return one line per term of the regression."""
    return pd.DataFrame(
        {
            "added to the RATE ratio": regression["term"],
            "estimate": regression["estimate"].map("{:.2f}".format),
            "clustered by seed": regression["std_error_seeds"].map("{:.2f}".format),
            "sampling": regression["std_error_sampling"].map("{:.2f}".format),
            "95 % interval": [
                f"{row.ci_low:.2f} to {row.ci_high:.2f}" for row in regression.itertuples()
            ],
        }
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=HERE)
    folder = parser.parse_args().results
    ranking = pd.read_csv(folder / "ranking.csv", keep_default_na=False, na_values=[""])
    joint = float(pd.read_csv(folder / "joint.csv")["joint_p_value"].iloc[0])
    order = pd.read_csv(folder / "results.csv", keep_default_na=False, na_values=[""])
    declared = order[CHOICES].drop_duplicates().reset_index(drop=True)
    ranking = declared.merge(ranking, on=CHOICES)
    print(markdown(ratios(ranking)))
    print(f"\n{verdicts(ranking, joint)}\n")
    print(markdown(coefficients(pd.read_csv(folder / "regression.csv"))))
