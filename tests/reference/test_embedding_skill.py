"""What can be read off random features: places in Uganda and tree cover in Ethiopia.

The thresholds come from prototypes: R² 0.61 and 0.47 for longitude and latitude, 0.991 for cover.
"""

import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import terracausal as tc

FOLDER = Path(__file__).parents[2] / "simulations" / "embedding_skill"
LEAST = {"longitude": 0.55, "latitude": 0.42, "tree cover": 0.985}
MEASURED = "random features, 3 px"


@pytest.fixture(scope="module")
def skill():
    return runpy.run_path(str(FOLDER / "run.py"))


def task_of(skill, data_root, name, folder):
    if not (data_root / folder).is_dir():
        pytest.skip(f"no {folder} in {data_root}")
    return skill["TASKS"][name](data_root)


@pytest.mark.parametrize(
    ("name", "folder"), [("uganda_yop", "uganda_yop"), ("gewata", "gewata_landsat")]
)
def test_random_features_reach_the_skill_of_the_prototype(skill, data_root, name, folder):
    task = task_of(skill, data_root, name, folder)
    # one cross-validation of each; the archive has five
    r2, n_columns = skill["measure"](skill["ENTRIES"][MEASURED], task, data_root, n_splits=1)
    assert n_columns == 512
    for target, values in r2.items():
        assert values.iloc[0] >= LEAST[target], target
    baseline, _ = skill["measure"](
        skill["ENTRIES"]["band mean and SD"], task, data_root, n_splits=1
    )
    assert (r2.iloc[0] > baseline.iloc[0]).all()


def test_blocks_and_targets_of_the_scene(skill, data_root):
    task = task_of(skill, data_root, "gewata", "gewata_landsat")
    assert task.chips.n_sites == (1177 // 32) * (1548 // 32)
    assert len(np.unique(task.groups)) == 4 * 6
    # dense forest is dark in the red
    red = tc.BandStatisticsEncoder(quantiles=()).fit_transform(task.chips)["red_mean"]
    assert np.corrcoef(red, task.targets["tree cover"])[0, 1] < -0.5
    for _, train, test in skill["splits"](task, 1):
        assert not set(task.groups[train]) & set(task.groups[test])


def test_an_encoder_is_fitted_on_the_training_sites_of_each_fold(skill):
    rng = np.random.default_rng(0)
    chips = tc.Chips.from_arrays(rng.normal(size=(30, 1, 1, 6, 6)), sites=range(30), bands=["b"])
    task = skill["Task"](chips, pd.DataFrame({"x": rng.normal(size=30)}), np.arange(30))
    seen = []

    class Watched(tc.BandStatisticsEncoder):
        def _learn(self, chips, y):
            seen.append((chips.n_sites, None if y is None else len(y)))
            super()._learn(chips, y)

    skill["measure"](skill["Entry"](Watched()), task, Path(), n_splits=1)
    assert seen == [(24, 24)] * 5
    # noise predicts nothing: far below the thresholds above
    r2, _ = skill["measure"](skill["Entry"](Watched(), refit=False), task, Path(), n_splits=2)
    assert (r2["x"] < 0.2).all()


def test_the_committed_table_follows_from_the_archive_and_keeps_the_claim():
    run = subprocess.run(
        [sys.executable, str(FOLDER / "tables.py")], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout == (FOLDER / "table.md").read_text()
    assert run.stdout.strip() in (FOLDER / "README.md").read_text()
    results = pd.read_csv(FOLDER / "results.csv")
    r2 = results[results["encoder"] == MEASURED].set_index("target")["r2"]
    assert set(r2.index) == set(LEAST)
    for target, least in LEAST.items():
        assert r2[target] >= least, target


def test_the_archive_has_all_encoders(skill):
    results = pd.read_csv(FOLDER / "results.csv")
    found = set(results[["task", "encoder"]].itertuples(index=False, name=None))
    assert found == {(task, name) for name, e in skill["ENTRIES"].items() for task in e.tasks}
