"""Several rules of treatment in one table, against treating all, none and at random."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from terracausal._foundation.errors import list_some
from terracausal.evaluation.policies import policy_value
from terracausal.evaluation.priorities import read_priority
from terracausal.nuisance import Scores
from terracausal.study import Dependence, Estimate
from terracausal.study.result import TabularResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True, eq=False)
class PolicyComparison(TabularResult):
    """What rules gain per unit, and by how much they beat each other.

    Parameters
    ----------
    estimates : dict of str to Estimate
        For each rule the terms of `policy_value`.
    shares : dict of str to float
        Share of the units that each rule treats.
    reference : str
        The rule that the others are compared with.
    gaps : dict of str to Estimate
        Each other rule less the reference.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> x = rng.normal(size=500)
    >>> scores = Scores.from_dataframe(pd.DataFrame({"score": x + rng.normal(size=500)}))
    >>> found = compare_policies(scores, {"image": x > 0, "tabular": rng.random(500) > 0.5})
    >>> found.to_dataframe()["term"].tolist()
    ['treat none', 'treat all', 'image', 'tabular']
    """

    estimates: dict[str, Estimate] = field(repr=False)
    shares: dict[str, float]
    reference: str
    gaps: dict[str, Estimate] = field(repr=False)

    @property
    def terms(self) -> tuple[str, ...]:
        """Names of the rules."""
        return tuple(self.estimates)

    @property
    def value(self) -> Floats:
        """What each rule gains per unit over treating nobody, of shape (n_rules,)."""
        return np.array([estimate.value[0] for estimate in self.estimates.values()])

    @property
    def std_error(self) -> Floats:
        """Standard errors, of shape (n_rules,)."""
        return np.array([estimate.std_error[0] for estimate in self.estimates.values()])

    @property
    def assumptions(self) -> tuple[str, ...]:
        """What must hold for the values to be right."""
        return next(iter(self.estimates.values())).assumptions

    @property
    def notes(self) -> tuple[str, ...]:
        """What was done to the data, or to the errors."""
        found = (note for estimate in self.estimates.values() for note in estimate.notes)
        return tuple(dict.fromkeys(found))

    def to_dataframe(self, level: float = 0.95) -> pd.DataFrame:
        """Return one row for treating none, one for all, and one per rule.

        Parameters
        ----------
        level : float, default=0.95
            Coverage of the intervals.

        Returns
        -------
        pandas.DataFrame
            The tidy columns of an estimate (against treating nobody) with `p_value`,
            `share_treated`, and gains over treating all, over treating as many at random and over
            the reference: `over_all`, `over_random`, `over_reference`, each with `…_std_error` and
            `…_p_value`; missing where a rule would be compared with itself.
        """
        everyone = next(iter(self.estimates.values()))
        tidy = everyone.to_dataframe(level).iloc[1]
        lines = [
            dict(tidy, term="treat none", share_treated=0.0)
            | dict.fromkeys(("estimate", "std_error", "ci_low", "ci_high"), 0.0)
            | {"p_value": np.nan}
            | _gain("all", -everyone, 1),
            dict(tidy, term="treat all", share_treated=1.0) | {"p_value": everyone.p_value[1]},
        ]
        for name, estimate in self.estimates.items():
            line = dict(estimate.to_dataframe(level).iloc[0], term=name)
            line |= {"share_treated": self.shares[name], "p_value": estimate.p_value[0]}
            line |= _gain("all", estimate, 2) | _gain("random", estimate, 3)
            if name in self.gaps:
                line |= _gain("reference", self.gaps[name], 0)
            lines.append(line)
        names = [
            f"over_{other}{what}"
            for other in ("all", "random", "reference")
            for what in ("", "_std_error", "_p_value")
        ]
        first = ["term", "share_treated", *[name for name in tidy.index if name != "term"]]
        return pd.DataFrame(lines, columns=[*first, "p_value", *names])

    def summary(self, level: float = 0.95) -> str:
        """Return the rules and their gains as text.

        Parameters
        ----------
        level : float, default=0.95
            Coverage of the intervals.

        Returns
        -------
        str
        """
        one = next(iter(self.estimates.values()))
        lines = ["Rules of treatment: gain per unit over treating nobody"]
        for row in self.to_dataframe(level).itertuples():
            told = [
                f"{word} {getattr(row, name):+.4f} (p = {getattr(row, f'{name}_p_value'):.3g})"
                for word, name in (
                    ("over treating all", "over_all"),
                    ("over random", "over_random"),
                    (f"over {self.reference}", "over_reference"),
                )
                if row.term not in ("treat none", "treat all")
                and np.isfinite(getattr(row, f"{name}_p_value"))
            ]
            lines.append(
                f"  {row.term:<12} {row.estimate:.4f}, {level:.0%} interval {row.ci_low:.4f} to "
                f"{row.ci_high:.4f}; treats {row.share_treated:.1%}"
                f"{'; ' if told else ''}{', '.join(told)}"
            )
        lines.append(f"  std. error  {one.describe_std_error()}; {one.n_units:,} units")
        lines += [f"  note        {note}" for note in self.notes]
        lines += [f"  assumes     {text}" for text in self.assumptions]
        return "\n".join(lines)

    def plot(self, ax: "Axes | None" = None) -> "Axes":
        """Draw what each rule gains over treating nobody.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, default=None
            Where to draw; None makes a new figure.

        Returns
        -------
        matplotlib.axes.Axes
        """
        from terracausal.plotting import plot_intervals

        return plot_intervals(self.to_dataframe().iloc[1:], ax=ax, xlabel="Gain per unit")


def compare_policies(
    scores: Scores,
    policies: "Mapping[str, pd.Series[Any] | ArrayLike]",
    *,
    reference: str | None = None,
    cost: float = 0.0,
    dependence: Dependence | None = None,
) -> PolicyComparison:
    """Value several rules on the same units, against each other and against trivial rules.

    Parameters
    ----------
    scores : Scores
        From `doubly_robust_scores`. With repeats, of scores or rules, the median over them is
        taken.
    policies : dict of str to pandas.Series or array-like of shape (n_units,)
        By name, the chance with which a rule treats each unit, as in `policy_value`: a budget spent
        on image-based priorities, the same budget on a tabular priority, a tree, ….
    reference : str, default=None
        The rule that the others are compared with, such as the tabular one; None is the last.
    cost : float, default=0.0
        Cost of treating one unit, in units of the outcome.
    dependence : Dependence, default=None
        None clusters whenever the units have clusters, and treats units as independent otherwise.

    Returns
    -------
    PolicyComparison

    Raises
    ------
    ValueError
        There is no rule, the reference is not among them, or a chance lies outside 0 to 1.
    LeakageError
        A rule was made from the outcomes of the units that evaluate it.

    Notes
    -----
    Errors of differences count that rules are valued on the same units. See `policy_value` for the
    estimator, its assumptions and rules from out-of-fold predictions.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> x = rng.normal(size=500)
    >>> scores = Scores.from_dataframe(pd.DataFrame({"score": x + rng.normal(size=500)}))
    >>> found = compare_policies(scores, {"image": x > 0, "tabular": rng.random(500) > 0.5})
    >>> bool(found.gaps["image"].value[0] > 0.1)
    True
    """
    if not policies:
        raise ValueError("`policies` must name at least one rule; got none.")
    reference = list(policies)[-1] if reference is None else reference
    if reference not in policies:
        raise ValueError(
            f"`reference` must be one of the rules {list_some(policies)}; got {reference!r}."
        )
    estimates, shares = {}, {}
    for name, policy in policies.items():
        try:
            found = policy_value(scores, policy, cost=cost, dependence=dependence)
        except ValueError as error:
            error.add_note(f"while valuing the rule {name!r}")
            raise
        chance = read_priority(scores, policy, name="policy").values
        estimates[name] = found
        shares[name] = float(np.average(chance, weights=scores.weight))
    gaps = {
        name: replace(estimate - estimates[reference], notes=estimate.notes)
        for name, estimate in estimates.items()
        if name != reference
    }
    return PolicyComparison(estimates, shares, reference, gaps)


def _gain(over: str, estimate: Estimate, term: int) -> dict[str, float]:
    """Return one gain, its error and its p-value under their names in the table."""
    gain, error = float(estimate.value[term]), float(estimate.std_error[term])
    p_value = float(estimate.p_value[term]) if error > 0 else np.nan
    return {
        f"over_{over}": gain,
        f"over_{over}_std_error": error,
        f"over_{over}_p_value": p_value,
    }
