"""Which sites to treat within a budget: a table by site, and a map."""

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from terracausal._foundation.checks import check_finite
from terracausal._foundation.errors import AlignmentError, RoleError
from terracausal._foundation.randomness import canonical_order
from terracausal.effects import origin_of
from terracausal.effects.origin import with_origin
from terracausal.evaluation.policies import check_budget, spend_budget
from terracausal.evaluation.priorities import align_units
from terracausal.evaluation.rates import rank_within_folds
from terracausal.study import Study
from terracausal.study.result import TabularResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True, eq=False)
class TargetedSites(TabularResult):
    """Which sites a budget reaches.

    Parameters
    ----------
    table : pandas.DataFrame
        One row per site, the first to be treated first: `n_units`, `weight` (share of all),
        `priority`, `treated` (share of its units that are treated), and `lon` and `lat` where the
        study has coordinates.
    policy : pandas.Series of shape (n_units,)
        Chance of treatment of each unit, for `policy_value` and `compare_policies`.
    budget : float
        Share of all units, by weight.

    Examples
    --------
    >>> table = pd.DataFrame({"treated": [1.0, 0.5, 0.0], "n_units": [2, 2, 2]}, index=list("abc"))
    >>> TargetedSites(table, pd.Series(dtype=float), 0.5).n_treated
    1
    """

    table: pd.DataFrame = field(repr=False)
    policy: "pd.Series[float]" = field(repr=False)
    budget: float

    @property
    def n_treated(self) -> int:
        """Number of sites that are treated as a whole."""
        return int((self.table["treated"] == 1).sum())

    def to_dataframe(self) -> pd.DataFrame:
        """Return the table, with the site as a column."""
        return self.table.reset_index(names="site")

    def summary(self) -> str:
        """Return how many sites and units are treated, as text."""
        treated = self.table["treated"]
        part = int(((treated > 0) & (treated < 1)).sum())
        units = float((treated * self.table["n_units"]).sum())
        shown = ", ".join(str(site) for site in self.table.index[:5])
        return "\n".join(
            [
                f"Sites to treat with a budget for {self.budget:.1%} of the units",
                f"  treated     {self.n_treated:,} of {len(self.table):,} sites as a whole, {part} "
                f"in part; {units:,.0f} of {int(self.table['n_units'].sum()):,} units",
                f"  first       {shown}",
            ]
        )

    def plot(self, ax: "Axes | None" = None) -> "Axes":
        """Draw the sites on a map, those that are treated in colour.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, default=None
            Where to draw; None makes a new figure.

        Returns
        -------
        matplotlib.axes.Axes
        """
        from terracausal.plotting.targeted_map import plot_targeted_map

        if "lon" not in self.table:
            raise RoleError(
                "A map needs coordinates; the study has none. Name them: "
                "Study(..., coords=('lon', 'lat'))."
            )
        return plot_targeted_map(self.table["lon"], self.table["lat"], self.table["treated"], ax=ax)


def target_sites(
    study: Study,
    priority: "pd.Series[float] | ArrayLike",
    budget: float,
    *,
    whole_sites: bool = True,
) -> TargetedSites:
    """Spend a budget on the sites, or units, with the highest priority.

    Parameters
    ----------
    study : Study
        With sites.
    priority : pandas.Series or array-like of shape (n_units,)
        Of each unit, such as predicted effects; a Series is aligned by unit. For a decision take
        predictions of a learner fitted on all units; to value the rule afterwards, take those of
        `cross_predict`, whose folds each spend the same share of the budget (the first repeat
        counts).
    budget : float
        Share of all units, by weight, that can be treated, from 0 to 1.
    whole_sites : bool, default=True
        Whether sites are treated as a whole, by the mean priority of their units; the last one in
        part. False chooses units one by one.

    Returns
    -------
    TargetedSites

    Raises
    ------
    ValueError
        The budget lies outside 0 to 1, or a priority is not finite.
    RoleError
        The study has no sites.

    Examples
    --------
    >>> import terracausal as tc
    >>> data = tc.simulate_study(n_sites=40, random_state=0)
    >>> found = target_sites(data.study, data.truth["effect"], 0.25)
    >>> found.n_treated, round(float(found.policy.mean()), 3)
    (10, 0.25)
    """
    check_budget(budget)
    sites = study.sites
    if sites is None:
        raise RoleError("Sites to treat need sites; the study has no `site` column.")
    values, folds, origin = _read(study, priority)
    v = np.ones(study.n_units) if study.weight is None else study.weight.to_numpy()
    v = v / v.sum()
    keys = pd.Index(sites.unique())
    keys = keys[canonical_order(keys)]
    code = keys.get_indexer(sites)
    mass = np.bincount(code, weights=v, minlength=len(keys))
    safe = np.where(mass > 0, mass, 1.0)
    mean = np.bincount(code, weights=v * values, minlength=len(keys)) / safe
    order, unit_fold = mean, np.zeros(study.n_units, dtype=np.int64)
    if folds is not None:
        unit_fold = pd.factorize(folds)[0].astype(np.int64)
        rank = rank_within_folds(values, unit_fold, v)
        order = np.bincount(code, weights=v * rank, minlength=len(keys)) / safe
    chance = np.zeros(study.n_units)
    for label in np.unique(unit_fold):
        own = unit_fold == label
        chance[own] = spend_budget((order[code] if whole_sites else values)[own], v[own], budget)
    policy = pd.Series(chance, index=study.units, name="policy")
    treated = np.bincount(code, weights=v * chance, minlength=len(keys)) / safe
    columns = {
        "n_units": np.bincount(code, minlength=len(keys)),
        "weight": mass,
        "priority": mean,
        # sums of shares may end a rounding error away from none or all
        "treated": np.clip(treated.round(12), 0.0, 1.0),
    }
    if study.coordinates is not None:
        places = study.coordinates.groupby(code).mean()
        columns |= {name: places[name].to_numpy() for name in ("lon", "lat")}
    first = np.lexsort((np.arange(len(keys)), -order, -columns["treated"]))
    table = pd.DataFrame(columns, index=keys.rename("site")).iloc[first]
    return TargetedSites(
        table,
        # repeats of a priority are no repeats of the rule
        policy if origin is None else with_origin(policy, replace(origin, repeats=())),
        float(budget),
    )


def _read(study: Study, priority: Any) -> tuple[Floats, "pd.Series[Any] | None", Any]:
    """Return the priority in the order of the study, the folds it was made in, and its origin."""
    if not isinstance(priority, pd.Series):
        values = check_finite("priority", priority)
        if values.shape != (study.n_units,):
            raise AlignmentError(
                f"`priority` must have one number per unit, shape ({study.n_units},); got "
                f"{values.shape}. A Series indexed by unit is aligned by key."
            )
        return values, None, None
    values = check_finite("priority", align_units(study.units, priority, "priority"))
    origin = origin_of(priority)
    folds = None if origin is None or origin.folds is None else origin.folds.loc[study.units]
    return values, folds, origin
