"""Day of the last image that went into the chip of a site, which a treatment must come after."""

from collections.abc import Hashable
from typing import Any

import pandas as pd

from terracausal.imagery.chips import Chips


def last_images(chips: Chips) -> pd.Series:
    """Return for every site the day of the last image that has a pixel in its chip.

    Parameters
    ----------
    chips : Chips
        Also composites, whose images are earlier than the last day of their window.

    Returns
    -------
    Series of length n_sites
        Indexed by site; NaT for a site with an image that has no date, or without any pixel.

    Examples
    --------
    >>> import numpy as np
    >>> pixels = np.array([1, np.nan]).reshape(1, 2, 1, 1, 1)
    >>> days = ["2008-06-30", "2009-06-30"]
    >>> last_images(Chips.from_arrays(pixels, sites=["a"], bands=["red"], times=days))["a"]
    Timestamp('2008-06-30 00:00:00')
    """
    found: dict[Hashable, list[pd.Timestamp | None]] = {site: [] for site in chips.keys}
    for record in chips._records:
        if record.status in {"ok", "partial"} and record.site in found:
            found[record.site].append(record.last_image or record.time)
    last = [
        max(day for day in days if day is not None) if days and None not in days else pd.NaT
        for days in found.values()
    ]
    days = pd.DatetimeIndex(last).normalize().as_unit("us")
    return pd.Series(days, index=chips.keys, name="last_image")


def describe_image_dates(chips: Chips) -> dict[str, Any]:
    """Return what must be known of image dates to refuse images from after a treatment.

    Parameters
    ----------
    chips : Chips
        The images that were used.

    Returns
    -------
    dict
        `last_image`, the day of the last image of any site as text, None if an image has no date;
        and where sites differ `last_images`, the sites of each last day.

    Examples
    --------
    >>> import numpy as np
    >>> pixels = np.ones((2, 1, 1, 1, 1))
    >>> chips = Chips.from_arrays(pixels, sites=["a", "b"], bands=["red"], times=["2008-06-30"])
    >>> describe_image_dates(chips)
    {'last_image': '2008-06-30'}
    """
    last = last_images(chips)
    if last.isna().any():
        return {"last_image": None}
    facts: dict[str, Any] = {"last_image": f"{last.max():%Y-%m-%d}"}
    if (last != last.iloc[0]).any():
        days = last.dt.strftime("%Y-%m-%d")
        facts["last_images"] = {
            str(day): list(sites.index) for day, sites in days.groupby(days, sort=True)
        }
    return facts
