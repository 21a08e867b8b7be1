"""`analyze_confounding`: an effect adjusted for what images show, with all that a referee asks."""

import warnings
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd

from terracausal._foundation.checks import check_choice
from terracausal._foundation.errors import OverlapError, OverlapWarning
from terracausal._foundation.randomness import RandomState, random_generator
from terracausal.effects import average_effect
from terracausal.evaluation import (
    BalanceCheck,
    check_balance,
    check_overlap,
    check_propensity,
    spatial_autocorrelation,
    trimmed_units,
)
from terracausal.imagery import Chips
from terracausal.nuisance import Nuisances, Scores
from terracausal.nuisance.scores import EXTREME
from terracausal.report import Report
from terracausal.study import Dependence, Estimate, Study, wild_cluster_bootstrap
from terracausal.study.estimate import FEW_CLUSTERS
from terracausal.workflows.adjusting import Specification, form_scores, predict_nuisances
from terracausal.workflows.analysis import Analysis
from terracausal.workflows.options import FitOptions, read_options
from terracausal.workflows.planning import AnalysisPlan, plan_analysis
from terracausal.workflows.specification_comparison import (
    NAIVE,
    STRATA,
    SpecificationComparison,
)
from terracausal.workflows.steps import LOG

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Target = Literal["all", "treated", "control", "overlap"]
_ARGUMENTS = ("encoder", "n_folds", "n_repeats", "target", "dependence")
_TARGETS = ("all", "treated", "control", "overlap")
_TARGET_OF: dict[str, Target] = {
    "ate": "all",
    "att": "treated",
    "atc": "control",
    "ato": "overlap",
}
_FEWEST_PLACES = 10


@dataclass(frozen=True, eq=False)
class ConfoundingAnalysis(Analysis):
    """An effect adjusted for what images show, with the checks of the adjustment.

    Parameters
    ----------
    headline : Estimate
        The effect adjusted for covariates and images.
    comparison : SpecificationComparison
        All estimates side by side.
    checks : tuple
        Diagnostics of the headline: overlap, propensities, balance, spatial autocorrelation, units
        left out, and the bootstrap for few clusters, as far as they apply.
    study : Study
        Joined to the embeddings, if there are any.
    scores : Scores
        Behind the headline; for everything that is done with scores.
    nuisances : Nuisances
        Behind the scores.
    chips : Chips, default=None
        Images of the sites.
    notes : tuple of str, default=()
        What was decided on the way.

    Examples
    --------
    >>> import terracausal as tc
    >>> from sklearn.linear_model import LogisticRegression
    >>> data = tc.simulate_study("tutorial", n_sites=120, size_px=4, random_state=0)
    >>> quick = {"n_repeats": 1, "n_folds": 2, "propensity_learner": LogisticRegression(C=0.1)}
    >>> means = tc.BandStatisticsEncoder(quantiles=(), moments=("mean",))
    >>> found = tc.analyze_confounding(
    ...     data.study, data.chips, encoder=means, random_state=0, **quick
    ... )
    >>> found.estimates["term"].tolist()[:4]
    ['no adjustment', 'covariates', 'images', 'covariates and images']
    """

    headline: Estimate
    comparison: SpecificationComparison = field(repr=False)
    checks: tuple[Any, ...] = field(repr=False)
    study: Study = field(repr=False)
    scores: Scores = field(repr=False)
    nuisances: Nuisances = field(repr=False)
    chips: Chips | None = field(default=None, repr=False)
    notes: tuple[str, ...] = ()

    @property
    def value(self) -> "Any":
        """The headline estimate, of shape (1,)."""
        return self.headline.value

    @property
    def std_error(self) -> "Any":
        """Its standard error, of shape (1,)."""
        return self.headline.std_error

    @property
    def estimates(self) -> pd.DataFrame:
        """All estimates side by side, one row per specification."""
        return self.comparison.to_dataframe()

    @property
    def results(self) -> tuple[Any, ...]:
        """All results, in the order of the report."""
        return (
            self.study,
            self.headline,
            self.comparison,
            *self.checks,
            self.scores,
            self.nuisances,
        )

    @property
    def report(self) -> Report:
        """The page; `report.extended([...])` shows further results, such as sensitivity bounds."""
        roles = self.study.roles
        return Report(
            self.results,
            title=f"The effect of {roles.treatment} on {roles.outcome}",
            subtitle="Adjusted for what satellite images of the places show",
            chips=self.chips,
            notes=self.notes,
        )

    def to_dataframe(self, level: float = 0.95) -> pd.DataFrame:
        """Return one row per specification.

        Parameters
        ----------
        level : float, default=0.95
            Coverage of the intervals.

        Returns
        -------
        pandas.DataFrame
        """
        return self.comparison.to_dataframe(level)

    def summary(self) -> str:
        """Return estimates and checks as text."""
        parts = [self.headline, self.comparison, *self.checks]
        return "\n\n".join([*(part.summary() for part in parts), *self.notes])

    def plot(self, ax: "Axes | None" = None) -> "Axes":
        """Draw the estimates side by side.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, default=None
            Where to draw; None makes a new figure.

        Returns
        -------
        matplotlib.axes.Axes
        """
        return self.comparison.plot(ax)


