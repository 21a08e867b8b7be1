"""The archive of simulations/effect_learners says what its table says, and can be drawn again."""

import importlib.util
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

pytestmark = pytest.mark.statistical

ROOT = Path(__file__).parents[2] / "simulations"
FOLDER = ROOT / "effect_learners"
HARNESS = runpy.run_path(str(ROOT / "harness.py"))


@pytest.fixture(scope="module")
def run():
    sys.path.insert(0, str(ROOT))
    spec = importlib.util.spec_from_file_location("effect_learners_run", FOLDER / "run.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    sys.path.remove(str(ROOT))


@pytest.fixture(scope="module")
def archive():
    return pd.read_csv(FOLDER / "results.csv")


def test_seeds_are_those_of_the_claim(run, archive):
    n_replications = int(archive["replication"].max()) + 1
    seeds = HARNESS["replication_seeds"](run.ENTROPY, n_replications)
    found = archive.groupby("replication")["seed"].first()
    assert found.tolist() == [seeds[number] for number in found.index]
    assert set(archive["setting"]) >= set(run.WORLDS)


@pytest.mark.filterwarnings("ignore::terracausal._foundation.errors.OverlapWarning")
def test_a_small_draw_has_the_rows_of_the_archive(run, archive, monkeypatch):
    monkeypatch.setattr(run, "N_UNITS", 120)
    quick = ("S, ridge", "T, ridge")
    every = run.learners
    monkeypatch.setattr(run, "learners", lambda seed: {k: every(seed)[k] for k in quick})
    rng = np.random.default_rng(0)
    for name, world in run.WORLDS.items():
        for row, expected in zip(run.errors(rng, name, world), quick, strict=True):
            assert set(row) | {"replication", "seed"} == set(HARNESS["COLUMNS"])
            assert (row["setting"], row["estimator"]) == (name, expected)
            assert 0 < float(row["estimate"]) < 3
    rows = list(run.intervals_of_linear_effects(rng))
    assert [row["setting"] for row in rows] == ["60 sites, 3 columns", "60 sites, 11 columns"]


def test_the_committed_table_follows_from_the_archive():
    done = subprocess.run(
        [sys.executable, str(FOLDER / "tables.py")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == (FOLDER / "table.md").read_text()
    readme = (FOLDER / "README.md").read_text()
    assert all(part.strip() in readme for part in done.stdout.split("\n\n"))
    assert "(outside" not in done.stdout


def test_learners_that_remove_confounding_win_where_it_matters(archive):
    # the same effect for all, confounded: errors differ by a factor, not by a shade
    own = archive[archive["setting"] == "C: constant effect"]
    error = own.groupby("estimator")["estimate"].mean()
    assert error[["R, ridge", "DR, ridge"]].max() < error[["S, ridge", "T, ridge"]].min()
