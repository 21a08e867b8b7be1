"""STAC items as scenes: which rasters an item has, and what it says about each band.

Read from the plain JSON of STAC 1.0 and 1.1 with the extensions eo, raster, projection and
classification, so that items made by any library, or by none, mean the same.
"""

import math
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urljoin, urlsplit

import numpy as np
import pandas as pd
import pyproj
from affine import Affine
from odc.geo.geobox import GeoBox

from terracausal._foundation.errors import BandError, list_some
from terracausal.imagery.calibration import band_scaling
from terracausal.imagery.dates import date_in_metadata
from terracausal.imagery.options import holds_classes

Assets = Sequence[str] | Mapping[str, str | Sequence[str]] | None

_TIFF = ("image/tiff", "image/vnd.stac.geotiff")
_TIFF_NAMES = (".tif", ".tiff", ".vrt")
_JPEG2000 = ("image/jp2",)
_NO_PIXELS = {"metadata", "overview", "preview", "rendered_preview", "thumbnail", "visual"}
_CLASS_ROLES = {
    "classification",
    "cloud",
    "cloud-shadow",
    "data-mask",
    "land-water",
    "qa",
    "saturation",
    "snow-ice",
    "water-mask",
}
_BAND_LISTS = ("bands", "eo:bands", "raster:bands")
_REMOTE = {"http", "https", "s3", "gs", "az", "abfs"}


@dataclass(frozen=True, slots=True)
class SceneBand:
    """One band of an item: where it lies and what its stored numbers mean."""

    name: str
    href: str
    number: int
    """Position inside the file, from 1."""
    grid: Any = None
    """GeoBox of the file; None when the item does not say it."""
    dtype: str | None = None
    nodata: float | None = None
    scale: float | None = None
    """None when the item does not say it, so that the file may."""
    offset: float | None = None
    is_class: bool = False
    """Whether the numbers are classes or bits, which only `nearest` may resample."""
    is_described: bool = True
    """Whether the item says which bands the file has, or only that there is a file."""


@dataclass(frozen=True, slots=True)
class Scene:
    """One item: rasters of one place and date."""

    uri: str
    date: pd.Timestamp | None
    bands: tuple[SceneBand, ...]
    box: tuple[float, float, float, float] | None = None
    """West, south, east, north in degrees; None when the item does not say it."""
    cloud_share: float = float("nan")


def read_scene(item: Mapping[str, Any], assets: Assets = None, base: str = "") -> Scene:
    """Return what a STAC item says about its rasters.

    Parameters
    ----------
    item : mapping
        The JSON of an item.
    assets : sequence of str or mapping, default=None
        Keys of the assets wanted; a mapping also gives the names of their bands. None takes every
        raster of data: GeoTIFFs (else JPEG 2000) that are no thumbnail, overview or picture.
    base : str, default=""
        Address of the document that holds the item, for relative addresses; the link "self" of the
        item counts first.

    Returns
    -------
    Scene

    Raises
    ------
    BandError
        If the item lacks an asset that was asked for, or has no raster at all.
    ValueError
        If it is no item, or its metadata contradict each other.

    Examples
    --------
    >>> scene = read_scene(
    ...     {
    ...         "type": "Feature",
    ...         "id": "scene",
    ...         "properties": {"datetime": "2020-01-13T10:44:11Z", "eo:cloud_cover": 25},
    ...         "assets": {
    ...             "B04": {
    ...                 "href": "B04.tif",
    ...                 "eo:bands": [{"name": "B04", "common_name": "red"}],
    ...                 "raster:bands": [{"nodata": 0, "scale": 1e-4, "offset": -0.1}],
    ...             }
    ...         },
    ...     },
    ...     base="https://example.org/scene.json",
    ... )
    >>> scene.date, scene.cloud_share
    (Timestamp('2020-01-13 00:00:00'), 0.25)
    >>> band = scene.bands[0]
    >>> band.name, band.href, band.scale, band.offset
    ('red', 'https://example.org/B04.tif', 0.0001, -0.1)
    """
    uri = _identity(item)
    properties = item.get("properties") or {}
    place = _self_link(item) or base
    chosen = _choose_assets(item["assets"], assets, uri)
    names = _band_names(chosen, assets, uri)
    bands = [
        band
        for key, asset in chosen.items()
        for band in _asset_bands(key, asset, names[key], properties, (uri, place))
    ]
    doubled = [name for name, count in Counter(band.name for band in bands).items() if count > 1]
    if doubled:
        raise BandError(
            f"Band names must be unique; {list_some(doubled)} stand more than once in the assets "
            f"{list_some(chosen, 20)} of item {uri!r}. Name the bands with a mapping `assets`."
        )
    return Scene(
        _address(item, base, uri, bands[0].href),
        date_in_metadata(properties),
        tuple(bands),
        _box(item),
        _cloud_share(properties, uri),
    )


