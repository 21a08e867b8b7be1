"""The archive of simulations/multi_scale still runs and resumes, and shows what it claims."""

import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

pytestmark = pytest.mark.statistical

FOLDER = Path(__file__).parents[2] / "simulations" / "multi_scale"
# changes that only the small crop shows, only the large one, and both
SMALL, LARGE = {"blob"}, {"edge"}


@pytest.fixture(scope="module")
def simulation():
    """What `run.py` defines, with squares of a small landscape instead of a large one."""
    found = runpy.run_path(str(FOLDER / "run.py"))
    found["draw"].__globals__["N_SIDE"] = 14
    return found


def committed():
    return pd.read_csv(FOLDER / "results.csv")


def test_a_small_run_shows_the_pattern(simulation):
    # one landscape of 196 units and three of the fifteen settings
    simulation["draw"].__globals__["SETTINGS"] = [("blob",), ("edge",), ("blob", "edge")]
    rows = pd.DataFrame(simulation["draw"](np.random.default_rng(0)))
    rows["estimate"] = rows["estimate"].astype(float)
    table = rows.pivot_table(index="setting", columns="estimator", values="estimate")
    assert table.shape == (3, 4)
    assert table.loc["blob", "16 px"] > table.loc["blob", "64 px"]
    assert table.loc["edge", "64 px"] > table.loc["edge", "16 px"]
    assert (
        table.loc["blob + edge", "both scales"]
        > table.loc["blob + edge"].drop(["both scales", "both, width of one"]).max()
    )


def test_changes_are_where_they_are_said_to_be(simulation):
    rng = np.random.default_rng(0)
    squares = rng.uniform(0.2, 0.8, (20, 3, 64, 64)).astype(np.float32)
    small = slice(24, 40)
    for way in ("blob", "contrast", "edge", "rotation"):
        pixels, outcome = simulation["change"](squares, (way,), rng)
        hit = outcome != 0
        assert hit.sum() == 10
        np.testing.assert_array_equal(pixels[~hit], squares[~hit])
        moved = (pixels != squares).any(axis=1)
        assert moved[hit].any(axis=(1, 2)).all()
        if way == "blob":
            assert (moved[hit].sum(axis=(1, 2)) == 9).all()
            assert (pixels[hit][:, :, 31:34, 31:34] == 0).all()
        if way == "edge":
            assert not moved[:, small, small].any()
            np.testing.assert_allclose(pixels[hit][..., 0, 0], squares[hit][..., 0, 0] / 2)
            assert (outcome[hit] == 100).all()
    both = simulation["change"](squares, ("blob", "edge"), rng)[1]
    assert set(np.round(both, -2)) <= {0, 100, 200}


def test_the_archive_is_of_this_code_and_resumes(tmp_path):
    out = tmp_path / "results.csv"
    out.write_text((FOLDER / "results.csv").read_text())
    rows = committed()
    n_replications = rows["replication"].nunique()
    assert len(rows) == n_replications * 15 * 4
    told = subprocess.run(
        [sys.executable, FOLDER / "run.py", "--replications", str(n_replications), "--out", out],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert told.startswith(f"{n_replications} replications were there, 0 were added")


def test_the_committed_table_follows_from_the_archive_and_shows_the_claim():
    done = subprocess.run(
        [sys.executable, FOLDER / "tables.py"], capture_output=True, text=True, check=True
    )
    assert done.stdout == (FOLDER / "table.md").read_text()
    assert done.stdout.strip() in (FOLDER / "README.md").read_text()
    for line in done.stdout.splitlines()[2:]:
        cells = line.strip("| ").split(" | ")
        ways = set(cells[0].split(" + "))
        if ways & SMALL and ways & LARGE:
            # each scale shows what the other cannot: two win, also at the width of one
            assert cells[6].endswith("(gains)"), line
            assert cells[7].endswith("(gains)"), line
        elif len(ways) == 1 and ways != {"rotation"}:
            # one scale shows it all: the other costs little
            assert float(cells[6].split(" ")[0]) > -0.05, line
