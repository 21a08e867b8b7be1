"""`compare_choices`: the same study analysed with every combination of choices, many times."""

from collections.abc import Iterator, Mapping
from importlib.metadata import version
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from sklearn.base import clone
from threadpoolctl import threadpool_limits

from terracausal._foundation.errors import RoleError
from terracausal._foundation.progress import track
from terracausal._foundation.randomness import RandomState, draw_seed, random_generator
from terracausal.effects import EffectLearner
from terracausal.encoders.digests import digest_of
from terracausal.imagery import Chips
from terracausal.nuisance import Scores, cross_fit, doubly_robust_scores
from terracausal.study import Folds, Study
from terracausal.workflows.choice_cells import (
    CellTask,
    Record,
    failure,
    keep_record,
    read_record,
    run_cell,
)
from terracausal.workflows.choice_embeddings import (
    EmbeddingRecipe,
    Source,
    embedding_recipes,
    study_with_overlaps,
)
from terracausal.workflows.choice_result import ChoiceComparison
from terracausal.workflows.choices import Choices, Combination

_FORMAT = 1
_ROOT, _FOLDS, _NUISANCES, _LEARNER = range(4)


class Cell(NamedTuple):
    """One combination with one seed, counted from 0."""

    combination: Combination
    seed: int


class ComparisonPlan:
    """What is compared, with everything that the cells share.

    Parameters
    ----------
    study, choices, recipes, root, folder
        As in `compare_choices`; `root` is the seed from which all others follow.
    """

    def __init__(
        self,
        study: Study,
        choices: Choices,
        recipes: dict[Source, EmbeddingRecipe],
        root: int,
        folder: Path | None,
    ) -> None:
        self.study, self.choices, self.recipes = study, choices, recipes
        self.root, self.folder = root, folder
        self.dealt = study_with_overlaps(study, recipes)
        table = study.canonical().table
        self.identity = digest_of(
            [
                *("choices", _FORMAT, version("terracausal"), root),
                *(table, study.roles.arguments(), self.dealt.overlapping_sites),
                *(choices.n_folds, choices.n_bootstrap, choices.overlapping),
            ]
        )
        self.cells = [
            Cell(combination, seed)
            for combination in choices.combinations()
            for seed in range(choices.n_seeds)
        ]

    def seed(self, number: int, purpose: int) -> int:
        """Return the seed of one purpose in one repetition, however many there are."""
        return draw_seed(np.random.default_rng([self.root, number, purpose]))

    def folds(self, number: int) -> Folds:
        """Return the folds of one repetition."""
        return self.dealt.folds(
            self.choices.n_folds,
            random_state=self.seed(number, _FOLDS),
            overlapping=self.choices.overlapping,
        )

    def _learner(self, chosen: Combination, random_state: int | None) -> EffectLearner:
        fresh: EffectLearner = clone(self.choices.learners[chosen.learner])
        fresh.set_params(use=chosen.use, random_state=random_state)
        return fresh

    def path(self, cell: Cell) -> Path | None:
        """Return where the record of a cell is kept: named by all that decides about it."""
        if self.folder is None:
            return None
        chosen = cell.combination
        learner = self._learner(chosen, None)
        recipe = self.recipes.get(chosen.source)
        facts = [
            *(self.identity, cell.seed, learner),
            None if recipe is None else recipe.identity,
            self.choices.component_counts.get(chosen.components),
        ]
        return self.folder / "cells" / f"{digest_of(facts)}.json"

    def task(
        self, cell: Cell, dealt: tuple[Folds, Scores], embeddings: pd.DataFrame | None
    ) -> CellTask:
        """Return what runs a cell."""
        chosen = cell.combination
        return CellTask(
            self.path(cell),
            self.study,
            *dealt,
            self._learner(chosen, self.seed(cell.seed, _LEARNER)),
            embeddings,
            self.choices.component_counts.get(chosen.components),
            (self.choices.n_bootstrap, self.seed(0, _ROOT)),
        )