def analyze_confounding(
    study: Study,
    chips: Chips | pd.DataFrame,
    *,
    encoder: Any = None,
    n_folds: int = 5,
    n_repeats: int = 3,
    target: Target = "all",
    dependence: Dependence | None = None,
    random_state: RandomState = None,
    **options: Any,
) -> ConfoundingAnalysis:
    """Estimate an effect that is adjusted for covariates and for what images show.

    The effect is estimated without adjustment, adjusted for covariates, for images, and for both,
    out of the same folds and by the same estimator, the median over repeats. The last is the
    headline, and its adjustment is checked. Strata of the design are adjusted for throughout.

    Parameters
    ----------
    study : Study
        Without joined embeddings.
    chips : Chips or pandas.DataFrame of shape (n_sites, n_features)
        Images of the sites, or embeddings of them made elsewhere.
    encoder : ChipEncoder or image learner, default=None
        Turns chips into embeddings without looking at treatment and outcome, as it is where it is
        fitted; or predicts the nuisances from chips itself, by ``cross_fit(study, chips, folds)``.
        None is `RandomConvEncoder` with 256 features, of which the nuisances see 10 principal
        components.
    n_folds : int, default=5
        Folds of whole clusters.
    n_repeats : int, default=3
        Times that everything is done with other folds and seeds.
    target : {"all", "treated", "control", "overlap"}, default="all"
        The population, as in `average_effect`.
    dependence : Dependence, default=None
        None clusters whenever units share a site or a cluster;
        ``Dependence("conley", cutoff_m=20_000)`` is spatial.
    random_state : None, int or Generator, default=None
        Seed.
    **options : Any
        Fields of `FitOptions`, such as `outcome_learner`, `n_components`, `trim` and `keep`.

    Returns
    -------
    ConfoundingAnalysis

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

    Notes
    -----
    Jerzak, Johansson & Daoud (2023), Integrating Earth observation data into causal inference,
    arXiv:2301.12985, with doubly robust estimates. Assumes that what confounds is in covariates,
    strata and images; an adjustment that found nothing in the images looks the same as one that had
    nothing to find. Where some propensities lie within 0.02 of 0 or 1, overlap-weighted estimates
    stand beside the others; where the arms do not overlap at all, they replace them.

    Examples
    --------
    >>> import terracausal as tc
    >>> from sklearn.linear_model import LogisticRegression
    >>> data = tc.simulate_study("tutorial", n_sites=120, size_px=4, random_state=0)
    >>> quick = {"n_repeats": 1, "n_folds": 2, "propensity_learner": LogisticRegression(C=0.1)}
    >>> means = tc.BandStatisticsEncoder(quantiles=(), moments=("mean",))
    >>> found = analyze_confounding(data.study, data.chips, encoder=means, random_state=0, **quick)
    >>> found.headline.terms
    ('ate',)
    """
    check_choice("target", target, _TARGETS)
    plan = plan_analysis(
        study,
        chips,
        encoder,
        (n_folds, n_repeats),
        dependence=dependence,
        options=read_options(
            FitOptions, options, ("encoder", "n_folds", "n_repeats", "target", "dependence")
        ),
        rng=random_generator(random_state),
    )
    return run_confounding(plan, target)


def run_confounding(plan: AnalysisPlan, target: Target = "all") -> ConfoundingAnalysis:
    """Carry out a plan whose input has been checked.

    Parameters
    ----------
    plan : AnalysisPlan
    target : {"all", "treated", "control", "overlap"}, default="all"

    Returns
    -------
    ConfoundingAnalysis
    """
    joined = plan.join("confounder")
    specifications = specify(plan.study, joined, sees_chips=plan.source.learner is not None)
    nuisances = predict_nuisances(specifications, plan)
    comparison, scores = _estimate(specifications, nuisances, plan, target)
    last = specifications[-1]
    headline = comparison.estimates[comparison.headline_name]
    LOG.info("checking the adjustment")
    checks = _check(last.study, nuisances[last.name], scores, headline, plan)
    return ConfoundingAnalysis(
        headline,
        comparison,
        checks,
        last.study,
        scores,
        nuisances[last.name],
        plan.source.chips,
        comparison.refused,
    )


