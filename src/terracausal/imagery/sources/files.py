"""Which files a path, a folder, a glob, a list or a table means."""

import glob
import os
from collections.abc import Hashable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from terracausal._foundation.errors import AlignmentError, ChipReadError, list_some
from terracausal.imagery.options import Layout, is_remote

SUFFIXES = (".tif", ".tiff", ".vrt")
_HALF = 0.5
_TENTH = 0.1


def find_files(source: Any) -> list[str]:
    """Return the rasters that a path, a folder, a glob or a list of these means, sorted by name.

    Parameters
    ----------
    source : path, str or sequence of these
        A file of any format that GDAL reads, a folder (its .tif, .tiff and .vrt files, not those of
        folders inside), a glob such as "tiles/**/*.tif", or an address.

    Returns
    -------
    list of str
        At least one; a list keeps its order.

    Raises
    ------
    ChipReadError
        If there is nothing, or a folder has no raster.

    Examples
    --------
    >>> find_files(["https://example.org/b.tif", "https://example.org/a.tif"])
    ['https://example.org/b.tif', 'https://example.org/a.tif']
    """
    if not isinstance(source, str | os.PathLike):
        return [path for part in source for path in find_files(part)]
    text = plain_path(source)
    if is_remote(text) or text.startswith("/vsi"):
        return [text]
    path = Path(text)
    if path.is_dir():
        return _in_folder(path)
    if path.exists():
        return [text]
    if glob.has_magic(text):
        found = sorted(p for p in glob.glob(text, recursive=True) if os.path.isfile(p))
        if found:
            return found
    raise ChipReadError(
        f"`source` must be a file, a folder or a glob of rasters; found nothing at {text}."
    )


def plain_path(path: str | os.PathLike[str]) -> str:
    """Return a path in the one way in which it is told, addresses as they are.

    Examples
    --------
    >>> plain_path("./tiles//a.tif"), plain_path("s3://tiles/a.tif")
    ('tiles/a.tif', 's3://tiles/a.tif')
    """
    text = os.fspath(path)
    return text if is_remote(text) or text.startswith("/vsi") else str(Path(text))


def _in_folder(folder: Path) -> list[str]:
    found = sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in SUFFIXES and not path.name.startswith(".")
    )
    if not found:
        others = sorted(path.name for path in folder.iterdir())
        raise ChipReadError(
            f"`source` must hold rasters ({', '.join(SUFFIXES)}); the folder {folder} has "
            f"{len(others)} other entries: {list_some(others, 3)}. For folders inside pass a glob "
            "such as 'folder/**/*.tif'."
        )
    return [str(path) for path in found]


def match_sites(
    paths: Sequence[str], keys: pd.Index, layout: Layout
) -> tuple[dict[str, Hashable], list[str]] | None:
    """Return the site of each file that is named by one, and the names of the other files.

    Parameters
    ----------
    paths : sequence of str
        Files.
    keys : Index
        Sites.
    layout : {'auto', 'site', 'tiles'}
        "auto" takes files as named by sites where this holds for half of the files and a tenth of
        the sites.

    Returns
    -------
    (dict, list) or None
        None where files serve all sites.

    Raises
    ------
    AlignmentError
        If two files belong to one site, or two keys are the same text.
    ChipReadError
        If `layout` is "site" and no file is named by one.

    Examples
    --------
    >>> match_sites(["chips/a.tif", "chips/x.tif"], pd.Index(["a", "b"]), "auto")
    ({'chips/a.tif': 'a'}, ['x.tif'])
    >>> match_sites(["tiles/x.tif"], pd.Index(["a", "b"]), "auto") is None
    True
    """
    if layout == "tiles":
        return None
    stems = [_stem(site) for site in keys]
    by_stem = dict(zip(stems, keys, strict=True))
    named = [path for path in paths if Path(path).stem in by_stem]
    enough = len(named) >= _HALF * len(paths) and len(named) >= _TENTH * len(keys)
    if layout == "auto" and not (named and enough):
        return None
    _check_named(named, paths, stems)
    others = [Path(path).name for path in paths if Path(path).stem not in by_stem]
    return {path: by_stem[Path(path).stem] for path in named}, others


def _check_named(named: Sequence[str], paths: Sequence[str], stems: Sequence[str]) -> None:
    if not named:
        shown = list_some([Path(path).name for path in paths], 3)
        raise ChipReadError(
            f"None of the {len(stems)} sites has a file; looked for "
            f"{list_some([f'{stem}.tif' for stem in stems], 3)} and found {shown}. Name each file "
            "by its site key, or pass layout='tiles' for files that serve all sites."
        )
    doubled = pd.Series(stems, dtype=str)
    doubled = doubled[doubled.duplicated()]
    if len(doubled):
        raise AlignmentError(
            "Site keys must differ as text, because files are named by them; "
            f"{list_some(doubled)} stand more than once."
        )
    first: dict[str, str] = {}
    for path in named:
        stem = Path(path).stem
        if stem in first:
            raise AlignmentError(
                f"Each site needs one file; {list_some([stem])} has two: {Path(first[stem]).name} "
                f"and {Path(path).name} in {Path(path).parent}. Remove one, or pass a table with "
                "the columns 'path', 'site' and 'date'."
            )
        first[stem] = path


def _stem(site: Hashable) -> str:
    # integer keys that a missing row turned into floats still name 12.tif
    if isinstance(site, float) and site.is_integer():
        return str(int(site))
    return str(site)


def table_columns(table: pd.DataFrame, keys: Iterable[Hashable]) -> dict[str, list[Any]]:
    """Return the columns `path`, `date` and `site` of a table of files.

    Parameters
    ----------
    table : DataFrame
        One row per file: `path`, and where known `date` and `site` (the only site to which the file
        belongs; missing for one that serves all).
    keys : iterable
        Sites.

    Returns
    -------
    dict of str to list
        With the key "path" and those of "date" and "site" that the table has.

    Examples
    --------
    >>> table = pd.DataFrame({"path": ["a_1.tif"], "date": ["2019-05-01"], "site": ["a"]})
    >>> table_columns(table, ["a"])["site"]
    ['a']
    """
    if "path" not in table.columns:
        raise ChipReadError(
            "A table of files must have the column 'path'; it has "
            f"{list_some(table.columns)}. Rename the column with the files."
        )
    if not len(table):
        raise ChipReadError("A table of files must have at least one row; it is empty.")
    columns: dict[str, list[Any]] = {"path": [plain_path(path) for path in table["path"]]}
    if "date" in table.columns:
        columns["date"] = list(table["date"])
    if "site" in table.columns:
        sites = [None if pd.isna(site) else site for site in table["site"]]
        known = set(keys)
        if not any(site is None or site in known for site in sites):
            raise AlignmentError(
                f"The column 'site' must name sites; none of its {len(sites)} entries does: "
                f"{list_some(sites)}. Sites are {list_some(known)}."
            )
        columns["site"] = sites
    return columns
