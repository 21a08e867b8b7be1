"""`read_chips`: a folder with one GeoTIFF per site becomes `Chips`."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyproj

from terracausal._foundation.checks import check_count, check_positive
from terracausal._foundation.errors import AlignmentError, BandError, ChipReadError, list_some
from terracausal._foundation.progress import track
from terracausal.imagery.chips import Chips
from terracausal.imagery.geodesy import LONLAT, Point, apply_affine, distance_m, move_point
from terracausal.imagery.places import has_geography, site_table
from terracausal.imagery.rasters import FileReader, Header, open_raster, read_header
from terracausal.imagery.readers import band_tuple
from terracausal.imagery.records import ChipRecord, inspect_chip

_SUFFIXES = (".tif", ".tiff")
_RESOLUTION_TOLERANCE = 0.05  # share by which pixels of different files may differ in length


def read_chips(
    source: str | PathLike[str],
    sites: Any,
    *,
    size_px: int | tuple[int, int],
    bands: Sequence[str] | None = None,
    resolution_m: float | None = None,
    min_valid: float = 0.0,
) -> Chips:
    """Read one chip per site from a folder with one GeoTIFF per site, `<site>.tif`.

    Every file is read once when the chips are opened, one at a time, so that errors come before any
    training; afterwards a chip is read again whenever it is asked for.

    Parameters
    ----------
    source : path
        Folder with files named by site key, ending in .tif or .tiff.
    sites : GeoDataFrame or DataFrame
        Positions of the sites: a GeoDataFrame of points with a CRS, or a DataFrame with the columns
        `lon` and `lat` in degrees; indexed by site key or with a column `site`.
    size_px : int or (int, int)
        Side of a chip in pixels, or its height and width.
    bands : sequence of str, default=None
        Either some of the band descriptions in the files, in the order wanted, or new names for all
        bands of the files. None takes the descriptions, or band_1, band_2, … where there are none.
    resolution_m : float, default=None
        Length of a pixel in metres. None keeps the pixels of each file and their exact numbers: the
        window whose centre is nearest to the site. Otherwise each file is resampled (bilinear) to a
        grid centred on the site, in the CRS of the file, or in the UTM zone of the site where that
        CRS is in degrees or Mercator.
    min_valid : float, default=0.0
        Sites whose share of valid pixels is below are left out and counted.

    Returns
    -------
    Chips
        With a chip for every site that has a file which reaches it. `manifest` and `describe` also
        count the sites left out. `crs` is None where files lie in different zones.

    Raises
    ------
    AlignmentError
        If a site key stands twice or several files belong to one site.
    BandError
        If the files differ in their bands, or `bands` does not fit them.
    ChipReadError
        If no site has a file, a file is unreadable, or it has no CRS.
    ValueError
        If coordinates are missing or look swapped, files differ in the length of a pixel while
        `resolution_m` is None, or no site is left.

    Notes
    -----
    Pixels that are nodata, masked, or beyond the edge of the file are NaN. A file larger than the
    chip is cropped around the site; a smaller one is padded with NaN (status "partial").

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
    size = _checked_size(size_px)
    if resolution_m is not None:
        check_positive("resolution_m", resolution_m)
    if not 0 <= min_valid <= 1:
        raise ValueError(f"`min_valid` must lie in [0, 1]; got {min_valid!r}.")
    table = site_table(sites)
    points = _points(table)
    files = _find_files(Path(source), table.index)
    headers = _read_headers(files.paths)
    names, indexes = _choose_bands(headers, bands)
    _refuse_swapped(headers, points, table.crs)
    reader = FileReader(files.paths, points, table.crs, indexes, size, resolution_m)
    scan = _scan(reader, table.index, files.paths)
    if resolution_m is None:
        resolution_m = _common_resolution(scan.lengths_m)
    dropped = _too_empty(scan.records, min_valid)
    kept = [site for site in scan.lengths_m if site not in dropped]
    notes = _notes(files, scan, table.index, dropped, min_valid)
    if not kept:
        raise ValueError(f"No site has a chip; of {len(table)} sites: {'; '.join(notes)}.")
    return Chips(
        reader,
        table.loc[pd.Index(kept, dtype=table.index.dtype, name="site")],
        scan.records,
        names,
        size,
        grid=(scan.common_crs(kept), resolution_m),
        notes=notes,
    )


@dataclass(frozen=True, slots=True)
class _Files:
    """Which file belongs to which site."""

    paths: dict[Hashable, Path]
    strangers: list[str]
    """Names of files that belong to no site."""


