"""Readers: where a chip comes from when it is asked for."""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from terracausal._foundation.errors import BandError, list_some

_EXACT = 2**24  # the largest range of integers that float32 holds without rounding


class ChipReader(Protocol):
    """Anything that returns the pixels of a site."""

    def read(self, site: Hashable) -> NDArray[np.float32]:
        """Return a new array of shape (n_times, n_bands, height, width), NaN where missing."""
        ...


@runtime_checkable
class BatchReader(Protocol):
    """A reader that is quicker when it is asked for many sites at once."""

    def read_many(self, sites: Sequence[Hashable]) -> list[NDArray[np.float32]]:
        """Return what `read` returns for each site, in their order."""
        ...


def read_each(reader: ChipReader, sites: Sequence[Hashable]) -> list[NDArray[np.float32]]:
    """Return the pixels of sites, read together where the reader can."""
    if isinstance(reader, BatchReader):
        return reader.read_many(sites)
    return [reader.read(site) for site in sites]


def read_stacked(
    reader: ChipReader, sites: Sequence[Hashable], shape: tuple[int, ...]
) -> NDArray[np.float32]:
    """Return the pixels of sites as one array, shorter sequences filled up with NaN.

    Parameters
    ----------
    reader : ChipReader
        Of the sites.
    sites : sequence of site keys
        In the order of the first axis.
    shape : tuple of int
        (n_times, n_bands, height, width), with the largest number of times.

    Returns
    -------
    ndarray of shape (n_sites, n_times, n_bands, height, width)
        float32.
    """
    pixels = np.empty((len(sites), *shape), dtype=np.float32)
    read_into = getattr(reader, "read_into", None)
    if callable(read_into):
        read_into(sites, pixels)
        return pixels
    for row, chip in enumerate(read_each(reader, sites)):
        fill_row(pixels[row], chip)
    return pixels


def fill_row(row: NDArray[np.float32], chip: NDArray[np.float32]) -> None:
    """Write a chip into a row (n_times, n_bands, height, width), NaN where it has no more times."""
    row[: len(chip)] = chip
    row[len(chip) :] = np.nan


class ViewReader:
    """Some bands and some times of the chips of another reader.

    Parameters
    ----------
    reader : ChipReader
        Of the whole chips.
    positions : tuple of int or None
        Of the bands to keep; None keeps all.
    times : mapping of site to tuple of int, or None
        Positions of the times to keep; None keeps all.
    """

    def __init__(
        self,
        reader: ChipReader,
        positions: tuple[int, ...] | None,
        times: Mapping[Hashable, tuple[int, ...]] | None,
    ) -> None:
        self._reader = reader
        self._positions = positions
        self._times = times

    def read(self, site: Hashable) -> NDArray[np.float32]:
        """Return a new array of shape (n_times, n_bands, height, width)."""
        return self._part(site, self._reader.read(site))

    def read_many(self, sites: Sequence[Hashable]) -> list[NDArray[np.float32]]:
        """Return what `read` returns for each site, in their order."""
        chips = read_each(self._reader, sites)
        return [self._part(site, chip) for site, chip in zip(sites, chips, strict=True)]

    def only(self, sites: Sequence[Hashable]) -> "ViewReader":
        """Return a reader of some sites."""
        return ViewReader(only_sites(self._reader, sites), self._positions, self._times)

    def _part(self, site: Hashable, chip: NDArray[np.float32]) -> NDArray[np.float32]:
        if self._times is not None:
            chip = chip[list(self._times[site])]
        return chip if self._positions is None else chip[:, list(self._positions)]


def only_sites(reader: ChipReader, sites: Sequence[Hashable]) -> ChipReader:
    """Return a reader that need not know other sites, where a reader can be made smaller."""
    only = getattr(reader, "only", None)
    return only(sites) if callable(only) else reader


class ArrayReader:
    """Chips held in memory, in the dtype in which they were given.

    Parameters
    ----------
    array : ndarray of shape (n_sites, n_times, n_bands, height, width)
        Copied, unless it is read-only.
    keys : Index of length n_sites
        Site of each row.
    """

    def __init__(self, array: NDArray[Any], keys: pd.Index) -> None:
        if array.flags.writeable:
            array = array.copy()
            array.flags.writeable = False
        self._array = array
        self._row = {key: row for row, key in enumerate(keys)}

    def read(self, site: Hashable) -> NDArray[np.float32]:
        """Return a new array of shape (n_times, n_bands, height, width)."""
        return to_float32(self._array[self._row[site]])


def to_float32(values: NDArray[Any]) -> NDArray[np.float32]:
    """Return a float32 copy in which every integer keeps its number and masked values are NaN.

    Raises
    ------
    ValueError
        If an integer is too large for float32 or a value is infinite.

    Examples
    --------
    >>> to_float32(np.array([10001], dtype=np.uint16))
    array([10001.], dtype=float32)
    """
    if values.dtype.kind not in "buif":
        raise ValueError(f"Pixels must be real numbers; found dtype {values.dtype}.")
    plain = np.ma.getdata(values)
    if plain.dtype.kind in "ui" and plain.dtype.itemsize > 2 and plain.size:
        kept = plain[~np.ma.getmaskarray(values)]
        too_large = int(((kept > _EXACT) | (kept < -_EXACT)).sum())
        if too_large:
            raise ValueError(
                f"Integers must lie within ±{_EXACT:,} to keep their number in float32; "
                f"{too_large} of {kept.size} do not. Scale them first, or mark them as nodata."
            )
    with np.errstate(over="ignore"):
        result: NDArray[np.float32] = np.array(plain, dtype=np.float32)
    if np.ma.is_masked(values):
        result[np.ma.getmaskarray(values)] = np.nan
    infinite = int(np.isinf(result).sum()) if plain.dtype.kind == "f" else 0
    if infinite:
        raise ValueError(
            f"Pixels must be finite or NaN; {infinite} of {result.size} are infinite in float32. "
            "Replace them by NaN where they mean missing."
        )
    return result


def band_tuple(bands: Sequence[str]) -> tuple[str, ...]:
    """Return the band names if they are text and unique, else raise a `BandError`."""
    if isinstance(bands, str):
        raise BandError(f"`bands` must be a sequence of names; got the one text {bands!r}.")
    names = tuple(bands)
    if not all(isinstance(name, str) and name for name in names):
        raise BandError(f"Band names must be text; got {list_some(names, 20)}.")
    doubled = sorted({name for name in names if names.count(name) > 1})
    if doubled:
        raise BandError(
            f"Band names must be unique; {list_some(doubled)} stand more than once in "
            f"{list_some(names, 20)}."
        )
    return names
