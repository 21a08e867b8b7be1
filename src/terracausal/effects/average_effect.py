"""The average effect: who it is about (target) and how it is estimated (method)."""

from typing import Literal

import numpy as np

from terracausal._foundation.checks import check_choice
from terracausal._foundation.errors import OverlapError
from terracausal.effects import averages
from terracausal.effects.averages import Ratio
from terracausal.nuisance import Scores
from terracausal.study import Dependence, Estimate
from terracausal.study.estimate import Kernel, StdErrorKind

Target = Literal["all", "treated", "control", "overlap"]
Method = Literal["aipw", "hajek", "ipw", "plr", "difference_in_means"]

_TARGETS = ("all", "treated", "control", "overlap")
_METHODS = {
    "aipw": "augmented inverse propensity weighting (doubly robust)",
    "hajek": "inverse propensity weighting, normalised in each arm (Hajek)",
    "ipw": "inverse propensity weighting (Horvitz-Thompson)",
    "plr": "partially linear regression (residual on residual)",
    "difference_in_means": "difference in means",
}
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
    method : {"aipw", "hajek", "ipw", "plr", "difference_in_means"}, default="aipw"
        "aipw" is doubly robust. "hajek" and "ipw" use propensities only. "plr" uses residuals, and
        its target is always "overlap". "difference_in_means" uses neither, adjusts for strata
        if the study has any, and is for experiments.
    std_error : {"hc", "cluster", "conley"}, default=None
        None clusters whenever units share a site or a cluster.
    cutoff_m : float, default=None
        For "conley": metres beyond which units are independent.
    kernel : {"bartlett", "uniform"}, default="bartlett"
        For "conley".

    Returns
    -------
    Estimate
        One term, named ate, att, atc, ato or difference.

    Notes
    -----
    For target="overlap" the doubly robust method and partially linear regression are the same
    estimator, because the overlap weights are estimated too. Standard errors of "hajek" and "ipw"
    take the propensity as known, which is conservative for the ATE when it is estimated.

    Examples
    --------
    >>> import terracausal as tc
    >>> data = tc.simulate_study(n_sites=60, random_state=0)
    >>> nuisances = tc.cross_fit(data.study, random_state=0)
    >>> ate = average_effect(tc.doubly_robust_scores(data.study, nuisances))
    >>> ate.terms
    ('ate',)
    """
    check_choice("target", target, _TARGETS)
    check_choice("method", method, tuple(_METHODS))
    if method in ("plr", "difference_in_means") and target not in ("all", "overlap"):
        raise ValueError(
            f"method={method!r} has one estimand of its own; got target={target!r}. Use "
            "method='aipw' for the effect on the treated or the controls."
        )
    if method == "difference_in_means" and target != "all":
        raise ValueError("method='difference_in_means' takes target='all'; got 'overlap'.")
    found = _compute(scores, target, method)
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
        notes = (*notes, *_stratum_notes(scores))
    elif method == "plr" or target == "overlap":
        assumptions = tuple(text for text in assumptions if not text.startswith("overlap"))
    return Estimate(
        np.array([found.value]),
        found.influence[:, None],
        scores.frame,
        (term,),
        estimand,
        _METHODS[method],
        None if std_error is None else Dependence(std_error, cutoff_m, kernel),
        assumptions,
        notes,
        _count_parameters(scores, target, method),
    )


def _compute(scores: Scores, target: str, method: str) -> Ratio:
    """Pick the columns that the method needs and call its formula."""
    v = scores.weight
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


def _count_parameters(scores: Scores, target: str, method: str) -> int:
    """Count the means or coefficients that are estimated: one for a mean, two for a contrast."""
    if method == "difference_in_means" and "stratum" in scores.table:
        return 1 + int(scores.table["stratum"].nunique())
    return 1 if method == "ipw" or (method == "aipw" and target == "all") else 2


def _stratum_notes(scores: Scores) -> tuple[str, ...]:
    if "stratum" not in scores.table:
        return ()
    n_arms = scores.table.groupby("stratum")["treatment"].nunique()
    lone = int((n_arms < 2).sum())
    adjusted = f"adjusted for {len(n_arms)} strata"
    return (
        adjusted if lone == 0 else f"{adjusted}, {lone} of them with one arm, which add nothing",
    )
