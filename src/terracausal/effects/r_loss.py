"""Comparing effect learners by their R-loss on held-out clusters, within a budget of time."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from terracausal._foundation.checks import check_count, check_positive
from terracausal._foundation.errors import RoleError
from terracausal._foundation.progress import track
from terracausal._foundation.randomness import RandomState, random_generator
from terracausal.effects.cross_prediction import fold_masks
from terracausal.effects.learner import EffectLearner, check_effect_learner, check_outcome_varies
from terracausal.effects.r_learner import residuals
from terracausal.nuisance import cross_fit
from terracausal.nuisance.fitting import seeded
from terracausal.study import Estimate, Folds, Study
from terracausal.study.result import Result
from terracausal.study.units import UnitFrame

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Floats = NDArray[np.floating[Any]]
CONSTANT = "constant effect"


@dataclass(frozen=True, eq=False)
class LearnerComparison(Result):
    """R-losses of effect learners on the same held-out clusters; less is better.

    Parameters
    ----------
    losses : pandas.DataFrame of shape (n_units, n_tried + 1)
        Squared residual of each unit, a column for each learner that was tried, and one for an
        effect that is the same for all.
    weight : ndarray of shape (n_units,)
        Of units, with mean one.
    frame : UnitFrame
        Units and clusters.
    seconds : dict of str to float
        Time that each learner took.
    not_tried : tuple of str, default=()
        Learners for which no time was left.
    budget_s : float, default=None
        Seconds that were given.

    Examples
    --------
    >>> losses = pd.DataFrame({"ridge": [1.0, 1.0, 1.2], CONSTANT: [1.2, 1.0, 1.3]})
    >>> frame = UnitFrame(pd.RangeIndex(3))
    >>> LearnerComparison(losses, np.ones(3), frame, {"ridge": 0.1}).best
    'ridge'
    """

    losses: pd.DataFrame = field(repr=False)
    weight: Floats = field(repr=False)
    frame: UnitFrame = field(repr=False)
    seconds: dict[str, float]
    not_tried: tuple[str, ...] = ()
    budget_s: float | None = None

    @property
    def loss(self) -> "pd.Series[float]":
        """Mean loss of each learner that was tried, and of a constant effect."""
        mean = np.average(self.losses, axis=0, weights=self.weight)
        return pd.Series(mean, index=self.losses.columns)

    @property
    def best(self) -> str:
        """The learner with the smallest loss."""
        return str(self.loss.drop(CONSTANT).idxmin())

    @property
    def gain(self) -> Estimate:
        """By how much each learner's loss lies below that of a constant effect, paired by unit."""
        names = [name for name in self.losses.columns if name != CONSTANT]
        below = self.losses[[CONSTANT]].to_numpy() - self.losses[names].to_numpy()
        value = np.average(below, axis=0, weights=self.weight)
        return Estimate(
            value,
            self.weight[:, None] * (below - value),
            self.frame,
            tuple(names),
            "R-loss of a constant effect less that of the learner",
            "squared residuals of held-out clusters, paired",
        )

    def to_dataframe(self) -> pd.DataFrame:
        """Return one row per learner, the best first.

        Returns
        -------
        pandas.DataFrame
            Columns learner, r_loss, above_best and std_error (of that difference, paired by unit
            and clustered), seconds and status ("best", "tried", "reference" or "not tried").
        """
        loss, best = self.loss, self.best
        rows: list[dict[str, Any]] = []
        for name in loss.sort_values(kind="stable").index:
            above = (self.losses[name] - self.losses[best]).to_numpy()
            value = np.average(above, weights=self.weight)
            influence = (self.weight * (above - value))[:, None]
            words = ("difference of R-losses", "paired by unit")
            found = Estimate(np.array([value]), influence, self.frame, (name,), *words)
            status = {best: "best", CONSTANT: "reference"}.get(name, "tried")
            rows.append(
                {
                    "learner": name,
                    "r_loss": loss[name],
                    "above_best": value,
                    "std_error": found.std_error[0],
                    "seconds": self.seconds.get(name, 0.0),
                    "status": status,
                }
            )
        rows += [{"learner": name, "status": "not tried"} for name in self.not_tried]
        columns = ["learner", "r_loss", "above_best", "std_error", "seconds", "status"]
        return pd.DataFrame(rows, columns=columns)

    def summary(self) -> str:
        """Return the losses, and which learners were not tried, as text."""
        table = self.to_dataframe()
        tried = table[table["status"] != "not tried"]
        lines = [
            f"R-losses of {len(tried) - 1} effect learners on held-out clusters; less is better",
            *(
                f"  {row.learner:<16} {row.r_loss:.5g}; {row.above_best:.3g} above the best "
                f"(std. error {row.std_error:.2g}), {row.seconds:.1f} s"
                for row in tried.itertuples()
            ),
        ]
        if self.not_tried:
            names = ", ".join(self.not_tried)
            lines.append(f"  not tried        {names}: the {self.budget_s:g} s were spent")
        if tried.iloc[0]["learner"] == CONSTANT:
            lines.append("  note             no learner predicts better than a constant effect")
        lines.append(f"  std. error       {self.gain.describe_std_error()}; given the folds")
        return "\n".join(lines)

    def plot(self, ax: "Axes | None" = None) -> "Axes":
        """Draw by how much each learner's loss lies below that of a constant effect.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, default=None
            Where to draw; None makes a new figure.

        Returns
        -------
        matplotlib.axes.Axes
        """
        from terracausal.plotting import plot_intervals

        label = "R-loss below that of a constant effect"
        return plot_intervals(self.gain.to_dataframe(), ax=ax, xlabel=label, unit=None)


