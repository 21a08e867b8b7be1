"""A study together with its images."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from terracausal._foundation.errors import RoleError
from terracausal.study.geography import great_circle_m
from terracausal.study.study import Study

if TYPE_CHECKING:
    from terracausal.imagery import Chips

_FAR_M = 50_000.0


@dataclass(frozen=True, eq=False)
class StudyData:
    """A study, the chips of its sites, and what a reader must know about both.

    Parameters
    ----------
    study : Study
        Units and their roles.
    chips : Chips
        One chip for each site.
    name : str
        Name of the data set or of the simulated world.
    notes : tuple of str, default=()
        What was dropped, decoded or repaired.

    Examples
    --------
    >>> import terracausal as tc
    >>> data = tc.simulate_study(n_sites=20, random_state=0)
    >>> data.study.n_sites, len(data.chips)
    (20, 20)
    """

    study: Study
    chips: "Chips"
    name: str
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_same_places(self.study, self.chips)

    def describe(self) -> str:
        """Return the study, the images and the notes as text."""
        parts = [self.name, self.study.describe(), self.chips.describe(), *self.notes]
        return "\n\n".join(parts)

    def __str__(self) -> str:
        return self.describe()


def check_same_places(study: Study, chips: "Chips") -> None:
    """Refuse units whose coordinates are far from the chip of their site.

    Parameters
    ----------
    study : Study
        Looked at only if it has coordinates and sites.
    chips : Chips
        Looked at only if its sites have positions.

    Raises
    ------
    RoleError
        Half of the units are more than 50 km away, as happens with longitude and latitude swapped.
    """
    points, place, site = chips.sites, study.coordinates, study.sites
    if place is None or site is None or points.crs is None or points.geometry.isna().any():
        return
    known = site.isin(points.index).to_numpy()
    if not known.any():
        return
    degrees = points.geometry.to_crs("EPSG:4326").loc[site[known]]
    lon, lat = place["lon"].to_numpy()[known], place["lat"].to_numpy()[known]
    there = degrees.x.to_numpy(), degrees.y.to_numpy()
    away_m = float(np.median(great_circle_m(lon, lat, *there)))
    if away_m > _FAR_M:
        swapped = float(np.median(great_circle_m(lat, lon, *there))) <= _FAR_M
        advice = "The study's longitude and latitude look swapped." if swapped else "Check both."
        raise RoleError(
            "Units must lie near the chip of their site; half of them are more than "
            f"{away_m / 1000:,.0f} km away. {advice} Give coords=(longitude, latitude) in degrees."
        )
