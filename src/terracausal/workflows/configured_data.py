"""The study and the images that a configuration names."""

from pathlib import Path
from typing import Any

import pandas as pd

from terracausal._foundation.errors import list_some
from terracausal.datasets import load_dataset
from terracausal.encoders import load_embeddings
from terracausal.imagery import Chips, open_chips, read_chips
from terracausal.study import Study
from terracausal.workflows.configuration import Configuration, ConfigurationError, DataSection


def load_data(configuration: Configuration, base: Path) -> tuple[Study, Chips | pd.DataFrame]:
    """Return the study and its chips or embeddings.

    Parameters
    ----------
    configuration : Configuration
    base : Path
        Folder that relative paths start from.

    Returns
    -------
    study : Study
    chips : Chips or pandas.DataFrame

    Raises
    ------
    ConfigurationError
        A file is not there, or has no column of a name that is asked for.
    """
    data, roles = configuration.data, configuration.study.roles()
    if data.dataset is not None:
        root = None if data.root is None else _existing(base, data.root, "root")
        found = load_dataset(data.dataset, root=root)
        study = found.study.with_roles(**roles) if roles else found.study
        if data.embeddings is not None:
            return study, _read_embeddings(base, data.embeddings)
        return study, found.chips
    units = _read_table(_existing(base, str(data.units), "units"))
    if data.unit is not None:
        units = _indexed(units, data.unit, "unit")
    return Study(units, **roles), _read_images(data, base)


def _read_images(data: DataSection, base: Path) -> Chips | pd.DataFrame:
    if data.embeddings is not None:
        return _read_embeddings(base, data.embeddings)
    chips = _existing(base, str(data.chips), "chips")
    if chips.suffix == ".zarr":
        return open_chips(chips)
    sites = _read_table(_existing(base, str(data.sites), "sites"))
    if sites.index.name != "site":
        sites = _indexed(sites, "site", "sites")
    before: Any = data.before
    return read_chips(
        chips,
        sites,
        size_px=int(data.size_px or 0),
        bands=data.bands,
        resolution_m=data.resolution_m,
        before=before,
    )


def _read_embeddings(base: Path, name: str) -> pd.DataFrame:
    path = _existing(base, name, "embeddings")
    if path.is_dir():
        return load_embeddings(path)
    table = _read_table(path)
    if isinstance(table.index, pd.RangeIndex):
        table = _indexed(table, "site", "embeddings")
    return table


def _read_table(path: Path) -> pd.DataFrame:
    if path.name.endswith((".parquet", ".pq")):
        return pd.read_parquet(path)
    if path.name.endswith((".csv", ".csv.gz", ".csv.zip")):
        return pd.read_csv(path)
    raise ConfigurationError(
        f"[data] Tables are read from .csv, .csv.gz or .parquet; found {path.name!r}."
    )


def _indexed(table: pd.DataFrame, column: str, key: str) -> pd.DataFrame:
    if column not in table.columns:
        raise ConfigurationError(
            f"[data] {key}: there is no column {column!r}; the table has "
            f"{list_some(table.columns, 12)}."
        )
    return table.set_index(column)


def _existing(base: Path, name: str, key: str) -> Path:
    path = base / Path(name).expanduser()
    if not path.exists():
        raise ConfigurationError(f"[data] {key}: there is no file or folder {path}.")
    return path
