"""Shards: the files that hold the pixels of a store, each written at once or not at all.

A shard is written under a temporary name, forced to disk and renamed, so a file with its final
name is complete whatever happened to the process that wrote it.
"""

import errno
import hashlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pandas as pd
import zarr
from numpy.typing import NDArray
from zarr.codecs import Crc32cCodec, ZstdCodec
from zarr.core.buffer import Buffer
from zarr.storage import MemoryStore

from terracausal._foundation.errors import list_some
from terracausal.imagery.encoding import Encoding
from terracausal.imagery.readers import ChipReader, read_each
from terracausal.imagery.records import ChipRecord
from terracausal.imagery.selection import looked_at_all
from terracausal.imagery.store_tables import records_bytes

PIXELS = "pixels"
FOUND = "found"
"""Folder of what was found in the pixels of each finished shard; only in unfinished stores."""
TEMPORARY = ".part"
_ADVICE = {
    errno.ENOSPC: "The disk is full: free some space on it, and write again",
    errno.EDQUOT: "Your share of the disk is used up: free some space, and write again",
    errno.EROFS: "The disk can only be read: choose a `path` on another one",
    errno.EACCES: "You may not write there: choose another `path`, or have the rights changed",
    errno.EPERM: "You may not write there: choose another `path`, or have the rights changed",
}
_LINE = re.compile(r"([0-9a-f]{64})  ([^\n]+)\n")
_LEVEL = 3  # of zstd
_BLOCK_BYTES = 2**20


