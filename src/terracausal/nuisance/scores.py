"""Doubly robust scores: the waist through which everything said about effects passes."""

import warnings
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from terracausal._foundation.checks import check_finite, check_same_index, check_unique
from terracausal._foundation.errors import (
    AlignmentError,
    OverlapError,
    OverlapWarning,
    RoleError,
    list_some,
)
from terracausal.nuisance.cross_fitting import Nuisances
from terracausal.study import Study, UnitFrame
from terracausal.study.result import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Floats = NDArray[np.floating[Any]]
EXTREME = 0.02
_NUMBERS = ("propensity", "outcome_control", "outcome_treated", "outcome", "treatment", "weight")


@dataclass(frozen=True, eq=False)
class Scores(Result):
    """One doubly robust score per unit, with what it was made from.

    The mean of the scores estimates the average effect; regressions and rankings of the scores
    estimate how the effect varies.

    Parameters
    ----------
    table : pandas.DataFrame of shape (n_units, any)
        Indexed by unit. Column score; where known also propensity, outcome_control,
        outcome_treated, outcome, treatment, fold, weight, cluster, stratum, lon and lat.
    population : str, default="all units"
        The units that the scores speak for, in words; trimming changes it.
    notes : tuple of str, default=()
        What was clipped or trimmed, counted.
    assumptions : tuple of str, default=()
        What must hold for averages of the scores to be effects.
    repeats : tuple of Scores, default=()
        The same from other folds and seeds; `average_effect` takes the median over all of them.

    Examples
    --------
    >>> Scores.from_dataframe(pd.DataFrame({"score": [0.1, 0.4, 0.2]})).n_units
    3
    """

    table: pd.DataFrame
    population: str = "all units"
    notes: tuple[str, ...] = ()
    assumptions: tuple[str, ...] = field(default=(), repr=False)
    repeats: "tuple[Scores, ...]" = field(default=(), repr=False)

    @property
    def n_units(self) -> int:
        """Number of units."""
        return len(self.table)

    @property
    def units(self) -> pd.Index:
        """Unit keys."""
        return self.table.index

    @property
    def score(self) -> "pd.Series[float]":
        """The doubly robust scores."""
        return self.table["score"]

    @property
    def weight(self) -> Floats:
        """Unit weights with mean one, of shape (n_units,)."""
        if "weight" not in self.table:
            return np.ones(self.n_units)
        weight = self.table["weight"].to_numpy(dtype=np.float64)
        return np.asarray(weight / weight.mean())

    @cached_property
    def frame(self) -> UnitFrame:
        """The units, their clusters and coordinates, as an `Estimate` carries them."""
        has_place = {"lon", "lat"} <= set(self.table.columns)
        return UnitFrame(
            self.units,
            self.table.get("cluster"),
            self.table[["lon", "lat"]] if has_place else None,
            self.table.get("treatment"),
        )

    def column(self, name: str, needed_by: str) -> Floats:
        """Return a column of numbers, or say that it is missing and who needs it.

        Parameters
        ----------
        name : str
        needed_by : str
            What needs it, for the message.

        Returns
        -------
        ndarray of shape (n_units,)
        """
        if name not in self.table.columns:
            raise RoleError(
                f"{needed_by} needs the column {name!r}, which these scores do not have; they have "
                f"{list_some(self.table.columns, 12)}. Add it to the table, or compute the scores "
                "with doubly_robust_scores."
            )
        return self.table[name].to_numpy(dtype=np.float64)

    @classmethod
    def from_dataframe(
        cls, table: pd.DataFrame, cluster: str | ArrayLike | None = None
    ) -> "Scores":
        """Read scores from a table, also one made by another package.

        Parameters
        ----------
        table : pandas.DataFrame of shape (n_units, any)
            Indexed by unit. Only the column score is required.
        cluster : str or array-like of shape (n_units,), default=None
            Column with the clusters, or the clusters; None takes the column cluster if there is
            one. A Series is aligned by unit.

        Returns
        -------
        Scores
        """
        if "score" not in table.columns:
            raise RoleError(
                f"The table needs a column 'score'; it has {list_some(table.columns, 12)}. "
                "Rename the column that holds the doubly robust scores."
            )
        check_unique("The index of the table (the unit keys)", table.index)
        if len(table) < 2:
            raise RoleError(f"Scores need at least 2 units; the table has {len(table)}.")
        table = table.copy()
        for name in ("score", *_NUMBERS):
            if name in table.columns:
                table[name] = check_finite(name, table[name])
        if "propensity" in table.columns:
            check_propensity(table["propensity"])
        if "treatment" in table.columns and not set(table["treatment"].unique()) <= {0.0, 1.0}:
            found = list_some(sorted(table["treatment"].unique()))
            raise RoleError(f"The column 'treatment' must hold 0 and 1; found {found}.")
        if "weight" in table.columns and (table["weight"].min() < 0 or not table["weight"].any()):
            raise RoleError(
                "The column 'weight' must not be negative, nor all zero; the smallest is "
                f"{table['weight'].min():g}."
            )
        if cluster is not None:
            table["cluster"] = _cluster_labels(table, cluster)
        if "cluster" in table.columns and table["cluster"].isna().any():
            missing = table.index[table["cluster"].isna()]
            raise RoleError(f"{len(missing)} units have no cluster: {list_some(missing)}.")
        return cls(table)

    def to_dataframe(self) -> pd.DataFrame:
        """Return a copy of the table, which `from_dataframe` reads back."""
        return self.table.copy()

    def summary(self) -> str:
        """Return overlap and what was clipped or trimmed, as text."""
        lines = [f"Doubly robust scores of {self.n_units:,} units ({self.population})"]
        n_clusters = self.frame.n_clusters
        if n_clusters is not None:
            lines.append(f"  clusters    {n_clusters:,}")
        lines.append(f"  score       mean {self.score.mean():.4f}, SD {self.score.std():.4f}")
        if {"propensity", "treatment"} <= set(self.table.columns):
            lines.append(f"  overlap     {describe_overlap(self.table['propensity'])}")
            lines.append(f"              {_effective_sizes(self.table)}")
        if self.repeats:
            lines.append(f"  repeats     {1 + len(self.repeats)}, of which this is the first")
        lines += [f"  note        {note}" for note in self.notes]
        return "\n".join(lines)

    def plot(self, ax: "Axes | None" = None) -> "Axes":
        """Draw the propensities of both arms.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, default=None
            Where to draw; None makes a new figure.

        Returns
        -------
        matplotlib.axes.Axes
        """
        from terracausal.plotting import plot_overlap

        propensity = self.column("propensity", "The overlap plot")
        return plot_overlap(propensity, self.column("treatment", "The overlap plot"), ax=ax)


