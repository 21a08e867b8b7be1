"""Overlap: whether each arm has units like those of the other, and who carries the weight."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from terracausal._foundation.checks import check_count
from terracausal.evaluation.arms import Arms, Floats, Target, arms_of, effective_units
from terracausal.nuisance import Scores
from terracausal.nuisance.scores import EXTREME
from terracausal.study.result import TabularResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_ARMS = ((1, "treated"), (0, "control"))
_HEAVY = 0.05


@dataclass(frozen=True, eq=False)
class OverlapCheck(TabularResult):
    """Overlap by arm, with the units that carry most weight.

    Parameters
    ----------
    table : pandas.DataFrame of shape (2, 9)
        One row per arm: `n_units`; `propensity_min`, `propensity_median`, `propensity_max`;
        `share_outside`, the share of units with a propensity that no unit of the other arm
        reaches; `effective_units` after weighting; `largest_weight` and `heaviest_percent`, the
        share of the arm's weight that its heaviest unit and its heaviest 1 % carry.
    heaviest : pandas.DataFrame
        The units with the largest share of their arm's weight: `arm`, `propensity`,
        `weight_share` and `score`.
    target : str
        The population to which the arms are weighted.
    population : str
        Which units are looked at, in words.
    propensity, treatment : ndarray of shape (n_units,)
        For the plot.

    Examples
    --------
    >>> import terracausal as tc
    >>> study = tc.simulate_study(n_sites=40, random_state=0).study
    >>> scores = tc.doubly_robust_scores(study, tc.cross_fit(study, random_state=0))
    >>> check_overlap(scores).table["effective_units"].tolist()
    [100.0, 100.0]
    """

    table: pd.DataFrame
    heaviest: pd.DataFrame = field(repr=False)
    target: str
    population: str
    propensity: Floats = field(repr=False)
    treatment: Floats = field(repr=False)

    def to_dataframe(self) -> pd.DataFrame:
        """Return a copy of the table by arm."""
        return self.table.copy()

    def summary(self) -> str:
        """Return overlap in words."""
        e = self.propensity
        extreme = float(((e < EXTREME) | (e > 1 - EXTREME)).mean())
        lines = [
            f"Overlap of {len(e):,} units ({self.population}), weighted to target={self.target!r}",
            f"  propensity  {e.min():.3f} to {e.max():.3f}; {extreme:.1%} of units below "
            f"{EXTREME:g} or above {1 - EXTREME:g}",
        ]
        for row in self.table.itertuples():
            lines.append(
                f"  {row.arm:<11} {row.effective_units:,.0f} effective of {row.n_units:,} units; "
                f"{row.share_outside:.1%} beyond the other arm; the heaviest unit carries "
                f"{row.largest_weight:.1%} of the weight"
            )
        heavy = int((self.heaviest["weight_share"] > _HEAVY).sum())
        if heavy:
            lines.append(
                f"  warning     {heavy} units carry more than {_HEAVY:.0%} of their arm's weight; "
                "see `heaviest`, and consider target='overlap' or trim="
            )
        return "\n".join(lines)

    def plot(self, ax: "Axes | None" = None) -> "Axes":
        """Draw the propensities of both arms.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, default=None
            Where to draw; None makes a new figure.

        Returns
        -------
        matplotlib.axes.Axes
        """
        from terracausal.plotting import plot_overlap

        return plot_overlap(self.propensity, self.treatment, ax=ax)


def check_overlap(scores: Scores, target: Target = "all", *, n_heaviest: int = 10) -> OverlapCheck:
    """Look at the overlap of both arms and at the weights that it implies.

    Parameters
    ----------
    scores : Scores
        With treatment and out-of-fold propensities, from `doubly_robust_scores`; of repeated
        scores the first.
    target : {"all", "treated", "control", "overlap"}, default="all"
        The population to which the arms are weighted, as in `average_effect`.
    n_heaviest : int, default=10
        How many of the heaviest units are listed.

    Returns
    -------
    OverlapCheck

    Raises
    ------
    RoleError
        Scores lack treatment or propensity.

    Notes
    -----
    Effective units: Kish (1965), Survey Sampling. Weights: Li, Morgan & Zaslavsky (2018), JASA
    113(521), doi:10.1080/01621459.2016.1260466, table 1.

    Examples
    --------
    >>> table = pd.DataFrame(
    ...     {"score": 1.0, "propensity": [0.2, 0.5, 0.5, 0.9], "treatment": [0, 0, 1, 1]}
    ... )
    >>> check_overlap(Scores.from_dataframe(table)).table["share_outside"].tolist()
    [0.5, 0.5]
    """
    check_count("n_heaviest", n_heaviest)
    arms = arms_of(scores, target, "check_overlap")
    share = np.zeros(scores.n_units)
    for arm, _ in _ARMS:
        own = arms.treatment == arm
        share[own] = arms.balancing[own] / (arms.balancing[own].sum() or 1.0)
    rows = [_arm_row(arms, share, arm, word) for arm, word in _ARMS]
    listed = pd.DataFrame(
        {
            "arm": np.where(arms.treatment == 1, "treated", "control"),
            "propensity": arms.propensity,
            "weight_share": share,
            "score": scores.score.to_numpy(),
        },
        index=scores.units,
    ).sort_index(kind="stable")
    heaviest = listed.sort_values("weight_share", ascending=False, kind="stable")
    return OverlapCheck(
        pd.DataFrame(rows),
        heaviest.head(n_heaviest),
        target,
        scores.population,
        arms.propensity,
        arms.treatment,
    )


def _arm_row(arms: Arms, share: Floats, arm: int, word: str) -> dict[str, str | float]:
    own = arms.treatment == arm
    e, others = arms.propensity[own], arms.propensity[~own]
    heaviest = np.sort(share[own])[::-1]
    n_top = max(1, round(0.01 * own.sum()))
    return {
        "arm": word,
        "n_units": int(own.sum()),
        "propensity_min": float(e.min()),
        "propensity_median": float(np.median(e)),
        "propensity_max": float(e.max()),
        "share_outside": float(((e < others.min()) | (e > others.max())).mean()),
        "effective_units": effective_units(arms.balancing[own]),
        "largest_weight": float(heaviest[0]),
        "heaviest_percent": float(heaviest[:n_top].sum()),
    }
