"""What is known about each chip: one record per site and time, and the manifest made of them."""

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from terracausal._foundation.randomness import canonical_order

MANIFEST_COLUMNS = (
    "site",
    "time",
    "status",
    "nodata_share",
    "source",
    "offset_m",
    "duplicate_of",
)


@dataclass(frozen=True, slots=True)
class ChipRecord:
    """What was found for one site at one time."""

    site: Hashable
    time: pd.Timestamp | None
    status: str
    nodata_share: float
    source: str | None = None
    offset_m: float = float("nan")
    digest: str | None = None
    """Hash of the pixels; None where there are none, so that empty chips are no duplicates."""
    low: tuple[float, ...] = ()
    """Smallest value of each band; NaN for a band without valid pixels."""
    high: tuple[float, ...] = ()
    """Largest value of each band."""


def inspect_chip(
    site: Hashable,
    pixels: NDArray[np.float32],
    times: Sequence[pd.Timestamp | None],
    source: str | None,
    offset_m: float = float("nan"),
) -> list[ChipRecord]:
    """Return one record per time of a chip of shape (n_times, n_bands, height, width)."""
    return [
        ChipRecord(site, time, *_status(frame), source, offset_m, _digest(frame), *_range(frame))
        for time, frame in zip(times, pixels, strict=True)
    ]


def manifest_table(records: Sequence[ChipRecord]) -> pd.DataFrame:
    """Return the records as a table with `MANIFEST_COLUMNS`, one row per site and time."""
    first = first_twins(records)
    columns = {
        "site": pd.Index([record.site for record in records]),
        "time": pd.DatetimeIndex([record.time for record in records]),
        "status": [record.status for record in records],
        "nodata_share": np.array([record.nodata_share for record in records], dtype=np.float64),
        "source": pd.Series([record.source for record in records]),
        "offset_m": np.array([record.offset_m for record in records], dtype=np.float64),
        "duplicate_of": pd.Series(first, dtype=object),
    }
    return pd.DataFrame(columns, columns=list(MANIFEST_COLUMNS))


def first_twins(records: Sequence[ChipRecord]) -> list[Hashable | None]:
    """Return for each record the first site, in order of keys, with the same pixels at that time.

    None stands where the record is itself the first or has no twin.
    """
    leader: dict[tuple[object, str], Hashable] = {}
    for position in canonical_order(pd.Index([record.site for record in records])):
        record = records[position]
        if record.digest is not None:
            leader.setdefault((record.time, record.digest), record.site)
    found = [
        None if record.digest is None else leader[(record.time, record.digest)]
        for record in records
    ]
    return [
        None if twin is None or twin == record.site else twin
        for twin, record in zip(found, records, strict=True)
    ]


def duplicate_groups(records: Sequence[ChipRecord]) -> list[list[Hashable]]:
    """Return the groups of sites with identical pixels, each in order of site keys."""
    groups: dict[Hashable, list[Hashable]] = {}
    twins = first_twins(records)
    for position in canonical_order(pd.Index([record.site for record in records])):
        twin = twins[position]
        if twin is not None:
            members = groups.setdefault(twin, [twin])
            if records[position].site not in members:
                members.append(records[position].site)
    return list(groups.values())


def value_range(records: Iterable[ChipRecord], n_bands: int) -> NDArray[np.float64]:
    """Return the smallest and largest value of each band, shape (2, n_bands), NaN where none."""
    low, high = np.full(n_bands, np.inf), np.full(n_bands, -np.inf)
    for record in records:
        if record.low:
            low, high = np.fmin(low, record.low), np.fmax(high, record.high)
    return np.where(np.isfinite([low, high]), [low, high], np.nan)


def _status(frame: NDArray[np.float32]) -> tuple[str, float]:
    absent = float(np.isnan(frame).mean())
    status = "ok" if absent == 0 else "no data" if absent == 1 else "partial"
    return status, absent


def _digest(frame: NDArray[np.float32]) -> str | None:
    absent = np.isnan(frame)
    if absent.all():
        return None
    # one bit pattern for every NaN and for both zeros
    plain = np.where(absent, np.float32(np.nan), frame + np.float32(0))
    return blake2b(np.ascontiguousarray(plain).tobytes(), digest_size=16).hexdigest()


def _range(frame: NDArray[np.float32]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    flat = frame.reshape(frame.shape[0], -1)
    # fmin and fmax pass over NaN without a warning when a band is empty
    low, high = np.fmin.reduce(flat, axis=1), np.fmax.reduce(flat, axis=1)
    return tuple(low.tolist()), tuple(high.tolist())
