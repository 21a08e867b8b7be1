"""Texture: how the grey levels of neighbouring pixels go together (co-occurrence matrices).

References
----------
.. [1] Haralick, R., Shanmugam, K., Dinstein, I. (1973). Textural features for image classification.
   IEEE Transactions on Systems, Man, and Cybernetics 3(6), 610-621.
   https://doi.org/10.1109/TSMC.1973.4309314
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from terracausal._foundation.checks import check_choice, check_count
from terracausal._foundation.errors import list_some
from terracausal._foundation.optional import require
from terracausal._foundation.progress import track
from terracausal._foundation.randomness import canonical_order
from terracausal.imagery import Chips

MEASURES = ("contrast", "dissimilarity", "homogeneity", "energy", "correlation", "entropy")
_PIXELS_LOOKED_AT = 1_000_000  # per band, over all sites
_ANGLES = (0.0, np.pi / 4, np.pi / 2, 3 * np.pi / 4)


@dataclass(frozen=True)
class Texture:
    """What to measure of the texture of each band.

    Pixels are sorted into grey levels that are equally frequent over the fitted chips. A matrix
    counts which levels stand beside which at a distance, in the four directions together and in
    both senses, so that turning a chip by 90 degrees changes nothing.

    Parameters
    ----------
    measures : tuple of str, default=("contrast", "homogeneity", "energy", "correlation")
        Of "contrast", "dissimilarity", "homogeneity", "energy", "correlation" and "entropy", as
        `skimage.feature.graycoprops` defines them; differences are counted in grey levels, and the
        correlation of a chip of one grey level is 1.
    distances_px : tuple of int, default=(1,)
        Distances of the pixels that are compared.
    n_levels : int, default=16
        Number of grey levels, 2 to 255.

    Examples
    --------
    >>> Texture(distances_px=(1, 2)).columns("red")[:5]
    ['red_contrast_1', 'red_homogeneity_1', 'red_energy_1', 'red_correlation_1', 'red_contrast_2']
    """

    measures: tuple[str, ...] = ("contrast", "homogeneity", "energy", "correlation")
    distances_px: tuple[int, ...] = (1,)
    n_levels: int = 16

    def check(self, size_px: tuple[int, int]) -> None:
        """Refuse settings that are out of range for chips of a size.

        Parameters
        ----------
        size_px : tuple of int
            Height and width of the chips.

        Raises
        ------
        ValueError
            With the setting that is out of range.
        """
        for name in self.measures:
            check_choice("measures", name, MEASURES)
        for name, values in (("measures", self.measures), ("distances_px", self.distances_px)):
            if not values:
                raise ValueError(f"`{name}` of a texture must name at least one; it is empty.")
        for distance in self.distances_px:
            if check_count("distances_px", distance) >= min(size_px):
                raise ValueError(
                    f"`distances_px` must be smaller than the chips of {size_px[0]} x {size_px[1]} "
                    f"px; got {distance}."
                )
        if check_count("n_levels", self.n_levels, minimum=2) > 255:
            raise ValueError(f"`n_levels` must be at most 255; got {self.n_levels}.")

    def columns(self, band: str) -> list[str]:
        """Return the names of the measures of a band, in the order of `image_texture`."""
        return [f"{band}_{what}_{px}" for px in self.distances_px for what in self.measures]


def learn_levels(chips: Chips, n_levels: int) -> NDArray[np.float32]:
    """Return the values between which grey levels are equally frequent over the chips.

    Parameters
    ----------
    chips : Chips
        What to learn from. Of each chip about as many pixels are looked at, at even steps, up to a
        million of a band altogether.
    n_levels : int
        Number of grey levels.

    Returns
    -------
    ndarray of shape (n_bands, n_levels - 1)
        Ascending.

    Raises
    ------
    ValueError
        If a band has no valid pixel.
    """
    most = max(1, _PIXELS_LOOKED_AT // chips.n_sites)
    seen: list[list[NDArray[np.float32]]] = [[] for _ in chips.bands]
    ordered = (chips[chips.keys[place]] for place in canonical_order(chips.keys))
    for chip in track(ordered, "learning grey levels", total=chips.n_sites):
        for band, values in zip(seen, chip.swapaxes(0, 1), strict=True):
            valid = values[~np.isnan(values)]
            band.append(valid[:: max(1, -(-len(valid) // most))])
    empty = [
        name for name, parts in zip(chips.bands, seen, strict=True) if not any(map(len, parts))
    ]
    if empty:
        raise ValueError(
            f"Every band needs valid pixels; {list_some(empty)} have none in "
            f"{chips.n_sites} chips. Leave these bands out."
        )
    inner = np.arange(1, n_levels) / n_levels
    return np.stack([np.quantile(np.concatenate(parts), inner) for parts in seen]).astype(
        np.float32
    )


def image_texture(
    image: NDArray[np.float32], edges: NDArray[np.float32], texture: Texture
) -> NDArray[np.float64]:
    """Return the texture of an image, band by band.

    Parameters
    ----------
    image : ndarray of shape (n_bands, height, width)
        Pixels, NaN where missing.
    edges : ndarray of shape (n_bands, n_levels - 1)
        Values between grey levels.
    texture : Texture
        What is measured.

    Returns
    -------
    ndarray of shape (n_bands * n_distances * n_measures,)
        NaN where a band has no two valid pixels at a distance.
    """
    return np.concatenate(
        [
            _measure(co_occurrence(np.searchsorted(cuts, band), np.isnan(band), texture), texture)
            for band, cuts in zip(image, edges, strict=True)
        ]
    )


def co_occurrence(
    levels: NDArray[np.intp], missing: NDArray[np.bool_], texture: Texture
) -> NDArray[np.float64]:
    """Count the pairs of pixels by their grey levels.

    Parameters
    ----------
    levels : ndarray of shape (height, width)
        Grey levels from 0.
    missing : ndarray of shape (height, width)
        Pixels that are left out.
    texture : Texture
        Distances and number of levels.

    Returns
    -------
    ndarray of shape (n_levels, n_levels, n_distances, 1)
        Symmetric; each pair is counted in both senses.
    """
    skimage = require("skimage.feature", needed_by="A texture", extra="texture")
    n_levels = texture.n_levels
    # missing pixels get a level of their own, whose pairs are dropped
    grey = np.where(missing, n_levels, levels).astype(np.uint8)
    counts = skimage.graycomatrix(
        grey, texture.distances_px, _ANGLES, levels=n_levels + 1, symmetric=True
    )
    return np.asarray(counts[:n_levels, :n_levels].sum(axis=3, keepdims=True), dtype=np.float64)


def _measure(pairs: NDArray[np.float64], texture: Texture) -> NDArray[np.float64]:
    skimage = require("skimage.feature", needed_by="A texture", extra="texture")
    # graycoprops returns (n_distances, 1) for each measure
    found = np.stack([skimage.graycoprops(pairs, name)[:, 0] for name in texture.measures], axis=1)
    found[pairs.sum(axis=(0, 1, 3)) == 0] = np.nan
    return found.reshape(-1)
