"""Rasters in files: GeoTIFF, COG, VRT and whatever else GDAL opens."""

import os
import threading
from collections import OrderedDict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import rasterio
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.env import get_gdal_config, set_gdal_config
from rasterio.errors import RasterioError
from rasterio.windows import Window

from terracausal._foundation.checks import check_choice, check_count
from terracausal._foundation.errors import AlignmentError, BandError, ChipReadError, list_some
from terracausal.imagery.calibration import band_scaling
from terracausal.imagery.dates import as_day, layer_dates
from terracausal.imagery.options import OnError, available_cores, is_remote, marks_unreadable
from terracausal.imagery.quiet import SILENCE, gdal_env
from terracausal.imagery.readers import band_tuple
from terracausal.imagery.scene_names import date_in_name
from terracausal.imagery.sources.base import Box, Layer, LostFile
from terracausal.imagery.sources.remote import Patience, reason_of
from terracausal.imagery.sources.windows import read_on_grid
from terracausal.imagery.workers import run_tasks

_MAX_BLOCK_BYTES = 2**28  # one block is decoded as a whole; honest ones have below 2**24
_OPEN_FILES = 64  # per thread
_BLOCK_CACHE = 256 * 2**20  # bytes, of GDAL; its own default is a share of all memory
_PLAIN_MASKS = ({MaskFlags.all_valid}, {MaskFlags.nodata})

Nodata = float | Literal["header", "none"]


@dataclass(frozen=True, slots=True)
class FileHeader:
    """What a file says about itself."""

    uri: str
    grid: Any
    bands: tuple[str, ...]
    numbers: tuple[int, ...]
    dtype: str
    nodata: tuple[float | None, ...]
    scale: tuple[float, ...]
    offset: tuple[float, ...]
    tags: Mapping[str, str]
    has_mask: bool


