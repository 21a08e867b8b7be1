"""What every source of imagery offers: a list of layers, and the pixels of one on a grid.

A source only lists and reads. Which layers reach a site, on which grid its chip lies, how layers
of one date are joined and what is missing is decided once for all sources, in `plan` and `mosaic`.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from terracausal._foundation.errors import BandError, list_some
from terracausal.imagery.geodesy import apply_affine, parse_crs

Box = tuple[int, int, int, int]
"""Columns and rows of a layer: left, top, right, bottom; the last two are excluded."""


@dataclass(frozen=True, slots=True)
class Layer:
    """One raster of one date: what is known about it before a pixel is read.

    Parameters
    ----------
    uri : str
        Path or address; layers of one date are joined in the order of their `uri`.
    bands : tuple of str
        Names of the bands, in the order of the file.
    grid : odc.geo.geobox.GeoBox, default=None
        CRS, affine map and shape of the pixels; None for a source that is defined everywhere.
    date : Timestamp, default=None
        Day of acquisition; None when undated. Layers of different dates are never joined.
    dtype : str, default='float32'
        Of the stored numbers.
    nodata : tuple of (float or None), default=()
        Stored number that means missing, one per band; empty when there is none.
    scale : tuple of float, default=()
        value = scale * stored number + offset, one per band; empty means 1.
    offset : tuple of float, default=()
        One per band; empty means 0.
    numbers : tuple of int, default=()
        Position of each band inside the file counted from 1, for a file that holds more bands than
        this layer (such as one date per band); empty means 1, 2, ….
    site : hashable, default=None
        The only site to which this layer belongs; None when it serves every site that it reaches.
    cloud_share : float, default=nan
        Share of clouds between 0 and 1 that the metadata state; NaN when unknown.
    may_mask : bool, default=True
        Whether pixels may be masked in the source beside those that are nodata.

    Examples
    --------
    >>> from affine import Affine
    >>> from odc.geo.geobox import GeoBox
    >>> grid = GeoBox((4, 4), Affine(10, 0, 5e5, 0, -10, 40), "EPSG:32636")
    >>> layer = Layer("a.tif", ("red", "nir"), grid, nodata=(0.0, 0.0), dtype="uint16")
    >>> layer.number_of(1), layer.contains((500_005.0, 35.0))
    (2, True)
    """

    uri: str
    bands: tuple[str, ...]
    grid: Any = None
    date: pd.Timestamp | None = None
    dtype: str = "float32"
    nodata: tuple[float | None, ...] = ()
    scale: tuple[float, ...] = ()
    offset: tuple[float, ...] = ()
    numbers: tuple[int, ...] = ()
    site: Hashable | None = None
    cloud_share: float = float("nan")
    may_mask: bool = True

    def __post_init__(self) -> None:
        for name in ("nodata", "scale", "offset", "numbers"):
            found = getattr(self, name)
            if found and len(found) != len(self.bands):
                raise BandError(
                    f"`{name}` of a layer must have one entry for each of its {len(self.bands)} "
                    f"bands {list_some(self.bands, 20)}; {self.uri} has {len(found)}: "
                    f"{list_some(found, 20)}."
                )

    @property
    def crs(self) -> Any:
        """Coordinate reference system (pyproj); None for a source that is defined everywhere."""
        return None if self.grid is None else parse_crs(str(self.grid.crs))

    @property
    def is_everywhere(self) -> bool:
        """Whether the layer has no extent and no pixels of its own."""
        return self.grid is None

    @property
    def may_miss(self) -> bool:
        """Whether a pixel of the layer can be missing, by what is known of it."""
        return self.may_mask or any(mark is not None for mark in self.nodata)

    def number_of(self, position: int) -> int:
        """Return the number inside the file, counted from 1, of the band at a position from 0."""
        return self.numbers[position] if self.numbers else position + 1

    def contains(self, point: tuple[float, float]) -> bool:
        """Say whether a point in the CRS of the layer lies on it."""
        if self.grid is None:
            return True
        affine = self.grid.affine
        if affine.b == 0 and affine.d == 0:
            column, row = (point[0] - affine.c) / affine.a, (point[1] - affine.f) / affine.e
        else:
            column, row = apply_affine(~affine, *point)
        height, width = self.grid.shape
        return bool(0 <= column <= width and 0 <= row <= height)


@dataclass(frozen=True, slots=True)
class LostFile:
    """A file that could not be opened, so that nobody knows where its pixels lie.

    A source may list them as its attribute `lost`.

    Parameters
    ----------
    uri : str
        Path or address.
    site : hashable
        The only site to which the file belongs; None when it may have served any.
    date : Timestamp
        Day of acquisition; None when unknown.
    error : Exception
        Why it could not be opened.

    Examples
    --------
    >>> LostFile("https://a.org/x.tif", "Arua", None, OSError("HTTP response code: 503")).site
    'Arua'
    """

    uri: str
    site: Hashable | None
    date: pd.Timestamp | None
    error: Exception


@runtime_checkable
class ImagerySource(Protocol):
    """Anything that lists layers and reads one of them onto a grid.

    A source is used by several threads at once and travels to other processes, so it must be safe
    to read from concurrently and must pickle; handles are opened by the worker that uses them.

    Examples
    --------
    >>> from terracausal.imagery import RasterFiles
    >>> isinstance(RasterFiles("scenes/*.tif"), ImagerySource)
    True
    """

    def layers(self) -> Sequence[Layer]:
        """Return what there is to read, without reading pixels."""
        ...

    def read(
        self, layer: Layer, grid: Any, positions: tuple[int, ...], resampling: str
    ) -> NDArray[np.float32]:
        """Return some bands of a layer on a grid.

        Parameters
        ----------
        layer : Layer
            One of `layers()`.
        grid : odc.geo.geobox.GeoBox
            May reach beyond the layer.
        positions : tuple of int
            Positions in `layer.bands`, counted from 0.
        resampling : str
            Name of a method of GDAL, such as "nearest" or "bilinear"; not used where the pixels of
            the layer coincide with those of the grid.

        Returns
        -------
        ndarray of shape (n_positions, height, width)
            float32 with scale and offset applied, NaN where missing or beyond the layer.

        Raises
        ------
        OSError or ValueError
            When the pixels cannot be had; the caller adds site, date and `uri`.
        """
        ...


@runtime_checkable
class BoxSource(Protocol):
    """A source whose stored numbers can be had by columns and rows, for many chips at once."""

    def read_box(self, layer: Layer, positions: tuple[int, ...], box: Box) -> NDArray[Any]:
        """Return the stored numbers of some bands in a box that lies on the layer.

        Shape (n_positions, bottom - top, right - left); masked values are missing.
        """
        ...
