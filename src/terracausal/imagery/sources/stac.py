"""STAC items as a source: every item is a layer whose bands may lie in several files."""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.errors import RasterioError

from terracausal._foundation.checks import check_count
from terracausal._foundation.errors import list_some
from terracausal.imagery.options import available_cores
from terracausal.imagery.sources.base import Box, Layer
from terracausal.imagery.sources.raster_files import FileHeader, open_file, read_header
from terracausal.imagery.sources.remote import insist
from terracausal.imagery.sources.stac_catalog import list_items
from terracausal.imagery.sources.stac_items import (
    Assets,
    Scene,
    SceneBand,
    group_by_file,
    read_scene,
)
from terracausal.imagery.sources.stac_scenes import (
    common_bands,
    file_layer,
    grid_words,
    is_same_grid,
    scene_layer,
    with_headers,
    with_stand_in,
)
from terracausal.imagery.sources.windows import read_on_grid
from terracausal.imagery.workers import run_tasks

_REST_S = 60.0  # an address that failed after all retries is not asked again for so long


class StacSource:
    """STAC items, read over the network by range requests where they lie on a server.

    An item is one layer: its bands are those of its assets, its date is the day (UTC) of
    `datetime`, or of `end_datetime` for a composite, and its grid is that of its finest asset, to
    which coarser assets are resampled. Numbers become values by `nodata`, `scale` and `offset` of
    the item, else of the file; the offset of Sentinel-2 baselines is added once (`band_scaling`).

    Parameters
    ----------
    items : path, address, mapping or iterable
        An item, item collection or static catalogue as JSON, its path or address; what
        `search_stac` returns; items of pystac; or an iterable of these.
    assets : sequence of str or mapping, default=None
        Keys of the assets to read; a mapping of key to name (or names) also names their bands. None
        takes the rasters of data whose bands all items have. Bands are named by their common names
        (red, nir08, …) where an item has each once, else by the key of the asset.
    retries : int, default=4
        How often an address is tried again after a failure that may pass, such as 503 or a lost
        connection: after 0.25, 0.5, 1, … seconds.
    sign : callable, default=None
        Returns the address to open for the address in the item, for servers that want signed ones,
        such as `planetary_computer.sign`. Must pickle for a cluster.

    Examples
    --------
    >>> import json, tempfile
    >>> from pathlib import Path
    >>> item = {
    ...     "type": "Feature",
    ...     "id": "kafa",
    ...     "properties": {
    ...         "datetime": "2020-01-13T10:44:11Z",
    ...         "proj:epsg": 32636,
    ...         "proj:transform": [10, 0, 5e5, 0, -10, 40],
    ...         "proj:shape": [4, 4],
    ...     },
    ...     "assets": {"red": {"href": "kafa.tif", "type": "image/tiff"}},
    ... }
    >>> path = Path(tempfile.mkdtemp()) / "item.json"
    >>> _ = path.write_text(json.dumps(item))
    >>> layer = StacSource(path).layers()[0]
    >>> layer.date, layer.bands, layer.grid.shape
    (Timestamp('2020-01-13 00:00:00'), ('red',), Shape2d(x=4, y=4))
    """

    def __init__(
        self, items: Any, *, assets: Assets = None, retries: int = 4, sign: Any = None
    ) -> None:
        self._items = items
        self._assets = assets
        self._retries = check_count("retries", retries, minimum=0)
        if sign is not None and not callable(sign):
            raise TypeError(f"`sign` must be a function of an address; got {type(sign).__name__}.")
        self._sign = sign
        self._scenes: dict[str, Scene] | None = None
        self._layers: list[Layer] = []
        self._headers: dict[str, FileHeader] = {}
        self._resting: dict[str, tuple[float, str]] = {}

    def __getstate__(self) -> dict[str, Any]:
        if self._scenes is None:
            self.layers()
        # a worker asks the servers itself
        return {**self.__dict__, "_items": None, "_headers": {}, "_resting": {}}

    def layers(self) -> list[Layer]:
        """Return one layer per item, sorted by date and address.

        Files are opened only for items that do not say where their pixels lie. Where the file of
        such an item cannot be had, another item of the same place, or the bounding box of the item,
        stands in, so that its sites are known and marked as unreadable.

        Raises
        ------
        BandError
            If items have no band in common, or lack an asset that was asked for.
        ChipReadError
            If a document cannot be read.
        """
        if self._scenes is None:
            items = list_items(self._items, retries=self._retries)
            scenes = [read_scene(item, self._assets, base) for item, base in items]
            scenes = common_bands(self._completed(scenes), self._assets)
            self._scenes = {scene.uri: scene for scene in scenes}
            if len(self._scenes) < len(scenes):
                doubled = [uri for uri, n in Counter(s.uri for s in scenes).items() if n > 1]
                raise ValueError(
                    f"Items must have addresses of their own; {list_some(doubled)} stand more "
                    "than once. Correct their links 'self'."
                )
            says_dtype = all(band.dtype for scene in scenes for band in scene.bands)
            self._layers = [scene_layer(scene, says_dtype) for scene in scenes]
            self._layers.sort(key=lambda layer: (str(layer.date), layer.uri))
        return list(self._layers)

    def read(
        self, layer: Layer, grid: Any, positions: tuple[int, ...], resampling: str
    ) -> NDArray[np.float32]:
        """Return some bands of an item on a grid; see `ImagerySource.read`."""
        if self._scenes is None:
            self.layers()
        scene = (self._scenes or {})[layer.uri]
        pixels = np.empty((len(positions), *grid.shape), dtype=np.float32)
        wanted = [scene.bands[position] for position in positions]
        for href, rows in group_by_file(wanted).items():
            for is_class in (False, True):
                chosen = [row for row in rows if wanted[row].is_class is is_class]
                if chosen:
                    method = "nearest" if is_class else resampling
                    bands = [wanted[row] for row in chosen]
                    pixels[chosen] = self._read_file(str(href), bands, layer, grid, method)
        return pixels

    def _read_file(
        self, href: str, bands: Sequence[SceneBand], layer: Layer, grid: Any, resampling: str
    ) -> NDArray[np.float32]:
        """Return bands of one file on a grid, (n_bands, height, width)."""
        rested, reason = self._resting.get(href, (0.0, ""))
        if time.monotonic() < rested:
            raise OSError(reason)
        uri = href if self._sign is None else str(self._sign(href))
        try:
            header = self._confirmed(href, uri, bands)
            own = file_layer(header, bands, layer.grid)

            def read_box(places: tuple[int, ...], box: Box) -> NDArray[Any]:
                numbers = [own.number_of(place) for place in places]
                return insist(uri, lambda: open_file(uri).read(numbers, box), self._retries)

            return read_on_grid(own, grid, tuple(range(len(bands))), resampling, read_box)
        except (RasterioError, OSError) as error:
            cause = str(error.__cause__ or error).strip().rstrip(".")
            reason = cause if href in cause else f"{href}: {cause}"
            self._resting[href] = (time.monotonic() + _REST_S, reason)
            raise OSError(reason) from error

    def _confirmed(self, href: str, uri: str, bands: Sequence[SceneBand]) -> FileHeader:
        """Return the header of a file, which must be the one that the item describes."""
        if href not in self._headers:
            self._headers[href] = insist(uri, lambda: read_header(uri), self._retries)
        header = self._headers[href]
        for band in bands:
            if band.number > max(header.numbers):
                raise OSError(
                    f"it has {len(header.numbers)} bands, its item describes {band.number}"
                )
            if not band.is_described and len(header.numbers) > 1 and band.number == 1:
                _refuse_unnamed(href, header, bands)
        if bands[0].grid is not None and not is_same_grid(bands[0].grid, header.grid):
            raise OSError(
                f"its item says {grid_words(bands[0].grid)}, the file says "
                f"{grid_words(header.grid)}"
            )
        return header

    def _completed(self, scenes: list[Scene]) -> list[Scene]:
        """Fill in from the files what the items do not say about their grids."""
        absent = list(
            dict.fromkeys(band.href for s in scenes for band in s.bands if band.grid is None)
        )

        def look(href: str) -> FileHeader | None:
            uri = href if self._sign is None else str(self._sign(href))
            try:
                return insist(uri, lambda: read_header(uri), self._retries)
            except (RasterioError, OSError):
                return None

        n_jobs = min(8, 2 * available_cores())
        found = dict(zip(absent, run_tasks(look, absent, n_jobs=n_jobs), strict=True))
        self._headers.update({href: known for href, known in found.items() if known is not None})
        named = isinstance(self._assets, Mapping)
        scenes = [with_headers(scene, self._headers, named) for scene in scenes]
        return [with_stand_in(scene, scenes) for scene in scenes]


def _refuse_unnamed(href: str, header: FileHeader, bands: Sequence[SceneBand]) -> None:
    if len(bands) != len(header.numbers):
        raise OSError(
            f"{href} has {len(header.numbers)} bands {list_some(header.bands, 20)}, of which its "
            "item says nothing; name them all with a mapping `assets`"
        )