class RasterFiles:
    """Files as a source: every file is a layer, or every band of a file is one.

    Parameters
    ----------
    paths : sequence of path or str
        Files, or addresses that GDAL reads. `find_files` lists those of a folder or a glob.
    dates : str, sequence, mapping, Series or False, default=None
        Date of each file, as for `layer_dates`: None looks into tags and names, False leaves the
        files undated.
    band_dates : sequence, default=None
        Date (or scene name) of each band, for files with one date per band; then the chips have a
        single band.
    bands : sequence of str, default=None
        Names of the bands of every file in place of their descriptions.
    sites : sequence of (hashable or None), default=None
        For each path the only site to which it belongs; None where all are served.
    nodata : float, 'header' or 'none', default='header'
        Stored number that means missing. "header" takes that of each file. A nodata that is also a
        valid value, such as 0 in a byte image, cannot be told from it: "none" reads all numbers as
        values.
    unreadable : {'auto', 'raise', 'mark'}, default='auto'
        Whether a file that cannot be opened raises a `ChipReadError` or is listed in `lost`. "auto"
        raises for files and lists addresses on a network.
    retries : int, default=3
        How often an address is tried again after a failure that may pass.

    Examples
    --------
    >>> import tempfile
    >>> path = f"{tempfile.mkdtemp()}/kafa_2020-01-13.tif"
    >>> profile = dict(driver="GTiff", height=4, width=4, count=1, dtype="uint16")
    >>> place = rasterio.Affine(10, 0, 5e5, 0, -10, 40)
    >>> with rasterio.open(path, "w", crs="EPSG:32636", transform=place, **profile) as file:
    ...     file.write(np.full((1, 4, 4), 10001, dtype="uint16"))
    >>> source = RasterFiles([path], bands=["red"])
    >>> layer = source.layers()[0]
    >>> layer.date, layer.bands, layer.dtype
    (Timestamp('2020-01-13 00:00:00'), ('red',), 'uint16')
    >>> source.read(layer, layer.grid, (0,), "nearest").max()
    np.float32(10001.0)
    """

    def __init__(
        self,
        paths: Sequence[str | os.PathLike[str]],
        *,
        dates: Any = None,
        band_dates: Sequence[Any] | None = None,
        bands: Sequence[str] | None = None,
        sites: Sequence[Hashable | None] | None = None,
        nodata: Nodata = "header",
        unreadable: OnError = "auto",
        retries: int = 3,
    ) -> None:
        self._uris = [os.fspath(path) for path in paths]
        if not self._uris:
            raise ChipReadError("`paths` must name at least one file; it is empty.")
        self._dates = dates
        self._band_dates = None if band_dates is None else list(band_dates)
        self._bands = None if bands is None else band_tuple(bands)
        self._sites = list(sites) if sites is not None else [None] * len(self._uris)
        if len(self._sites) != len(self._uris):
            raise AlignmentError(
                f"`sites` must have one entry for each of {len(self._uris)} files; it has "
                f"{len(self._sites)}."
            )
        if isinstance(nodata, str) and nodata not in ("header", "none"):
            raise ValueError(f"`nodata` must be a number, 'header' or 'none'; got {nodata!r}.")
        self._nodata = nodata
        self._unreadable = check_choice("unreadable", unreadable, ("auto", "raise", "mark"))
        self._patience = Patience(check_count("retries", retries, minimum=0))
        self._layers: list[Layer] | None = None
        self._lost: list[LostFile] = []
        self._stand_ins: dict[str, str] = {}

    def layers(self) -> list[Layer]:
        """Return one layer per file, or per band where bands are dates.

        Raises
        ------
        ChipReadError
            Naming the files that cannot be opened or have no coordinate reference system.
        """
        if self._layers is None:
            found = self._headers()
            dates = self._file_dates(found)
            headers = self._completed(found, dates)
            self._layers = (
                self._layers_of_files(headers, dates)
                if self._band_dates is None
                else self._layers_of_bands(headers, self._band_dates)
            )
        return list(self._layers)

    @property
    def lost(self) -> list[LostFile]:
        """Files that could not be opened and of which nothing else tells where they lie.

        A file of a site that has others, and whose date is known, is a layer on their grid instead,
        which cannot be read.
        """
        self.layers()
        return list(self._lost)

    def read(
        self, layer: Layer, grid: Any, positions: tuple[int, ...], resampling: str
    ) -> NDArray[np.float32]:
        """Return some bands of a layer on a grid; see `ImagerySource.read`."""
        self._refuse_stand_in(layer)

        def read_box(positions: tuple[int, ...], box: Box) -> NDArray[Any]:
            return self.read_box(layer, positions, box)

        return read_on_grid(layer, grid, positions, resampling, read_box)

    def read_box(self, layer: Layer, positions: tuple[int, ...], box: Box) -> NDArray[Any]:
        """Return stored numbers with the open file of this thread; see `BoxSource.read_box`."""
        self._refuse_stand_in(layer)
        numbers = [layer.number_of(place) for place in positions]
        return self._patience.insist(layer.uri, lambda: open_file(layer.uri).read(numbers, box))

    def _refuse_stand_in(self, layer: Layer) -> None:
        if layer.uri in self._stand_ins:
            # it lies on the grid of another file, so it must not be read when its server is back
            raise OSError(self._stand_ins[layer.uri])

    def _headers(self) -> list[FileHeader | ChipReadError]:
        """Return what each file says, or why it cannot be opened where this is not raised."""

        def look(row: int) -> FileHeader | ChipReadError:
            uri = self._uris[row]
            try:
                return self._patience.insist(uri, lambda: read_header(uri, self._sites[row]))
            except ChipReadError as error:
                return error
            except OSError as error:  # it failed a short while ago
                return _unopened(uri, self._sites[row], error)

        n_jobs = min(8, 2 * available_cores(), len(self._uris))
        # a file without georeference is refused in our words
        with SILENCE:
            found = list(run_tasks(look, range(len(self._uris)), n_jobs=n_jobs))
        refused = [
            error
            for uri, error in zip(self._uris, found, strict=True)
            # one that was opened says what is wrong with it, and will say so again
            if isinstance(error, ChipReadError)
            and (error.__cause__ is None or not marks_unreadable(self._unreadable, uri))
        ]
        raise_all(refused, len(found))
        return found

    def _completed(
        self,
        found: Sequence[FileHeader | ChipReadError],
        dates: Sequence[pd.Timestamp | None],
    ) -> list[FileHeader | None]:
        """Return headers; that of another file of the site stands in for one that is not there."""
        own = {
            site: (header, date)
            for header, site, date in zip(found, self._sites, dates, strict=True)
            if site is not None and isinstance(header, FileHeader)
        }
        headers: list[FileHeader | None] = []
        for uri, site, header, date in zip(self._uris, self._sites, found, dates, strict=True):
            if isinstance(header, FileHeader):
                headers.append(header)
            elif site in own and (date is None) == (own[site][1] is None):
                self._stand_ins[uri] = reason_of(header)
                headers.append(replace(own[site][0], uri=uri))
            else:
                self._lost.append(LostFile(uri, site, date, header))
                headers.append(None)
        return headers

    def _layers_of_files(
        self, headers: Sequence[FileHeader | None], dates: Sequence[pd.Timestamp | None]
    ) -> list[Layer]:
        return [
            self._layer(header, site, date, range(len(header.numbers)))
            for header, site, date in zip(headers, self._sites, dates, strict=True)
            if header is not None
        ]

    def _layers_of_bands(
        self, headers: Sequence[FileHeader | None], dates: Sequence[Any]
    ) -> list[Layer]:
        days = [as_day(day, f"band_dates[{k}]") for k, day in enumerate(dates)]
        layers = []
        for header, site in zip(headers, self._sites, strict=True):
            if header is None:
                continue
            if len(header.numbers) != len(days):
                raise BandError(
                    f"`band_dates` must date each of the {len(header.numbers)} bands of "
                    f"{header.uri}; it has {len(days)} entries."
                )
            layers += [self._layer(header, site, day, [k]) for k, day in enumerate(days)]
        return layers

    def _layer(
        self,
        header: FileHeader,
        site: Hashable | None,
        date: pd.Timestamp | None,
        places: Sequence[int],
    ) -> Layer:
        names = ("band_1",) if self._band_dates is not None else header.bands
        if self._bands is not None:
            if len(self._bands) != len(places):
                raise BandError(
                    f"`bands` must name the {len(places)} bands of {header.uri}; got "
                    f"{len(self._bands)}: {list_some(self._bands, 20)}."
                )
            names = self._bands
        nodata: tuple[float | None, ...] = tuple(header.nodata[k] for k in places)
        if self._nodata == "none":
            nodata = ()
        elif self._nodata != "header":
            nodata = (float(self._nodata),) * len(places)
        plain = set(header.scale) == {1.0} and set(header.offset) == {0.0}
        return Layer(
            header.uri,
            names,
            header.grid,
            date,
            header.dtype,
            nodata,
            () if plain else tuple(header.scale[k] for k in places),
            () if plain else tuple(header.offset[k] for k in places),
            tuple(header.numbers[k] for k in places),
            site,
            may_mask=header.has_mask,
        )

    def _file_dates(
        self, headers: Sequence[FileHeader | ChipReadError]
    ) -> list[pd.Timestamp | None]:
        """Return the date of each file; that of one without header may stay unknown."""
        names = self._uris
        if self._band_dates is not None or self._dates is False:
            return [None] * len(names)
        if self._dates is None:
            known = [header for header in headers if isinstance(header, FileHeader)]
            told = layer_dates(
                [header.uri for header in known],
                metadata=[dict(header.tags) for header in known],
            )
            if told is None and known:
                return [None] * len(names)
            days = iter(() if told is None else told)
            return [
                next(days) if isinstance(header, FileHeader) else date_in_name(name)
                for name, header in zip(names, headers, strict=True)
            ]
        if isinstance(self._dates, Mapping):
            # a mapping may name files without their folder
            by_name = {**{Path(uri).name: uri for uri in names}, **{uri: uri for uri in names}}
            lookup = {by_name.get(str(name), name): day for name, day in self._dates.items()}
            dates = layer_dates(names, lookup)
        else:
            dates = layer_dates(names, self._dates)
        return [None] * len(names) if dates is None else list(dates)


