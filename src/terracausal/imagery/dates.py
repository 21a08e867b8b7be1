"""When an image was taken: dates of layers from whatever says them, and the cut-off of a site."""

import re
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from terracausal._foundation.errors import AlignmentError, LeakageError, list_some
from terracausal.imagery.scene_names import date_by_pattern, date_in_name

# the last moment that went into the image comes first: a cut-off must be able to trust the date
_METADATA = (
    "end_datetime",
    "datetime",
    "DATE_ACQUIRED",
    "ACQUISITIONDATETIME",
    "NITF_IDATIM",
    "RANGEENDINGDATE",
    "PRODUCT_STOP_TIME",
    "DATATAKE_1_DATATAKE_SENSING_START",
    "acquisition_date",
    "start_datetime",
)


def date_in_metadata(metadata: Mapping[str, Any]) -> pd.Timestamp | None:
    """Return the day of an image from the properties of a STAC item or the tags of a file.

    Parameters
    ----------
    metadata : mapping
        Properties or tags. TIFFTAG_DATETIME is not read: it is the day on which the file was made.

    Returns
    -------
    Timestamp or None
        Midnight of the day (UTC). A period counts by its end (`end_datetime`), so that a cut-off
        keeps out every image that went into it.

    Raises
    ------
    ValueError
        If a date cannot be read.

    Examples
    --------
    >>> date_in_metadata({"datetime": "2020-01-13T23:30:00-05:00"})
    Timestamp('2020-01-14 00:00:00')
    """
    for key in _METADATA:
        if metadata.get(key):
            return as_day(metadata[key], key)
    for key in ("system:time_end", "system:time_start"):  # Earth Engine counts milliseconds
        if metadata.get(key):
            return pd.Timestamp(int(metadata[key]), unit="ms").normalize()
    return None


def layer_dates(
    names: Sequence[str],
    dates: str | Sequence[Any] | Mapping[Any, Any] | pd.Series | None = None,
    *,
    metadata: Sequence[Mapping[str, Any]] | None = None,
) -> pd.DatetimeIndex | None:
    """Return the date of every layer, from whatever says it.

    Parameters
    ----------
    names : sequence of str of length n_layers
        File names, band descriptions or other names of the layers.
    dates : str, sequence, mapping or Series, default=None
        None reads `metadata`, then the names. A text is a regular expression (`date_by_pattern`). A
        sequence has one date, or one scene name, for each layer in its order: for example a column
        of a table. A mapping, or a Series indexed by names, gives the date (or scene name) of each
        name.
    metadata : sequence of mapping of length n_layers, default=None
        Tags or properties of each layer (`date_in_metadata`).

    Returns
    -------
    DatetimeIndex of length n_layers or None
        In the order of `names`, to the day; None if `dates` is None and no layer has a date.

    Raises
    ------
    AlignmentError
        If the number of dates differs from the number of layers or a name has no date.
    ValueError
        If only some layers have a date, or something is no date.

    Examples
    --------
    >>> layer_dates(["b.tif", "a.tif"], ["2020-01-13", "LE71700552000342EDC00"]).year.tolist()
    [2020, 2000]
    >>> layer_dates(["2020-01-13.tif", "2020-01-28.tif"]).day.tolist()
    [13, 28]
    """
    if dates is None:
        return _dates_found(names, metadata)
    if isinstance(dates, str):
        pattern = dates
        return _to_index([date_by_pattern(name, pattern) for name in names])
    by_name = isinstance(dates, Mapping) or (
        isinstance(dates, pd.Series) and all(isinstance(name, str) for name in dates.index)
    )
    if by_name:
        lookup: dict[Any, Any] = dict(dates)  # type: ignore[arg-type]
        absent = [name for name in names if name not in lookup]
        if absent:
            raise AlignmentError(
                f"`dates` must have a date for each of {len(names)} layers; {len(absent)} have "
                f"none: {list_some(absent)}. It has dates for {list_some(lookup)}."
            )
        values: list[Any] = [lookup[name] for name in names]
    else:
        values = list(dates)
    if len(values) != len(names):
        raise AlignmentError(
            f"`dates` must have one date for each of the {len(names)} layers; it has "
            f"{len(values)}: {list_some(values, 3)}. Layers: {list_some(names, 3)}."
        )
    return _to_index([as_day(value, f"dates[{place}]") for place, value in enumerate(values)])