def compare_choices(
    study: Study,
    choices: Choices | Mapping[str, Any],
    *,
    chips: Chips | None = None,
    folder: str | PathLike[str] | None = None,
    n_jobs: int = 1,
    retry_failed: bool = False,
    random_state: RandomState = None,
) -> ChoiceComparison:
    """Ask with every combination of choices whether effects vary, and compare the answers.

    Parameters
    ----------
    study : Study
        Without joined embeddings; covariates and a known propensity as in any analysis.
    choices : Choices or mapping
        What is compared; a mapping has the arguments of `Choices`.
    chips : Chips, default=None
        Images of the sites, where encoders are compared.
    folder : path, default=None
        Where finished cells and embeddings are kept. After an interruption at any moment the same
        call goes on from there; so does a call with more levels or seeds.
    n_jobs : int, default=1
        Cells fitted side by side; the numbers do not depend on it.
    retry_failed : bool, default=False
        Whether kept cells that failed are tried again.
    random_state : None, int or Generator, default=None
        Seed of folds, learners and half-samples; needed with a folder.

    Returns
    -------
    ChoiceComparison

    Raises
    ------
    RoleError
        The study has joined embeddings already, or no covariates although they are compared.
    AlignmentError
        Sites without a chip or an embedding.
    ValueError
        A declaration that cannot be run; all of this is raised before anything is fitted. What
        fails later is a row of the table with its error.

    Notes
    -----
    The design of Jerzak, Vashistha and Daoud (2024), arXiv:2407.11674: data, encoder, raw columns
    or components, scale, learner and metric, each combination with the same seeds.

    One seed means folds, nuisances and scores that all its cells share, so that cells of a seed
    differ by their ranking alone. The scores come from nuisances on the study's covariates;
    learners fit nuisances of their own inside the training parts, on what they may see. Encoders
    are fitted once, on the chips of all sites and without outcomes: a seed does not redraw them.

    The numbers of a cell are those of `rank_weighted_effect`; half-samples of clusters are the
    same for all cells, which is what makes differences between them cheap to judge. See
    `ChoiceComparison` for what the spread over seeds can tell, and what it cannot.

    Sites whose chips overlap, in any declared encoder, are held out together, so that all cells
    have the same folds; declaring the first encoder of overlapping chips makes new cells.

    A cell's file is named by a checksum of all that decides about its numbers: the study, the
    encoder and chips or the table, the learner's settings, the seed and the version of this
    package. The code of a learner from elsewhere is not known: choose another folder after a
    change of it.

    Examples
    --------
    >>> import terracausal as tc
    >>> data = tc.simulate_study(n_sites=40, random_state=0)
    >>> choices = Choices({"statistics": tc.BandStatisticsEncoder()}, data=("image",), n_seeds=2)
    >>> found = compare_choices(data.study, choices, chips=data.chips, random_state=0)
    >>> found.to_dataframe()["metric"].tolist()
    ['AUTOC', 'QINI', 'AUTOC', 'QINI']
    """
    declared = choices if isinstance(choices, Choices) else Choices(**choices)
    plan = plan_comparison(study, declared, chips=chips, folder=folder, random_state=random_state)
    if plan.folder is not None:
        (plan.folder / "cells").mkdir(parents=True, exist_ok=True)
    records = _kept_records(plan, retry_failed)
    left = [cell for cell in plan.cells if cell not in records]
    records |= dict(_run(plan, left, n_jobs))
    found = [(*cell, records[cell]) for cell in plan.cells]
    return ChoiceComparison.of(declared, found, (_assumption(study),))


def _assumption(study: Study) -> str:
    """Return in words what the scores of all cells adjust for."""
    if study.propensity is not None:
        return "treatment was randomised with the stated propensity"
    return (
        "no unmeasured confounding given the covariates: scores adjust for these and for no image, "
        "so where images tell who was treated, they may rank confounding (met by design in an RCT)"
    )


