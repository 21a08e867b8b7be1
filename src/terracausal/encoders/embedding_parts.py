"""Parts: the Parquet files that hold an embedding, each written at once or not at all."""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from terracausal._foundation.errors import list_some
from terracausal._foundation.progress import track
from terracausal.encoders.base import ChipEncoder, plain
from terracausal.imagery import Chips
from terracausal.imagery.shards import TEMPORARY, file_sha256, read_checksums, write_file

SITES_PER_PART = 512
FORMAT_VERSION = 1
# names that begin with a line are passed over by readers of a partitioned data set
FACTS, LOG = "_embedding.json", "_parts.sha256"
_PACKAGES = ("terracausal", "numpy", "pandas", "pyarrow", "torch", "transformers")


@dataclass(frozen=True, slots=True)
class PartLayout:
    """How the rows of sites are laid out in parts.

    Parameters
    ----------
    folder : Path
        Of the parts.
    n_sites : int
        Number of rows.

    Examples
    --------
    >>> layout = PartLayout(Path("x"), 600)
    >>> layout.names, layout.rows(1)
    (['part-00000.parquet', 'part-00001.parquet'], slice(512, 600, None))
    """

    folder: Path
    n_sites: int

    @property
    def names(self) -> list[str]:
        """Names of the files, in the order of their rows."""
        n_parts = -(-self.n_sites // SITES_PER_PART)
        return [f"part-{number:05d}.parquet" for number in range(n_parts)]

    def rows(self, number: int) -> slice:
        """Return the rows of a part, in order of site keys."""
        start = number * SITES_PER_PART
        return slice(start, min(start + SITES_PER_PART, self.n_sites))


PartTask = tuple[ChipEncoder, Chips, pd.Index, Path]
"""Encoder, chips, sites of the part in order of keys, and the file to write.

A plain tuple, in which a Dask cluster replaces its own handles by what they stand for.
"""


def encode_part(task: PartTask) -> tuple[str, str]:
    """Encode the sites of one part, put it on disk, and return its name and checksum."""
    encoder, chips, keys, path = task
    table = pa.Table.from_pandas(encoder.encode(chips.select(keys)), preserve_index=True)
    buffer = BytesIO()
    # of doubles compression saves a twentieth, and reading takes three times as long
    pq.write_table(table, buffer, compression="none", use_dictionary=False, write_statistics=False)
    data = buffer.getvalue()
    try:
        write_file(path, data)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise OSError(
            error.errno,
            f"A part of the embedding, with sites {list_some(keys, 2)}, could not be written "
            f"({reason}). Mend this and embed again; finished parts are kept",
            str(path),
        ) from error
    return path.name, hashlib.sha256(data).hexdigest()


def find_parts(layout: PartLayout) -> tuple[dict[str, str], list[str]]:
    """Return the checksums of the finished parts, and the names of those that are damaged.

    A part whose writer was killed before it was logged is finished: files get their name last.
    """
    logged = read_checksums(layout.folder / LOG)
    finished: dict[str, str] = {}
    damaged = []
    for number, name in enumerate(layout.names):
        path = layout.folder / name
        if path.is_file():
            found = file_sha256(path)
            rows = layout.rows(number)
            if found == logged[name] if name in logged else _holds(path, rows.stop - rows.start):
                finished[name] = found
            else:
                damaged.append(name)
        elif name in logged:
            damaged.append(name)
    return finished, damaged


def _holds(path: Path, n_rows: int) -> bool:
    try:
        return int(pq.read_metadata(path).num_rows) == n_rows
    except (OSError, pa.ArrowInvalid):
        return False


def read_table(
    layout: PartLayout, facts: Mapping[str, Any], keys: pd.Index, places: NDArray[np.intp]
) -> pd.DataFrame:
    """Return the rows of all parts as one table.

    Parameters
    ----------
    layout : PartLayout
        Of the parts.
    facts : mapping
        With `columns` and `encoder`, its description.
    keys : Index of length n_sites
        Sites of the table.
    places : ndarray of shape (n_sites,)
        In which row of the table each row of the parts stands.

    Returns
    -------
    DataFrame of shape (n_sites, n_features)
        float64, with `attrs["encoder"]`.
    """
    columns = np.array(facts["columns"], dtype=object).astype(str)
    rows = np.empty((layout.n_sites, len(columns)))
    for number, name in enumerate(track(layout.names, "reading parts")):
        part = _read(layout.folder / name, list(columns))
        rows[places[layout.rows(number)]] = np.column_stack([c.to_numpy() for c in part.columns])
    table = pd.DataFrame(rows, index=keys, columns=columns, copy=False)
    table.attrs["encoder"] = facts["encoder"]
    return table


def read_keys(layout: PartLayout) -> pd.Index:
    """Return the sites of all parts, in order of keys."""
    paths = [layout.folder / name for name in layout.names]
    tables = [_read(path, ["site"]).to_pandas() for path in paths]
    keys: pd.Index = pd.concat(tables).index
    return keys


def _read(path: Path, columns: Sequence[str] | None = None) -> Any:
    # one file, whose folder is not to be looked at, by this thread
    return pq.ParquetFile(path).read(columns=columns, use_threads=False)


def write_facts(folder: Path, facts: Mapping[str, Any]) -> None:
    """Write what is known of an embedding, unless it has been written."""
    if read_facts(folder) is None:
        said = {**facts, "format_version": FORMAT_VERSION, "versions": _versions()}
        text = json.dumps(said, indent=1, sort_keys=True, default=plain)
        write_file(folder / FACTS, f"{text}\n".encode())


def read_facts(folder: Path) -> dict[str, Any] | None:
    """Return what is known of an embedding; None where this is absent or damaged."""
    try:
        found = json.loads((folder / FACTS).read_bytes())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and "encoder" in found else None


def _versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


@contextmanager
def one_writer(folder: Path) -> Iterator[None]:
    """Keep a second process from computing the same parts; the lock ends with the process."""
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BlockingIOError(
                error.errno,
                "Only one process may compute an embedding; another one is computing this. Wait "
                "for it, or choose another `out`",
                str(folder),
            ) from error
        for entry in folder.glob(f".*{TEMPORARY}"):
            entry.unlink()  # half written when an earlier call was killed
        yield
    finally:
        os.close(descriptor)
