"""The effect of a continuous dose: a doubly robust curve with pointwise and uniform bands."""

import warnings
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from terracausal._foundation.checks import check_choice, check_count
from terracausal._foundation.errors import OverlapError, OverlapWarning, RoleError, list_some
from terracausal._foundation.randomness import RandomState, draw_seed, random_generator
from terracausal.effects.dose_coefficients import (
    CurveParts,
    balancing_weights,
    curve_coefficients,
)
from terracausal.effects.dose_curve import DoseResponse, check_doses
from terracausal.effects.dose_spline import FEWEST, DoseSpline
from terracausal.effects.indicator import check_treatment_column, study_of_indicator
from terracausal.nuisance.dose import cross_fit_dose
from terracausal.study import Estimate, Study, UnitFrame
from terracausal.study.study import EmbeddingRole

Floats = NDArray[np.floating[Any]]
_FEWEST_DOSES = 20
_MOST_AT_ONE = 0.1
_SUPPORT = 0.025
_N_DOSES = 50
_GROUPS_PER_SPLINE = 10
_OPTIONS = ("outcome_learner", "dose_learner", "n_components", "n_folds")


def dose_response(
    table: pd.DataFrame,
    *,
    treatment: str,
    doses: ArrayLike | None = None,
    embeddings: pd.DataFrame | None = None,
    role: EmbeddingRole = "both",
    n_basis: int | None = None,
    learners: dict[str, Any] | None = None,
    random_state: RandomState = None,
    **roles: Any,
) -> DoseResponse:
    """Estimate the mean outcome if every unit had the same dose, for a range of doses.

    The outcome and the density of the dose are predicted out of fold, from whole other clusters.
    The curve is consistent when either is right; bands hold when both are learned well enough.
    Standard errors are clustered whenever units share a site or a cluster.

    Parameters
    ----------
    table : pandas.DataFrame of shape (n_units, any)
        As for `Study`.
    treatment : str
        Column with the dose of each unit, numbers.
    doses : array-like of shape (n_doses,), default=None
        Where the curve is told, within the middle 95 % of the units' doses. None takes 50 equally
        spaced ones from end to end of these.
    embeddings : pandas.DataFrame of shape (n_sites, n_features), default=None
        Joined by site.
    role : {"confounder", "modifier", "both"}, default="both"
        Role of the embeddings.
    n_basis : int, default=None
        Number of cubic splines, at least 4. None takes twice the fifth root of the number of
        independent clusters (units, without clusters), rounded up.
    learners : dict, default=None
        Any of `outcome_learner` (as in `cross_fit`), `dose_learner` ("ridge", "elastic_net",
        "boosting" or a regressor, for location and scale of the dose), `n_components` (as in
        `cross_fit`) and `n_folds` (5).
    random_state : None, int or Generator, default=None
        Seed of folds, learners and of the draws behind the uniform band.
    **roles : Any
        Further arguments of `Study`, `outcome` among them. A known propensity is not taken.

    Returns
    -------
    DoseResponse
        With `contrast(low, high)` for the effect of one dose against another, `average_slope`, and
        bands for each dose and for the whole curve.

    Raises
    ------
    RoleError
        The dose is missing, not a number, has fewer than 20 values or one value in more than 10 %
        of the units, or there are fewer than 10 independent clusters per spline.
    OverlapError
        A dose lies outside the support, or one unit outweighs all others after balancing.
    LeakageError
        A covariate is a function of the dose.

    Notes
    -----
    Assumes no unmeasured confounding given the features, that every unit could have had any dose
    within the support, and no interference.

    *Undersmoothing.* Bands are centred at the curve only if the splines follow it more closely than
    the noise allows to see. The default number grows with the fifth root of the sample; the number
    with the smallest squared error grows with the ninth root for a curve of four derivatives, and
    with the seventh root for three. So the bias vanishes against the standard error for curves of
    three derivatives or more; there is no choice by the data, which would undo the coverage. With
    a small `n_basis` the bands are those of the best spline of that size.

    *Density.* The dose is a location plus a scale times a residual; both depend on the features
    through `dose_learner`, and the density of the residual is that of held-out units (kernels, and
    one unit's worth of a heavy tail). `DoseResponse.quality` tells how it fits: the mean log
    density of held-out doses against that without features, and how far their ranks are from
    uniform.

    *Overlap.* Only units with a dose within the support enter the regression. Features that explain
    more than a quarter of the variance of a normal dose give balancing weights without a finite
    variance beyond it, so expect wide bands, and a warning, where R² of the dose is high. Weights
    are capped at the root of the number of units times their mean (truncated importance sampling,
    Ionides 2008, doi:10.1198/106186008X320456); `summary` counts them.

    *Bands.* The uniform band takes the largest t statistic over the doses in 10,000 Gaussian
    multiplier draws (Chernozhukov, Chetverikov & Kato 2014, doi:10.1214/14-AOS1235), drawn from the
    covariance of the curve.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> table = pd.DataFrame({"x": rng.normal(size=300)})
    >>> table["dose"] = table["x"] + rng.normal(size=300)
    >>> table["y"] = table["dose"] ** 2 + table["x"] + rng.normal(size=300)
    >>> curve = dose_response(
    ...     table, treatment="dose", outcome="y", covariates=["x"], random_state=0
    ... )
    >>> curve.to_dataframe().columns[-2:].tolist()
    ['band_low', 'band_high']
    """
    options = {"n_folds": 5} | (learners or {})
    for name in options:
        check_choice("learners", name, _OPTIONS)
    dose = _dose_of(table, treatment, roles)
    study = study_of_indicator(table, dose > dose.median(), embeddings, role, roles)
    kept = dose.loc[study.units]
    _check_spread(kept, treatment)
    low, high = (float(q) for q in np.quantile(kept, [_SUPPORT, 1 - _SUPPORT]))
    spline = DoseSpline.of(kept[kept.between(low, high)].to_numpy(), _count_basis(n_basis, study))
    given = np.linspace(low, high, _N_DOSES) if doses is None else np.ravel(doses)
    asked = check_doses(np.asarray(given, dtype=np.float64), (low, high), treatment)
    rng = random_generator(random_state)
    folds = study.folds(options.pop("n_folds"), random_state=rng)
    ordered = study.canonical()
    nuisances = cross_fit_dose(ordered, kept, folds, rng=rng, **options)
    values, weight = kept.loc[ordered.units].to_numpy(), _weight_of(ordered)
    inside = (values >= low) & (values <= high)
    balancing, capped = balancing_weights(nuisances, values, weight)
    effective = _check_overlap(balancing[inside], weight[inside], ordered.units[inside])
    values = np.clip(values, low, high)
    residual = ordered.outcome.to_numpy() - nuisances.outcome_at_own
    basis = spline.basis(values) * inside[:, None]
    parts = CurveParts(nuisances, basis, values, residual, balancing, ~capped, weight)
    found = curve_coefficients(parts, ordered.frame.cluster_codes)
    back = ordered.units.get_indexer(study.units)
    coefficients = Estimate(
        found[0],
        found[1][back],
        # above or below the median says nothing about who was compared
        UnitFrame(study.units, study.clusters, study.coordinates),
        tuple(f"spline {j + 1}" for j in range(spline.n_basis)),
        f"splines of {treatment!r}",
        f"doubly robust pseudo-outcomes on {spline.n_basis} cubic splines (undersmoothed)",
        None,
        (
            "no unmeasured confounding given the features",
            f"overlap: every unit could have had any dose from {low:g} to {high:g}",
            "no interference",
        ),
        _notes(len(table) - study.n_units, int(capped.sum()), study.n_units),
        spline.n_basis,
    )
    return DoseResponse(
        asked,
        coefficients,
        spline,
        (low, high),
        _average_slope(coefficients, spline, values[back], (inside * weight)[back], treatment),
        treatment,
        nuisances.learners,
        nuisances.quality,
        effective,
        draw_seed(rng),
    )


