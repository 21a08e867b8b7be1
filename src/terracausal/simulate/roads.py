"""Roads: where they run, what they are made of, and how much of each pixel they cover."""

import numpy as np
from numpy.typing import NDArray

from terracausal.simulate.networks import (
    NearestLine,
    grid_graph,
    smooth_positions,
    spanning_paths,
)
from terracausal.simulate.spectral import fractal_noise, soft_step
from terracausal.simulate.terrain import Terrain


def travel_cost(
    terrain: Terrain, resolution_m: float, generator: np.random.Generator
) -> NDArray[np.float32]:
    """Price a road through each pixel: slopes, bridges, and detours that nobody can explain.

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
    ndarray of shape (size_px, size_px)
        Cost of a pixel, about 1 on flat ground.
    """
    size_px = terrain.water.shape[0]
    detour = fractal_noise(size_px, generator, correlation_px=2_500.0 / resolution_m, decay=3.0)
    cost = np.exp(0.35 * detour) + 40.0 * terrain.slope**2 + 6.0 * terrain.slope
    # a bridge is dear, and dearer over a wide river
    return np.asarray(cost + 25.0 * terrain.water, dtype=np.float32)


def connect_places(
    places: NDArray[np.intp],
    cost: NDArray[np.float32],
    to_road_px: NDArray[np.float32] | None,
    extra_share: float,
    generator: np.random.Generator,
) -> NDArray[np.float64]:
    """Connect places by least-cost roads on a coarse grid, and smooth their bends.

    Parameters
    ----------
    places : ndarray of shape (n_places, 2)
        Rows and columns.
    cost : ndarray of shape (size_px, size_px)
        Cost of a road through each pixel.
    to_road_px : ndarray of shape (size_px, size_px) or None
        Distance to roads that exist already and are cheap to follow.
    extra_share : float
        Number of roads beyond those that are needed, as a share of the number of places.
    generator : numpy.random.Generator
        The source of randomness.

    Returns
    -------
    ndarray of shape (n_lines, 2, 2)
        Start and end of each straight piece, by row and column.
    """
    size_px = cost.shape[0]
    step = max(1, size_px // 256)
    grid = cost[::step, ::step].astype(np.float64)
    if to_road_px is not None:
        grid = np.where(to_road_px[::step, ::step] < step, 0.25, grid)
    side = grid.shape[0]
    nodes = np.minimum(places // step, side - 1)
    sources = np.unique(nodes[:, 0] * side + nodes[:, 1])
    edges = spanning_paths(grid_graph(grid), sources, extra_share)
    own = np.arange(side**2)
    positions = np.column_stack([own // side, own % side]).astype(np.float64) * step
    positions += generator.normal(scale=0.3 * step, size=positions.shape)
    positions[nodes[:, 0] * side + nodes[:, 1]] = places
    return np.asarray(smooth_positions(positions, edges, sources, n_rounds=10)[edges])


def grade_roads(
    roads: NDArray[np.float64], towns: NDArray[np.intp], to_town_m: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Give tarmac to the roads near towns.

    Parameters
    ----------
    roads : ndarray of shape (n_lines, 2, 2)
        Start and end of each piece.
    towns : ndarray of shape (n_towns, 2)
        Rows and columns.
    to_town_m : ndarray of shape (size_px, size_px)
        Distance to the nearest town.

    Returns
    -------
    ndarray of shape (n_lines,)
        2 for tarmac and 1 for murram.
    """
    middle = np.clip(np.rint(roads.mean(axis=1)).astype(np.intp), 0, to_town_m.shape[0] - 1)
    reach_m = 2_500.0 if len(towns) > 1 else 1_500.0
    return np.where(to_town_m[middle[:, 0], middle[:, 1]] < reach_m, 2.0, 1.0)


def cover_roads(
    main: NearestLine, minor: NearestLine, resolution_m: float
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Measure how much of each pixel roads cover; verges count as earth.

    Parameters
    ----------
    main : NearestLine
        Through roads, with values as in `grade_roads`.
    minor : NearestLine
        Tracks.
    resolution_m : float
        Ground size of a pixel.

    Returns
    -------
    paved, unpaved : ndarray of shape (size_px, size_px)
        Shares of tarmac and of earth.
    """

    def cover(distance_px: NDArray[np.float32], width_m: float) -> NDArray[np.float32]:
        inside = 0.5 * width_m / resolution_m + 0.5 - distance_px
        share = np.clip(inside, 0.0, 1.0) * np.minimum(width_m / resolution_m, 1.0)
        return np.asarray(share, dtype=np.float32)

    paved = np.where(main.value > 1.5, cover(main.distance_px, 12.0), 0.0).astype(np.float32)
    murram = cover(main.distance_px, 24.0) * np.where(main.value > 1.5, 0.5, 1.0)
    unpaved = np.maximum(murram, cover(minor.distance_px, 8.0))
    return paved, unpaved.astype(np.float32)


def cover_streets(
    density: NDArray[np.float32], resolution_m: float, generator: np.random.Generator
) -> NDArray[np.float32]:
    """Lay a grid of streets where buildings are dense.

    Parameters
    ----------
    density : ndarray of shape (size_px, size_px)
        Buildings per km².
    resolution_m : float
        Ground size of a pixel.
    generator : numpy.random.Generator
        The source of randomness.

    Returns
    -------
    ndarray of shape (size_px, size_px)
        Share of the pixel under streets.
    """
    size_px = density.shape[0]
    angle = generator.uniform(0, np.pi / 2)
    row, column = np.ogrid[:size_px, :size_px]
    share = np.zeros_like(density)
    for turn, block_m in ((angle, 130.0), (angle + np.pi / 2, 190.0)):
        across = (row * np.sin(turn) + column * np.cos(turn)) * resolution_m
        offset = np.abs(across % block_m - block_m / 2)
        share = np.maximum(share, np.clip((0.5 * resolution_m + 4.0 - offset) / resolution_m, 0, 1))
    return np.asarray(0.45 * share * soft_step(density - 550.0, 120.0), dtype=np.float32)
