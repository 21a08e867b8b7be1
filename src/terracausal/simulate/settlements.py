"""Where people live: towns, villages, the roads between them and the buildings along the roads."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from terracausal.simulate.networks import (
    NearestLine,
    draw_lines,
    grid_graph,
    smooth_positions,
    spanning_paths,
)
from terracausal.simulate.spectral import fractal_noise, soft_step
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
    towns = place_apart(
        suitability,
        _count(TOWN, limit_m, int(limit_m > 7_000)),
        TOWN.spacing_m / resolution_m,
        generator,
    )
    to_town = _distance_to(towns, size_px) * resolution_m
    suitability_centre = suitability - 4.0 * np.exp(-to_town / 2_500.0)
    centres = place_apart(
        suitability_centre, _count(CENTRE, limit_m, 2), CENTRE.spacing_m / resolution_m, generator
    )
    main_places = np.concatenate([towns, centres])
    ease = _travel_ease(terrain, resolution_m, generator)
    roads = _connect(main_places, ease, None, 0.35, generator)
    is_paved = _class_of_roads(roads, towns, to_town)
    main = draw_lines(roads[:, 0], roads[:, 1], is_paved, size_px)
    to_road = np.minimum(main.distance_px * np.float32(resolution_m), limit_m)
    suitability_hamlet = suitability + 1.6 * np.exp(-to_road / 500.0) - 2.0 * np.exp(-to_town / 900)
    hamlets = place_apart(
        suitability_hamlet, _count(HAMLET, limit_m, 4), HAMLET.spacing_m / resolution_m, generator
    )
    tracks = _connect(np.concatenate([main_places, hamlets]), ease, to_road, 0.12, generator)
    minor = draw_lines(tracks[:, 0], tracks[:, 1], np.ones(len(tracks)), size_px)
    to_track = np.minimum(minor.distance_px * np.float32(resolution_m), to_road)
    near_road = np.exp(-to_track / 90.0) + 0.10
    near_road *= (terrain.water < 0.02) * np.exp(-((terrain.slope / 0.25) ** 2))
    count, roof, metal = _build(
        ((towns, TOWN), (centres, CENTRE), (hamlets, HAMLET)), near_road, resolution_m, generator
    )
    density = ndimage.gaussian_filter(count, 150.0 / resolution_m) * (1_000.0 / resolution_m) ** 2
    paved, unpaved = _road_cover(main, minor, resolution_m)
    streets = _streets(density, resolution_m, generator) * (1.0 - roof)
    return Settlements(
        density.astype(np.float32),
        roof,
        metal,
        paved,
        np.maximum(unpaved, streets).astype(np.float32) * (1 - paved),
        to_road,
        to_track,
    )


def place_apart(
    log_weight: NDArray[np.float32],
    count: int,
    spacing_px: float,
    generator: np.random.Generator,
) -> NDArray[np.intp]:
    """Draw distinct pixels with probability proportional to a weight, no two close together.

    Each pixel gets its log weight plus a Gumbel draw as a key; pixels whose key is the highest
    within `spacing_px` along both axes are kept, the highest keys first.

    Parameters
    ----------
    log_weight : ndarray of shape (height, width)
        Logarithm of the weight; -inf where no place may lie.
    count : int
        Number of places wanted; fewer are returned where they do not fit.
    spacing_px : float
        The least distance along one axis between two places.
    generator : numpy.random.Generator
        The source of randomness.

    Returns
    -------
    ndarray of shape (n_places, 2)
        Rows and columns, the highest key first.

    Examples
    --------
    >>> places = place_apart(np.zeros((9, 9)), 3, 2, np.random.default_rng(0))
    >>> places.shape
    (3, 2)
    """
    key = log_weight + generator.gumbel(size=log_weight.shape)
    reach = max(0, int(np.floor(spacing_px)))
    highest = ndimage.maximum_filter(key, size=2 * reach + 1, mode="constant", cval=-np.inf)
    places = np.argwhere((key == highest) & np.isfinite(key))
    order = np.argsort(-key[places[:, 0], places[:, 1]], kind="stable")
    return np.asarray(places[order[:count]], dtype=np.intp)


def _count(tier: Tier, side_m: float, minimum: int) -> int:
    return max(minimum, round(tier.per_km2 * (side_m / 1_000.0) ** 2))


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


def _travel_ease(
    terrain: Terrain, resolution_m: float, generator: np.random.Generator
) -> NDArray[np.float32]:
    """Return the cost of building a road through each pixel."""
    size_px = terrain.water.shape[0]
    detour = fractal_noise(size_px, generator, correlation_px=2_500.0 / resolution_m, decay=3.0)
    cost = np.exp(0.35 * detour) + 40.0 * terrain.slope**2 + 6.0 * terrain.slope
    # a bridge is dear, and dearer over a wide river
    return np.asarray(cost + 25.0 * terrain.water, dtype=np.float32)


def _connect(
    places: NDArray[np.intp],
    cost: NDArray[np.float32],
    to_road_m: NDArray[np.float32] | None,
    extra_share: float,
    generator: np.random.Generator,
) -> NDArray[np.float64]:
    """Return the lines (n_lines, start or end, row and column) that connect the places."""
    size_px = cost.shape[0]
    step = max(1, size_px // 256)
    grid = cost[::step, ::step].astype(np.float64)
    if to_road_m is not None:
        grid = np.where(to_road_m[::step, ::step] < to_road_m.max() / size_px * step, 0.25, grid)
    side = grid.shape[0]
    nodes = np.minimum(places // step, side - 1)
    sources = np.unique(nodes[:, 0] * side + nodes[:, 1])
    edges = spanning_paths(grid_graph(grid), sources, extra_share)
    own = np.arange(side**2)
    positions = np.column_stack([own // side, own % side]).astype(np.float64) * step
    positions += generator.normal(scale=0.3 * step, size=positions.shape)
    positions[nodes[:, 0] * side + nodes[:, 1]] = places
    return np.asarray(smooth_positions(positions, edges, sources, n_rounds=10)[edges])


def _class_of_roads(
    roads: NDArray[np.float64], towns: NDArray[np.intp], to_town_m: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Return 2 for tarmac (near the towns) and 1 for murram."""
    middle = np.clip(np.rint(roads.mean(axis=1)).astype(np.intp), 0, to_town_m.shape[0] - 1)
    reach_m = 2_500.0 if len(towns) > 1 else 1_500.0
    return np.where(to_town_m[middle[:, 0], middle[:, 1]] < reach_m, 2.0, 1.0)


