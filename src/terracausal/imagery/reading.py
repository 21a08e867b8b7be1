"""`read_chips`: places and a source of imagery become `Chips`."""

import os
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import pandas as pd
import pyproj

from terracausal._foundation.checks import check_count, check_positive
from terracausal._foundation.errors import ChipReadError, list_some
from terracausal.imagery.bands import choose_bands, refuse_mixed_bytes, refuse_mixed_scales
from terracausal.imagery.chips import Chips
from terracausal.imagery.dates import cutoff_dates, refuse_undated, taken_before
from terracausal.imagery.displacement import plausible_centres
from terracausal.imagery.geodesy import LONLAT, parse_crs
from terracausal.imagery.options import Reading, ReadingOptions, reading_options
from terracausal.imagery.places import has_geography, site_table
from terracausal.imagery.plan import ChipShape, Places, SitePlan, SitePlanner, pixel_length_m
from terracausal.imagery.provenance import told_arguments
from terracausal.imagery.records import ChipRecord, NoChipsError, manifest_table
from terracausal.imagery.source_reader import SourceReader
from terracausal.imagery.sources.base import ImagerySource, Layer, LostFile
from terracausal.imagery.sources.callables import CallableSource
from terracausal.imagery.sources.cubes import CubeSource
from terracausal.imagery.sources.files import find_files, match_sites, plain_path, table_columns
from terracausal.imagery.sources.raster_files import RasterFiles, raise_all

_RESOLUTION_TOLERANCE = 0.05  # share by which pixels of different files may differ in length
_MEASURED = ("ok", "partial", "no data")
_NO_MATTER = ("n_jobs", "client", "retries")  # options that change no number


