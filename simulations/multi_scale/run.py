"""Explained variance of one scale, of two, and of two at the width of one."""

import sys
import time
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

sys.path.insert(0, str(Path(__file__).parents[1]))

from harness import Row, main

from terracausal.encoders import RandomConvEncoder
from terracausal.encoders.reduction import fit_components
from terracausal.encoders.scales import MultiScaleEncoder
from terracausal.imagery import Chips
from terracausal.simulate import simulate_landscape

ENTROPY = 145518072390962813604279851166093342871
REPLICATIONS = 10
SMALL_PX, LARGE_PX = 16, 64
N_SIDE = 22  # 484 units: squares of a landscape that share no pixel
N_FEATURES = 128
BANDS = ("red", "nir", "swir1")
CONTRAST, FADE = 1.8, 0.5
CHANGES = ("blob", "contrast", "edge")
SETTINGS = [
    (*active, *rotated)
    for rotated in ((), ("rotation",))
    for size in range(4)
    for active in combinations(CHANGES, size)
    if active or rotated
]


def draw(rng: np.random.Generator) -> Iterator[Row]:
    """Yield the rows of one replication: a landscape, and all settings on its squares."""
    squares = draw_squares(rng)
    for setting in SETTINGS:
        started = time.perf_counter()
        pixels, outcome = change(squares, setting, rng)
        chips = Chips.from_arrays(pixels[:, None], sites=range(len(pixels)), bands=BANDS)
        inner = RandomConvEncoder(n_features=N_FEATURES, random_state=int(rng.integers(2**31)))
        table = MultiScaleEncoder(inner, sizes_px=(SMALL_PX, LARGE_PX)).fit_transform(chips)
        both = table.to_numpy()
        small, large = both[:, :N_FEATURES], both[:, N_FEATURES:]
        folds = KFold(5, shuffle=True, random_state=int(rng.integers(2**31)))
        compared = {
            "both scales": explained(both, outcome, folds),
            "both, width of one": explained(both, outcome, folds, width=N_FEATURES),
            f"{SMALL_PX} px": explained(small, outcome, folds),
            f"{LARGE_PX} px": explained(large, outcome, folds),
        }
        seconds = round((time.perf_counter() - started) / len(compared), 3)
        for estimator, found in compared.items():
            yield {
                "setting": " + ".join(setting),
                "estimator": estimator,
                "term": "R2",
                "estimate": f"{found:.5g}",
                "seconds": seconds,
            }


def draw_squares(rng: np.random.Generator) -> NDArray[np.float32]:
    """Return squares (n_units, n_bands, LARGE_PX, LARGE_PX) of a landscape, between 0 and 1."""
    landscape = simulate_landscape(N_SIDE * LARGE_PX, random_state=rng)
    image = landscape.reflectance[[landscape.bands.index(band) for band in BANDS]]
    cut = image.reshape(len(BANDS), N_SIDE, LARGE_PX, N_SIDE, LARGE_PX)
    return cut.transpose(1, 3, 0, 2, 4).reshape(-1, len(BANDS), LARGE_PX, LARGE_PX)


def change(
    squares: NDArray[np.float32], setting: tuple[str, ...], rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Change a random half of the units in each way of the setting.

    Parameters
    ----------
    squares : ndarray of shape (n_units, n_bands, LARGE_PX, LARGE_PX)
    setting : tuple of str
        Some of blob, contrast, edge, rotation.
    rng : numpy.random.Generator

    Returns
    -------
    pixels : ndarray of the shape of `squares`
    outcome : ndarray of shape (n_units,)
        The sum of the effects of the changes: N(100, 10) for blob and contrast, 100 for edge and
        N(-100, 10) for rotation.
    """
    n_units = len(squares)
    pixels, outcome = squares.copy(), np.zeros(n_units)
    hit = {way: rng.permutation(n_units) < n_units // 2 for way in ("rotation", *CHANGES)}
    noise = {way: rng.normal(0, 10, n_units) for way in hit}
    if "rotation" in setting:
        pixels[hit["rotation"]] = np.rot90(pixels[hit["rotation"]], axes=(2, 3))
        outcome += hit["rotation"] * (noise["rotation"] - 100)
    if "contrast" in setting:
        chosen = pixels[hit["contrast"]]
        middle = chosen.mean(axis=(2, 3), keepdims=True)
        pixels[hit["contrast"]] = middle + CONTRAST * (chosen - middle)
        outcome += hit["contrast"] * (noise["contrast"] + 100)
    if "blob" in setting:
        centre = slice(LARGE_PX // 2 - 1, LARGE_PX // 2 + 2)
        black = pixels[hit["blob"]]
        black[..., centre, centre] = 0
        pixels[hit["blob"]] = black
        outcome += hit["blob"] * (noise["blob"] + 100)
    if "edge" in setting:
        pixels[hit["edge"]] *= fade()
        outcome += hit["edge"] * 100
    return pixels, outcome


def fade() -> NDArray[np.float32]:
    """Return factors (LARGE_PX, LARGE_PX): 1 in the small crop, falling to 0.5 at the corners."""
    place = np.arange(LARGE_PX) - (LARGE_PX - 1) / 2
    radius = np.hypot(*np.meshgrid(place, place))
    inner, outer = np.hypot(SMALL_PX / 2, SMALL_PX / 2), radius.max()
    share = np.clip((radius - inner) / (outer - inner), 0, 1)
    return (1 - (1 - FADE) * share).astype(np.float32)


def explained(
    table: NDArray[np.float64], outcome: NDArray[np.float64], folds: KFold, width: int | None = None
) -> float:
    """Return the out-of-fold R2 of ridge regression; `width` asks for components of the trained."""
    found = np.empty(len(outcome))
    for train, test in folds.split(table):
        learned, asked = table[train], table[test]
        if width is not None:
            components = fit_components(learned, width)
            learned, asked = components.transform(learned), components.transform(asked)
        ridge = make_pipeline(StandardScaler(), RidgeCV(np.logspace(-2, 6, 17)))
        found[test] = ridge.fit(learned, outcome[train]).predict(asked)
    return float(1 - ((outcome - found) ** 2).sum() / ((outcome - outcome.mean()) ** 2).sum())


if __name__ == "__main__":
    main(draw, ENTROPY, Path(__file__).parent, REPLICATIONS)
