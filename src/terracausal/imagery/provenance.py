"""What a store remembers of the arguments with which its chips were read."""

import os
from collections.abc import Collection, Mapping
from hashlib import sha256
from typing import Any

import numpy as np
import pandas as pd

_SHORT = 50  # entries that are told one by one


def told_arguments(arguments: Mapping[str, Any], left_out: Collection[str] = ()) -> dict[str, Any]:
    """Return arguments as JSON tells them.

    Parameters
    ----------
    arguments : mapping of str to object
        By name.
    left_out : collection of str, default=()
        Names that do not matter.

    Returns
    -------
    dict of str to object
        Numbers, texts and short sequences and mappings of them as they are; of tables and long
        sequences the kind, the length and a checksum; of other objects the kind.

    Examples
    --------
    >>> told_arguments(
    ...     {"size_px": (32, 32), "before": pd.Timestamp("2008-07-01"), "n_jobs": 2}, "n_jobs"
    ... )
    {'size_px': [32, 32], 'before': '2008-07-01'}
    """
    return {name: _told(value) for name, value in arguments.items() if name not in left_out}


def _told(value: Any) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not np.isfinite(value):
        return str(value)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, pd.Timestamp) or type(value).__module__ == "datetime":
        return str(value).removesuffix(" 00:00:00")
    if isinstance(value, pd.Series | pd.DataFrame):
        text = value.to_csv()
        return f"{type(value).__name__} of {len(value)} rows, sha256 {_checksum(text)}"
    if isinstance(value, Mapping):
        parts = {str(key): _told(part) for key, part in value.items()}
        return parts if len(parts) <= _SHORT else _summary(value, parts)
    if isinstance(value, list | tuple | np.ndarray | pd.Index):
        told = [_told(part) for part in value]
        return told if len(told) <= _SHORT else _summary(value, told)
    return getattr(value, "__qualname__", type(value).__qualname__)


def _summary(value: Any, told: Collection[Any]) -> str:
    return f"{type(value).__name__} of {len(told)} entries, sha256 {_checksum(repr(told))}"


def _checksum(text: str) -> str:
    return sha256(text.encode()).hexdigest()[:16]
