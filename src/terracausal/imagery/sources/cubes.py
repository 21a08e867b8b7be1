"""Arrays with axes: numpy arrays with a georeference, xarray objects and zarr cubes."""

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from terracausal._foundation.errors import BandError, list_some
from terracausal.imagery.dates import as_day
from terracausal.imagery.readers import band_tuple
from terracausal.imagery.sources.base import Box, Layer
from terracausal.imagery.sources.windows import read_on_grid

_X = ("x", "lon", "longitude", "easting")
_Y = ("y", "lat", "latitude", "northing")
_TIME = ("time", "t", "date")
_BAND = ("band", "bands", "variable")
_EVEN = 1e-3  # share of a step by which coordinates may be uneven


class ArraySource:
    """An array in memory that covers many sites.

    For an array with one chip per site use `Chips.from_arrays`.

    Parameters
    ----------
    array : array-like of shape (n_bands, height, width) or (n_times, n_bands, height, width)
        Stored numbers, masked or NaN where missing; the first row is the northernmost.
    bands : sequence of str
        Names of the bands.
    transform : Affine
        From column and row to coordinates, as in rasterio.
    crs : CRS or anything pyproj reads
        Of the coordinates.
    dates : sequence of dates, default=None
        One for each time.
    nodata : float, default=None
        Stored number that means missing.

    Examples
    --------
    >>> source = ArraySource(
    ...     np.ones((1, 4, 4)), ["red"], Affine(10, 0, 5e5, 0, -10, 40), "EPSG:32636"
    ... )
    >>> layer = source.layers()[0]
    >>> source.read(layer, layer.grid, (0,), "nearest").shape
    (1, 4, 4)
    """

    def __init__(
        self,
        array: Any,
        bands: Sequence[str],
        transform: Any,
        crs: Any,
        *,
        dates: Sequence[Any] | None = None,
        nodata: float | None = None,
    ) -> None:
        pixels = np.asanyarray(array)
        pixels = pixels[None] if pixels.ndim == 3 else pixels
        self._bands = band_tuple(bands)
        n_times = 1 if dates is None else len(dates)
        if pixels.ndim != 4 or pixels.shape[:2] != (n_times, len(self._bands)):
            raise BandError(
                f"`array` must have the shape (n_times, n_bands, height, width) with {n_times} "
                f"times and {len(self._bands)} bands; found {np.shape(array)}."
            )
        self._pixels = pixels
        days = [None] if dates is None else [as_day(d, f"dates[{k}]") for k, d in enumerate(dates)]
        grid = GeoBox(pixels.shape[2:], Affine(*tuple(transform)[:6]), crs)
        marks = () if nodata is None else (float(nodata),) * len(self._bands)
        self._layers = [
            Layer(
                f"array[{k}]",
                self._bands,
                grid,
                day,
                str(pixels.dtype),
                marks,
                may_mask=np.ma.is_masked(pixels),
            )
            for k, day in enumerate(days)
        ]
        self._place = {layer.uri: k for k, layer in enumerate(self._layers)}

    def layers(self) -> list[Layer]:
        """Return one layer per time."""
        return list(self._layers)

    def read(
        self, layer: Layer, grid: Any, positions: tuple[int, ...], resampling: str
    ) -> NDArray[np.float32]:
        """Return some bands of a time on a grid; see `ImagerySource.read`."""
        frame = self._pixels[self._place[layer.uri]]

        def read_box(places: tuple[int, ...], box: Box) -> NDArray[Any]:
            left, top, right, bottom = box
            window: NDArray[Any] = frame[list(places), top:bottom, left:right]
            return window

        return read_on_grid(layer, grid, positions, resampling, read_box)


