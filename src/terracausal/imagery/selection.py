"""Which images of a sequence are kept, and what is known of them then."""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from terracausal.imagery.readers import ChipReader
from terracausal.imagery.records import ChipRecord, looked_at


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
    """Return the positions of the dates that a slice or a sequence of dates names."""
    known = [day for day in dates if day is not None]
    if len(known) < len(dates):
        raise ValueError(
            "`times` selects by date, but these images are undated. Read them with `dates`."
        )
    index = pd.Series(range(len(dates)), index=pd.DatetimeIndex(known))
    if isinstance(times, slice):
        # a date without a day, such as "2015", means all of its days
        order = index.sort_index()
        return tuple(sorted(int(place) for place in order.loc[times]))
    wanted = pd.DatetimeIndex(pd.to_datetime(pd.Index(times)))
    return tuple(int(place) for place in index[index.index.isin(wanted)])


def looked_at_anew(
    reader: ChipReader, records: Sequence[ChipRecord], keys: pd.Index
) -> Iterator[ChipRecord]:
    """Yield the records of the pixels that a reader gives now, one chip in memory at a time."""
    known = set(keys)
    by_site: dict[Hashable, list[ChipRecord]] = {}
    for record in records:
        by_site.setdefault(record.site, []).append(record)
    for site, old in by_site.items():
        if site not in known:
            yield from old
            continue
        for record, frame in zip(old, reader.read(site), strict=True):
            if record.status == "unreadable":
                yield record
                continue
            yield looked_at(record, frame)