def read_chips(
    source: Any,
    sites: Any,
    *,
    size_px: int | tuple[int, int],
    bands: Sequence[str] | None = None,
    resolution_m: float | None = None,
    before: Any = None,
    min_valid: float = 0.0,
    **options: Unpack[ReadingOptions],
) -> Chips:
    """Read the pixels around every site, one chip centred on each.

    Everything is planned at once, so errors of sites, files, bands and dates come early. Pixels are
    read whenever a chip is asked for, and none is kept. The manifest looks at all of them when it
    is first asked for, unless `write` has done so. Only where a rule leaves out sites by their
    pixels (`min_valid`, or files that are marked rather than raised when they cannot be read) are
    all pixels looked at here, because the rule decides which sites there are.

    Parameters
    ----------
    source : path, glob, list, DataFrame, source, xarray object or callable
        A file, a folder or a glob of rasters (GeoTIFF, COG, VRT): tiles that serve every site that
        they reach, or one file per site, named by its key. A list of these. A table of files with
        the column `path` and, where known, `date` and `site`. A zarr or NetCDF cube, by its path or
        as an xarray object. A function of a GeoBox that returns (n_bands, height, width). Anything
        with the methods of `ImagerySource`, such as `RasterFiles`, `ArraySource` and `CubeSource`.
    sites : GeoDataFrame or DataFrame
        Positions of the sites: a GeoDataFrame of points with a CRS, or a DataFrame with the columns
        `lon` and `lat` in degrees; indexed by site key or with a column `site`. The row numbers of
        a table that has neither become its keys, with a warning: `sites.rename_axis("site")` says
        that they are meant.
    size_px : int or (int, int)
        Side of a chip in pixels, or its height and width.
    bands : sequence of str, default=None
        Either some of the band names in the source, in the order wanted, or new names for all of
        them. None takes the names, which are band_1, band_2, … where the source has none.
    resolution_m : float, default=None
        Length of a pixel in metres. None keeps the pixels of the source and their exact numbers:
        the window whose centre is nearest to the site; so does the length that the pixels of the
        source have. Otherwise chips are resampled to a grid centred on the site, in the CRS of the
        source, or in the UTM zone of the site where that CRS is in degrees or Mercator.
    before : date, str, mapping or Series, default=None
        Only images of earlier days are used: a date, the name of a column of `sites`, or a date for
        each site. Images left out are counted.
    min_valid : float, default=0.0
        Sites whose share of valid pixels is below, over all their images, are left out and counted.
    **options : Unpack[ReadingOptions]
        `resampling`, `dates`, `layout`, `unreadable`, `n_jobs`, `client`, `displacement` and
        `retries`: see `Reading`.

    Returns
    -------
    Chips
        With a chip for every site that the source reaches. `manifest` and `describe` also count
        the sites left out. `crs` is None where chips lie in different zones.

    Raises
    ------
    AlignmentError
        If a site key stands twice or several files belong to one site.
    BandError
        If files differ in their bands or units, or `bands` does not fit them.
    ChipReadError
        If there is no file, a file is unreadable, or it has no CRS. The error names site, date and
        file. Where no site is left, the error is a `NoChipsError`, whose attribute `manifest` says
        of every site why.
    LeakageError
        If `before` is given and an image has no date.
    ValueError
        If coordinates are missing or look swapped, files differ in the length of a pixel or have
        rotated or oblong pixels while `resolution_m` is None, or no site is left.

    Notes
    -----
    The rules for grids, the order in which layers are joined and longitudes stand in
    `terracausal.imagery.plan`. Pixels that are nodata, masked, or beyond the edge of the source are
    NaN. A nodata value that is also a valid value cannot be told from it: see
    `RasterFiles(nodata=...)`.

    Examples
    --------
    >>> import tempfile, numpy as np, pandas as pd, rasterio
    >>> folder = tempfile.mkdtemp()
    >>> with rasterio.open(
    ...     f"{folder}/Arua.tif",
    ...     "w",
    ...     driver="GTiff",
    ...     height=4,
    ...     width=4,
    ...     count=1,
    ...     dtype="uint16",
    ...     crs="EPSG:32636",
    ...     transform=rasterio.Affine(10, 0, 5e5, 0, -10, 40),
    ... ) as file:
    ...     file.write(np.full((1, 4, 4), 10001, dtype="uint16"))
    >>> sites = pd.DataFrame({"site": ["Arua"], "lon": [33.00018], "lat": [0.00018]})
    >>> chips = read_chips(folder, sites, size_px=2, bands=["red"])
    >>> chips
    Chips(1 site, 1 time, 1 band, 2 x 2 px, 10 m, EPSG:32636)
    >>> chips["Arua"].tolist()
    [[[[10001.0, 10001.0], [10001.0, 10001.0]]]]
    """
    shape = ChipShape(
        _checked_size(size_px),
        None if resolution_m is None else check_positive("resolution_m", resolution_m),
    )
    if not 0 <= min_valid <= 1:
        raise ValueError(f"`min_valid` must lie in [0, 1]; got {min_valid!r}.")
    reading = reading_options(options)
    if reading.displacement is not None:
        given = reading.displacement
        drawn = given if isinstance(given, Mapping) else {"rule": given}
        sites = plausible_centres(sites, **drawn)
    table = site_table(sites)
    places = _places(table)
    opened, notes = as_source(source, table.index, reading, bands)
    layers, lost = _listed(opened, reading)
    if not layers:
        raise _no_chips(table.index, [r for s in table.index for r in _lost_records(s, lost)], [])
    names, pairs = choose_bands(layers, bands)
    refuse_mixed_scales(layers, pairs)
    notes += refuse_mixed_bytes(layers)
    if lost:
        uris = [file.uri for file in lost]
        notes.append(f"files that could not be opened: {len(uris)} ({list_some(uris)})")
    plans, left_out = _plan_sites(layers, places, shape, lost)
    if before is not None:
        plans, dropped = _cut_off(plans, layers, cutoff_dates(before, table))
        notes += dropped
    reached = {site: plan for site, plan in plans.items() if plan.dates}
    reader = SourceReader(opened, layers, pairs, names, reached, reading)
    chips = _chips(table, reader, (left_out, min_valid, notes), (names, shape))
    said = {
        "source": _told_source(source),
        "size_px": size_px,
        "bands": bands,
        "resolution_m": resolution_m,
        "before": before,
        "min_valid": min_valid,
    }
    chips._arguments = told_arguments(said | options, _NO_MATTER)
    return chips


def as_source(
    source: Any, keys: pd.Index, reading: Reading, bands: Sequence[str] | None = None
) -> tuple[ImagerySource, list[str]]:
    """Return anything that `read_chips` takes as a source, and notes on what was ignored.

    Parameters
    ----------
    source : object
        As for `read_chips`.
    keys : Index
        Sites, which files may be named by.
    reading : Reading
        Options.
    bands : sequence of str, default=None
        Names of the bands, which a callable cannot say itself.

    Returns
    -------
    (ImagerySource, list of str)
        The source and counted notes.

    Examples
    --------
    >>> source, notes = as_source(
    ...     lambda grid: np.zeros((1, *grid.shape)), pd.Index(["a"]), Reading(), ["red"]
    ... )
    >>> source.layers()[0].bands
    ('red',)
    """
    if isinstance(source, ImagerySource) and not isinstance(source, type):
        return source, []
    if type(source).__module__.partition(".")[0] == "xarray":
        return CubeSource(source), []
    if isinstance(source, pd.DataFrame):
        columns = table_columns(source, keys)
        return RasterFiles(
            columns["path"],
            dates=columns.get("date", reading.dates),
            sites=columns.get("site"),
            unreadable=reading.unreadable,
            retries=reading.retries,
        ), []
    if isinstance(source, str | os.PathLike) and _is_cube(source):
        return CubeSource(source), []
    if isinstance(source, str | os.PathLike | list | tuple):
        return _files(source, keys, reading)
    if callable(source):
        if bands is None:
            raise ValueError("`bands` must name the bands that a callable returns; got None.")
        return CallableSource(source, bands, reading.dates), []
    raise TypeError(
        "`source` must be a path, a list or table of files, an xarray object, a callable or a "
        f"source; got {type(source).__name__}. For arrays use `ArraySource` (one that covers many "
        "sites) or `Chips.from_arrays` (one chip per site)."
    )


