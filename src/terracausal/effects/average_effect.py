"""The average effect: who it is about (target) and how it is estimated (method)."""

from typing import Literal

import numpy as np

from terracausal._foundation.checks import check_choice
from terracausal._foundation.errors import OverlapError
from terracausal.effects import averages
from terracausal.effects.arm_means import Parts, arm_means, contrast, population_size
from terracausal.effects.averages import Ratio
from terracausal.effects.overlap import (
    MIN_DISJOINT,
    heavy_unit_note,
    lost_note,
    lost_share,
    refuse_collapsed_arm,
    refuse_disjoint_arms,
)
from terracausal.nuisance import Scores
from terracausal.nuisance.scores import check_scores
from terracausal.study import Dependence, Estimate, median_estimate
from terracausal.study.units import Kernel, StdErrorKind

Target = Literal["all", "treated", "control", "overlap"]
Method = Literal["aipw", "tmle", "tmle_linear", "hajek", "ipw", "plr", "difference_in_means"]
Measure = Literal["difference", "ratio", "odds_ratio"]

_TARGETS = ("all", "treated", "control", "overlap")
_METHODS = {
    "aipw": "augmented inverse propensity weighting (doubly robust)",
    "tmle": "targeted maximum likelihood, logistic fluctuation (doubly robust)",
    "tmle_linear": "targeted maximum likelihood, linear fluctuation (doubly robust)",
    "hajek": "inverse propensity weighting, normalised in each arm (Hajek)",
    "ipw": "inverse propensity weighting (Horvitz-Thompson)",
    "plr": "partially linear regression (residual on residual)",
    "difference_in_means": "difference in means",
}
_MEASURES = {"difference": "{}", "ratio": "ratio of means: {}", "odds_ratio": "odds ratio: {}"}
_FEW_UNITS = 10
_ARMS = ((0, "control"), (1, "treated"))
_WORDS = {
    "all": ("ate", "average effect on {population}"),
    "treated": ("att", "average effect on the treated ({population})"),
    "control": ("atc", "average effect on the controls ({population})"),
    "overlap": ("ato", "average effect weighted by overlap e(1 - e) ({population})"),
}


def average_effect(
    scores: Scores,
    target: Target = "all",
    method: Method = "aipw",
    *,
    measure: Measure = "difference",
    std_error: StdErrorKind | None = None,
    cutoff_m: float | None = None,
    kernel: Kernel = "bartlett",
) -> Estimate:
    """Estimate an average effect from doubly robust scores.

    Parameters
    ----------
    scores : Scores
        From `doubly_robust_scores`, or read from a table.
    target : {"all", "treated", "control", "overlap"}, default="all"
        The population: all units (ATE), the treated (ATT), the controls (ATC), or units weighted
        by how well both arms overlap (ATO), which is safest under poor overlap.
    method : str, default="aipw"
        "aipw" is doubly robust, as are "tmle", whose means stay within the observed range of the
        outcome, and "tmle_linear", which is AIPW with normalised weights. "hajek" and "ipw" use
        propensities only. "plr" uses residuals, and its target is always "overlap".
        "difference_in_means" uses neither, adjusts for strata if the study has any, and is for
        experiments.
    measure : {"difference", "ratio", "odds_ratio"}, default="difference"
        What is compared between the mean outcomes with and without treatment: for an outcome of 0
        and 1 the risk difference, risk ratio or odds ratio; for counts the difference or ratio of
        rates. Intervals of ratios are formed for their logarithm.
    std_error : {"hc", "cluster", "conley"}, default=None
        None clusters whenever units share a site or a cluster.
    cutoff_m : float, default=None
        For "conley": metres beyond which units are independent.
    kernel : {"bartlett", "uniform"}, default="bartlett"
        For "conley".

    Returns
    -------
    Estimate
        One term, named ate, att, atc, ato or difference, with the measure where it is a ratio. The
        median where cross-fitting was repeated (`repeat_cross_fit`).

    Raises
    ------
    OverlapError
        No treated unit has a propensity as low as that of any control, so there is no overlap at
        all; or one unit carries so much of an arm's balancing weight that fewer than two effective
        units remain (Kish), from which no variance can be told; or more than half of the target
        population lack a counterpart in the other arm, to judge by the sum of the balancing
        weights. target="overlap" is the effect that remains.

    Notes
    -----
    For target="overlap" the doubly robust method and partially linear regression are the same
    estimator, because the overlap weights are estimated too. Standard errors of "hajek" and "ipw"
    take the propensity as known, which is conservative for the ATE when it is estimated. TMLE:
    van der Laan & Rubin (2006), doi:10.2202/1557-4679.1043, with nuisances and one fluctuation from
    cross-fitting (Zheng & van der Laan 2011).

    Examples
    --------
    >>> import terracausal as tc
    >>> data = tc.simulate_study(n_sites=60, random_state=0)
    >>> nuisances = tc.cross_fit(data.study, random_state=0)
    >>> ate = average_effect(tc.doubly_robust_scores(data.study, nuisances))
    >>> ate.terms
    ('ate',)
    """
    check_scores(scores)
    check_choice("target", target, _TARGETS)
    check_choice("method", method, tuple(_METHODS))
    check_choice("measure", measure, tuple(_MEASURES))
    _check_combination(target, method, measure, stratified="stratum" in scores.table)
    dependence = None if std_error is None else Dependence(std_error, cutoff_m, kernel)
    runs = (scores, *scores.repeats)
    return median_estimate([_estimate(run, target, method, measure, dependence) for run in runs])