def _dose_of(table: pd.DataFrame, treatment: str, roles: dict[str, Any]) -> "pd.Series[float]":
    """Return the doses, finite numbers for every unit."""
    asked = "dose_response estimates the density of the dose"
    check_treatment_column(table, treatment, roles, asked)
    column = table[treatment]
    if not pd.api.types.is_numeric_dtype(column) or pd.api.types.is_bool_dtype(column):
        raise RoleError(
            f"The dose {treatment!r} must be a column of numbers; it holds {column.dtype}. Arms "
            "with labels are for multi_arm_effects."
        )
    dose = column.astype("float64")
    infinite = np.isinf(dose)
    if infinite.any():
        raise RoleError(
            f"The dose {treatment!r} must be finite; {int(infinite.sum())} units have an infinite "
            f"one: {list_some(table.index[infinite])}. A log of zero? Repair it."
        )
    if dose.nunique() < _FEWEST_DOSES:
        raise RoleError(
            f"A curve needs at least {_FEWEST_DOSES} different doses; {treatment!r} has "
            f"{dose.nunique()}: {list_some(sorted(dose.unique()))}. Use multi_arm_effects, which "
            "compares each dose with a reference."
        )
    return dose


def _check_spread(dose: "pd.Series[float]", treatment: str) -> None:
    """Refuse a dose that many units share, which has no density."""
    shares = dose.value_counts(normalize=True)
    if shares.iloc[0] > _MOST_AT_ONE:
        raise RoleError(
            f"A continuous dose has no value that many units share; {shares.iloc[0]:.1%} of "
            f"{len(dose):,} units have {treatment!r} = {shares.index[0]:g}. Leave these units out "
            "to study the dose of the others (and compare both groups with average_effect), or "
            "bin the dose and use multi_arm_effects."
        )


