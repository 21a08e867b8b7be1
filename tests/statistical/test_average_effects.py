"""The archive of simulations/average_effects runs, resumes, and says what its table says."""

import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

pytestmark = pytest.mark.statistical

ROOT = Path(__file__).parents[2] / "simulations"
FOLDER = ROOT / "average_effects"
HARNESS = runpy.run_path(str(ROOT / "harness.py"))
NOMINAL = {
    "regression adjustment",
    "regression adjustment, sample",
    "entropy balancing",
    "tmle difference",
    "tmle ratio",
    "aipw difference",
    "aipw ratio",
    "wild",
    "two ways",
}
WRONG = {"hc", "one way"}


def call(script, *arguments):
    done = subprocess.run(
        [sys.executable, str(FOLDER / script), *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def archive():
    return pd.read_csv(FOLDER / "results.csv")


def test_a_run_resumes_and_draws_the_archived_worlds(archive, tmp_path):
    out = tmp_path / "results.csv"
    assert "1 were added" in call("run.py", "--replications", 1, "--out", out)
    told = call("run.py", "--replications", 2, "--out", out)
    assert told.startswith("1 replications were there, 1 were added")
    rows = pd.read_csv(out)
    assert list(rows.columns) == list(HARNESS["COLUMNS"])
    same = ["replication", "seed", "setting", "estimator", "term", "truth"]
    assert rows[same].equals(archive.loc[archive["replication"] < 2, same])
    numbers = ["estimate", "std_error", "ci_low", "ci_high"]
    # rows are stored with five digits
    pd.testing.assert_frame_equal(
        rows[numbers], archive.loc[archive["replication"] < 2, numbers], rtol=1e-3, atol=1e-4
    )


def test_the_archive_is_complete(archive, tmp_path):
    out = tmp_path / "results.csv"
    shutil.copy(FOLDER / "results.csv", out)
    n_replications = archive["replication"].nunique()
    told = call("run.py", "--replications", n_replications, "--out", out)
    assert told.startswith(f"{n_replications} replications were there, 0 were added")


def test_the_committed_table_follows_from_the_archive(archive):
    table = call("tables.py")
    assert table == (FOLDER / "table.md").read_text()
    assert table.strip() in (FOLDER / "README.md").read_text()
    told = {line.split(" | ")[1]: line for line in table.splitlines()[2:]}
    assert set(told) >= NOMINAL | WRONG
    for estimator in NOMINAL:
        assert "(inside" in told[estimator], told[estimator]
    for estimator in WRONG:
        assert "(outside" in told[estimator], told[estimator]


@pytest.mark.parametrize("estimator", sorted(NOMINAL - {"wild", "two ways"}))
def test_bias_is_small_against_the_error(archive, estimator):
    rows = archive[archive["estimator"] == estimator]
    error = rows["estimate"] - rows["truth"]
    # a bias of 0.15 standard errors lowers coverage by about 0.3 points; five Monte Carlo errors
    # beside it keep the false alarms below one in a million
    limit = 0.15 * rows["std_error"].mean() + 5 * error.std() / len(rows) ** 0.5
    assert abs(error.mean()) < limit
