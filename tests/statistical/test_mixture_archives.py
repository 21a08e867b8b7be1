"""What the archives of mixtures say is what their tables and READMEs say."""

import runpy
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

pytestmark = pytest.mark.statistical

FOLDER = Path(__file__).parents[2] / "simulations"
HARNESS = runpy.run_path(str(FOLDER / "harness.py"))
CLAIMS = [
    "effect_types",
    "effect_types_chips",
    "type_baselines",
    "component_choice",
    "mixture_calibration",
]


def table_of(claim, *arguments):
    command = [sys.executable, str(FOLDER / claim / "tables.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.parametrize("claim", CLAIMS)
def test_tables_are_those_of_the_archive(claim):
    found = table_of(claim)
    assert found == (FOLDER / claim / "table.md").read_text().strip()
    assert found in (FOLDER / claim / "README.md").read_text()


def test_the_table_of_searched_posteriors_is_that_of_the_archive():
    claim = FOLDER / "mixture_calibration"
    found = table_of("mixture_calibration", "--results", str(claim / "results_searches.csv"))
    assert found in (claim / "README.md").read_text()


def test_baselines_by_type_cover_where_one_baseline_does_not():
    results = pd.read_csv(FOLDER / "type_baselines" / "results.csv")
    for (setting, estimator), rows in results.groupby(["setting", "estimator"]):
        for _, each in rows.groupby("term"):
            if estimator == "score test":
                continue
            hits = HARNESS["covered"](each)
            low, _ = HARNESS["derived_interval"](len(hits), 0.95)
            wrong = estimator == "shared" and "jump +0," not in f"{setting},"
            assert (hits.mean() < low) == wrong, (setting, estimator)
