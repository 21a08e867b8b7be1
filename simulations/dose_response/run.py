"""Coverage of a dose-response curve: at single doses, of the whole curve, of contrast and slope."""

import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.dummy import DummyRegressor

sys.path.insert(0, str(Path(__file__).parents[1]))

from harness import Row, main, row

import terracausal as tc
from terracausal._foundation.errors import OverlapWarning
from terracausal.effects import DoseResponse

ENTROPY = 190362871440961283375511902643817235521
REPLICATIONS = 200
N_UNITS = 1000
PER_SITE = 5
POINTS = (-1.2, 0.0, 1.2)
Curve = Callable[[Any], Any]


def wave(dose: Any) -> Any:
    """Return a curve that no polynomial of the outcome learner follows."""
    return np.sin(1.5 * dose)


def arch(dose: Any) -> Any:
    """Return a curve that the outcome learner can follow exactly."""
    return dose - 0.3 * dose**2


def world(curve: Curve, rng: np.random.Generator, *, per_site: int = 1) -> pd.DataFrame:
    """Return units whose features confound the dose (they explain a fifth of it) and the outcome.

    With several units per site, the features, half of the noise of dose and half of the noise of
    the outcome are the site's.
    """
    n_sites = N_UNITS // per_site
    site = np.repeat(np.arange(n_sites), per_site)
    features = rng.normal(size=(n_sites, 3))[site]

    def noise() -> np.ndarray:
        own = rng.normal(size=N_UNITS)
        return own if per_site == 1 else (rng.normal(size=n_sites)[site] + own) / np.sqrt(2)

    table = pd.DataFrame(features, columns=["x1", "x2", "x3"]).assign(site=site)
    table["dose"] = features @ [0.4, 0.3, 0.0] + noise()
    more = (1 + 0.5 * table["dose"]) * table["x1"] + 0.5 * table["x2"] - 0.5 * table["x3"]
    return table.assign(y=curve(table["dose"]) + more + noise())


def rows_of(
    setting: str, estimator: str, curve: Curve, found: DoseResponse, started: float
) -> Iterator[Row]:
    """Yield points, the whole curve, the contrast of 1 and -1, and the average slope."""
    seconds = round(time.perf_counter() - started, 3)
    table = found.to_dataframe()
    truth = curve(table["term"])
    for point in POINTS:
        nearest = (table["term"] - point).abs().idxmin()
        numbers = table.loc[nearest, ["estimate", "std_error", "ci_low", "ci_high"]]
        shown = {name: f"{value:.5g}" for name, value in numbers.items()}
        yield {
            "setting": setting, "estimator": estimator, "term": f"dose {point:g}",
            "truth": f"{truth[nearest]:.5g}", "seconds": seconds,
        } | shown  # fmt: skip
    largest = float((np.abs(table["estimate"] - truth) / table["std_error"]).max())
    critical = found.critical_value()
    yield {
        # the band holds the curve if the largest t statistic is below the critical value
        "setting": setting, "estimator": estimator, "term": "whole curve", "truth": 0,
        "estimate": f"{largest:.5g}", "std_error": 1, "ci_low": f"{largest - critical:.5g}",
        "ci_high": f"{largest + critical:.5g}", "seconds": seconds,
    }  # fmt: skip
    contrast = found.contrast(-1.0, 1.0)
    yield row(setting, estimator, float(curve(1.0) - curve(-1.0)), contrast, started)


def estimate(table: pd.DataFrame, rng: np.random.Generator, **options: Any) -> DoseResponse:
    return tc.dose_response(
        table, treatment="dose", outcome="y", covariates=["x1", "x2", "x3"], random_state=rng,
        **options,
    )  # fmt: skip


def draw(rng: np.random.Generator) -> Iterator[Row]:
    """Yield the rows of one replication."""
    warnings.simplefilter("ignore", OverlapWarning)
    mean = DummyRegressor()
    for setting, curve, learners in (
        ("both nuisances learned", wave, {}),
        ("outcome learner: the mean", wave, {"outcome_learner": mean}),
        ("dose learner: the mean", arch, {"dose_learner": mean}),
    ):
        estimator = "one nuisance wrong" if learners else "default"
        table, started = world(curve, rng), time.perf_counter()
        found = estimate(table, rng, learners=learners)
        yield from rows_of(setting, estimator, curve, found, started)
    table, started = world(wave, rng, per_site=PER_SITE), time.perf_counter()
    found = estimate(table, rng, site="site")
    yield from rows_of("200 sites of 5 units", "clustered", wave, found, started)
    plain = found.with_std_error("hc")
    yield from rows_of("200 sites of 5 units", "hc", wave, plain, started)


if __name__ == "__main__":
    main(draw, ENTROPY, Path(__file__).parent, REPLICATIONS)
