"""Which images of a sequence are kept, and what is known of them then."""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from terracausal._foundation.progress import track
from terracausal.imagery.readers import ChipReader, read_each
from terracausal.imagery.records import ChipRecord, looked_at

_SITES_TOGETHER = 16


def dates_by_site(
    records: Sequence[ChipRecord], keys: pd.Index
) -> dict[Hashable, list[pd.Timestamp | None]]:
    """Return the date of each image of every site that has a chip."""
    dates: dict[Hashable, list[pd.Timestamp | None]] = {site: [] for site in keys}
    for record in records:
        if record.site in dates:
            dates[record.site].append(record.time)
    return dates


def common_times(
    dates: Mapping[Hashable, Sequence[pd.Timestamp | None]],
) -> pd.DatetimeIndex | None:
    """Return the dates that all sites share; None where they differ or are unknown."""
    first = next(iter(dates.values()))
    if None in first or any(other != first for other in dates.values()):
        return None
    return pd.DatetimeIndex(list(first), name="time")


def kept_times(dates: Sequence[pd.Timestamp | None], times: Any) -> tuple[int, ...]:
    """Return the positions of the dates that a slice, a sequence of dates or "last" names."""
    if isinstance(times, str) and times == "last" and len(dates) <= 1:
        return tuple(range(len(dates)))  # a single image needs no date
    known = [day for day in dates if day is not None]
    if len(known) < len(dates):
        raise ValueError(
            "`times` selects by date, but these images are undated. Read them with `dates`."
        )
    index = pd.Series(range(len(dates)), index=pd.DatetimeIndex(known))
    if isinstance(times, str) and times == "last":
        return (int(np.argmax(index.index)),)
    if isinstance(times, slice):
        # a date without a day, such as "2015", means all of its days
        order = index.sort_index()
        return tuple(sorted(int(place) for place in order.loc[times]))
    wanted = pd.DatetimeIndex(pd.to_datetime(pd.Index(times)))
    return tuple(int(place) for place in index[index.index.isin(wanted)])


def looked_at_anew(
    reader: ChipReader, records: Sequence[ChipRecord], keys: pd.Index
) -> list[ChipRecord]:
    """Return the records of the pixels that a reader gives now, a few chips in memory at a time."""
    by_site = records_by_site(records)
    sites = [site for site in keys if site in by_site]
    new: dict[Hashable, Sequence[ChipRecord]] = {}
    scan = getattr(reader, "checked_scan", None)
    if callable(scan):
        new = {found.site: found.records for found in scan(sites)}
    else:
        starts = range(0, len(sites), _SITES_TOGETHER)
        for start in track(starts, "looking at chips", total=len(starts)):
            some = sites[start : start + _SITES_TOGETHER]
            for site, chip in zip(some, read_each(reader, some), strict=True):
                new[site] = looked_at_all(by_site[site], chip)
    return [record for site, old in by_site.items() for record in new.get(site, old)]


def looked_at_all(records: Sequence[ChipRecord], chip: NDArray[np.float32]) -> list[ChipRecord]:
    """Return the records of a site with what is found in its chip; unreadable ones stay so."""
    return [
        record if record.status == "unreadable" else looked_at(record, frame)
        for record, frame in zip(records, chip, strict=True)
    ]


def records_by_site(records: Sequence[ChipRecord]) -> dict[Hashable, list[ChipRecord]]:
    """Return the records of each site, in their order."""
    found: dict[Hashable, list[ChipRecord]] = {}
    for record in records:
        found.setdefault(record.site, []).append(record)
    return found
