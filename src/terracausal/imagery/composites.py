"""Composites: the images of a window of time become one."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from terracausal._foundation.checks import check_choice
from terracausal._foundation.errors import list_some
from terracausal.imagery.chips import Chips
from terracausal.imagery.derived import Timing, dates_by_site, derive_chips
from terracausal.imagery.masks import PixelMask, apply_mask, cloud_share, quality_position

How: TypeAlias = Literal["median", "mean", "least_cloudy"]

HOWS: tuple[How, ...] = ("median", "mean", "least_cloudy")
_NAMED = {"yearly": "YE", "seasonal": "QE-NOV", "monthly": "ME"}
_MOST_WINDOWS = 10_000
_BySite: TypeAlias = Mapping[Hashable, NDArray[np.intp]]


@dataclass(frozen=True, slots=True)
class Windows:
    """Windows of time that follow each other without a gap.

    Parameters
    ----------
    starts : DatetimeIndex of length n_windows
        First day of each window.
    ends : DatetimeIndex of length n_windows
        Last day of each window, which is also its date.
    """

    starts: pd.DatetimeIndex
    ends: pd.DatetimeIndex

    def __len__(self) -> int:
        return len(self.ends)

    def number(self, times: pd.DatetimeIndex) -> NDArray[np.intp]:
        """Return the window of each time, counted from 0; -1 for a time outside all windows."""
        days = times.normalize()
        number = np.asarray(self.starts.searchsorted(days, side="right") - 1, dtype=np.intp)
        outside = (number < 0) | np.asarray(days > self.ends[-1])
        return np.where(outside, -1, number)


def composite_chips(
    chips: Chips, *, every: Any = "yearly", how: How = "median", mask: PixelMask | None = None
) -> Chips:
    """Return chips with one image for each window of time, the same windows for all sites.

    Parameters
    ----------
    chips : Chips
        Dated images; their number and dates may differ between sites.
    every : {"yearly", "seasonal", "monthly"}, pandas offset or dates, default="yearly"
        Windows, from the first to the last image of any site: see `time_windows`. Seasons begin in
        December, March, June and September.
    how : {"median", "mean", "least_cloudy"}, default="median"
        Median or mean of the valid values of each pixel and band; or the one image of a site that
        has the largest share of valid pixels there, the earliest of equals.
    mask : LandsatMask, SceneClassMask or CloudProbabilityMask, default=None
        Leaves out clouds before images are joined; its quality band is not part of the result. None
        leaves out missing pixels only.

    Returns
    -------
    Chips
        Each image is dated by the last day of its window, so that none of the images in it is later
        than its date. Windows without a valid pixel are NaN (status "no data"). The manifest names
        all sources of a window and the mean share of clouds of its images.

    Raises
    ------
    BandError
        If the quality band of the mask is missing.
    ValueError
        If images have no date, or `every` is no length of time.

    Notes
    -----
    Every chip is read once to fill the manifest; afterwards a composite is computed whenever it is
    asked for. Write the result to a store to compute it once.

    Examples
    --------
    >>> import numpy as np
    >>> pixels = np.array([1, 5, 9, 7]).reshape(1, 4, 1, 1, 1)
    >>> days = ["2000-12-07", "2000-01-05", "2000-03-01", "2002-06-01"]
    >>> chips = Chips.from_arrays(pixels, sites=["a"], bands=["ndvi"], times=days)
    >>> composites = composite_chips(chips, every="yearly")
    >>> composites["a"].ravel().tolist(), composites.times.year.tolist()
    ([5.0, nan, 7.0], [2000, 2001, 2002])
    """
    check_choice("how", how, HOWS)
    if mask is not None:
        quality_position(chips.bands, mask)
    dates = dates_by_site(chips)
    undated = [site for site, days in dates.items() if any(day is None for day in days)]
    if undated:
        raise ValueError(
            f"Composites need the date of every image; those of {len(undated)} of {len(dates)} "
            f"sites have none: {list_some(undated)}. Read the chips with `dates`."
        )
    days = pd.DatetimeIndex(sorted({day for of in dates.values() for day in of if day is not None}))
    windows = time_windows(days, every)
    numbers = {site: windows.number(pd.DatetimeIndex(of)) for site, of in dates.items()}
    orders = {site: pd.DatetimeIndex(of).argsort() for site, of in dates.items()}
    derivation = _Compositing(
        _left_bands(chips, mask), chips.bands, (orders, numbers), (len(windows), how), mask
    )
    ends = list(windows.ends)
    timing = Timing(
        windows.ends.rename("time"),
        dict.fromkeys(dates, ends),
        {site: _groups(number, len(windows)) for site, number in numbers.items()},
    )
    return derive_chips(chips, derivation, timing, _note(windows, numbers, how, mask))


@dataclass(frozen=True, slots=True)
class _Compositing:
    """Composites of the chips of sites."""

    bands: tuple[str, ...]
    old_bands: tuple[str, ...]
    placing: tuple[_BySite, _BySite]
    """For each site the order of its times, and the window of each time."""
    target: tuple[int, How]
    """Number of windows, and how images are joined."""
    mask: PixelMask | None

    def pixels(self, site: Hashable, chip: NDArray[np.float32]) -> NDArray[np.float32]:
        n_windows, how = self.target
        if self.mask is not None:
            chip = apply_mask(chip, self.old_bands, self.mask)
        order, number = (by_site[site] for by_site in self.placing)
        return composite_pixels(chip[order], number[order], n_windows, how)

    def cloud_shares(self, chip: NDArray[np.float32]) -> Sequence[float] | None:
        return None if self.mask is None else cloud_share(chip, self.old_bands, self.mask)

    def only(self, sites: Sequence[Hashable]) -> "_Compositing":
        orders, numbers = self.placing
        return replace(
            self,
            placing=(
                {site: orders[site] for site in sites},
                {site: numbers[site] for site in sites},
            ),
        )


def _left_bands(chips: Chips, mask: PixelMask | None) -> tuple[str, ...]:
    return tuple(band for band in chips.bands if mask is None or band != mask.band)


def _groups(number: NDArray[np.intp], n_windows: int) -> tuple[tuple[int, ...], ...]:
    """Return for each window the positions of its images."""
    return tuple(tuple(np.flatnonzero(number == window).tolist()) for window in range(n_windows))


def _note(
    windows: Windows,
    numbers: _BySite,
    how: How,
    mask: PixelMask | None,
) -> str:
    """Say in counts what was done."""
    used = sum(int((number >= 0).sum()) for number in numbers.values())
    outside = sum(int((number < 0).sum()) for number in numbers.values())
    masked = "" if mask is None else f", masked by {mask.band}"
    left = f"; {outside:,} images outside the windows left out" if outside else ""
    return (
        f"composites: {how.replace('_', ' ')} of {used:,} images in {len(windows):,} windows from "
        f"{windows.starts[0]:%Y-%m-%d} to {windows.ends[-1]:%Y-%m-%d}{masked}{left}"
    )


def time_windows(times: pd.DatetimeIndex, every: Any) -> Windows:
    """Return the windows from the first to the last time, also those without an image.

    Parameters
    ----------
    times : DatetimeIndex
        All times, in any order.
    every : {"yearly", "seasonal", "monthly"}, pandas offset or sequence of dates
        Length of a window. Seasons are December to February, March to May, June to August and
        September to November. An offset such as "16D", "QE" or "2MS" makes the windows of
        `pandas.Series.resample`; windows of a number of days are counted from 1970-01-01. A
        sequence of dates gives the first days of the windows, and last the day after the last one.

    Returns
    -------
    Windows
        In order of time.

    Raises
    ------
    ValueError
        If there is no time, the offset is unknown or shorter than a day, or dates do not rise.

    Examples
    --------
    >>> windows = time_windows(pd.DatetimeIndex(["2000-11-30", "2001-02-01"]), "monthly")
    >>> windows.ends.strftime("%Y-%m-%d").tolist()
    ['2000-11-30', '2000-12-31', '2001-01-31', '2001-02-28']
    """
    if not len(times):
        raise ValueError("Windows need at least one time; found none.")
    if not isinstance(every, str | pd.offsets.BaseOffset | pd.Timedelta):
        return _windows_between(every)
    offset = _offset(every)
    days = times.normalize().as_unit("us").sort_values()
    images = pd.Series(1, index=days)
    if isinstance(offset, pd.offsets.Day):
        # without an origin, windows of some days would depend on the first image
        counts = images.resample(offset, origin="epoch").sum()
    else:
        counts = images.resample(offset).sum()
    labels = pd.DatetimeIndex(counts.index).as_unit("us").rename(None)
    if len(labels) > _MOST_WINDOWS:
        raise ValueError(
            f"`every` must make at most {_MOST_WINDOWS:,} windows; {every!r} makes {len(labels):,} "
            f"from {days[0]:%Y-%m-%d} to {days[-1]:%Y-%m-%d}. Choose longer windows."
        )
    one = pd.Timedelta(days=1)
    if pd.Grouper(freq=offset).closed == "right":  # offsets such as "ME" name the last day
        starts = pd.DatetimeIndex([labels[0] - offset, *labels[:-1]]) + one
        return Windows(starts, labels)
    return Windows(labels, pd.DatetimeIndex([*labels[1:], labels[-1] + offset]) - one)


def composite_pixels(
    pixels: NDArray[np.float32], windows: NDArray[np.intp], n_windows: int, how: How = "median"
) -> NDArray[np.float32]:
    """Return one image for each window, made of the valid pixels of its images.

    Parameters
    ----------
    pixels : ndarray of shape (n_times, n_bands, height, width)
        float32, in order of time, NaN where missing.
    windows : ndarray of int of shape (n_times,)
        Window of each time; -1 leaves an image out.
    n_windows : int
        Number of windows.
    how : {"median", "mean", "least_cloudy"}, default="median"
        Median or mean of each pixel and band, computed in float64; or the one image with the
        largest share of valid pixels, the earliest of those with the same share.

    Returns
    -------
    ndarray of shape (n_windows, n_bands, height, width)
        float32; NaN where a window has no valid pixel.

    Examples
    --------
    >>> pixels = np.array([1, 5, 9, 7], dtype=np.float32).reshape(4, 1, 1, 1)
    >>> composite_pixels(pixels, np.array([0, 0, 0, 2]), 3, "median").ravel().tolist()
    [5.0, nan, 7.0]
    """
    check_choice("how", how, HOWS)
    result = np.full((n_windows, *pixels.shape[1:]), np.nan, dtype=np.float32)
    for window in np.unique(windows[windows >= 0]):
        images = pixels[windows == window]
        if how == "median":
            result[window] = median_image(images)
        elif how == "mean":
            result[window] = mean_image(images)
        else:
            result[window] = images[clearest_image(images)]
    return result


def median_image(images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the median over the first axis of what is not NaN; NaN where nothing is.

    Examples
    --------
    >>> median_image(np.array([[1.0], [np.nan], [4.0]], dtype=np.float32)).tolist()
    [2.5]
    """
    ordered = np.sort(images, axis=0)  # NaN comes last
    n_valid = (~np.isnan(images)).sum(axis=0)
    lower, upper = np.maximum(n_valid - 1, 0) // 2, n_valid // 2
    upper = np.minimum(upper, len(images) - 1)
    # NaN where nothing is valid, as the first of the ordered values then is NaN
    below = np.take_along_axis(ordered, lower[None], axis=0)[0].astype(np.float64)
    above = np.take_along_axis(ordered, upper[None], axis=0)[0].astype(np.float64)
    return np.asarray((below + above) / 2, dtype=np.float32)


