"""What an array must be like to become chips, and the order of its images."""

from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from terracausal._foundation.errors import AlignmentError, BandError, list_some
from terracausal.imagery.dates import as_day

AXES = "(n_sites, n_times, n_bands, height, width)"


def as_dates(times: Any) -> pd.DatetimeIndex | None:
    """Return times as dates; None stays None.

    Raises
    ------
    ValueError
        If one of them does not say a day in one way only.
    """
    if times is None:
        return None
    given = [times] if isinstance(times, str) else list(times)
    days = [as_day(value, f"times[{k}]") for k, value in enumerate(given)]
    return pd.DatetimeIndex(days, name="time")


def check_axes(pixels: NDArray[Any]) -> None:
    """Raise a `ValueError` unless an array has the axes of chips, none of them empty."""
    if pixels.ndim == 4:
        raise ValueError(
            f"`array` must have five axes {AXES}; found four, shape {pixels.shape}. "
            "Add the time axis with `array[:, None]`."
        )
    if pixels.ndim != 5:
        raise ValueError(
            f"`array` must have five axes {AXES}; found {pixels.ndim}, shape {pixels.shape}."
        )
    if 0 in pixels.shape:
        raise ValueError(f"No axis of `array` {AXES} may be empty; found shape {pixels.shape}.")


def check_lengths(
    pixels: NDArray[Any],
    table: gpd.GeoDataFrame,
    bands: tuple[str, ...],
    times: pd.DatetimeIndex | None,
) -> None:
    """Raise an error unless sites, bands and times are as many as the array has."""
    n_sites, n_times, n_bands = pixels.shape[:3]
    if len(table) != n_sites:
        raise AlignmentError(
            f"`sites` must have one row for each of the {n_sites} rows of `array`; it has "
            f"{len(table)}: {list_some(table.index)}."
        )
    if len(bands) != n_bands:
        raise BandError(
            f"`bands` must name the {n_bands} bands of `array` (shape {pixels.shape}, {AXES}); "
            f"got {len(bands)}: {list_some(bands, 20)}."
        )
    if times is not None and len(times) != n_times:
        raise ValueError(
            f"`times` must date the {n_times} times of `array`; got {len(times)}: "
            f"{list_some(times.strftime('%Y-%m-%d'))}."
        )


def by_date(
    pixels: NDArray[Any], times: pd.DatetimeIndex | None
) -> tuple[NDArray[Any], pd.DatetimeIndex | None]:
    """Return images and dates from the earliest to the latest; undated ones as they are.

    Parameters
    ----------
    pixels : ndarray of shape (n_sites, n_times, n_bands, height, width)
        May be masked.
    times : DatetimeIndex of length n_times or None
        Images of one date keep their order.

    Examples
    --------
    >>> days = pd.DatetimeIndex(["2020-01-01", "2019-01-01"])
    >>> pixels, times = by_date(np.array([2, 1]).reshape(1, 2, 1, 1, 1), days)
    >>> pixels.ravel().tolist(), times.year.tolist()
    ([1, 2], [2019, 2020])
    """
    if times is None or times.is_monotonic_increasing:
        return pixels, times
    order = np.argsort(times.to_numpy(), kind="stable")
    ordered = pixels[:, order]
    # a copy that nobody else holds need not be copied again
    ordered.flags.writeable = False
    return ordered, times[order]
