"""Land cover: who gets which share of each pixel, from water to roofs to grass and trees."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from terracausal.simulate.fields import Fields
from terracausal.simulate.settlements import Settlements
from terracausal.simulate.spectral import fractal_noise, soft_step
from terracausal.simulate.terrain import Terrain


@dataclass(frozen=True)
class Nature:
    """What grows where nobody builds or ploughs; shares of the natural part of a pixel.

    Parameters
    ----------
    forest, shrub, reeds : ndarray of shape (size_px, size_px)
        Closed canopy, bushes, and swamp plants along the rivers.
    green_grass, dry_grass, burnt : ndarray of shape (size_px, size_px)
        Grassland by its state; burnt is the scar of a bush fire.
    soil, rock : ndarray of shape (size_px, size_px)
        Bare ground.
    """

    forest: NDArray[np.float32]
    shrub: NDArray[np.float32]
    reeds: NDArray[np.float32]
    green_grass: NDArray[np.float32]
    dry_grass: NDArray[np.float32]
    burnt: NDArray[np.float32]
    soil: NDArray[np.float32]
    rock: NDArray[np.float32]


def simulate_nature(
    terrain: Terrain,
    settlements: Settlements,
    resolution_m: float,
    generator: np.random.Generator,
) -> Nature:
    """Let savanna, woodland, swamp and fire divide the land.

    Parameters
    ----------
    terrain : Terrain
        The ground; plants follow moisture and height.
    settlements : Settlements
        People clear trees and keep fires away from their houses.
    resolution_m : float
        Ground size of a pixel.
    generator : numpy.random.Generator
        The source of randomness.

    Returns
    -------
    Nature
        Shares that add up to 1.
    """

    def field(correlation_m: float, decay: float) -> NDArray[np.float32]:
        return fractal_noise(
            terrain.water.shape[0],
            generator,
            correlation_px=max(correlation_m / resolution_m, 2.0),
            decay=decay,
        )

    high = (terrain.elevation_m - terrain.elevation_m.mean()) / 60.0
    riparian = np.exp(-terrain.distance_to_river_m / (70.0 + 2.0 * terrain.river_width_m))
    moisture = 0.8 * field(9_000.0, 3.2) + 1.2 * riparian + 0.35 * high
    cleared = np.log1p(ndimage.gaussian_filter(settlements.buildings_per_km2, 300.0 / resolution_m))
    clumps = field(260.0, 2.6)
    trees = 0.8 * field(5_000.0, 3.0) + 0.45 * moisture + 0.55 * clumps + 0.7 * riparian
    trees += 4.0 * np.minimum(terrain.slope, 0.3) - 0.28 * cleared - 1.35
    forest = soft_step(trees.astype(np.float32), 0.32)
    shrub = (1.0 - forest) * soft_step((trees + 0.75 + 0.3 * field(120.0, 2.0)), 0.4) * 0.75
    width_of_swamp = 35.0 + 3.2 * terrain.river_width_m
    swamp = (1.15 - terrain.distance_to_river_m / width_of_swamp) + 0.35 * clumps
    swamp -= 12.0 * terrain.slope + 0.6 * (terrain.river_width_m < 8.0)
    reeds = soft_step(swamp.astype(np.float32), 0.12)
    rock = soft_step((terrain.slope - 0.40 + 0.05 * clumps).astype(np.float32), 0.03)
    open_land = (1.0 - reeds) * (1.0 - rock) * (1.0 - forest - shrub)
    fire = field(2_600.0, 3.3) - 1.25 - 0.22 * cleared + 0.10 * clumps - 0.25 * moisture
    burnt = 0.85 * soft_step(fire.astype(np.float32), 0.035) * open_land
    soil = (0.06 + 0.16 * soft_step(field(700.0, 2.8) - 0.9, 0.3)) * (open_land - burnt)
    grass = open_land - burnt - soil
    greenness = soft_step((moisture + 0.4 * field(500.0, 3.0)).astype(np.float32), 0.55)
    dry_land = (1.0 - reeds) * (1.0 - rock)
    return Nature(
        forest * dry_land,
        shrub * dry_land,
        reeds,
        grass * greenness,
        grass * (1.0 - greenness),
        burnt,
        soil,
        rock * (1.0 - reeds),
    )


def share_pixels(
    terrain: Terrain,
    settlements: Settlements,
    fields: Fields,
    nature: Nature,
    *,
    resolution_m: float,
    generator: np.random.Generator,
) -> dict[str, NDArray[np.float32]]:
    """Divide each pixel among materials: water, roofs, roads, yards, fields, then nature.

    Parameters
    ----------
    terrain : Terrain
        Gives the water.
    settlements : Settlements
        Gives roofs, roads and the trodden ground around them.
    fields : Fields
        Gives crops, and trees on their boundaries.
    nature : Nature
        Takes what is left.
    resolution_m : float
        Ground size of a pixel.
    generator : numpy.random.Generator
        The source of randomness, for the colours of the soil.

    Returns
    -------
    dict of str to ndarray of shape (size_px, size_px)
        Shares of the materials of `SPECTRA`, which add up to 1.
    """
    size_px = terrain.water.shape[0]
    red = soft_step(fractal_noise(size_px, generator, correlation_px=6e3 / resolution_m), 0.6)
    pale = 0.35 * soft_step(
        fractal_noise(size_px, generator, correlation_px=1.2e3 / resolution_m) - 0.8, 0.4
    )
    silt = soft_step(fractal_noise(size_px, generator, correlation_px=8e3 / resolution_m), 0.8)
    land = 1.0 - terrain.water
    roof = settlements.roof * land
    paved = settlements.paved * (land - roof)
    earth = settlements.unpaved * (land - roof - paved)
    left = land - roof - paved - earth
    near_houses = ndimage.gaussian_filter(settlements.roof, 28.0 / resolution_m)
    yard = left * (0.62 * (1.0 - np.exp(-near_houses / 0.05)))
    left = left - yard
    # weeds, stubble and single trees stand in every field
    field = left * fields.cropland * 0.82
    hedge = (left - left * fields.cropland) * fields.hedge
    wild = left - field - hedge
    ploughed = field * fields.bare
    bare = 0.7 * yard + wild * nature.soil
    shares = {
        "clear_water": terrain.water * (1.0 - silt),
        "silty_water": terrain.water * silt,
        "forest": wild * nature.forest + 0.4 * hedge + 0.17 * yard,
        "shrub": wild * nature.shrub + 0.6 * hedge,
        "green_grass": wild * nature.green_grass,
        "dry_grass": wild * nature.dry_grass + 0.13 * yard,
        "reeds": wild * nature.reeds,
        "green_crop": field * fields.green,
        "ripe_crop": field * fields.ripe,
        "red_soil": bare * (1.0 - pale) * (0.5 + 0.5 * red) + ploughed * 0.65 * red,
        "dark_soil": bare * (1.0 - pale) * (0.5 - 0.5 * red) + ploughed * (1.0 - 0.65 * red),
        "murram": earth,
        "pale_soil": bare * pale,
        "rock": wild * nature.rock,
        "burnt": wild * nature.burnt,
        "metal_roof": roof * settlements.metal,
        "thatch": roof * (1.0 - settlements.metal),
        "tarmac": paved,
    }
    return {name: share.astype(np.float32) for name, share in shares.items()}
