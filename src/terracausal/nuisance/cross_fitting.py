"""Outcome and treatment predicted for units that the learners have not seen."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from numpy.typing import NDArray

from terracausal._foundation.checks import check_count, check_same_index
from terracausal._foundation.errors import RoleError
from terracausal._foundation.progress import track
from terracausal._foundation.randomness import RandomState, random_generator
from terracausal.nuisance.components import check_components, reduce_and_bound
from terracausal.nuisance.defaults import outcome_learner_of, propensity_learner_of
from terracausal.nuisance.fitting import fit_learner, predict_numbers
from terracausal.study import Folds, Study
from terracausal.study.folds import check_whole_clusters
from terracausal.study.result import Result

Floats = NDArray[np.floating[Any]]
Rows = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Nuisances(Result):
    """Out-of-fold predictions of treatment and outcome, one row per unit.

    Parameters
    ----------
    table : pandas.DataFrame of shape (n_units, 4)
        Columns propensity, outcome_control, outcome_treated and fold, indexed by unit; no fold for
        predictions out of the bag of a forest.
    propensity_known : bool
        True where the propensity was given and not estimated.
    learners : dict of str to str
        What predicted each of them.
    quality : pandas.DataFrame
        Out-of-fold fit: columns nuisance, metric, value, baseline.
    outcome : str, default=None
        The outcome that was predicted, so that the nuisances of another are not taken for it.
    repeats : tuple of Nuisances, default=()
        The same with other folds and seeds, from `repeat_cross_fit`.

    Examples
    --------
    >>> import terracausal as tc
    >>> study = tc.simulate_study(n_sites=40, random_state=0).study
    >>> tc.cross_fit(study, random_state=0).table.columns.tolist()
    ['propensity', 'outcome_control', 'outcome_treated', 'fold']
    """

    table: pd.DataFrame
    propensity_known: bool
    learners: dict[str, str]
    quality: pd.DataFrame = field(repr=False)
    outcome: str | None = None
    repeats: "tuple[Nuisances, ...]" = field(default=(), repr=False)

    @property
    def propensity(self) -> "pd.Series[float]":
        """Probability of treatment of each unit."""
        return self.table["propensity"]

    def to_dataframe(self) -> pd.DataFrame:
        """Return a copy of the table."""
        return self.table.copy()

    def summary(self) -> str:
        """Return what predicted each nuisance, and how well on held-out units, as text."""
        how = "out of bag"
        if "fold" in self.table:
            how = f"out of {self.table['fold'].nunique()} folds"
        lines = [f"Nuisances of {len(self.table):,} units, predicted {how}"]
        for name, learner in self.learners.items():
            row = self.quality.loc[self.quality["nuisance"] == name]
            told = "".join(
                f"; {r.metric} {r.value:.3f} (baseline {r.baseline:.3f})" for r in row.itertuples()
            )
            lines.append(f"  {name:<16} {learner}{told}")
        if self.repeats:
            lines.append(f"  repeats          {1 + len(self.repeats)} times, with other folds")
        return "\n".join(lines)


def cross_fit(
    study: Study,
    folds: Folds | None = None,
    *,
    propensity: float | str | None = None,
    outcome_learner: Any = None,
    propensity_learner: Any = None,
    n_components: int | None = None,
    n_jobs: int = 1,
    random_state: RandomState = None,
) -> Nuisances:
    """Predict treatment and both potential outcomes of each unit from the other folds.

    Parameters
    ----------
    study : Study
        Units, roles and joined embeddings.
    folds : Folds, default=None
        None takes 5 folds of whole clusters.
    propensity : float or str, default=None
        Known probability of treatment: a number or a column of the study, as in an RCT. None uses
        the study's own if it has one, and estimates it otherwise.
    outcome_learner : str or scikit-learn estimator, default=None
        Fitted in each arm: "ridge", "elastic_net", "boosting", "logistic" (for an outcome of 0 and
        1) or any regressor. None is "ridge", or the mean where there are no features.
    propensity_learner : str or scikit-learn classifier, default=None
        "logistic", "boosting" or any classifier with calibrated probabilities. None is "logistic",
        or the share treated where there are no features.
    n_components : int, default=None
        Replace the joined embeddings by this many principal components of the standardised columns,
        learned on the training units of each fold. None keeps the columns.
    n_jobs : int, default=1
        Folds fitted side by side; the numbers do not depend on it.
    random_state : None, int or Generator, default=None
        Seed of the folds, if made here, and of learners that have none of their own.

    Returns
    -------
    Nuisances

    Notes
    -----
    Cross-fitting as in Chernozhukov et al. (2018), Double/debiased machine learning, Econometrics
    Journal 21(1), doi:10.1111/ectj.12097, with folds of whole clusters. `repeat_cross_fit` does it
    several times, and tells how much the folds matter.

    Embedding columns of held-out units (or their components) are moved into the range of the
    training units of the fold, so that no learner extrapolates to an image unlike all others.
    Covariates are left as they are.

    Raises
    ------
    RoleError
        A fold leaves fewer than two training units of an arm, or `n_components` cannot be had;
        raised before any learner is fitted.

    Examples
    --------
    >>> import terracausal as tc
    >>> study = tc.simulate_study(n_sites=40, random_state=0).study
    >>> nuisances = tc.cross_fit(study, propensity=0.5, random_state=0)
    >>> nuisances.propensity_known
    True
    """
    rng = random_generator(random_state)
    if propensity is not None:
        study = study.with_roles(propensity=propensity)
    if folds is None:
        folds = study.folds(random_state=rng)
    ordered, splits = fold_rows(study, folds)
    if n_components is not None:
        for train, _ in splits:
            check_components(n_components, ordered, train)
    work = _Work.of(ordered, propensity_learner, outcome_learner, n_components)
    tasks = list(zip(range(folds.n_folds), splits, rng.spawn(folds.n_folds), strict=True))
    run = Parallel(n_jobs=n_jobs, return_as="generator")(
        delayed(_fit_fold)(work, fold, train, test, child) for fold, (train, test), child in tasks
    )
    found = track(run, "cross-fitting nuisances", len(tasks))
    return gather_folds(study, folds, zip(splits, found, strict=True), work.names())


def fold_rows(study: Study, folds: Folds) -> tuple[Study, list[tuple[Rows, Rows]]]:
    """Check folds, and return the study in canonical order with its training and held-out rows.

    Parameters
    ----------
    study : Study
    folds : Folds

    Returns
    -------
    ordered : Study
    splits : list of pairs of ndarray of bool of shape (n_units,)
        Training and held-out units of each fold, in the order of `ordered`.
    """
    check_same_index("folds", folds.labels.index, study.units)
    check_whole_clusters(folds.labels, study.clusters)
    ordered = study.canonical()
    positions = folds.labels.index.get_indexer(ordered.units)
    splits = [(train[positions], test[positions]) for train, test in folds.split()]
    weight = None if ordered.weight is None else ordered.weight.to_numpy()
    check_training_arms(splits, ordered.treatment.to_numpy(), weight)
    return ordered, splits


def gather_folds(
    study: Study,
    folds: Folds,
    found: Iterable[tuple[tuple[Rows, Rows], Floats]],
    learners: dict[str, str],
) -> Nuisances:
    """Put the predictions of all folds together.

    Parameters
    ----------
    study : Study
        In the caller's order.
    folds : Folds
    found : iterable of ((train, test), ndarray of shape (n_test, 3))
        Rows of each fold, as `fold_rows` gives them, and what was predicted for the held-out ones.
    learners : dict of str to str
        What predicts each nuisance.

    Returns
    -------
    Nuisances
    """
    ordered = study.canonical()
    table = pd.DataFrame(
        np.nan, index=ordered.units, columns=["propensity", "outcome_control", "outcome_treated"]
    )
    for (_, test), predicted in found:
        table.loc[test] = predicted
    table["fold"] = folds.labels.loc[ordered.units]
    known = study.propensity is not None
    outcome, treatment = ordered.outcome.to_numpy(), ordered.treatment.to_numpy()
    quality = _quality(table, outcome, treatment, known=known)
    return Nuisances(table.loc[study.units], known, learners, quality, study.roles.outcome)


def repeat_cross_fit(
    study: Study,
    n_repeats: int = 5,
    *,
    n_folds: int = 5,
    random_state: RandomState = None,
    **options: Any,
) -> Nuisances:
    """Run `cross_fit` several times with other folds and seeds.

    `average_effect` and everything in `evaluation` that takes scores then give the median over the
    repeats, and count their spread in the standard error.

    Parameters
    ----------
    study : Study
    n_repeats : int, default=5
    n_folds : int, default=5
        Folds of whole clusters, drawn anew for each repeat.
    random_state : None, int or Generator, default=None
        Seed.
    **options : Any
        Further arguments of `cross_fit`, but `folds`.

    Returns
    -------
    Nuisances

    Notes
    -----
    Chernozhukov et al. (2018), Econometrics Journal 21(1), definition 3.3.

    Examples
    --------
    >>> import terracausal as tc
    >>> study = tc.simulate_study(n_sites=40, random_state=0).study
    >>> len(repeat_cross_fit(study, 3, random_state=0).repeats)
    2
    """
    check_count("n_repeats", n_repeats)
    runs = [
        cross_fit(study, study.folds(n_folds, random_state=rng), random_state=rng, **options)
        for rng in random_generator(random_state).spawn(n_repeats)
    ]
    return replace(runs[0], repeats=tuple(runs[1:]))


def check_training_arms(
    splits: list[tuple[NDArray[np.bool_], NDArray[np.bool_]]],
    treatment: Floats,
    weight: Floats | None = None,
) -> None:
    """Refuse folds that leave an arm with fewer than two training units that have weight.

    Parameters
    ----------
    splits : list of pairs of ndarray of bool of shape (n_units,)
        Training and held-out units of each fold.
    treatment : ndarray of shape (n_units,)
    weight : ndarray of shape (n_units,), default=None
    """
    weighs = np.ones(len(treatment), dtype=bool) if weight is None else weight > 0
    with_weight = "" if weight is None else " with a weight above zero"
    for fold, (train, _) in enumerate(splits):
        counts = [int((train & weighs & (treatment == arm)).sum()) for arm in (0, 1)]
        if min(counts) < 2:
            raise RoleError(
                f"Each arm needs at least 2 training units{with_weight}; without fold {fold} there "
                f"are {counts[1]} treated and {counts[0]} control. Use fewer folds, or more data."
            )


@dataclass(frozen=True)
class _Work:
    """Arrays and learners that every fold needs, in canonical order."""

    outcome: Floats
    treatment: Floats
    weight: Floats | None
    groups: NDArray[np.int64] | None
    known: Floats | None
    features: dict[str, pd.DataFrame]
    learners: dict[str, Any]
    embeddings: frozenset[str]
    n_components: int | None

    @classmethod
    def of(
        cls, study: Study, propensity_learner: Any, outcome_learner: Any, n_components: int | None
    ) -> "_Work":
        features = {
            "propensity": study.features("propensity"),
            "outcome": study.features("outcome"),
        }
        widths = {task: table.shape[1] for task, table in features.items()}
        weight, known = study.weight, study.propensity
        return cls(
            study.outcome.to_numpy(),
            study.treatment.to_numpy(),
            # some learners read the scale of weights as a number of units
            None if weight is None else (weight / weight.mean()).to_numpy(),
            study.frame.cluster_codes,
            None if known is None else known.to_numpy(),
            features,
            {
                "propensity": propensity_learner_of(propensity_learner, widths["propensity"]),
                "outcome": outcome_learner_of(outcome_learner, widths["outcome"]),
            },
            frozenset(study.embedding_columns),
            n_components,
        )

    def reduced(self, train: NDArray[np.bool_]) -> "_Work":
        """Return the work with the embeddings reduced to, and bounded by, the training rows."""
        features = {
            task: reduce_and_bound(table, self.embeddings, self.n_components, train)
            for task, table in self.features.items()
        }
        return replace(self, features=features)

    def names(self) -> dict[str, str]:
        """Describe what predicts each nuisance."""
        outcome, estimated = (self._describe(task) for task in ("outcome", "propensity"))
        known = "known" if self.known is not None else estimated
        return {"propensity": known, "outcome_control": outcome, "outcome_treated": outcome}

    def _describe(self, task: str) -> str:
        text = " ".join(repr(self.learners[task]).split())
        names = self.features[task].columns
        n_embeddings = sum(name in self.embeddings for name in names)
        if self.n_components is None or n_embeddings <= self.n_components:
            return f"{text} on {len(names)} features"
        n_others = len(names) - n_embeddings
        return (
            f"{text} on {n_others + self.n_components} features ({self.n_components} components of "
            f"{n_embeddings} embedding columns)"
        )

    def predict(
        self, task: str, rows: NDArray[np.bool_], test: NDArray[np.bool_], rng: Any, where: str
    ) -> Floats:
        """Fit one learner on `rows` and predict `test`."""
        target = self.treatment if task == "propensity" else self.outcome
        fitted = fit_learner(
            self.learners[task],
            self.features[task].loc[rows],
            target[rows],
            weight=None if self.weight is None else self.weight[rows],
            groups=None if self.groups is None else self.groups[rows],
            rng=rng,
            task=where,
        )
        return predict_numbers(fitted, self.features[task].loc[test], where)


def _fit_fold(
    work: _Work,
    fold: int,
    train: NDArray[np.bool_],
    test: NDArray[np.bool_],
    rng: np.random.Generator,
) -> Floats:
    """Return propensity, control and treated outcome of the held-out units, shape (n_test, 3)."""
    work, children = work.reduced(train), rng.spawn(3)
    if work.known is not None:
        probability = work.known[test]
    else:
        where = f"the propensity learner on fold {fold}"
        probability = work.predict("propensity", train, test, children[0], where)
    surfaces = [
        work.predict(
            "outcome",
            train & (work.treatment == arm),
            test,
            children[1 + arm],
            f"the outcome learner ({'treated' if arm else 'control'}) on fold {fold}",
        )
        for arm in (0, 1)
    ]
    return np.column_stack([probability, *surfaces])


def _quality(
    table: pd.DataFrame, outcome: Floats, treatment: Floats, *, known: bool
) -> pd.DataFrame:
    """Return out-of-fold R² of the outcomes, and log-loss of the propensity against its base."""
    rows: list[tuple[str, str, float, float]] = []
    if not known:
        e, share = table["propensity"].to_numpy(), treatment.mean()
        likelihood = np.where(treatment == 1, e, 1 - e)
        loss = -np.mean(np.log(np.maximum(likelihood, np.finfo(float).tiny)))
        base = -(share * np.log(share) + (1 - share) * np.log1p(-share))
        rows.append(("propensity", "log-loss", float(loss), float(base)))
    for arm, name in ((0, "outcome_control"), (1, "outcome_treated")):
        own = treatment == arm
        total = float(((outcome[own] - outcome[own].mean()) ** 2).sum())
        residual = float(((outcome[own] - table[name].to_numpy()[own]) ** 2).sum())
        rows.append((name, "R²", 1 - residual / total if total > 0 else float("nan"), 0.0))
    return pd.DataFrame(rows, columns=["nuisance", "metric", "value", "baseline"])