def _is_cube(path: Any) -> bool:
    return Path(os.fspath(path)).suffix.lower() in (".zarr", ".nc", ".nc4")


def _files(source: Any, keys: pd.Index, reading: Reading) -> tuple[ImagerySource, list[str]]:
    paths = find_files(source)
    matched = match_sites(paths, keys, reading.layout)
    if matched is None:
        return RasterFiles(
            paths,
            dates=reading.dates,
            unreadable=reading.unreadable,
            retries=reading.retries,
        ), []
    of, strangers = matched
    named = [path for path in paths if path in of]
    notes = [f"files without a site, ignored: {len(strangers)} ({list_some(strangers)})"]
    return RasterFiles(
        named,
        # a key such as 1985 is no date
        dates=False if reading.dates is None else reading.dates,
        sites=[of[path] for path in named],
        unreadable=reading.unreadable,
        retries=reading.retries,
    ), notes if strangers else []


def _told_source(source: Any) -> Any:
    """Return a source as a store remembers it: "tiles" and "./tiles" are the same."""
    if isinstance(source, list | tuple):
        return [_told_source(part) for part in source]
    return plain_path(source) if isinstance(source, str | os.PathLike) else source


def _checked_size(size_px: int | tuple[int, int]) -> tuple[int, int]:
    if isinstance(size_px, tuple | list):
        if len(size_px) != 2:
            raise ValueError(f"`size_px` must be one side or (height, width); got {size_px!r}.")
        return check_count("size_px", size_px[0]), check_count("size_px", size_px[1])
    return (check_count("size_px", size_px),) * 2


def _places(table: Any) -> Places:
    if not has_geography(table):
        raise ValueError(
            "`sites` must say where the sites are; got keys without positions. Pass a DataFrame "
            "with the columns 'lon' and 'lat', or a GeoDataFrame of points."
        )
    if table.crs is None:
        raise ValueError(
            "`sites` must have a coordinate reference system; this GeoDataFrame has none. Set it "
            "with `sites.set_crs(...)`, EPSG:4326 for longitudes and latitudes."
        )
    points = np.column_stack([table.geometry.x.to_numpy(), table.geometry.y.to_numpy()])
    return Places(table.index, points, pyproj.CRS.from_user_input(table.crs))


def _listed(source: ImagerySource, reading: Reading) -> tuple[list[Layer], list[LostFile]]:
    """Return the layers of a source, and the files that could not be opened."""
    layers = list(source.layers())
    lost: list[LostFile] = list(getattr(source, "lost", ()))
    refused = [file.error for file in lost if not reading.marks(file.uri)]
    raise_all([error for error in refused if isinstance(error, ChipReadError)], len(lost))
    if not layers and not lost:
        raise ChipReadError("The source has no layer to read. Check its dates, place and bands.")
    return layers, lost


def _lost_records(site: Hashable, lost: Sequence[LostFile]) -> list[ChipRecord]:
    """Return the records of a site that only files which could not be opened may have reached."""
    nan = float("nan")
    own = sorted((file for file in lost if file.site == site), key=lambda file: str(file.date))
    if own:
        return [ChipRecord(site, file.date, "unreadable", nan, file.uri) for file in own]
    anywhere = [file.uri for file in lost if file.site is None]
    if anywhere:
        return [ChipRecord(site, None, "unreadable", nan, "; ".join(anywhere))]
    return [ChipRecord(site, None, "missing", nan)]


def _no_chips(keys: pd.Index, records: Sequence[ChipRecord], notes: Sequence[str]) -> NoChipsError:
    """Return the error that says why no site has a chip."""
    if not notes:
        uris = {record.source for record in records if record.source is not None}
        counts = pd.Series([record.status for record in records]).value_counts()
        said = ", ".join(f"{status} {count}" for status, count in counts.items())
        notes = [f"no file could be opened ({said}); files: {list_some(sorted(uris), 3)}"]
    return NoChipsError(
        f"No site has a chip; of {len(keys)} sites: {'; '.join(notes)}. The attribute `manifest` "
        "of this error has a row for each.",
        manifest_table(records),
    )