class CubeSource:
    """An xarray object, or a zarr store or NetCDF file that xarray opens, read by window.

    Parameters
    ----------
    cube : DataArray, Dataset or path
        With coordinates along x and y (or lon and lat), evenly spaced, in either direction; along
        time where dated. Bands are a dimension `band` or the variables of a Dataset (those of a
        zarr group, which has no order, by name).
    crs : CRS or anything pyproj reads, default=None
        None takes that of the object (as odc-geo and rioxarray write it, or `attrs["crs"]`), or
        longitude and latitude where the dimensions are named so.
    bands : sequence of str, default=None
        New names for the bands.

    Examples
    --------
    >>> import xarray as xr
    >>> cube = xr.DataArray(
    ...     np.ones((1, 2, 2)),
    ...     dims=("band", "lat", "lon"),
    ...     coords={"band": ["red"], "lat": [0.5, 1.5], "lon": [30.5, 31.5]},
    ... )
    >>> layer = CubeSource(cube).layers()[0]
    >>> layer.bands, layer.grid.affine.f, layer.crs.to_epsg()
    (('red',), 2.0, 4326)
    """

    def __init__(self, cube: Any, *, crs: Any = None, bands: Sequence[str] | None = None) -> None:
        opened = _opened(cube)
        arrays = _band_arrays(opened)
        names = list(arrays)
        if bands is not None:
            new = band_tuple(bands)
            if len(new) != len(names):
                raise BandError(
                    f"`bands` must name the {len(names)} bands of the cube, "
                    f"{list_some(names, 20)}; got {list_some(new, 20)}."
                )
            names = list(new)
        self._arrays = list(arrays.values())
        first = self._arrays[0]
        self._x, self._y = _dimension(first, _X), _dimension(first, _Y)
        self._time = next((name for name in _TIME if name in first.dims), None)
        grid, self._flip_x, self._flip_y = _grid(first, self._x, self._y, _crs(opened, first, crs))
        base = str(opened.encoding.get("source") or getattr(opened, "name", None) or "xarray")
        self._layers = [
            Layer(
                f"{base}#{place}",
                tuple(names),
                grid,
                date,
                str(np.result_type(*(array.dtype for array in self._arrays))),
                tuple(_mark(array) for array in self._arrays),
                *_scaling(self._arrays),
            )
            for place, date in enumerate(_dates(first, self._time))
        ]
        self._place = {layer.uri: place for place, layer in enumerate(self._layers)}

    def layers(self) -> list[Layer]:
        """Return one layer per time."""
        return list(self._layers)

    def read(
        self, layer: Layer, grid: Any, positions: tuple[int, ...], resampling: str
    ) -> NDArray[np.float32]:
        """Return some bands of a time on a grid; see `ImagerySource.read`."""
        height, width = layer.grid.shape
        when = {} if self._time is None else {self._time: self._place[layer.uri]}

        def read_box(places: tuple[int, ...], box: Box) -> NDArray[Any]:
            left, top, right, bottom = box
            columns, rows = slice(left, right), slice(top, bottom)
            if self._flip_x:
                columns = slice(width - right, width - left)
            if self._flip_y:
                rows = slice(height - bottom, height - top)
            windows = np.stack(
                [
                    self._arrays[place]
                    .isel({self._x: columns, self._y: rows, **when})
                    .transpose(self._y, self._x)
                    .to_numpy()
                    for place in places
                ]
            )
            step_x, step_y = -1 if self._flip_x else 1, -1 if self._flip_y else 1
            return windows[:, ::step_y, ::step_x]

        return read_on_grid(layer, grid, positions, resampling, read_box)


def _opened(cube: Any) -> Any:
    import xarray as xr

    if isinstance(cube, xr.DataArray | xr.Dataset):
        return cube
    path = str(cube)
    # numbers as stored: nodata and scale are applied once, by us
    if not path.rstrip("/").endswith(".zarr"):
        return xr.open_dataset(path, mask_and_scale=False)
    try:
        found = xr.open_zarr(path, chunks=None, mask_and_scale=False, consolidated=True)
    except (ValueError, KeyError):
        found = xr.open_zarr(path, chunks=None, mask_and_scale=False, consolidated=False)
    # a group lists its arrays in any order
    return found[sorted(found.data_vars, key=str)]


def _band_arrays(opened: Any) -> dict[str, Any]:
    """Return one DataArray with the dimensions y, x and perhaps time for each band."""
    import xarray as xr

    if isinstance(opened, xr.Dataset):
        arrays = {
            str(name): array
            for name, array in opened.data_vars.items()
            if any(d in array.dims for d in _X) and any(d in array.dims for d in _Y)
        }
        if len(arrays) == 1:
            return _band_arrays(next(iter(arrays.values())))
        found = {name: array for name, array in arrays.items() if not set(_BAND) & set(array.dims)}
        if not found or len(found) < len(arrays):
            raise BandError(
                "The variables of a Dataset must be bands with the dimensions x and y, or there "
                f"must be one variable with a dimension 'band'; found {list_some(opened)} with "
                f"dimensions {list_some(opened.sizes, 10)}. Pass the DataArray with the pixels."
            )
        return found
    axis = next((name for name in _BAND if name in opened.dims), None)
    if axis is None:
        return {str(opened.name or "band_1"): opened}
    names = _band_names(opened, axis)
    return {name: opened.isel({axis: place}) for place, name in enumerate(names)}


