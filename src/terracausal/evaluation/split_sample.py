"""Inference on effect heterogeneity from many splits in half (Chernozhukov et al.)."""

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from sklearn.base import clone

from terracausal._foundation.checks import check_count, check_fraction
from terracausal._foundation.errors import RoleError
from terracausal._foundation.progress import track
from terracausal._foundation.randomness import (
    RandomState,
    canonical_order,
    draw_seed,
    random_generator,
)
from terracausal.effects import DRLearner, EffectLearner
from terracausal.effects.learner import check_effect_learner
from terracausal.effects.learner import check_outcome_varies as check_study_varies
from terracausal.effects.least_squares import regression_estimate
from terracausal.evaluation.group_comparison import check_columns_vary, difference_of_means
from terracausal.evaluation.group_estimates import (
    CellError,
    check_cells,
    cut_groups,
    group_estimates,
)
from terracausal.evaluation.priorities import Priority, check_outcome_varies, numeric_columns
from terracausal.nuisance import Scores, cross_fit, doubly_robust_scores
from terracausal.study import Estimate, Study
from terracausal.study.result import TabularResult, tidy_table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Floats = NDArray[np.floating[Any]]
PROJECTION = ("mean effect", "heterogeneity")
CONTRAST = "highest less lowest"
_TRIES = 20


@dataclass(frozen=True, eq=False)
class SplitSampleInference(TabularResult):
    """Medians over splits: projection on the proxy, effects of groups, and who is in them.

    Parameters
    ----------
    estimates, errors : ndarray of shape (n_splits, n_terms)
        Estimates on the main half of each split, and their standard errors, given the other half.
    degrees_of_freedom : ndarray of shape (n_splits,)
    terms : tuple of str
        "mean effect", "heterogeneity", "group 1", …, "highest less lowest", and the columns that
        are compared.
    n_groups : int
    means : pandas.DataFrame
        By column: medians of the means `lowest` and `highest`.
    fit : tuple of float
        Medians of how much of the effect the proxy and its groups tell, to compare learners:
        ``coefficient² × variance of the proxy``, and the mean square of the group effects.
    learner : str
    n_units : int
    n_clusters : int, default=None
        None where units are independent.
    n_flat : int, default=0
        Splits in which the proxy was constant.
    n_redrawn : int, default=0
        Halvings that were drawn anew, since a group had one arm only.
    assumptions : tuple of str, default=()

    Examples
    --------
    >>> terms = ("mean effect", "heterogeneity", "group 1", "group 2", "highest less lowest")
    >>> one = np.ones((3, 5))
    >>> found = SplitSampleInference(
    ...     2 * one, one, np.full(3, np.inf), terms, 2, pd.DataFrame(), (0.0, 0.0), "x", 100
    ... )
    >>> found.value.tolist()
    [2.0, 2.0, 2.0, 2.0, 2.0]
    """

    estimates: Floats = field(repr=False)
    errors: Floats = field(repr=False)
    degrees_of_freedom: Floats = field(repr=False)
    terms: tuple[str, ...]
    n_groups: int
    means: pd.DataFrame = field(repr=False)
    fit: tuple[float, float]
    learner: str
    n_units: int
    n_clusters: int | None = None
    n_flat: int = 0
    n_redrawn: int = 0
    assumptions: tuple[str, ...] = ()

    @property
    def n_splits(self) -> int:
        """Number of splits."""
        return len(self.estimates)

    @property
    def value(self) -> Floats:
        """Medians of the estimates, of shape (n_terms,)."""
        return np.asarray(np.median(self.estimates, axis=0))

    @property
    def std_error(self) -> Floats:
        """Medians of the standard errors, of shape (n_terms,)."""
        return np.asarray(np.median(self.errors, axis=0))

    @property
    def p_value(self) -> Floats:
        """Twice the median of the two-sided p-values of "the term is 0", of shape (n_terms,).

        The heterogeneity term is "the proxy says nothing about effects".
        """
        size = np.where(self.errors > 0, self.errors, np.inf)
        p_values = 2 * stats.t.sf(np.abs(self.estimates / size), self.degrees_of_freedom[:, None])
        return np.asarray(np.minimum(2 * np.median(p_values, axis=0), 1.0))

    def confint(self, level: float = 0.95) -> Floats:
        """Return the medians of the ends of intervals whose error is half as large.

        Parameters
        ----------
        level : float, default=0.95
            Coverage; 0.95 takes the medians of 97.5 % intervals.

        Returns
        -------
        ndarray of shape (n_terms, 2)
        """
        tail = (1 - check_fraction("level", level)) / 4
        half = stats.t.isf(tail, self.degrees_of_freedom)[:, None] * self.errors
        ends = self.estimates - half, self.estimates + half
        return np.column_stack([np.median(end, axis=0) for end in ends])

    def to_dataframe(self, level: float = 0.95) -> pd.DataFrame:
        """Return one row per term.

        Parameters
        ----------
        level : float, default=0.95
            Coverage of the intervals.

        Returns
        -------
        pandas.DataFrame
            The tidy columns of an estimate, `p_value`, and `part`: "projection", "groups" or
            "comparison".
        """
        n_columns = len(self.terms) - 2 - self.n_groups - 1
        parts = ["projection"] * 2 + ["groups"] * (self.n_groups + 1) + ["comparison"] * n_columns
        return tidy_table(
            self.terms,
            self.value,
            self.std_error,
            self.confint(level),
            level=level,
            n_units=self.n_units,
            n_clusters=self.n_clusters or self.n_units,
            p_value=self.p_value,
            part=parts,
        )

    def summary(self, level: float = 0.95) -> str:
        """Return all terms and how they were found, as text.

        Parameters
        ----------
        level : float, default=0.95
            Coverage of the intervals.

        Returns
        -------
        str
        """
        lines = [f"Effect heterogeneity, medians over {self.n_splits} splits in half"]
        for row in self.to_dataframe(level).itertuples():
            means = ""
            if row.part == "comparison":
                low, high = self.means.loc[str(row.term)]
                means = f"; means {high:.4g} and {low:.4g}"
            lines.append(
                f"  {row.term:<24} {row.estimate:.4f}, {level:.0%} interval {row.ci_low:.4f} to "
                f"{row.ci_high:.4f}, p = {row.p_value:.3g}{means}"
            )
        units = f"{self.n_clusters:,} clusters" if self.n_clusters else "independent units"
        lines += [
            f"  proxy       {self.learner}, on one half of {units}; {self.n_units:,} units",
            f"  fit         proxy {self.fit[0]:.4g}, its groups {self.fit[1]:.4g}",
            "  adjusted    intervals and p-values count that the split is random (error doubled)",
        ]
        if self.n_flat:
            lines.append(f"  flat        the proxy was constant in {self.n_flat} splits")
        if self.n_redrawn:
            lines.append(f"  redrawn     {self.n_redrawn} halvings, as a group had one arm only")
        lines += [f"  assumes     {text}" for text in self.assumptions]
        return "\n".join(lines)

    def plot(self, ax: "Axes | None" = None) -> "Axes":
        """Draw the effects of the groups with their intervals.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, default=None
            Where to draw; None makes a new figure.

        Returns
        -------
        matplotlib.axes.Axes
        """
        from terracausal.plotting import plot_intervals

        table = self.to_dataframe()
        return plot_intervals(table[table["part"] == "groups"], ax=ax)


