"""The store of chips: `write_chips` puts them into one folder on disk, `open_chips` opens it.

A store is a folder in the zarr v3 format, readable by any zarr library. It is written beside its
final place as `<name>.unfinished` and renamed when it is whole, so a store is either there or not.
"""

import os
import shutil
from collections.abc import Generator, Hashable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from hashlib import sha256
from os import PathLike
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from terracausal._foundation.checks import check_count
from terracausal._foundation.errors import list_some
from terracausal._foundation.progress import track
from terracausal.imagery.chips import Chips
from terracausal.imagery.encoding import Encoding, fit_encoding
from terracausal.imagery.options import available_cores
from terracausal.imagery.readers import ChipReader, only_sites
from terracausal.imagery.records import ChipRecord, as_planned
from terracausal.imagery.selection import records_by_site
from terracausal.imagery.shards import (
    FOUND,
    PIXELS,
    TEMPORARY,
    ShardDone,
    ShardLayout,
    ShardLog,
    ShardTask,
    checksum_text,
    explained,
    file_sha256,
    finished_shards,
    found_path,
    metadata_of,
    read_checksums,
    sync_folder,
    write_file,
    write_shard,
)
from terracausal.imagery.source_reader import SourceReader
from terracausal.imagery.store_format import (
    ARRAY,
    CHECKSUMS,
    KNOWN,
    LOG,
    PLAN,
    ROOT,
    StoreFacts,
    facts_bytes,
    holds_only_a_store,
    is_left_over,
    is_store,
    refuse_ways_out,
    unfinished_path,
    versions,
)
from terracausal.imagery.store_tables import (
    INDEX,
    RECORDS,
    SITES,
    index_bytes,
    read_records,
    records_bytes,
    sites_bytes,
    times_per_site,
)
from terracausal.imagery.stored_dtypes import advised_encoding, reads_source, unseen_encoding
from terracausal.imagery.workers import run_tasks

_SHARD_BYTES = 2**24  # of pixels as float32, which is how workers hold them
_MAX_THREADS = 4
_SOURCES_LISTED = 1000


@dataclass(frozen=True, slots=True)
class StoreSummary:
    """What `write_chips` did.

    Parameters
    ----------
    path : Path
        Folder of the store.
    n_sites : int
        Number of chips in the store.
    n_sites_read : int
        Number of chips that were read from their source, each once.
    n_shards : int
        Number of shards in the store.
    n_shards_kept : int
        Number of shards that an earlier, interrupted call had finished.
    n_bytes : int
        Size of the store on disk.

    Examples
    --------
    >>> StoreSummary(Path("x.zarr"), 300, 100, 3, 2, 2_000_000).summary()
    'x.zarr: 300 chips in 3 shards, 2.0 MB; 2 shards were finished before, 100 chips read now'
    """

    path: Path
    n_sites: int
    n_sites_read: int
    n_shards: int
    n_shards_kept: int
    n_bytes: int

    def summary(self) -> str:
        """Return the counts as one line of text."""
        return (
            f"{self.path}: {self.n_sites:,} chips in {self.n_shards:,} shards, "
            f"{self.n_bytes / 1e6:,.1f} MB; {self.n_shards_kept:,} shards were finished before, "
            f"{self.n_sites_read:,} chips read now"
        )

    def __str__(self) -> str:
        return self.summary()