def as_day(value: Any, what: str) -> pd.Timestamp:
    """Return the day of an image from a date, a year, or a text that is or holds a date.

    Parameters
    ----------
    value : date, Timestamp, datetime64, int or str
        A date; an integer YYYY or YYYYMMDD; a text may also be a scene name.
    what : str
        What the value is, for the message.

    Returns
    -------
    Timestamp
        Midnight of the day (UTC); a month or a year stands for its last day.

    Raises
    ------
    ValueError
        If it is no date.

    Examples
    --------
    >>> as_day("2020-01-13T10:44:11Z", "datetime")
    Timestamp('2020-01-13 00:00:00')
    """
    if isinstance(value, int | np.integer) and not isinstance(value, bool):
        value = str(value)
    day = _moment(value)
    # 01/02/2020 has two readings and is no path either
    if day is None and isinstance(value, str) and not re.fullmatch(r"[\d/.\s]*/[\d/.\s]*", value):
        day = date_in_name(value)
    if day is None:
        raise ValueError(
            f"{what} must be a date or a scene name; got {value!r}. Write dates as YYYY-MM-DD."
        )
    return day


def cutoff_dates(before: Any, sites: pd.DataFrame) -> pd.Series:
    """Return for every site the day before which its images must have been taken.

    Parameters
    ----------
    before : date, str, mapping or Series
        One date for all sites, the name of a column of `sites`, or a date for each site key. A
        month or a year sets the limit at its first day; a missing date (a site that is never
        treated) sets none.
    sites : DataFrame
        One row per site, indexed by site key.

    Returns
    -------
    Series of length n_sites
        datetime64, indexed by site; NaT where there is no limit.

    Raises
    ------
    AlignmentError
        If a site has no entry.
    ValueError
        If something is no date.

    Examples
    --------
    >>> sites = pd.DataFrame({"treated_on": ["2008-07-01", None]}, index=["Arua", "Gulu"])
    >>> cutoff_dates("treated_on", sites).isna().tolist()
    [False, True]
    """
    if isinstance(before, str) and before in sites.columns:
        column: Any = sites[before]
    elif isinstance(before, Mapping | pd.Series):
        column = pd.Series(dict(before), dtype=object)
        absent = [site for site in sites.index if site not in column.index]
        if absent:
            raise AlignmentError(
                f"`before` must have a date for each of {len(sites)} sites; {len(absent)} have no "
                f"entry: {list_some(absent)}. Give a missing date (NaT) to sites without a limit."
            )
        column = column.loc[sites.index]
    else:
        try:
            column = pd.Series([_limit(before, "`before`")] * len(sites), index=sites.index)
        except ValueError as error:
            raise ValueError(
                f"`before` must be a date, a column of `sites` or a date for each site; got "
                f"{before!r}. Columns: {list_some(sites.columns)}."
            ) from error
    limits = [
        pd.NaT if pd.isna(value) else _limit(value, f"`before` of site {list_some([site])}")
        for site, value in zip(sites.index, column, strict=True)
    ]
    return pd.Series(pd.DatetimeIndex(limits).as_unit("us"), index=sites.index, name="before")


def taken_before(dates: pd.DatetimeIndex, limit: Any) -> NDArray[np.bool_]:
    """Say which images were taken before the day of the limit; all of them if it is missing.

    An image of the same day is not before it.

    Examples
    --------
    >>> taken_before(pd.DatetimeIndex(["2008-06-30", "2008-07-01"]), "2008-07-01").tolist()
    [True, False]
    """
    if pd.isna(limit):
        return np.ones(len(dates), dtype=bool)
    return np.asarray(dates.normalize() < pd.Timestamp(limit).normalize(), dtype=bool)


def refuse_undated(dates: Sequence[pd.Timestamp | None], names: Sequence[str]) -> None:
    """Raise a `LeakageError` if a layer that a cut-off should judge has no date.

    Parameters
    ----------
    dates : sequence of Timestamp or None
        Date of each layer.
    names : sequence of str
        Name of each layer.

    Examples
    --------
    >>> refuse_undated([pd.Timestamp("2008-06-30")], ["2008-06-30.tif"])
    """
    undated = [name for name, date in zip(names, dates, strict=True) if date is None]
    if undated:
        raise LeakageError(
            f"`before` needs the date of every image; {len(undated)} of {len(names)} have none: "
            f"{list_some(undated)}. Pass `dates`: a pattern, or one date for each layer."
        )