def split_sample_inference(
    study: Study,
    learner: EffectLearner | None = None,
    columns: "pd.DataFrame | pd.Series[Any] | ArrayLike | None" = None,
    *,
    scores: Scores | None = None,
    n_splits: int = 100,
    n_groups: int = 5,
    n_jobs: int = 1,
    random_state: RandomState = None,
) -> SplitSampleInference:
    """Ask one half of the clusters how effects vary, test it on the other, and repeat.

    In each split the effect learner is fitted on the auxiliary half and predicts the main half,
    where its predictions (the *proxy*) are taken as given: scores are regressed on the proxy,
    averaged in groups by it, and columns compared between the extreme groups.

    Parameters
    ----------
    study : Study
    learner : EffectLearner, default=None
        Fitted on each auxiliary half; None is `DRLearner`. Unset seeds are drawn.
    columns : pandas.DataFrame, pandas.Series or array-like of shape (n_units, n_columns)
        What is compared between the most and the least affected units: covariates, band statistics,
        land cover, regions, … None (default) compares nothing.
    scores : Scores, default=None
        None makes them in each split, with nuisances from the auxiliary half only (`cross_fit` with
        its defaults), so that everything but the main half's data is given. Scores of the whole
        study save time; their nuisances have seen other main units, which matters little where the
        propensity is known.
    n_splits : int, default=100
        An even number: each random halving gives two splits, since each half is main once.
    n_groups : int, default=5
        Groups of equal weight by the proxy.
    n_jobs : int, default=1
        Halvings fitted side by side; the numbers do not depend on it.
    random_state : None, int or Generator, default=None
        Seed.

    Returns
    -------
    SplitSampleInference

    Raises
    ------
    RoleError
        There are fewer than 4 clusters, or a group lacks an arm in 20 halvings in a row.

    Notes
    -----
    Chernozhukov, Demirer, Duflo & Fernández-Val (2025), Fisher-Schultz lecture: generic machine
    learning inference on heterogeneous treatment effects in randomized experiments, Econometrica
    93(4), doi:10.3982/ECTA19303. Given the auxiliary half, the estimates of the main half are
    ordinary ones of fixed quantities, whatever the learner, so this needs neither the out-of-bag
    argument of `calibration_test` for forests nor the widening for cross-fitted priorities. The
    price is that half of the clusters learn and half of them test, so power is lower.

    Terms "mean effect" and "heterogeneity" are the coefficients of the regression of scores on the
    proxy less its mean (the best linear predictor of the effect; 1 where the proxy is the effect);
    theirs weighs outcomes, ours takes doubly robust scores, which also serve where the propensity
    is estimated. The estimate is the median over splits; the interval has the medians of ends of
    intervals with half the error; p-values are twice the median. Both are valid for any number of
    splits and are conservative. They speak about proxies that are learned on half of the clusters.

    A halving in which some group has one arm only is drawn anew, and counted. A constant proxy
    knows no heterogeneity: its split counts with an estimate of 0, an infinite
    interval and a p-value of 1, and groups its units at random.

    Examples
    --------
    >>> import terracausal as tc
    >>> from terracausal.simulate import WorldSettings
    >>> data = tc.simulate_study(n_sites=60, settings=WorldSettings(effect_sd=1), random_state=0)
    >>> embeddings = tc.BandStatisticsEncoder().fit_transform(data.chips)
    >>> study = data.study.join(embeddings, role="modifier")
    >>> learner = tc.DRLearner(n_folds=2)
    >>> found = split_sample_inference(study, learner, n_splits=4, n_groups=2, random_state=0)
    >>> found.terms
    ('mean effect', 'heterogeneity', 'group 1', 'group 2', 'highest less lowest')
    """
    check_count("n_splits", n_splits, minimum=2)
    check_count("n_groups", n_groups, minimum=2)
    if n_splits % 2:
        raise ValueError(
            f"`n_splits` must be even, since each halving gives two splits; got {n_splits}."
        )
    learner = DRLearner() if learner is None else learner
    check_effect_learner("`learner`", learner)
    check_study_varies(study)
    if n_groups > study.n_units // 2:
        raise RoleError(
            f"There must not be more groups than units in a half; got {n_groups} groups for "
            f"{study.n_units // 2} units. Use fewer groups."
        )
    n_clusters = study.n_clusters or study.n_units
    if n_clusters < 4:
        raise RoleError(
            f"Each half needs at least 2 clusters for an error; the study has {n_clusters}."
        )
    if scores is not None:
        check_outcome_varies(scores)
    table = None
    if columns is not None:
        reference = Scores.from_dataframe(pd.DataFrame({"score": 0.0}, index=study.units))
        table = numeric_columns(reference, columns, drop_first=False)
        check_columns_vary(table, np.ones(len(table)))
    work = _Work(study, learner, scores, table, n_groups)
    children = random_generator(random_state).spawn(n_splits // 2)
    run = Parallel(n_jobs=n_jobs, return_as="generator")(
        delayed(work.halve)(child, number) for number, child in enumerate(children)
    )
    halvings = track(run, "splitting in half", len(children))
    return _result_of(work, [split for pair in halvings for split in pair])


class _Split(NamedTuple):
    """What the main half of one split says."""

    estimate: Floats
    error: Floats
    degrees_of_freedom: float
    means: Floats
    fit: tuple[float, float]
    flat: bool
    assumptions: tuple[str, ...]
    n_redrawn: int = 0


class _Work(NamedTuple):
    """What every split needs."""

    study: Study
    learner: EffectLearner
    scores: Scores | None
    columns: pd.DataFrame | None
    n_groups: int

    def halve(self, rng: np.random.Generator, number: int) -> list[_Split]:
        """Split in half, again where a group lacks an arm, and let each half be main."""
        try:
            for attempt in range(_TRIES):
                try:
                    pair = self._halve_once(rng, number)
                except CellError:
                    if attempt == _TRIES - 1:
                        raise
                else:
                    return [split._replace(n_redrawn=attempt) for split in pair]
        except Exception as error:
            error.add_note(f"while splitting in half, halving {number}")
            raise
        return []

    def _halve_once(self, rng: np.random.Generator, number: int) -> list[_Split]:
        folds = self.study.folds(2, random_state=rng)
        learner = clone(self.learner)
        if "random_state" in learner.get_params() and learner.random_state is None:
            learner.set_params(random_state=draw_seed(rng))
        proxy = learner.cross_predict(self.study, folds)
        if self.scores is None:
            nuisances = cross_fit(self.study, folds, random_state=rng)
            scores = doubly_robust_scores(self.study, nuisances)
        else:
            # repeats take turns, since the result is a median anyway
            runs = (self.scores, *self.scores.repeats)
            scores = runs[number % len(runs)]
        label = folds.labels.loc[scores.units].to_numpy()
        return [self._main(scores, proxy, label == half, rng) for half in (0, 1)]

    def _main(
        self,
        scores: Scores,
        proxy: "pd.Series[float]",
        main: NDArray[np.bool_],
        rng: np.random.Generator,
    ) -> _Split:
        own = replace(scores, table=scores.table.loc[main], repeats=())
        values, v = proxy.loc[own.units].to_numpy(copy=True), own.weight
        mean = np.average(values, weights=v)
        variance = float(np.average((values - mean) ** 2, weights=v))
        flat = bool(np.ptp(values) <= 1e-12 * np.abs(values).max(initial=0.0))
        slope = self._projection(own, values - mean, flat=flat)
        if flat:
            # in the order of the keys, so that rows may come in any order
            values[canonical_order(own.units)] = rng.random(len(v))
        found = Priority(values, None, 1.0, None)
        group = cut_groups(found.shares(v), self.n_groups)
        check_cells(own, group, self.n_groups, found)
        groups, extremes, _, _ = group_estimates(own, group, self.n_groups, found, None)
        parts, means = [groups, extremes], np.empty((0, 2))
        if self.columns is not None:
            members = group == 0, group == self.n_groups - 1
            table = self.columns.loc[own.units]
            comparison, both = difference_of_means(table, members, own, None)
            parts, means = [*parts, comparison], both.to_numpy()
        mass = np.bincount(group, weights=v)
        return _Split(
            np.concatenate([slope[0], *(part.value for part in parts)]),
            np.concatenate([slope[1], *(part.std_error for part in parts)]),
            groups.degrees_of_freedom,
            means,
            (slope[0][1] ** 2 * variance, float(np.average(groups.value**2, weights=mass))),
            flat,
            scores.assumptions,
        )

    @staticmethod
    def _projection(scores: Scores, centred: Floats, *, flat: bool) -> tuple[Floats, Floats]:
        """Return both coefficients and their standard errors."""
        one = np.ones(scores.n_units)
        design = one[:, None] if flat else np.column_stack([one, centred])
        words = "best linear predictor of the effect", "regression of scores on the proxy, HC3"
        found: Estimate = regression_estimate(
            scores, design, scores.score.to_numpy(), PROJECTION[: design.shape[1]], None, words
        )
        if flat:
            return np.append(found.value, 0.0), np.append(found.std_error, np.inf)
        return found.value, found.std_error


def _result_of(work: _Work, splits: list[_Split]) -> SplitSampleInference:
    columns = [] if work.columns is None else list(work.columns.columns)
    lowest, highest = np.median([split.means for split in splits], axis=0).T
    return SplitSampleInference(
        np.array([split.estimate for split in splits]),
        np.array([split.error for split in splits]),
        np.array([split.degrees_of_freedom for split in splits]),
        (*PROJECTION, *(f"group {g + 1}" for g in range(work.n_groups)), CONTRAST, *columns),
        work.n_groups,
        pd.DataFrame({"lowest": lowest, "highest": highest}, index=columns),
        (
            float(np.median([split.fit[0] for split in splits])),
            float(np.median([split.fit[1] for split in splits])),
        ),
        " ".join(repr(work.learner).split()),
        work.study.n_units,
        work.study.n_clusters,
        sum(split.flat for split in splits),
        # both splits of a halving tell of the same tries
        sum(split.n_redrawn for split in splits) // 2,
        (*splits[0].assumptions, "clusters are independent of each other"),
    )
