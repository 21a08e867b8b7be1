"""The committed comparison of choices for the Uganda trial says what its page says."""

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

pytestmark = pytest.mark.statistical

FOLDER = Path(__file__).parents[2] / "simulations" / "uganda_choices"


def committed(name):
    return pd.read_csv(FOLDER / f"{name}.csv", keep_default_na=False, na_values=[""])


def test_the_table_follows_from_the_results():
    done = subprocess.run(
        [sys.executable, str(FOLDER / "tables.py")], capture_output=True, text=True, check=True
    )
    assert done.stdout == (FOLDER / "table.md").read_text()
    assert done.stdout.strip() in (FOLDER / "README.md").read_text()
    assert (FOLDER / "specification_curve.png").stat().st_size < 200_000


def test_cells_and_ranking_agree():
    cells, ranking = committed("results"), committed("ranking")
    by = ["data", "encoder", "components", "scale", "learner", "metric"]
    assert cells["error"].isna().all()
    # five digits are written
    mean = cells.groupby(by)["ratio"].mean()
    told = ranking.set_index(by)["ratio"]
    assert (mean - told.loc[mean.index]).abs().max() < 1e-3
    widened = cells["estimate"] / (2**0.5 * cells["std_error"])
    assert (widened - cells["ratio"]).abs().max() < 1e-3


def test_what_the_page_claims():
    ranking, regression = committed("ranking"), committed("regression").set_index("term")
    assert ranking["could_be_best"].all()
    assert ranking["ratio"].between(0, 3.5).all()
    about_choices = regression.drop(["intercept", "metric: QINI"])
    assert (about_choices["ci_low"] < 0).all()
    assert (about_choices["ci_high"] > 0).all()
    # seeds alone would have called two of them
    seeds_only = (about_choices["estimate"] / about_choices["std_error_seeds"]).abs()
    assert seeds_only[["encoder: CLIP-RSICD", "components: 50 PCs"]].min() > 3
