"""Draw the power curves of results.csv to power.png."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from harness import read_results
from matplotlib.figure import Figure
from tables import rejections

SHOWN = {
    "AUTOC, learned": ("#0b5a7a", "-"),
    "calibration, learned": ("#d9730d", "-"),
    "top less bottom group, learned": ("#6b7a82", "-"),
    "permuted images": ("#2f8f5b", "-"),
    "splits in half": ("#8a3b06", "-"),
    "AUTOC, given": ("#0b5a7a", ":"),
}

if __name__ == "__main__":
    folder = Path(__file__).parent
    rates = rejections(read_results(folder))
    axes = Figure(figsize=(6, 3.8), layout="constrained").add_subplot()
    for name, (color, line) in SHOWN.items():
        axes.plot(rates.columns, rates.loc[name], color=color, linestyle=line, label=name)
    axes.axhline(0.05, color="#c9c9c9", linewidth=1)
    axes.set_xlabel("SD of the effect over sites (units of the noise)")
    axes.set_ylabel("Share rejected at 5 %")
    axes.set_ylim(0, 1)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize="small")
    axes.figure.savefig(folder / "power.png", dpi=80)