def _check_combination(target: str, method: str, measure: str, *, stratified: bool) -> None:
    """Refuse combinations that have no meaning, before anything is computed."""
    if method in ("plr", "difference_in_means") and target not in ("all", "overlap"):
        raise ValueError(
            f"method={method!r} has one estimand of its own; got target={target!r}. Use "
            "method='aipw' for the effect on the treated or the controls."
        )
    if method == "difference_in_means" and target != "all":
        raise ValueError("method='difference_in_means' takes target='all'; got 'overlap'.")
    if method in ("tmle", "tmle_linear") and target == "overlap":
        raise ValueError(f"method={method!r} has no target='overlap'; use method='aipw'.")
    if measure != "difference" and (method == "plr" or (method, target) == ("aipw", "overlap")):
        raise ValueError(
            f"method={method!r} estimates a difference with target={target!r}; got "
            f"measure={measure!r}. Use method='hajek', target='overlap'."
        )
    if measure != "difference" and method == "difference_in_means" and stratified:
        raise ValueError(
            f"method='difference_in_means' adjusts for strata, which has no measure={measure!r}. "
            "Use method='hajek' with the known propensity, or method='aipw'."
        )


def _estimate(
    scores: Scores, target: str, method: str, measure: str, dependence: Dependence | None
) -> Estimate:
    """Return the estimate from one run of cross-fitting."""
    weighs = target != "overlap" and method not in ("plr", "difference_in_means")
    overlap = _overlap_notes(scores, target) if weighs else ()
    found = _compute(scores, target, method, measure)
    if not np.isfinite(found.value):
        raise OverlapError(
            f"The {method} estimate for target={target!r} is not finite: the arm weights add up "
            "to zero. Check that both arms have units with positive weight."
        )
    term, words = _WORDS["overlap" if method == "plr" else target]
    estimand, notes = words.format(population=scores.population), scores.notes
    assumptions = scores.assumptions
    if method == "difference_in_means":
        term, estimand = "difference", f"difference between arms in {scores.population}"
        assumptions = ("treatment was randomised", "no interference")
    elif method == "plr" or target == "overlap":
        assumptions = tuple(text for text in assumptions if not text.startswith("overlap"))
    notes = (*notes, *_stratum_notes(scores, within=method == "difference_in_means"))
    if measure != "difference":
        term = measure if term == "difference" else f"{term} {measure.replace('_', ' ')}"
    return Estimate(
        np.array([found.value]),
        found.influence[:, None],
        scores.frame,
        (term,),
        _MEASURES[measure].format(estimand),
        _METHODS[method],
        dependence,
        assumptions,
        (*notes, *_few_notes(scores), *overlap, *(_heavy_notes(scores, found) if weighs else ())),
        _count_parameters(scores, target, method),
        "identity" if measure == "difference" else "log",
    )