def write_chips(
    chips: Chips,
    path: str | PathLike[str],
    *,
    overwrite: bool = False,
    encoding: Encoding | None = None,
    sites_per_shard: int | None = None,
    n_jobs: int | None = None,
    client: Any = None,
) -> StoreSummary:
    """Write chips to a store on disk, and go on where an interrupted call ended.

    Parameters
    ----------
    chips : Chips
        Read one shard at a time by each worker.
    path : path
        Folder to make, such as "chips.zarr". Until it is whole it is named `<path>.unfinished`.
    overwrite : bool, default=False
        Replace another store at `path`, once the new one is whole. A folder that is no store is
        never replaced.
    encoding : Encoding, default=None
        How values become stored numbers; a value that would change is refused. None keeps the
        integers of a source that says how it stores them, and writes float32 otherwise.
    sites_per_shard : int, default=None
        Number of chips in one file; None takes as many as make about 16 MB of float32.
    n_jobs : int, default=None
        Number of threads, each of which holds about four times the pixels of a shard; None takes
        one for each processor, at most four.
    client : dask.distributed.Client, default=None
        Cluster that writes the shards instead of threads: anything with
        `submit(function, *arguments)`. Its workers must reach `path`.

    Returns
    -------
    StoreSummary
        Counts of what was written, kept and read.

    Raises
    ------
    FileExistsError
        If there is something else at `path`, or an unfinished store of other chips beside it.
    OSError
        If the disk is full or may not be written, or a chip cannot be read. Finished shards stay.
    ValueError
        If a value does not fit the encoding, or site keys or columns of sites cannot be stored.

    See Also
    --------
    open_chips : Opens the store.

    Notes
    -----
    The same chips and arguments give the same bytes, also when writing was interrupted, whatever
    `n_jobs`. Calling again with the same chips when the store is whole writes nothing. Chips whose
    records or sites differ are other chips, and so are those read with other versions of packages.

    The pixels of chips from `read_chips` are looked at while they are written, so that reading,
    writing and the manifest take one pass; the manifest of the chips is then known. A call that
    goes on with an unfinished store compares plans: sites, files with their sizes and the times of
    their last change, and arguments. A call that finds a whole store looks at the pixels once, to
    notice files that have changed.

    Examples
    --------
    >>> import tempfile, numpy as np
    >>> chips = Chips.from_arrays(np.ones((3, 1, 1, 2, 2)), sites=list("abc"), bands=["red"])
    >>> path = Path(tempfile.mkdtemp()) / "x.zarr"
    >>> write_chips(chips, path, sites_per_shard=2).n_shards
    2
    >>> write_chips(chips, path, sites_per_shard=2).n_sites_read
    0
    """
    root = Path(path).absolute()
    plan = _plan(chips, encoding, sites_per_shard)
    n_threads = min(_MAX_THREADS, available_cores())
    if n_jobs is not None:
        n_threads = check_count("n_jobs", n_jobs)
    if root.exists() or root.is_symlink():
        if not overwrite and _holds(root, plan, chips):
            return _summary(root, plan, n_kept=plan.layout.n_shards, n_read=0)
        _check_replaceable(root, plan.files, overwrite)
    unfinished = unfinished_path(root)
    with explained(root):
        unfinished.mkdir(parents=True, exist_ok=True)
    with _locked(unfinished):
        _prepare(unfinished, plan.files, overwrite)
        log = ShardLog(
            unfinished / LOG,
            _finished(unfinished, plan),
        )
        n_kept = len(log.checksums)
        try:
            n_read = _write_shards(plan, chips, log, n_threads, client)
            records = _found(unfinished, plan, chips) if plan.looks else None
            _finish(unfinished, root, plan.files, log)
        except BaseException as error:
            n_done = len(list((unfinished / PIXELS).glob("c.*")))
            error.add_note(
                f"{n_done} of {plan.layout.n_shards} shards are finished in {unfinished}. Write "
                "the same chips to the same path again to go on from there."
            )
            raise
    if records is not None:
        chips._settle(records)
    return _summary(root, plan, n_kept=n_kept, n_read=n_read)


@dataclass(frozen=True, slots=True)
class _Plan:
    """A store before its pixels are written."""

    keys: pd.Index
    n_times: NDArray[np.int64]
    layout: ShardLayout
    files: dict[str, bytes]
    """Those that are there before the shards."""
    looks: bool
    """Whether records are found while pixels are written."""


