"""Sort a list of results by what they are, in whatever order they come."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from terracausal._foundation.errors import AlignmentError, list_some
from terracausal.evaluation import TargetingResult
from terracausal.imagery import Chips
from terracausal.nuisance import Nuisances, Scores
from terracausal.report.statements import is_average, is_result
from terracausal.report.wording import in_brackets
from terracausal.study import Estimate, Study


@dataclass
class Bundle:
    """The results of one report, by kind.

    Parameters
    ----------
    study : Study, default=None
        Units and their roles.
    chips : Chips, default=None
        Images of the sites.
    nuisances : list of Nuisances
        Out-of-fold predictions.
    scores : list of Scores
        Doubly robust scores.
    estimates : list of Estimate
        Average effects; estimates of anything else are `others`.
    targeting : list of TargetingResult
        Rankings and how well they target.
    effects : list of Series
        Conditional effects by unit.
    others : list of object
        Further results, each told by itself.
    """

    study: Study | None = None
    chips: Chips | None = None
    nuisances: list[Nuisances] = field(default_factory=list)
    scores: list[Scores] = field(default_factory=list)
    estimates: list[Estimate] = field(default_factory=list)
    targeting: list[TargetingResult] = field(default_factory=list)
    effects: list["pd.Series[float]"] = field(default_factory=list)
    others: list[Any] = field(default_factory=list)

    @property
    def outcome(self) -> str:
        """Name of the outcome in a sentence."""
        name = "outcome" if self.study is None else self.study.roles.outcome
        return f"the outcome{in_brackets(name, 'outcome')}"


_ONE: tuple[tuple[type, str], ...] = ((Study, "study"), (Chips, "chips"))
_MANY: tuple[tuple[type, str], ...] = (
    (Nuisances, "nuisances"),
    (Scores, "scores"),
    (Estimate, "estimates"),
    (TargetingResult, "targeting"),
    (pd.Series, "effects"),
)


def sort_results(results: Sequence[Any], chips: Chips | None = None) -> Bundle:
    """Return the results by kind, or say which of them a report cannot show.

    Parameters
    ----------
    results : sequence
        Results of the library.
    chips : Chips, default=None
        Images that are not in `results`.

    Returns
    -------
    Bundle

    Raises
    ------
    TypeError
        An item is of no known kind, or `results` is not a sequence of results.
    ValueError
        There is nothing to report, two studies or two sets of chips, or effects without a study.
    AlignmentError
        Effects name units that the study does not have.
    """
    if isinstance(results, str | pd.Series) or not isinstance(results, Sequence):
        raise TypeError(
            f"`results` must be a list of results; got a single {type(results).__name__}. "
            "Put it in brackets: Report([result])."
        )
    bundle = Bundle()
    items = [*results, *([] if chips is None else [chips])]
    for position, item in enumerate(items):
        _place(bundle, item, position)
    if not items:
        raise ValueError("A report needs at least one result; `results` is empty.")
    _check_effects(bundle)
    return bundle


def _place(bundle: Bundle, item: Any, position: int) -> None:
    if isinstance(item, Estimate) and not is_average(item):
        bundle.others.append(item)
        return
    for kind, name in _MANY:
        if isinstance(item, kind):
            getattr(bundle, name).append(item)
            return
    for kind, name in _ONE:
        if isinstance(item, kind):
            if getattr(bundle, name) not in (None, item):
                raise ValueError(
                    f"A report describes one {kind.__name__}; got two different ones "
                    f"(the second at position {position}). Make one report for each."
                )
            setattr(bundle, name, item)
            return
    if is_result(item):
        bundle.others.append(item)
        return
    known = ", ".join(kind.__name__ for kind, _ in (*_ONE, *_MANY))
    raise TypeError(
        f"A report can show {known}, and whatever has summary() and to_dataframe(); item "
        f"{position} is a {type(item).__name__}. Leave it out."
    )


def _check_effects(bundle: Bundle) -> None:
    for effects in bundle.effects:
        if bundle.study is None:
            raise ValueError(
                "A Series of effects needs a Study in the same report, which knows the place of "
                f"each unit; found none beside {effects.name!r}. Add the study to `results`."
            )
        unknown = effects.index.difference(bundle.study.units)
        if len(unknown) or effects.index.has_duplicates:
            doubled = int(effects.index.duplicated().sum())
            raise AlignmentError(
                f"The effects {effects.name!r} must have one value for units of the study; "
                f"{len(unknown)} are unknown ({list_some(unknown)}) and {doubled} stand twice. "
                "Predict them from the same study."
            )
