"""Draw the bias that adjustment leaves, against the true width and against the resolution."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

HERE = Path(__file__).parent
NAMES = {
    "difference in means": ("naive", "#6b7a82", "s"),
    "band statistics: aipw": ("band statistics", "#d9730d", "^"),
    "random convolutions 8 px, max: aipw": ("random convolutions (frozen)", "#b58900", "v"),
    "CNN: aipw": ("convolution + maximum, trained", "#0b5a7a", "o"),
}
WIDTHS = {2: "width2", 4: "width4", 8: "width8", 16: "width16", 32: "width32"}
RESOLUTIONS = {k: "width8" if k == 1 else f"width8_degraded{k}" for k in (1, 2, 4, 8)}


def biases(world: str, cells: dict[int, str]) -> pd.DataFrame:
    """Return mean bias and its Monte Carlo error by estimator and setting."""
    rows = []
    for value, cell in cells.items():
        for kind in ("kernel", "cnn"):
            file = HERE / "results" / f"{kind}_{world}_{cell}.csv"
            if not file.exists():
                continue
            found = pd.read_csv(file)
            found = found[found["term"].isin(["ate", "difference"])]
            for name, group in found.groupby("estimator"):
                error = group["estimate"] - group["truth"]
                spread = error.std() / np.sqrt(len(error))
                rows.append((name, value, kind, error.mean(), spread))
    table = pd.DataFrame(rows, columns=["estimator", "value", "kind", "bias", "error"])
    return table.drop_duplicates(["estimator", "value"])


def draw(ax: Any, table: pd.DataFrame, xlabel: str) -> None:
    for name, (label, color, marker) in NAMES.items():
        own = table[table["estimator"] == name].sort_values("value")
        if not own.empty:
            line = {"color": color, "marker": marker, "label": label, "capsize": 2}
            ax.errorbar(own["value"], own["bias"], 2 * own["error"], **line)
    ax.set_xscale("log", base=2)
    ticks = sorted(table["value"].unique())
    ax.set_xticks(ticks, [str(tick) for tick in ticks])
    ax.axhline(0, color="#22313a", linewidth=0.8)
    ax.set_xlabel(xlabel)


if __name__ == "__main__":
    figure = Figure(figsize=(8, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    draw(left, biases("gewata_500", WIDTHS), "True width of the pattern (px); 8 px are estimated")
    draw(right, biases("gewata_500", RESOLUTIONS), "Pixels averaged along each side")
    left.set_ylabel("Bias (true effect 1)")
    names = left.get_legend_handles_labels()
    figure.legend(*names, loc="outside upper center", ncols=4, frameon=False, fontsize="small")
    figure.savefig(HERE / "bias.png", dpi=120)
