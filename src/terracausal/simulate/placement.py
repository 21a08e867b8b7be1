"""Draw places at random, weighted, and not too close together."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage


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
