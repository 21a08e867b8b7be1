"""How effects differ, for whom, and what follows: each result in plain words."""

import numpy as np

from terracausal.effects import ConformalIntervals, DoseResponse
from terracausal.evaluation import (
    CalibrationTest,
    GroupComparison,
    GroupedEffects,
    ImageHeterogeneityTest,
    LearnedPolicy,
    PriorityComparison,
    SplitSampleInference,
)
from terracausal.interpret import ComponentProfile, Exemplars, PostHocTypes, TypeMap
from terracausal.mixtures import EffectMixture
from terracausal.mixtures.choosing import ComponentChoice
from terracausal.report.statements import Statement, state, tell_gain
from terracausal.report.tables import cell_text
from terracausal.report.wording import Interval, capitalise, list_words


@state.register
def _(result: ImageHeterogeneityTest) -> Statement:
    p_value = float(result.p_value[0])
    chance = (
        f"with images exchanged among places, {p_value:.1%} of {result.n_permutations:,} "
        "arrangements predict effects as well as the true one"
    )
    if p_value < 0.05:
        told = f"Effects do vary with what the images show: {chance}."
    else:
        told = f"The data do not show that effects vary with what the images show: {chance}."
    return Statement("Do effects vary with images at all?", told, "differences", finding=True)


@state.register
def _(result: SplitSampleInference) -> Statement:
    table = result.to_dataframe()
    slope, gap = (
        Interval.from_row(table.loc[table["term"] == term].iloc[0])
        for term in ("heterogeneity", "highest less lowest")
    )
    words = {
        1: "Effects learned on one half of the study do rank the other half",
        -1: "Effects learned on one half of the study rank the other half the wrong way",
        0: "The data do not show that effects learned on one half rank the other half",
    }
    return Statement(
        "Learned on one half, tested on the other",
        f"{words[slope.sign]}: the slope is {slope.text}, and the group ranked highest differs "
        f"from the lowest by {gap.text}; medians over {result.n_splits} splits.",
        "differences",
    )


@state.register
def _(result: CalibrationTest) -> Statement:
    row = result.to_dataframe().iloc[-1]
    interval = Interval.from_row(row)
    confirmed = float(row["p_value"]) < 0.05
    if confirmed and interval.low <= 1 <= interval.high:
        told = "The predicted differences between units are borne out, in direction and in size"
    elif confirmed:
        size = "smaller" if interval.high < 1 else "larger"
        told = f"Units do differ in the predicted direction; the true differences are {size}"
    else:
        told = "The data do not confirm that effects differ as predicted"
    return Statement(
        "Are predicted effects right? (calibration)",
        f"{told}: the slope is {interval.text}, where 1 is right, and 0 means that predictions "
        "tell nothing.",
        "differences",
        finding=confirmed,
    )


@state.register
def _(result: GroupedEffects) -> Statement:
    groups = [Interval.from_row(row) for _, row in result.to_dataframe().iterrows()]
    gap = Interval.from_row(result.contrast.to_dataframe().iloc[0])
    lowest, highest = groups[0], groups[-1]
    told = (
        f"the effect is {highest.text} in the group ranked highest, and {lowest.text} in the "
        "group ranked lowest"
    )
    if gap.sign == 0:
        sentence = (
            f"The data do not show that the groups differ: {told}, a difference of {gap.text}."
        )
    else:
        words = "as predicted" if gap.sign > 0 else "against the prediction"
        sentence = f"The groups differ, {words}: {told}, a difference of {gap.text}."
    return Statement(
        f"Effects in {result.n_groups} groups", sentence, "differences", finding=gap.sign != 0
    )


@state.register
def _(result: GroupComparison) -> Statement:
    table = result.to_dataframe()
    found = table.loc[table["p_adjusted"] < 0.05]
    if found.empty:
        told = (
            f"The most and the least affected units differ in none of {len(table)} columns beyond "
            "what chance explains."
        )
    else:
        shown = [
            f"{'more' if standardised > 0 else 'less'} {term}"
            for term, standardised in zip(
                found["term"].head(4), found["standardised"].head(4), strict=True
            )
        ]
        rest = len(found) - len(shown)
        more = f", and {rest} more such differences" if rest > 0 else ""
        told = (
            f"Compared with the least affected, the most affected have {list_words(shown)}{more}."
        )
    if result.warn:
        told += (
            " The effects of the two groups do not differ detectably, so this tells how the "
            "ranking sorts and not who benefits."
        )
    return Statement("Who are the most and the least affected?", told, "differences")


