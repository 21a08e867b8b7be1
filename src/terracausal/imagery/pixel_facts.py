"""What is known of the pixels of chips without reading them again: value ranges and checksums."""

from collections.abc import Hashable

import pandas as pd

from terracausal._foundation.progress import track
from terracausal.imagery.chips import Chips
from terracausal.imagery.records import value_range
from terracausal.imagery.selection import looked_at_all, records_by_site


def value_ranges(chips: Chips) -> pd.DataFrame:
    """Return the smallest and largest value of each band over all sites that have a chip.

    Parameters
    ----------
    chips : Chips
        Their pixels are looked at once, unless this has been done.

    Returns
    -------
    DataFrame of shape (n_bands, 2)
        Columns `low` and `high`, indexed by band; NaN for a band without valid pixels.

    Examples
    --------
    >>> import numpy as np
    >>> pixels = np.arange(8.0).reshape(1, 1, 2, 2, 2)
    >>> chips = Chips.from_arrays(pixels, sites=["a"], bands=["red", "nir"])
    >>> value_ranges(chips).loc["nir"].tolist()
    [4.0, 7.0]
    """
    known = set(chips.keys)
    low, high = value_range((r for r in chips._records if r.site in known), chips.n_bands)
    return pd.DataFrame({"low": low, "high": high}, index=pd.Index(chips.bands, name="band"))


def image_checksums(
    chips: Chips,
) -> dict[Hashable, tuple[tuple[pd.Timestamp | None, str | None], ...]]:
    """Return the date and the checksum of each image of every site that has a chip.

    Parameters
    ----------
    chips : Chips
        Pixels are read only where nobody has taken their checksum.

    Returns
    -------
    dict of site to tuple of (date, checksum)
        In the order of `chips.keys` and of the times of a site. The date is None where an image is
        undated, the checksum where it has no valid pixel.

    Examples
    --------
    >>> import numpy as np
    >>> chips = Chips.from_arrays(np.ones((2, 1, 1, 2, 2)), sites=["a", "b"], bands=["red"])
    >>> sums = image_checksums(chips)
    >>> sums["a"] == sums["b"]
    True
    """
    records = records_by_site(chips._records)
    unknown = [
        site
        for site in chips.keys
        if any(r.digest is None and r.status in {"ok", "partial"} for r in records[site])
    ]
    for site in track(unknown, "taking checksums of chips"):
        records[site] = looked_at_all(records[site], chips[site])
    return {site: tuple((r.time, r.digest) for r in records[site]) for site in chips.keys}
