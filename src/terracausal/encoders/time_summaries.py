"""Summaries of a feature over time: the numbers behind `SequenceEncoder`.

Every function takes the features of one site, `values` of shape (n_times, n_features) in order of
time with NaN where an image is missing, and returns NaN where a feature is never seen.
"""

import numpy as np
from numpy.typing import NDArray

YEAR_DAYS = 365.25
MOST_CONDITION = 100.0
"""Above this condition number dates do not tell the annual cycle from a level."""

_Values = NDArray[np.float64]


def variance_over_time(values: _Values) -> _Values:
    """Return the variance over the seen images (divided by their number), shape (n_features,).

    Examples
    --------
    >>> variance_over_time(np.array([[1.0], [np.nan], [3.0]]))
    array([1.])
    """
    seen, count = _seen(values)
    mean = _divide(np.where(seen, values, 0.0).sum(axis=0), count)
    return _divide(np.where(seen, (values - mean) ** 2, 0.0).sum(axis=0), count)


def quantiles_over_time(values: _Values, levels: _Values) -> _Values:
    """Return quantiles over the seen images, shape (n_levels, n_features), by linear interpolation.

    Examples
    --------
    >>> quantiles_over_time(np.array([[1.0], [3.0], [np.nan]]), np.array([0.5]))
    array([[2.]])
    """
    found = np.full((len(levels), values.shape[1]), np.nan)
    known = ~np.isnan(values).all(axis=0)
    found[:, known] = np.nanquantile(values[:, known], levels, axis=0)
    return found


def difference_over_time(values: _Values) -> _Values:
    """Return the last seen minus the first seen value, shape (n_features,); 0 for one image.

    Examples
    --------
    >>> difference_over_time(np.array([[np.nan], [1.0], [4.0], [np.nan]]))
    array([3.])
    """
    seen, _ = _seen(values)
    first = seen.argmax(axis=0)
    last = len(values) - 1 - seen[::-1].argmax(axis=0)
    columns = np.arange(values.shape[1])
    change: _Values = values[last, columns] - values[first, columns]
    return change


def trend_over_time(values: _Values, days: _Values) -> _Values:
    """Return level and slope of a straight line by least squares on the dates.

    Parameters
    ----------
    values : ndarray of shape (n_times, n_features)
        Features.
    days : ndarray of shape (n_times,)
        Date of each image in days from any origin; NaN only where all features are missing.

    Returns
    -------
    ndarray of shape (2, n_features)
        The level, which is the value of the line at the mean date of the seen images (and so their
        mean), and the slope per year, which is 0 where all seen images are of one day.

    Examples
    --------
    >>> trend_over_time(np.array([[1.0], [2.0], [3.0]]), 365.25 * np.array([0, 1, 2]))
    array([[2.],
           [1.]])
    """
    seen, count = _seen(values)
    years = np.where(seen, (days / YEAR_DAYS)[:, None], 0.0)
    known = np.where(seen, values, 0.0)
    level = _divide(known.sum(axis=0), count)
    moved = np.where(seen, years - _divide(years.sum(axis=0), count), 0.0)
    spread = (moved**2).sum(axis=0)
    # images of one day differ from their mean date by rounding only; two days are 1e-3 years apart
    apart = spread > 1e-9
    slope = (moved * np.where(seen, values - level, 0.0)).sum(axis=0) / np.where(apart, spread, 1.0)
    slope = np.where(count > 0, np.where(apart, slope, 0.0), np.nan)
    return np.stack([level, slope])


def harmonic_over_time(values: _Values, days: _Values) -> _Values:
    """Return level, sine and cosine of an annual cycle by least squares on the dates.

    Parameters
    ----------
    values : ndarray of shape (n_times, n_features)
        Features.
    days : ndarray of shape (n_times,)
        Date of each image in days since the start of a year.

    Returns
    -------
    ndarray of shape (3, n_features)
        a, b and c of a + b sin(2 pi days / 365.25) + c cos(2 pi days / 365.25). NaN where the seen
        dates do not tell them apart: fewer than three days of the year, or so close together that
        the condition number of the three columns is above 100.

    Examples
    --------
    >>> days = 365.25 * np.array([0, 0.25, 0.5, 0.75])
    >>> harmonic_over_time(np.array([[5.0], [3.0], [1.0], [3.0]]), days).round(6).ravel().tolist()
    [3.0, 0.0, 2.0]
    """
    angle = 2 * np.pi * days / YEAR_DAYS
    design = np.column_stack([np.ones_like(angle), np.sin(angle), np.cos(angle)])
    seen, _ = _seen(values)
    found = np.full((3, values.shape[1]), np.nan)
    # features mostly share their gaps: one least-squares fit for each pattern of gaps
    patterns, which = np.unique(seen, axis=1, return_inverse=True)
    for number, rows in enumerate(patterns.T):
        columns = which.reshape(-1) == number
        if rows.sum() >= 3 and np.linalg.cond(design[rows]) <= MOST_CONDITION:
            solver = np.linalg.pinv(design[rows])
            found[:, columns] = np.einsum("kt,tf->kf", solver, values[np.ix_(rows, columns)])
    return found


def _seen(values: _Values) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    seen = ~np.isnan(values)
    return seen, seen.sum(axis=0)


def _divide(total: _Values, count: NDArray[np.int64]) -> _Values:
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)