def _plan_sites(
    layers: Sequence[Layer], places: Places, shape: ChipShape, lost: Sequence[LostFile]
) -> tuple[dict[Hashable, SitePlan], dict[Hashable, list[ChipRecord]]]:
    """Return the plan of every site, and the records of those without a layer."""
    planner = SitePlanner(layers, places, shape)
    plans = {site: planner.plan(row) for row, site in enumerate(places.keys)}
    _refuse_swapped(planner, plans, layers, places)
    own = {layer.site for layer in layers}
    serves_all = None in own
    left_out = {}
    for site, plan in plans.items():
        if not plan.dates:
            left_out[site] = _lost_records(site, lost)
            if left_out[site][0].status == "missing" and (serves_all or site in own):
                left_out[site] = [ChipRecord(site, None, "off edge", 1.0)]
    if serves_all and not lost and len(left_out) == len(plans):
        raise ValueError(_nowhere(layers, places, list(left_out)))
    return plans, left_out


def _refuse_swapped(
    planner: SitePlanner,
    plans: Mapping[Hashable, SitePlan],
    layers: Sequence[Layer],
    places: Places,
) -> None:
    swapped = [
        row
        for row, site in enumerate(places.keys)
        if not plans[site].dates and planner.holds_swapped(row)
    ]
    own = [layer.site for layer in layers if layer.site is not None]
    # tiles may cover a few exchanged places by chance, a site's own file hardly ever
    if swapped and (own or 2 * len(swapped) >= len(plans)):
        lon, lat = places.moved(LONLAT)[swapped[0]]
        n_judged = len(set(own)) if own else len(plans)
        raise ValueError(
            f"Sites must lie on their files; {len(swapped)} of {n_judged} do so only with "
            f"exchanged coordinates, first site {list_some([places.keys[swapped[0]]])} with lon "
            f"{lon:g}, lat {lat:g}: coordinates look swapped (lon/lat). Exchange the two columns."
        )


def _nowhere(layers: Sequence[Layer], places: Places, left_out: Sequence[Hashable]) -> str:
    """Say where the sites are and where the layers."""
    degrees = places.moved(LONLAT)
    boxes = []
    for layer in layers:
        if layer.grid is not None:
            box = layer.grid.extent.to_crs("EPSG:4326").boundingbox
            boxes.append((box.left, box.bottom, box.right, box.top))
    low, high = np.nanmin(degrees, axis=0), np.nanmax(degrees, axis=0)
    west, south, east, north = (
        function(column)
        for function, column in zip((min, min, max, max), zip(*boxes, strict=True), strict=True)
    )
    return (
        f"No site has a chip; of {len(left_out)} sites none lies on the {len(layers)} layers: "
        f"{list_some(left_out)}. The sites lie at lon {low[0]:.4g} to {high[0]:.4g}, lat "
        f"{low[1]:.4g} to {high[1]:.4g}; the layers at lon {west:.4g} to {east:.4g}, lat "
        f"{south:.4g} to {north:.4g}, first {layers[0].uri} in {layers[0].crs.to_string()}. Check "
        "the coordinates of the sites and the CRS of the files."
    )


def _cut_off(
    plans: Mapping[Hashable, SitePlan], layers: Sequence[Layer], limits: pd.Series
) -> tuple[dict[Hashable, SitePlan], list[str]]:
    """Return the plans without images of the day of the limit or later, and their count."""
    limited = {site: limit for site, limit in limits.items() if not pd.isna(limit)}
    used = {
        k for site, plan in plans.items() if site in limited for part in plan.parts for k, _ in part
    }
    refuse_undated([layers[k].date for k in sorted(used)], [layers[k].uri for k in sorted(used)])
    kept, n_dropped, emptied = {}, 0, []
    unlimited = [site for site, plan in plans.items() if plan.dates and site not in limited]
    for site, plan in plans.items():
        kept[site] = plan
        if site not in limited or not plan.dates:
            continue
        early = taken_before(pd.DatetimeIndex(plan.dates), limited[site])
        n_dropped += int((~early).sum())
        if not early.any():
            emptied.append(site)
        kept[site] = replace(
            plan,
            dates=tuple(day for day, ok in zip(plan.dates, early, strict=True) if ok),
            parts=tuple(part for part, ok in zip(plan.parts, early, strict=True) if ok),
        )
    notes = [f"images not from before the limit, left out: {n_dropped}"] if n_dropped else []
    if unlimited:
        notes.append(
            f"sites without a date in `before`, all images kept: {len(unlimited)} "
            f"({list_some(unlimited)})"
        )
    if emptied:
        notes.append(
            f"sites without an image before the limit, left out: {len(emptied)} "
            f"({list_some(emptied)})"
        )
    return kept, notes


