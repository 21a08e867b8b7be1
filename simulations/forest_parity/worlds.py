"""Worlds with a known conditional effect, from the papers that introduced them.

"simple"
    From the documentation of grf's `generate_causal_data`: features standard normal,
    tau = max(x1, 0), e = 0.4 + 0.2 1(x1 > 0), baseline x2 + min(x3, 0).
"aw1"
    Wager & Athey (2018), JASA 113(523), arXiv:1510.04342, equation 27: features uniform, tau = 0,
    e = (1 + beta_{2,4}(x1)) / 4, baseline 2 x1 - 1.
"aw2"
    The same paper, equation 28: tau = zeta(x1) zeta(x2) with zeta(x) = 1 + 1 / (1 + exp(-20 (x -
    1/3))), e = 1/2, baseline 0.
"nw1"
    Nie & Wager (2021), Biometrika 108(2), arXiv:1712.04912, section 4, setup A: features uniform,
    tau = (x1 + x2) / 2, e = sin(pi x1 x2) kept within 0.1 and 0.9, baseline sin(pi x1 x2) + 2 (x3 -
    0.5)^2 + x4 + 0.5 x5.
"nw4"
    The same paper, setup D: features standard normal, outcomes max(x1 + x2 + x3, 0) with treatment
    and max(x4 + x5, 0) without, e = 1 / (1 + exp(-x1) + exp(-x2)).

As in grf, the mean outcome m = baseline + e tau and the effect tau are scaled to given standard
deviations, and y = m + (w - e) tau + noise. In nw4 the baseline is the mean of both outcomes.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

Floats = NDArray[np.float64]
NAMES = ("simple", "aw1", "aw2", "nw1", "nw4")
N_UNITS = 2000
N_FEATURES = (10, 50, 512)
CELLS = tuple((name, p) for p in N_FEATURES for name in NAMES)


class World(NamedTuple):
    """Outcome, treatment, effect, mean outcome, propensity (n_units,); features (n_units, p)."""

    y: Floats
    w: Floats
    tau: Floats
    m: Floats
    e: Floats
    features: Floats


def draw_world(
    name: str,
    p: int,
    rng: np.random.Generator,
    n_units: int = N_UNITS,
    sd_outcome: float = 1.0,
    sd_effect: float = 1.0,
) -> World:
    """Return one world; noise has the standard deviation 1."""
    normal = name in ("simple", "nw4")
    features = rng.normal(size=(n_units, p)) if normal else rng.random((n_units, p))
    baseline, e, tau = _formulas(name, features)
    m = baseline + e * tau
    m = m * sd_outcome / m.std(ddof=1)
    if tau.std() > 0:
        tau = tau * sd_effect / tau.std(ddof=1)
    w = (rng.random(n_units) < e).astype(np.float64)
    y = m + (w - e) * tau + rng.normal(size=n_units)
    return World(y, w, tau, m, e, features)


def _formulas(name: str, features: Floats) -> tuple[Floats, Floats, Floats]:
    """Return baseline, propensity and effect."""
    x1, x2, x3, x4, x5 = features[:, :5].T
    half = np.full(len(x1), 0.5)
    if name == "simple":
        return x2 + np.minimum(x3, 0), 0.4 + 0.2 * (x1 > 0), np.maximum(x1, 0)
    if name == "aw1":
        return 2 * x1 - 1, (1 + stats.beta(2, 4).pdf(x1)) / 4, np.zeros(len(x1))
    if name == "aw2":
        first, second = (1 + special.expit(20 * (x - 1 / 3)) for x in (x1, x2))
        return np.zeros(len(x1)), half, first * second
    if name == "nw1":
        wave = np.sin(np.pi * x1 * x2)
        level = wave + 2 * (x3 - 0.5) ** 2 + x4 + 0.5 * x5
        return level, np.clip(wave, 0.1, 0.9), (x1 + x2) / 2
    treated, control = np.maximum(x1 + x2 + x3, 0), np.maximum(x4 + x5, 0)
    return (treated + control) / 2, 1 / (1 + np.exp(-x1) + np.exp(-x2)), treated - control
