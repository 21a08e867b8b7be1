"""The day of an image from its name: products of Landsat, Sentinel and MODIS, and plain dates."""

import re
from collections.abc import Mapping
from pathlib import PurePosixPath

import pandas as pd

from terracausal._foundation.errors import list_some

_YEARS = (1900, 2100)
_PARTS = frozenset({"year", "month", "day", "doy"})

# The first group of rules that finds something decides; a product name carries its processing
# date after the date of the image, so that only the first date of a known product counts.
_KNOWN = (
    # Landsat scene: LE71700552000342EDC00 = sensor, path and row, year, day of the year
    re.compile(r"(?<![A-Z0-9])L[COTEM]\d\d{6}(?P<year>\d{4})(?P<doy>\d{3})(?!\d)"),
    # Landsat product: LC08_L2SP_170055_20200113_20200823_02_T1
    re.compile(
        r"(?<![A-Z0-9])L[COTEM]\d\d_[A-Z0-9]{2,4}_\d{6}_"
        r"(?P<year>\d{4})(?P<month>\d\d)(?P<day>\d\d)(?!\d)"
    ),
    # MODIS and VIIRS: MOD13Q1.A2020001.h21v08
    re.compile(r"\.A(?P<year>\d{4})(?P<doy>\d{3})(?=\.|$)"),
    # Sentinel-2 before 2016: ..._V20160805T080612_...
    re.compile(r"_V(?P<year>\d{4})(?P<month>\d\d)(?P<day>\d\d)T\d{6}"),
    # Sentinel: S2A_MSIL2A_20200113T104411_N0213_R008_T31TDG_20200113T121530, T31TDG_2020...T..._B02
    re.compile(
        r"(?:(?<![A-Z0-9])S[123][A-D]_|(?<![A-Z0-9])T\d\d[A-Z]{3}_)[A-Z0-9_]*?"
        r"(?<!\d)(?P<year>\d{4})(?P<month>\d\d)(?P<day>\d\d)T\d{6}"
    ),
)
_FULL = (
    re.compile(r"(?<!\d)(?P<year>\d{4})(?P<sep>[-_.]?)(?P<month>\d\d)(?P=sep)(?P<day>\d\d)(?!\d)"),
    re.compile(r"(?<!\d)(?P<year>\d{4})(?P<doy>\d{3})(?!\d)"),
)
_PARTIAL = (
    re.compile(r"(?<![0-9A-Za-z])(?P<year>\d{4})[-_](?P<month>\d\d)(?![0-9A-Za-z])"),
    re.compile(r"^(?P<year>\d{4})$"),
)


def date_in_name(name: str) -> pd.Timestamp | None:
    """Return the day on which the image of this name was taken, None if the name has no date.

    Understood are Landsat scene and product names, Sentinel products, granules and bands, MODIS
    and VIIRS names, and plain dates: YYYYMMDD, YYYY-MM-DD (or with `_` or `.`), YYYYDDD (day of
    the year), YYYY-MM, and a file named by a year alone.

    Parameters
    ----------
    name : str
        Name, path or address of a file, or name of a layer. Folders are not searched, because a
        folder may be named by the day of a download.

    Returns
    -------
    Timestamp or None
        Midnight of the day. A month or a year stands for its last day: images up to then may have
        gone into it.

    Raises
    ------
    ValueError
        If the name is of no known product and holds several different dates.

    Examples
    --------
    >>> date_in_name("LE71700552000342EDC00")
    Timestamp('2000-12-07 00:00:00')
    >>> date_in_name("S2A_MSIL2A_20200113T104411_N0213_R008_T31TDG_20200114T121530.SAFE")
    Timestamp('2020-01-13 00:00:00')
    >>> date_in_name("composites/1985.tif")
    Timestamp('1985-12-31 00:00:00')
    >>> date_in_name("tile_04.tif") is None
    True
    """
    stem = _stem(name)
    for pattern in _KNOWN:
        found = pattern.search(stem.upper())
        date = _day(found.groupdict()) if found else None
        if date is not None:
            return date
    for patterns in (_FULL, _PARTIAL):
        dates = {
            date
            for pattern in patterns
            for found in pattern.finditer(stem)
            if (date := _day(found.groupdict())) is not None
        }
        if len(dates) > 1:
            shown = list_some([f"{date:%Y-%m-%d}" for date in sorted(dates)])
            raise ValueError(
                f"The name {name!r} must hold one date; found {len(dates)}: {shown}. Say which one "
                "counts with a pattern that has the groups year, month and day, or pass the dates."
            )
        if dates:
            return dates.pop()
    return None


