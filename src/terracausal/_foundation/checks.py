"""Checks at the door: small functions that return the checked value or raise a sentence."""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from terracausal._foundation.errors import AlignmentError, list_some

T = TypeVar("T", bound=str)


def check_choice(name: str, value: T, choices: Sequence[T]) -> T:
    """Return `value` if it is one of `choices`.

    Examples
    --------
    >>> check_choice("target", "all", ("all", "treated"))
    'all'
    """
    if value not in choices:
        raise ValueError(f"`{name}` must be one of {list_some(choices, 12)}; got {value!r}.")
    return value


def check_count(name: str, value: int, minimum: int = 1) -> int:
    """Return `value` if it is an integer of at least `minimum`."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < minimum:
        raise ValueError(f"`{name}` must be an integer of at least {minimum}; got {value!r}.")
    return int(value)


def check_fraction(name: str, value: float) -> float:
    """Return `value` if it lies strictly between 0 and 1."""
    if not 0 < value < 1:
        raise ValueError(f"`{name}` must lie strictly between 0 and 1; got {value!r}.")
    return float(value)


def check_positive(name: str, value: float) -> float:
    """Return `value` if it is a finite number above 0."""
    if not (np.isfinite(value) and value > 0):
        raise ValueError(f"`{name}` must be a finite number above 0; got {value!r}.")
    return float(value)


def check_finite(name: str, values: ArrayLike) -> NDArray[np.float64]:
    """Return `values` as float64 if all of them are finite numbers."""
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        found = np.asarray(values, dtype=object).ravel()
        raise ValueError(
            f"`{name}` must hold numbers; got {list_some(pd.unique(found), 3)} "
            f"({type(found[0]).__name__}). Code categories as numbers first."
        ) from error
    bad = int((~np.isfinite(array)).sum())
    if bad:
        raise ValueError(
            f"`{name}` must be finite; {bad} of {array.size} values are NaN or infinite. "
            "Drop or impute these units first."
        )
    return array


def check_unique(name: str, keys: pd.Index) -> pd.Index:
    """Return `keys` if no key stands twice."""
    doubled = keys[keys.duplicated()].unique()
    if len(doubled):
        raise AlignmentError(
            f"{name} must be unique; {len(doubled)} stand more than once: "
            f"{list_some(doubled)}. Keep one row for each."
        )
    return keys


def check_same_index(name: str, found: pd.Index, expected: pd.Index) -> None:
    """Raise an `AlignmentError` that shows the first differences of two sets of units."""
    absent, extra = expected.difference(found), found.difference(expected)
    if len(absent) or len(extra):
        raise AlignmentError(
            f"`{name}` must describe the same {len(expected)} units as the study or scores; "
            f"{len(absent)} are missing ({list_some(absent)}) and {len(extra)} are unknown "
            f"({list_some(extra)}). Compute both from the same study."
        )