def _chips(
    table: Any,
    reader: SourceReader,
    rules: tuple[Mapping[Hashable, list[ChipRecord]], float, list[str]],
    facts: tuple[tuple[str, ...], ChipShape],
) -> Chips:
    """Put together what was planned, look at pixels where a rule needs it, count what is left out.

    Which sites have a chip depends on pixels only where sparse or unreadable ones are left out.
    """
    (left_out, min_valid, notes), (names, shape) = rules, facts
    rows = [site for site in table.index if site in reader.plans]
    lengths_m = {site: pixel_length_m(reader.plans[site].grid) for site in rows}
    resolution_m = shape.resolution_m
    if resolution_m is None:
        resolution_m = _common_resolution(lengths_m)
    may_drop = min_valid > 0 or reader.may_mark
    if may_drop:
        scans = {scan.site: scan for scan in reader.checked_scan(rows)}
        found = {site: list(scans[site].records) for site in rows}
        reader = reader.without_unreadable(list(scans.values()))
    else:
        found = {site: reader.planned(site) for site in rows}
    records: list[ChipRecord] = []
    for site in table.index:
        nothing = [ChipRecord(site, None, "missing", float("nan"))]
        records += found[site] if site in found else left_out.get(site, nothing)
    unreadable = [s for s in rows if all(r.status == "unreadable" for r in found[s])]
    sparse = [s for s in rows if s not in set(unreadable) and _share(found[s]) < min_valid]
    dropped = {*unreadable, *sparse}
    kept = [site for site in rows if site not in dropped]
    all_notes = _notes(left_out, unreadable, sparse, min_valid, notes)
    if not kept:
        raise _no_chips(table.index, records, all_notes)
    crs_texts = {str(reader.plans[site].grid.crs) for site in kept}
    chips = Chips(
        reader,
        table.loc[pd.Index(kept, dtype=table.index.dtype, name="site")],
        records,
        names,
        shape.size_px,
        grid=(parse_crs(crs_texts.pop()) if len(crs_texts) == 1 else None, resolution_m),
        notes=all_notes,
    )
    chips._is_stale = not may_drop
    return chips


def _share(records: Sequence[ChipRecord]) -> float:
    """Return the share of valid pixels over all images of a site; NaN where nobody looked."""
    shares = [record.nodata_share for record in records if record.status in _MEASURED]
    return 1 - float(np.mean(shares)) if shares else float("nan")


def _common_resolution(lengths_m: Mapping[Hashable, float]) -> float | None:
    """Return the length of a pixel of all chips, or refuse files that differ."""
    if not lengths_m:
        return None
    lengths = pd.Series(lengths_m)
    typical = float(lengths.median())
    different = lengths[(lengths / typical - 1).abs() > _RESOLUTION_TOLERANCE]
    if len(different):
        site, length = different.index[0], different.iloc[0]
        raise ValueError(
            f"Without `resolution_m` all files must have pixels of about the same length; the "
            f"median is {typical:.4g} m, and {len(different)} of {len(lengths)} files differ by "
            f"more than {_RESOLUTION_TOLERANCE:.0%}, first site {list_some([site])} with "
            f"{length:.4g} m (sites {list_some(different.index)}). Pass the `resolution_m` to "
            "resample to."
        )
    return round(typical, 6)


def _notes(
    left_out: Mapping[Hashable, list[ChipRecord]],
    unreadable: Sequence[Hashable],
    sparse: Sequence[Hashable],
    min_valid: float,
    notes: Sequence[str],
) -> tuple[str, ...]:
    """Say in counts what was left out."""
    groups: dict[str, list[Hashable]] = {"missing": [], "off edge": [], "unreadable": []}
    for site, records in left_out.items():
        groups[records[0].status].append(site)
    rules = (
        ("sites without a file, left out", groups["missing"]),
        ("sites off the edge of their file, left out", groups["off edge"]),
        ("sites that could not be read, left out", [*unreadable, *groups["unreadable"]]),
        (f"sites with a valid share below {min_valid:g}, left out", sparse),
    )
    counted = tuple(f"{what}: {len(which)} ({list_some(which)})" for what, which in rules if which)
    return (*counted, *notes)