def grid_of(metadata: Sequence[Mapping[str, Any]], uri: str) -> Any:
    """Return the GeoBox that the projection extension describes, None if it says too little.

    Parameters
    ----------
    metadata : sequence of mapping
        An asset and the properties of its item; the first that has a field counts.
    uri : str
        Item, for messages.

    Examples
    --------
    >>> grid = grid_of(
    ...     [
    ...         {"proj:shape": [2, 3]},
    ...         {"proj:epsg": 32636, "proj:transform": [10, 0, 5e5, 0, -10, 9]},
    ...     ],
    ...     "scene",
    ... )
    >>> grid.shape, grid.resolution.x
    (Shape2d(x=3, y=2), 10.0)
    """
    found = {
        field: next((part[field] for part in metadata if part.get(field) is not None), None)
        for field in ("proj:transform", "proj:shape")
    }
    crs = next((known for part in metadata if (known := _declared_crs(part)) is not None), None)
    if crs is None or found["proj:transform"] is None or found["proj:shape"] is None:
        return None
    try:
        terms = [float(term) for term in found["proj:transform"][:6]]
        height, width = (int(length) for length in found["proj:shape"])
        text = crs_text(pyproj.CRS.from_user_input(crs))
    except (TypeError, ValueError, pyproj.exceptions.CRSError) as error:
        raise ValueError(f"Item {uri!r} has a projection that cannot be read ({error}).") from error
    if len(terms) != 6 or not all(map(math.isfinite, terms)) or min(height, width) < 1:
        raise ValueError(
            f"Item {uri!r} must say a grid of pixels; found proj:transform {terms} and proj:shape "
            f"{[height, width]}."
        )
    return GeoBox((height, width), Affine(*terms), text)


def crs_text(crs: pyproj.CRS) -> str:
    """Return the code of a CRS, or its WKT where no code describes it fully.

    Examples
    --------
    >>> crs_text(pyproj.CRS.from_epsg(32636))
    'EPSG:32636'
    """
    code = crs.to_epsg(min_confidence=100)
    return str(crs.to_wkt()) if code is None else f"EPSG:{code}"


def _declared_crs(part: Mapping[str, Any]) -> Any:
    for field in ("proj:code", "proj:epsg", "proj:wkt2", "proj:projjson"):
        if part.get(field):
            return part[field]
    return None


def _identity(item: Mapping[str, Any]) -> str:
    if item.get("type") != "Feature" or not isinstance(item.get("assets"), Mapping):
        raise ValueError(
            f"Expected STAC items; found {item.get('type')!r} with the fields "
            f"{list_some(item, 10)}. Pass items, an item collection or a catalogue."
        )
    identity = str(item.get("id") or "")
    if not identity:
        raise ValueError(f"Every item needs an id; found {item.get('id')!r}.")
    collection = item.get("collection")
    return f"{collection}/{identity}" if collection else identity


def _self_link(item: Mapping[str, Any]) -> str:
    links = item.get("links") or []
    return next((str(link["href"]) for link in links if link.get("rel") == "self"), "")