def _plan(chips: Chips, encoding: Encoding | None, sites_per_shard: int | None) -> _Plan:
    looks = reads_source(chips._reader)
    records, keys = chips._found if looks else chips._records, chips.keys
    n_times = times_per_site(records, keys)
    shape = (int(n_times.max()), chips.n_bands, *chips.size_px)
    if encoding is None:
        padded = bool((n_times < n_times.max()).any())
        if looks:
            encoding = unseen_encoding(chips._reader, padded=padded)
        else:
            advised = advised_encoding(chips._reader)
            encoding = fit_encoding(advised, records, chips.n_bands, padded=padded)
    if sites_per_shard is None:
        chip_bytes = int(np.prod(shape)) * np.dtype(np.float32).itemsize
        sites_per_shard = max(1, _SHARD_BYTES // chip_bytes)
    per_shard = min(check_count("sites_per_shard", sites_per_shard), len(keys))
    layout = ShardLayout(len(keys), shape, per_shard, encoding)
    facts = StoreFacts(
        layout,
        chips.bands,
        chips.times,
        chips.crs,
        chips.resolution_m,
        chips._notes,
        _provenance(chips),
    )
    array = metadata_of(layout, _cf_attributes(encoding))
    files = {
        INDEX: index_bytes(keys, n_times),
        SITES: sites_bytes(chips.sites),
        RECORDS: records_bytes(records),
        ARRAY: array,
        # last, because a folder that has it has all of them
        ROOT: facts_bytes(facts, array),
    }
    if looks:
        files[PLAN] = _plan_bytes(records)
        files = {name: files[name] for name in (INDEX, SITES, PLAN, ARRAY, ROOT)}
    return _Plan(keys, n_times, layout, files, looks)


def _plan_bytes(records: Sequence[ChipRecord]) -> bytes:
    """Return what tells chips apart whose pixels nobody has looked at: their files and places.

    Files of this machine are told by their size and the time of their last change.
    """
    uris = {uri for record in records for uri in (record.source or "").split("; ")}
    stamps = {uri: os.stat(uri) for uri in sorted(uris) if os.path.isfile(uri)}
    told = [f"{uri} {stamp.st_size} {stamp.st_mtime_ns}" for uri, stamp in stamps.items()]
    planned = records_bytes([as_planned(record) for record in records])
    digests = (sha256(data).hexdigest() for data in (planned, "\n".join(told).encode()))
    return ("\n".join(digests) + "\n").encode()


def _provenance(chips: Chips) -> dict[str, Any]:
    sources = sorted({record.source for record in chips._found if record.source is not None})
    return {
        "n_sources": len(sources),
        # the record of each chip names its own source in any case
        "sources": sources[:_SOURCES_LISTED],
        "arguments": chips._arguments,
        "versions": versions(),
    }


def _cf_attributes(encoding: Encoding) -> dict[str, Any]:
    """Return the encoding in the words of the CF conventions, which xarray reads."""
    scales, offsets = set(encoding.scale), set(encoding.offset)
    if len(scales) > 1 or len(offsets) > 1:
        return {}  # CF has one number for all bands; the root of the store has one for each
    found: dict[str, Any] = {}
    if encoding.nodata is not None:
        found["_FillValue"] = encoding.nodata
    if scales | offsets:
        found["scale_factor"] = next(iter(scales), 1.0)
        found["add_offset"] = next(iter(offsets), 0.0)
    return found


def _holds(root: Path, plan: _Plan, chips: Chips) -> bool:
    """Say whether a folder is the finished store of some chips.

    Where nobody has looked at the pixels this is done now, so that changed ones are noticed.
    """
    lasting = {name: data for name, data in plan.files.items() if name != PLAN}
    if not (root / CHECKSUMS).is_file() or _differing(root, lasting):
        return False
    return not plan.looks or not _differing(root, {RECORDS: records_bytes(chips._records)})


def _differing(folder: Path, files: Mapping[str, bytes]) -> list[str]:
    return [
        name
        for name, data in files.items()
        if not (folder / name).is_file() or (folder / name).read_bytes() != data
    ]


def _check_replaceable(root: Path, files: Mapping[str, bytes], overwrite: bool) -> None:
    if not is_store(root):
        raise FileExistsError(
            f"`path` must be free or a store of chips; {root} is something else, which is never "
            "replaced. Choose another path, or move it away yourself."
        )
    if not overwrite:
        differing = [name for name in _differing(root, files) if name != PLAN] or [RECORDS]
        raise FileExistsError(
            f"`path` must be free or hold the store of the same chips; the store at {root} has "
            f"other contents: {list_some(differing)} differ. Choose another path, or "
            "pass `overwrite=True`."
        )


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keep a second process from writing the same store; the lock ends with the process."""
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
                "Only one process may write a store; another one is writing this. Wait for it, or "
                "choose another `path`",
                str(folder),
            ) from error
        yield
    finally:
        os.close(descriptor)


def _prepare(folder: Path, files: Mapping[str, bytes], overwrite: bool) -> None:
    """Make the folder hold all files but the shards, or find that it does."""
    refuse_ways_out(folder)
    differing = _differing(folder, files)
    if (folder / CHECKSUMS).is_file():
        # it was sealed, and the plan is the first to go
        differing = [name for name in differing if name != PLAN]
    if not differing:
        return
    strange = [
        entry.name
        for entry in folder.iterdir()
        if entry.name not in KNOWN and not is_left_over(entry)
    ]
    if strange:
        raise FileExistsError(
            f"An unfinished store must hold only its own files; {folder} also has "
            f"{list_some(strange)}. Move them away, or choose another path."
        )
    if (folder / ROOT).exists() and not overwrite:
        raise FileExistsError(
            f"Writing was interrupted in {folder} with other chips, arguments or versions of "
            f"packages: {list_some(differing)} differ. Write what was begun, pass "
            "`overwrite=True` to begin anew, or delete that folder."
        )
    # the root first, so that a folder which has it is one that can be gone on with
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name != ROOT):
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()
    with explained(folder):
        (folder / PIXELS).mkdir()
        if PLAN in files:
            (folder / FOUND).mkdir()
    for name, data in files.items():
        write_file(folder / name, data)


def _finished(folder: Path, plan: _Plan) -> dict[str, str]:
    """Return the checksums of the shards that need not be written again."""
    logged = read_checksums(folder / CHECKSUMS) | read_checksums(folder / LOG)
    found = finished_shards(folder, plan.layout, logged)
    if not plan.looks or (folder / RECORDS).is_file():
        return found
    return {name: digest for name, digest in found.items() if found_path(folder / name).is_file()}


def _write_shards(plan: _Plan, chips: Chips, log: ShardLog, n_jobs: int, client: Any) -> int:
    """Write the shards that are not there yet, and return how many chips were read."""
    tasks = _tasks(plan, chips, log, portable=client is not None)
    n_open = plan.layout.n_shards - len(log.checksums)
    results = cast(
        "Generator[ShardDone]",
        run_tasks(write_shard, tasks, n_jobs=n_jobs, client=client),
    )
    n_read = 0
    # closing, so that after an error no worker is still writing when the folder is let go
    with closing(results):
        for done in track(results, "writing shards", total=n_open):
            log.append(done.name, done.sha256)
            n_read += done.n_sites_read
    return n_read


def _tasks(plan: _Plan, chips: Chips, log: ShardLog, *, portable: bool) -> Iterator[ShardTask]:
    call = uuid4().hex
    planned = records_by_site(chips._found) if plan.looks else {}
    for number in range(plan.layout.n_shards):
        name = plan.layout.file_name(number)
        if name not in log.checksums:
            rows = plan.layout.rows(number)
            keys = plan.keys[rows.start : rows.stop]
            n_times = plan.n_times[rows.start : rows.stop]
            reader = _portable(chips._reader, list(keys)) if portable else chips._reader
            records = tuple(planned[key] for key in keys) if plan.looks else None
            path = log.folder / name
            yield ShardTask(reader, keys, n_times, plan.layout, path, call, records)


def _portable(reader: ChipReader, keys: list[Hashable]) -> ChipReader:
    """Return a reader of some sites that travels to another process."""
    if isinstance(reader, SourceReader) and reader.reading.client is not None:
        return reader._task(keys)[0]  # a cluster does not travel to its own workers
    return only_sites(reader, keys)


def _found(folder: Path, plan: _Plan, chips: Chips) -> list[ChipRecord]:
    """Return what was found in the pixels of all shards, and write it into the store."""
    if (folder / RECORDS).is_file():
        return read_records(folder / RECORDS)  # it was sealed before
    new: list[ChipRecord] = []
    for number in range(plan.layout.n_shards):
        new += read_records(found_path(folder / plan.layout.file_name(number)))
    by_site = records_by_site(new)
    old = records_by_site(chips._found)
    records = [record for site in old for record in by_site.get(site, old[site])]
    write_file(folder / RECORDS, records_bytes(records))
    return records


def _finish(folder: Path, root: Path, files: Mapping[str, bytes], log: ShardLog) -> None:
    """Seal a store whose shards are all there, and move it to its place."""
    checksums = dict(log.checksums)
    lasting = {*files, RECORDS} - {PLAN}
    checksums.update({name: file_sha256(folder / name) for name in lasting})
    write_file(folder / CHECKSUMS, checksum_text(checksums).encode())
    with explained(root):
        for entry in [folder / PLAN, folder / LOG, *folder.glob(f".*{TEMPORARY}")]:
            entry.unlink(missing_ok=True)
        shutil.rmtree(folder / FOUND, ignore_errors=True)
        sync_folder(folder)
        replaced = root.with_name(f"{root.name}.replaced")
        if root.exists():
            if holds_only_a_store(replaced):
                shutil.rmtree(replaced)  # an earlier call was killed before it could
            os.replace(root, replaced)
        os.replace(folder, root)
        sync_folder(root.parent)
        if holds_only_a_store(replaced):
            shutil.rmtree(replaced)


def _summary(root: Path, plan: _Plan, *, n_kept: int, n_read: int) -> StoreSummary:
    n_bytes = sum(entry.stat().st_size for entry in root.rglob("*") if entry.is_file())
    return StoreSummary(root, plan.layout.n_sites, n_read, plan.layout.n_shards, n_kept, n_bytes)
