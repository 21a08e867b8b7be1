"""`Chips`: the pixels of every site, read when they are asked for."""

from collections.abc import Hashable, Iterator, Sequence
from html import escape
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pyproj
from numpy.typing import ArrayLike, NDArray

from terracausal._foundation.checks import check_count, check_positive, check_unique
from terracausal._foundation.errors import AlignmentError, BandError, list_some
from terracausal.imagery.places import site_table
from terracausal.imagery.readers import ArrayReader, ChipReader, band_tuple
from terracausal.imagery.records import (
    ChipRecord,
    duplicate_groups,
    inspect_chip,
    manifest_table,
    value_range,
)

_GROUPS_SHOWN = 10
_AXES = "(n_sites, n_times, n_bands, height, width)"


class Chips:
    """The pixels of sites: immutable, keyed by site, read when they are asked for.

    `chips[site]` is a float32 array of shape (n_times, n_bands, height, width) with NaN where a
    pixel is missing. Make one with `Chips.from_arrays` or `read_chips`.

    Parameters
    ----------
    reader : ChipReader
        Returns the pixels of a site.
    sites : GeoDataFrame
        One row per site that has a chip, indexed by site key; as made by `site_table`.
    records : sequence of ChipRecord
        What was found for each site and time, including sites that have no chip.
    bands : tuple of str
        Names of the bands.
    size_px : tuple of int
        Height and width of every chip in pixels.
    times : DatetimeIndex, default=None
        Date of each time; None when the images are undated.
    grid : tuple, default=(None, None)
        Coordinate reference system (None when unknown or not common to all chips) and length of a
        pixel in metres (None when unknown).
    notes : tuple of str, default=()
        Counted rules that were applied when the chips were read, for `describe`.

    Examples
    --------
    >>> import numpy as np
    >>> pixels = np.arange(16).reshape(2, 1, 2, 2, 2)
    >>> chips = Chips.from_arrays(pixels, sites=["a", "b"], bands=["red", "nir"])
    >>> chips
    Chips(2 sites, 1 time, 2 bands, 2 x 2 px)
    >>> chips["b"].shape, chips["b"].dtype
    ((1, 2, 2, 2), dtype('float32'))
    """

    def __init__(
        self,
        reader: ChipReader,
        sites: gpd.GeoDataFrame,
        records: Sequence[ChipRecord],
        bands: tuple[str, ...],
        size_px: tuple[int, int],
        *,
        times: pd.DatetimeIndex | None = None,
        grid: tuple[Any, float | None] = (None, None),
        notes: tuple[str, ...] = (),
    ) -> None:
        self._reader = reader
        self._sites = sites
        self._records = tuple(records)
        self._n_times: int = sum(record.site == sites.index[0] for record in self._records)
        self._bands = bands
        self._size_px = size_px
        self._times = times
        self._crs, self._resolution_m = grid
        self._notes = notes

    @classmethod
    def from_arrays(
        cls,
        array: ArrayLike,
        sites: Any,
        bands: Sequence[str],
        times: Any = None,
        crs: Any = None,
        resolution_m: float | None = None,
    ) -> "Chips":
        """Make chips of an array that is already in memory.

        Parameters
        ----------
        array : array-like of shape (n_sites, n_times, n_bands, height, width)
            Any real dtype; masked values and NaN are missing. Integers keep their number.
        sites : GeoDataFrame, DataFrame, Index or sequence of keys
            One per row of `array`, in its order: a GeoDataFrame of points, a DataFrame with the
            columns `lon` and `lat` in degrees (both indexed by site key or with a column `site`),
            or plain keys without geography.
        bands : sequence of str of length n_bands
            Names of the bands.
        times : sequence of dates of length n_times, default=None
            Date of each image; None when they are undated.
        crs : CRS or anything pyproj reads, default=None
            Coordinate reference system of the pixel grids.
        resolution_m : float, default=None
            Length of a pixel in metres.

        Returns
        -------
        Chips
            One chip per row of `array`.

        Raises
        ------
        AlignmentError
            If the number of sites differs from the array or a site key stands twice.
        BandError
            If the number of names differs from the array or a name stands twice.
        ValueError
            If the array has not five axes, is not real, holds infinite values, or coordinates are
            missing or look swapped.

        Examples
        --------
        >>> import pandas as pd
        >>> sites = pd.DataFrame({"lon": [30.8], "lat": [3.1]}, index=["Arua"])
        >>> Chips.from_arrays([[[[[1, 2]]]]], sites=sites, bands=["red"])["Arua"].tolist()
        [[[[1.0, 2.0]]]]
        """
        pixels = np.asanyarray(array)
        _check_axes(pixels)
        table = site_table(sites)
        names, dates = band_tuple(bands), _dates(times)
        _check_lengths(pixels, table, names, dates)
        reader = ArrayReader(pixels, table.index)
        stamps = [None] * pixels.shape[1] if dates is None else list(dates)
        records: list[ChipRecord] = []
        for site in table.index:
            try:
                records += inspect_chip(site, reader.read(site), stamps, "array")
            except ValueError as error:
                raise ValueError(f"Site {list_some([site])}: {error}") from error
        grid = (
            None if crs is None else pyproj.CRS.from_user_input(crs),
            None if resolution_m is None else check_positive("resolution_m", resolution_m),
        )
        size_px = (int(pixels.shape[3]), int(pixels.shape[4]))
        return cls(reader, table, records, names, size_px, times=dates, grid=grid)

    @property
    def keys(self) -> pd.Index:
        """Keys of the sites that have a chip, in the order in which they were given."""
        keys: pd.Index = self._sites.index
        return keys

    @property
    def sites(self) -> Any:
        """GeoDataFrame of the sites that have a chip, indexed by site key.

        Sites without geography have the geometry None.
        """
        return self._sites.copy()

    @property
    def bands(self) -> tuple[str, ...]:
        """Names of the bands."""
        return self._bands

    @property
    def times(self) -> pd.DatetimeIndex | None:
        """Date of each time; None when the images are undated."""
        return self._times

    @property
    def crs(self) -> Any:
        """Coordinate reference system of the pixel grids; None when unknown or not common."""
        return self._crs

    @property
    def resolution_m(self) -> float | None:
        """Length of a pixel in metres; None when unknown."""
        return self._resolution_m

    @property
    def size_px(self) -> tuple[int, int]:
        """Height and width of every chip in pixels."""
        return self._size_px

    @property
    def n_sites(self) -> int:
        """Number of sites that have a chip."""
        return len(self.keys)

    @property
    def n_times(self) -> int:
        """Number of images per site."""
        return self._n_times

    @property
    def n_bands(self) -> int:
        """Number of bands."""
        return len(self._bands)

    @property
    def manifest(self) -> pd.DataFrame:
        """One row per site and time, also for sites that have no chip.

        Columns: `site`; `time` (NaT when undated); `status` ("ok", "partial": some pixels missing,
        "no data": all missing, "missing": no source, "off edge": the source does not reach the
        site); `nodata_share`, the share of missing pixels; `source`; `offset_m`, the distance of
        the centre of the chip from the site (NaN when unknown); `duplicate_of`, the first site in
        order of keys with identical pixels at that time (missing when there is none).
        """
        return manifest_table(self._records)

    def __len__(self) -> int:
        return self.n_sites

    def __iter__(self) -> Iterator[Hashable]:
        return iter(self.keys)

    def __contains__(self, site: Hashable) -> bool:
        return site in self.keys

    def __getitem__(self, site: Hashable) -> NDArray[np.float32]:
        if site not in self:
            raise KeyError(
                f"No chip for site {list_some([site])}; {self.n_sites} sites have one: "
                f"{list_some(self.keys)}."
            )
        return self._reader.read(site)

    def select(self, sites: Any) -> "Chips":
        """Return the chips of some sites, in the order in which they are named.

        Parameters
        ----------
        sites : sequence of site keys
            Sites to keep.

        Returns
        -------
        Chips
            Shares its pixels with these chips.

        Raises
        ------
        KeyError
            If a site has no chip.

        Examples
        --------
        >>> import numpy as np
        >>> chips = Chips.from_arrays(np.ones((3, 1, 1, 2, 2)), sites=list("abc"), bands=["red"])
        >>> list(chips.select(["c", "a"]))
        ['c', 'a']
        """
        wanted = check_unique("Site keys", pd.Index(sites))
        absent = wanted[~wanted.isin(self.keys)]
        if len(absent):
            raise KeyError(
                f"{len(absent)} of {len(wanted)} sites have no chip: {list_some(absent)}; "
                f"{self.n_sites} sites have one: {list_some(self.keys)}."
            )
        if not len(wanted):
            raise ValueError("`sites` must name at least one site; it is empty.")
        by_site: dict[Hashable, list[ChipRecord]] = {}
        for record in self._records:
            by_site.setdefault(record.site, []).append(record)
        return Chips(
            self._reader,
            self._sites.loc[wanted],
            [record for site in wanted for record in by_site[site]],
            self._bands,
            self._size_px,
            times=self._times,
            grid=(self._crs, self._resolution_m),
        )

    def batches(self, batch_size: int) -> Iterator[tuple[pd.Index, NDArray[np.float32]]]:
        """Yield the keys and pixels of `batch_size` sites at a time, in the order of `keys`.

        Parameters
        ----------
        batch_size : int
            Number of sites held in memory together; the last batch may be smaller.

        Yields
        ------
        keys : Index of length b
            Sites of the batch.
        pixels : ndarray of shape (b, n_times, n_bands, height, width)
            float32, NaN where missing.

        Examples
        --------
        >>> import numpy as np
        >>> chips = Chips.from_arrays(np.ones((3, 1, 1, 2, 2)), sites=list("abc"), bands=["red"])
        >>> [len(keys) for keys, pixels in chips.batches(2)]
        [2, 1]
        """
        step = check_count("batch_size", batch_size)
        for start in range(0, self.n_sites, step):
            keys = self.keys[start : start + step]
            yield keys, np.stack([self._reader.read(site) for site in keys])

    def to_xarray(self) -> Any:
        """Return all pixels as one DataArray with the dimensions site, time, band, y, x.

        Returns
        -------
        xarray.DataArray
            float32, held in memory; `attrs` carry the coordinate reference system and the length
            of a pixel where they are known.

        Examples
        --------
        >>> import numpy as np
        >>> chips = Chips.from_arrays(np.ones((3, 1, 1, 2, 2)), sites=list("abc"), bands=["red"])
        >>> chips.to_xarray().sel(site="b", band="red").shape
        (1, 2, 2)
        """
        import xarray as xr

        pixels = np.stack([self._reader.read(site) for site in self.keys])
        coords: dict[str, Any] = {"site": self.keys.to_numpy(), "band": list(self._bands)}
        if self._times is not None:
            coords["time"] = self._times
        attrs = {
            "crs": None if self._crs is None else self._crs.to_string(),
            "resolution_m": self._resolution_m,
        }
        return xr.DataArray(
            pixels,
            dims=("site", "time", "band", "y", "x"),
            coords=coords,
            attrs={name: value for name, value in attrs.items() if value is not None},
        )

    def describe(self) -> str:
        """Return counts, statuses, duplicates, bands and value ranges as text.

        Returns
        -------
        str
            One fact per line.

        Examples
        --------
        >>> import numpy as np
        >>> pixels = np.ones((2, 1, 1, 2, 2))
        >>> print(Chips.from_arrays(pixels, sites=["a", "b"], bands=["red"]).describe())
        Chips(2 sites, 1 time, 1 band, 2 x 2 px)
          status: ok 2
          duplicates: a = b (identical pixels)
          red: 1 to 1
        """
        counts = pd.Series([record.status for record in self._records]).value_counts()
        statuses = ", ".join(f"{status} {count}" for status, count in counts.items())
        lines = [repr(self), f"  status: {statuses}"]
        lines += [f"  {note}" for note in self._notes]
        groups = duplicate_groups(self._records)
        if groups:
            shown = ", ".join(" = ".join(map(str, group)) for group in groups[:_GROUPS_SHOWN])
            more = len(groups) - _GROUPS_SHOWN
            shown += f" and {more} more groups" if more > 0 else ""
            lines.append(f"  duplicates: {shown} (identical pixels)")
        known = set(self.keys)
        kept = [record for record in self._records if record.site in known]
        limits = value_range(kept, self.n_bands)
        lines += [
            f"  {band}: {low:g} to {high:g}" if np.isfinite(low) else f"  {band}: no valid pixel"
            for band, low, high in zip(self._bands, *limits, strict=True)
        ]
        return "\n".join(lines)

    def __repr__(self) -> str:
        height, width = self._size_px
        facts = [
            _counted(self.n_sites, "site"),
            _counted(self.n_times, "time"),
            _counted(self.n_bands, "band"),
            f"{height} x {width} px",
        ]
        if self._resolution_m is not None:
            facts.append(f"{self._resolution_m:g} m")
        if self._crs is not None:
            facts.append(self._crs.to_string())
        return f"Chips({', '.join(facts)})"

    def _repr_html_(self) -> str:
        title, *facts = self.describe().splitlines()
        rows = "".join(
            f"<tr><th style='text-align:left'>{escape(name.strip())}</th>"
            f"<td style='text-align:left'>{escape(text.strip())}</td></tr>"
            for name, _, text in (fact.partition(":") for fact in facts)
        )
        return f"<table><caption>{escape(title)}</caption>{rows}</table>"


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _dates(times: Any) -> pd.DatetimeIndex | None:
    if times is None:
        return None
    dates = pd.DatetimeIndex(pd.to_datetime(pd.Index(times)), name="time")
    if dates.hasnans:
        raise ValueError(
            f"`times` must be dates; {np.count_nonzero(dates.isna())} of {len(dates)} are not."
        )
    return dates


