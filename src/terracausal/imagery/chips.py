"""`Chips`: the pixels of every site, read when they are asked for."""

from collections.abc import Hashable, Iterator, Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pyproj
from numpy.typing import ArrayLike, NDArray

from terracausal._foundation.checks import check_count, check_positive, check_unique
from terracausal._foundation.errors import BandError, list_some
from terracausal.imagery.array_checks import as_dates, by_date, check_axes, check_lengths
from terracausal.imagery.places import has_geography, overlapping_pairs, site_table
from terracausal.imagery.preview import (
    draw_preview,
    html_page,
    overlap_note,
    text_page,
    title_line,
)
from terracausal.imagery.readers import (
    ArrayReader,
    ChipReader,
    ViewReader,
    band_tuple,
    only_sites,
    read_stacked,
)
from terracausal.imagery.records import ChipRecord, inspect_chip, manifest_table
from terracausal.imagery.selection import (
    common_times,
    dates_by_site,
    kept_times,
    looked_at_anew,
    records_by_site,
)

if TYPE_CHECKING:
    from terracausal.imagery.store import StoreSummary


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
        What was found for each site and time, including sites that have no chip; those of a site
        stand in the order of its times.
    bands : tuple of str
        Names of the bands.
    size_px : tuple of int
        Height and width of every chip in pixels.
    times : DatetimeIndex, default=None
        Date of each time where all sites share them; None takes the dates of the records.
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
        self._found = tuple(records)
        self._bands = bands
        self._size_px = size_px
        self._dates = dates_by_site(self._found, sites.index)
        self._n_times: int = max(map(len, self._dates.values()))
        self._times = common_times(self._dates) if times is None else times
        self._crs, self._resolution_m = grid
        self._notes = notes
        self._arguments: dict[str, Any] = {}
        self._is_stale = False
        self._by_site: dict[Hashable, list[ChipRecord]] = {}

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
            Date of each image, with which images are sorted; None when they are undated.
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
        check_axes(pixels)
        table = site_table(sites)
        names, dates = band_tuple(bands), as_dates(times)
        check_lengths(pixels, table, names, dates)
        pixels, dates = by_date(pixels, dates)
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
        """Date of each time; None when images are undated or sites differ (`times_of`)."""
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
        """Number of images per site, the largest where sites differ."""
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
        site, "unreadable"); `nodata_share`, the share of missing pixels; `cloud_share`, what the
        metadata or a mask say (NaN when unknown); `source`; `offset_m`, the distance of the centre
        of the chip from the site (NaN when unknown); `duplicate_of`, the first site in order of
        keys with identical pixels at that time (missing when there is none); `grid`, the coordinate
        reference system of the pixel grid.

        All pixels are looked at once when it is first asked for, unless this has been done.
        """
        return manifest_table(self._records)

    @property
    def _records(self) -> tuple[ChipRecord, ...]:
        """What is known of each chip; its pixels are looked at where nobody has done so."""
        if self._is_stale:
            self._settle(looked_at_anew(self._reader, self._found, self.keys))
        return self._found

    def _settle(self, records: Sequence[ChipRecord]) -> None:
        """Keep what was found in all pixels."""
        self._found = tuple(records)
        self._is_stale, self._by_site = False, {}

    def times_of(self, site: Hashable) -> pd.DatetimeIndex:
        """Return the dates of the images of one site, NaT where undated.

        Parameters
        ----------
        site : site key
            With a chip.

        Returns
        -------
        DatetimeIndex of length n_times
            In the order of `chips[site]`.

        Raises
        ------
        KeyError
            If the site has no chip.

        Examples
        --------
        >>> import numpy as np
        >>> chips = Chips.from_arrays(
        ...     np.ones((1, 1, 1, 2, 2)), sites=["a"], bands=["red"], times=["2019-05-01"]
        ... )
        >>> chips.times_of("a").year.tolist()
        [2019]
        """
        self._check_known(site)
        return pd.DatetimeIndex(self._dates[site], name="time")

    def overlapping_sites(self) -> pd.DataFrame:
        """Return the pairs of sites whose chips overlap, so that folds can keep them together.

        Returns
        -------
        DataFrame
            One row per pair: `site`, `other`, `distance_m` (0 for two sites at one place), `shared`
            (the share of a chip that both cover) and `group`, the first of all sites that are
            linked by overlapping chips.

        Raises
        ------
        ValueError
            If the sites have no positions or the length of a pixel is not known.

        Examples
        --------
        >>> import numpy as np
        >>> sites = pd.DataFrame({"lon": [33.0, 33.0001], "lat": [0.0, 0.0]}, index=["a", "b"])
        >>> pixels = np.ones((2, 1, 1, 4, 4))
        >>> chips = Chips.from_arrays(pixels, sites=sites, bands=["red"], resolution_m=10)
        >>> chips.overlapping_sites()["distance_m"].round(1).tolist()
        [11.1]
        """
        if self._resolution_m is None or not has_geography(self._sites) or self._sites.crs is None:
            raise ValueError(
                "To find chips that overlap, sites need positions with a coordinate reference "
                f"system, and pixels a length; `resolution_m` is {self._resolution_m}, the CRS of "
                f"the sites is {self._sites.crs}. Give both when the chips are read."
            )
        height, width = self._size_px
        step = self._resolution_m
        return overlapping_pairs(self._sites, width * step, height * step)

    def __len__(self) -> int:
        return self.n_sites

    def __iter__(self) -> Iterator[Hashable]:
        return iter(self.keys)

    def __contains__(self, site: Hashable) -> bool:
        return site in self.keys

    def __getitem__(self, site: Hashable) -> NDArray[np.float32]:
        self._check_known(site)
        return self._reader.read(site)

    def _check_known(self, site: Hashable) -> None:
        if site not in self:
            raise KeyError(
                f"No chip for site {list_some([site])}; {self.n_sites} sites have one: "
                f"{list_some(self.keys)}."
            )

    def select(
        self, sites: Any = None, *, bands: Sequence[str] | None = None, times: Any = None
    ) -> "Chips":
        """Return some sites, bands or times, in the order in which sites and bands are named.

        Parameters
        ----------
        sites : sequence of site keys, default=None
            Sites to keep; None keeps all.
        bands : sequence of str, default=None
            Bands to keep; None keeps all.
        times : slice, sequence of dates or "last", default=None
            Times to keep, such as `slice("2015", "2018")` (both included), or each site's "last";
            None keeps all. Sites left without an image are left out and counted in `describe`.

        Returns
        -------
        Chips
            Shares its pixels with these chips. Where bands were selected, pixels are looked at anew
            when the manifest is first asked for.

        Raises
        ------
        KeyError
            If a site has no chip.
        BandError
            If there is no such band.
        ValueError
            If nothing would be left.

        Examples
        --------
        >>> import numpy as np
        >>> chips = Chips.from_arrays(np.ones((3, 1, 1, 2, 2)), sites=list("abc"), bands=["red"])
        >>> list(chips.select(["c", "a"]))
        ['c', 'a']
        """
        chosen = self if sites is None else self._with_sites(sites)
        if times is not None:
            chosen = chosen._with_times(times)
        return chosen if bands is None else chosen._with_bands(bands)

    def _with_sites(self, sites: Any) -> "Chips":
        wanted = check_unique("Site keys", pd.Index(sites))
        absent = wanted[~wanted.isin(self.keys)]
        if len(absent):
            raise KeyError(
                f"{len(absent)} of {len(wanted)} sites have no chip: {list_some(absent)}; "
                f"{self.n_sites} sites have one: {list_some(self.keys)}."
            )
        if not len(wanted):
            raise ValueError("`sites` must name at least one site; it is empty.")
        self._by_site = self._by_site or records_by_site(self._found)
        return self._derived(
            only_sites(self._reader, list(wanted)),
            self._sites.loc[wanted],
            [record for site in wanted for record in self._by_site[site]],
        )

    def _with_bands(self, bands: Sequence[str]) -> "Chips":
        names = band_tuple(bands)
        absent = [name for name in names if name not in self._bands]
        if absent or not names:
            raise BandError(
                f"`bands` must be some of {list_some(self._bands, 20)}; got "
                f"{list_some(absent or names, 20)}."
            )
        positions = tuple(self._bands.index(name) for name in names)
        reader = ViewReader(self._reader, positions, None)
        chosen = self._derived(reader, self._sites, self._found, names)
        chosen._is_stale = self._is_stale or names != self._bands
        return chosen

    def _with_times(self, times: Any) -> "Chips":
        kept = {site: kept_times(dates, times) for site, dates in self._dates.items()}
        empty = [site for site in self.keys if not kept[site]]
        if len(empty) == self.n_sites:
            raise ValueError(
                f"`times` must leave an image; none of {self.n_sites} sites has one in {times!r}. "
                f"The first site, {list_some(self.keys[:1])}, has "
                f"{list_some([str(day)[:10] for day in self._dates[self.keys[0]]], 3)}."
            )
        seen: dict[Hashable, int] = {}
        records = []
        for record in self._found:
            place = seen.get(record.site, 0)
            seen[record.site] = place + 1
            if place in kept.get(record.site, ()):
                records.append(record)
        sites = self._sites.loc[[site for site in self.keys if kept[site]]]
        chosen = self._derived(ViewReader(self._reader, None, kept), sites, records)
        if empty:
            note = f"sites without an image in the times selected, left out: {len(empty)}"
            chosen._notes = (*self._notes, f"{note} ({list_some(empty)})")
        return chosen

    def _derived(
        self, reader: ChipReader, sites: Any, records: Sequence[ChipRecord], bands: Any = None
    ) -> "Chips":
        names = self._bands if bands is None else bands
        grid = (self._crs, self._resolution_m)
        chosen = Chips(reader, sites, records, names, self._size_px, grid=grid)
        chosen._arguments = self._arguments
        chosen._is_stale = self._is_stale
        return chosen

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
            float32, NaN where missing; sequences shorter than `n_times` are filled up with NaN.

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
            yield keys, self._stacked(keys)

    def _stacked(self, keys: pd.Index) -> NDArray[np.float32]:
        """Return chips as one array, shorter sequences filled up with NaN."""
        shape = (self._n_times, self.n_bands, *self._size_px)
        return read_stacked(self._reader, list(keys), shape)

    def write(self, path: str | PathLike[str], **options: Any) -> "StoreSummary":
        """Write the chips to a store on disk; `open_chips` opens it.

        Parameters
        ----------
        path : path
            Folder to make, such as "chips.zarr".
        **options
            Keyword arguments of `write_chips`, such as `overwrite`, `n_jobs` and `client`.

        Returns
        -------
        StoreSummary
            What was written.

        Examples
        --------
        >>> import tempfile, numpy as np
        >>> chips = Chips.from_arrays(np.ones((2, 1, 1, 2, 2)), sites=["a", "b"], bands=["red"])
        >>> chips.write(tempfile.mkdtemp() + "/x.zarr").n_sites
        2
        """
        from terracausal.imagery.store import write_chips

        return write_chips(self, path, **options)

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

        pixels = self._stacked(self.keys)
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
        return text_page(
            repr(self), self._records, self.keys, self._bands, (*self._notes, *overlap_note(self))
        )

    def plot(self, n_sites: int = 12, *, time: int = -1, bands: Sequence[str] | None = None) -> Any:
        """Draw the first chips with one stretch for all, from the 2nd to the 98th percentile.

        Parameters
        ----------
        n_sites : int, default=12
            Number of chips.
        time : int, default=-1
            Which image of each site, the last by default.
        bands : sequence of str, default=None
            One band in grey, or three as red, green and blue. None takes red, green and blue by
            their names, else the first band.

        Returns
        -------
        ndarray of matplotlib.axes.Axes
            One per chip.

        Examples
        --------
        >>> import numpy as np
        >>> pixels = np.arange(16.0).reshape(2, 1, 2, 2, 2)
        >>> Chips.from_arrays(pixels, sites=["a", "b"], bands=["red", "nir"]).plot().shape
        (1, 2)
        """
        count = min(check_count("n_sites", n_sites), self.n_sites)
        return draw_preview(self, list(self.keys[:count]), time, bands)

    def __repr__(self) -> str:
        return title_line(self)

    def _repr_html_(self) -> str:
        return html_page(self, self.describe())