def mean_image(images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the mean over the first axis of what is not NaN; NaN where nothing is.

    Examples
    --------
    >>> mean_image(np.array([[1.0], [np.nan], [4.0]], dtype=np.float32)).tolist()
    [2.5]
    """
    valid = ~np.isnan(images)
    n_valid = valid.sum(axis=0)
    total = np.where(valid, images, 0).sum(axis=0, dtype=np.float64)
    return np.asarray(
        np.where(n_valid > 0, total / np.maximum(n_valid, 1), np.nan), dtype=np.float32
    )


def clearest_image(images: NDArray[np.float32]) -> int:
    """Return the position of the image with the most valid pixels, the first of equals.

    A pixel is valid where all of its bands are.

    Parameters
    ----------
    images : ndarray of shape (n_images, n_bands, height, width)
        NaN where missing.

    Examples
    --------
    >>> images = np.array([[[[1, np.nan]]], [[[3, 4]]], [[[5, 6]]]])
    >>> clearest_image(images)
    1
    """
    valid = ~np.isnan(images).any(axis=1)
    return int(valid.reshape(len(images), -1).sum(axis=1).argmax())


def _offset(every: Any) -> Any:
    text = _NAMED.get(every, every) if isinstance(every, str) else every
    try:
        offset = pd.tseries.frequencies.to_offset(text)
    except ValueError as error:
        raise ValueError(
            f"`every` must be one of {list_some(_NAMED)}, a pandas offset such as '16D', or the "
            f"first days of the windows; got {every!r}."
        ) from error
    day = pd.Timestamp(2000, 3, 1)
    if offset is None or offset.n < 1 or day + offset < day + pd.Timedelta(days=1):
        raise ValueError(
            f"`every` must be at least a day, because images are dated by day; got {every!r}."
        )
    return offset


def _windows_between(edges: Any) -> Windows:
    days = pd.DatetimeIndex(pd.to_datetime(pd.Index(list(edges)))).normalize().as_unit("us")
    if len(days) < 2 or days.hasnans or not days.is_monotonic_increasing or not days.is_unique:
        shown = list_some([f"{day:%Y-%m-%d}" if not pd.isna(day) else "NaT" for day in days])
        raise ValueError(
            f"The dates of `every` must be at least two and rise; got {len(days)}: {shown}."
        )
    return Windows(days[:-1], days[1:] - pd.Timedelta(days=1))
