"""Tables of a store: sites, keys and records as Parquet, equal after reading back."""

from collections.abc import Hashable, Sequence
from dataclasses import fields
from datetime import datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from terracausal._foundation.errors import list_some
from terracausal.imagery.places import has_geography
from terracausal.imagery.records import ChipRecord

INDEX, SITES, RECORDS = "index.parquet", "sites.parquet", "records.parquet"


def index_bytes(keys: pd.Index, n_times: NDArray[np.int64]) -> bytes:
    """Return the table with the key and the number of times of each row of pixels."""
    _check_keys(keys)
    return _parquet(pd.DataFrame({"n_times": n_times}, index=keys.rename("site")))


def read_index(path: Path) -> tuple[pd.Index, NDArray[np.int64]]:
    """Return keys and numbers of times."""
    table = pq.read_table(path, memory_map=False).to_pandas()
    return table.index.rename("site"), table["n_times"].to_numpy(dtype=np.int64)


def sites_bytes(sites: gpd.GeoDataFrame) -> bytes:
    """Return the table of sites as GeoParquet, or as Parquet where sites have no geography."""
    if not has_geography(sites):
        return _parquet(pd.DataFrame(sites.drop(columns=sites.geometry.name)))
    buffer = BytesIO()
    try:
        sites.to_parquet(buffer, index=True)
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise _unfit(error) from error
    return buffer.getvalue()


def read_sites(path: Path) -> Any:
    """Return the table of sites."""
    if b"geo" in (pq.read_schema(path).metadata or {}):
        return gpd.read_parquet(path)
    table = pd.read_parquet(path)
    return gpd.GeoDataFrame(table, geometry=[None] * len(table))


def records_bytes(records: Sequence[ChipRecord]) -> bytes:
    """Return the records as a table with one column for each of their fields."""
    names = [field.name for field in fields(ChipRecord)]
    try:
        columns = [pa.array([getattr(record, name) for record in records]) for name in names]
        return _written(pa.table(columns, names=names))
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise _unfit(error) from error


def read_records(path: Path) -> list[ChipRecord]:
    """Return the records of a table made by `records_bytes`."""
    table = pq.read_table(path)
    known = [field.name for field in fields(ChipRecord) if field.name in table.column_names]
    columns = [[_plain(value) for value in table[name].to_pylist()] for name in known]
    return [ChipRecord(**dict(zip(known, row, strict=True))) for row in zip(*columns, strict=True)]


def times_per_site(records: Sequence[ChipRecord], keys: pd.Index) -> NDArray[np.int64]:
    """Return how many times each site has, by its records.

    Examples
    --------
    >>> records = [ChipRecord(site, None, "ok", 0.0) for site in "aab"]
    >>> times_per_site(records, pd.Index(["b", "a"])).tolist()
    [1, 2]
    """
    counts: dict[Hashable, int] = {}
    for record in records:
        counts[record.site] = counts.get(record.site, 0) + 1
    return np.array([counts[key] for key in keys], dtype=np.int64)


def _check_keys(keys: pd.Index) -> None:
    if pd.api.types.infer_dtype(keys, skipna=False).startswith("mixed"):
        kinds = sorted({type(key).__name__ for key in keys})
        raise ValueError(
            f"Site keys must be all of one plain type to be stored; found {list_some(kinds)}. "
            "Turn them into text first, and read the chips with these keys."
        )


def _parquet(table: pd.DataFrame) -> bytes:
    try:
        # a range of keys that is only described would be lost in a table without columns
        return _written(pa.Table.from_pandas(table, preserve_index=True))
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise _unfit(error) from error


def _written(table: pa.Table) -> bytes:
    buffer = BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()


def _unfit(error: Exception) -> ValueError:
    return ValueError(
        "Every column of the sites and every site key must be of one type to be stored; "
        f"{'; '.join(str(part) for part in error.args)}. Convert or drop the column, and read the "
        "chips anew."
    )


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(value)
    return pd.Timestamp(value) if isinstance(value, datetime) else value