def refuse_later_images(
    last_images: Mapping[Hashable, Any], limits: Mapping[Hashable, Any]
) -> None:
    """Raise a `LeakageError` if the last image of a site is not from before its treatment.

    Parameters
    ----------
    last_images : mapping or Series of site to date
        Day of the last image used for each site; missing where the images have no date.
    limits : mapping or Series of site to date
        Day of the treatment of each site; missing where there was none.

    Raises
    ------
    LeakageError
        With the counts, and the first site with both dates.

    Examples
    --------
    >>> refuse_later_images({"Arua": "2008-06-30"}, {"Arua": "2008-07-01"})
    """
    judged = {site: limit for site, limit in limits.items() if not pd.isna(limit)}
    undated = [site for site in judged if pd.isna(last_images.get(site))]
    if undated:
        raise LeakageError(
            f"Images must be from before the treatment; those of {len(undated)} of {len(judged)} "
            f"treated sites have no date: {list_some(undated)}. Read them with `dates`."
        )
    late = [
        (site, pd.Timestamp(last_images[site]), pd.Timestamp(limit))
        for site, limit in judged.items()
        if not taken_before(pd.DatetimeIndex([last_images[site]]), limit)[0]
    ]
    if late:
        site, last, limit = late[0]
        raise LeakageError(
            f"Images must be from before the treatment; {len(late)} of {len(judged)} sites have "
            f"later ones, first site {list_some([site])} with an image of {last:%Y-%m-%d} and the "
            f"treatment on {limit:%Y-%m-%d}. Read them with `before`, which leaves such images out."
        )


def _dates_found(
    names: Sequence[str], metadata: Sequence[Mapping[str, Any]] | None
) -> pd.DatetimeIndex | None:
    told = [date_in_metadata(tags) for tags in metadata] if metadata is not None else []
    if len(told) not in {0, len(names)}:
        raise AlignmentError(
            f"`metadata` must describe each of the {len(names)} layers; it describes {len(told)}."
        )
    told = told or [None] * len(names)
    found = [
        date_in_name(name) if known is None else known
        for name, known in zip(names, told, strict=True)
    ]
    undated = [name for name, date in zip(names, found, strict=True) if date is None]
    if undated and len(undated) < len(names):
        raise ValueError(
            f"Either all layers must have a date or none; {len(undated)} of {len(names)} have "
            f"none: {list_some(undated)}. Pass `dates`: a pattern, or one date for each layer."
        )
    return None if undated or not found else _to_index(found)


def _to_index(dates: list[Any]) -> pd.DatetimeIndex:
    return pd.DatetimeIndex(dates, name="time").as_unit("us")


def _moment(value: Any) -> pd.Timestamp | None:
    """Return the day of a value that says a whole date in one way only."""
    # pandas would read 01/02/2020 month first, and count nanoseconds from 1970 in a bare number
    if isinstance(value, str) and not re.match(r"\s*\d{4}-\d\d-\d\d(?:[T ]|\s*$)", value):
        return None
    if value is None or isinstance(value, bool | int | float | np.number):
        return None
    try:
        stamp = pd.Timestamp(value)
    except (ValueError, TypeError):
        return None
    if pd.isna(stamp):
        return None
    if stamp.tzinfo is not None:
        stamp = stamp.tz_convert("UTC").tz_localize(None)
    day: pd.Timestamp = stamp.normalize()
    return day


def _limit(value: Any, what: str) -> pd.Timestamp:
    """Return the first day of a date, month or year."""
    text = str(value)
    if isinstance(value, float) and value.is_integer():
        text = str(int(value))
    found = re.fullmatch(r"(\d{4})(?:-(\d\d))?", text)
    day = _moment(f"{found[1]}-{found[2] or '01'}-01") if found else _moment(value)
    if day is None:
        raise ValueError(f"{what} must be a date; got {value!r}. Write it as YYYY-MM-DD.")
    return day