def _count_basis(n_basis: int | None, study: Study) -> int:
    """Return the number of splines that was asked for, or the default."""
    n_groups = study.n_clusters or study.n_units
    count = max(FEWEST, int(np.ceil(2 * n_groups**0.2)))
    if n_basis is not None:
        count = check_count("n_basis", n_basis, minimum=FEWEST)
    if n_groups < _GROUPS_PER_SPLINE * count:
        raise RoleError(
            f"A curve of {count} splines needs at least {_GROUPS_PER_SPLINE * count} independent "
            f"{'units' if study.n_clusters is None else 'clusters'}; the study has {n_groups}. "
            f"{'Use a smaller n_basis, or' if count > FEWEST else 'Use'} multi_arm_effects with "
            "two or three bins of the dose."
        )
    return count


def _weight_of(study: Study) -> Floats:
    weight = study.weight
    return np.ones(study.n_units) if weight is None else (weight / weight.mean()).to_numpy()


def _average_slope(
    coefficients: Estimate, spline: DoseSpline, dose: Floats, inside: Floats, treatment: str
) -> Estimate:
    """Return the mean derivative of the curve over the units within the support."""
    slopes = spline.slope(dose)
    mean = inside @ slopes / inside.sum()
    own = inside / inside.mean() * (slopes @ coefficients.value - mean @ coefficients.value)
    return Estimate(
        np.array([mean @ coefficients.value]),
        (coefficients.influence @ mean + own)[:, None],
        coefficients.frame,
        ("average slope",),
        f"mean derivative of the outcome by {treatment!r}, over units within the support",
        coefficients.method,
        coefficients.dependence,
        coefficients.assumptions,
        coefficients.notes,
        coefficients.n_parameters,
    )


def _check_overlap(balancing: Floats, weight: Floats, units: pd.Index) -> float:
    """Return the effective number of units; warn or refuse where few carry the curve.

    Balancing weights average 1 if every combination of dose and features occurs; what is missing
    from 1 is the share of combinations that no unit stands for.
    """
    total = balancing * weight
    share, mean = total / total.sum(), float(np.average(balancing, weights=weight))
    effective, heaviest = float(1 / np.sum(share**2)), int(np.argmax(share))
    told = (
        f"balancing weights average {mean:.2f} where 1 is expected, {effective:,.0f} of "
        f"{len(share):,} units are effective, and unit {list_some(units[[heaviest]])} alone "
        f"carries {share[heaviest]:.1%}"
    )
    advice = (
        "Use fewer confounders (or n_components), or combine doses in arms (multi_arm_effects)."
    )
    if mean < 0.5 or share[heaviest] > 0.5:
        raise OverlapError(f"No overlap: {told}. The features nearly tell the dose. {advice}")
    if mean < 0.8 or effective < 0.1 * len(share) or share[heaviest] > 0.1:
        warnings.warn(f"Poor overlap: {told}. {advice}", OverlapWarning, stacklevel=3)
    return effective


def _notes(n_missing: int, n_capped: int, n_units: int) -> tuple[str, ...]:
    notes = []
    if n_missing:
        notes.append(f"{n_missing} units without an outcome were dropped")
    if n_capped:
        notes.append(
            f"{n_capped} balancing weights were capped at {np.sqrt(n_units):.0f} times the mean"
        )
    return tuple(notes)
