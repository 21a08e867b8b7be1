"""Before anything is trained: what an analysis is given, checked, and the folds that it uses."""

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from terracausal._foundation.checks import check_count
from terracausal._foundation.errors import RoleError
from terracausal._foundation.randomness import draw_seed
from terracausal.nuisance.defaults import outcome_learner_of, propensity_learner_of
from terracausal.study import Dependence, Folds, Study
from terracausal.workflows.image_source import ImageSource
from terracausal.workflows.options import FitOptions
from terracausal.workflows.steps import Steps


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


@dataclass(frozen=True)
class AnalysisPlan:
    """Everything that an analysis needs, checked.

    Parameters
    ----------
    study : Study
        Without embeddings.
    source : ImageSource
    dealing : Dealing
    options : FitOptions
    dependence : Dependence or None
    seed : int
        Of all draws after the folds.
    """

    study: Study
    source: ImageSource = field(repr=False)
    dealing: Dealing = field(repr=False)
    options: FitOptions
    dependence: Dependence | None
    seed: int

    @property
    def steps(self) -> Steps:
        """Where finished steps are kept."""
        return Steps.at(self.options.keep)

    @property
    def std_error(self) -> dict[str, Any]:
        """Arguments of `average_effect` for the standard error."""
        if self.dependence is None:
            return {}
        one = self.dependence
        return {"std_error": one.kind, "cutoff_m": one.cutoff_m, "kernel": one.kernel}

    def join(self, role: Literal["confounder", "modifier", "both"]) -> Study:
        """Return the study joined to its embeddings; as it is where a learner looks at chips.

        Parameters
        ----------
        role : {"confounder", "modifier", "both"}

        Returns
        -------
        Study
        """
        table = self.source.embeddings(self.steps)
        if table is None:
            return self.study
        return self.study.join(table, role=role, later_images=self.options.later_images)


def plan_analysis(
    study: Study,
    chips: Any,
    encoder: Any,
    counts: tuple[int, int],
    *,
    dependence: Dependence | None,
    options: FitOptions,
    rng: np.random.Generator,
) -> AnalysisPlan:
    """Check what an analysis is given and draw its folds; nothing is encoded or trained.

    Parameters
    ----------
    study : Study
    chips : Chips or pandas.DataFrame
    encoder : ChipEncoder, image learner or None
    counts : tuple of int
        Folds and repeats.
    dependence : Dependence or None
    options : FitOptions
    rng : numpy.random.Generator

    Returns
    -------
    AnalysisPlan
    """
    source = ImageSource.of(chips, encoder, seed=draw_seed(rng))
    check_study(study, dependence)
    check_learners(study, options)
    n_folds, n_repeats = check_count("n_folds", counts[0], 2), counts[1]
    sketch = source.sketch(study, options.later_images)
    dealing = Dealing.of(sketch, n_folds, n_repeats, options, rng)
    return AnalysisPlan(study, source, dealing, options, dependence, draw_seed(rng))


def check_study(study: Study, dependence: Dependence | None) -> None:
    """Refuse a study that cannot be joined to images, or lacks what its errors need.

    Parameters
    ----------
    study : Study
    dependence : Dependence or None
    """
    if not isinstance(study, Study):
        raise TypeError(f"`study` must be a Study; got {type(study).__name__}.")
    if study.embedding_columns:
        raise RoleError(
            "The analysis joins the images itself, to compare with and without them; the study "
            f"already has {len(study.embedding_columns)} joined columns. Pass the study from "
            "before `join`, and the embeddings as `chips`."
        )
    if study.sites is None:
        raise RoleError(
            "Images are joined by site, but the study has no `site` column. Name it: "
            "Study(..., site='village')."
        )
    kind = None if dependence is None else dependence.kind
    if kind == "conley" and study.coordinates is None:
        raise RoleError(
            "A 'conley' standard error needs coordinates; the study has none. Name them: "
            "Study(..., coords=('lon', 'lat'))."
        )
    if kind == "two_way":
        raise ValueError(
            "The analysis takes 'hc', 'cluster' or 'conley' standard errors; got 'two_way'. Use "
            "`headline.with_std_error('two_way', by=...)` afterwards."
        )


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
