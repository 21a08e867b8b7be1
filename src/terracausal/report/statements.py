"""What each kind of result says, in plain words: heading, sentence, and where it stands.

Here estimates of effects; how they differ in `difference_statements`, checks in `check_statements`.
A result of another kind is told by its own `headline()` if it has one, and else by the first line
of its `summary()`.
"""

import inspect
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import singledispatch
from typing import Any

import numpy as np

from terracausal.effects import BootstrapEffect
from terracausal.plotting.canvas import decimals_for, plain_number
from terracausal.report.wording import Interval, capitalise, list_words, tell_agreement
from terracausal.study import Estimate, WildBootstrap

# the parts of a page, in the order in which a reader asks
PARTS = ("averages", "differences", "places", "policies", "types", "more", "checks")
_TIDY = {"term", "estimate", "ci_low", "ci_high"}


@dataclass(frozen=True)
class Statement:
    """What a result says.

    Parameters
    ----------
    title : str
        Heading.
    sentence : str
        In plain words.
    part : str, default="more"
        Where on the page it stands, one of `PARTS`.
    finding : bool, default=False
        Whether the sentence belongs into the short version at the top.
    """

    title: str
    sentence: str
    part: str = "more"
    finding: bool = False


@singledispatch
def state(result: Any) -> Statement:
    """Return what a result says; of unknown kinds what they say themselves.

    Parameters
    ----------
    result : object
        With `summary()` and `to_dataframe()`; perhaps with `headline()`, a sentence in plain words,
        and `title`.

    Returns
    -------
    Statement
    """
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", type(result).__name__).lower()
    title = capitalise(str(getattr(result, "title", words)))
    headline = getattr(result, "headline", None)
    if callable(headline):
        return Statement(title, str(headline()), finding=True)
    lines = str(result.summary()).strip().splitlines()
    sentence = capitalise(lines[0].strip().rstrip(".")) if lines else title
    table = result.to_dataframe()
    if len(table) == 1 and set(table.columns) >= _TIDY:
        row = table.iloc[0]
        sentence += f": {Interval.from_row(row).text}"
    return Statement(title, f"{sentence}.")


def is_result(item: Any) -> bool:
    """Return whether an item can be shown: it has `summary()` and `to_dataframe()`."""
    return not inspect.isclass(item) and all(
        callable(getattr(item, name, None)) for name in ("summary", "to_dataframe")
    )


def is_average(estimate: Estimate) -> bool:
    """Return whether an estimate is an average effect on the scale of the outcome."""
    plain = estimate.estimand.startswith(("average effect", "difference between arms"))
    # a difference of two estimates is about the estimates, and no effect
    return plain and estimate.scale == "identity" and " minus " not in estimate.estimand


# -- effects -------------------------------------------------------------------------------------


@state.register
def _(result: Estimate) -> Statement:
    intervals = [Interval.from_row(row) for _, row in result.to_dataframe(0.95).iterrows()]
    if result.estimand.startswith("best linear projection"):
        title = "What goes with larger effects"
        return Statement(title, _tell_projection(result, intervals), "differences")
    if result.estimand.startswith("gain per unit of a rule"):
        title = "What a rule is worth"
        return Statement(title, tell_gain(result.estimand, intervals), "policies", finding=True)
    words = capitalise(result.estimand)
    if len(intervals) == 1:
        null = 1.0 if result.scale == "log" else 0.0
        includes = intervals[0].low <= null <= intervals[0].high
        settled = f", which {'includes' if includes else 'lies apart from'} {null:g}"
        return Statement(words, f"{words} by {result.method}: {intervals[0].text}{settled}.")
    sentence = f"{words}, by {result.method}."
    if result.scale == "identity":
        sentence += f" {tell_agreement([interval.sign for interval in intervals])}"
    return Statement(words, sentence)


def _tell_projection(result: Estimate, intervals: Sequence[Interval]) -> str:
    slopes = [
        (term, interval.sign)
        for term, interval in zip(result.terms, intervals, strict=True)
        if term != "(intercept)"
    ]
    larger = [term for term, sign in slopes if sign > 0]
    smaller = [term for term, sign in slopes if sign < 0]
    if not slopes:
        return f"The average effect, as an intercept, is {intervals[0].text}."
    if not larger and not smaller:
        return (
            f"None of the {len(slopes)} columns goes detectably with the size of the effect, each "
            "looked at beside the others."
        )
    parts = []
    if larger:
        parts.append(f"larger where {list_words(larger)} {_are(larger)} high")
    if smaller:
        parts.append(f"smaller where {list_words(smaller)} {_are(smaller)} high")
    rest = len(slopes) - len(larger) - len(smaller)
    told = f" For the other {rest} columns the data do not settle it." if rest else ""
    return f"The effect is {' and '.join(parts)}, other columns being equal.{told}"


def tell_gain(estimand: str, intervals: Sequence[Interval]) -> str:
    """Say what a rule gains over nobody, as many at random, and everybody."""
    rule, _, against_all, against_random = intervals
    share = re.search(r"treats ([\d.]+%)", estimand)
    who = f"A rule that treats {share.group(1)} of the units" if share else "The rule"
    words = {1: "more than", -1: "less than", 0: "not detectably other than"}
    return (
        f"{who} gains {rule.text} per unit over treating nobody. That is "
        f"{words[against_random.sign]} treating as many at random ({_signed(against_random)}) and "
        f"{words[against_all.sign]} treating everybody ({_signed(against_all)})."
    )


def _signed(interval: Interval) -> str:
    value = plain_number(interval.estimate, interval.decimals)
    return f"difference {value}, {interval.level_text} {interval.range_text}"


@state.register
def _(result: BootstrapEffect) -> Statement:
    row = result.to_dataframe().iloc[0]
    seeds, sampling = float(row["seed_sd"]), float(row["sampling_sd"])
    return Statement(
        "Sampling and fitting, told apart",
        f"Resampling {result.n_clusters:,} clusters and fitting everything anew gives "
        f"{Interval.from_row(row).text}. Other seeds at the same data move the estimate by "
        f"{plain_number(seeds, decimals_for(sampling))}, other samples by "
        f"{plain_number(sampling, decimals_for(sampling))}.",
        "averages",
    )


@state.register
def _(result: WildBootstrap) -> Statement:
    row = result.to_dataframe().iloc[0]
    interval = Interval.from_row(row)
    agrees = np.sign(interval.sign) == np.sign(
        Interval(*map(float, (result.value[0], *result.estimate.confint()[0]))).sign
    )
    verdict = "as the usual one does" if agrees else "unlike the usual one: trust this one"
    inside = "includes zero" if interval.sign == 0 else "excludes zero"
    return Statement(
        "An interval made for few clusters",
        f"With {result.n_clusters:,} clusters, the wild cluster bootstrap gives {interval.text}, "
        f"which {inside}, {verdict}.",
        "averages",
    )


def _are(names: Sequence[str]) -> str:
    return "is" if len(names) == 1 else "are"