@dataclass(frozen=True, slots=True)
class ShardLayout:
    """How chips are laid out in shards.

    Parameters
    ----------
    n_sites : int
        Number of chips.
    chip_shape : (int, int, int, int)
        Largest number of times, bands, height, width.
    sites_per_shard : int
        Number of chips in every shard but the last.
    encoding : Encoding
        Of the pixels.

    Examples
    --------
    >>> layout = ShardLayout(5, (1, 2, 4, 4), 2, Encoding())
    >>> layout.n_shards, layout.rows(2), layout.file_name(2)
    (3, range(4, 5), 'pixels/c.2.0.0.0.0')
    """

    n_sites: int
    chip_shape: tuple[int, int, int, int]
    sites_per_shard: int
    encoding: Encoding

    @property
    def n_shards(self) -> int:
        """Number of shards."""
        return -(-self.n_sites // self.sites_per_shard)

    def rows(self, number: int) -> range:
        """Return the rows of the chips in a shard."""
        first = number * self.sites_per_shard
        return range(first, min(first + self.sites_per_shard, self.n_sites))

    def file_name(self, number: int) -> str:
        """Return the name of a shard inside the store."""
        return f"{PIXELS}/c.{number}.0.0.0.0"

    def create(self, n_sites: int, attributes: Mapping[str, Any] | None = None) -> Any:
        """Return an array of `n_sites` chips in memory, with the dict of its files."""
        files: dict[str, Buffer] = {}
        array = zarr.create_array(
            MemoryStore(store_dict=files),
            shape=(n_sites, *self.chip_shape),
            chunks=(1, *self.chip_shape),
            shards=(self.sites_per_shard, *self.chip_shape),
            dtype=self.encoding.dtype,
            compressors=[ZstdCodec(level=_LEVEL), Crc32cCodec()],
            fill_value=self.encoding.fill,
            chunk_key_encoding={"name": "default", "separator": "."},
            dimension_names=("site", "time", "band", "y", "x"),
            attributes=dict(attributes or {}),
            # a chip without data is written too, so that an absent file is a lost one
            config={"write_empty_chunks": True},
        )
        return array, files


@dataclass(frozen=True, slots=True)
class ShardTask:
    """What a worker needs to write one shard.

    Parameters
    ----------
    reader : ChipReader
        Where pixels come from.
    keys : Index of length n_sites
        Sites of the shard.
    n_times : ndarray of shape (n_sites,)
        Number of times of each chip.
    layout : ShardLayout
        Of the store.
    path : Path
        File to write.
    call : str
        Differs for every call of `write_chips`: a cluster remembers results by what a task is made
        of, and would not write the same shard twice.
    records : tuple of list of ChipRecord, default=None
        What was planned for each site, where the pixels are to be looked at; None where the records
        of the store are known.
    """

    reader: ChipReader
    keys: pd.Index
    n_times: NDArray[np.int64]
    layout: ShardLayout
    path: Path
    call: str
    records: tuple[list[ChipRecord], ...] | None = None


@dataclass(frozen=True, slots=True)
class ShardDone:
    """A shard that is on disk."""

    name: str
    sha256: str
    n_sites_read: int


def write_shard(task: ShardTask) -> ShardDone:
    """Read the chips of one shard, each once, and put the shard on disk."""
    chips = read_each(task.reader, list(task.keys))
    data = encode_shard(_packed(task, chips), task.layout)
    if task.records is not None:
        pairs = zip(task.records, chips, strict=True)
        found = [record for old, chip in pairs for record in looked_at_all(old, chip)]
        # first, so that a shard which is there has them
        write_file(found_path(task.path), records_bytes(found))
    write_file(task.path, data)
    name = f"{PIXELS}/{task.path.name}"
    return ShardDone(name, hashlib.sha256(data).hexdigest(), len(task.keys))


def found_path(shard: Path) -> Path:
    """Return the file of what was found in the pixels of a shard."""
    return shard.parent.with_name(FOUND) / f"{shard.name}.parquet"


def encode_shard(block: NDArray[Any], layout: ShardLayout) -> bytes:
    """Return the bytes of a shard of stored numbers, shape (n_sites, *chip_shape)."""
    array, files = layout.create(len(block))
    array[:] = block
    return bytes(files["c.0.0.0.0.0"].to_bytes())


def metadata_of(layout: ShardLayout, attributes: Mapping[str, Any]) -> bytes:
    """Return the zarr metadata of the pixels of a store."""
    _, files = layout.create(layout.n_sites, attributes)
    return bytes(files["zarr.json"].to_bytes())


def write_file(path: Path, data: bytes) -> None:
    """Put a file on disk so that it is there in whole or not at all."""
    temporary = path.with_name(f".{path.name}.{uuid4().hex}{TEMPORARY}")
    with explained(path):
        try:
            with open(temporary, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            # where nothing can be written, nothing can be left over
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Say of an error of the file system what was to be written, and what to do."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        advice = _ADVICE.get(error.errno or 0, "Mend this, and write again")
        raise OSError(
            error.errno,
            f"The store could not be written ({reason}). {advice}; nothing that is finished is "
            "lost, and finished shards are not read again",
            str(path),
        ) from error


def sync_folder(folder: Path) -> None:
    """Force the names in a folder to disk."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except PermissionError:
        return  # Windows opens no folders
    try:
        os.fsync(descriptor)
    except OSError as error:
        # some network file systems cannot, and keep names themselves
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


def finished_shards(folder: Path, layout: ShardLayout, log: Mapping[str, str]) -> dict[str, str]:
    """Return the shards on disk with their checksums, and remove what was left half written.

    A shard whose writer was killed before it was logged is read from disk, never from its source.
    """
    found: dict[str, str] = {}
    names = {layout.file_name(number) for number in range(layout.n_shards)}
    for entry in (folder / FOUND).glob(f"*{TEMPORARY}"):
        entry.unlink()
    for entry in sorted((folder / PIXELS).iterdir()):
        name = f"{PIXELS}/{entry.name}"
        if entry.name.endswith(TEMPORARY):
            entry.unlink()
        elif name in names:
            found[name] = log.get(name) or file_sha256(entry)
    return found


def file_sha256(path: Path) -> str:
    """Return the checksum of a file, read in pieces."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(_BLOCK_BYTES):
            digest.update(piece)
    return digest.hexdigest()


def read_checksums(path: Path) -> dict[str, str]:
    """Return the checksum of each file that a list in the format of sha256sum names.

    A last line that was cut off is left out.
    """
    if not path.exists():
        return {}
    return {name: digest for digest, name in _LINE.findall(path.read_text("utf-8"))}


def checksum_text(checksums: Mapping[str, str]) -> str:
    r"""Return checksums in the format of sha256sum, in order of names.

    Examples
    --------
    >>> checksum_text({"b": "1f", "a": "2e"})
    '2e  a\n1f  b\n'
    """
    return "".join(f"{digest}  {name}\n" for name, digest in sorted(checksums.items()))


class ShardLog:
    """The list of finished shards, one line appended and forced to disk for each.

    Parameters
    ----------
    path : Path
        File; begun anew with `known`.
    known : mapping of str to str
        Checksums of the shards that are already on disk.
    """

    def __init__(self, path: Path, known: Mapping[str, str]) -> None:
        self.checksums = dict(known)
        # an earlier run may have been cut off in the middle of a line
        write_file(path, checksum_text(known).encode())
        self._path = path

    @property
    def folder(self) -> Path:
        """Folder of the store."""
        return self._path.parent

    def append(self, name: str, sha256: str) -> None:
        """Add a shard that is on disk."""
        with explained(self._path), open(self._path, "ab") as file:
            file.write(f"{sha256}  {name}\n".encode())
            file.flush()
            os.fsync(file.fileno())
        self.checksums[name] = sha256


def _packed(task: ShardTask, chips: Sequence[NDArray[np.float32]]) -> NDArray[Any]:
    """Return the stored numbers of some chips; shorter sequences are filled up."""
    layout = task.layout
    shape = (len(task.keys), *layout.chip_shape)
    block = np.full(shape, layout.encoding.fill, dtype=layout.encoding.dtype)
    for row, (site, pixels) in enumerate(zip(task.keys, chips, strict=True)):
        expected = (int(task.n_times[row]), *layout.chip_shape[1:])
        if pixels.shape != expected:
            raise ValueError(
                f"Site {list_some([site])} must have a chip of shape {expected} (n_times, n_bands, "
                f"height, width), as its records say; it has {pixels.shape}. Read the chips anew."
            )
        try:
            block[row, : len(pixels)] = layout.encoding.pack(pixels)
        except ValueError as error:
            raise ValueError(f"Site {list_some([site])}: {error}") from error
    return block
