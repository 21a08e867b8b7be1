"""What networks inside folds remove, and the archive of simulations/image_effects."""

import importlib.util
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from terracausal.effects import DRLearner, ImageRLearner, average_effect
from terracausal.encoders.networks import KernelMaxNetwork, TrainingSettings
from terracausal.imagery import Chips
from terracausal.nuisance import ImageNuisanceLearner, doubly_robust_scores
from terracausal.study import Study

pytestmark = [
    pytest.mark.statistical,
    pytest.mark.filterwarnings("ignore::terracausal._foundation.errors.OverlapWarning"),
]

FOLDER = Path(__file__).parents[2] / "simulations" / "image_effects"
N, N_DRAWS, FALSE_ALARM = 300, 6, 1e-5
BRIGHTNESS = partial(KernelMaxNetwork, width_px=1, n_filters=1, pooling="mean")
TRAINING = TrainingSettings(n_epochs=8, learning_rate=0.1, batch_size=16)


def estimates(rng):
    """Return errors of the difference in means and of AIPW where brightness confounds."""
    brightness, x = rng.normal(size=(2, N))
    w = rng.random(N) < 1 / (1 + np.exp(-brightness - 0.5 * x))
    y = 1 + brightness + x + w + 0.5 * rng.normal(size=N)
    noise = rng.normal(size=(N, 1, 1, 4, 4))
    noise -= noise.mean(axis=(3, 4), keepdims=True)
    pixels = brightness[:, None, None, None, None] + noise
    chips = Chips.from_arrays(pixels, sites=range(N), bands=["nir"])
    table = pd.DataFrame({"y": y, "w": w.astype(int), "site": range(N), "x": x})
    study = Study(table, outcome="y", treatment="w", site="site", covariates=["x"])
    learner = ImageNuisanceLearner(BRIGHTNESS, training=TRAINING, random_state=rng)
    scores = doubly_robust_scores(study, learner.cross_fit(study, chips))
    found = [average_effect(scores, method=how) for how in ("difference_in_means", "aipw")]
    return [float(estimate.value[0]) - 1 for estimate in found]


def test_what_the_image_shows_is_adjusted_for():
    rng = np.random.default_rng(20260101)
    naive, adjusted = np.array([estimates(rng) for _ in range(N_DRAWS)]).T
    # 95 % or more of the bias is removed, within what so few draws tell
    margin = stats.t.ppf(1 - FALSE_ALARM, N_DRAWS - 1) * adjusted.std(ddof=1) / np.sqrt(N_DRAWS)
    assert naive.mean() > 1
    assert abs(adjusted.mean()) < 0.05 * naive.mean() + margin
    assert adjusted.std(ddof=1) < 0.25


@pytest.fixture(scope="module")
def claim():
    spec = importlib.util.spec_from_file_location("image_effects_run", FOLDER / "run.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_small_pooled_windows_cannot_tell_near_from_far(claim):
    rng, size = np.random.default_rng(0), claim.OBJECT_PX
    scenes = np.zeros((40, 1, 1, claim.SIZE_PX, claim.SIZE_PX), dtype=np.float32)
    for number, scene in enumerate(scenes[:, 0, 0]):
        for (i, j), value in zip(claim.draw_objects(number < 20, rng), (1, -1), strict=True):
            scene[i : i + size, j : j + size] = value
    assert ((scenes == 1).sum(axis=(1, 2, 3, 4)) == size**2).all()
    assert ((scenes == -1).sum(axis=(1, 2, 3, 4)) == size**2).all()
    chips = Chips.from_arrays(scenes, sites=range(40), bands=["nir"])
    for name, encoder in claim.ENCODERS.items():
        found = encoder.fit_transform(chips)
        spread = (found.max() - found.min()) / (1 + found.abs().max())
        # wherever the objects lie, whatever the distance: the same windows, summed in another order
        assert (spread.max() < 1e-5) == name.startswith("3 px")


def test_a_network_finds_what_pooling_loses(claim):
    rng = np.random.default_rng(20260102)
    cell = replace(claim.CELLS["pattern"], imagery="landscape")
    study, chips, effect = claim.draw_trial(cell, rng)
    tested = study.sites.isin(study.sites.unique()[:100]).to_numpy()
    train, rows, truth = study.subset(~tested), study.table.loc[tested], effect[tested]
    learner = ImageRLearner(
        claim.NETWORK, nuisances="table", n_networks=1, training=claim.TRAINING, random_state=0
    )
    frozen = claim.ENCODERS["3 px, mean"].fit_transform(chips)
    joined = study.join(frozen, role="modifier")
    ridge = DRLearner(random_state=0).fit(joined.subset(~tested))
    found = [
        np.corrcoef(effects, truth)[0, 1]
        for effects in (
            learner.fit(train, chips).predict(rows, chips),
            ridge.predict(joined.table.loc[tested]),
        )
    ]
    # without a relation, the correlation over 100 sites has a standard error of a tenth
    by_chance = stats.norm.isf(FALSE_ALARM) / 10
    assert found[0] > by_chance
    assert abs(found[1]) < by_chance


def test_a_cell_of_image_effects_runs_and_is_tabulated(tmp_path):
    def call(script, *arguments):
        command = [sys.executable, str(FOLDER / script), *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    out = tmp_path / "smoke.csv"
    assert "1 were added" in call("run.py", "smoke", "--replications", 1, "--out", out)
    assert "1 replications were there, 0 were added" in call(
        "run.py", "smoke", "--replications", 1, "--out", out
    )
    table = call("tables.py", "--results", tmp_path)
    assert "| landscape, 60 sites of 2 | image R-learner | 1 |" in table