def _band_names(opened: Any, axis: str) -> list[str]:
    described = opened.attrs.get("long_name")
    if isinstance(described, tuple | list) and len(described) == opened.sizes[axis]:
        return list(band_tuple([str(name) for name in described]))
    if axis in opened.coords:
        labels = opened[axis].to_numpy()
        if labels.dtype.kind in "UOST":
            return list(band_tuple([str(name) for name in labels]))
    return [f"band_{place + 1}" for place in range(opened.sizes[axis])]


def _dimension(array: Any, names: Sequence[str]) -> str:
    found = [name for name in names if name in array.dims]
    if not found:
        raise ValueError(
            f"The pixels of a cube must have a dimension named {list_some(names, 4)}; found "
            f"{list_some(array.dims, 10)}. Rename the dimension."
        )
    return found[0]


def _dates(array: Any, time: str | None) -> list[pd.Timestamp | None]:
    extra = [name for name in array.dims if name not in (*_X, *_Y, time)]
    if extra:
        raise ValueError(
            "A cube may have the dimensions x, y, time and band; found also "
            f"{list_some(extra)}. Select one entry of it."
        )
    if time is None:
        return [None]
    if time not in array.coords:
        raise ValueError(
            f"The dimension {time!r} of a cube must have dates as coordinates; it has none. Assign "
            "them, or select one time."
        )
    return [as_day(day, f"{time}[{k}]") for k, day in enumerate(pd.Index(array[time].to_numpy()))]


def _crs(opened: Any, first: Any, crs: Any) -> Any:
    """Return the CRS that was given or that the object carries."""
    import odc.geo.xr  # noqa: F401  gives xarray objects the attribute `odc`

    if crs is not None:
        return crs
    for found in (first, opened):
        own = (
            found.odc.crs if any(name in found.coords for name in ("spatial_ref", "crs")) else None
        )
        own = own or found.attrs.get("crs") or _from_grid_mapping(opened, found)
        if own is not None:
            return own
    if any(name in first.dims for name in ("lon", "longitude")):
        return "EPSG:4326"
    raise ValueError(
        "A cube must say its coordinate reference system; none was found in its coordinates "
        f"{list_some(first.coords, 10)} or attributes {list_some(first.attrs, 10)}. Pass `crs`, or "
        "assign it with `cube.odc.assign_crs(...)`."
    )


def _from_grid_mapping(opened: Any, found: Any) -> Any:
    name = found.attrs.get("grid_mapping") or "spatial_ref"
    mapping: Hashable = name if name in getattr(opened, "variables", {}) else None
    if mapping is None:
        return None
    attrs = opened[mapping].attrs
    return attrs.get("crs_wkt") or attrs.get("spatial_ref")


def _grid(array: Any, x: str, y: str, crs: Any) -> tuple[Any, bool, bool]:
    """Return the north-up grid of an array, and whether its columns and rows must be turned."""
    (left, step_x), (bottom, step_y) = (_axis(array, name) for name in (x, y))
    width, height = array.sizes[x], array.sizes[y]
    if step_x < 0:
        left += step_x * (width - 1)
    top = bottom if step_y < 0 else bottom + step_y * (height - 1)
    wide, high = abs(step_x), abs(step_y)
    affine = Affine(wide, 0, left - wide / 2, 0, -high, top + high / 2)
    return GeoBox((height, width), affine, crs), step_x < 0, step_y > 0


def _axis(array: Any, name: str) -> tuple[float, float]:
    """Return the first coordinate along an axis, and the step."""
    if name not in array.coords or array.sizes[name] < 2:
        raise ValueError(
            f"A cube needs coordinates of at least two pixels along {name!r}; it has "
            f"{array.sizes[name]} pixels and the coordinates {list_some(array.coords, 10)}."
        )
    values = array[name].to_numpy().astype(np.float64)
    step = (values[-1] - values[0]) / (len(values) - 1)
    uneven = np.abs(np.diff(values) - step).max()
    if not step or uneven > _EVEN * abs(step) + 1e-6 * abs(step):
        raise ValueError(
            f"The coordinates of a cube must be evenly spaced; along {name!r} the steps differ by "
            f"up to {uneven:g} from their mean {step:g}. Resample the cube to an even grid first."
        )
    return float(values[0]), float(step)


def _mark(array: Any) -> float | None:
    for name in ("_FillValue", "nodata", "missing_value"):
        value = array.attrs.get(name)
        if value is not None and np.ndim(value) == 0:
            return float(value)
    return None


def _scaling(arrays: Sequence[Any]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return scales and offsets that were not applied when the object was opened."""
    scale = tuple(float(array.attrs.get("scale_factor", 1.0)) for array in arrays)
    offset = tuple(float(array.attrs.get("add_offset", 0.0)) for array in arrays)
    if set(scale) == {1.0} and set(offset) == {0.0}:
        return (), ()
    return scale, offset
