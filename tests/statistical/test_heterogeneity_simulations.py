"""The archives on size, power and coverage of what is said about effect heterogeneity."""

import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

pytestmark = pytest.mark.statistical

FOLDER = Path(__file__).parents[2] / "simulations"
CLAIMS = ("rate_power", "heterogeneity_coverage")
HARNESS = runpy.run_path(str(FOLDER / "harness.py"))
# tests whose size is claimed to be nominal; the others are cautious by construction
NOMINAL = {
    "AUTOC, given",
    "QINI, given",
    "calibration, given",
    "top less bottom group, given",
    "permuted images",
    "permuted images, scores that saw them",
}


def call(claim, script, *arguments):
    done = subprocess.run(
        [sys.executable, str(FOLDER / claim / script), *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def archive(claim):
    return pd.read_csv(FOLDER / claim / "results.csv")


@pytest.mark.parametrize("claim", CLAIMS)
def test_a_replication_runs_and_the_archive_is_of_this_code(claim, tmp_path):
    out = tmp_path / "results.csv"
    assert "1 were added" in call(claim, "run.py", "--replications", 1, "--out", out)
    rows, kept = pd.read_csv(out), archive(claim)
    same = ["replication", "seed", "setting", "estimator", "term"]
    assert rows[same].equals(kept.loc[kept["replication"] == 0, same].reset_index(drop=True))
    shutil.copy(FOLDER / claim / "results.csv", out)
    n_replications = kept["replication"].nunique()
    told = call(claim, "run.py", "--replications", n_replications, "--out", out)
    assert told.startswith(f"{n_replications} replications were there, 0 were added")


@pytest.mark.parametrize("claim", CLAIMS)
def test_the_committed_table_follows_from_the_archive(claim):
    table = call(claim, "tables.py")
    assert table == (FOLDER / claim / "table.md").read_text()
    assert table.strip() in (FOLDER / claim / "README.md").read_text()


def test_sizes_are_nominal_or_cautious_and_power_rises():
    rows = archive("rate_power")
    rejected = (rows["estimate"] <= 0.05 + 1e-9).groupby([rows["estimator"], rows["truth"]]).mean()
    n_replications = rows["replication"].nunique()
    low, high = HARNESS["derived_interval"](n_replications, 0.05)
    for name in rows["estimator"].unique():
        size = rejected[name, 0.0]
        assert size <= high, name
        assert size >= low or name not in NOMINAL, name
        # a strong effect modifier is found several times as often as there are false alarms
        assert rejected[name, 0.9] > 4 * max(size, 0.05), name


def test_intervals_cover_or_are_cautious():
    rows = archive("heterogeneity_coverage")
    hits = (rows["ci_low"] <= rows["truth"]) & (rows["truth"] <= rows["ci_high"])
    coverage = hits.groupby([rows["setting"], rows["term"]]).agg(["mean", "size"])
    for (setting, term), (share, size) in coverage.iterrows():
        low, high = HARNESS["derived_interval"](int(size), 0.95)
        assert share >= low, (setting, term)
        assert share <= high or setting.startswith("out of fold"), (setting, term)
