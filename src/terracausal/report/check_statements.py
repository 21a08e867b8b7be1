"""What each check of the adjustment says, in plain words; findings are what should worry."""

from terracausal.evaluation import (
    BalanceCheck,
    OverlapCheck,
    PropensityCheck,
    SpatialAutocorrelation,
    TrimmedUnits,
)
from terracausal.evaluation.balance import THRESHOLD
from terracausal.nuisance.scores import EXTREME
from terracausal.report.statements import Statement, state
from terracausal.report.wording import list_words, tell_overlap

_THIN = 0.5  # of an arm's units that count after weighting
_SPATIAL_WORDS = {
    "score": "their effects",
    "outcome_residual": "what is left of the outcome",
    "treatment_residual": "what is left of the treatment",
}


@state.register
def _(result: OverlapCheck) -> Statement:
    table = result.to_dataframe()
    arms = list(zip(table["arm"], table["n_units"], table["effective_units"], strict=True))
    counts = [f"{effective:,.0f} of {n_units:,} {arm} units" for arm, n_units, effective in arms]
    thin = any(effective < _THIN * n_units for _, n_units, effective in arms)
    heavy = float(result.heaviest["weight_share"].max())
    sentence = (
        f"{tell_overlap(result.propensity, EXTREME)} After weighting, the comparison rests on "
        f"{list_words(counts)}."
    )
    if thin:
        sentence += f" That is thin: the heaviest unit carries {heavy:.0%} of its group's weight."
    return Statement("Overlap", sentence, "checks", finding=thin)


@state.register
def _(result: PropensityCheck) -> Statement:
    table = result.to_dataframe().set_index("metric")
    found, base = table["value"], table["baseline"]
    slope = float(found["calibration_slope"])
    if found["log_loss"] >= base["log_loss"]:
        told = (
            "The chances of treatment were predicted no better than by the share treated alone: "
            "nothing that was measured tells who was treated"
        )
    else:
        told = (
            f"In {found['auc']:.0%} of pairs of a treated and a comparison unit, the treated one "
            "has the higher predicted chance of treatment (50% would be guessing)"
        )
    if slope != slope:
        meaning = "They are the same for all, so they cannot be calibrated"
    elif slope < 0.8:
        meaning = f"They are too extreme (calibration slope {slope:.2f}; 1 is right)"
    elif slope > 1.25:
        meaning = f"They are too cautious (calibration slope {slope:.2f}; 1 is right)"
    else:
        meaning = f"They mean what they say (calibration slope {slope:.2f}; 1 is right)"
    return Statement("The predicted chances of treatment", f"{told}. {meaning}.", "checks")


@state.register
def _(result: BalanceCheck) -> Statement:
    table = result.to_dataframe()
    before, after = (int((table[name].abs() > THRESHOLD).sum()) for name in ("before", "after"))
    order = table["after"].abs().sort_values(ascending=False, kind="stable").index
    worst = table.loc[order[:3]]
    sizes = zip(worst["column"], worst["after"].abs(), strict=True)
    named = list_words([f"{column} ({size:.2f})" for column, size in sizes])
    sentence = (
        f"Before the adjustment, the groups differ by more than {THRESHOLD:g} standard deviations "
        f"in {before} of {len(table)} characteristics; after it, in {after}. The largest "
        f"differences that are left: {named}."
    )
    # small studies differ by more than the threshold by chance alone
    worrying = bool((table["after"].abs() > max(2 * result.chance[1], THRESHOLD)).any())
    return Statement("Are the groups alike?", sentence, "checks", finding=worrying)


@state.register
def _(result: SpatialAutocorrelation) -> Statement:
    table = result.to_dataframe()
    found = table.loc[table["p_value"] < 0.05, "value"].astype(str)
    names = [_SPATIAL_WORDS.get(name, name) for name in found]
    if names:
        sentence = (
            f"Neighbouring places are alike in {list_words(names)}, more than chance explains: "
            "units may depend on each other beyond their clusters, and something that varies "
            "between regions may be missing from the adjustment. Compare spatial standard errors."
        )
    else:
        sentence = (
            f"Nothing that is left after the adjustment is alike among neighbours at "
            f"{result.n_places:,} places, beyond what chance explains."
        )
    return Statement("Are neighbours alike?", sentence, "checks", finding=bool(names))


@state.register
def _(result: TrimmedUnits) -> Statement:
    n_out = len(result.table)
    if n_out == 0:
        return Statement("Units left out", "No unit was left out.", "checks")
    treated = int(result.table["treatment"].sum())
    return Statement(
        "Units left out",
        f"{n_out:,} of {result.n_units:,} units were left out, {treated:,} of them treated, "
        "because hardly any unit of the other group is like them. The results speak for "
        f"{result.population}.",
        "checks",
        finding=True,
    )
