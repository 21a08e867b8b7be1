"""Format of a store: which files it has, and what its metadata say."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
import pyproj

from terracausal._foundation.errors import ChipReadError, list_some
from terracausal.imagery.encoding import Encoding
from terracausal.imagery.shards import FOUND, PIXELS, TEMPORARY, ShardLayout
from terracausal.imagery.store_tables import INDEX, RECORDS, SITES

FORMAT_VERSION = 1
ROOT, ARRAY = "zarr.json", f"{PIXELS}/zarr.json"
CHECKSUMS, LOG = "checksums.sha256", "progress.sha256"
PLAN = "plan.sha256"
"""What identifies chips whose pixels nobody has looked at; only in unfinished stores."""
KNOWN = {ROOT, PIXELS, CHECKSUMS, LOG, INDEX, SITES, RECORDS, PLAN, FOUND}
_PACKAGES = ("terracausal", "numpy", "zarr", "numcodecs", "pyarrow", "pandas", "rasterio")


@dataclass(frozen=True, slots=True)
class StoreFacts:
    """What a store says about its chips.

    Parameters
    ----------
    layout : ShardLayout
        Shapes and encoding.
    bands : tuple of str
        Names of the bands.
    times : DatetimeIndex
        Date of each time; None when undated or not common to all sites.
    crs : pyproj.CRS
        None when unknown or not common to all sites.
    resolution_m : float
        Length of a pixel; None when unknown.
    notes : tuple of str
        Counted rules that were applied when the chips were read.
    provenance : dict
        Sources, versions of packages, arguments.
    """

    layout: ShardLayout
    bands: tuple[str, ...]
    times: pd.DatetimeIndex | None
    crs: Any
    resolution_m: float | None
    notes: tuple[str, ...]
    provenance: dict[str, Any]


def versions() -> dict[str, str]:
    """Return the versions of the packages that decide about the bytes of a store."""
    return {name: version(name) for name in _PACKAGES}


def facts_bytes(facts: StoreFacts, array: bytes) -> bytes:
    """Return the metadata of the root of a store, with those of its pixels.

    zarr then finds the pixels without looking at the other files, which are not its own.
    """
    layout = facts.layout
    said = {
        "format": "chips",
        "format_version": FORMAT_VERSION,
        "n_sites": layout.n_sites,
        "chip_shape": list(layout.chip_shape),
        "sites_per_shard": layout.sites_per_shard,
        "encoding": asdict(layout.encoding),
        "bands": list(facts.bands),
        "times": None if facts.times is None else [time.isoformat() for time in facts.times],
        "crs": _crs_text(facts.crs),
        "resolution_m": facts.resolution_m,
        "notes": list(facts.notes),
        "provenance": facts.provenance,
    }
    group = {
        "zarr_format": 3,
        "node_type": "group",
        "attributes": {"terracausal": said},
        "consolidated_metadata": {
            "kind": "inline",
            "must_understand": False,
            "metadata": {PIXELS: json.loads(array)},
        },
    }
    return (json.dumps(group, indent=2, sort_keys=True, allow_nan=False) + "\n").encode()


def read_facts(root: Path) -> StoreFacts:
    """Return what a store says about its chips.

    Raises
    ------
    ChipReadError
        If the folder is no store, its metadata are damaged, or a newer version wrote it.
    """
    try:
        said = json.loads((root / ROOT).read_bytes())["attributes"]["terracausal"]
        kind, number = said["format"], said["format_version"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ChipReadError(
            f"A store of chips must have its metadata in {ROOT}; those of {root} cannot be read "
            f"({type(error).__name__}: {error}). Pass a folder that `Chips.write` made."
        ) from error
    if kind != "chips" or not isinstance(number, int) or number < 1:
        raise ChipReadError(
            f"A store of chips must say format 'chips' and a version; {root} says {kind!r}, "
            f"{number!r}. Pass a folder that `Chips.write` made."
        )
    if number > FORMAT_VERSION:
        raise ChipReadError(
            f"The store at {root} has format version {number}; terracausal {version('terracausal')}"
            f" reads versions up to {FORMAT_VERSION}. Install a newer terracausal."
        )
    try:
        return _facts(said)
    except (ValueError, KeyError, TypeError, pyproj.exceptions.CRSError) as error:
        raise ChipReadError(
            f"The metadata of the store at {root} are damaged ({type(error).__name__}: {error}). "
            "Write the store anew."
        ) from error


def unfinished_path(root: Path) -> Path:
    """Return the folder in which a store is written until it is whole."""
    return root.with_name(f"{root.name}.unfinished")


def is_store(folder: Path) -> bool:
    """Say whether a folder is a store of chips and nothing else."""
    return (folder / ROOT).is_file() and holds_only_a_store(folder)


def holds_only_a_store(folder: Path) -> bool:
    """Say whether nothing else would be lost with a folder; parts of the store may be missing."""
    if folder.is_symlink() or not folder.is_dir():
        return False
    return all(entry.name in KNOWN or is_left_over(entry) for entry in folder.iterdir())


def is_left_over(entry: Path) -> bool:
    """Say whether a file is what an interrupted write left behind."""
    return entry.name.startswith(".") and entry.name.endswith(TEMPORARY)


def refuse_ways_out(root: Path) -> None:
    """Raise a `ChipReadError` if a link inside a store leads out of it."""
    home = root.resolve()
    folders = [entry for entry in (root, root / PIXELS) if entry.is_dir()]
    out = [
        entry
        for folder in folders
        for entry in sorted(folder.iterdir())
        if entry.is_symlink() and not entry.resolve().is_relative_to(home)
    ]
    if out:
        raise ChipReadError(
            f"A store must lie in its own folder; {len(out)} entries of {root} lead out of it: "
            f"{list_some([f'{e.relative_to(root)} -> {e.resolve()}' for e in out])}. Do not use a "
            "store from someone you do not trust; otherwise copy these files into it."
        )


def inside(root: Path, name: str) -> Path:
    """Return the path of a file that a store names, or refuse a name that leads out of it.

    Examples
    --------
    >>> inside(Path("/x.zarr"), "pixels/c.0.0.0.0.0").name
    'c.0.0.0.0.0'
    """
    path = root / name
    if not path.resolve().is_relative_to(root.resolve()):
        raise ChipReadError(
            f"A store must lie in its own folder; {root} names {name!r}, which leads out of it. Do "
            "not use a store from someone you do not trust."
        )
    return path


def _facts(said: Mapping[str, Any]) -> StoreFacts:
    coded = said["encoding"]
    encoding = Encoding(
        coded["dtype"], coded["nodata"], tuple(coded["scale"]), tuple(coded["offset"])
    )
    n_times, n_bands, height, width = (int(length) for length in said["chip_shape"])
    numbers = (said["n_sites"], said["sites_per_shard"], n_times, n_bands, height, width)
    if not all(isinstance(number, int) and number >= 1 for number in numbers):
        raise ValueError(f"shapes must be whole numbers of at least 1, found {numbers}")
    bands = tuple(said["bands"])
    if len(bands) != n_bands:
        raise ValueError(f"{len(bands)} names for {n_bands} bands")
    layout = ShardLayout(
        said["n_sites"], (n_times, n_bands, height, width), said["sites_per_shard"], encoding
    )
    times = said["times"]
    return StoreFacts(
        layout,
        bands,
        None if times is None else _read_times(times),
        None if said["crs"] is None else pyproj.CRS.from_user_input(said["crs"]),
        said["resolution_m"],
        tuple(said["notes"]),
        dict(said["provenance"]),
    )


def _read_times(texts: list[str]) -> pd.DatetimeIndex:
    return pd.DatetimeIndex(pd.to_datetime(pd.Index(texts), format="ISO8601"), name="time")


def _crs_text(crs: Any) -> str | None:
    if crs is None:
        return None
    short = str(crs.to_string())
    return short if pyproj.CRS.from_user_input(short) == crs else str(crs.to_wkt())