class FileHandle:
    """An open raster that belongs to one thread."""

    def __init__(self, uri: str) -> None:
        _limit_block_cache()
        with gdal_env():
            self._raster = rasterio.open(uri)
            # it is read with the pixels; nodata is compared by us, twice as fast
            self._has_mask = _has_mask(self._raster)
        self._is_upside_down = self._raster.transform.e > 0 and not self._raster.transform.b

    def read(self, numbers: list[int], box: Box) -> NDArray[Any]:
        """Return the stored numbers of bands (counted from 1) in a box of a north-up layer."""
        left, top, right, bottom = box
        if self._is_upside_down:
            top, bottom = self._raster.height - bottom, self._raster.height - top
        window = Window(left, top, right - left, bottom - top)
        with gdal_env():
            stored: NDArray[Any] = self._raster.read(numbers, window=window, masked=self._has_mask)
        return stored[:, ::-1] if self._is_upside_down else stored

    def close(self) -> None:
        """Close the file."""
        self._raster.close()


class _Shelf(threading.local):
    """Open files of one thread, the least recently used first."""

    def __init__(self) -> None:
        self.handles: OrderedDict[str, tuple[Any, FileHandle]] = OrderedDict()


_SHELF = _Shelf()


def open_file(uri: str) -> FileHandle:
    """Return the open file of this thread; a file that changed meanwhile is opened anew."""
    handles = _SHELF.handles
    state = _state(uri)
    known = handles.get(uri)
    if known is not None and known[0] == state:
        handles.move_to_end(uri)
        return known[1]
    if known is not None:
        handles.pop(uri)[1].close()
    handle = FileHandle(uri)
    handles[uri] = (state, handle)
    if len(handles) > _OPEN_FILES:
        handles.popitem(last=False)[1][1].close()
    return handle