def date_by_pattern(name: str, pattern: str) -> pd.Timestamp:
    """Return the day that a regular expression finds in a name.

    Parameters
    ----------
    name : str
        Anything; the whole text is searched.
    pattern : str
        Regular expression with the named groups `year` and, where the name has them, `month` and
        `day`, or `doy` (day of the year); or with one group that holds a date as it is written in
        `date_in_name`.

    Returns
    -------
    Timestamp
        Midnight of the day; a year or a month stands for its last day.

    Raises
    ------
    ValueError
        If the pattern cannot be used, does not match, or finds something that is no date.

    Examples
    --------
    >>> date_by_pattern("kafa_13-01-2020_v2.tif", r"(?P<day>..)-(?P<month>..)-(?P<year>.{4})")
    Timestamp('2020-01-13 00:00:00')
    """
    compiled = _compiled(pattern)
    found = compiled.search(name)
    if found is None:
        raise ValueError(
            f"The pattern {pattern!r} must match the name of every layer; it does not match "
            f"{name!r}. Change the pattern, or pass the dates."
        )
    named = found.groupdict()
    date = _day(named) if "year" in named else date_in_name(found.group(1))
    if date is None:
        raise ValueError(
            f"The pattern {pattern!r} must find a date in the name of every layer; in {name!r} it "
            f"finds {list_some(found.groups())}. Change the pattern, or pass the dates."
        )
    return date


def _stem(name: str) -> str:
    """Return the last part of a path or address without its extension and query."""
    plain = name.partition("?")[0] if "://" in name else name
    last = PurePosixPath(plain.replace("\\", "/")).name
    root, dot, extension = last.rpartition(".")
    # a dot may also stand between the parts of a date or a MODIS name
    known = bool(dot) and not extension.isdigit() and len(extension) <= 5
    return root if known and root else last


def _day(parts: Mapping[str, str | None]) -> pd.Timestamp | None:
    """Return the day of named parts; None if there is no such day."""
    try:
        year = int(parts["year"] or "")
        if not _YEARS[0] <= year < _YEARS[1]:
            return None
        if parts.get("doy"):
            date = pd.Timestamp(year, 1, 1) + pd.Timedelta(days=int(parts["doy"] or "") - 1)
            return date if date.year == year else None
        if parts.get("day"):
            return pd.Timestamp(year, int(parts["month"] or ""), int(parts["day"] or ""))
        month = int(parts["month"] or "") if parts.get("month") else 12
        return pd.Timestamp(year, month, 1) + pd.offsets.MonthEnd(0)
    except (ValueError, KeyError):
        return None


def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise ValueError(
            f"`dates` must be a regular expression where it is a text; {pattern!r} is none "
            f"({error}). A single date is passed as a list of one."
        ) from error
    groups = set(compiled.groupindex)
    by_parts = "year" in groups and groups <= _PARTS
    if not by_parts and compiled.groups != 1:
        raise ValueError(
            "A pattern needs the named groups year (and month and day, or doy), or one group that "
            f"holds the date; {pattern!r} has {compiled.groups} groups, of which "
            f"{len(groups)} are named: {list_some(sorted(groups))}."
        )
    return compiled