def specify(study: Study, joined: Study, *, sees_chips: bool) -> list[Specification]:
    """Return what is adjusted for, from the least to the most.

    Parameters
    ----------
    study : Study
    joined : Study
        The same with its embeddings, or without where a learner looks at the chips.
    sees_chips : bool

    Returns
    -------
    list of Specification
    """
    if not study.roles.covariates:
        return [Specification("images", joined, sees_chips)]
    return [
        Specification("covariates", study),
        Specification("images", joined.with_roles(covariates=()), sees_chips),
        Specification("covariates and images", joined, sees_chips),
    ]


def _estimate(
    specifications: list[Specification],
    nuisances: dict[str, Nuisances],
    plan: AnalysisPlan,
    target: Target,
) -> tuple[SpecificationComparison, Scores]:
    """Return all estimates, and the scores of the last specification."""
    error = plan.std_error
    estimates: dict[str, Estimate] = {}
    beside: dict[str, Estimate] = {}
    notes: list[str] = []
    for one in specifications:
        with warnings.catch_warnings():
            # told once, of the headline, in the report and below
            warnings.simplefilter("ignore", OverlapWarning)
            scores = form_scores(one.study, nuisances[one.name], plan.options)
        poor = _is_poor(scores)
        try:
            estimates[one.name] = average_effect(scores, target, **error)
        except OverlapError as refused:
            notes.append(f"Adjusted for {one.name}, the effect was refused: {refused}")
        if poor and target != "overlap":
            name = f"{one.name} (overlap-weighted)"
            beside[name] = average_effect(scores, "overlap", **error)
    naive = average_effect(scores, method="difference_in_means", **error)
    last = specifications[-1].name
    headline = last if last in estimates else f"{last} (overlap-weighted)"
    through = f"images enter through {plan.source.describe()}"
    found = {NAIVE if plan.study.strata is None else STRATA: naive, **estimates, **beside}
    if headline in beside or poor:
        _warn(headline in beside, scores)
    return SpecificationComparison(found, headline, tuple(notes), (through,)), scores


def _is_poor(scores: Scores) -> bool:
    e = scores.table["propensity"]
    return bool(((e < EXTREME) | (e > 1 - EXTREME)).any())


def _warn(replaced: bool, scores: Scores) -> None:
    """Warn of poor overlap, once."""
    e = scores.table["propensity"]
    share = float(((e < EXTREME) | (e > 1 - EXTREME)).mean())
    advice = (
        "There is no overlap at all, so the headline is the overlap-weighted effect."
        if replaced
        else "The overlap-weighted effect stands beside the headline; or leave units out with "
        "trim=0.05, which changes the estimand."
    )
    warnings.warn(
        f"{share:.1%} of units have a propensity below {EXTREME:g} or above {1 - EXTREME:g} "
        f"(min {e.min():.4f}, max {e.max():.4f}). {advice}",
        OverlapWarning,
        stacklevel=5,
    )


def _check(
    study: Study,
    nuisances: Nuisances,
    scores: Scores,
    headline: Estimate,
    plan: AnalysisPlan,
) -> tuple[Any, ...]:
    """Return the diagnostics that apply to the headline."""
    target = _TARGET_OF[headline.terms[0]]
    checks: list[Any] = [check_overlap(scores, target)]
    if not nuisances.propensity_known:
        checks.append(check_propensity(scores))
    checks += _balance_of(study, scores, target, plan.source.statistics())
    if study.coordinates is not None:
        n_places = len(scores.frame.coordinates.drop_duplicates())  # type: ignore[union-attr]
        if n_places >= _FEWEST_PLACES:
            checks.append(spatial_autocorrelation(scores, random_state=plan.seed))
    if scores.n_units < study.n_units:
        checks.append(trimmed_units(study, nuisances, scores))
    clusters = headline.n_clusters or 0
    clustered = headline.dependence is not None and headline.dependence.kind == "cluster"
    if clustered and 3 <= clusters < FEW_CLUSTERS:
        checks.append(wild_cluster_bootstrap(headline, random_state=plan.seed))
    return tuple(checks)


def _balance_of(
    study: Study, scores: Scores, target: Target, statistics: pd.DataFrame | None
) -> list[BalanceCheck]:
    """Return the balance of covariates, embeddings, places and band statistics, in one table."""
    found = []
    if study.roles.covariates or study.embedding_columns or study.coordinates is not None:
        found.append(check_balance(study, scores, target=target))
    if statistics is not None:
        of_bands = check_balance(study, scores, statistics, target=target)
        found.append(replace(of_bands, table=of_bands.table.assign(kind="band statistics")))
    if len(found) < 2:
        return found
    rows = pd.concat([check.table for check in found], ignore_index=True)
    return [replace(found[0], table=rows)]