def _address(item: Mapping[str, Any], base: str, uri: str, href: str) -> str:
    """Return what tells the item from all others and, where it is remote, says so."""
    if _self_link(item):
        return _self_link(item)
    if base:
        return f"{base}#{uri}"
    return f"{href}#{uri}" if urlsplit(href).scheme in _REMOTE else uri


def _choose_assets(
    found: Mapping[str, Mapping[str, Any]], assets: Assets, uri: str
) -> dict[str, Mapping[str, Any]]:
    if assets is not None:
        wanted = [assets] if isinstance(assets, str) else list(assets)
        absent = [key for key in wanted if key not in found]
        if absent or not wanted:
            raise BandError(
                f"`assets` must name assets of every item; {uri!r} lacks {list_some(absent)} and "
                f"has {list_some(found, 20)}. Choose among these, or leave the item out."
            )
        return {key: found[key] for key in wanted}
    for kinds, endings in ((_TIFF, _TIFF_NAMES), (_JPEG2000, (".jp2",))):
        chosen = {
            key: asset
            for key, asset in found.items()
            if key not in _NO_PIXELS and _holds_pixels(asset, kinds, endings)
        }
        if chosen:
            return chosen
    raise BandError(
        f"Item {uri!r} has no raster of data among its assets {list_some(found, 20)}. Name the "
        "assets to read with `assets`."
    )


def _holds_pixels(asset: Mapping[str, Any], kinds: Iterable[str], endings: tuple[str, ...]) -> bool:
    if _NO_PIXELS & set(asset.get("roles") or []):
        return False
    kind = asset.get("type")
    if kind:
        return str(kind).lower().startswith(tuple(kinds))
    return urlsplit(str(asset.get("href", ""))).path.lower().endswith(endings)