def doubly_robust_scores(
    study: Study, nuisances: Nuisances, *, clip: float | None = None, trim: float | None = None
) -> Scores:
    """Combine nuisances and data into one score per unit whose mean is the average effect.

    ``mu1 - mu0 + w (y - mu1) / e - (1 - w) (y - mu0) / (1 - e)``, which is consistent when either
    the outcome surfaces or the propensity is right.

    Parameters
    ----------
    study : Study
    nuisances : Nuisances
        From `cross_fit` on the same study.
    clip : float, default=None
        Set propensities below `clip` to `clip`, and those above ``1 - clip`` to that; a small bias
        for less variance. Counted in the notes.
    trim : float, default=None
        Leave out units with a propensity (its median, where cross-fitting was repeated) below
        `trim` or above ``1 - trim``. This changes the population that averages speak for, and
        `population` says so.

    Returns
    -------
    Scores

    Notes
    -----
    Robins, Rotnitzky & Zhao (1994), JASA 89(427), doi:10.1080/01621459.1994.10476818. Assumes no
    unmeasured confounding given the features, overlap, and no interference between clusters.

    Examples
    --------
    >>> import terracausal as tc
    >>> study = tc.simulate_study(n_sites=40, random_state=0).study
    >>> scores = tc.doubly_robust_scores(study, tc.cross_fit(study, random_state=0))
    >>> scores.n_units == study.n_units
    True
    """
    check_same_index("nuisances", nuisances.table.index, study.units)
    if nuisances.outcome not in (None, study.roles.outcome):
        raise AlignmentError(
            f"The nuisances predict the outcome {nuisances.outcome!r}; the study is about "
            f"{study.roles.outcome!r}. Run cross_fit on this study."
        )
    for name, edge in (("clip", clip), ("trim", trim)):
        if edge is not None and not 0 < edge < 0.5:
            raise ValueError(f"`{name}` must lie strictly between 0 and 0.5; got {edge!r}.")
    runs = (nuisances, *nuisances.repeats)
    propensity = pd.concat([run.propensity.loc[study.units] for run in runs], axis=1)
    kept = pd.Series(data=True, index=study.units)
    if trim is not None:
        # before clipping, which would move everybody inside
        kept = propensity.median(axis=1).between(trim, 1 - trim)
        if not kept.any():
            raise OverlapError(f"No unit has a propensity within [{trim:g}, {1 - trim:g}].")
    first, *others = (_scores_of(study, run, kept, clip, trim) for run in runs)
    _warn_of_poor_overlap(
        pd.concat([found.table["propensity"] for found in (first, *others)], axis=1).median(axis=1)
    )
    return replace(first, repeats=tuple(others))