def compare_learners(
    study: Study,
    candidates: Mapping[str, EffectLearner],
    *,
    budget_s: float | None = None,
    n_folds: int = 5,
    outcome_learner: Any = None,
    propensity_learner: Any = None,
    random_state: RandomState = None,
) -> LearnerComparison:
    """Compare effect learners by the R-loss of their out-of-fold predictions.

    Parameters
    ----------
    study : Study
    candidates : mapping of str to EffectLearner
        By name, in the order in which they are tried.
    budget_s : float, default=None
        Seconds after which no further learner is begun; the first is tried in any case. None tries
        all. With a budget, which learners are tried depends on the machine.
    n_folds : int, default=5
        Folds of whole clusters, the same for all learners and for the residuals.
    outcome_learner : str or scikit-learn estimator, default=None
        For the residuals, as in `cross_fit`.
    propensity_learner : str or scikit-learn classifier, default=None
        For the residuals, as in `cross_fit`; not used where the study knows its propensity.
    random_state : None, int or Generator, default=None
        Seed of folds and learners without one of their own.

    Returns
    -------
    LearnerComparison

    Notes
    -----
    The R-loss of Nie & Wager (2021), Biometrika 108(2), doi:10.1093/biomet/asaa076, as a criterion
    of choice: Schuler et al. (2018), arXiv:1804.05146. With the residuals of outcome and treatment
    it is ``mean((y - effect w)^2)``, whose differences between learners are differences of their
    squared distance from the conditional effect, weighted by ``e (1 - e)``, plus noise.

    Standard errors are for these learners as they were fitted, and are not widened as those of
    out-of-fold rankings are (see `rank_weighted_effect`): what a learner of the other folds adds to
    the variance is small beside the noise of the losses. For `RLearner` on 60 sites of 5, the error
    of the gain had 1.15 (no heterogeneity) and 1.07 (strong) times its standard error in 50 draws
    each, where a missing root of 2 would show as 1.41.

    Examples
    --------
    >>> import terracausal as tc
    >>> study = tc.simulate_study(n_sites=40, random_state=0).study
    >>> found = compare_learners(
    ...     study, {"S": tc.SLearner(), "T": tc.TLearner()}, n_folds=2, random_state=0
    ... )
    >>> sorted(found.losses.columns)
    ['S', 'T', 'constant effect']
    """
    check_count("n_folds", n_folds, minimum=2)
    if budget_s is not None:
        check_positive("budget_s", budget_s)
    check_candidates(candidates)
    check_outcome_varies(study)
    started, rng, study = time.monotonic(), random_generator(random_state), study.canonical()
    folds = study.folds(n_folds, random_state=rng)
    nuisances = cross_fit(
        study,
        folds,
        outcome_learner=outcome_learner,
        propensity_learner=propensity_learner,
        random_state=rng,
    )
    y, w = residuals(study, nuisances)
    weight = study.weight
    v = np.ones(len(y)) if weight is None else (weight / weight.mean()).to_numpy()
    losses = {CONSTANT: (y - _constant_effects(study, folds, y, w, v) * w) ** 2}
    seconds: dict[str, float] = {}
    # every candidate gets the same seed whether or not those before it were tried
    tasks = list(zip(candidates.items(), rng.spawn(len(candidates)), strict=True))
    for (name, candidate), child in track(tasks, "comparing effect learners by R-loss"):
        begun = time.monotonic()
        if seconds and budget_s is not None and begun - started > budget_s:
            break
        try:
            effects = seeded(candidate, child).cross_predict(study, folds)
        except Exception as error:
            error.add_note(f"while trying the candidate {name!r}")
            raise
        losses[name] = (y - effects.to_numpy() * w) ** 2
        seconds[name] = time.monotonic() - begun
    left = tuple(name for name in candidates if name not in seconds)
    table = pd.DataFrame(losses, index=study.units)
    return LearnerComparison(table, v, study.frame, seconds, left, budget_s)


def check_candidates(candidates: Mapping[str, EffectLearner]) -> None:
    """Refuse what are not effect learners by name, before any of them is tried."""
    if not isinstance(candidates, Mapping) or not candidates:
        raise TypeError(
            "`candidates` must be effect learners by name, such as {'R': RLearner()}; got "
            f"{'none' if isinstance(candidates, Mapping) else type(candidates).__name__}."
        )
    for name, candidate in candidates.items():
        check_effect_learner(f"The candidate {name!r}", candidate)
    if CONSTANT in candidates:
        raise RoleError(f"The name {CONSTANT!r} is taken by the reference. Rename the candidate.")


def _constant_effects(study: Study, folds: Folds, y: Floats, w: Floats, v: Floats) -> Floats:
    """Return for each unit the constant effect that minimises the loss of the other folds."""
    effects = np.empty(len(y))
    for train, test in fold_masks(study, folds):
        effects[test] = (v * y * w)[train].sum() / (v * w**2)[train].sum()
    return effects