def _check_axes(pixels: NDArray[Any]) -> None:
    if pixels.ndim == 4:
        raise ValueError(
            f"`array` must have five axes {_AXES}; found four, shape {pixels.shape}. "
            "Add the time axis with `array[:, None]`."
        )
    if pixels.ndim != 5:
        raise ValueError(
            f"`array` must have five axes {_AXES}; found {pixels.ndim}, shape {pixels.shape}."
        )
    if 0 in pixels.shape:
        raise ValueError(f"No axis of `array` {_AXES} may be empty; found shape {pixels.shape}.")


def _check_lengths(
    pixels: NDArray[Any],
    table: gpd.GeoDataFrame,
    bands: tuple[str, ...],
    times: pd.DatetimeIndex | None,
) -> None:
    n_sites, n_times, n_bands = pixels.shape[:3]
    if len(table) != n_sites:
        raise AlignmentError(
            f"`sites` must have one row for each of the {n_sites} rows of `array`; it has "
            f"{len(table)}: {list_some(table.index)}."
        )
    if len(bands) != n_bands:
        raise BandError(
            f"`bands` must name the {n_bands} bands of `array` (shape {pixels.shape}, {_AXES}); "
            f"got {len(bands)}: {list_some(bands, 20)}."
        )
    if times is not None and len(times) != n_times:
        raise ValueError(
            f"`times` must date the {n_times} times of `array`; got {len(times)}: "
            f"{list_some(times.strftime('%Y-%m-%d'))}."
        )