@dataclass(frozen=True, slots=True)
class _Scan:
    """What the pass over all files found."""

    records: list[ChipRecord]
    lengths_m: dict[Hashable, float]
    """Length of a pixel of every chip that lies on its file."""
    crs: dict[Hashable, Any]

    def common_crs(self, kept: list[Hashable]) -> Any:
        """Return the CRS of the chips kept, None if they differ."""
        first = self.crs[kept[0]]
        return first if all(self.crs[site] == first for site in kept) else None


def _checked_size(size_px: int | tuple[int, int]) -> tuple[int, int]:
    if isinstance(size_px, tuple | list):
        if len(size_px) != 2:
            raise ValueError(f"`size_px` must be one side or (height, width); got {size_px!r}.")
        return check_count("size_px", size_px[0]), check_count("size_px", size_px[1])
    return (check_count("size_px", size_px),) * 2


def _points(table: Any) -> dict[Hashable, Point]:
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
    places = zip(table.geometry.x, table.geometry.y, strict=True)
    return {site: (float(x), float(y)) for site, (x, y) in zip(table.index, places, strict=True)}


def _stem(site: Hashable) -> str:
    # integer keys that a missing row turned into floats still name 12.tif
    if isinstance(site, float) and site.is_integer():
        return str(int(site))
    return str(site)


def _find_files(folder: Path, keys: pd.Index) -> _Files:
    if not folder.is_dir():
        what = "a file" if folder.exists() else "nothing"
        raise ChipReadError(
            f"`source` must be a folder with one GeoTIFF per site; found {what} at {folder}."
        )
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in _SUFFIXES and not path.name.startswith("."):
            if path.stem in found:
                raise AlignmentError(
                    f"Each site needs one file; {list_some([path.stem])} has two: "
                    f"{found[path.stem].name} and {path.name} in {folder}. Remove one."
                )
            found[path.stem] = path
    stems = pd.Series([_stem(site) for site in keys], dtype=str)
    if stems.duplicated().any():
        raise AlignmentError(
            "Site keys must differ as text, because files are named by them; "
            f"{list_some(stems[stems.duplicated()])} stand more than once."
        )
    paths = {site: found[stem] for site, stem in zip(keys, stems, strict=True) if stem in found}
    if not paths:
        shown = list_some([path.name for path in found.values()], 3) if found else "no GeoTIFF"
        raise ChipReadError(
            f"None of the {len(keys)} sites has a file in {folder}; looked for "
            f"{list_some([f'{stem}.tif' for stem in stems], 3)} and found {shown}. Name each file "
            "by its site key."
        )
    known = set(stems)
    return _Files(paths, [path.name for stem, path in found.items() if stem not in known])


def _read_headers(paths: Mapping[Hashable, Path]) -> dict[Hashable, Header]:
    headers, problems = {}, []
    for site, path in track(paths.items(), "opening files", total=len(paths)):
        try:
            with open_raster(site, path) as raster:
                headers[site] = read_header(raster, site, path)
        except ChipReadError as error:
            problems.append(error)
    _raise_all(problems, len(paths))
    return headers


def _raise_all(problems: list[ChipReadError], n_files: int) -> None:
    if len(problems) == 1:
        raise problems[0]
    if problems:
        first = "\n".join(f"- {problem}" for problem in problems[:5])
        more = f"\n- and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise ChipReadError(
            f"{len(problems)} of {n_files} files cannot be used:\n{first}{more}"
        ) from problems[0]


def _choose_bands(
    headers: Mapping[Hashable, Header], bands: Sequence[str] | None
) -> tuple[tuple[str, ...], dict[Hashable, tuple[int, ...]]]:
    """Return the band names, and for each site the numbers of these bands in its file."""
    _refuse_different(headers, "numbers of bands", lambda header: len(header.descriptions))
    described = {site: _described(header) for site, header in headers.items()}
    own = next(iter(described.values()))
    n_bands = len(next(iter(headers.values())).descriptions)
    names = None if bands is None else band_tuple(bands)
    if names is None and own is None:
        names = tuple(f"band_{number}" for number in range(1, n_bands + 1))
    wanted = own if names is None else names
    if own is not None and wanted is not None and set(wanted) <= set(own):
        # by name, so that files may order their bands differently
        _refuse_different(headers, "band descriptions", lambda header: _sorted(_described(header)))
        places = {
            site: tuple(found.index(name) + 1 for name in wanted)
            for site, found in described.items()
            if found is not None
        }
        return wanted, places
    if names is None or len(names) != n_bands or set(names) & set(own or ()):
        raise BandError(
            f"`bands` must be some of the descriptions in the files, "
            f"{'which have none' if own is None else list_some(own, 20)}, or new names for all "
            f"{n_bands} bands; got {list_some(names or (), 20)}."
        )
    _refuse_different(headers, "band descriptions", lambda header: header.descriptions)
    return names, dict.fromkeys(headers, tuple(range(1, n_bands + 1)))


