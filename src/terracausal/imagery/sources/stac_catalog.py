"""STAC items from wherever they lie: files, a static catalogue on a server, or a search."""

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from terracausal._foundation.checks import check_count
from terracausal._foundation.errors import ChipReadError, list_some
from terracausal._foundation.optional import require
from terracausal._foundation.progress import track
from terracausal.imagery.places import has_geography, site_table
from terracausal.imagery.sources.remote import FIRST_PAUSE_S, PASSING
from terracausal.imagery.sources.stac_items import resolve

_TIMEOUT_S = 30
_DEEPEST = 10
_MOST_BYTES = 256 * 2**20


def list_items(source: Any, *, retries: int = 4) -> list[tuple[dict[str, Any], str]]:
    """Return all items of a source, each with the address that its relative links start from.

    Parameters
    ----------
    source : path, address, mapping or iterable of items
        An item, an item collection or a static catalogue as JSON, its path or address; items or an
        item collection of pystac; or an iterable of these.
    retries : int, default=4
        How often an address is tried again after a failure that may pass.

    Returns
    -------
    list of (dict, str)
        In the order in which they are found; an item that is found twice counts once.

    Raises
    ------
    ChipReadError
        If a document cannot be had or is no JSON.
    ValueError
        If there is no item.

    Examples
    --------
    >>> item = {"type": "Feature", "id": "a", "assets": {}, "properties": {}}
    >>> [
    ...     found["id"]
    ...     for found, base in list_items({"type": "FeatureCollection", "features": [item]})
    ... ]
    ['a']
    """
    check_count("retries", retries, minimum=0)
    found: dict[tuple[str, str], tuple[dict[str, Any], str]] = {}
    visited: set[str] = set()
    for item, base in _walk(source, "", retries, visited, 0):
        identity = (str(item.get("collection") or ""), str(item.get("id") or ""))
        found.setdefault(identity, (item, base))
    if not found:
        raise ValueError(
            f"Expected at least one STAC item; found none in {_shown(source)}. Check the address, "
            "or widen the search."
        )
    return list(found.values())


def search_stac(
    api: str,
    sites: Any,
    *,
    collections: Sequence[str],
    datetime: str | None = None,
    query: Mapping[str, Any] | None = None,
    margin_deg: float = 0.05,
) -> list[dict[str, Any]]:
    """Return the items of a STAC API around sites.

    Parameters
    ----------
    api : str
        Address of the API, such as "https://earth-search.aws.element84.com/v1".
    sites : GeoDataFrame or DataFrame
        Positions of the sites; the search takes their common bounding box, and two of them where
        they lie on both sides of the antimeridian.
    collections : sequence of str
        Names of the collections.
    datetime : str, default=None
        A date or a period, such as "2019-01-01/2019-12-31".
    query : mapping, default=None
        Conditions on properties, such as `{"eo:cloud_cover": {"lt": 30}}`.
    margin_deg : float, default=0.05
        By how much the bounding box is widened on each side, in degrees; at least half a chip.

    Returns
    -------
    list of dict
        Items, for `StacSource`.

    Raises
    ------
    MissingExtraError
        If pystac-client is not installed.
    ValueError
        If nothing is found.

    Examples
    --------
    >>> search_stac(  # doctest: +SKIP
    ...     "https://earth-search.aws.element84.com/v1",
    ...     sites,
    ...     collections=["sentinel-2-l2a"],
    ...     datetime="2019-01-01/2019-12-31",
    ... )
    """
    client_module = require("pystac_client", needed_by="search_stac", extra="stac")
    client = client_module.Client.open(api)
    items: dict[str, dict[str, Any]] = {}
    for box in search_boxes(sites, margin_deg):
        found = client.search(
            collections=list(collections),
            bbox=list(box),
            datetime=datetime,
            query=None if query is None else dict(query),
        )
        for item in track(found.items_as_dicts(), "searching"):
            items.setdefault(f"{item.get('collection')}/{item['id']}", item)
    if not items:
        raise ValueError(
            f"No item of {list_some(collections)} around the sites"
            f"{'' if datetime is None else f' in {datetime}'} at {api}. Widen the search."
        )
    return list(items.values())


