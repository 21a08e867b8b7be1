"""The noise curve of simulations/effect_types says what its table says, and can be drawn again."""

import importlib.util
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

pytestmark = pytest.mark.statistical

ROOT = Path(__file__).parents[2] / "simulations"
FOLDER = ROOT / "effect_types" / "noise"
HARNESS = runpy.run_path(str(ROOT / "harness.py"))


@pytest.fixture(scope="module")
def run():
    before = list(sys.path)
    sys.path.insert(0, str(ROOT))
    spec = importlib.util.spec_from_file_location("effect_types_noise", FOLDER / "run.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    sys.path[:] = before
    sys.modules.pop("worlds", None)


@pytest.fixture(scope="module")
def archive():
    return pd.read_csv(FOLDER / "results.csv")


@pytest.fixture(scope="module")
def gains(archive):
    """How much better the mixture is in each replication, by setting, estimator and measure."""
    sys.path.insert(0, str(ROOT))
    tables = runpy.run_path(str(FOLDER / "tables.py"))
    sys.path.remove(str(ROOT))
    table = tables["measure"](archive)
    sign = np.array([1 if key.startswith(("AUC", "ARI")) else -1 for key in table.columns])
    mixture = table.xs("mixture", level="estimator")
    rivals = table.drop(index=["mixture", "oracle"], level="estimator")
    own = mixture.loc[pd.MultiIndex.from_frame(rivals.index.to_frame()[["replication", "setting"]])]
    return sign * (own.to_numpy() - rivals)


def test_seeds_are_those_of_the_claim(run, archive):
    n_replications = int(archive["replication"].max()) + 1
    seeds = HARNESS["replication_seeds"](run.ENTROPY, n_replications)
    found = archive.groupby("replication")["seed"].first()
    assert found.tolist() == [seeds[number] for number in found.index]


def test_a_small_draw_has_the_rows_of_the_archive(run, archive, monkeypatch):
    quick, every = ("mixture", "T-learner, ridge"), run.methods
    monkeypatch.setattr(run, "DESIGNS", {"few sites": (40, 4, (1.0,))})
    monkeypatch.setattr(run, "methods", lambda seed: {k: every(seed)[k] for k in quick})
    rows = pd.DataFrame(run.draw(np.random.default_rng(0)))
    assert {*rows.columns, "replication", "seed"} == set(HARNESS["COLUMNS"])
    for name in ("oracle", *quick):
        kept = archive[archive["estimator"] == name]
        assert rows.loc[rows["estimator"] == name, "term"].tolist() == list(kept["term"].unique())


def test_the_committed_table_follows_from_the_archive():
    done = subprocess.run(
        [sys.executable, str(FOLDER / "tables.py")], capture_output=True, text=True, check=True
    )
    assert done.stdout == (FOLDER / "table.md").read_text()
    assert done.stdout.strip() in (FOLDER / "README.md").read_text()


def test_the_mixture_is_better_where_the_table_says_so(gains):
    # in each setting against each rival; a false alarm in 100,000
    by = gains.groupby(["setting", "estimator"])
    t = by.mean() / by.sem()
    needed = stats.t.isf(HARNESS["FALSE_ALARM"], by.size().min() - 1)
    noise = t.index.get_level_values("setting").str.extract(r"noise SD (.*)$")[0].astype(float)
    claimed = ["component effects", "AUC, seen places", "ARI, seen places"]
    assert (t.loc[(noise <= 2).to_numpy(), claimed] > needed).all(axis=None)