def _described(header: Header) -> tuple[str, ...] | None:
    """Return the descriptions of all bands if they can serve as names."""
    names = tuple(name for name in header.descriptions if name)
    complete = len(set(names)) == len(header.descriptions)
    return names if complete else None


def _sorted(names: tuple[str, ...] | None) -> tuple[str, ...] | None:
    return None if names is None else tuple(sorted(names))


def _refuse_different(headers: Mapping[Hashable, Header], what: str, read: Any) -> None:
    groups: dict[Any, list[Hashable]] = {}
    for site, header in headers.items():
        groups.setdefault(read(header), []).append(site)
    if len(groups) > 1:
        ranked = sorted(groups.items(), key=lambda group: -len(group[1]))
        shown = "; ".join(f"{value} at sites {list_some(of, 3)}" for value, of in ranked[:4])
        raise BandError(
            f"All files must have the same bands; found different {what}: {shown}. Write the same "
            "bands to every file, or read these sites apart."
        )


def _refuse_swapped(
    headers: Mapping[Hashable, Header], points: Mapping[Hashable, Point], crs: Any
) -> None:
    swapped = []
    for site, header in headers.items():
        if not header.contains(move_point(points[site], crs, header.crs)):
            lon, lat = move_point(points[site], crs, LONLAT)
            if abs(lon) <= 90 and header.contains(move_point((lat, lon), LONLAT, header.crs)):
                swapped.append((site, lon, lat))
    if swapped:
        site, lon, lat = swapped[0]
        raise ValueError(
            f"Sites must lie on their files; {len(swapped)} of {len(headers)} do so only with "
            f"exchanged coordinates, first site {list_some([site])} with lon {lon:g}, lat {lat:g}: "
            "coordinates look swapped (lon/lat). Exchange the two columns."
        )


def _scan(reader: FileReader, keys: pd.Index, paths: Mapping[Hashable, Path]) -> _Scan:
    """Read every chip once, in the order of `keys`, holding one at a time."""
    scan, problems = _Scan([], {}, {}), []
    for site in track(keys, "reading chips"):
        if site not in paths:
            scan.records.append(ChipRecord(site, None, "missing", float("nan")))
            continue
        source = str(paths[site])
        try:
            look = reader.look(site)
        except ChipReadError as error:
            problems.append(error)
            continue
        if look.overlaps:
            scan.records.extend(
                inspect_chip(site, look.pixels[None], [None], source, look.offset_m)
            )
            scan.lengths_m[site] = _pixel_length_m(look.grid)
            scan.crs[site] = pyproj.CRS.from_user_input(str(look.grid.crs))
        else:
            scan.records.append(ChipRecord(site, None, "off edge", 1.0, source))
    _raise_all(problems, len(paths))
    return scan


def _pixel_length_m(grid: Any) -> float:
    """Return the side of a square as large as the pixel in the middle of a grid, in metres."""
    crs = pyproj.CRS.from_user_input(str(grid.crs))
    column, row = grid.shape[1] / 2, grid.shape[0] / 2
    here = apply_affine(grid.affine, column, row)
    sides = [
        distance_m(here, apply_affine(grid.affine, *place), crs)
        for place in ((column + 1, row), (column, row + 1))
    ]
    return float(np.sqrt(np.prod(sides)))


def _common_resolution(lengths_m: Mapping[Hashable, float]) -> float | None:
    """Return the length of a pixel of all files, or refuse files that differ."""
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


def _too_empty(records: Sequence[ChipRecord], min_valid: float) -> set[Hashable]:
    return {
        record.site
        for record in records
        if record.status in {"ok", "partial", "no data"} and 1 - record.nodata_share < min_valid
    }


def _notes(
    files: _Files, scan: _Scan, keys: pd.Index, dropped: set[Hashable], min_valid: float
) -> tuple[str, ...]:
    """Say in counts what was left out."""
    off = [record.site for record in scan.records if record.status == "off edge"]
    rules = (
        ("sites without a file, left out", [site for site in keys if site not in files.paths]),
        ("files without a site, ignored", files.strangers),
        ("sites off the edge of their file, left out", off),
        (
            f"sites with a valid share below {min_valid:g}, left out",
            [s for s in keys if s in dropped],
        ),
    )
    return tuple(f"{what}: {len(which)} ({list_some(which)})" for what, which in rules if which)
