"""Files on servers: settings of GDAL for them, and trying again.

GDAL remembers that an address failed and does not ask its server again while the process lives, so
its own retries help only within one request. Here an address that failed is asked anew.
"""

import os
import re
import time
from collections.abc import Callable
from typing import TypeVar

import rasterio
from rasterio.errors import RasterioError

from terracausal.imagery.options import is_remote

T = TypeVar("T")

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
    reason: BaseException | None = error
    while reason is not None:
        status = _STATUS.search(str(reason))
        if status is not None:
            return int(status[1]) in PASSING
        reason = reason.__cause__ or reason.__context__
    return True
