"""What is known about each chip: one record per site and time, and the manifest made of them."""

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from terracausal._foundation.errors import ChipReadError
from terracausal._foundation.randomness import canonical_order

PLANNED = "planned"
"""Status of a time whose pixels nobody has looked at."""

_SEEN = ("ok", "partial", "no data")

MANIFEST_COLUMNS = (
    "site",
    "time",
    "status",
    "nodata_share",
    "cloud_share",
    "source",
    "offset_m",
    "duplicate_of",
    "grid",
)


class NoChipsError(ChipReadError, ValueError):
    """No site has a chip; `manifest` says why, with a row for each.

    Parameters
    ----------
    message : str
        What was expected and found.
    manifest : DataFrame, default=None
        None makes an empty one.

    Attributes
    ----------
    manifest : DataFrame
        As `Chips.manifest` has it.

    Examples
    --------
    >>> record = ChipRecord("Arua", None, "unreadable", float("nan"), "https://a.org/x.tif")
    >>> error = NoChipsError("No site has a chip.", manifest_table([record]))
    >>> isinstance(error, ChipReadError), error.manifest["status"].tolist()
    (True, ['unreadable'])
    """

    def __init__(self, message: str, manifest: pd.DataFrame | None = None) -> None:
        super().__init__(message)
        self.manifest = manifest_table(()) if manifest is None else manifest


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
    grid: str | None = None
    """Coordinate reference system of the pixel grid."""
    cloud_share: float = float("nan")
    """Share of clouds, where it is known."""
    last_image: pd.Timestamp | None = None
    """Day of the last image that went into a composite; None where this is `time`."""


def inspect_chip(
    site: Hashable,
    pixels: NDArray[np.float32],
    times: Sequence[pd.Timestamp | None],
    source: str | None,
    offset_m: float = float("nan"),
    *,
    grid: str | None = None,
) -> list[ChipRecord]:
    """Return one record per time of a chip of shape (n_times, n_bands, height, width)."""
    nan = float("nan")
    return [
        looked_at(ChipRecord(site, time, PLANNED, nan, source, offset_m, grid=grid), frame)
        for time, frame in zip(times, pixels, strict=True)
    ]


def looked_at(record: ChipRecord, frame: NDArray[np.float32]) -> ChipRecord:
    """Return a record with what is found in its pixels, shape (n_bands, height, width)."""
    status, nodata_share = _status(frame)
    low, high = _range(frame)
    return replace(
        record,
        status=status,
        nodata_share=nodata_share,
        digest=_digest(frame),
        low=low,
        high=high,
    )


def as_planned(record: ChipRecord) -> ChipRecord:
    """Return what was known of a chip before its pixels were looked at."""
    if record.status not in _SEEN:
        return record
    return replace(record, status=PLANNED, nodata_share=float("nan"), digest=None, low=(), high=())


def manifest_table(records: Sequence[ChipRecord]) -> pd.DataFrame:
    """Return the records as a table with `MANIFEST_COLUMNS`, one row per site and time."""
    first = first_twins(records)
    columns = {
        "site": pd.Index([record.site for record in records]),
        "time": pd.DatetimeIndex([record.time for record in records]),
        "status": [record.status for record in records],
        "nodata_share": np.array([record.nodata_share for record in records], dtype=np.float64),
        "cloud_share": np.array([record.cloud_share for record in records], dtype=np.float64),
        "source": pd.Series([record.source for record in records]),
        "offset_m": np.array([record.offset_m for record in records], dtype=np.float64),
        "duplicate_of": pd.Series(first, dtype=object),
        "grid": pd.Series([record.grid for record in records]),
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
    n_absent = int(np.count_nonzero(np.isnan(frame)))
    status = "ok" if not n_absent else "no data" if n_absent == frame.size else "partial"
    return status, n_absent / frame.size


def _digest(frame: NDArray[np.float32]) -> str | None:
    absent = np.isnan(frame)
    if absent.all():
        return None
    # one bit pattern for both zeros and for every NaN
    plain = np.ascontiguousarray(frame + np.float32(0))
    if absent.any():
        plain[absent] = np.nan
    # sha256, because processors have instructions for it
    return sha256(plain.data).hexdigest()[:32]


def _range(frame: NDArray[np.float32]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    flat = frame.reshape(frame.shape[0], -1)
    # fmin and fmax pass over NaN without a warning when a band is empty
    low, high = np.fmin.reduce(flat, axis=1), np.fmax.reduce(flat, axis=1)
    return tuple(low.tolist()), tuple(high.tolist())
