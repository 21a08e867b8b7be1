"""`load_embeddings`: an embedding that `embed` has kept, without its encoder and chips."""

from os import PathLike
from pathlib import Path

import numpy as np
import pandas as pd

from terracausal._foundation.errors import list_some
from terracausal.encoders.embedding_parts import (
    FACTS,
    PartLayout,
    find_parts,
    read_facts,
    read_keys,
    read_table,
)


def load_embeddings(path: str | PathLike[str]) -> pd.DataFrame:
    """Read back an embedding that `embed` has written.

    Parameters
    ----------
    path : path
        The folder of one embedding, or the `out` of `embed` if it holds only one.

    Returns
    -------
    DataFrame of shape (n_sites, n_features)
        float64, indexed by site in order of keys; `attrs["encoder"]` as from `transform`.

    Raises
    ------
    FileNotFoundError
        If there is no embedding, or more than one.
    OSError
        If it is unfinished or damaged; the message names the parts.

    Examples
    --------
    >>> import tempfile
    >>> load_embeddings(tempfile.mkdtemp())  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    FileNotFoundError: `path` must hold one embedding made by `embed`; found none in ...
    """
    folder = _only_embedding(Path(path).absolute())
    facts = read_facts(folder)
    if facts is None:
        raise OSError(f"{folder / FACTS} is damaged. Call `embed` again, or copy it anew.")
    layout = PartLayout(folder, int(facts["n_sites"]))
    finished, damaged = find_parts(layout)
    absent = [name for name in layout.names if name not in finished and name not in damaged]
    if absent or damaged:
        raise OSError(
            f"An embedding must be whole; of {len(layout.names)} parts in {folder} {len(absent)} "
            f"are not finished ({list_some(absent)}) and {len(damaged)} are damaged "
            f"({list_some(damaged)}). Call `embed` with the same encoder and chips to go on."
        )
    keys = read_keys(layout)
    return read_table(layout, facts, keys, np.arange(len(keys)))


def _only_embedding(path: Path) -> Path:
    if (path / FACTS).is_file():
        return path
    found = sorted(entry.parent for entry in path.glob(f"*/{FACTS}"))
    if len(found) != 1:
        names = list_some([folder.name for folder in found])
        raise FileNotFoundError(
            "`path` must hold one embedding made by `embed`; found "
            f"{f'{len(found)} ({names})' if found else 'none'} in {path}. Name one of its folders."
        )
    return found[0]