def plan_comparison(
    study: Study,
    choices: Choices,
    *,
    chips: Chips | None = None,
    folder: str | PathLike[str] | None = None,
    random_state: RandomState = None,
) -> ComparisonPlan:
    """Check everything that can be known before anything is encoded or fitted.

    Parameters
    ----------
    study, choices, chips, folder, random_state
        As in `compare_choices`.

    Returns
    -------
    ComparisonPlan
    """
    _check_study(study, choices)
    if folder is not None and random_state is None:
        raise ValueError(
            "What is kept in `folder` is found again by its seed; got random_state=None. Pass an "
            "integer."
        )
    root = draw_seed(random_generator(random_state))
    recipes = embedding_recipes(study, choices, chips, root)
    kept = None if folder is None else Path(folder).absolute()
    return ComparisonPlan(study, choices, recipes, root, kept)


def _check_study(study: Study, choices: Choices) -> None:
    if study.embedding_columns:
        raise RoleError(
            f"The embeddings to compare are declared in `choices`; the study has already "
            f"{len(study.embedding_columns)} joined columns. Pass the study before `join`."
        )
    if not study.roles.covariates:
        asked = [name for name in choices.data if name in ("tabular", "both", "both_sequence")]
        if asked:
            raise RoleError(
                f"data={asked} needs covariates; the study has 0. Name them, or compare 'image' "
                "or 'sequence'."
            )


def _kept_records(plan: ComparisonPlan, retry_failed: bool) -> dict[Cell, Record]:
    """Return what earlier calls finished, without failures where these are tried again."""
    found = ((cell, read_record(plan.path(cell))) for cell in plan.cells)
    return {
        cell: record
        for cell, record in found
        if record is not None and not (retry_failed and record["error"] is not None)
    }


def _run(plan: ComparisonPlan, left: list[Cell], n_jobs: int) -> Iterator[tuple[Cell, Record]]:
    """Yield the record of each cell that is left, one table of embeddings after the other."""
    if not left:
        return
    by_source: dict[Source, list[Cell]] = {}
    for cell in left:
        by_source.setdefault(cell.combination.source, []).append(cell)
    numbers = sorted({cell.seed for cell in left})
    folds = {number: plan.folds(number) for number in numbers}  # refused before any fit
    with Parallel(n_jobs=n_jobs, return_as="generator", max_nbytes=None) as pool:
        run = pool(
            delayed(_scores)(plan.study, folds[number], plan.seed(number, _NUISANCES))
            for number in numbers
        )
        made = track(run, "scores of each seed", len(numbers))
        dealt = {n: (folds[n], scores) for n, scores in zip(numbers, made, strict=True)}
        yield from track(_records(plan, by_source, dealt, pool), "comparing choices", len(left))


def _records(
    plan: ComparisonPlan,
    by_source: dict[Source, list[Cell]],
    dealt: dict[int, tuple[Folds, Scores]],
    pool: Any,
) -> Iterator[tuple[Cell, Record]]:
    for source, cells in by_source.items():
        embeddings = None
        if source in plan.recipes:
            kept = None if plan.folder is None else plan.folder / "embeddings"
            try:
                embeddings = plan.recipes[source].table(kept)
            except Exception as error:  # an encoder can fail in any way; its cells then say how
                error.add_note(f"while encoding {' / '.join(source)}")
                record = failure(error)
                yield from ((cell, keep_record(plan.path(cell), record, 0.0)) for cell in cells)
                continue
        tasks = (plan.task(cell, dealt[cell.seed], embeddings) for cell in cells)
        run = pool(delayed(run_cell)(task) for task in tasks)
        yield from zip(cells, run, strict=True)


def _scores(study: Study, folds: Folds, random_state: int) -> Scores:
    with threadpool_limits(limits=1):
        return doubly_robust_scores(study, cross_fit(study, folds, random_state=random_state))
