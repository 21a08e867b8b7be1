"""Fields: blocks of rectangular parcels, each with its crop and its state of growth."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from terracausal.simulate.settlements import Settlements
from terracausal.simulate.spectral import fractal_noise, soft_step
from terracausal.simulate.terrain import Terrain

_BLOCK_M = 850.0  # mean spacing of blocks of fields that share a direction


@dataclass(frozen=True)
class Fields:
    """Cultivated land.

    Parameters
    ----------
    cropland : ndarray of shape (size_px, size_px)
        Share of the pixel that is cultivated.
    green, ripe, bare : ndarray of shape (size_px, size_px)
        Shares of the *field* under leafy crops, ripe or harvested crops, and ploughed soil.
        They add up to 1.
    hedge : ndarray of shape (size_px, size_px)
        Share of the field's pixel taken by boundaries (hedges, trees, paths).
    """

    cropland: NDArray[np.float32]
    green: NDArray[np.float32]
    ripe: NDArray[np.float32]
    bare: NDArray[np.float32]
    hedge: NDArray[np.float32]


def simulate_fields(
    terrain: Terrain,
    settlements: Settlements,
    resolution_m: float,
    generator: np.random.Generator,
) -> Fields:
    """Divide the land into parcels and cultivate those that are worth it.

    Parameters
    ----------
    terrain : Terrain
        The ground.
    settlements : Settlements
        The people who till it.
    resolution_m : float
        Ground size of a pixel.
    generator : numpy.random.Generator
        The source of randomness.

    Returns
    -------
    Fields
        Cover and crop states on the terrain's pixels.
    """
    size_px = terrain.water.shape[0]
    parcel, edge_m = _parcels(size_px, resolution_m, generator)
    n_parcels = int(parcel.max()) + 1
    worth = _worth(terrain, settlements, resolution_m, generator)
    size = np.bincount(parcel.ravel(), minlength=n_parcels)
    mean_worth = np.bincount(parcel.ravel(), weights=worth.ravel(), minlength=n_parcels) / size
    fate = generator.logistic(scale=0.45, size=n_parcels)
    is_tilled = (mean_worth + fate > 0.0).astype(np.float32)
    # neighbours sow alike: a regional season plus each parcel's own delay, in days
    season = fractal_noise(size_px, generator, correlation_px=4_000.0 / resolution_m, decay=3.0)
    row_sum = np.bincount(parcel.ravel(), weights=season.ravel(), minlength=n_parcels) / size
    day = 62.0 + 20.0 * row_sum + generator.normal(scale=26.0, size=n_parcels)
    green, ripe = _phenology(day)
    hedge_share = np.clip((0.5 * resolution_m + 3.0 - edge_m) / resolution_m, 0.0, 1.0)
    hedge_share *= min(1.0, 10.0 / resolution_m)
    off_water = np.clip(1.0 - 4.0 * terrain.water, 0.0, 1.0)
    cropland = is_tilled[parcel] * off_water * (1.0 - hedge_share)
    lush = 1.0 + 0.12 * fractal_noise(size_px, generator, correlation_px=300.0 / resolution_m)
    green_px = np.clip(green[parcel] * lush, 0.0, 1.0)
    ripe_px = np.clip(ripe[parcel], 0.0, 1.0 - green_px)
    return Fields(
        cropland.astype(np.float32),
        green_px.astype(np.float32),
        ripe_px.astype(np.float32),
        (1.0 - green_px - ripe_px).astype(np.float32),
        (hedge_share * is_tilled[parcel]).astype(np.float32),
    )


def _parcels(
    size_px: int, resolution_m: float, generator: np.random.Generator
) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """Return each pixel's parcel (0, 1, …) and its distance to the parcel's edge in metres.

    Blocks are the Voronoi cells of scattered points; in a block, parcels are rectangles in rows
    that are shifted against each other.
    """
    side_m = size_px * resolution_m
    n_blocks = max(4, round((side_m / _BLOCK_M) ** 2 * 1.3))
    centres = generator.uniform(-0.07 * side_m, 1.07 * side_m, size=(n_blocks, 2))
    axis = np.arange(size_px) * resolution_m
    warp = [
        14.0 * fractal_noise(size_px, generator, correlation_px=900.0 / resolution_m, decay=4.5)
        for _ in range(2)
    ]
    south = (axis[:, None] + warp[0]).ravel()
    east = (axis[None, :] + warp[1]).ravel()
    block = cKDTree(centres).query(np.column_stack([south, east]))[1]
    smooth = fractal_noise(size_px, generator, correlation_px=5_000.0 / resolution_m)
    at_centre = np.clip(np.rint(centres / resolution_m), 0, size_px - 1).astype(np.intp)
    angle = 1.2 * smooth[at_centre[:, 0], at_centre[:, 1]] + generator.normal(
        scale=0.3, size=n_blocks
    )
    width_m = 75.0 * generator.lognormal(sigma=0.35, size=n_blocks)
    length_m = width_m * generator.uniform(1.2, 3.0, size=n_blocks)
    cos, sin = np.cos(angle)[block], np.sin(angle)[block]
    south, east = south - centres[block, 0], east - centres[block, 1]
    across = (cos * east + sin * south) / width_m[block]
    strip = np.floor(across)
    # strips of a block are shifted by the golden ratio, so that corners seldom meet
    along = (cos * south - sin * east) / length_m[block] + 0.618 * strip
    plot = np.floor(along)
    edge_m = np.minimum(
        (0.5 - np.abs(across - strip - 0.5)) * width_m[block],
        (0.5 - np.abs(along - plot - 0.5)) * length_m[block],
    )
    code = (block.astype(np.int64) * 4_096 + strip.astype(np.int64) + 2_048) * 4_096
    code += plot.astype(np.int64) + 2_048
    parcel = np.unique(code, return_inverse=True)[1].reshape(size_px, size_px)
    return parcel.astype(np.intp), edge_m.reshape(size_px, size_px).astype(np.float32)


def _worth(
    terrain: Terrain,
    settlements: Settlements,
    resolution_m: float,
    generator: np.random.Generator,
) -> NDArray[np.float32]:
    """Return the log odds of cultivation: people near, gentle slopes, moist but not flooded."""
    size_px = terrain.water.shape[0]
    reach = ndimage.gaussian_filter(settlements.buildings_per_km2, 450.0 / resolution_m)
    soil = fractal_noise(size_px, generator, correlation_px=3_500.0 / resolution_m, decay=3.2)
    crowded = soft_step(settlements.buildings_per_km2 - 420.0, 90.0)
    flooded = np.exp(-terrain.distance_to_river_m / (40.0 + 2.5 * terrain.river_width_m))
    worth = (
        1.3 * np.log((reach + 4.0) / 34.0)
        + 1.0 * soil
        - 9.0 * np.maximum(terrain.slope - 0.06, 0.0)
    )
    worth += 0.6 * np.exp(-terrain.distance_to_river_m / 1_200.0)
    worth += 0.5 * np.exp(-settlements.distance_to_track_m / 250.0)
    return np.asarray(worth - 4.0 * crowded - 3.0 * flooded, dtype=np.float32)


def _phenology(day: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the green and the ripe share of a crop `day` days after sowing (double logistic)."""
    emerged = 1.0 / (1.0 + np.exp(-(day - 35.0) / 8.0))
    senesced = 1.0 / (1.0 + np.exp(-(day - 95.0) / 9.0))
    return 0.85 * emerged * (1.0 - senesced) + 0.06, 0.7 * emerged * senesced