def search_boxes(sites: Any, margin_deg: float) -> list[tuple[float, float, float, float]]:
    """Return west, south, east, north of one box around the sites, or of two at 180 degrees.

    Parameters
    ----------
    sites : GeoDataFrame or DataFrame
        Positions of the sites.
    margin_deg : float
        Added on each side.

    Examples
    --------
    >>> import pandas as pd
    >>> sites = pd.DataFrame({"lon": [179.5, -179.5], "lat": [-17.0, -16.0]}, index=["a", "b"])
    >>> search_boxes(sites, 0.25)
    [(179.25, -17.25, 180.0, -15.75), (-180.0, -17.25, -179.25, -15.75)]
    """
    table = site_table(sites)
    if not has_geography(table) or table.crs is None:
        raise ValueError(
            "`sites` must say where the sites are; got keys without positions or without CRS. Pass "
            "a DataFrame with the columns 'lon' and 'lat', or a GeoDataFrame of points with a CRS."
        )
    points = table.to_crs("EPSG:4326").geometry
    lon = (points.x.to_numpy() + 180) % 360 - 180
    south = max(-90.0, float(points.y.min()) - margin_deg)
    north = min(90.0, float(points.y.max()) + margin_deg)
    eastern, western = lon[lon >= 0], lon[lon < 0]
    around = len(eastern) and len(western) and eastern.min() - western.max() > 180
    if around:
        return [
            (float(eastern.min()) - margin_deg, south, 180.0, north),
            (-180.0, south, float(western.max()) + margin_deg, north),
        ]
    west = max(-180.0, float(lon.min()) - margin_deg)
    return [(west, south, min(180.0, float(lon.max()) + margin_deg), north)]


def fetch_json(address: str, retries: int) -> Any:
    """Return a JSON document from a path or an address.

    Parameters
    ----------
    address : str
        Path, or http or https address.
    retries : int
        How often a failure that may pass is tried again, each time after twice the pause.
    """
    try:
        if urlsplit(address).scheme not in ("http", "https"):
            return json.loads(Path(address.removeprefix("file://")).read_text(encoding="utf-8"))
        for attempt in range(retries + 1):
            try:
                return json.loads(_download(address))
            except (URLError, TimeoutError, ConnectionError) as error:
                gone = isinstance(error, HTTPError) and error.code not in PASSING
                if gone or attempt == retries:
                    raise
                time.sleep(FIRST_PAUSE_S * 2**attempt)
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ChipReadError(
            f"The STAC document {address} could not be read ({error}). Check the address, or try "
            "again when its server is back."
        ) from error
    raise AssertionError("every path above returns or raises")


def _download(address: str) -> bytes:
    request = Request(address, headers={"Accept": "application/json, application/geo+json"})
    with urlopen(request, timeout=_TIMEOUT_S) as answer:
        content: bytes = answer.read(_MOST_BYTES + 1)
    if len(content) > _MOST_BYTES:
        raise OSError(f"it is larger than {_MOST_BYTES} bytes")
    return content


def _walk(
    source: Any, base: str, retries: int, visited: set[str], depth: int
) -> Iterable[tuple[dict[str, Any], str]]:
    """Yield the items below a document, with the address of the document that holds each."""
    if isinstance(source, str | PathLike):
        address = str(source)
        if address in visited:
            return
        visited.add(address)
        yield from _walk(fetch_json(address, retries), address, retries, visited, depth)
        return
    to_dict = getattr(source, "to_dict", None)
    document = to_dict() if callable(to_dict) and not isinstance(source, Mapping) else source
    if not isinstance(document, Mapping):
        for part in document:
            yield from _walk(part, base, retries, visited, depth)
        return
    kind = document.get("type")
    if kind == "Feature":
        yield dict(document), base
    elif kind == "FeatureCollection":
        for part in document.get("features") or []:
            # where an item says itself where it lies, that counts
            yield from _walk(part, "" if _self(part) else base, retries, visited, depth)
        yield from _follow(document, ("next",), base, retries, visited, depth)
    elif kind in ("Catalog", "Collection"):
        yield from _follow(document, ("item", "child"), base, retries, visited, depth)
    else:
        raise ValueError(
            f"Expected a STAC item, item collection or catalogue; found the type {kind!r} with "
            f"the fields {list_some(document, 10)}."
        )


def _follow(
    document: Mapping[str, Any],
    relations: tuple[str, ...],
    base: str,
    retries: int,
    visited: set[str],
    depth: int,
) -> Iterable[tuple[dict[str, Any], str]]:
    place = base or _self(document)
    for link in document.get("links") or []:
        if link.get("rel") not in relations:
            continue
        if depth >= _DEEPEST and "next" not in relations:
            raise ValueError(f"The catalogue {place} is deeper than {_DEEPEST} levels.")
        if str(link.get("method", "GET")).upper() != "GET":
            raise ValueError(
                f"The next page of {place or 'the item collection'} needs a POST request. Use "
                "`search_stac`, which follows the pages of a search."
            )
        target = resolve(str(link["href"]), place, place)
        yield from _walk(target, "", retries, visited, depth + ("next" not in relations))


def _self(document: Mapping[str, Any]) -> str:
    links = document.get("links") or []
    return next((str(link["href"]) for link in links if link.get("rel") == "self"), "")


def _shown(source: Any) -> str:
    return str(source) if isinstance(source, str | PathLike) else type(source).__name__