def _scores_of(
    study: Study,
    nuisances: Nuisances,
    kept: "pd.Series[bool]",
    clip: float | None,
    trim: float | None,
) -> Scores:
    """Return the scores of the kept units from one run of cross-fitting."""
    table = nuisances.table.loc[study.units].copy()
    population, notes = "all units", list(study.notes)
    if trim is not None:
        notes.append(f"{int((~kept).sum())} units outside were trimmed")
        population = f"units with a propensity within [{trim:g}, {1 - trim:g}]"
    if clip is not None:
        outside = int(((table["propensity"] < clip) | (table["propensity"] > 1 - clip)).sum())
        table["propensity"] = table["propensity"].clip(clip, 1 - clip)
        notes.append(f"{outside} propensities were clipped to {clip:g} and {1 - clip:g}")
    check_propensity(table.loc[kept, "propensity"])
    for name in ("outcome_control", "outcome_treated"):
        # NaN where every tree of a small forest drew the unit
        check_finite(f"nuisances.table[{name!r}]", table.loc[kept, name])
    y, w = study.outcome.to_numpy(), study.treatment.to_numpy()
    e, mu0, mu1 = (
        table[name].to_numpy() for name in ("propensity", "outcome_control", "outcome_treated")
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        # a trimmed unit may have a propensity of 0 or 1; its score is not kept
        table.insert(0, "score", aipw_scores(y, w, e, mu0, mu1))
    table["outcome"], table["treatment"] = y, w
    optional: dict[str, Any] = {
        "weight": study.weight,
        "cluster": study.clusters,
        "stratum": study.strata,
    }
    for name, values in optional.items():
        if values is not None:
            table[name] = values
    if study.coordinates is not None:
        table[["lon", "lat"]] = study.coordinates
    assumptions = _assumptions(nuisances.propensity_known)
    return Scores(table.loc[kept], population, tuple(notes), assumptions)


def aipw_scores(y: Floats, w: Floats, e: Floats, mu0: Floats, mu1: Floats) -> Floats:
    """Return augmented inverse-propensity scores.

    Parameters
    ----------
    y, w : ndarray of shape (n_units,)
        Outcome and treatment.
    e : ndarray of shape (n_units,)
        Propensity.
    mu0, mu1 : ndarray of shape (n_units,)
        Predicted outcomes without and with treatment.

    Returns
    -------
    ndarray of shape (n_units,)

    Examples
    --------
    >>> one = np.ones(1)
    >>> aipw_scores(3 * one, one, 0.5 * one, 0 * one, 2 * one).tolist()
    [4.0]
    """
    return mu1 - mu0 + w * (y - mu1) / e - (1 - w) * (y - mu0) / (1 - e)


def describe_overlap(propensity: "pd.Series[float]") -> str:
    """Return the range of the propensities and the share of extreme ones, in words."""
    extreme = float(((propensity < EXTREME) | (propensity > 1 - EXTREME)).mean())
    return (
        f"propensities {propensity.min():.3f} to {propensity.max():.3f}; "
        f"{extreme:.1%} of units below {EXTREME:g} or above {1 - EXTREME:g}"
    )


def _effective_sizes(table: pd.DataFrame) -> str:
    """Return Kish's effective number of units in each arm, in words."""
    w, e = table["treatment"].to_numpy(), table["propensity"].to_numpy()
    told = []
    for word, own, balancing in (("treated", w == 1, 1 / e), ("control", w == 0, 1 / (1 - e))):
        size = balancing[own].sum() ** 2 / (balancing[own] ** 2).sum() if own.any() else 0.0
        told.append(f"{size:,.0f} of {int(own.sum()):,} {word}")
    return f"effective units after balancing: {', '.join(told)}"


def _warn_of_poor_overlap(propensity: "pd.Series[float]") -> None:
    extreme = (propensity < EXTREME) | (propensity > 1 - EXTREME)
    if extreme.any():
        warnings.warn(
            f"{extreme.mean():.1%} of units have a propensity below {EXTREME:g} or above "
            f"{1 - EXTREME:g} (min {propensity.min():.4f}, max {propensity.max():.4f}). Their "
            "scores carry huge weight. Consider target='overlap' or, for conditional effects, "
            "RLearner; or trim=0.05, which changes the estimand.",
            OverlapWarning,
            stacklevel=3,
        )


def check_scores(scores: Any) -> None:
    """Refuse anything but scores, such as the study that they come from."""
    if not isinstance(scores, Scores):
        raise TypeError(
            f"Expected Scores, from doubly_robust_scores(study, nuisances) or "
            f"Scores.from_dataframe; got a {type(scores).__name__}."
        )


def check_propensity(propensity: "pd.Series[float]") -> None:
    """Refuse propensities of 0 and 1."""
    bad = (propensity <= 0) | (propensity >= 1)
    if bad.any():
        raise OverlapError(
            f"Propensities must lie strictly between 0 and 1; {int(bad.sum())} of {len(bad)} do "
            f"not: units {list_some(propensity.index[bad])}. Trim these units (trim=0.05), clip "
            "(clip=0.01), or use a learner with calibrated probabilities, such as the default."
        )


def _cluster_labels(table: pd.DataFrame, cluster: str | ArrayLike) -> Any:
    if isinstance(cluster, str):
        if cluster not in table.columns:
            raise RoleError(
                f"The cluster column {cluster!r} is not in the table, which has "
                f"{list_some(table.columns, 12)}."
            )
        return table[cluster]
    if isinstance(cluster, pd.Series):
        check_same_index("cluster", cluster.index, table.index)
        return cluster.loc[table.index]
    labels = np.asarray(cluster)
    if labels.shape != (len(table),):
        raise AlignmentError(
            f"`cluster` must have one label per unit, shape ({len(table)},); got {labels.shape}."
        )
    return labels


def _assumptions(propensity_known: bool) -> tuple[str, ...]:
    assigned = (
        "treatment was randomised with the stated propensity"
        if propensity_known
        else "no unmeasured confounding given the features (met by design in an RCT)"
    )
    return (assigned, "overlap: every unit could have been in either arm", "no interference")
