"""Is this installation sound? Versions, devices, and a small analysis with a known answer."""

import platform
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

import numpy as np
import pandas as pd

from terracausal._foundation.optional import require
from terracausal.effects import average_effect
from terracausal.encoders import BandStatisticsEncoder, RandomConvEncoder
from terracausal.evaluation import rank_weighted_effect
from terracausal.nuisance import Scores, cross_fit, doubly_robust_scores
from terracausal.simulate import simulate_study

_PACKAGES = (
    *("terracausal", "numpy", "scipy", "pandas", "scikit-learn", "statsmodels", "torch"),
    *("pyro-ppl", "econml", "geopandas", "rasterio", "odc-geo", "xarray", "zarr", "pyarrow"),
    *("matplotlib", "pydantic", "jinja2", "rich", "typer", "pooch", "rdata"),
)


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Parameters
    ----------
    name : str
    passed : bool
    found : str
        What was seen.

    Examples
    --------
    >>> Check("python", True, "3.11").passed
    True
    """

    name: str
    passed: bool
    found: str


def check_installation() -> list[Check]:
    """Look at versions and devices, and run a small analysis with a known answer.

    Returns
    -------
    list of Check

    Examples
    --------
    >>> all(check.passed for check in check_installation())
    True
    """
    checks = [Check("python", True, f"{platform.python_version()} on {platform.platform()}")]
    checks += [_check_package(name) for name in _PACKAGES]
    for name, check in (
        ("device", _check_device),
        ("encoders", _check_encoders),
        ("analysis", _check_analysis),
        ("ranking", _check_ranking),
    ):
        try:
            passed, found = check()
        except Exception as error:
            # a broken installation can fail in any way; the doctor's job is to say how
            passed, found = False, f"{type(error).__name__}: {error}"
        checks.append(Check(name, passed, found))
    return checks


def _check_package(name: str) -> Check:
    try:
        return Check(name, True, version(name))
    except PackageNotFoundError:
        return Check(name, False, f"not installed: pip install {name}")


def _check_device() -> tuple[bool, str]:
    torch = require("torch", needed_by="the encoders")
    if torch.cuda.is_available():
        return True, f"CUDA: {torch.cuda.get_device_name(0)}"
    return True, f"CPU, {torch.get_num_threads()} threads"


def _check_encoders() -> tuple[bool, str]:
    chips = simulate_study(n_sites=20, random_state=0).chips
    encoder = RandomConvEncoder(n_features=16, random_state=0)
    once, again = encoder.fit_transform(chips), encoder.fit_transform(chips)
    return once.equals(again), "the same seed gives the same features"


def _check_analysis() -> tuple[bool, str]:
    data = simulate_study(n_sites=100, random_state=0)
    study = data.study.join(BandStatisticsEncoder().fit_transform(data.chips), role="modifier")
    estimate = average_effect(doubly_robust_scores(study, cross_fit(study, random_state=0)))
    low, high = estimate.confint(0.999)[0]
    found = f"true effect {data.average_effect:.3f}, 99.9 % interval {low:.3f} to {high:.3f}"
    return bool(low < data.average_effect < high), found


def _check_ranking() -> tuple[bool, str]:
    uniform = (np.arange(2000) + 0.5) / 2000
    scores = Scores.from_dataframe(pd.DataFrame({"score": uniform}))
    value = float(rank_weighted_effect(scores, uniform, n_bootstrap=2, random_state=0).value[0])
    return abs(value - 0.25) < 1e-3, f"AUTOC of uniform effects {value:.4f}, expected 0.25"
