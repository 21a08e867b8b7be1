"""Files on servers: settings of GDAL for them, and trying again.

GDAL remembers that an address failed and does not ask its server again while the process lives, so
its own retries help only within one request. Here an address that failed is asked anew.
"""

import os
import re
import time
from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import urlsplit

import rasterio
from rasterio.errors import RasterioError

from terracausal._foundation.errors import ChipReadError
from terracausal.imagery.options import is_remote

T = TypeVar("T")

REST_S = 60.0
"""How long an address that failed after all retries is not asked again."""

_PATIENT = 8  # addresses of a server that fail in a row before the others are tried once each

PASSING = (408, 425, 429, 500, 502, 503, 504)
"""Answers of a server that may be better the next time."""

FIRST_PAUSE_S = 0.25
_SETTINGS = {
    # a listing of the folder on the server is never needed, and some servers cannot give one
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    "GDAL_HTTP_CONNECTTIMEOUT": "10",
    "GDAL_HTTP_LOW_SPEED_TIME": "30",
    "GDAL_HTTP_LOW_SPEED_LIMIT": "1",
    "GDAL_INGESTED_BYTES_AT_OPEN": "32768",
}
_ANEW = {"CPL_VSIL_CURL_NON_CACHED": "/vsicurl/:/vsis3/:/vsigs/:/vsiaz/"}
_STATUS = re.compile(r"response code: (\d{3})")

# addresses of which GDAL may remember a failure
_FAILED: set[str] = set()


def insist(uri: str, action: Callable[[], T], retries: int) -> T:
    """Return what `action` returns, tried again while its failures may pass.

    Parameters
    ----------
    uri : str
        Path or address that the action reads; a path is tried once.
    action : callable
        Opens or reads with GDAL.
    retries : int
        How often it is tried again, after a quarter of a second and then twice as long each time.

    Raises
    ------
    OSError or rasterio.errors.RasterioError
        Of the last try.

    Examples
    --------
    >>> insist("/data/a.tif", lambda: 7, retries=2)
    7
    """
    if not is_remote(uri):
        return action()
    for attempt in range(retries + 1):
        settings = {**_SETTINGS, **(_ANEW if uri in _FAILED else {})}
        given = {name: value for name, value in settings.items() if name not in os.environ}
        try:
            with rasterio.Env(**given):
                found = action()
        except (RasterioError, OSError) as error:
            _FAILED.add(uri)
            if attempt == retries or not may_pass(error):
                raise
            time.sleep(FIRST_PAUSE_S * 2**attempt)
        else:
            _FAILED.discard(uri)
            return found
    raise AssertionError("the last try returns or raises")


class Patience:
    """How long servers are asked, and what is known of those that stay down.

    Parameters
    ----------
    retries : int
        As for `insist`. Once the tries of eight addresses of a server failed in a row, its other
        addresses are tried once each, so that a dead server does not cost the pauses of each.

    Examples
    --------
    >>> Patience(retries=2).insist("/data/a.tif", lambda: 7)
    7
    """

    def __init__(self, retries: int) -> None:
        self._retries = retries
        self._resting: dict[str, tuple[float, str]] = {}
        self._n_failed: dict[str, int] = {}

    def __getstate__(self) -> dict[str, Any]:
        # another process asks the servers itself
        return {**self.__dict__, "_resting": {}, "_n_failed": {}}

    def insist(self, uri: str, action: Callable[[], T]) -> T:
        """Return what `action` returns; see the function `insist`.

        Raises
        ------
        OSError or rasterio.errors.RasterioError
            Of the last try, also when it was a short while ago.
        """
        if not is_remote(uri):
            return action()
        rested, reason = self._resting.get(uri, (0.0, ""))
        if time.monotonic() < rested:
            raise OSError(reason)
        server = urlsplit(uri).netloc
        is_down = self._n_failed.get(server, 0) >= _PATIENT
        try:
            found = insist(uri, action, 0 if is_down else self._retries)
        except (RasterioError, OSError) as error:
            reason = reason_of(error)
            self._resting[uri] = (time.monotonic() + REST_S, reason)
            self._n_failed[server] = self._n_failed.get(server, 0) + 1 if may_pass(error) else 0
            raise
        self._n_failed[server] = 0
        return found


def reason_of(error: BaseException) -> str:
    """Return what GDAL said, from an error that may wrap it, without the stop at its end.

    Examples
    --------
    >>> reason_of(OSError("HTTP response code: 503."))
    'HTTP response code: 503'
    """
    first = error
    while first.__cause__ is not None:
        first = first.__cause__
    return str(first).strip().rstrip(".")


def may_pass(error: BaseException) -> bool:
    """Say whether the cause of an error may be gone the next time.

    Parameters
    ----------
    error : BaseException
        With its causes.

    Examples
    --------
    >>> may_pass(OSError("HTTP response code: 404")), may_pass(OSError("HTTP response code: 503"))
    (False, True)
    """
    if isinstance(error, ChipReadError) and error.__cause__ is None:
        return False  # the file is there, and not what is needed
    reason: BaseException | None = error
    while reason is not None:
        status = _STATUS.search(str(reason))
        if status is not None:
            return int(status[1]) in PASSING
        reason = reason.__cause__ or reason.__context__
    return True
