"""Sites: where a study's chips lie in a landscape, what they show and what is under them."""

import math

import geopandas as gpd
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from terracausal.imagery import Chips
from terracausal.simulate.landscape import Landscape
from terracausal.simulate.placement import place_apart


def enough_px(n_sites: int, size_px: int) -> int:
    """Return a landscape size in which the chips fill at most two fifths of the area.

    Parameters
    ----------
    n_sites : int
        Number of sites.
    size_px : int
        Height and width of a chip.

    Returns
    -------
    int
        A multiple of 64, at least 256.

    Examples
    --------
    >>> enough_px(400, 32)
    1024
    """
    return max(256, 64 * math.ceil(size_px * math.sqrt(2.5 * n_sites) / 64))


def place_sites(
    landscape: Landscape, n_sites: int, size_px: int, generator: np.random.Generator
) -> NDArray[np.intp]:
    """Draw sites where people live, apart from each other as far as they fit.

    Parameters
    ----------
    landscape : Landscape
        Where the sites lie.
    n_sites : int
        Number of sites.
    size_px : int
        Height and width of the chips, which lie inside the landscape.
    generator : numpy.random.Generator
        The source of randomness.

    Returns
    -------
    ndarray of shape (n_sites, 2)
        Row and column of the upper left pixel of each chip, from north to south.

    Raises
    ------
    ValueError
        If the chips or the sites do not fit.
    """
    room = landscape.size_px - size_px + 1
    if room < 1 or room**2 < n_sites:
        raise ValueError(
            f"{n_sites} chips of {size_px} pixels must fit in the landscape; it has "
            f"{landscape.size_px} × {landscape.size_px} pixels. Take fewer sites, smaller chips or "
            "a larger landscape."
        )
    middle = slice(size_px // 2, size_px // 2 + room)
    density = landscape.layers["buildings_per_km2"][middle, middle]
    is_dry = landscape.layers["water"][middle, middle] < 0.5
    log_weight = np.where(is_dry, np.log(density + 1.0), -np.inf)
    spacing = size_px // 2
    places = place_apart(log_weight, n_sites, spacing, generator)
    while len(places) < n_sites and spacing > 0:
        spacing //= 2
        places = place_apart(log_weight, n_sites, spacing, generator)
    if len(places) < n_sites:
        raise ValueError(
            f"`n_sites` must be at most {len(places)}, the number of dry places in this "
            f"landscape; got {n_sites}."
        )
    # north to south: the order of the sites says nothing about the density of people
    return places[np.lexsort((places[:, 1], places[:, 0]))]


def site_points(
    landscape: Landscape, corners: NDArray[np.intp], size_px: int, keys: pd.Index
) -> gpd.GeoDataFrame:
    """Locate the centres of the chips.

    Parameters
    ----------
    landscape : Landscape
        Gives the grid.
    corners : ndarray of shape (n_sites, 2)
        Row and column of the upper left pixel of each chip.
    size_px : int
        Height and width of a chip.
    keys : Index of length n_sites
        Keys of the sites.

    Returns
    -------
    GeoDataFrame
        Points in the landscape's CRS, by site key.
    """
    centre = corners + 0.5 * size_px
    grid = landscape.transform
    east, north = grid.c + grid.a * centre[:, 1], grid.f + grid.e * centre[:, 0]
    points = gpd.points_from_xy(east, north, crs=landscape.crs)
    return gpd.GeoDataFrame(index=keys, geometry=points)


def chip_means(
    layer: NDArray[np.float32], corners: NDArray[np.intp], size_px: int
) -> NDArray[np.float64]:
    """Average a layer over chips, with Gaussian weights that favour the centre.

    Parameters
    ----------
    layer : ndarray of shape (height, width)
        Any quantity on the landscape's pixels.
    corners : ndarray of shape (n_sites, 2)
        Row and column of the upper left pixel of each chip.
    size_px : int
        Height and width of a chip; the weights' standard deviation is a third of it.

    Returns
    -------
    ndarray of shape (n_sites,)
        One mean per site.

    Examples
    --------
    >>> chip_means(np.full((8, 8), 2.0), np.array([[0, 0], [3, 4]]), 4).round(9).tolist()
    [2.0, 2.0]
    """
    offset = np.arange(size_px) - 0.5 * (size_px - 1)
    weight = np.exp(-0.5 * (3.0 * offset / size_px) ** 2)
    weight /= weight.sum()
    chips = _windows(layer, corners, size_px).astype(np.float64)
    return np.asarray((chips * weight).sum(axis=-1) @ weight, dtype=np.float64)


def standardise(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Shift and scale values to mean 0 and standard deviation 1.

    Parameters
    ----------
    values : ndarray of shape (n_sites,)
        A feature.

    Returns
    -------
    ndarray of shape (n_sites,)
        The standardised feature.

    Raises
    ------
    ValueError
        If all values are the same.

    Examples
    --------
    >>> standardise(np.array([1.0, 3.0])).tolist()
    [-1.0, 1.0]
    """
    spread = float(values.std())
    if not spread > 1e-9 * (1.0 + abs(float(values.mean()))):
        raise ValueError(
            f"The image feature must differ between sites; all {values.size} sites have "
            f"{float(values.mean()):.4g}. Take a larger landscape or more sites."
        )
    return np.asarray((values - values.mean()) / spread)


def cut_chips(
    landscape: Landscape, corners: NDArray[np.intp], size_px: int, sites: gpd.GeoDataFrame
) -> Chips:
    """Cut the pixels around the sites out of the image.

    Parameters
    ----------
    landscape : Landscape
        Gives the image.
    corners : ndarray of shape (n_sites, 2)
        Row and column of the upper left pixel of each chip.
    size_px : int
        Height and width of a chip.
    sites : GeoDataFrame
        The sites' points, in the order of `corners`.

    Returns
    -------
    Chips
        One undated chip per site.
    """
    pixels = _windows(landscape.reflectance, corners, size_px)[:, None]
    return Chips.from_arrays(
        pixels,
        sites=sites,
        bands=landscape.bands,
        crs=landscape.crs,
        resolution_m=landscape.resolution_m,
    )


def _windows(
    array: NDArray[np.float32], corners: NDArray[np.intp], size_px: int
) -> NDArray[np.float32]:
    """Cut squares out of the last two axes; the sites become the first axis."""
    rows = corners[:, 0, None, None] + np.arange(size_px)[:, None]
    columns = corners[:, 1, None, None] + np.arange(size_px)[None, :]
    return np.moveaxis(array[..., rows, columns], -3, 0)
