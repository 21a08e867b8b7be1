"""What the places of a type have more or less of: band statistics, land cover, anything by site."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy import stats

from terracausal._foundation.checks import check_finite, check_same_index
from terracausal._foundation.errors import RoleError, list_some
from terracausal.interpret.site_images import check_by_site
from terracausal.study.result import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True, eq=False)
class ComponentProfile(Result):
    """Means by component, each against the mean of all sites.

    Parameters
    ----------
    table : pandas.DataFrame
        One row per component and variable: component, variable, mean, overall, estimate (their
        difference), std_error, ci_low, ci_high, level, standardised (the difference in SDs over
        sites) and n_sites.

    Examples
    --------
    >>> chance = pd.DataFrame({"dry": [0.9, 0.8, 0.1], "wet": [0.1, 0.2, 0.9]}, index=list("abc"))
    >>> profile = component_profile(chance, pd.DataFrame({"ndvi": [0.1, 0.2, 0.8]}, list("abc")))
    >>> bool(profile.table.set_index("component").loc["wet", "estimate"] > 0)
    True
    """

    table: pd.DataFrame

    def to_dataframe(self) -> pd.DataFrame:
        """Return a copy of the table."""
        return self.table.copy()

    def summary(self) -> str:
        """Return, for each component, the variables in which it differs most, as text."""
        lines = [f"Profile of components over {self.table['n_sites'].iloc[0]:,} sites"]
        for component, rows in self.table.groupby("component", sort=False):
            order = rows["standardised"].abs().sort_values(ascending=False, kind="stable").index
            lines.append(f"  {component}")
            lines += [
                f"    {r.variable:<24} {r.mean:.3g} (all {r.overall:.3g}), difference "
                f"{r.estimate:+.3g} ({r.ci_low:.3g} to {r.ci_high:.3g})"
                for r in rows.loc[order[:5]].itertuples()
            ]
        lines.append("  memberships are taken as known; sites count as independent")
        return "\n".join(lines)

    def plot(self, ax: "Axes | None" = None) -> "Axes":
        """Draw the standardised differences with their intervals.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, default=None
            Where to draw; None makes a new figure.

        Returns
        -------
        matplotlib.axes.Axes
        """
        from terracausal.plotting import plot_intervals

        table = self.table.copy()
        table["term"] = [f"{r.component}: {r.variable}" for r in table.itertuples()]
        spread = table["estimate"] / table["standardised"].where(table["standardised"] != 0)
        numbers = ["estimate", "std_error", "ci_low", "ci_high"]
        table[numbers] = table[numbers].div(spread.fillna(1.0), axis=0)
        return plot_intervals(table, ax=ax)


def component_profile(
    memberships: pd.DataFrame, variables: pd.DataFrame, *, level: float = 0.95
) -> ComponentProfile:
    """Compare the sites of each component with all sites.

    The mean of a variable in component k weights sites by their probability of k.

    Parameters
    ----------
    memberships : pandas.DataFrame of shape (n_sites, n_components)
        Probabilities by site, such as `EffectMixture.memberships_`. Columns sd_1, … of
        `predict_proba` are left out.
    variables : pandas.DataFrame of shape (n_sites, n_variables)
        Numbers by site: band statistics, shares of land cover, covariates.
    level : float, default=0.95
        Coverage of the intervals.

    Returns
    -------
    ComponentProfile

    Raises
    ------
    TypeError
        What is given is no table by site.
    RoleError
        A component has no weight, or there is nothing to compare.

    Notes
    -----
    The influence of site i on the difference of means is
    ``p_ik (x_i - mean_k) / mean(p_k) - (x_i - mean)``. Memberships are taken as known, so that
    intervals are too narrow where they are uncertain. Differences describe; they are not effects.

    Examples
    --------
    >>> chance = pd.DataFrame({"a": [1.0, 1, 0, 0]}, index=list("wxyz"))
    >>> ndvi = pd.DataFrame({"ndvi": [0.2, 0.4, 0.6, 0.8]}, index=list("wxyz"))
    >>> component_profile(chance, ndvi).table["estimate"].round(3).tolist()
    [-0.2]
    """
    check_by_site("memberships", memberships)
    check_by_site("variables", variables)
    check_same_index("variables", variables.index, memberships.index)
    variables = variables.loc[memberships.index]
    p = memberships[[c for c in memberships.columns if not str(c).startswith("sd_")]]
    if p.empty or variables.empty:
        raise RoleError(
            f"Expected memberships and variables of at least one site; got {p.shape} and "
            f"{variables.shape}."
        )
    check_finite("memberships", p)
    check_finite("variables", variables)
    empty = p.columns[~(p.sum() > 0)]
    if len(empty):
        raise RoleError(f"Components without any site cannot be described: {list_some(empty)}.")
    n_sites, x = len(p), variables.to_numpy(dtype=np.float64)
    overall, sd = x.mean(axis=0), x.std(axis=0, ddof=1) if n_sites > 1 else np.ones(x.shape[1])
    half = float(stats.t.ppf((1 + level) / 2, max(n_sites - 1, 1)))
    rows = []
    for name in p.columns:
        weight = p[name].to_numpy(dtype=np.float64)
        mean = weight @ x / weight.sum()
        influence = weight[:, None] * (x - mean) / weight.mean() - (x - overall)
        error = np.sqrt((influence**2).sum(axis=0) / n_sites / max(n_sites - 1, 1))
        difference = mean - overall
        rows.append(
            pd.DataFrame(
                {
                    "component": str(name),
                    "variable": variables.columns.astype(str),
                    "mean": mean,
                    "overall": overall,
                    "estimate": difference,
                    "std_error": error,
                    "ci_low": difference - half * error,
                    "ci_high": difference + half * error,
                    "level": level,
                    "standardised": difference / np.where(sd > 0, sd, 1.0),
                    "n_sites": n_sites,
                }
            )
        )
    return ComponentProfile(pd.concat(rows, ignore_index=True))
