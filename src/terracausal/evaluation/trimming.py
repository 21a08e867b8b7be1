"""Which units trimming left out, and how they differ from those kept."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from terracausal._foundation.checks import check_same_index
from terracausal._foundation.errors import AlignmentError, RoleError, list_some
from terracausal.nuisance import Nuisances, Scores
from terracausal.study import Study
from terracausal.study.result import TabularResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True, eq=False)
class TrimmedUnits(TabularResult):
    """The units that trimming left out.

    Parameters
    ----------
    table : pandas.DataFrame
        One row per unit left out, by unit key: `treatment`, `propensity` (the median of repeats),
        `side` ("low" or "high"), and as far as known `site`, `lon` and `lat`.
    comparison : pandas.DataFrame
        One row per covariate and coordinate: `column`, mean of the units `kept` and `left_out`, and
        their `difference` in standard deviations of all units.
    n_units : int
        Units before trimming.
    population : str
        Who is left, in words.
    places : pandas.DataFrame, default=None
        Columns lon, lat and side (-1 low, 0 kept, 1 high) of all units, for the map.

    Examples
    --------
    >>> import terracausal as tc
    >>> study = tc.simulate_study("tutorial", n_sites=300, size_px=4, random_state=0).study
    >>> nuisances = tc.cross_fit(study, random_state=0)
    >>> scores = tc.doubly_robust_scores(study, nuisances, trim=0.2)
    >>> len(trimmed_units(study, nuisances, scores).table) == 300 - scores.n_units
    True
    """

    table: pd.DataFrame
    comparison: pd.DataFrame = field(repr=False)
    n_units: int
    population: str
    places: pd.DataFrame | None = field(default=None, repr=False)

    def to_dataframe(self) -> pd.DataFrame:
        """Return a copy of the table, with the unit keys as a column."""
        return self.table.reset_index(names="unit")

    def summary(self) -> str:
        """Return how many were left out, from which arm, and how they differ."""
        n_out = len(self.table)
        lines = [
            f"{n_out:,} of {self.n_units:,} units left out ({n_out / self.n_units:.1%}); "
            f"averages speak for {self.population}"
        ]
        for side, words in (("low", "hardly ever treated"), ("high", "nearly always treated")):
            own = self.table.loc[self.table["side"] == side]
            lines.append(
                f"  {words:<22} {len(own):,}, of which {int(own['treatment'].sum()):,} treated"
            )
        if n_out:
            order = self.comparison["difference"].abs().sort_values(ascending=False).index[:5]
            lines += [
                f"  {row.column}: mean {row.left_out:.4g} left out, {row.kept:.4g} kept "
                f"({row.difference:+.2f} SD)"
                for row in self.comparison.loc[order].itertuples()
            ]
        return "\n".join(lines)

    def plot(self, ax: "Axes | None" = None) -> "Axes":
        """Draw kept and left-out units on the map.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, default=None
            Where to draw; None makes a new figure.

        Returns
        -------
        matplotlib.axes.Axes

        Raises
        ------
        RoleError
            The study has no coordinates.
        """
        if self.places is None:
            raise RoleError(
                "The map needs places; the study has no coordinates. Name the columns when it is "
                "made: coords=('lon', 'lat')."
            )
        from terracausal.plotting import plot_trimmed_map

        return plot_trimmed_map(self.places["lon"], self.places["lat"], self.places["side"], ax=ax)


def trimmed_units(study: Study, nuisances: Nuisances, scores: Scores) -> TrimmedUnits:
    """List the units of a study that trimming left out of the scores.

    Parameters
    ----------
    study : Study
    nuisances : Nuisances
        From which the scores were made.
    scores : Scores
        From ``doubly_robust_scores(study, nuisances, trim=...)``.

    Returns
    -------
    TrimmedUnits

    Raises
    ------
    AlignmentError
        The three are not of the same study.

    Examples
    --------
    >>> import terracausal as tc
    >>> study = tc.simulate_study(n_sites=40, random_state=0).study
    >>> nuisances = tc.cross_fit(study, random_state=0)
    >>> scores = tc.doubly_robust_scores(study, nuisances, trim=0.1)
    >>> len(trimmed_units(study, nuisances, scores).table)
    0
    """
    check_same_index("nuisances", nuisances.table.index, study.units)
    unknown = scores.units.difference(study.units)
    if len(unknown):
        raise AlignmentError(
            f"Scores and study must be of the same units; {len(unknown)} of {scores.n_units} are "
            f"not in the study: {list_some(unknown)}."
        )
    runs = (nuisances, *nuisances.repeats)
    propensity = pd.concat([run.propensity for run in runs], axis=1).median(axis=1)
    propensity = propensity.loc[study.units]
    out = ~study.units.isin(scores.units)
    side = np.where(out, np.where(propensity < 0.5, -1, 1), 0)
    columns = {
        "treatment": study.treatment.astype(int),
        "propensity": propensity,
        "side": pd.Series(np.where(side < 0, "low", "high"), index=study.units),
    }
    if study.sites is not None:
        columns["site"] = study.sites
    table, places = pd.DataFrame(columns), None
    if study.coordinates is not None:
        table = table.join(study.coordinates)
        places = study.coordinates.assign(side=side)
    found = table.loc[out].sort_values("propensity", kind="stable")
    comparison = _compare(study, out)
    return TrimmedUnits(found, comparison, study.n_units, scores.population, places)


def _compare(study: Study, out: "np.ndarray[tuple[int], np.dtype[np.bool_]]") -> pd.DataFrame:
    """Return means of covariates and coordinates among units kept and left out."""
    values = study.features("outcome", use="covariates")
    if study.coordinates is not None:
        values = values.join(study.coordinates)
    kept, left_out = values.loc[~out].mean(), values.loc[out].mean()
    spread = values.std(ddof=0)
    table = pd.DataFrame(
        {"kept": kept, "left_out": left_out, "difference": (left_out - kept) / spread}
    )
    return table.rename_axis("column").reset_index()
