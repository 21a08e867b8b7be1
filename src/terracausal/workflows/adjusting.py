"""Nuisances and scores of an analysis: the same folds for every specification, repeated."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from sklearn.base import clone

from terracausal._foundation.progress import track
from terracausal.encoders.identity import chips_digest
from terracausal.nuisance import Nuisances, Scores, cross_fit, doubly_robust_scores
from terracausal.study import Folds, Study
from terracausal.workflows.options import FitOptions
from terracausal.workflows.planning import AnalysisPlan
from terracausal.workflows.steps import fold_facts, study_facts


@dataclass(frozen=True)
class Specification:
    """What an estimate adjusts for.

    Parameters
    ----------
    name : str
        In words.
    study : Study
        With these columns only.
    sees_chips : bool, default=False
        Whether an image learner looks at the chips for it.

    Examples
    --------
    >>> import terracausal as tc
    >>> Specification("covariates", tc.simulate_study(n_sites=20, random_state=0).study).sees_chips
    False
    """

    name: str
    study: Study
    sees_chips: bool = False


def predict_nuisances(
    specifications: Sequence[Specification], plan: AnalysisPlan
) -> dict[str, Nuisances]:
    """Predict the nuisances of every specification out of the same folds.

    Parameters
    ----------
    specifications : sequence of Specification
    plan : AnalysisPlan

    Returns
    -------
    dict of str to Nuisances
        By name of the specification; repeats are inside.
    """
    dealing = plan.dealing
    jobs = [(one, repeat) for repeat in range(len(dealing.seeds)) for one in specifications]
    found: dict[str, list[Nuisances]] = {one.name: [] for one in specifications}
    for one, repeat in track(jobs, "adjusting", len(jobs)):
        fit = _fit_with_learner if one.sees_chips else _fit_with_columns
        label = f"adjusting for {one.name}, repeat {repeat + 1} of {len(dealing.seeds)}"
        folds, seed = dealing.folds[repeat], dealing.seeds[repeat]
        found[one.name].append(fit(one.study, folds, seed, plan, label))
    return {name: replace(runs[0], repeats=tuple(runs[1:])) for name, runs in found.items()}


def _fit_with_columns(
    study: Study, folds: Folds, seed: int, plan: AnalysisPlan, label: str
) -> Nuisances:
    options, n_components = plan.options, plan.options.n_components
    if n_components is None:
        n_components = plan.source.n_components
    if (n_components or 0) >= len(study.embedding_columns):
        n_components = None
    learners: dict[str, Any] = {
        "outcome_learner": options.outcome_learner,
        "propensity_learner": options.propensity_learner,
        "n_components": n_components,
    }
    facts = [study_facts(study), fold_facts(folds), seed, learners]

    def make() -> Nuisances:
        return cross_fit(study, folds, n_jobs=options.n_jobs, random_state=seed, **learners)

    return plan.steps.nuisances(label, facts, make)


def _fit_with_learner(
    study: Study, folds: Folds, seed: int, plan: AnalysisPlan, label: str
) -> Nuisances:
    learner, chips = clone(plan.source.learner), plan.source.chips
    if "random_state" in learner.get_params(deep=False):
        learner.set_params(random_state=seed)
    facts: list[Any] = []
    if plan.steps.folder is not None and chips is not None:
        # a checksum reads all chips
        facts = [study_facts(study), fold_facts(folds), seed, repr(learner), chips_digest(chips)]

    def make() -> Nuisances:
        found: Nuisances = learner.cross_fit(study, chips, folds)
        return found

    return plan.steps.nuisances(label, facts, make)


def form_scores(study: Study, nuisances: Nuisances, options: FitOptions) -> Scores:
    """Return the scores of one specification.

    Parameters
    ----------
    study : Study
    nuisances : Nuisances
    options : FitOptions

    Returns
    -------
    Scores
    """
    return doubly_robust_scores(study, nuisances, clip=options.clip, trim=options.trim)
