"""Two types of places that a pattern in their chips tells apart."""

import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.signal import fftconvolve

import terracausal as tc
from terracausal.simulate import simulate_landscape

SIZE_PX, WIDTH_PX = 32, 8
LOGIT, SHIFT = 2.0, 0.5
EFFECTS = (0.0, 2.0)


@dataclass(frozen=True, eq=False)
class World:
    """A study, its chips, and for each site its type and the true probability of type 2.

    `moderators` holds, by site, what chips tell: u of the types and the place of the baseline.
    """

    study: tc.Study
    chips: tc.Chips
    kind: np.ndarray
    chance: np.ndarray
    moderators: pd.DataFrame


@cache
def raster_of(imagery: str) -> np.ndarray:
    """Return one band of a simulated landscape, or of Landsat over Kafa (real pixels)."""
    if imagery == "landscape":
        landscape = simulate_landscape(size_px=1024, random_state=0)
        return np.asarray(landscape.reflectance[landscape.bands.index("nir")], dtype=np.float64)
    import rasterio

    root = Path(os.environ.get("TERRACAUSAL_DATA", Path(__file__).parents[3] / "shared" / "data"))
    with rasterio.open(root / "gewata_landsat" / "gewata.tif") as file:
        band = file.read(4).astype(np.float64)
    band[(band == -9999) | (band == 16000)] = np.nan
    return band / 10_000


def centre_surround(width_px: int) -> np.ndarray:
    """Return the kernel of the paper's script: 1, but -1 in the central fifth of each axis."""
    kernel = np.ones((width_px, width_px))
    inside = slice(int(0.4 * width_px), int(np.ceil(0.6 * width_px)))
    kernel[inside, inside] = -1.0
    return kernel / np.abs(kernel).sum()


def draw_world(rng: np.random.Generator, imagery: str, n_sites: int, units_per_site: int) -> World:
    """Cut chips at random; the type follows the strongest centre-surround response.

    ``logit = 2 u`` with u the standardised largest response in a chip; the standardised mean of a
    chip moves the baseline by 0.5, the site by a normal of SD 0.3; noise has SD 1; effects are 0
    and 2; half of the units are treated, by a coin.
    """
    pixels = crops(rng, raster_of(imagery), n_sites)
    response = fftconvolve(pixels, centre_surround(WIDTH_PX)[None], mode="valid", axes=(1, 2))
    u, place = (standard(x) for x in (response.max(axis=(1, 2)), pixels.mean(axis=(1, 2))))
    chance = 1 / (1 + np.exp(-LOGIT * u))
    kind = (rng.random(n_sites) < chance).astype(int)
    site = np.repeat(np.arange(n_sites), units_per_site)
    treated = rng.integers(0, 2, len(site))
    shared = SHIFT * place + 0.3 * rng.normal(size=n_sites)
    outcome = shared[site] + np.array(EFFECTS)[kind[site]] * treated + rng.normal(size=len(site))
    table = pd.DataFrame({"y": outcome, "w": treated, "site": site})
    study = tc.Study(table, outcome="y", treatment="w", site="site", propensity=0.5)
    chips = tc.Chips.from_arrays(
        pixels[:, None, None].astype(np.float32), sites=range(n_sites), bands=["nir"]
    )
    moderators = pd.DataFrame({"u": u, "place": place}, index=pd.RangeIndex(n_sites))
    return World(study, chips, kind, chance, moderators)


def crops(rng: np.random.Generator, raster: np.ndarray, n_sites: int) -> np.ndarray:
    """Return chips (n_sites, 32, 32) without missing pixels."""
    found: list[np.ndarray] = []
    while len(found) < n_sites:
        top, left = (int(rng.integers(size - SIZE_PX)) for size in raster.shape)
        chip = raster[top : top + SIZE_PX, left : left + SIZE_PX]
        if np.isfinite(chip).all():
            found.append(chip)
    return np.stack(found)


def standard(values: np.ndarray) -> np.ndarray:
    """Return values with mean 0 and variance 1."""
    return (values - values.mean()) / values.std()
