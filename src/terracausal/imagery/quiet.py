"""Keeps what GDAL and rasterio say in passing away from the terminal and from strict filters."""

import threading
import warnings
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import rasterio
from rasterio.env import hasenv
from rasterio.errors import NotGeoreferencedWarning


class _Silence:
    """Silences what rasterio says of its own arrays in memory.

    It does so itself, but the filters of warnings belong to all threads: one that leaves would let
    the warnings of the others through. So the first to come sets the filter, and the last to leave
    takes it away. The thread that starts others comes before them.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._n_inside = 0
        self._before: Any = None

    def __enter__(self) -> None:
        with self._lock:
            if not self._n_inside:
                self._before = warnings.catch_warnings()
                self._before.__enter__()
                warnings.simplefilter("ignore", NotGeoreferencedWarning)
            self._n_inside += 1

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._n_inside -= 1
            if not self._n_inside:
                self._before.__exit__(None, None, None)


SILENCE = _Silence()


def gdal_env() -> AbstractContextManager[Any]:
    """Return a context in which the messages of GDAL go to logging, not to the terminal.

    Examples
    --------
    >>> with gdal_env():
    ...     hasenv()
    True
    """
    return nullcontext() if hasenv() else rasterio.Env()


def enter_gdal_env() -> None:
    """Enter such a context for as long as this thread lives."""
    rasterio.Env().__enter__()
