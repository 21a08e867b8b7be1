"""Nuisances and scores of an analysis: the same folds for every specification, repeated."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from sklearn.base import clone

from terracausal._foundation.checks import check_count
from terracausal._foundation.progress import track
from terracausal._foundation.randomness import draw_seed
from terracausal.nuisance import Nuisances, Scores, cross_fit, doubly_robust_scores
from terracausal.nuisance.defaults import outcome_learner_of, propensity_learner_of
from terracausal.study import Folds, Study
from terracausal.workflows.image_source import ImageSource
from terracausal.workflows.options import FitOptions
from terracausal.workflows.steps import Steps, fold_facts, study_facts


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


@dataclass(frozen=True)
class Dealing:
    """Folds of every repeat and the seeds that go with them.

    Parameters
    ----------
    folds : tuple of Folds
        One for each repeat.
    seeds : tuple of int
        Of the learners, one for each repeat.

    Examples
    --------
    >>> import terracausal as tc
    >>> study = tc.simulate_study(n_sites=20, random_state=0).study
    >>> len(Dealing.of(study, 2, 3, FitOptions(), np.random.default_rng(0)).folds)
    3
    """

    folds: tuple[Folds, ...]
    seeds: tuple[int, ...]

    @classmethod
    def of(
        cls,
        study: Study,
        n_folds: int,
        n_repeats: int,
        options: FitOptions,
        rng: np.random.Generator,
    ) -> "Dealing":
        """Draw the folds of every repeat; refused where there are too few clusters.

        Parameters
        ----------
        study : Study
            Joined to its images, so that sites whose chips overlap stay together.
        n_folds, n_repeats : int
        options : FitOptions
        rng : numpy.random.Generator

        Returns
        -------
        Dealing
        """
        check_count("n_repeats", n_repeats)
        seeds = [(draw_seed(rng), draw_seed(rng)) for _ in range(n_repeats)]
        folds = tuple(
            study.folds(n_folds, options.block_m, options.buffer_m, random_state=of_folds)
            for of_folds, _ in seeds
        )
        return cls(folds, tuple(of_learners for _, of_learners in seeds))


def check_learners(study: Study, options: FitOptions) -> None:
    """Refuse learners that are unknown, before anything is encoded or trained.

    Parameters
    ----------
    study : Study
    options : FitOptions
    """
    width = max(study.features("outcome").shape[1], 1)
    outcome_learner_of(options.outcome_learner, width)
    propensity_learner_of(options.propensity_learner, width)
    for name, edge in (("clip", options.clip), ("trim", options.trim)):
        if edge is not None and not 0 < edge < 0.5:
            raise ValueError(f"`{name}` must lie strictly between 0 and 0.5; got {edge!r}.")
    if options.n_components is not None:
        check_count("n_components", options.n_components)


def predict_nuisances(
    specifications: Sequence[Specification],
    dealing: Dealing,
    source: ImageSource,
    options: FitOptions,
    steps: Steps,
) -> dict[str, Nuisances]:
    """Predict the nuisances of every specification out of the same folds.

    Parameters
    ----------
    specifications : sequence of Specification
    dealing : Dealing
    source : ImageSource
    options : FitOptions
    steps : Steps

    Returns
    -------
    dict of str to Nuisances
        By name of the specification; repeats are inside.
    """
    jobs = [(one, repeat) for repeat in range(len(dealing.seeds)) for one in specifications]
    found: dict[str, list[Nuisances]] = {one.name: [] for one in specifications}
    for one, repeat in track(jobs, "adjusting", len(jobs)):
        fit = _fit_with_learner if one.sees_chips else _fit_with_columns
        label = f"adjusting for {one.name}, repeat {repeat + 1} of {len(dealing.seeds)}"
        found[one.name].append(
            fit(one.study, dealing.folds[repeat], dealing.seeds[repeat], source, options)(
                steps, label
            )
        )
    return {name: replace(runs[0], repeats=tuple(runs[1:])) for name, runs in found.items()}


def _fit_with_columns(
    study: Study, folds: Folds, seed: int, source: ImageSource, options: FitOptions
) -> Any:
    n_components = options.n_components
    if n_components is None:
        n_components = source.n_components
    if not study.embedding_columns or (n_components or 0) >= len(study.embedding_columns):
        n_components = None
    learners: Mapping[str, Any] = {
        "outcome_learner": options.outcome_learner,
        "propensity_learner": options.propensity_learner,
        "n_components": n_components,
    }

    def make() -> Nuisances:
        return cross_fit(study, folds, n_jobs=options.n_jobs, random_state=seed, **learners)

    facts = [study_facts(study), fold_facts(folds), seed, learners]
    return lambda steps, label: steps.nuisances(label, facts, make)


def _fit_with_learner(
    study: Study, folds: Folds, seed: int, source: ImageSource, options: FitOptions
) -> Any:
    learner = clone(source.learner)
    if "random_state" in learner.get_params(deep=False):
        learner.set_params(random_state=seed)

    def make() -> Nuisances:
        found: Nuisances = learner.cross_fit(study, source.chips, folds)
        return found

    def run(steps: Steps, label: str) -> Nuisances:
        if steps.folder is None:  # a checksum of chips reads all of them
            return steps.nuisances(label, None, make)
        from terracausal.encoders.identity import chips_digest

        pixels = "" if source.chips is None else chips_digest(source.chips)
        facts = [study_facts(study), fold_facts(folds), seed, repr(learner), pixels]
        return steps.nuisances(label, facts, make)

    return run


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
