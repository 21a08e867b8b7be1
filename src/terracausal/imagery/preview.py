"""Chips as text and as pictures, for a look before anything is estimated."""

import base64
from collections.abc import Hashable, Sequence
from html import escape
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from terracausal._foundation.errors import BandError, list_some
from terracausal.imagery.places import has_geography
from terracausal.imagery.records import ChipRecord, duplicate_groups, value_range

if TYPE_CHECKING:
    from terracausal.imagery.chips import Chips

_GROUPS_SHOWN = 10
_PICTURES = 8
_COLORS = (
    ("red", "green", "blue"),
    ("b04", "b03", "b02"),
    ("sr_b4", "sr_b3", "sr_b2"),
)


def title_line(chips: "Chips") -> str:
    """Return counts, sizes and CRS as one line."""
    height, width = chips.size_px
    facts = [
        _counted(chips.n_sites, "site"),
        _counted(chips.n_times, "time"),
        _counted(chips.n_bands, "band"),
        f"{height} x {width} px",
    ]
    if chips.resolution_m is not None:
        facts.append(f"{chips.resolution_m:g} m")
    if chips.crs is not None:
        facts.append(chips.crs.to_string())
    return f"Chips({', '.join(facts)})"


def overlap_note(chips: "Chips") -> tuple[str, ...]:
    """Return how many chips overlap as a note; nothing where none do or this is not known."""
    sites = chips.sites
    if chips.resolution_m is None or not has_geography(sites) or sites.crs is None:
        return ()
    pairs = chips.overlapping_sites()
    if pairs.empty:
        return ()
    n_sites = len(set(pairs["site"]) | set(pairs["other"]))
    return (
        f"chips that overlap: {n_sites} of {chips.n_sites} sites, in "
        f"{_counted(pairs['group'].nunique(), 'group')} (overlapping_sites() lists them; keep "
        "each group in one fold)",
    )


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def text_page(
    title: str,
    records: Sequence[ChipRecord],
    keys: pd.Index,
    bands: Sequence[str],
    notes: Sequence[str],
) -> str:
    """Return counts, statuses, notes, duplicates and value ranges, one fact per line."""
    counts = pd.Series([record.status for record in records]).value_counts()
    statuses = ", ".join(f"{status} {count}" for status, count in counts.items())
    lines = [title, f"  status: {statuses}"]
    lines += [f"  {note}" for note in notes]
    groups = duplicate_groups(records)
    if groups:
        shown = ", ".join(" = ".join(map(str, group)) for group in groups[:_GROUPS_SHOWN])
        more = len(groups) - _GROUPS_SHOWN
        shown += f" and {more} more groups" if more > 0 else ""
        lines.append(f"  duplicates: {shown} (identical pixels)")
    known = set(keys)
    kept = [record for record in records if record.site in known]
    limits = value_range(kept, len(bands))
    lines += [
        f"  {band}: {low:g} to {high:g}" if np.isfinite(low) else f"  {band}: no valid pixel"
        for band, low, high in zip(bands, *limits, strict=True)
    ]
    return "\n".join(lines)


def html_page(chips: "Chips", text: str) -> str:
    """Return the facts as a table, under pictures of the first chips."""
    title, *facts = text.splitlines()
    rows = "".join(
        f"<tr><th style='text-align:left'>{escape(name.strip())}</th>"
        f"<td style='text-align:left'>{escape(value.strip())}</td></tr>"
        for name, _, value in (fact.partition(":") for fact in facts)
    )
    return f"{_pictures(chips)}<table><caption>{escape(title)}</caption>{rows}</table>"


def draw_preview(
    chips: "Chips", keys: Sequence[Hashable], time: int, bands: Sequence[str] | None
) -> Any:
    """Draw one image of each of some sites, and return the axes."""
    from terracausal.plotting import plot_chips

    positions = color_positions(chips.bands, bands)
    images, titles = [], []
    for site in keys:
        dates, frames = chips.times_of(site), chips[site]
        if not -len(frames) <= time < len(frames):
            raise ValueError(
                f"`time` must be the position of an image; site {list_some([site])} has "
                f"{len(frames)}; got {time}."
            )
        day = dates[time]
        images.append(frames[time])
        titles.append(str(site) if pd.isna(day) else f"{site}, {day:%Y-%m-%d}")
    return plot_chips(images, titles, bands=positions)


def color_positions(names: Sequence[str], bands: Sequence[str] | None) -> tuple[int, ...]:
    """Return the positions of the bands to show: three as colours or one in grey.

    Examples
    --------
    >>> color_positions(["nir", "red", "green", "blue"], None)
    (1, 2, 3)
    >>> color_positions(["nir", "red"], None)
    (0,)
    """
    if bands is not None:
        absent = [name for name in bands if name not in names]
        if absent or len(bands) not in (1, 3):
            raise BandError(
                f"`bands` must be one or three of {list_some(names, 20)}; got "
                f"{list_some(bands, 20)}."
            )
        return tuple(list(names).index(name) for name in bands)
    lower = [name.lower() for name in names]
    for colors in _COLORS:
        if set(colors) <= set(lower):
            return tuple(lower.index(color) for color in colors)
    return (0,)


def _pictures(chips: "Chips") -> str:
    """Return the first chips as an inline picture; nothing where they cannot be drawn."""
    try:
        axes = draw_preview(chips, list(chips.keys[:_PICTURES]), -1, None)
    except OSError:
        # a page about chips must not fail because one of them cannot be read any more
        return ""
    buffer = BytesIO()
    axes.flat[0].figure.savefig(buffer, format="png", dpi=80, bbox_inches="tight")
    data = base64.b64encode(buffer.getvalue()).decode()
    return f"<img alt='the first chips' src='data:image/png;base64,{data}'/><br/>"
