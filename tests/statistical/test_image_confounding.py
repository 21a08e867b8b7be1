"""The archive of simulations/image_confounding says what is claimed, and its cells still run."""

import runpy
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

pytestmark = pytest.mark.statistical

FOLDER = Path(__file__).parents[2] / "simulations" / "image_confounding"
RUN = runpy.run_path(str(FOLDER / "run.py"))
FEWEST = 50
HARNESS = runpy.run_path(str(FOLDER.parent / "harness.py"))


def call(script, *arguments):
    done = subprocess.run(
        [sys.executable, str(FOLDER / script), *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def small(name, **changes):
    """Return a cell with few small scenes."""
    return replace(RUN["CELLS"][name], n_sites=120, size_px=16, **changes)


def test_a_cell_runs_twice_resumes_and_is_tabulated(tmp_path):
    out = tmp_path / "smoke.csv"
    arguments = ("run.py", "smoke", "--replications", 2, "--out", out)
    assert "2 were added" in call(*arguments)
    written = out.read_text()
    assert "2 replications were there, 0 were added" in call(*arguments)
    assert out.read_text() == written
    table = call("tables.py", "--results", tmp_path)
    assert "| smoke | band means: aipw | ate | 2 |" in table


def test_an_unknown_cell_is_named():
    run = [sys.executable, str(FOLDER / "run.py"), "moon"]
    done = subprocess.run(run, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "must be a cell, one of: smoke, tutorial" in done.stderr


@pytest.mark.parametrize("name", ["kernel_landscape_500_width8_degraded2", "tutorial_spatial"])
def test_the_other_cells_yield_finite_rows(name, monkeypatch):
    draw = RUN["draw"]
    raster = np.random.default_rng(0).random((80, 80), dtype=np.float32)
    if name.startswith("kernel"):
        monkeypatch.setitem(draw.__globals__, "imagery_of", lambda _: raster)
    cell = small(
        name, encoders=("band statistics",) if name.startswith("kernel") else ("band means",)
    )
    rows = pd.DataFrame(draw(cell, np.random.default_rng(0)))
    numbers = rows[["truth", "estimate", "std_error", "ci_low", "ci_high"]].astype(float)
    assert np.isfinite(numbers).all(axis=None)
    assert rows["estimator"].str.contains("conley").any() == (name == "tutorial_spatial")


def committed(cell, estimator, term="ate"):
    results = pd.read_csv(FOLDER / "results" / f"{cell}.csv")
    rows = results[(results["estimator"] == estimator) & (results["term"] == term)]
    assert len(rows) >= FEWEST
    return rows


@pytest.mark.parametrize(
    ("estimator", "term", "claimed"),
    [("difference in means", "difference", 1.97), ("tabular: hajek", "ate", 0.87)],
)
def test_the_tutorial_s_biases_are_reproduced(estimator, term, claimed):
    rows = committed("tutorial", estimator, term)
    error = rows["estimate"] - rows["truth"]
    # three Monte Carlo errors, and the rounding of the claimed number
    assert abs(error.mean() - claimed) < 3 * error.std() / np.sqrt(len(rows)) + 0.005


@pytest.mark.parametrize(
    ("cell", "estimator"),
    [
        ("tutorial", "true nuisances: aipw"),
        ("tutorial", "band means: aipw"),
        ("tutorial_bounded", "random convolutions, 10 components: aipw"),
    ],
)
def test_adjusting_for_the_image_removes_the_bias(cell, estimator):
    rows = committed(cell, estimator)
    error = rows["estimate"] - rows["truth"]
    assert abs(error.mean()) <= 0.05
    assert error.std() <= 0.14
    low, high = HARNESS["derived_interval"](len(rows), 0.95)
    assert low <= HARNESS["covered"](rows).mean() <= high
