"""Balance: whether both arms look alike once they are weighted."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from terracausal._foundation.checks import check_count, check_finite
from terracausal._foundation.errors import AlignmentError, RoleError, list_some
from terracausal.evaluation.arms import Arms, Floats, Target, arms_of, effective_units
from terracausal.nuisance import Scores
from terracausal.study import Study
from terracausal.study.result import TabularResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes

THRESHOLD = 0.1


@dataclass(frozen=True, eq=False)
class BalanceCheck(TabularResult):
    """Standardised differences of the arms before and after weighting.

    Parameters
    ----------
    table : pandas.DataFrame
        One row per variable: `column`, `kind`, and the standardised difference (treated less
        control) `before` and `after` weighting.
    target : str
        The population to which the arms are weighted.
    population : str
        Which units are looked at, in words.
    chance : tuple of float
        How large a difference of independent units would be in one of 20 cases by chance alone,
        before and after weighting.

    Examples
    --------
    >>> import terracausal as tc
    >>> study = tc.simulate_study("tutorial", n_sites=200, size_px=4, random_state=0).study
    >>> scores = tc.doubly_robust_scores(study, tc.cross_fit(study, random_state=0))
    >>> check_balance(study, scores).table["column"].tolist()
    ['x1', 'x2', 'lon', 'lat']
    """

    table: pd.DataFrame
    target: str
    population: str
    chance: tuple[float, float] = field(repr=False)

    def to_dataframe(self) -> pd.DataFrame:
        """Return a copy of the table."""
        return self.table.copy()

    def summary(self) -> str:
        """Return the balance in words, the worst variables first."""
        lines = [
            f"Balance of {len(self.table)} variables ({self.population}), weighted to "
            f"target={self.target!r}"
        ]
        for when, limit in zip(("before", "after"), self.chance, strict=True):
            size = self.table[when].abs()
            lines.append(
                f"  {when:<7} {int((size > THRESHOLD).sum())} beyond {THRESHOLD:g}; mean "
                f"{size.mean():.3f}, largest {size.max():.3f}; chance alone "
                f"reaches {limit:.3f} in one of 20"
            )
        worst = self.table.loc[self.table["after"].abs().sort_values(ascending=False).index[:5]]
        lines += [
            f"  {row.column}: {row.before:+.3f} before, {row.after:+.3f} after"
            for row in worst.itertuples()
        ]
        return "\n".join(lines)

    def plot(self, ax: "Axes | None" = None) -> "Axes":
        """Draw the love plot.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, default=None
            Where to draw; None makes a new figure.

        Returns
        -------
        matplotlib.axes.Axes
        """
        from terracausal.plotting import plot_balance

        return plot_balance(self.table, ax=ax, threshold=THRESHOLD)


def check_balance(
    study: Study,
    scores: Scores,
    columns: Sequence[str] | pd.DataFrame | None = None,
    *,
    target: Target = "all",
    n_components: int = 10,
) -> BalanceCheck:
    """Compare the arms, before and after weighting, on covariates, images and places.

    Parameters
    ----------
    study : Study
    scores : Scores
        Of the same study, with treatment and out-of-fold propensities; units that trimming left
        out are left out before weighting as well.
    columns : sequence of str or pandas.DataFrame, default=None
        Columns of the study's table, or other numbers by unit or by site, such as the band
        statistics of chips. None takes covariates, joined embeddings, longitude and latitude.
    target : {"all", "treated", "control", "overlap"}, default="all"
        The population to which the arms are weighted, as in `average_effect`.
    n_components : int, default=10
        More embedding columns than this are replaced by as many principal components of the
        standardised columns.

    Returns
    -------
    BalanceCheck

    Raises
    ------
    RoleError
        A column is missing or not numeric, or the scores lack treatment or propensity.
    AlignmentError
        Units of the scores are not in the study, or units and sites not in the index of `columns`.

    Notes
    -----
    Differences of weighted means, divided by the root of the mean of both arms' unweighted
    variances: Austin & Stuart (2015), Statistics in Medicine 34(28), doi:10.1002/sim.6607.

    Examples
    --------
    >>> import terracausal as tc
    >>> study = tc.simulate_study("tutorial", n_sites=200, size_px=4, random_state=0).study
    >>> scores = tc.doubly_robust_scores(study, tc.cross_fit(study, random_state=0))
    >>> table = check_balance(study, scores, ["x1"]).table
    >>> bool(abs(table["after"][0]) < abs(table["before"][0]))
    True
    """
    check_count("n_components", n_components)
    unknown = scores.units.difference(study.units)
    if len(unknown):
        raise AlignmentError(
            f"Scores and study must be of the same units; {len(unknown)} of {scores.n_units} are "
            f"not in the study: {list_some(unknown)}."
        )
    arms = arms_of(scores, target, "check_balance")
    parts = _variables(study, columns, n_components)
    rows = []
    for kind, part in parts.items():
        values = check_finite(f"columns ({kind})", part.loc[scores.units])
        before = standardised_differences(values, arms.treatment, arms.weight, arms.weight)
        after = standardised_differences(values, arms.treatment, arms.weight, arms.balancing)
        rows.append(
            pd.DataFrame({"column": part.columns, "kind": kind, "before": before, "after": after})
        )
    if not rows:
        raise RoleError(
            "There is nothing to balance: the study has no covariates, embeddings or coordinates. "
            "Name `columns`."
        )
    limits = tuple(1.96 * _spread(arms, v) for v in (arms.weight, arms.balancing))
    return BalanceCheck(
        pd.concat(rows, ignore_index=True), target, scores.population, (limits[0], limits[1])
    )


def standardised_differences(x: Floats, w: Floats, v: Floats, weight: Floats) -> Floats:
    """Return the differences of the arms' weighted means in units of their standard deviation.

    Parameters
    ----------
    x : ndarray of shape (n_units, n_columns)
    w : ndarray of shape (n_units,)
        Treatment.
    v : ndarray of shape (n_units,)
        Unit weights, for the standard deviations.
    weight : ndarray of shape (n_units,)
        Weights of the means.

    Returns
    -------
    ndarray of shape (n_columns,)
        0 for a column that is the same for all units.

    Examples
    --------
    >>> x, w = np.array([[0.0], [2.0], [2.0], [4.0]]), np.array([0.0, 0, 1, 1])
    >>> standardised_differences(x, w, np.ones(4), np.ones(4)).tolist()
    [2.0]
    """
    gap, variance = np.zeros(x.shape[1]), np.zeros(x.shape[1])
    for arm, sign in ((1, 1.0), (0, -1.0)):
        own = w == arm
        gap += sign * np.average(x[own], axis=0, weights=weight[own])
        centred = x[own] - np.average(x[own], axis=0, weights=v[own])
        variance += np.average(centred**2, axis=0, weights=v[own]) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(gap == 0, 0.0, gap / np.sqrt(variance))


def _spread(arms: Arms, weight: Floats) -> float:
    """Return the standard error of a standardised difference of balanced arms."""
    sizes = [effective_units(weight[arms.treatment == arm]) for arm in (0, 1)]
    return float(np.sqrt(sum(1 / size for size in sizes)))


def _variables(
    study: Study, columns: Sequence[str] | pd.DataFrame | None, n_components: int
) -> dict[str, pd.DataFrame]:
    """Return the variables by kind, one row per unit of the study."""
    if isinstance(columns, pd.DataFrame):
        return {"given": _by_unit(study, columns)}
    if columns is not None:
        names = [columns] if isinstance(columns, str) else list(columns)
        return {"given": _numeric(study.table, names)}
    parts = {"covariate": study.features("outcome", use="covariates")}
    wide = study.table[list(study.embedding_columns)]
    parts["embedding"] = principal_components(wide, n_components)
    if study.coordinates is not None:
        parts["coordinate"] = study.coordinates
    return {kind: part for kind, part in parts.items() if part.shape[1]}


def _by_unit(study: Study, table: pd.DataFrame) -> pd.DataFrame:
    numbers = _numeric(table, list(table.columns))
    if study.units.isin(table.index).all():
        return numbers.loc[study.units]
    sites = study.sites
    if sites is None or not sites.isin(table.index).all():
        n_units = int(study.units.isin(table.index).sum())
        n_sites = 0 if sites is None else int(sites.isin(table.index).sum())
        raise AlignmentError(
            f"`columns` must have a row for each of the {study.n_units} units or for each of their "
            f"sites; its index knows {n_units} of the units and the sites of {n_sites}: "
            f"{list_some(table.index)}."
        )
    return numbers.loc[sites].set_axis(study.units, axis=0)


def _numeric(table: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    absent = [name for name in names if name not in table.columns]
    if absent:
        raise RoleError(
            f"{len(absent)} of `columns` are not in the study's table: {list_some(absent)}. It has "
            f"{list_some(table.columns, 12)}."
        )
    textual = [name for name in names if not pd.api.types.is_numeric_dtype(table[name])]
    if textual:
        raise RoleError(
            f"`columns` must be numbers; {list_some(textual)} are not. Code the categories."
        )
    return table[list(names)].astype("float64")


def principal_components(wide: pd.DataFrame, n_components: int) -> pd.DataFrame:
    """Return principal components of standardised columns, or the columns where there are few.

    Parameters
    ----------
    wide : pandas.DataFrame of shape (n_units, n_columns)
    n_components : int

    Returns
    -------
    pandas.DataFrame of shape (n_units, at most n_components)
        Columns `embedding component 1`, …, the most variable first.

    Examples
    --------
    >>> wide = pd.DataFrame({"a": [0.0, 1, 2], "b": [0.0, 2, 4]})
    >>> principal_components(wide, 1).columns.tolist()
    ['embedding component 1']
    """
    if wide.shape[1] <= n_components:
        return wide
    from sklearn.decomposition import PCA

    values = wide.to_numpy()
    spread = values.std(axis=0)
    spread[spread < 1e-12 * np.maximum(1.0, np.abs(values.mean(axis=0)))] = 1.0
    scaled = (values - values.mean(axis=0)) / spread
    n_components = min(n_components, *scaled.shape)
    found = PCA(n_components, svd_solver="full").fit_transform(scaled)
    names = [f"embedding component {j + 1}" for j in range(n_components)]
    return pd.DataFrame(found, index=wide.index, columns=names)
