"""A small study of 40 sites with everything that a report can show; site names try to break out."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from terracausal.evaluation import rank_weighted_effect
from terracausal.imagery import Chips
from terracausal.nuisance import Scores
from terracausal.study import Estimate, Study

N_SITES, N_UNITS = 40, 400
HOSTILE = "<script>alert('site')</script>"


def make_estimate(study, value, spread, method="regression", **words):
    """Return an estimate whose standard error is about `spread` / 20 (400 units)."""
    influence = np.random.default_rng(5).normal(0, spread, (study.n_units, 1))
    influence -= influence.mean()
    return Estimate(
        np.array([value]),
        influence,
        study.frame,
        ("ate",),
        words.pop("estimand", "average effect on all units"),
        method,
        **words,
    )


@pytest.fixture(scope="session")
def world():
    generator = np.random.default_rng(3)
    keys = [f"parish {k:02d}" for k in range(N_SITES)]
    keys[11] = HOSTILE
    site = np.arange(N_UNITS) % N_SITES
    lon, lat = generator.uniform(30, 33, N_SITES), generator.uniform(1, 3, N_SITES)
    treatment = generator.integers(0, 2, N_UNITS)
    # effects by site are distinct multiples of 0.05, so ranks are known
    effect = 0.05 * generator.permutation(N_SITES) - 0.2
    table = pd.DataFrame(
        {
            "parish": np.array(keys)[site],
            "lon": lon[site],
            "lat": lat[site],
            "<b>paid</b>": treatment,
            "income": effect[site] * treatment + generator.normal(0, 1, N_UNITS),
        },
        index=[f"person {k}" for k in range(N_UNITS)],
    )
    roles = {"outcome": "income", "treatment": "<b>paid</b>", "site": "parish"}
    study = Study(table, coords=("lon", "lat"), **roles)
    pixels = generator.random((N_SITES, 2, 4, 12, 12))
    pixels[:, 1] += np.linspace(0, 1, 12)
    pixels[5, 1, :, :3, :3] = np.nan
    ranked = np.argsort(-effect)
    pixels[ranked[1]] = pixels[ranked[-2]]
    chips = Chips.from_arrays(
        pixels,
        sites=pd.DataFrame({"lon": lon, "lat": lat}, index=keys),
        bands=["blue", "green", "red", "nir"],
        times=["2019-01-01", "2020-01-01"],
    )
    cate = pd.Series(effect[site], index=table.index, name="cate")
    score = pd.Series(effect[site] + generator.normal(0, 0.3, N_UNITS), index=table.index)
    propensity = generator.uniform(0.2, 0.8, N_UNITS)
    scores = Scores.from_dataframe(
        pd.DataFrame(
            {
                "score": score,
                "propensity": propensity,
                "treatment": treatment.astype(float),
                "cluster": table["parish"],
            }
        )
    )
    return SimpleNamespace(
        study=study,
        study_without_coords=Study(table, **roles),
        chips=chips,
        cate=cate,
        effect_by_site=pd.Series(effect, index=keys),
        scores=scores,
        targeting=rank_weighted_effect(scores, priority=cate, target="AUTOC", random_state=0),
        estimate=make_estimate(
            study,
            0.76,
            1.6,
            assumptions=("no unmeasured confounding", "overlap"),
            notes=("3 propensities were clipped",),
        ),
        other_estimate=make_estimate(study, 0.05, 3.0, "difference in means"),
    )


@pytest.fixture(scope="session")
def results(world):
    return [
        world.study,
        world.chips,
        world.scores,
        world.estimate,
        world.other_estimate,
        world.targeting,
        world.cate,
    ]
