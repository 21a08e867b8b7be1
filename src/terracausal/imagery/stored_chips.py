"""`open_chips`: the chips of a store, of which nothing is read before it is asked for."""

import math
from collections.abc import Callable, Hashable, Iterator, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import zarr
from numpy.typing import NDArray
from zarr.storage import LocalStore

from terracausal._foundation.errors import ChipReadError, list_some
from terracausal.imagery.chips import Chips
from terracausal.imagery.encoding import Encoding
from terracausal.imagery.shards import PIXELS, file_sha256, read_checksums
from terracausal.imagery.store_format import (
    CHECKSUMS,
    StoreFacts,
    inside,
    read_facts,
    refuse_ways_out,
    unfinished_path,
)
from terracausal.imagery.store_tables import INDEX, RECORDS, SITES, read_index, read_records
from terracausal.imagery.store_tables import read_sites as read_site_table

T = TypeVar("T")
Rows = NDArray[np.intp]

_READ_ERRORS = (OSError, ValueError, RuntimeError)
_BYTES_AT_ONCE = 2**24  # of pixels as float32, read in one call
_NEAR = 2  # rows: to read one chip too many costs less than another call


def open_chips(path: str | PathLike[str]) -> Chips:
    """Open a store of chips.

    Only its metadata and the keys of its sites are read; the manifest when it is first asked for,
    and pixels whenever a chip is.

    Parameters
    ----------
    path : path
        Folder that `Chips.write` made.

    Returns
    -------
    Chips
        Equal to the chips that were written: sites, pixels, manifest and notes.

    Raises
    ------
    ChipReadError
        If there is no store, it is unfinished, damaged, of a newer format version, or leads out of
        its folder. A damaged shard is found when a chip of it is read, and `verify_store` finds
        all of them.

    Examples
    --------
    >>> import tempfile, numpy as np
    >>> from terracausal.imagery.store import write_chips
    >>> chips = Chips.from_arrays(np.ones((2, 1, 1, 2, 2)), sites=["a", "b"], bands=["red"])
    >>> path = write_chips(chips, tempfile.mkdtemp() + "/x.zarr").path
    >>> open_chips(path)["b"].tolist()
    [[[[1.0, 1.0], [1.0, 1.0]]]]
    """
    root = Path(path).absolute()
    if not root.is_dir():
        what = "a file" if root.exists() else "nothing"
        begun = unfinished_path(root)
        hint = (
            f"Writing was interrupted: {begun} is unfinished. Write the same chips to the same "
            "path again to go on."
            if begun.is_dir()
            else "Pass a folder that `Chips.write` made."
        )
        raise ChipReadError(f"`path` must be a store of chips; found {what} at {root}. {hint}")
    refuse_ways_out(root)
    return _StoredChips(root, read_facts(root))


def verify_store(path: str | PathLike[str]) -> int:
    """Compare every file of a store with its checksum.

    Parameters
    ----------
    path : path
        Folder that `Chips.write` made.

    Returns
    -------
    int
        Number of files, all of them as they were written.

    Raises
    ------
    ChipReadError
        If files are missing or changed; the message names them, and the sites that they hold.

    Notes
    -----
    The list is in the format of sha256sum: `cd x.zarr && sha256sum -c checksums.sha256`.

    Examples
    --------
    >>> import tempfile, numpy as np
    >>> from terracausal.imagery.store import write_chips
    >>> chips = Chips.from_arrays(np.ones((2, 1, 1, 2, 2)), sites=["a", "b"], bands=["red"])
    >>> verify_store(write_chips(chips, tempfile.mkdtemp() + "/x.zarr").path)
    6
    """
    root = Path(path).absolute()
    refuse_ways_out(root)
    facts = read_facts(root)
    checksums = read_checksums(root / CHECKSUMS)
    names = {facts.layout.file_name(number) for number in range(facts.layout.n_shards)}
    unlisted = sorted(names - set(checksums))
    damaged = [
        name
        for name, digest in sorted(checksums.items())
        if not inside(root, name).is_file() or file_sha256(root / name) != digest
    ]
    if unlisted or damaged:
        raise ChipReadError(
            f"Every file of a store must be as it was written; of {len(checksums)} files in {root} "
            f"{len(damaged)} are missing or changed ({list_some(damaged)}), and {len(unlisted)} "
            f"shards have no checksum ({list_some(unlisted)}). Copy them again, or write the store "
            "anew."
        )
    return len(checksums)


