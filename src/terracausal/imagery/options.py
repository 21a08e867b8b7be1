"""Options of `read_chips` that most readers leave as they are."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, TypedDict

from terracausal._foundation.checks import check_choice, check_count
from terracausal._foundation.errors import list_some
from terracausal.imagery.resampling import check_resampling

Layout = Literal["auto", "site", "tiles"]
OnError = Literal["auto", "raise", "mark"]

# bands whose numbers are classes or bits, which must never be averaged
_CLASSES = re.compile(
    r"(?:.*[_\W])?(?:scl|fmask|qa|qa_?\d*|qa_[a-z]+|pixel_qa|sr_qa_aerosol|st_qa|bqa|cfmask|"
    r"land_?cover|lulc|classification|(?:cloud_|data_)?mask)",
    re.I,
)


class ReadingOptions(TypedDict, total=False):
    """Keyword arguments of `read_chips` beyond its own; see `Reading` for their meaning."""

    resampling: str | Mapping[str, str]
    dates: Any
    layout: Layout
    unreadable: OnError
    n_jobs: int | None
    client: Any
    displacement: Any
    retries: int


@dataclass(frozen=True, slots=True)
class Reading:
    """How layers are read.

    Parameters
    ----------
    resampling : str or mapping of band to str, default='bilinear'
        Method where the pixels of a layer are not those of the chip: nearest, bilinear, cubic,
        cubic_spline, lanczos, average, mode, max, min, med, q1 or q3. Bands of classes and bits,
        known by their names (SCL, QA_PIXEL, Fmask, land_cover, …_mask), take nearest unless the
        mapping names them.
    dates : str, sequence, mapping or Series, default=None
        Dates of the layers of files: see `layer_dates`. None looks into tags and names, except
        where files are named by sites.
    layout : {'auto', 'site', 'tiles'}, default='auto'
        Whether files belong to the site whose key is their name, or to every site that they reach.
        "auto" takes "site" where half of the files or more are named by sites.
    unreadable : {'auto', 'raise', 'mark'}, default='auto'
        Whether a layer that cannot be read raises a `ChipReadError` or is marked in the manifest.
        "auto" raises for files and marks for addresses on a network. A file that can be read but
        has no coordinate reference system always raises.
    n_jobs : int, default=None
        Number of threads; None takes one per core, at most 16, and at most two for small chips
        whose pixels are taken from local files as they are, where more get in each other's way.
    client : dask.distributed.Client, default=None
        Cluster that reads instead of threads: anything with `submit(function, *arguments)`, such as
        a `concurrent.futures.Executor`.
    displacement : str, DisplacementRule or mapping, default=None
        Coordinates of the sites were displaced for privacy: several chips are read for each, at
        plausible true centres. "dhs", a rule, or keyword arguments of `plausible_centres`.
    retries : int, default=3
        How often an address on a network is tried again after a failure that may pass, such as 503
        or a lost connection: after 0.25, 0.5, 1, … seconds. A source that you made yourself has its
        own.

    Notes
    -----
    Where the options travel to another process, `client` stays behind and `n_jobs` becomes 1: a
    worker of a cluster works by itself.

    Examples
    --------
    >>> Reading(resampling={"B04": "cubic"}).method("B04"), Reading().method("SCL")
    ('cubic', 'nearest')
    """

    resampling: str | Mapping[str, str] = "bilinear"
    dates: Any = None
    layout: Layout = "auto"
    unreadable: OnError = "auto"
    n_jobs: int | None = None
    client: Any = None
    displacement: Any = None
    retries: int = 3

    def __getstate__(self) -> dict[str, Any]:
        state = {field.name: getattr(self, field.name) for field in fields(self)}
        return state | {"client": None, "n_jobs": 1}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        for name, value in state.items():
            object.__setattr__(self, name, value)

    def __post_init__(self) -> None:
        methods = (
            [self.resampling]
            if isinstance(self.resampling, str)
            else list(self.resampling.values())
        )
        for method in methods:
            check_resampling(method)
        check_choice("layout", self.layout, ("auto", "site", "tiles"))
        check_choice("unreadable", self.unreadable, ("auto", "raise", "mark"))
        if self.n_jobs is not None:
            check_count("n_jobs", self.n_jobs)
        check_count("retries", self.retries, minimum=0)
        if self.client is not None and not callable(getattr(self.client, "submit", None)):
            raise TypeError(
                "`client` must have a method `submit`, as dask.distributed.Client has; got "
                f"{type(self.client).__name__}."
            )

    def method(self, band: str) -> str:
        """Return the resampling method of a band."""
        if isinstance(self.resampling, Mapping):
            if band in self.resampling:
                return self.resampling[band]
            return "nearest" if holds_classes(band) else "bilinear"
        return "nearest" if holds_classes(band) else self.resampling

    def marks(self, uri: str) -> bool:
        """Say whether a layer that cannot be read is marked rather than raised."""
        return marks_unreadable(self.unreadable, uri)

    @property
    def threads(self) -> int:
        """Number of threads."""
        return self.n_jobs or min(16, available_cores())


def reading_options(options: Mapping[str, Any]) -> Reading:
    """Return the options, or raise a `TypeError` that names those that do not exist."""
    known = [field.name for field in fields(Reading)]
    unknown = [name for name in options if name not in known]
    if unknown:
        raise TypeError(
            f"`read_chips` has no option {list_some(unknown)}; it has {list_some(known, 20)} "
            "beside `size_px`, `bands`, `resolution_m`, `before` and `min_valid`."
        )
    return Reading(**options)


def holds_classes(band: str) -> bool:
    """Say whether the name of a band tells that its numbers are classes or bits.

    Examples
    --------
    >>> [holds_classes(band) for band in ("QA_PIXEL", "SCL", "red", "B04", "cloud_probability")]
    [True, True, False, False, False]
    """
    return _CLASSES.fullmatch(band) is not None


def marks_unreadable(rule: OnError, uri: str) -> bool:
    """Say whether a layer that cannot be read is marked rather than raised.

    Examples
    --------
    >>> marks_unreadable("auto", "https://example.org/a.tif"), marks_unreadable("auto", "a.tif")
    (True, False)
    """
    return rule == "mark" or (rule == "auto" and is_remote(uri))


def is_remote(uri: str) -> bool:
    """Say whether a layer lies on a network.

    Examples
    --------
    >>> is_remote("https://example.org/a.tif"), is_remote("/data/a.tif")
    (True, False)
    """
    return "://" in uri or uri.startswith(("/vsicurl", "/vsis3", "/vsigs", "/vsiaz"))


def available_cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
