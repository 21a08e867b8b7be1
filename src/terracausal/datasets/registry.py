"""Which real studies there are, and where their files come from."""

import os
from pathlib import Path

from terracausal._foundation.errors import list_some
from terracausal.datasets.uganda_yop import load_uganda_yop
from terracausal.study import StudyData

_LOADERS = {"uganda_yop": load_uganda_yop}
_VARIABLE = "TERRACAUSAL_DATA"


def load_dataset(name: str, root: str | os.PathLike[str] | None = None) -> StudyData:
    """Load a real study with its images, ready for analysis.

    Parameters
    ----------
    name : {"uganda_yop"}
        The Youth Opportunities Program, northern Uganda: a randomised cash grant, 2,082 people at
        327 sites, with a 35 × 35 pixel Landsat chip of each site.
    root : path, default=None
        Folder that holds a folder of the name. None looks in ``$TERRACAUSAL_DATA``, and
        downloads the file into the user's cache, with its checksum verified, where that is unset.

    Returns
    -------
    StudyData
        With `study`, `chips` and `notes` on what was decoded and dropped.

    Raises
    ------
    FileNotFoundError
        `root` was given but does not hold the data set.

    Examples
    --------
    >>> load_dataset("atlantis")
    Traceback (most recent call last):
        ...
    ValueError: Unknown data set 'atlantis'; known: 'uganda_yop'.
    """
    if name not in _LOADERS:
        raise ValueError(f"Unknown data set {name!r}; known: {list_some(_LOADERS)}.")
    given = root if root is not None else os.environ.get(_VARIABLE)
    folder = None if given is None else Path(given) / name
    if folder is not None and not folder.is_dir():
        source = "root" if root is not None else f"${_VARIABLE}"
        raise FileNotFoundError(
            f"Expected the folder {folder} for the data set {name!r} ({source} is {given!s}), but "
            "there is none. Correct the path, or leave it unset to download the data."
        )
    return _LOADERS[name](folder)