@state.register
def _(result: PriorityComparison) -> Statement:
    gap = Interval.from_row(result.to_dataframe().iloc[2])
    first, second = result.terms[:2]
    verdict = {
        1: f"{capitalise(first)} ranks units better than {second}",
        -1: f"{capitalise(second)} ranks units better than {first}",
        0: f"The data do not tell whether {first} or {second} ranks units better",
    }[gap.sign]
    return Statement(
        "Two rankings compared",
        f"{verdict}: their {result.target} differ by {gap.text}.",
        "differences",
        finding=gap.sign != 0,
    )


# -- policies and types --------------------------------------------------------------------------


@state.register
def _(result: LearnedPolicy) -> Statement:
    intervals = [Interval.from_row(row) for _, row in result.to_dataframe().iterrows()]
    return Statement(
        "A simple rule of whom to treat",
        f"{capitalise('; '.join(result.rules()))}. "
        f"{tell_gain(result.estimate.estimand, intervals)}",
        "policies",
    )


@state.register
def _(result: EffectMixture) -> Statement:
    told = [
        f"{Interval.from_row(row).text} in {row['share']:.0%} of the units"
        for _, row in result.to_dataframe().iterrows()
    ]
    if len(told) == 1:
        sentence = f"With one type of places, the effect is {told[0]}."
    else:
        sentence = (
            f"If places are of {len(told)} types by their image, the types have effects of "
            f"{list_words(told)}. That there are so many is assumed, and such estimates come apart "
            "even where effects do not differ."
        )
    if result.notes_:
        sentence += " " + " ".join(f"{capitalise(note).rstrip('.')}." for note in result.notes_)
    return Statement("Types of places", sentence, "types")


@state.register
def _(result: PostHocTypes) -> Statement:
    told = [
        f"{Interval.from_row(row).text} in {row['share']:.0%} of the units"
        for _, row in result.to_dataframe().iterrows()
    ]
    gap = Interval.from_row(result.contrast_.to_dataframe().iloc[0])
    return Statement(
        "Places grouped by predicted effect",
        f"Grouped by the effect that their image predicts, places have effects of "
        f"{list_words(told)}, measured on places that did not form the groups. The last and the "
        f"first differ by {gap.text}.",
        "types",
        finding=gap.sign != 0,
    )


@state.register
def _(result: TypeMap) -> Statement:
    n_places = len(result.table)
    told = [
        f"component {kind} at {len(rows):,}" for kind, rows in result.table.groupby("component")
    ]
    return Statement(
        "Where the types of places are",
        f"The most probable type is {list_words(told)} of {n_places:,} places; at "
        f"{n_places - result.n_sure:,} it has a probability below 80%, drawn faint.",
        "types",
    )


@state.register
def _(result: ComponentChoice) -> Statement:
    n_tried = len(result.to_dataframe())
    if result.n_components == 1:
        told = "The data do not support types of places with different effects"
    else:
        told = (
            f"{result.n_components} types of places is the smallest number that predicts places "
            "held out about as well as the best"
        )
    if result.p_value is not None:
        told += f" (p = {result.p_value:.2g} of no number predicting better than one type)"
    return Statement(
        "How many types of places?",
        f"{told}; {n_tried} numbers were tried.",
        "types",
    )


@state.register
def _(result: DoseResponse) -> Statement:
    slope = Interval.from_row(result.average_slope.to_dataframe().iloc[0])
    words = {
        1: f"A unit more of {result.treatment} raises the outcome",
        -1: f"A unit more of {result.treatment} lowers the outcome",
        0: f"The data do not settle whether more {result.treatment} raises or lowers the outcome",
    }
    return Statement(
        f"More and less {result.treatment}",
        f"{words[slope.sign]}: on average by {slope.text} per unit, between doses of "
        f"{cell_text(result.doses[0])} and {cell_text(result.doses[-1])}.",
        "averages",
        finding=True,
    )


@state.register
def _(result: ConformalIntervals) -> Statement:
    above = float(result.share_above_zero)
    return Statement(
        "How sure is the effect of a single unit?",
        f"Single units are uncertain: intervals that cover {result.level:.0%} reach "
        f"{float(np.max(result.half_width)):.2g} to either side, and {above:.0%} of them lie "
        "wholly above zero.",
        "places",
    )


@state.register
def _(result: Exemplars) -> Statement:
    groups = list_words([str(group) for group in result.groups])
    return Statement(
        "Typical images",
        f"Places that show best what the groups are like: {groups}. Look at what the images of a "
        "group have in common rather than at any one of them.",
        "places",
    )


@state.register
def _(result: ComponentProfile) -> Statement:
    table = result.to_dataframe()
    told = []
    for component, rows in table.groupby("component", sort=False):
        row = rows.iloc[int(rows["standardised"].abs().to_numpy().argmax())]
        more = "more" if float(row["standardised"]) > 0 else "less"
        told.append(f"{component} has {more} {row['variable']}")
    return Statement(
        "What the types of places are like",
        f"Compared with all places, {list_words(told)}.",
        "types",
    )
