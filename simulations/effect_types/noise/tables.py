"""Print the noise curve, and draw it: `tables.py --figure noise.png`."""

import argparse
import sys
from pathlib import Path

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).parents[2]))

from harness import markdown

FOLDER = Path(__file__).parent
MIXTURE, ORACLE = "mixture", "oracle"
MEASURES = {
    "AUC, new places": "AUC, new places",
    "ARI, new places": "adjusted Rand index, new places",
    "AUC, seen places": "AUC, seen places",
    "ARI, seen places": "adjusted Rand index, seen places",
    "component effects": "RMSE of component effects",
    "RMSE of effects by place": "RMSE of effects by place",
}
HIGHER_IS_BETTER = ("AUC", "ARI")
# of the oracle, the mixture and its four rivals
COLORS = ("#6b7a82", "#0b5a7a", "#d9730d", "#eea65a", "#7a9a3a", "#7b4a8f")


def measure(results: pd.DataFrame) -> pd.DataFrame:
    """Return one row per replication, setting and estimator, and one column per measure.

    Of component effects it is the root mean squared error over both in each replication.
    """
    rows = results.copy()
    error = rows["estimate"] - rows["truth"]
    own = rows["term"].str.startswith("component")
    rows["measure"] = rows["term"].where(~own, "component effects")
    rows["square"] = np.where(own, error**2, rows["estimate"])
    by = ["replication", "setting", "estimator"]
    table = rows.pivot_table(index=by, columns="measure", values="square", sort=False)
    table["component effects"] = np.sqrt(table["component effects"])
    return table[list(MEASURES)]


def compare(table: pd.DataFrame) -> str:
    """Return a Markdown table: means, and how much better the mixture is, with its MC error."""
    lines = []
    settings = table.index.get_level_values("setting").unique()
    order = table.index.get_level_values("estimator").unique()
    for setting in settings:
        own = table.xs(setting, level="setting")
        mixture = own.xs(MIXTURE, level="estimator")
        for name in order:
            other = own.xs(name, level="estimator")
            cells = {"setting": setting, "estimator": name}
            for key, words in MEASURES.items():
                if other[key].isna().all():
                    cells[words] = ""
                    continue
                cells[words] = f"{other[key].mean():.3f}"
                if name not in (MIXTURE, ORACLE):
                    sign = 1 if key.startswith(HIGHER_IS_BETTER) else -1
                    gain = sign * (mixture[key] - other[key])
                    error = gain.std() / np.sqrt(len(gain))
                    cells[words] += f" ({gain.mean():+.3f} ± {error:.3f})"
            lines.append(cells)
    return markdown(pd.DataFrame(lines))


def draw(table: pd.DataFrame, path: Path) -> None:
    """Draw each measure against the noise SD: a row of panels per design."""
    from matplotlib.figure import Figure

    means = table.groupby(["setting", "estimator"], sort=False).mean().reset_index()
    parts = means["setting"].str.extract(r"^(?P<design>.*), noise SD (?P<noise>.*)$")
    means["design"], means["noise"] = parts["design"], parts["noise"].astype(float)
    designs, names = means["design"].unique(), means["estimator"].unique()
    figure = Figure(figsize=(3.1 * len(MEASURES), 3.0 * len(designs)), layout="constrained")
    axes = figure.subplots(len(designs), len(MEASURES), squeeze=False, sharex=True)
    colors = dict(zip(names, COLORS, strict=True))
    for row, design in zip(axes, designs, strict=True):
        for ax, (key, words) in zip(row, MEASURES.items(), strict=True):
            for name in names:
                own = means[(means["design"] == design) & (means["estimator"] == name)]
                if own[key].isna().all():
                    continue
                style = {"linestyle": ":"} if name == ORACLE else {"marker": "o", "markersize": 4}
                width = 2.4 if name == MIXTURE else 1.4
                ax.plot(own["noise"], own[key], color=colors[name], lw=width, label=name, **style)
            ax.set_title(words, fontsize=9)
            ax.spines[["top", "right"]].set_visible(False)
        row[0].set_ylabel(f"{design} units")
    for ax in axes[-1]:
        ax.set_xlabel("residual SD (effects are 0 and 2)")
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(names), frameon=False)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Table and figure of the noise curve.")
    parser.add_argument("--results", type=Path, default=FOLDER / "results.csv")
    parser.add_argument("--figure", type=Path, help="where to draw the curve")
    given = parser.parse_args()
    found = measure(pd.read_csv(given.results))
    if given.figure is not None:
        draw(found, given.figure)
    print(compare(found))
