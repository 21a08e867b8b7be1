"""The sections of the page: what each kind of result shows, and how it is said."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from textwrap import fill

import numpy as np
import pandas as pd

from terracausal.evaluation import TargetingResult
from terracausal.nuisance import Nuisances, Scores
from terracausal.nuisance.scores import EXTREME
from terracausal.plotting import plot_intervals, plot_overlap, plot_targeting_curve
from terracausal.plotting.canvas import plain_number
from terracausal.report.bundle import Bundle
from terracausal.report.pictures import Picture, draw_figure
from terracausal.report.tables import Table, tidy_table
from terracausal.report.wording import (
    Interval,
    capitalise,
    in_brackets,
    tell_agreement,
    tell_average_effect,
    tell_overlap,
    tell_targeting,
)
from terracausal.study import Estimate, Study


@dataclass(frozen=True)
class Section:
    """One section of the page.

    Parameters
    ----------
    title : str
        Heading.
    sentence : str
        What it says, in plain words.
    pictures : tuple of Picture, default=()
        Figures.
    table : Table, default=None
        Numbers.
    galleries : tuple of (str, tuple of Picture), default=()
        Rows of chips with a heading each.
    note : str, default=""
        How to read the galleries.
    printed : tuple of (str, str), default=()
        Title and text of summaries, folded away on screen.
    limits : tuple of str, default=()
        What must hold, and where it stops.
    finding : str, default=""
        What goes into the short version at the top.
    """

    title: str
    sentence: str
    pictures: tuple[Picture, ...] = ()
    table: Table | None = None
    galleries: tuple[tuple[str, tuple[Picture, ...]], ...] = ()
    note: str = ""
    printed: tuple[tuple[str, str], ...] = ()
    limits: tuple[str, ...] = ()
    finding: str = ""


def describe_study(study: Study) -> Section:
    """Return the section on who was studied."""
    treated = float(np.mean(study.treatment.to_numpy(dtype=float)))
    clusters = study.n_clusters
    counts = [
        ("Units (one outcome each)", f"{study.n_units:,}"),
        ("Sites (places with an image)", f"{study.n_sites:,}" if study.n_sites else "none"),
        ("Clusters (units that depend on each other)", f"{clusters:,}" if clusters else "none"),
        ("Treated share of units", f"{treated:.1%}"),
    ]
    where = f" at {study.n_sites:,} sites" if study.n_sites else ""
    sentence = (
        f"The study follows {study.n_units:,} units{where}; {treated:.0%} of them were in the "
        f"programme{in_brackets(study.roles.treatment, 'treatment')}."
    )
    return Section(
        "The study",
        sentence,
        table=Table(("", "Count"), tuple(counts)),
        printed=(("The study in full", study.describe()),),
        limits=limits_of([study]),
    )


def describe_average_effects(estimates: Sequence[Estimate], outcome: str) -> Section:
    """Return the section on the average effect: the first estimate leads, all are compared."""
    tables = [estimate.to_dataframe(level=0.95) for estimate in estimates]
    rows = pd.concat(tables, ignore_index=True)
    rows["term"] = label_rows(estimates)
    intervals = [Interval.from_row(row) for _, row in rows.iterrows()]
    finding = tell_average_effect(intervals[0], outcome)
    sentence = f"{finding} This is the {estimates[0].estimand}, by {estimates[0].method}."
    if len(intervals) > 1:
        sentence += f" {tell_agreement([interval.sign for interval in intervals])}"
    shown = rows.assign(term=[fill(term, 30) for term in rows["term"]])
    n_lines = sum(term.count("\n") + 1 for term in shown["term"])
    picture = draw_figure(
        lambda ax: plot_intervals(shown, ax=ax, show_numbers=False),
        0.95 + 0.22 * len(rows) + 0.2 * n_lines,
        alt="Dots on horizontal lines: "
        + "; ".join(
            f"{term}: {interval.text}"
            for term, interval in zip(rows["term"], intervals, strict=True)
        ),
        caption="Dots are estimates, lines their 95% intervals; the dashed line marks no effect.",
    )
    return Section(
        "Average effect",
        sentence,
        pictures=(picture,),
        table=tidy_table(rows),
        printed=tuple(
            (f"In full: {estimate.estimand}, {estimate.method}", estimate.summary())
            for estimate in estimates
        ),
        limits=limits_of(estimates),
        finding=finding,
    )


def label_rows(estimates: Sequence[Estimate]) -> list[str]:
    """Name each row by its estimand, and by method and term as far as others share it."""
    keys = [(e.estimand, e.method, term) for e in estimates for term in e.terms]
    labels = []
    for key in keys:
        n_words = 1
        while n_words < 3 and sum(other[:n_words] == key[:n_words] for other in keys) > 1:
            n_words += 1
        labels.append(capitalise(", ".join(key[:n_words])))
    return labels


def describe_targeting(results: Sequence[TargetingResult]) -> Section:
    """Return the section on whether the ranking finds those who gain most; the first leads."""
    result = results[0]
    rows = pd.concat([one.to_dataframe() for one in results], ignore_index=True)
    interval = Interval.from_row(rows.iloc[0])
    toc = result.toc
    nearest = toc.iloc[(toc["fraction"] - 0.2).abs().argmin()]
    close = abs(nearest["fraction"] - 0.2) < 0.05
    gain = (float(nearest["fraction"]), float(nearest["estimate"])) if close else None
    term = str(rows["term"].iloc[0])
    picture = draw_figure(
        partial(_draw_toc, toc),
        3.6,
        alt=f"Curve of the effect above average against the share treated; {term} is "
        f"{interval.text}.",
        caption=(
            "How far the average effect among those ranked first lies above the average effect of "
            "all, with its pointwise 95% band. A useless ranking stays on the dashed line."
        ),
    )
    finding = tell_targeting(interval, term, gain)
    return Section(
        "Who benefits most? (targeting)",
        finding,
        pictures=(picture,),
        table=tidy_table(rows),
        printed=tuple((f"The test in full: {one.target}", one.summary()) for one in results),
        limits=limits_of(results),
        finding=finding,
    )


def rankings(results: Sequence[TargetingResult]) -> list[list[TargetingResult]]:
    """Return the results by ranking: measures that differ are of one, the same begins another."""
    found: list[list[TargetingResult]] = []
    for result in results:
        if not found or result.target in [one.target for one in found[-1]]:
            found.append([])
        found[-1].append(result)
    return found


def _draw_toc(toc: pd.DataFrame, ax: object) -> None:
    plot_targeting_curve(toc, ax=ax)  # type: ignore[arg-type]


def describe_overlap(scores: Scores, *, checked: bool = False) -> Section:
    """Return the section on whether each kind of unit was found in both arms.

    Where overlap is `checked` elsewhere on the page, only the scores are printed.
    """
    table = scores.to_dataframe()
    printed = (("The scores in full", scores.summary()),)
    title, limits = "Overlap", limits_of([scores])
    if checked:
        sentence = (
            "Each unit has a score that combines its outcome, what was predicted for it with and "
            f"without the programme, and its chance of treatment; {scores.population}."
        )
        return Section("The scores behind the effects", sentence, printed=printed, limits=limits)
    if not {"propensity", "treatment"} <= set(table.columns):
        sentence = (
            "These scores came without chances of treatment, so this report cannot show whether "
            "treated and comparison units are alike."
        )
        return Section(title, sentence, printed=printed, limits=limits)
    propensity = table["propensity"].to_numpy(dtype=float)
    treatment = table["treatment"].to_numpy(dtype=float)
    sentence = f"{tell_overlap(propensity, EXTREME)} These are the scores of {scores.population}."
    picture = draw_figure(
        lambda ax: plot_overlap(propensity, treatment, ax=ax),
        3.3,
        alt="Histograms of the chance of treatment, treated upwards and comparison downwards.",
        caption=(
            "Chance of treatment of each unit. Where only one side has bars, there is nobody to "
            "compare with."
        ),
    )
    return Section(title, sentence, (picture,), printed=printed, limits=limits)


def describe_nuisances(nuisances: Nuisances) -> Section:
    """Return the section on the predictions behind the scores."""
    sentence = (
        "To compare like with like, the outcome of each unit, and its chance of treatment where "
        "the design does not fix it, were predicted from other units only."
    )
    return Section(
        "The predictions behind the comparison",
        sentence,
        printed=(("The predictions in full", nuisances.summary()),),
        limits=limits_of([nuisances]),
    )


def tiles(bundle: Bundle) -> Iterator[tuple[str, str]]:
    """Yield the few numbers at the top of the page, each with what it counts."""
    if bundle.estimates:
        first = bundle.estimates[0]
        interval = Interval.from_row(first.to_dataframe(level=0.95).iloc[0])
        value = plain_number(interval.estimate, interval.decimals)
        yield value, f"{first.estimand}, {interval.level_text} {interval.range_text}"
    if bundle.targeting:
        row = bundle.targeting[0].to_dataframe().iloc[0]
        interval = Interval.from_row(row)
        value = plain_number(interval.estimate, interval.decimals)
        yield value, f"{row['term']} (targeting), {interval.level_text} {interval.range_text}"
    if bundle.study is not None:
        yield f"{bundle.study.n_units:,}", "units"
        if bundle.study.n_sites:
            yield f"{bundle.study.n_sites:,}", "sites"


def limits_of(items: Sequence[object]) -> tuple[str, ...]:
    """Return what was done to the data and what is assumed, each once, in order."""
    found = [
        capitalise(str(text))
        for name in ("notes", "assumptions")
        for item in items
        for text in getattr(item, name, ())
    ]
    return tuple(dict.fromkeys(found))
