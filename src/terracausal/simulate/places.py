"""Places of worlds without a map of their own, and smooth fields over them."""

import geopandas as gpd
import numpy as np
import pandas as pd
from numpy.typing import NDArray

_SIDE_M = 300_000.0
_METRES_PER_DEGREE = 111_195.0  # near the equator, where the square lies
_WEST_DEG, _SOUTH_DEG = 32.0, -1.35
_N_WAVES = 400


def scatter_places(n_places: int, generator: np.random.Generator) -> NDArray[np.float64]:
    """Draw places uniformly from a square of 300 km.

    Parameters
    ----------
    n_places : int
    generator : numpy.random.Generator
        The source of randomness.

    Returns
    -------
    ndarray of shape (n_places, 2)
        Metres east and north of the south-western corner.

    Examples
    --------
    >>> scatter_places(3, np.random.default_rng(0)).shape
    (3, 2)
    """
    return generator.uniform(0.0, _SIDE_M, size=(n_places, 2))


def place_points(metres: NDArray[np.float64], keys: pd.Index) -> gpd.GeoDataFrame:
    """Return places as points in degrees, near the equator, where degrees are of one length.

    Parameters
    ----------
    metres : ndarray of shape (n_places, 2)
        From `scatter_places`.
    keys : Index of length n_places
        Keys of the sites.

    Returns
    -------
    GeoDataFrame
        Points in EPSG:4326, by site key.
    """
    lon, lat = (metres / _METRES_PER_DEGREE + [_WEST_DEG, _SOUTH_DEG]).T
    points = gpd.points_from_xy(lon, lat, crs="EPSG:4326")
    return gpd.GeoDataFrame(index=keys, geometry=points)


def smooth_field(
    metres: NDArray[np.float64], range_m: float, generator: np.random.Generator
) -> NDArray[np.float64]:
    """Draw a field with variance 1 and correlation exp(-(d / range_m)² / 2), read at places.

    A sum of random waves (Rahimi & Recht, 2007, Random features for large-scale kernel machines).

    Parameters
    ----------
    metres : ndarray of shape (n_places, 2)
    range_m : float
    generator : numpy.random.Generator
        The source of randomness.

    Returns
    -------
    ndarray of shape (n_places,)

    Examples
    --------
    >>> metres = np.array([[0.0, 0.0], [0.0, 1.0]])
    >>> near = smooth_field(metres, 30_000.0, np.random.default_rng(0))
    >>> bool(abs(near[0] - near[1]) < 1e-3)
    True
    """
    wave = generator.normal(scale=1.0 / range_m, size=(2, _N_WAVES))
    phase = generator.uniform(0.0, 2.0 * np.pi, size=_N_WAVES)
    height = generator.standard_normal(_N_WAVES)
    return np.asarray(np.cos(metres @ wave + phase) @ height * np.sqrt(2.0 / _N_WAVES))
