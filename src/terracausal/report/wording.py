"""Numbers as text, and the sentence that opens each section.

Every sentence is built from the numbers it states; where an interval holds zero it says so first.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from terracausal.plotting.canvas import decimals_for, plain_number


@dataclass(frozen=True)
class Interval:
    """An estimate with the ends of its interval.

    Parameters
    ----------
    estimate : float
        The estimate.
    low : float
        Lower end.
    high : float
        Upper end.
    level : float, default=0.95
        Coverage.

    Examples
    --------
    >>> Interval(0.7612, 0.601, 0.923).text
    '0.76 (95% interval 0.60 to 0.92)'
    """

    estimate: float
    low: float
    high: float
    level: float = 0.95

    @classmethod
    def from_row(cls, row: "pd.Series[float]") -> "Interval":
        """Read a row of a tidy table, which may leave out the level."""
        estimate, low, high = (float(row[name]) for name in ("estimate", "ci_low", "ci_high"))
        return cls(estimate, low, high, float(row.get("level", 0.95)))

    @property
    def decimals(self) -> int:
        """Decimals that show two digits of the width of the interval."""
        return decimals_for(self.high - self.low)

    @property
    def range_text(self) -> str:
        """The interval, such as "0.60 to 0.92"."""
        return " to ".join(plain_number(end, self.decimals) for end in (self.low, self.high))

    @property
    def text(self) -> str:
        """The estimate and its interval."""
        return f"{plain_number(self.estimate, self.decimals)} ({self.level_text} {self.range_text})"

    @property
    def level_text(self) -> str:
        """The coverage, such as "95% interval"."""
        return f"{100 * self.level:.4g}% interval"

    @property
    def is_known(self) -> bool:
        """Whether there is an interval."""
        return math.isfinite(self.low) and math.isfinite(self.high)

    @property
    def sign(self) -> int:
        """1 or -1 where the whole interval lies on one side of zero, else 0."""
        return int(self.low > 0) - int(self.high < 0)


def tell_average_effect(interval: Interval, outcome: str) -> str:
    """Say what the programme did, or that the data do not tell."""
    best = plain_number(interval.estimate, interval.decimals)
    if not interval.is_known:
        return f"The best estimate of the effect on {outcome} is {best}; it came without interval."
    if interval.sign == 0:
        return (
            f"The data do not settle whether the programme raised or lowered {outcome}: the best "
            f"estimate is {best}, but the {interval.level_text} from {interval.range_text} "
            "includes zero."
        )
    verb = "raised" if interval.sign > 0 else "lowered"
    size = plain_number(abs(interval.estimate), interval.decimals)
    low, high = sorted(abs(end) for end in (interval.low, interval.high))
    ends = " to ".join(plain_number(end, interval.decimals) for end in (low, high))
    return (
        f"The programme {verb} {outcome} by {size} ({interval.level_text} {ends}), if the "
        "assumptions below hold."
    )


def tell_agreement(signs: Sequence[int]) -> str:
    """Say whether several estimates point the same way.

    Examples
    --------
    >>> tell_agreement([1, 1, -1])
    'Of the 3 estimates below, 2 are clearly above zero and 1 is clearly below zero.'
    """
    words = {
        1: "clearly above zero",
        -1: "clearly below zero",
        0: "not clearly different from zero",
    }
    counts = [(signs.count(sign), text) for sign, text in words.items() if sign in signs]
    n = len(signs)
    if len(counts) == 1:
        return f"{'Both' if n == 2 else f'All {n}'} estimates below are {counts[0][1]}."
    parts = [f"{count} {'is' if count == 1 else 'are'} {text}" for count, text in counts]
    return f"Of the {n} estimates below, {list_words(parts)}."


def list_words(words: Sequence[str]) -> str:
    """Return words as a list in a sentence.

    Examples
    --------
    >>> list_words(["a", "b", "c"])
    'a, b and c'
    """
    head, tail = words[:-1], words[-1]
    return f"{', '.join(head)} and {tail}" if head else tail


def capitalise(text: str) -> str:
    """Return the text with a large first letter, and the rest as it is."""
    return text[:1].upper() + text[1:]


def in_brackets(name: str, unless: str) -> str:
    """Return " (name)", or nothing where the sentence has just said the same word."""
    return "" if name == unless else f" ({name})"


def tell_targeting(interval: Interval, term: str, gain: tuple[float, float] | None) -> str:
    """Say whether the ranking finds those who gain most; `gain` is (fraction, TOC there)."""
    value = plain_number(interval.estimate, interval.decimals)
    if not interval.is_known:
        return f"How well the ranking finds those who benefit most: {term} = {value}, no interval."
    measured = f"{term} = {value}, {interval.level_text} {interval.range_text}"
    if interval.sign == 0:
        return (
            "The data do not show that the ranking finds those who benefit most: "
            f"{measured}, which includes zero."
        )
    if interval.sign < 0:
        return f"The ranking runs the wrong way: those ranked first benefit less ({measured})."
    sentence = f"Those ranked first do benefit more ({measured})"
    if gain is None:
        return f"{sentence}."
    fraction, above = gain
    more = plain_number(abs(above), interval.decimals)
    return (
        f"{sentence}: among the first {fraction:.0%} of the ranking the effect is {more} "
        f"{'above' if above >= 0 else 'below'} the average effect."
    )


def tell_overlap(propensity: np.ndarray, margin: float) -> str:
    """Say how many units had almost no chance of being in the other arm.

    Examples
    --------
    >>> tell_overlap(np.array([0.5, 0.5]), margin=0.02)
    'Every unit had the same chance of treatment, 0.50, so the two arms can be compared.'
    """
    low, high = float(propensity.min()), float(propensity.max())
    if high - low < 1e-9:
        if not margin <= low <= 1 - margin:
            return f"Every unit had the same chance of treatment, {low:.3g}: one arm is very small."
        return (
            f"Every unit had the same chance of treatment, {low:.2f}, so the two arms can be "
            "compared."
        )
    extreme = int(((propensity < margin) | (propensity > 1 - margin)).sum())
    spread = f"chances of treatment range from {low:.2f} to {high:.2f}"
    if extreme == 0:
        return (
            f"Treated and comparison units can be compared everywhere: their {spread}, and "
            f"none lies within {margin:.2f} of 0 or 1."
        )
    share = extreme / len(propensity)
    return (
        f"Care is needed for {extreme:,} of {len(propensity):,} units ({share:.1%}) with a chance "
        f"of treatment below {margin:.2f} or above {1 - margin:.2f}: few units in the other arm "
        f"are like them ({spread})."
    )


def tell_spread(effects: "pd.Series[float]") -> str:
    """Say how far the effects by place lie apart."""
    low, high = (float(effects.quantile(q)) for q in (0.1, 0.9))
    # finer than for an interval, so that neighbours differ
    decimals = decimals_for((high - low) / 4)
    return (
        f"Predicted effects average {plain_number(float(effects.mean()), decimals)} over "
        f"{len(effects):,} places; four out of five places lie between "
        f"{plain_number(low, decimals)} and {plain_number(high, decimals)}."
    )
