"""Where people live: towns, villages, the roads between them and the buildings along the roads."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from terracausal.simulate.networks import draw_lines
from terracausal.simulate.placement import place_apart
from terracausal.simulate.roads import (
    connect_places,
    cover_roads,
    cover_streets,
    grade_roads,
    travel_cost,
)
from terracausal.simulate.spectral import fractal_noise
from terracausal.simulate.terrain import Terrain


@dataclass(frozen=True)
class Tier:
    """One size class of settlements.

    Parameters
    ----------
    per_km2 : float
        Number of settlements in a square kilometre of landscape.
    spacing_m : float
        Half the side of the square in which no second one is founded.
    n_buildings : float
        Median number of buildings.
    spread_m : float
        Standard deviation of their distance from the centre along each axis.
    roof_m2 : float
        Median roof area.
    """

    per_km2: float
    spacing_m: float
    n_buildings: float
    spread_m: float
    roof_m2: float


TOWN = Tier(1 / 300, 6_000.0, 6_000.0, 600.0, 70.0)
CENTRE = Tier(1 / 38, 2_000.0, 480.0, 260.0, 55.0)
HAMLET = Tier(1 / 1.9, 330.0, 26.0, 170.0, 32.0)


@dataclass(frozen=True)
class Settlements:
    """People's marks on the ground, apart from fields.

    Parameters
    ----------
    buildings_per_km2 : ndarray of shape (size_px, size_px)
        Density of buildings within some 300 m.
    roof : ndarray of shape (size_px, size_px)
        Share of the pixel under roofs.
    metal : ndarray of shape (size_px, size_px)
        Share of the roofs made of metal sheets rather than thatch.
    paved, unpaved : ndarray of shape (size_px, size_px)
        Share of the pixel under tarmac, and under earth roads, streets and tracks.
    distance_to_road_m : ndarray of shape (size_px, size_px)
        Distance to the nearest through road.
    distance_to_track_m : ndarray of shape (size_px, size_px)
        Distance to the nearest road or track.
    """

    buildings_per_km2: NDArray[np.float32]
    roof: NDArray[np.float32]
    metal: NDArray[np.float32]
    paved: NDArray[np.float32]
    unpaved: NDArray[np.float32]
    distance_to_road_m: NDArray[np.float32]
    distance_to_track_m: NDArray[np.float32]


def simulate_settlements(
    terrain: Terrain, resolution_m: float, generator: np.random.Generator
) -> Settlements:
    """Found settlements, connect them and build.

    Parameters
    ----------
    terrain : Terrain
        The ground.
    resolution_m : float
        Ground size of a pixel.
    generator : numpy.random.Generator
        The source of randomness.

    Returns
    -------
    Settlements
        Roofs and roads on the terrain's pixels.
    """
    size_px = terrain.water.shape[0]
    limit_m = size_px * resolution_m
    suitability = _suitability(terrain, resolution_m, generator)
    towns = _found(TOWN, suitability, int(limit_m > 7_000), resolution_m, generator)
    to_town = _distance_to(towns, size_px) * resolution_m
    apart = suitability - 4.0 * np.exp(-to_town / 2_500.0)
    centres = _found(CENTRE, apart, 2, resolution_m, generator)
    main_places = np.concatenate([towns, centres])
    ease = travel_cost(terrain, resolution_m, generator)
    roads = connect_places(main_places, ease, None, 0.35, generator)
    is_paved = grade_roads(roads, towns, to_town)
    main = draw_lines(roads[:, 0], roads[:, 1], is_paved, size_px)
    to_road = np.minimum(main.distance_px * np.float32(resolution_m), limit_m)
    along = suitability + 1.6 * np.exp(-to_road / 500.0) - 2.0 * np.exp(-to_town / 900)
    hamlets = _found(HAMLET, along, 4, resolution_m, generator)
    all_places = np.concatenate([main_places, hamlets])
    tracks = connect_places(all_places, ease, main.distance_px, 0.12, generator)
    minor = draw_lines(tracks[:, 0], tracks[:, 1], np.ones(len(tracks)), size_px)
    to_track = np.minimum(minor.distance_px * np.float32(resolution_m), to_road)
    near_road = np.exp(-to_track / 90.0) + 0.10
    near_road *= (terrain.water < 0.02) * np.exp(-((terrain.slope / 0.25) ** 2))
    count, roof, metal = _build(
        ((towns, TOWN), (centres, CENTRE), (hamlets, HAMLET)), near_road, resolution_m, generator
    )
    density = ndimage.gaussian_filter(count, 150.0 / resolution_m) * (1_000.0 / resolution_m) ** 2
    paved, unpaved = cover_roads(main, minor, resolution_m)
    streets = cover_streets(density, resolution_m, generator) * (1.0 - roof)
    return Settlements(
        density.astype(np.float32),
        roof,
        metal,
        paved,
        np.maximum(unpaved, streets).astype(np.float32) * (1 - paved),
        to_road,
        to_track,
    )


def _found(
    tier: Tier,
    log_weight: NDArray[np.float32],
    minimum: int,
    resolution_m: float,
    generator: np.random.Generator,
) -> NDArray[np.intp]:
    """Return rows and columns of a tier's settlements."""
    side_m = log_weight.shape[0] * resolution_m
    count = max(minimum, round(tier.per_km2 * (side_m / 1_000.0) ** 2))
    # in a small landscape a place keeps less to itself, so that there is a second one
    spacing_m = min(tier.spacing_m, side_m / 6.0)
    return place_apart(log_weight, count, spacing_m / resolution_m, generator)


