"""`analyze_heterogeneity`: who benefits, ranked, tested, and turned into a rule."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from sklearn.base import clone

from terracausal._foundation.errors import RoleError
from terracausal._foundation.randomness import RandomState, draw_seed, random_generator
from terracausal.effects import DRLearner, average_effect
from terracausal.effects.learner import check_outcome_varies
from terracausal.encoders.identity import chips_digest
from terracausal.evaluation import (
    calibration_test,
    compare_priorities,
    grouped_effects,
    image_heterogeneity_test,
    learn_policy,
    policy_value,
    rank_weighted_effect,
    split_sample_inference,
    treat_within_budget,
)
from terracausal.evaluation.policies import check_budget
from terracausal.imagery import Chips
from terracausal.nuisance import Scores
from terracausal.study import Dependence, Study
from terracausal.workflows.adjusting import Specification, form_scores, predict_nuisances
from terracausal.workflows.heterogeneity_result import HeterogeneityAnalysis
from terracausal.workflows.options import HeterogeneityOptions, read_options
from terracausal.workflows.planning import AnalysisPlan, plan_analysis
from terracausal.workflows.steps import LOG, fold_facts, study_facts

Found = TypeVar("Found")
_ARGUMENTS = ("encoder", "learner", "n_folds", "budget", "dependence")
_MIN_LEAF_SHARE = 0.05


def analyze_heterogeneity(
    study: Study,
    chips: Chips | pd.DataFrame,
    *,
    encoder: Any = None,
    learner: Any = None,
    n_folds: int = 5,
    budget: float = 0.3,
    dependence: Dependence | None = None,
    random_state: RandomState = None,
    **options: Any,
) -> HeterogeneityAnalysis:
    """Predict for whom an effect is large, test whether that is so, and turn it into a rule.

    Everything stands on the same scores and folds: the average effect, effects of units predicted
    out of fold, whether these rank (AUTOC, QINI), whether they are calibrated, groups by predicted
    effect and what the extreme ones are like, whether images rank better than covariates alone,
    whether effects vary with images at all, and what a rule within a budget gains.

    Parameters
    ----------
    study : Study
        Without joined embeddings.
    chips : Chips or pandas.DataFrame of shape (n_sites, n_features)
        Images of the sites, or embeddings of them made elsewhere.
    encoder : ChipEncoder or image learner, default=None
        As in `analyze_confounding`.
    learner : EffectLearner, default=None
        Predicts the effects, by `cross_predict`; one whose `fit` reads chips gets them. None is
        `DRLearner`.
    n_folds : int, default=5
        Folds of whole clusters.
    budget : float, default=0.3
        Share of units that the rule can treat.
    dependence : Dependence, default=None
        None clusters whenever units share a site or a cluster.
    random_state : None, int or Generator, default=None
        Seed.
    **options : Any
        Fields of `HeterogeneityOptions`, such as `n_groups`, `n_repeats`, `role`, `trim` and
        `keep`.

    Returns
    -------
    HeterogeneityAnalysis

    Raises
    ------
    RoleError
        The study has no sites or too few clusters, or already has embeddings.
    AlignmentError
        A unit's site has no image.
    LeakageError
        Images are not from before the treatment, or an encoder learns from outcomes.
    TypeError
        An argument is of the wrong kind, or an option is unknown.
    ValueError
        The budget lies outside 0 to 1.

    Notes
    -----
    Athey & Wager (2019), Observational Studies 5(2); Yadlowsky et al. (2025), JASA 120(549), for
    rank-weighted effects; Chernozhukov et al. (2025), Econometrica 93(4), for groups. A part that
    cannot be had (a group with one arm, too few clusters for the permutations) is left out, and
    `notes` say why. Several tests are made: the test by permutation asks the one question whether
    there is anything at all. With several repeats, rankings, groups and rules are evaluated one by
    one and the median is taken; the simple rule learns from, and the test by permutation looks at,
    the mean of the scores; maps and tables show the mean effect.

    Examples
    --------
    >>> import terracausal as tc
    >>> data = tc.simulate_study(n_sites=60, size_px=8, random_state=0)
    >>> found = analyze_heterogeneity(
    ...     data.study, data.chips, encoder=tc.BandStatisticsEncoder(quantiles=()),
    ...     learner=tc.TLearner(), n_folds=2, n_permutations=0, random_state=0,
    ... )  # fmt: skip
    >>> found.autoc.target
    'AUTOC'
    """
    settings = read_options(HeterogeneityOptions, options, _ARGUMENTS)
    check_learner(learner)
    check_budget(budget)
    plan = plan_analysis(
        study,
        chips,
        encoder,
        (n_folds, settings.n_repeats),
        dependence=dependence,
        options=settings,
        rng=random_generator(random_state),
    )
    return run_heterogeneity(plan, learner, budget)


def check_learner(learner: Any) -> None:
    """Refuse what cannot predict effects out of fold.

    Parameters
    ----------
    learner : object
    """
    if learner is not None and not callable(getattr(learner, "cross_predict", None)):
        raise TypeError(
            "`learner` must predict effects by cross_predict(study, folds), as DRLearner and "
            f"CausalForest do; got {type(learner).__name__}."
        )


def reads_chips(learner: Any) -> bool:
    """Return whether an effect learner learns from chips.

    Parameters
    ----------
    learner : EffectLearner

    Returns
    -------
    bool
    """
    return "chips" in inspect.signature(learner.fit).parameters


def run_heterogeneity(
    plan: AnalysisPlan, learner: Any = None, budget: float = 0.3
) -> HeterogeneityAnalysis:
    """Carry out a plan whose input has been checked.

    Parameters
    ----------
    plan : AnalysisPlan
        Its options are `HeterogeneityOptions`.
    learner : EffectLearner, default=None
    budget : float, default=0.3

    Returns
    -------
    HeterogeneityAnalysis
    """
    settings = plan.options
    if not isinstance(settings, HeterogeneityOptions):
        raise TypeError(f"The plan needs HeterogeneityOptions; it has {type(settings).__name__}.")
    check_outcome_varies(plan.study)
    if settings.n_groups > plan.study.n_units:
        raise RoleError(
            f"There must not be more groups than units; got n_groups={settings.n_groups} and "
            f"{plan.study.n_units} units. Use fewer groups."
        )
    learner = DRLearner() if learner is None else learner
    if reads_chips(learner) and plan.source.chips is None:
        raise TypeError(f"{type(learner).__name__} reads chips; `chips` is a table of embeddings.")
    rng = random_generator(plan.seed)
    seeds = [draw_seed(rng) for _ in range(10)]
    role = settings.role or ("both" if plan.study.propensity is None else "modifier")
    joined = plan.join(role)
    name = "covariates and images" if plan.study.roles.covariates else "images"
    one = Specification(name, joined, sees_chips=plan.source.learner is not None)
    nuisances = predict_nuisances([one], plan)[name]
    scores = form_scores(joined, nuisances, settings)
    learner = _seeded(learner, seeds[0])
    effects = predict_effects(joined, learner, plan, name)
    LOG.info("evaluating the effects")
    work = _Evaluation(joined, scores, effects, plan, settings)
    groups = work.tried("groups by predicted effect", lambda: work.groups(seeds[1]))
    describing = _describing_columns(joined, plan, scores)
    rule = treat_within_budget(scores, effects, budget)
    return HeterogeneityAnalysis(
        average=average_effect(scores, **plan.std_error),
        effects=effects,
        autoc=rank_weighted_effect(scores, effects, random_state=seeds[2]),
        qini=rank_weighted_effect(scores, effects, "QINI", random_state=seeds[2]),
        calibration=work.tried("calibration", work.calibration),
        groups=groups,
        comparison=work.tried(
            "the comparison of the extreme groups",
            lambda: groups.compare(describing, random_state=seeds[3]) if groups else None,
        ),
        image_test=work.tried("the test by permutation", lambda: work.image_test(seeds[4])),
        split_sample=work.tried(
            "the split-sample inference", lambda: work.split_sample(learner, seeds[5])
        ),
        versus_covariates=work.tried(
            "the comparison with covariates",
            lambda: work.versus_covariates(learner, seeds[6]),
        ),
        policy=rule,
        policy_value=policy_value(scores, rule, dependence=plan.dependence),
        tree=work.tried("the simple rule", lambda: work.tree(describing, seeds[7])),
        study=joined,
        scores=scores,
        nuisances=nuisances,
        chips=plan.source.chips,
        notes=tuple(work.notes),
    )


def predict_effects(
    study: Study, learner: Any, plan: AnalysisPlan, words: str
) -> "pd.Series[float]":
    """Predict the effect of each unit by learners that did not see its fold.

    Parameters
    ----------
    study : Study
    learner : EffectLearner
    plan : AnalysisPlan
    words : str
        What the effects are predicted from, for the log.

    Returns
    -------
    pandas.Series of shape (n_units,)
    """
    folds, chips = plan.dealing.folds, plan.source.chips
    facts: list[Any] = []
    given = {"chips": chips} if reads_chips(learner) else {}
    if plan.steps.folder is not None:
        facts = [study_facts(study), [fold_facts(part) for part in folds], repr(learner)]
        if given and chips is not None:
            facts.append(chips_digest(chips))

    def make() -> "pd.Series[float]":
        found: pd.Series[float] = learner.cross_predict(
            study, list(folds), n_jobs=plan.options.n_jobs, **given
        )
        return found

    label = f"effects by {type(learner).__name__} from {words}"
    return plan.steps.effects(label, facts, folds, make)


def _seeded(learner: Any, seed: int) -> Any:
    """Return a copy of a learner that has a seed, its own where it is an integer."""
    found = clone(learner)
    settings = found.get_params(deep=False)
    if "random_state" in settings and not isinstance(settings["random_state"], int):
        found.set_params(random_state=seed)
    return found


def _describing_columns(study: Study, plan: AnalysisPlan, scores: Scores) -> pd.DataFrame:
    """Return columns that a reader understands: covariates, band statistics and places.

    Without any the embeddings stand in.
    """
    parts = [study.features("outcome", use="covariates")]
    statistics = plan.source.statistics()
    if plan.source.chips is not None and statistics is None:
        statistics = plan.source.embeddings(plan.steps)
    if statistics is not None and study.sites is not None:
        parts.append(statistics.reindex(pd.Index(study.sites)).set_axis(study.units, axis=0))
    elif study.embedding_columns:
        parts.append(study.features("effect", use="embeddings").iloc[:, :20])
    if study.coordinates is not None:
        parts.append(study.coordinates)
    table = pd.concat([part.loc[scores.units] for part in parts], axis=1)
    table = table.loc[:, ~table.columns.duplicated()]
    return table.loc[:, (table != table.iloc[0]).any()]


@dataclass(frozen=True, eq=False)
class _Evaluation:
    """The parts of the evaluation, some of which a study may not support."""

    study: Study
    scores: Scores
    effects: "pd.Series[float]"
    plan: AnalysisPlan
    settings: HeterogeneityOptions
    notes: list[str] = field(default_factory=list)

    def tried(self, words: str, make: Callable[[], Found]) -> Found | None:
        """Return a part, or note why the study does not support it."""
        try:
            return make()
        except RoleError as refused:
            self.notes.append(f"{words} could not be had: {refused}")
            return None

    def groups(self, seed: int) -> Any:
        return grouped_effects(
            self.scores,
            self.effects,
            self.settings.n_groups,
            dependence=self.plan.dependence,
            random_state=seed,
        )

    def calibration(self) -> Any:
        return calibration_test(self.scores, self.effects, dependence=self.plan.dependence)

    def image_test(self, seed: int) -> Any:
        if not self.settings.n_permutations or not self.study.embedding_columns:
            return None
        # where the design fixes the propensity, scores made without the images make the test exact
        is_exact = self.study.propensity is not None and self.scores.n_units == self.study.n_units
        return image_heterogeneity_test(
            self.study,
            None if is_exact else self.scores,
            n_permutations=self.settings.n_permutations,
            random_state=seed,
        )

    def split_sample(self, learner: Any, seed: int) -> Any:
        if not self.settings.n_splits or not hasattr(learner, "predict"):
            return None
        return split_sample_inference(
            self.study,
            learner,
            n_splits=self.settings.n_splits,
            n_groups=self.settings.n_groups,
            n_jobs=self.settings.n_jobs,
            random_state=seed,
        )

    def versus_covariates(self, learner: Any, seed: int) -> Any:
        """Compare with the same learner on covariates alone, where there are any."""
        if not self.study.roles.covariates or not self.study.embedding_columns:
            return None
        if "use" not in learner.get_params(deep=False):
            return None
        plain = clone(learner).set_params(use="covariates")
        if "n_components" in plain.get_params(deep=False):
            plain.set_params(n_components=None)
        other = predict_effects(self.plan.study, plain, self.plan, "covariates")
        names = ("the ranking with images", "the ranking by covariates alone")
        return compare_priorities(self.scores, self.effects, other, names=names, random_state=seed)

    def tree(self, columns: pd.DataFrame, seed: int) -> Any:
        """Learn a rule of two questions that a reader can follow."""
        least = max(20, int(np.ceil(_MIN_LEAF_SHARE * self.scores.n_units)))
        if columns.shape[1] == 0 or self.scores.n_units < 4 * least:
            return None
        n_folds = self.plan.dealing.folds[0].n_folds
        return learn_policy(
            self.scores, columns, n_folds=n_folds, min_leaf_units=least, random_state=seed
        )