def _state(uri: str) -> tuple[int, ...] | None:
    """Return what changes when a file is replaced; None for addresses."""
    if is_remote(uri) or uri.startswith("/vsi"):
        return None
    found = os.stat(uri)
    return found.st_ino, found.st_size, found.st_mtime_ns


def read_header(uri: str, site: Hashable | None = None) -> FileHeader:
    """Return the header of a file without reading pixels.

    Parameters
    ----------
    uri : str
        Path or address.
    site : hashable, default=None
        Site to which the file belongs, for messages.

    Returns
    -------
    FileHeader
        North-up, also for a file that is stored upside down.

    Raises
    ------
    ChipReadError
        If the file cannot be opened, has no coordinate reference system, or announces blocks that
        no memory should be given to.
    """
    who = "" if site is None else f"Site {list_some([site])}: "
    try:
        with gdal_env(), rasterio.open(uri) as raster:
            _check_header(raster, uri, who)
            return _header_of(raster, uri)
    except ChipReadError:
        raise
    except (RasterioError, OSError, ValueError) as error:
        raise _unopened(uri, site, error) from error


def _unopened(uri: str, site: Hashable | None, error: Exception) -> ChipReadError:
    """Return the error of a file that cannot be opened, with its cause."""
    who = "" if site is None else f"Site {list_some([site])}: "
    reason = reason_of(error)
    found = ChipReadError(
        f"{who}{uri} could not be read ({reason}). Replace the file, or leave "
        f"{'it' if site is None else 'the site'} out."
    )
    found.__cause__ = error
    return found