def _distance_to(places: NDArray[np.intp], size_px: int) -> NDArray[np.float32]:
    """Return the distance in pixels to the nearest place; a million where there is none."""
    if not len(places):
        return np.full((size_px, size_px), 1e6, dtype=np.float32)
    empty = np.ones((size_px, size_px), dtype=bool)
    empty[places[:, 0], places[:, 1]] = False
    return np.asarray(ndimage.distance_transform_edt(empty), dtype=np.float32)


def _suitability(
    terrain: Terrain, resolution_m: float, generator: np.random.Generator
) -> NDArray[np.float32]:
    """Return the log weight of settling: flat, dry feet, water near, and what nobody knows."""
    size_px = terrain.water.shape[0]
    near_water = np.exp(-terrain.distance_to_river_m / 2_500.0)
    floods = np.exp(-terrain.distance_to_river_m / (60.0 + 3.0 * terrain.river_width_m))
    history = fractal_noise(size_px, generator, correlation_px=7_000.0 / resolution_m, decay=3.0)
    weight = 1.5 * near_water - 5.0 * floods - 9.0 * terrain.slope + 1.1 * history
    margin_px = max(1, size_px // 64)
    weight[terrain.water > 0] = -np.inf
    border = np.ones_like(weight, dtype=bool)
    border[margin_px:-margin_px, margin_px:-margin_px] = False
    weight[border] = -np.inf
    return np.asarray(weight, dtype=np.float32)


def _build(
    places_by_tier: tuple[tuple[NDArray[np.intp], Tier], ...],
    near_road: NDArray[np.float32],
    resolution_m: float,
    generator: np.random.Generator,
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Scatter buildings; return their number, the roof share and the metal share by pixel."""
    size_px = near_road.shape[0]
    pixels, areas, sheets = [], [], []
    for places, tier in places_by_tier:
        n_buildings = tier.n_buildings * generator.lognormal(sigma=0.5, size=len(places))
        home = np.repeat(places, 3 * np.ceil(n_buildings).astype(np.intp), axis=0)
        spread_px = tier.spread_m / resolution_m
        # the mixture over scales gives a dense core and a thin, long edge
        scale = spread_px * generator.lognormal(sigma=0.65, size=(len(home), 1))
        spot = np.rint(home + scale * generator.standard_normal(home.shape)).astype(np.intp)
        inside = ((spot >= 0) & (spot < size_px)).all(axis=1)
        spot = spot[inside]
        stays = generator.random(len(spot)) < near_road[spot[:, 0], spot[:, 1]]
        spot = spot[stays]
        pixels.append(spot[:, 0] * size_px + spot[:, 1])
        areas.append(tier.roof_m2 * generator.lognormal(sigma=0.6, size=len(spot)))
        is_metal = generator.random(len(spot)) < (0.85 if tier.roof_m2 > 50 else 0.4)
        sheets.append(is_metal.astype(np.float64))
    pixel, area, sheet = (np.concatenate(parts) for parts in (pixels, areas, sheets))

    def total(values: NDArray[np.float64] | None) -> NDArray[np.float32]:
        sums = np.bincount(pixel, weights=values, minlength=size_px**2)
        return np.asarray(sums.reshape(size_px, size_px), dtype=np.float32)

    roofed_m2 = total(area)
    metal = total(area * sheet) / np.maximum(roofed_m2, 1e-9)
    # roofs overlap in no pixel: the share saturates at 0.6
    roof = 0.6 * (1.0 - np.exp(-roofed_m2 / resolution_m**2 / 0.6))
    return total(None), roof.astype(np.float32), metal.astype(np.float32)
