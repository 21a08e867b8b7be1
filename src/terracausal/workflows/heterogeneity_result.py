"""What `analyze_heterogeneity` found: for whom, where, how sure, and what to do with it."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pandas as pd

from terracausal.evaluation import (
    CalibrationTest,
    GroupComparison,
    GroupedEffects,
    ImageHeterogeneityTest,
    LearnedPolicy,
    PriorityComparison,
    SplitSampleInference,
    TargetingResult,
)
from terracausal.imagery import Chips
from terracausal.nuisance import Nuisances, Scores
from terracausal.report import Report
from terracausal.study import Estimate, Study
from terracausal.workflows.analysis import Analysis

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_TIDY = ["term", "estimate", "std_error", "ci_low", "ci_high", "level", "n_units", "n_clusters"]


@dataclass(frozen=True, eq=False)
class HeterogeneityAnalysis(Analysis):
    """How an effect differs between places, and whether that can be believed.

    Parameters
    ----------
    average : Estimate
        The average effect.
    effects : pandas.Series of shape (n_units,)
        Conditional effects, each predicted by learners that did not see the unit.
    autoc, qini : TargetingResult
        How well these rank the units.
    calibration : CalibrationTest or None
        None where the effects do not differ at all.
    groups : GroupedEffects or None
        Effects in groups by predicted effect.
    comparison : GroupComparison or None
        How the most and the least affected units differ.
    image_test : ImageHeterogeneityTest or None
        Whether effects vary with images at all.
    split_sample : SplitSampleInference or None
        Medians over halvings, where they were asked for.
    versus_covariates : PriorityComparison or None
        Whether images rank better than covariates alone.
    policy : pandas.Series of shape (n_units,)
        Chance of treatment under the rule that spends the budget by predicted effect.
    policy_value : Estimate
        What this rule gains.
    tree : LearnedPolicy or None
        A simple rule in words.
    study : Study
        Joined to the embeddings, if there are any.
    scores : Scores
    nuisances : Nuisances
    chips : Chips, default=None
    notes : tuple of str, default=()
        What could not be done, and why.

    Examples
    --------
    >>> import terracausal as tc
    >>> data = tc.simulate_study(n_sites=60, size_px=8, random_state=0)
    >>> found = tc.analyze_heterogeneity(
    ...     data.study, data.chips, encoder=tc.BandStatisticsEncoder(quantiles=()),
    ...     learner=tc.TLearner(), n_folds=2, n_permutations=0, random_state=0,
    ... )  # fmt: skip
    >>> found.to_dataframe()["quantity"].tolist()[:3]
    ['average effect', 'AUTOC', 'QINI']
    """

    average: Estimate
    effects: "pd.Series[float]" = field(repr=False)
    autoc: TargetingResult
    qini: TargetingResult
    calibration: CalibrationTest | None = field(repr=False)
    groups: GroupedEffects | None = field(repr=False)
    comparison: GroupComparison | None = field(repr=False)
    image_test: ImageHeterogeneityTest | None = field(repr=False)
    split_sample: SplitSampleInference | None = field(repr=False)
    versus_covariates: PriorityComparison | None = field(repr=False)
    policy: "pd.Series[float]" = field(repr=False)
    policy_value: Estimate = field(repr=False)
    tree: LearnedPolicy | None = field(repr=False)
    study: Study = field(repr=False)
    scores: Scores = field(repr=False)
    nuisances: Nuisances = field(repr=False)
    chips: Chips | None = field(default=None, repr=False)
    notes: tuple[str, ...] = ()

    @property
    def value(self) -> Any:
        """AUTOC of the predicted effects, of shape (1,)."""
        return self.autoc.value

    @property
    def std_error(self) -> Any:
        """Its standard error, of shape (1,)."""
        return self.autoc.std_error

    @property
    def results(self) -> tuple[Any, ...]:
        """All results, in the order of the report."""
        found = (
            self.study,
            self.average,
            self.autoc,
            self.qini,
            self.image_test,
            self.calibration,
            self.groups,
            self.comparison,
            self.versus_covariates,
            self.split_sample,
            self.effects,
            self.policy_value,
            self.tree,
            self.scores,
            self.nuisances,
        )
        return tuple(result for result in found if result is not None)

    @property
    def report(self) -> Report:
        """The page; `report.extended([...])` shows further results on it."""
        roles = self.study.roles
        return Report(
            self.results,
            title=f"For whom does {roles.treatment} change {roles.outcome}?",
            subtitle="How the effect differs between places, read from satellite images",
            chips=self.chips,
            notes=self.notes,
        )

    def to_dataframe(self, level: float = 0.95) -> pd.DataFrame:
        """Return one row per number.

        Parameters
        ----------
        level : float, default=0.95
            Coverage of the intervals.

        Returns
        -------
        pandas.DataFrame
            `quantity`, and the tidy columns of an estimate.
        """
        contrast = None if self.groups is None else self.groups.contrast
        parts: list[tuple[str, Any]] = [
            ("average effect", self.average),
            ("AUTOC", self.autoc),
            ("QINI", self.qini),
            ("calibration", self.calibration),
            ("groups", self.groups),
            ("highest less lowest group", contrast),
            ("images against covariates", self.versus_covariates),
            ("rule within the budget", self.policy_value),
            ("simple rule", self.tree),
        ]
        tables = [
            part.to_dataframe(level)[_TIDY].assign(quantity=name)
            for name, part in parts
            if part is not None
        ]
        table: pd.DataFrame = pd.concat(tables, ignore_index=True)
        table.insert(0, "quantity", table.pop("quantity"))
        return table

    def by_unit(self) -> pd.DataFrame:
        """Return predicted effect and chance of treatment of each unit, for maps and tables.

        Returns
        -------
        pandas.DataFrame of shape (n_units, 2)
            Columns `effect` (the mean over repeats) and `policy`; units left out by trimming have
            no policy.
        """
        from terracausal.effects import mean_of_repeats

        effect = mean_of_repeats(self.effects).to_numpy()
        table = pd.DataFrame({"effect": effect}, index=self.effects.index)
        table["policy"] = pd.Series(self.policy.to_numpy(), index=self.policy.index)
        return table

    def summary(self) -> str:
        """Return all results as text."""
        shown = (
            *(self.average, self.autoc, self.qini, self.image_test, self.calibration, self.groups),
            *(self.comparison, self.versus_covariates, self.split_sample, self.policy_value),
            self.tree,
        )
        told = [part.summary() for part in shown if part is not None]
        return "\n\n".join([*told, *self.notes])

    def plot(self, ax: "Axes | None" = None) -> "Axes":
        """Draw the targeting curve.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, default=None
            Where to draw; None makes a new figure.

        Returns
        -------
        matplotlib.axes.Axes
        """
        return self.autoc.plot(ax)
