"""Where the types of places are."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from terracausal._foundation.checks import check_finite, check_unique
from terracausal._foundation.errors import AlignmentError, RoleError, list_some
from terracausal.imagery import Chips
from terracausal.interpret.site_images import check_by_site, site_places
from terracausal.study import Study
from terracausal.study.result import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_SURE = 0.8
_PREFIX = "probability_"


@dataclass(frozen=True, eq=False)
class TypeMap(Result):
    """The probability of each type by place.

    Parameters
    ----------
    table : pandas.DataFrame
        One row per site: component (the most probable), probability (of it), probability_1, …,
        lon and lat.
    notes : tuple of str, default=()
        Which sites are not on the map.

    Examples
    --------
    >>> table = pd.DataFrame(
    ...     {
    ...         "component": [1],
    ...         "probability": [0.9],
    ...         "probability_1": [0.9],
    ...         "probability_2": [0.1],
    ...         "lon": [32.0],
    ...         "lat": [2.0],
    ...     },
    ...     index=["a"],
    ... )
    >>> TypeMap(table).n_sure
    1
    """

    table: pd.DataFrame = field(repr=False)
    notes: tuple[str, ...] = ()

    @property
    def n_sure(self) -> int:
        """Number of sites whose most probable type has a probability of at least 0.8."""
        return int((self.table["probability"] >= _SURE).sum())

    def to_dataframe(self) -> pd.DataFrame:
        """Return the table, with the site as a column."""
        return self.table.reset_index(names="site")

    def summary(self) -> str:
        """Return how many sites are of each type, and how sure that is, as text."""
        n_sites = len(self.table)
        lines = [f"Types of {n_sites:,} places"]
        for kind, rows in self.table.groupby("component"):
            sure = int((rows["probability"] >= _SURE).sum())
            lines.append(
                f"  component {kind} is the most probable at {len(rows):,}, at {sure:,} of them "
                f"with {_SURE:.0%} or more"
            )
        lines.append(f"  of no type with {_SURE:.0%} are {n_sites - self.n_sure:,} places")
        return "\n".join([*lines, *(f"  note  {note}" for note in self.notes)])

    def plot(self, ax: "Axes | None" = None) -> "Axes":
        """Draw each site in the colour of its most probable type, the fainter the less sure.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, default=None
            Where to draw; None makes a new figure.

        Returns
        -------
        matplotlib.axes.Axes
        """
        from terracausal.plotting import plot_type_map

        chance = self.table[[c for c in self.table.columns if c.startswith(_PREFIX)]]
        return plot_type_map(self.table["lon"], self.table["lat"], chance, ax=ax)


def map_types(memberships: pd.DataFrame, places: Chips | Study) -> TypeMap:
    """Put the types of places on a map.

    Parameters
    ----------
    memberships : pandas.DataFrame of shape (n_sites, any)
        Columns probability_1, … by site: of `EffectMixture` or `PostHocTypes`, their
        `predict_proba` (what the image alone tells, any sites) or `memberships_` (of the mixture,
        what the outcomes tell too).
    places : Chips or Study
        Where the sites are: chips with a geography, or a study with coordinates (of each site the
        mean over its units).

    Returns
    -------
    TypeMap

    Raises
    ------
    TypeError
        What is given is no table by site.
    RoleError
        There are no probabilities, or the places have no coordinates.
    AlignmentError
        No site with probabilities has a place.
    ValueError
        A probability is not finite, or a site stands twice.

    Notes
    -----
    A map describes where the mixture, or a grouping, puts its types. How probable it is that there
    are such types at all is another question: see `choose_components`.

    Examples
    --------
    >>> import terracausal as tc
    >>> data = tc.simulate_study(n_sites=20, random_state=0)
    >>> p = np.linspace(0, 1, 20)
    >>> chance = pd.DataFrame({"probability_1": p, "probability_2": 1 - p}, index=data.chips.keys)
    >>> map_types(chance, data.chips).n_sure
    8
    """
    check_by_site("memberships", memberships)
    names = [c for c in memberships.columns if str(c).startswith(_PREFIX)]
    if not names:
        raise RoleError(
            f"Types need the columns probability_1, …; found {list_some(memberships.columns)}. "
            "Give predict_proba(...) of a mixture."
        )
    check_unique("The sites of `memberships`", memberships.index)
    check_finite("memberships", memberships[names])
    where = site_places(places) if isinstance(places, Chips) else _places_of(places)
    if where is None:
        raise RoleError(
            "A map needs coordinates; the places have none. Give chips whose sites have a "
            "geometry, or name them: Study(..., coords=('lon', 'lat'))."
        )
    chance = memberships.loc[memberships.index.isin(where.index), names]
    if chance.empty:
        raise AlignmentError(
            f"No site with probabilities has a place: they are for "
            f"{list_some(memberships.index, 3)}, places for {list_some(where.index, 3)}."
        )
    numbers = chance.to_numpy(dtype=np.float64)
    table = pd.DataFrame(
        {"component": numbers.argmax(axis=1) + 1, "probability": numbers.max(axis=1)},
        index=chance.index,
    )
    n_lost = len(memberships) - len(chance)
    notes = (f"{n_lost:,} sites without a place are not on the map",) if n_lost else ()
    return TypeMap(table.join(chance).join(where), notes)


def _places_of(study: Study) -> pd.DataFrame | None:
    """Return mean longitude and latitude of the units of each site, or None."""
    if study.coordinates is None or study.sites is None:
        return None
    return study.coordinates.groupby(study.sites).mean()
