"""The archive on grf's generating processes: its worlds, its table and its promises."""

import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.statistical

FOLDER = Path(__file__).parents[2] / "simulations" / "forest_parity"
WORLDS = runpy.run_path(str(FOLDER / "worlds.py"))


@pytest.mark.parametrize("name", WORLDS["NAMES"])
def test_worlds_are_what_their_papers_say(name, rng):
    world = WORLDS["draw_world"](name, 6, rng, n_units=40_000)
    assert world.features.shape == (40_000, 6)
    assert world.m.std(ddof=1) == pytest.approx(1)
    assert world.tau.std(ddof=1) == pytest.approx(0 if name == "aw1" else 1)
    # treated as often as they should be, and the rest is noise of variance 1 (z of 4.42: 1e-5)
    assert abs((world.w - world.e).mean()) < 4.42 * 0.5 / 200
    noise = world.y - world.m - (world.w - world.e) * world.tau
    assert abs(noise.mean()) < 4.42 / 200
    assert abs((noise**2).mean() - 1) < 4.42 * np.sqrt(2) / 200
    x = world.features
    ranges = {
        "simple": (0.4, 0.6),
        "aw1": (0.25, 0.25 * (1 + 20 * 0.25 * 0.75**3)),
        "aw2": (0.5, 0.5),
    }
    ranges |= {"nw1": (0.1, 0.9), "nw4": (0, 1)}
    low, high = ranges[name]
    assert low <= world.e.min()
    assert world.e.max() <= high + 1e-12
    rises = {"simple": x[:, 0], "aw2": x[:, 1], "nw1": x[:, 0] + x[:, 1]}
    rises["nw4"] = np.maximum(x[:, :3].sum(axis=1), 0) - np.maximum(x[:, 3:5].sum(axis=1), 0)
    if name in rises:
        assert np.corrcoef(rises[name], world.tau)[0, 1] > 0.5
    if name in ("nw1", "nw4"):  # exactly, but for the scale
        assert np.corrcoef(rises[name], world.tau)[0, 1] == pytest.approx(1)


def test_the_table_follows_from_the_archives_and_keeps_its_promises():
    done = subprocess.run(
        [sys.executable, str(FOLDER / "tables.py")], capture_output=True, text=True, check=True
    )
    assert done.stdout == (FOLDER / "table.md").read_text()
    assert done.stdout.strip() in (FOLDER / "README.md").read_text()
    lines = [line.strip("| ").split(" | ") for line in done.stdout.splitlines()[2:]]
    assert len(lines) == len(WORLDS["CELLS"])
    assert {cells[-1] for cells in lines} == {"kept"}
