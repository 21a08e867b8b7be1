"""Intervals for the effects of single units, calibrated on whole held-out clusters."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import clone

from terracausal._foundation.checks import check_count, check_fraction
from terracausal._foundation.errors import RoleError
from terracausal._foundation.progress import track
from terracausal._foundation.randomness import RandomState, random_generator
from terracausal.effects.cross_prediction import fold_masks
from terracausal.effects.learner import EffectLearner, check_effect_learner, check_outcome_varies
from terracausal.effects.origin import ORIGIN, EffectOrigin
from terracausal.nuisance import cross_fit, doubly_robust_scores
from terracausal.study import Folds, Study
from terracausal.study.result import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Floats = NDArray[np.floating[Any]]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class ConformalIntervals(Result):
    """A predicted effect and an interval for each unit.

    Parameters
    ----------
    table : pandas.DataFrame of shape (n_rows, 3)
        Columns cate, ci_low and ci_high, by row.
    level : float
        What the intervals claim to cover.
    half_width : tuple of float
        Half the width of the intervals, for each split.
    n_calibration : tuple of int
        Clusters (units, where there are none) that calibrated each split.
    clustered : bool
        Whether whole clusters were held out.
    learner : str
        The learner, with its settings.

    Examples
    --------
    >>> table = pd.DataFrame({"cate": [0.5], "ci_low": [-1.5], "ci_high": [2.5]})
    >>> found = ConformalIntervals(table, 0.9, (2.0,), (40,), True, "DRLearner()")
    >>> found.share_above_zero
    0.0
    """

    table: pd.DataFrame = field(repr=False)
    level: float
    half_width: tuple[float, ...]
    n_calibration: tuple[int, ...]
    clustered: bool
    learner: str

    @property
    def share_above_zero(self) -> float:
        """Share of rows whose interval lies above 0."""
        return float((self.table["ci_low"] > 0).mean())

    def to_dataframe(self) -> pd.DataFrame:
        """Return a copy of the table."""
        return self.table.copy()

    def summary(self) -> str:
        """Return what the intervals are, and what they cover, as text."""
        what = "clusters" if self.clustered else "units"
        whole = "whole held-out" if self.clustered else "held-out"
        ends = sorted({f"{min(self.half_width):.4g}", f"{max(self.half_width):.4g}"}, key=float)
        return "\n".join(
            [
                f"Conformal intervals for the effects of {len(self.table):,} single units",
                f"  learner     {' '.join(self.learner.split())}",
                f"  half width  {' to '.join(ends)}; level {self.level:.0%}",
                f"  calibrated  on {min(self.n_calibration):,} {whole} {what} per split",
                f"  above 0     {self.share_above_zero:.1%} of the intervals",
                f"  covers      the doubly robust score of a unit of a new {what[:-1]}, with "
                f"probability {self.level:.0%} or more",
                "              the effect of such a unit at high levels only (see the "
                "documentation); not its mean effect",
                f"  assumes     {what} are exchangeable: a new one could have been in the study",
                "  assumes     no unmeasured confounding, overlap, no interference",
            ]
        )

    def plot(self, ax: "Axes | None" = None) -> "Axes":
        """Draw the intervals, sorted by the predicted effect.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, default=None
            Where to draw; None makes a new figure.

        Returns
        -------
        matplotlib.axes.Axes
        """
        from terracausal.plotting import plot_unit_intervals

        return plot_unit_intervals(self.table, ax=ax)


def conformal_intervals(
    learner: EffectLearner,
    study: Study,
    table: pd.DataFrame | Study | None = None,
    *,
    level: float = 0.9,
    n_folds: int = 5,
    outcome_learner: Any = None,
    propensity_learner: Any = None,
    random_state: RandomState = None,
) -> ConformalIntervals:
    """Predict the effect of each unit with an interval for the effect of that single unit.

    Clusters are split into those that train the learner and those that calibrate it: the interval
    is the prediction plus and minus a quantile of ``|score - prediction|`` over the latter, where
    the score is doubly robust with nuisances of the former.

    Parameters
    ----------
    learner : EffectLearner
        Its settings; it is fitted anew.
    study : Study
    table : pandas.DataFrame of shape (n_rows, any), or Study, default=None
        New units, of clusters that are not in the study: one split, with one fold for calibration.
        None gives the units of the study; the intervals of each fold come from a learner that was
        trained and calibrated on other folds.
    level : float, default=0.9
        Share of units to cover.
    n_folds : int, default=5
        Folds of whole clusters; at least 3 for the units of the study.
    outcome_learner : str or scikit-learn estimator, default=None
        For the scores, as in `cross_fit`.
    propensity_learner : str or scikit-learn classifier, default=None
        For the scores, as in `cross_fit`; not used where the study knows its propensity.
    random_state : None, int or Generator, default=None
        Seed of folds and learners without one of their own.

    Returns
    -------
    ConformalIntervals

    Raises
    ------
    RoleError
        Too few clusters calibrate for the level; raised before anything is trained.

    Notes
    -----
    What is covered. (1) The *score* of a unit from a new cluster, in at least `level` of the cases
    and for any sample size, if clusters are exchangeable. Each cluster counts the same, as in Lee,
    Barber & Willett (2023), Distribution-free inference with hierarchical data, arXiv:2306.06342.
    (2) The *effect* of that unit, which nobody sees: the score is the effect plus noise, so its
    distances from the prediction are more spread out, and Alaa, Ahmad & van der Laan (2023),
    Conformal meta-learners for predictive inference of individual treatment effects, NeurIPS 36,
    show for known propensities that the intervals then cover effects too once `level` is high
    enough; how high is not known in advance. Intervals are therefore wide, and cover effects more
    often than they say in most worlds. They hold on average over units, not for each kind of unit,
    and say nothing about the *mean* effect of similar units, for which `LinearDRLearner` and
    `CausalForest` have confidence intervals.

    Examples
    --------
    >>> import terracausal as tc
    >>> study = tc.simulate_study(n_sites=60, random_state=0).study
    >>> found = conformal_intervals(tc.TLearner(), study, n_folds=3, random_state=0)
    >>> found.table.columns.tolist()
    ['cate', 'ci_low', 'ci_high']
    """
    check_effect_learner("`learner`", learner)
    check_fraction("level", level)
    check_count("n_folds", n_folds, minimum=3 if table is None else 2)
    check_outcome_varies(study)
    rng = random_generator(random_state)
    folds = study.folds(n_folds, random_state=rng)
    _check_calibration(study, folds, level)
    held_out = [test for _, test in fold_masks(study, folds)]
    parts, facts = [], []
    rows = [None] if table is not None else held_out
    words = f"calibrating {type(learner).__name__}"
    for k, target in enumerate(track(rows, words)):
        calibrate = held_out[(k + 1) % n_folds]
        train = ~calibrate if target is None else ~(calibrate | target)
        new = table if target is None else study.table.loc[target]
        fitted = clone(learner).fit(study.subset(train))
        scores = _new_scores(study, train, calibrate, outcome_learner, propensity_learner, rng)
        distance = np.abs(scores - fitted.predict(study.table.loc[calibrate]).to_numpy())
        half, n_groups = calibrated_width(study, calibrate, distance, level)
        facts.append((half, n_groups))
        effects = fitted.predict(new)
        columns = {"cate": effects, "ci_low": effects - half, "ci_high": effects + half}
        parts.append(pd.DataFrame(columns))
    found = pd.concat(parts)
    origin = EffectOrigin(repr(learner), trained_on=study.units)
    if table is None:
        found = found.loc[study.units]
        origin = EffectOrigin(repr(learner), folds=folds.labels)
    found.attrs[ORIGIN] = origin
    widths, counts = zip(*facts, strict=True)
    return ConformalIntervals(
        found, level, widths, counts, study.clusters is not None, repr(learner)
    )


def _new_scores(
    study: Study,
    train: Mask,
    calibrate: Mask,
    outcome_learner: Any,
    propensity_learner: Any,
    rng: np.random.Generator,
) -> Floats:
    """Return the scores of calibration units, with nuisances of training units only."""
    part = study.subset(train | calibrate)
    labels: Any = pd.Series(calibrate.astype(np.int64), study.units).loc[part.units]
    nuisances = cross_fit(
        part,
        Folds(labels, pd.DataFrame({"fold": [0, 1]})),
        outcome_learner=outcome_learner,
        propensity_learner=propensity_learner,
        random_state=rng,
    )
    return np.asarray(doubly_robust_scores(part, nuisances).score[labels == 1])


def calibrated_width(
    study: Study, calibrate: Mask, distance: Floats, level: float
) -> tuple[float, int]:
    """Return the quantile of the distances that covers a unit of a new cluster.

    Parameters
    ----------
    study : Study
    calibrate : ndarray of bool of shape (n_units,)
    distance : ndarray of shape (n_calibrate,)
        Of each calibration unit.
    level : float

    Returns
    -------
    half_width : float
    n_groups : int
        Clusters that calibrated; units where there are none.
    """
    units, weight = study.units[calibrate], study.weight
    v = np.ones(len(units)) if weight is None else weight.loc[units].to_numpy()
    clusters = study.clusters
    codes = np.arange(len(units))
    if clusters is not None:
        codes = pd.factorize(clusters.loc[units])[0]
    return hierarchical_quantile(distance, codes, v, level), int(codes.max()) + 1


def hierarchical_quantile(
    distance: Floats, cluster: NDArray[np.int64], weight: Floats, level: float
) -> float:
    """Return the conformal quantile in which each cluster counts once.

    The mass of a cluster is 1 / (K + 1), spread over its units by weight, and a further one, for
    the new cluster, lies at infinity.

    Parameters
    ----------
    distance, weight : ndarray of shape (n,)
    cluster : ndarray of shape (n,)
        Codes from 0 to K - 1.
    level : float

    Returns
    -------
    float
        Infinite where K / (K + 1) is below the level.

    Examples
    --------
    >>> distance = np.arange(1.0, 10.0)
    >>> hierarchical_quantile(distance, np.arange(9), np.ones(9), 0.8)
    8.0
    """
    n_clusters = int(cluster.max()) + 1
    total = np.bincount(cluster, weights=weight, minlength=n_clusters)
    mass = weight / np.where(total > 0, total, 1.0)[cluster] / ((total > 0).sum() + 1)
    order = np.argsort(distance, kind="stable")
    reached = np.cumsum(mass[order]) >= level - 1e-12
    return float(distance[order][np.argmax(reached)]) if reached.any() else float("inf")


def _check_calibration(study: Study, folds: Folds, level: float) -> None:
    """Refuse a level that the clusters of a fold cannot reach with a finite interval."""
    groups = folds.labels.index.to_series() if study.clusters is None else study.clusters
    counts = groups.groupby(folds.labels.loc[groups.index].to_numpy()).nunique()
    least = int(counts.min())
    if least / (least + 1) < level:
        what = "units" if study.clusters is None else "clusters"
        needed = int(np.ceil(level / (1 - level) - 1e-9))
        raise RoleError(
            f"A level of {level:g} needs at least {needed} {what} to calibrate on; the smallest of "
            f"{folds.n_folds} folds has {least}. Use fewer folds or a lower level."
        )