class StoreReader:
    """Chips read from a store when they are asked for.

    Parameters
    ----------
    root : Path
        Folder of the store.
    facts : StoreFacts
        Its metadata.
    keys : Index
        Site of each row.
    n_times : ndarray of shape (n_sites,)
        Number of times of each chip; what is stored beyond is filling.
    """

    def __init__(
        self, root: Path, facts: StoreFacts, keys: pd.Index, n_times: NDArray[np.int64]
    ) -> None:
        self._root = root
        self._layout = facts.layout
        self._keys = keys
        self._n_times = n_times
        self._array = _open_pixels(root, facts)

    @property
    def encoding(self) -> Encoding:
        """How pixels are stored."""
        return self._layout.encoding

    def read(self, site: Hashable) -> NDArray[np.float32]:
        """Return a new array of shape (n_times, n_bands, height, width)."""
        row = int(self._keys.get_loc(site))  # type: ignore[arg-type]
        return self.encoding.unpack(self._one(row)[: self._n_times[row]])

    def read_many(self, sites: Sequence[Hashable]) -> list[NDArray[np.float32]]:
        """Return what `read` returns for each site, in their order."""
        chips: dict[int, NDArray[np.float32]] = {}
        for places, rows, stored in self._blocks(sites):
            for place, row, numbers in zip(places, rows, stored, strict=True):
                # a copy, so that the rest of the block can be forgotten
                chips[int(place)] = self.encoding.unpack(numbers[: self._n_times[row]].copy())
        return [chips[place] for place in range(len(sites))]

    def read_into(self, sites: Sequence[Hashable], pixels: NDArray[np.float32]) -> None:
        """Fill an array (n_sites, n_times, n_bands, height, width), NaN beyond the last time."""
        n_times = pixels.shape[1]
        for places, rows, stored in self._blocks(sites):
            pixels[places] = self.encoding.unpack(stored[:, :n_times])
            for place, row in zip(places, rows, strict=True):
                pixels[place, self._n_times[row] :] = np.nan

    def _blocks(self, sites: Sequence[Hashable]) -> Iterator[tuple[Rows, Rows, NDArray[Any]]]:
        """Yield places among the sites, their rows, and their stored numbers, in order of rows.

        Rows that lie together are read by one call, since a call costs more than a chip.
        """
        rows = np.array([self._keys.get_loc(site) for site in sites], dtype=np.intp)
        order = np.argsort(rows, kind="stable")
        ordered = rows[order]
        at_once = max(1, _BYTES_AT_ONCE // (4 * math.prod(self._layout.chip_shape)))
        start = 0
        while start < len(ordered):
            near = ordered[start : start + at_once]
            apart = np.flatnonzero((np.diff(near) > _NEAR) | (near[1:] - near[0] >= at_once))
            stop = start + (int(apart[0]) + 1 if len(apart) else len(near))
            some = ordered[start:stop]
            yield order[start:stop], some, self._together(some)
            start = stop

    def _together(self, rows: Rows) -> NDArray[Any]:
        """Return the stored numbers of ascending rows, read by one call."""
        first, last = int(rows[0]), int(rows[-1])
        try:
            stored = self._stored(first, last + 1)
        except _READ_ERRORS:
            # one by one, so that the error names the site, and no other one stands in the way
            return np.stack([self._one(int(row)) for row in rows])
        chosen: NDArray[Any] = stored[rows - first]
        return chosen

    def _one(self, row: int) -> NDArray[Any]:
        """Return the stored numbers of one row, or say of which site they cannot be read."""
        try:
            block = self._stored(row, row + 1)
        except _READ_ERRORS as error:
            shard = self._layout.file_name(row // self._layout.sites_per_shard)
            raise ChipReadError(
                f"Site {list_some([self._keys[row]])}: {self._root / shard} could not be read "
                f"({error}). Copy the store again, or write it anew; `verify_store` finds what "
                "else is damaged."
            ) from error
        first: NDArray[Any] = block[0]
        return first

    def _stored(self, start: int, stop: int) -> NDArray[Any]:
        """Return the stored numbers of the rows from `start` to before `stop`."""
        size = self._layout.sites_per_shard
        for number in range(start // size, (stop - 1) // size + 1):
            if not (self._root / self._layout.file_name(number)).is_file():
                # zarr would take an absent shard for one without data
                raise FileNotFoundError("the file is missing")
        return np.asarray(self._array[start:stop])

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_array": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        # an open array belongs to its process
        self._array = zarr.open_array(LocalStore(self._root / PIXELS, read_only=True), mode="r")


class _StoredChips(Chips):
    """Chips of a store; tables that only some users need are read when they are first asked for."""

    def __init__(self, root: Path, facts: StoreFacts) -> None:
        self._root = root
        self._facts = facts
        self._keys, n_times = _index(root, facts)
        self._reader = StoreReader(root, facts, self._keys, n_times)
        self._bands = facts.bands
        self._size_px = facts.layout.chip_shape[2:]
        self._times = facts.times
        self._crs, self._resolution_m = facts.crs, facts.resolution_m
        self._notes = facts.notes
        self._arguments = dict(facts.provenance.get("arguments", {}))
        self._n_times = facts.layout.chip_shape[0]
        self._is_stale = False

    def __getattr__(self, name: str) -> Any:
        # what `Chips` keeps of sites and records is missing until somebody needs it
        state = self.__dict__
        if (
            not name.startswith("_")
            or name.startswith("__")
            or "_facts" not in state
            or ("_sites" in state)
        ):
            raise AttributeError(f"{type(self).__name__!r} has no attribute {name!r}")
        facts, arguments = self._facts, self._arguments
        super().__init__(
            self._reader,
            _table(self._root, SITES, read_site_table),
            _table(self._root, RECORDS, read_records),
            facts.bands,
            facts.layout.chip_shape[2:],
            times=facts.times,
            grid=(facts.crs, facts.resolution_m),
            notes=facts.notes,
        )
        self._arguments = arguments
        return getattr(self, name)

    @property
    def keys(self) -> pd.Index:
        """Keys of the sites that have a chip, in the order in which they were given."""
        return self._keys


def _table(root: Path, name: str, read: Callable[[Path], T]) -> T:
    try:
        return read(root / name)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ChipReadError(
            f"The table {name} of the store at {root} cannot be read ({error}). Copy the store "
            "again, or write it anew; `verify_store` finds what else is damaged."
        ) from error


def _index(root: Path, facts: StoreFacts) -> tuple[pd.Index, NDArray[np.int64]]:
    keys, n_times = _table(root, INDEX, read_index)
    layout = facts.layout
    if len(keys) != layout.n_sites or n_times.max() != layout.chip_shape[0] or n_times.min() < 1:
        raise ChipReadError(
            f"The store at {root} must list {layout.n_sites} sites with 1 to "
            f"{layout.chip_shape[0]} times in {INDEX}; found {len(keys)} with {n_times.min()} to "
            f"{n_times.max()}. Copy the store again, or write it anew."
        )
    return keys, n_times


def _open_pixels(root: Path, facts: StoreFacts) -> Any:
    layout = facts.layout
    try:
        array = zarr.open_array(LocalStore(root / PIXELS, read_only=True), mode="r")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ChipReadError(
            f"The pixels of the store at {root} cannot be opened ({type(error).__name__}: {error})."
            " Copy the store again, or write it anew."
        ) from error
    found = (array.shape, array.chunks, array.shards, str(array.dtype))
    expected = (
        (layout.n_sites, *layout.chip_shape),
        (1, *layout.chip_shape),
        (layout.sites_per_shard, *layout.chip_shape),
        layout.encoding.dtype,
    )
    if found != expected:
        raise ChipReadError(
            f"The pixels of the store at {root} must have shape, chunks, shards and dtype "
            f"{expected}; found {found}. Copy the store again, or write it anew."
        )
    names = {layout.file_name(number) for number in range(layout.n_shards)}
    absent = sorted(names - {f"{PIXELS}/{entry.name}" for entry in (root / PIXELS).iterdir()})
    if absent:
        raise ChipReadError(
            f"The store at {root} must have {layout.n_shards} shards; {len(absent)} are missing: "
            f"{list_some(absent)}. Copy the store again, or write it anew."
        )
    return array