def _described(asset: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return one mapping per band: STAC 1.1 `bands`, or `eo:bands` and `raster:bands` joined.

    Fields of the asset stand in for those that its bands lack, as STAC 1.1 has it.
    """
    lists = [asset[name] for name in _BAND_LISTS if asset.get(name)]
    count = max((len(entries) for entries in lists), default=1)
    shared = {
        name: asset[name]
        for name in ("nodata", "data_type", "raster:scale", "raster:offset")
        if asset.get(name) is not None
    }
    bands = []
    for position in range(count):
        band = dict(shared)
        for entries in lists:
            band |= entries[position] if position < len(entries) else {}
        bands.append(band)
    return bands


def _says_bands(asset: Mapping[str, Any]) -> bool:
    return any(asset.get(name) for name in _BAND_LISTS)


def _band_names(
    chosen: Mapping[str, Mapping[str, Any]], assets: Assets, uri: str
) -> dict[str, list[str]]:
    """Return the names of the bands of each asset.

    Names that were given; else the common name where only one band of the item has it; else the
    key of an asset with one band, or the band's own name.
    """
    described = {key: _described(asset) for key, asset in chosen.items()}
    commons = Counter(_common(band) for bands in described.values() for band in bands)
    names: dict[str, list[str]] = {}
    for key, bands in described.items():
        if isinstance(assets, Mapping):
            given = assets[key]
            names[key] = [given] if isinstance(given, str) else list(given)
            # an item that describes no bands leaves their number to the file
            if len(names[key]) != len(bands) and _says_bands(chosen[key]):
                raise BandError(
                    f"`assets` must name the {len(bands)} bands of asset {key!r} of item {uri!r}; "
                    f"got {list_some(names[key], 20)}."
                )
            continue
        names[key] = []
        for number, band in enumerate(bands, start=1):
            common = _common(band)
            own = str(band.get("name") or f"{key}_{number}") if len(bands) > 1 else key
            names[key].append(common if common and commons[common] == 1 else own)
    return names


def _common(band: Mapping[str, Any]) -> str | None:
    name = band.get("eo:common_name") or band.get("common_name")
    return str(name) if name else None


def _asset_bands(
    key: str,
    asset: Mapping[str, Any],
    names: Sequence[str],
    properties: Mapping[str, Any],
    source: tuple[str, str],
) -> list[SceneBand]:
    uri, base = source
    href = resolve(str(asset.get("href", "")), base, uri)
    grid = grid_of([asset, properties], uri)
    described = _described(asset)
    described += [{}] * (len(names) - len(described))
    roles = {str(role).lower() for role in asset.get("roles") or []}
    bands = []
    for number, (name, band) in enumerate(zip(names, described, strict=True), start=1):
        own = str(band.get("name") or key)
        scaling = band_scaling(own, properties, band, name=uri)
        says_scale = scaling != (1.0, 0.0) or _says_scaling(band)
        is_class = (
            bool(roles & _CLASS_ROLES)
            or any(map(holds_classes, (own, key, name)))
            or bool(band.get("classification:classes") or asset.get("classification:classes"))
            or bool(band.get("classification:bitfields") or asset.get("classification:bitfields"))
        )
        bands.append(
            SceneBand(
                name,
                href,
                number,
                grid,
                _dtype(band.get("data_type")),
                _number(band.get("nodata"), key, uri),
                scaling.scale if says_scale else None,
                scaling.offset if says_scale else None,
                is_class,
                _says_bands(asset),
            )
        )
    return bands


def _says_scaling(band: Mapping[str, Any]) -> bool:
    return any(
        band.get(field) is not None
        for field in ("scale", "offset", "raster:scale", "raster:offset")
    )


def resolve(href: str, base: str, uri: str) -> str:
    """Return an absolute address; a remote item may not point into the reader's own machine.

    Parameters
    ----------
    href : str
        As it stands in the item.
    base : str
        Address of the item.
    uri : str
        Item, for messages.

    Examples
    --------
    >>> resolve("../B04.tif", "https://example.org/2020/scene.json", "scene")
    'https://example.org/B04.tif'
    """
    if not href:
        raise ValueError(f"A link or asset of {uri!r} has no address (href).")
    is_remote = urlsplit(base).scheme in _REMOTE
    if is_remote:
        joined = urljoin(base, href) if not href.startswith("/vsi") else href
        if urlsplit(joined).scheme not in _REMOTE:
            raise ValueError(
                f"{uri!r} comes from {base} but points to the local file {href!r}. What lies on a "
                "server may only point to servers; download it first if you trust it."
            )
        return joined
    if urlsplit(href).scheme in _REMOTE or not base:
        return href.removeprefix("file://")
    return urljoin(base.removeprefix("file://"), href.removeprefix("file://"))


def _dtype(name: Any) -> str | None:
    try:
        return None if name is None else np.dtype(str(name)).name
    except TypeError:  # such as cint16 or "other", which say nothing here
        return None


def _number(value: Any, key: str, uri: str) -> float | None:
    """Return nodata, which STAC may write as a number or as the words nan, inf and -inf."""
    if value is None:
        return None
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"The nodata of asset {key!r} of item {uri!r} must be a number; found {value!r}."
        ) from error


def _cloud_share(properties: Mapping[str, Any], uri: str) -> float:
    value = _number(properties.get("eo:cloud_cover"), "eo:cloud_cover", uri)
    return float("nan") if value is None else value / 100


def _box(item: Mapping[str, Any]) -> tuple[float, float, float, float] | None:
    box = item.get("bbox")
    if not isinstance(box, Sequence) or len(box) not in (4, 6):
        return None
    half = len(box) // 2
    west, south, east, north = (float(box[place]) for place in (0, 1, half, half + 1))
    return west, south, east, north


def group_by_file(bands: Sequence[SceneBand]) -> dict[Hashable, list[int]]:
    """Return the positions of the bands that lie in each file.

    Parameters
    ----------
    bands : sequence of SceneBand
        Of one scene.
    """
    files: dict[Hashable, list[int]] = {}
    for position, band in enumerate(bands):
        files.setdefault(band.href, []).append(position)
    return files
