"""The same effect, adjusted for more and more: estimates side by side."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from terracausal.plotting.canvas import decimals_for, plain_number
from terracausal.study import Estimate
from terracausal.study.result import TabularResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NAIVE = "no adjustment"
STRATA = "strata only"


@dataclass(frozen=True, eq=False)
class SpecificationComparison(TabularResult):
    """Estimates of one effect, by what they adjust for.

    Parameters
    ----------
    estimates : dict of str to Estimate
        By specification, the least adjusted first.
    headline_name : str
        The specification that counts.
    refused : tuple of str, default=()
        Estimates that were refused, and why.
    notes : tuple of str, default=()
        How the estimates were made.

    Examples
    --------
    >>> from terracausal.study import UnitFrame
    >>> shift, frame = np.array([[-1.0], [1.0]]), UnitFrame(pd.RangeIndex(2))
    >>> one, two = (
    ...     Estimate(np.array([v]), shift, frame, ("ate",), "effect", "x") for v in (3.0, 2.0)
    ... )
    >>> found = SpecificationComparison({"no adjustment": one, "covariates": two}, "covariates")
    >>> found.to_dataframe()["estimate"].tolist()
    [3.0, 2.0]
    """

    estimates: dict[str, Estimate]
    headline_name: str
    refused: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    title = "What the images change"

    def to_dataframe(self, level: float = 0.95) -> pd.DataFrame:
        """Return one row per specification.

        Parameters
        ----------
        level : float, default=0.95
            Coverage of the intervals.

        Returns
        -------
        pandas.DataFrame
            The tidy columns of an estimate, where `term` is the specification; `estimand` (ate,
            att, …) and `seed_sd`, the standard deviation over repeats with other folds and seeds.
        """
        parts = []
        for name, estimate in self.estimates.items():
            row = estimate.to_dataframe(level)
            row["estimand"] = row["term"]
            row["term"] = name
            values = np.array([repeat.value[0] for repeat in estimate.repeats])
            row["seed_sd"] = values.std(ddof=1) if len(values) > 1 else np.nan
            parts.append(row)
        return pd.concat(parts, ignore_index=True)

    @property
    def first_name(self) -> str:
        """The least adjusted specification."""
        return next(iter(self.estimates))

    def moved(self) -> Estimate | None:
        """Return the headline less the least adjusted estimate, or None where they are one."""
        if self.first_name == self.headline_name:
            return None
        return self.estimates[self.headline_name] - self.estimates[self.first_name]

    def headline(self) -> str:
        """Return in plain words how far the adjustment moves the estimate."""
        moved = self.moved()
        if moved is None:
            return "There is one estimate only, and nothing to compare it with."
        naive, adjusted = self.estimates[self.first_name], self.estimates[self.headline_name]
        low, high = moved.confint()[0]
        decimals = decimals_for(float(high - low))
        first, last, gap, low_text, high_text = (
            plain_number(float(value), decimals)
            for value in (naive.value[0], adjusted.value[0], moved.value[0], low, high)
        )
        settled = (
            "so the groups would have differed without the programme as well"
            if low > 0 or high < 0
            else "which the data do not tell from no change"
        )
        before = "Without any adjustment" if self.first_name == NAIVE else f"With {self.first_name}"
        return (
            f"{before}, the two groups differ by {first}; adjusted for "
            f"{self.headline_name.split(' (')[0]} the effect is {last}. The adjustment moves the "
            f"estimate by {gap} (95% interval {low_text} to {high_text}), {settled}."
        )

    def summary(self, level: float = 0.95) -> str:
        """Return the estimates side by side, as text.

        Parameters
        ----------
        level : float, default=0.95
            Coverage of the intervals.

        Returns
        -------
        str
        """
        table = self.to_dataframe(level)
        width = max(len(str(term)) for term in table["term"])
        lines = ["One effect, by what is adjusted for"]
        for _, row in table.iterrows():
            seeds = "" if np.isnan(row["seed_sd"]) else f"; SD over seeds {row['seed_sd']:.4f}"
            lines.append(
                f"  {row['term']:<{width}} {row['estimand']} {row['estimate']:.4f} (std. error "
                f"{row['std_error']:.4f}), {level:.0%} interval {row['ci_low']:.4f} to "
                f"{row['ci_high']:.4f}{seeds}"
            )
        moved = self.moved()
        if moved is not None:
            low, high = moved.confint(level)[0]
            lines.append(
                f"  {self.headline_name} less {self.first_name}: {moved.value[0]:.4f} (std. error "
                f"{moved.std_error[0]:.4f}), {level:.0%} interval {low:.4f} to {high:.4f}"
            )
        lines += [f"  note        {note}" for note in (*self.refused, *self.notes)]
        return "\n".join(lines)

    def plot(self, ax: "Axes | None" = None) -> "Axes":
        """Draw the estimates with their intervals.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, default=None
            Where to draw; None makes a new figure.

        Returns
        -------
        matplotlib.axes.Axes
        """
        from terracausal.plotting import plot_intervals

        return plot_intervals(self.to_dataframe(), ax=ax)
