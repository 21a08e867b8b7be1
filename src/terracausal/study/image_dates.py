"""Images must be older than the treatment: what the treatment changed may already show in them."""

from typing import Any

import pandas as pd

from terracausal._foundation.errors import list_some


def late_images(
    attrs: dict[Any, Any], sites: "pd.Series[Any]", treatment_dates: "pd.Series[Any]"
) -> str | None:
    """Say which images are not from before the treatment, or return None.

    Parameters
    ----------
    attrs : dict
        Of the embeddings. An encoder leaves `last_image`, the day of the last image of any site
        (None for undated images), and where sites differ `last_images`, the sites of each day.
        Embeddings from elsewhere have neither, and nothing can be said of them.
    sites : pandas.Series of shape (n_units,)
        Site key of each unit.
    treatment_dates : pandas.Series of shape (n_units,)
        When each unit was, or could have been, treated.

    Returns
    -------
    str or None

    Examples
    --------
    >>> attrs = {"encoder": {"last_image": "2009-01-01"}}
    >>> late_images(attrs, pd.Series(["a"]), pd.Series(["2008-06-01"]))
    "1 of 1 sites have images from treatment (first 2008-06-01) or later (last 2009-01-01): 'a'"
    """
    facts = attrs.get("encoder", {})
    if "last_image" not in facts:
        return None
    if facts["last_image"] is None:
        return "the images have no dates, so they may be from after the treatment"
    known = sites.unique()
    last = pd.Series(pd.Timestamp(facts["last_image"]), index=known)
    for day, where in facts.get("last_images", {}).items():
        last[last.index.isin(where)] = pd.Timestamp(day)
    first = pd.to_datetime(treatment_dates).groupby(sites.to_numpy()).min()
    late = last.index[(last >= first.reindex(last.index)).to_numpy()]
    if not len(late):
        return None
    return (
        f"{len(late)} of {len(known)} sites have images from treatment (first "
        f"{first[late].min():%Y-%m-%d}) or later (last {last[late].max():%Y-%m-%d}): "
        f"{list_some(late)}"
    )
