"""Centre crops: the inner part of every chip, read when it is asked for."""

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

from terracausal._foundation.checks import check_count
from terracausal.imagery.chips import Chips
from terracausal.imagery.readers import ChipReader, only_sites, read_each


def centre_crop(chips: Chips, size_px: int) -> Chips:
    """Return chips of `size_px` x `size_px` pixels around the centres of larger ones.

    Parameters
    ----------
    chips : Chips
        At least as large.
    size_px : int
        Height and width in pixels.

    Returns
    -------
    Chips
        For the same sites, times and bands; pixels are read and cut when they are asked for, and
        looked at anew when the manifest is. Where the sizes differ by an odd number of pixels the
        new centre lies half a pixel towards the first row or column.

    Raises
    ------
    ValueError
        If `size_px` is larger than the chips.

    Examples
    --------
    >>> pixels = np.arange(16.0).reshape(1, 1, 1, 4, 4)
    >>> chips = Chips.from_arrays(pixels, sites=["a"], bands=["red"])
    >>> centre_crop(chips, 2)["a"][0, 0].tolist()
    [[5.0, 6.0], [9.0, 10.0]]
    """
    check_crop(chips.size_px, size_px)
    if chips.size_px == (size_px, size_px):
        return chips
    cropped = Chips(
        CropReader(chips._reader, size_px),
        chips.sites,
        chips._found,
        chips.bands,
        (size_px, size_px),
        times=chips.times,
        grid=(chips.crs, chips.resolution_m),
        notes=chips._notes,
    )
    cropped._arguments = chips._arguments
    cropped._is_stale = True
    return cropped


def crop_pixels(pixels: NDArray[np.float32], size_px: int) -> NDArray[np.float32]:
    """Return the centre of images, a view on them.

    Parameters
    ----------
    pixels : ndarray of shape (..., height, width)
        Images at least as large as the crop.
    size_px : int
        Height and width of the crop in pixels.

    Returns
    -------
    ndarray of shape (..., size_px, size_px)
        Starts at row (height - size_px) // 2 and column (width - size_px) // 2.

    Examples
    --------
    >>> crop_pixels(np.arange(5, dtype=np.float32)[None, :], 1).tolist()
    [[2.0]]
    """
    height, width = pixels.shape[-2:]
    top, left = (height - size_px) // 2, (width - size_px) // 2
    return pixels[..., top : top + size_px, left : left + size_px]


def check_crop(chip_px: tuple[int, int], size_px: int) -> None:
    """Raise a `ValueError` if a crop is larger than the chips, with both sizes."""
    check_count("size_px", size_px)
    if size_px > min(chip_px):
        height, width = chip_px
        raise ValueError(
            f"A centre crop of {size_px} x {size_px} px must fit into the chips; these have "
            f"{height} x {width} px. Choose a smaller size, or read larger chips."
        )


class CropReader:
    """The centres of the chips of another reader.

    Parameters
    ----------
    reader : ChipReader
        Of the whole chips.
    size_px : int
        Height and width of the crops in pixels.
    """

    def __init__(self, reader: ChipReader, size_px: int) -> None:
        self._reader = reader
        self._size_px = size_px

    def read(self, site: Hashable) -> NDArray[np.float32]:
        """Return a new array of shape (n_times, n_bands, size_px, size_px)."""
        return self._cut(self._reader.read(site))

    def read_many(self, sites: Sequence[Hashable]) -> list[NDArray[np.float32]]:
        """Return what `read` returns for each site, in their order."""
        return [self._cut(chip) for chip in read_each(self._reader, sites)]

    def only(self, sites: Sequence[Hashable]) -> "CropReader":
        """Return a reader of some sites."""
        return CropReader(only_sites(self._reader, sites), self._size_px)

    def _cut(self, chip: NDArray[np.float32]) -> NDArray[np.float32]:
        # a copy, so that the rest of the chip can be forgotten
        return crop_pixels(chip, self._size_px).copy()