def _road_cover(
    main: NearestLine, minor: NearestLine, resolution_m: float
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the shares of tarmac and of earth roads; verges count as earth."""

    def cover(distance_px: NDArray[np.float32], width_m: float) -> NDArray[np.float32]:
        inside = 0.5 * width_m / resolution_m + 0.5 - distance_px
        share = np.clip(inside, 0.0, 1.0) * np.minimum(width_m / resolution_m, 1.0)
        return np.asarray(share, dtype=np.float32)

    paved = np.where(main.value > 1.5, cover(main.distance_px, 12.0), 0.0).astype(np.float32)
    murram = cover(main.distance_px, 24.0) * np.where(main.value > 1.5, 0.5, 1.0)
    unpaved = np.maximum(murram, cover(minor.distance_px, 8.0))
    return paved, unpaved.astype(np.float32)


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


def _streets(
    density: NDArray[np.float32], resolution_m: float, generator: np.random.Generator
) -> NDArray[np.float32]:
    """Return the share of a grid of streets where buildings are dense."""
    size_px = density.shape[0]
    angle = generator.uniform(0, np.pi / 2)
    row, column = np.ogrid[:size_px, :size_px]
    share = np.zeros_like(density)
    for turn, block_m in ((angle, 130.0), (angle + np.pi / 2, 190.0)):
        across = (row * np.sin(turn) + column * np.cos(turn)) * resolution_m
        offset = np.abs(across % block_m - block_m / 2)
        share = np.maximum(share, np.clip((0.5 * resolution_m + 4.0 - offset) / resolution_m, 0, 1))
    return np.asarray(0.45 * share * soft_step(density - 550.0, 120.0), dtype=np.float32)
