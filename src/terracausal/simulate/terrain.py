"""Terrain shaped by running water: elevation, rivers and the light on the slopes.

The elevation follows the steady state of the stream-power law: along a river, slope falls with the
drained area A as A^-θ, so heights are a sum over the way to the outlet. [1]_

References
----------
.. [1] Whipple, K. X. and Tucker, G. E. (1999). Dynamics of the stream-power river incision model.
   Journal of Geophysical Research 104(B8), 17661-17674. https://doi.org/10.1029/1999JB900120
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from terracausal.simulate.networks import (
    accumulate_upstream,
    draw_lines,
    grid_graph,
    nearest_source_tree,
    smooth_positions,
    sum_downstream,
)
from terracausal.simulate.spectral import fractal_noise

_RANGE_M = 14_000.0  # spacing of hills and basins
_CONCAVITY = 0.42  # θ; field values lie between 0.35 and 0.6
_CHANNEL_AREA_KM2 = 1.1  # drained area at which a channel is wide enough to be mapped
_SUN_AZIMUTH_DEG, _SUN_ZENITH_DEG = 62.0, 38.0  # mid-morning pass near the equator


@dataclass(frozen=True)
class Terrain:
    """The physical ground, before plants and people.

    Parameters
    ----------
    elevation_m : ndarray of shape (size_px, size_px)
        Height above sea level.
    slope : ndarray of shape (size_px, size_px)
        Rise over run.
    illumination : ndarray of shape (size_px, size_px)
        Light on the slope relative to light on flat ground.
    water : ndarray of shape (size_px, size_px)
        Share of the pixel under water, 0 to 1.
    distance_to_river_m : ndarray of shape (size_px, size_px)
        Distance to the nearest channel's centre line.
    river_width_m : ndarray of shape (size_px, size_px)
        Width of that channel.
    """

    elevation_m: NDArray[np.float32]
    slope: NDArray[np.float32]
    illumination: NDArray[np.float32]
    water: NDArray[np.float32]
    distance_to_river_m: NDArray[np.float32]
    river_width_m: NDArray[np.float32]


def simulate_terrain(size_px: int, resolution_m: float, generator: np.random.Generator) -> Terrain:
    """Draw a terrain with a drainage network.

    Parameters
    ----------
    size_px : int
        Height and width.
    resolution_m : float
        Ground size of a pixel.
    generator : numpy.random.Generator
        The source of randomness.

    Returns
    -------
    Terrain
        Elevation, light and water on the same pixels.
    """
    step = max(1, size_px // 400)
    side = -(-size_px // step)
    cell_m = step * resolution_m
    side_m = size_px * resolution_m
    rough = fractal_noise(side, generator, correlation_px=_RANGE_M / cell_m, decay=3.4)
    # every field has standard deviation 1; a small window on the same land has less relief
    rough *= min(1.0, side_m / _RANGE_M) ** 0.7
    height, parent, area_km2 = _erode(rough.astype(np.float64), cell_m)
    fine = fractal_noise(size_px, generator, correlation_px=1_500.0 / resolution_m, decay=3.8)
    fine *= min(1.0, side_m / 1_500.0) ** 0.9
    elevation = _resample(height, size_px, step) + 3.0 * fine
    positions = _channel_positions(side, parent, area_km2, generator, cell_m)
    is_channel = area_km2 > _CHANNEL_AREA_KM2
    nodes = np.flatnonzero(is_channel & (parent != np.arange(parent.size)))
    width_m = np.minimum(4.0 * area_km2[nodes] ** 0.55, 240.0)
    lines = draw_lines(positions[nodes] * step, positions[parent[nodes]] * step, width_m, size_px)
    distance_m = lines.distance_px * np.float32(resolution_m)
    inside = 0.5 * lines.value - distance_m
    # a narrow channel fills only a part of a pixel, whatever its place in it
    water = np.clip(inside / resolution_m + 0.5, 0.0, 1.0)
    water = np.minimum(water, np.clip(lines.value / resolution_m, 0.0, 1.0))
    slope, light = _slope_and_light(elevation, resolution_m)
    return Terrain(
        elevation.astype(np.float32),
        slope,
        light,
        water.astype(np.float32),
        np.minimum(distance_m, np.float32(size_px * resolution_m)),
        lines.value,
    )


def _erode(
    rough: NDArray[np.float64], cell_m: float
) -> tuple[NDArray[np.float64], NDArray[np.intp], NDArray[np.float64]]:
    """Route water over a surface and return its steady-state heights, receivers and areas."""
    side = rough.shape[0]
    surface, height = rough, rough
    for _ in range(2):
        border = np.ones((side, side), dtype=bool)
        border[1:-1, 1:-1] = False
        nodes = np.flatnonzero(border)
        outlets = nodes[surface.ravel()[nodes] <= np.quantile(surface.ravel()[nodes], 0.12)]
        cost = np.exp(1.6 * surface)
        cost[border] *= 8.0  # no river follows the border of the picture
        graph = grid_graph(cost, climb=6.0 * surface)
        _, parent, _ = nearest_source_tree(graph, outlets)
        area_km2 = accumulate_upstream(parent, np.full(side**2, (cell_m / 1_000.0) ** 2))
        own = np.arange(side**2)
        length_km = np.hypot(own // side - parent // side, own % side - parent % side)
        length_km *= cell_m / 1_000.0
        climb = sum_downstream(parent, length_km * (area_km2 + 0.02) ** -_CONCAVITY)
        carved = ndimage.gaussian_filter(climb.reshape(side, side), 75.0 / cell_m)
        height = 12.0 * carved + 55.0 * np.maximum(rough - 0.4, 0.0) ** 1.5 + 10.0 * rough
        surface = (carved - carved.mean()) / carved.std() + 0.5 * rough
    return height + 950.0 - height.min(), parent, area_km2


def _channel_positions(
    side: int,
    parent: NDArray[np.intp],
    area_km2: NDArray[np.float64],
    generator: np.random.Generator,
    cell_m: float,
) -> NDArray[np.float64]:
    """Return rows and columns of the grid's nodes, channels smoothed and made to meander."""
    own = np.arange(side**2)
    positions = np.column_stack([own // side, own % side]).astype(np.float64)
    nodes = np.flatnonzero((area_km2 > 0.5 * _CHANNEL_AREA_KM2) & (parent != own))
    edges = np.column_stack([nodes, parent[nodes]])
    outlets = np.flatnonzero(parent == own)
    positions = smooth_positions(positions, edges, outlets, n_rounds=6)
    for axis in range(2):
        bend = fractal_noise(side, generator, correlation_px=900.0 / cell_m, decay=4.4)
        positions[:, axis] += bend.ravel() * 60.0 / cell_m
    return positions


def _resample(grid: NDArray[np.float64], size_px: int, step: int) -> NDArray[np.float32]:
    """Interpolate a grid with a node at every `step`-th pixel to all pixels."""
    if step == 1:
        return grid.astype(np.float32)
    index = np.arange(size_px) / step
    rows, columns = np.meshgrid(index, index, indexing="ij")
    fine = ndimage.map_coordinates(grid, [rows, columns], order=1, mode="nearest")
    # bilinear facets would show in the hillshade
    return np.asarray(ndimage.gaussian_filter(fine, 0.6 * step), dtype=np.float32)


def _slope_and_light(
    elevation_m: NDArray[np.float32], resolution_m: float
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return slope (rise over run) and illumination relative to flat ground."""
    southward, eastward = np.gradient(elevation_m, np.float32(resolution_m))
    zenith, azimuth = np.deg2rad(_SUN_ZENITH_DEG), np.deg2rad(_SUN_AZIMUTH_DEG)
    towards_sun = eastward * np.sin(azimuth) - southward * np.cos(azimuth)
    norm = np.sqrt(1.0 + southward**2 + eastward**2)
    light = (np.cos(zenith) - np.sin(zenith) * towards_sun) / (norm * np.cos(zenith))
    return (
        np.hypot(southward, eastward).astype(np.float32),
        np.clip(light, 0.25, 1.8).astype(np.float32),
    )
