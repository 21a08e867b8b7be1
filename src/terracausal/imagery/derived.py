"""Chips made from other chips: the same sites, other pixels, computed when they are asked for."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from terracausal._foundation.checks import check_count
from terracausal._foundation.progress import track
from terracausal.imagery.chips import Chips
from terracausal.imagery.readers import ChipReader, only_sites, read_each
from terracausal.imagery.records import ChipRecord, inspect_chip
from terracausal.imagery.selection import looked_at_all, records_by_site

Groups = tuple[tuple[int, ...], ...]
"""For each time of a new chip, the positions of the times of the old chip that went into it."""

_BYTES_AT_ONCE = 2**26


class Derivation(Protocol):
    """How the pixels of one site become others."""

    @property
    def bands(self) -> tuple[str, ...]:
        """Names of the new bands."""
        ...

    def pixels(self, site: Hashable, chip: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the new chip of a site from its chip (n_times, n_bands, height, width)."""
        ...

    def cloud_shares(self, chip: NDArray[np.float32]) -> Sequence[float] | None:
        """Return the share of clouds of each old time; None where this is not known."""
        ...

    def only(self, sites: Sequence[Hashable]) -> "Derivation":
        """Return a derivation that need not know other sites."""
        ...


@dataclass(frozen=True, slots=True)
class Timing:
    """Dates of the new chips.

    Parameters
    ----------
    times : DatetimeIndex or None
        Of all sites, where they share them.
    dates : mapping of site to sequence of (Timestamp or None)
        Of each site.
    groups : mapping of site to Groups
        What went into each of them.
    """

    times: pd.DatetimeIndex | None
    dates: Mapping[Hashable, Sequence[pd.Timestamp | None]]
    groups: Mapping[Hashable, Groups]


class DerivedReader:
    """Computes chips from those of another reader when they are asked for.

    Parameters
    ----------
    reader : ChipReader
        Of the old chips.
    derivation : Derivation
        How they become new ones; must pickle, so that it can travel to other processes.
    """

    def __init__(self, reader: ChipReader, derivation: Derivation) -> None:
        self._reader = reader
        self._derivation = derivation

    def read(self, site: Hashable) -> NDArray[np.float32]:
        """Return a new array of shape (n_times, n_bands, height, width)."""
        return self._derivation.pixels(site, self._reader.read(site))

    def read_many(self, sites: Sequence[Hashable]) -> list[NDArray[np.float32]]:
        """Return what `read` returns for each site, in their order."""
        chips = read_each(self._reader, sites)
        return [
            self._derivation.pixels(site, chip) for site, chip in zip(sites, chips, strict=True)
        ]

    def only(self, sites: Sequence[Hashable]) -> "DerivedReader":
        """Return a reader of some sites."""
        return DerivedReader(only_sites(self._reader, sites), self._derivation.only(sites))


def same_timing(chips: Chips) -> Timing:
    """Return the timing of new chips whose times are those of the old ones."""
    dates = dates_by_site(chips)
    groups = {site: tuple((k,) for k in range(len(days))) for site, days in dates.items()}
    return Timing(chips.times, dates, groups)


def dates_by_site(chips: Chips) -> dict[Hashable, list[pd.Timestamp | None]]:
    """Return the date of each time of each site that has a chip, in the order of its times."""
    kept = set(chips.keys)
    found: dict[Hashable, list[pd.Timestamp | None]] = {site: [] for site in chips.keys}
    for record in chips._found:
        if record.site in kept:
            found[record.site].append(record.time)
    return found


def derive_chips(chips: Chips, derivation: Derivation, timing: Timing, note: str) -> Chips:
    """Return the chips that a derivation makes.

    Every old chip is read once, a few at a time, to fill the manifest of the new ones, and that of
    the old ones where nobody has looked at them.

    Parameters
    ----------
    chips : Chips
        Old chips.
    derivation : Derivation
        How they become new ones.
    timing : Timing
        Dates of the new chips.
    note : str
        What was done, for `describe`.

    Returns
    -------
    Chips
        For the same sites. Sites that have no chip keep their row of the manifest.
    """
    old = records_by_site(chips._found)
    new: dict[Hashable, list[ChipRecord]] = {}
    longest = max(len(old[site]) for site in chips.keys)
    step = _sites_at_once(chips, longest)
    starts = range(0, chips.n_sites, step)
    for start in track(starts, note, total=len(starts)):
        sites = list(chips.keys[start : start + step])
        for site, chip in zip(sites, read_each(chips._reader, sites), strict=True):
            if chips._is_stale:
                old[site] = looked_at_all(old[site], chip)
            new[site] = _new_records(site, chip, old[site], derivation, timing)
    if chips._is_stale:
        chips._settle([record for found in old.values() for record in found])
    records = [record for site, found in old.items() for record in new.get(site, found)]
    made = Chips(
        DerivedReader(chips._reader, derivation),
        chips.sites,
        records,
        derivation.bands,
        chips.size_px,
        times=timing.times,
        grid=(chips.crs, chips.resolution_m),
        notes=(*chips._notes, note),
    )
    made._arguments = chips._arguments
    return made


def _new_records(
    site: Hashable,
    chip: NDArray[np.float32],
    old: Sequence[ChipRecord],
    derivation: Derivation,
    timing: Timing,
) -> list[ChipRecord]:
    """Return one record per new time: what is in it, and what it was made of."""
    frames = derivation.pixels(site, chip)
    shares = derivation.cloud_shares(chip)
    records = inspect_chip(
        site, frames, timing.dates[site], None, old[0].offset_m, grid=old[0].grid
    )
    found = []
    for record, group in zip(records, timing.groups[site], strict=True):
        members = [old[k] for k in group]
        clouds = [record.cloud_share for record in members]
        if shares is not None:
            clouds = [shares[k] for k in group]
        sources = dict.fromkeys(member.source for member in members if member.source is not None)
        found.append(
            replace(
                record,
                source="; ".join(sources) or None,
                cloud_share=_mean_known(clouds),
                last_image=_last_image(members),
            )
        )
    return found


def _mean_known(shares: Sequence[float]) -> float:
    known = [share for share in shares if not np.isnan(share)]
    return float(np.mean(known)) if known else float("nan")


def _last_image(members: Sequence[ChipRecord]) -> pd.Timestamp | None:
    """Return the day of the last image with pixels, None if there is none or it is undated."""
    days = [
        member.last_image or member.time for member in members if member.status in {"ok", "partial"}
    ]
    known = [day for day in days if day is not None]
    return max(known) if known and len(known) == len(days) else None


def _sites_at_once(chips: Chips, n_times: int) -> int:
    """Return how many chips are held in memory together."""
    height, width = chips.size_px
    n_bytes = 4 * max(1, n_times) * chips.n_bands * height * width
    return check_count("sites at once", min(256, max(1, _BYTES_AT_ONCE // n_bytes)))