def _overlap_notes(scores: Scores, target: str) -> tuple[str, ...]:
    """Refuse averages over units that arms cannot stand for; tell where they hardly can."""
    if not {"propensity", "treatment"} <= set(scores.table.columns):
        return ()
    e, w = (scores.table[name].to_numpy(dtype=np.float64) for name in ("propensity", "treatment"))
    refuse_disjoint_arms(w, e)
    arms = averages.arm_weights(w, e, target)[::-1]
    for (arm, word), balancing in zip(_ARMS, arms, strict=True):
        own = (w == arm) & (scores.weight > 0)
        if own.sum() < MIN_DISJOINT:
            return ()
        refuse_collapsed_arm(balancing[own], e[own], scores.units[own], word)
    return lost_note(*lost_share(arms, population_size(w, e, target), scores.weight))


def _heavy_notes(scores: Scores, found: Ratio) -> tuple[str, ...]:
    if "propensity" not in scores.table:
        return ()
    e = scores.table["propensity"].to_numpy(dtype=np.float64)
    return heavy_unit_note(found.influence, e, scores.units)


def _few_notes(scores: Scores) -> tuple[str, ...]:
    """Warn of arms that are too small for normal intervals."""
    if "treatment" not in scores.table:
        return ()
    counts = {word: int((scores.table["treatment"] == arm).sum()) for arm, word in _ARMS}
    return tuple(
        f"only {count} {word} units: intervals from a normal or t distribution are not reliable"
        for word, count in counts.items()
        if count < _FEW_UNITS
    )


def _compute(scores: Scores, target: str, method: str, measure: str) -> Ratio:
    """Pick the columns that the method needs and call its formula."""
    v = scores.weight
    if measure != "difference" or method in ("tmle", "tmle_linear"):
        return contrast(*_arm_means(scores, target, method), measure)
    needed_by = f"average_effect with target={target!r} and method={method!r}"

    def get(*names: str) -> list[averages.Floats]:
        return [scores.column(name, needed_by) for name in names]

    if method == "difference_in_means":
        y, w = get("outcome", "treatment")
        strata = averages.stratum_codes(scores.table.get("stratum"), scores.n_units)
        return averages.difference_in_means(y, w, v, strata)
    if method == "aipw" and target == "all":
        (score,) = get("score")
        return averages.ratio(score, np.ones_like(score), v)
    y, w, e = get("outcome", "treatment", "propensity")
    if method == "hajek":
        return averages.hajek(y, w, e, v, target)
    if method == "ipw":
        return averages.inverse_propensity(y, w, e, v, target)
    mu0, mu1 = get("outcome_control", "outcome_treated")
    if method == "plr" or target == "overlap":
        return averages.partially_linear(y, w, e, mu0, mu1, v)
    return averages.augmented(y, w, e, mu0, mu1, v, target)


def _arm_means(scores: Scores, target: str, method: str) -> tuple[Ratio, Ratio]:
    """Return the mean outcomes without and with treatment."""
    needed_by = f"average_effect with target={target!r} and method={method!r}"
    y, w = (scores.column(name, needed_by) for name in ("outcome", "treatment"))
    e = mu0 = mu1 = np.zeros_like(y)
    if method != "difference_in_means":
        e = scores.column("propensity", needed_by)
    if method in ("aipw", "tmle", "tmle_linear"):
        mu0 = scores.column("outcome_control", needed_by)
        mu1 = scores.column("outcome_treated", needed_by)
    return arm_means(Parts(y, w, e, mu0, mu1, scores.weight), target, method)


def _count_parameters(scores: Scores, target: str, method: str) -> int:
    """Count the means or coefficients that are estimated: one for a mean, two for a contrast."""
    if method == "difference_in_means" and "stratum" in scores.table:
        return 1 + int(scores.table["stratum"].nunique())
    return 1 if method == "ipw" or (method == "aipw" and target == "all") else 2


def _stratum_notes(scores: Scores, *, within: bool) -> tuple[str, ...]:
    """Tell of strata with one arm, which a comparison within strata leaves out."""
    if "stratum" not in scores.table:
        return ()
    n_arms = scores.table.groupby("stratum")["treatment"].nunique()
    lone = n_arms.index[n_arms < 2]
    if within:
        lost = f", {len(lone)} of them with one arm, which add nothing" if len(lone) else ""
        return (f"adjusted for {len(n_arms)} strata{lost}",)
    if not len(lone):
        return ()
    n_units = int(scores.table["stratum"].isin(lone).sum())
    return (
        f"{len(lone)} of {len(n_arms)} strata have one arm only ({n_units} units): what these "
        "would have done in the other arm is taken from other strata",
    )
