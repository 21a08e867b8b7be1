"""The image of a site as it is shown, and which images are not worth showing."""

from collections.abc import Hashable
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from terracausal.imagery import Chips


def check_by_site(name: str, given: Any) -> None:
    """Refuse what is not a table by site, such as the mixture itself.

    Raises
    ------
    TypeError
    """
    if not isinstance(given, pd.Series | pd.DataFrame):
        raise TypeError(
            f"`{name}` must be a table or Series of numbers by site, such as "
            f"`mixture.memberships_`; got {type(given).__name__}."
        )


def latest_image(chips: Chips, site: Hashable) -> NDArray[np.float32]:
    """Return the last image of a site that has any pixel, shape (n_bands, height, width)."""
    stack = chips[site]
    filled = [time for time in range(len(stack)) if np.isfinite(stack[time]).any()]
    image: NDArray[np.float32] = stack[filled[-1] if filled else -1]
    return image


def find_twins(chips: Chips | None) -> set[Hashable]:
    """Return the sites whose pixels equal those of another site, both of each pair."""
    if chips is None:
        return set()
    manifest = chips.manifest
    doubled = manifest.loc[manifest["duplicate_of"].notna(), ["site", "duplicate_of"]]
    return set(doubled["site"]) | set(doubled["duplicate_of"])


def site_places(chips: Chips) -> pd.DataFrame | None:
    """Return longitude and latitude of the sites, or None where chips have no geography.

    Parameters
    ----------
    chips : Chips

    Returns
    -------
    pandas.DataFrame of shape (n_sites, 2) or None
        Columns lon and lat in degrees, indexed by site; sites without a place are left out.
    """
    sites: Any = chips.sites
    sites = sites[~(sites.geometry.isna() | sites.geometry.is_empty)]
    if sites.empty or sites.crs is None:
        return None
    points = sites.geometry.to_crs(4326)
    return pd.DataFrame({"lon": points.x, "lat": points.y}, index=sites.index)