def _check_header(raster: Any, uri: str, who: str) -> None:
    if raster.crs is None:
        raise ChipReadError(
            f"{who}{uri} has no coordinate reference system, so the sites cannot be found on it. "
            "Write it into the file, for example with "
            f"`rio edit-info --crs EPSG:<code> {Path(uri).name}`."
        )
    affine = tuple(raster.transform)[:6]
    if affine == tuple(Affine.identity())[:6]:
        raise ChipReadError(
            f"{who}{uri} has a coordinate reference system but no place in it (its affine map is "
            "the identity), so the sites cannot be found on it. Georeference the file anew."
        )
    if not np.isfinite(affine).all() or affine[0] * affine[4] == affine[1] * affine[3]:
        raise ChipReadError(
            f"{who}{uri} has pixels without extent: its affine map is {affine}. Georeference the "
            "file anew."
        )
    layers = raster.count if str(raster.interleaving) == "Interleaving.pixel" else 1
    for (height, width), dtype in zip(raster.block_shapes, raster.dtypes, strict=True):
        size = height * width * np.dtype(dtype).itemsize * layers
        if size > _MAX_BLOCK_BYTES:
            raise ChipReadError(
                f"{who}{uri} announces blocks of {height:,} x {width:,} pixels, "
                f"{size / 2**30:,.1f} GiB each; at most {_MAX_BLOCK_BYTES / 2**30:g} GiB are read "
                "at once. If the file is honest, write it anew in tiles, for example with "
                "`rio convert --co TILED=YES`."
            )


def _header_of(raster: Any, uri: str) -> FileHeader:
    places = [
        k for k, meaning in enumerate(raster.colorinterp) if meaning != ColorInterp.alpha
    ] or list(range(raster.count))
    described = [raster.descriptions[k] for k in places]
    named = all(described) and len(set(described)) == len(described)
    bands = tuple(described) if named else tuple(f"band_{k + 1}" for k in range(len(places)))
    transform, height = raster.transform, int(raster.height)
    if transform.e > 0 and not transform.b:
        top = transform.f + transform.e * height
        transform = Affine(transform.a, 0, transform.c, 0, -transform.e, top)
    tags = raster.tags()
    scalings = [_scaling(raster, k, name, tags, uri) for k, name in zip(places, bands, strict=True)]
    return FileHeader(
        uri,
        GeoBox((height, int(raster.width)), transform, raster.crs.to_string()),
        bands,
        tuple(k + 1 for k in places),
        str(np.result_type(*(raster.dtypes[k] for k in places))),
        tuple(raster.nodatavals[k] for k in places),
        tuple(scale for scale, _ in scalings),
        tuple(offset for _, offset in scalings),
        tags,
        _has_mask(raster),
    )


def _has_mask(raster: Any) -> bool:
    """Say whether a file has a mask band or alpha."""
    return any(set(band) not in _PLAIN_MASKS for band in raster.mask_flag_enums)


def _scaling(
    raster: Any, k: int, band: str, tags: Mapping[str, str], uri: str
) -> tuple[float, float]:
    """Return scale and offset of a band; GDAL says (1, 0) where the file says nothing."""
    scale, offset = raster.scales[k], raster.offsets[k]
    declared = {}
    if (scale, offset) != (1.0, 0.0) and scale and np.isfinite([scale, offset]).all():
        declared = {"scale": scale, "offset": offset}
    found = band_scaling(band, {**tags, **raster.tags(k + 1)}, declared, name=uri)
    return found.scale, found.offset


@cache
def _limit_block_cache() -> None:
    """Keep GDAL from filling a share of all memory with blocks, once per process."""
    if "GDAL_CACHEMAX" not in os.environ and get_gdal_config("GDAL_CACHEMAX") > _BLOCK_CACHE:
        set_gdal_config("GDAL_CACHEMAX", _BLOCK_CACHE)


def raise_all(problems: Sequence[ChipReadError], n_files: int) -> None:
    """Raise all problems as one error; nothing happens when there are none."""
    if len(problems) == 1:
        raise problems[0]
    if problems:
        first = "\n".join(f"- {problem}" for problem in problems[:5])
        more = f"\n- and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise ChipReadError(
            f"{len(problems)} of {n_files} files cannot be used:\n{first}{more}"
        ) from problems[0]
