"""Regression adjustment: a linear regression in each arm, averaged over the target population."""

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from terracausal._foundation.checks import check_choice
from terracausal._foundation.errors import OverlapError, list_some
from terracausal.effects.adjustment import TARGETS, adjustment_of
from terracausal.study import Estimate, Study

Floats = NDArray[np.floating[Any]]
Correction = Literal["hc1", "hc2", "hc3"]
_TOLD = 0.2


def regression_adjustment(
    study: Study,
    target: Literal["all", "treated", "control"] = "all",
    *,
    n_components: int | None = None,
    population: Literal["super", "sample"] = "super",
    correction: Correction = "hc2",
) -> Estimate:
    """Estimate an average effect by least squares with all interactions of treatment.

    Each arm has its own linear regression on covariates, strata and joined embeddings; the effect
    is the difference of their means over the target population. In an experiment this never loses
    precision in large samples, whether or not the regression is right.

    Parameters
    ----------
    study : Study
        With covariates, strata or joined embeddings.
    target : {"all", "treated", "control"}, default="all"
        The population.
    n_components : int, default=None
        Replace the joined embeddings by this many principal components; None keeps the columns.
    population : {"super", "sample"}, default="super"
        "super" counts that other units would have other covariates. "sample" takes the covariates
        as fixed, which gives the standard error of the interaction regression.
    correction : {"hc1", "hc2", "hc3"}, default="hc2"
        Small-sample correction: n / (n - k), or residuals divided by the root of 1 - leverage, or
        by 1 - leverage. It carries over to clustered and spatial errors, but for "hc1".

    Returns
    -------
    Estimate
        One term, named ate, att or atc.

    Raises
    ------
    OverlapError
        Columns do not vary, or are too many, in one arm, such as a stratum with one arm; or the
        mean of a column over the target population lies outside its range in an arm.

    Notes
    -----
    The mean that a regression predicts for an arm is a weighted sum of the arm's outcomes. Where
    these weights are negative it extrapolates: no average of the arm's units looks like the target
    population. The notes of the estimate tell when their negative part is a fifth or more
    (Chattopadhyay & Zubizarreta (2023), Biometrika 110(3), doi:10.1093/biomet/asac058).

    Lin (2013), Annals of Applied Statistics 7(1), doi:10.1214/12-AOAS583. MacKinnon & White (1985),
    Journal of Econometrics 29(3), doi:10.1016/0304-4076(85)90158-7, for the corrections.

    Examples
    --------
    >>> import terracausal as tc
    >>> data = tc.simulate_study(n_sites=60, random_state=0)
    >>> embeddings = tc.BandStatisticsEncoder().fit_transform(data.chips)
    >>> study = data.study.join(embeddings)
    >>> regression_adjustment(study, n_components=3).terms
    ('ate',)
    """
    check_choice("population", population, ("super", "sample"))
    check_choice("correction", correction, ("hc1", "hc2", "hc3"))
    given = adjustment_of(study, "outcome", target, n_components, "regression_adjustment")
    mass = given.v * given.h
    centred = given.x - np.average(given.x, axis=0, weights=mass)
    values, influences = [], []
    notes = list(study.notes)
    for arm, word in ((0, "control"), (1, "treated")):
        own = (given.w == arm) & (given.v > 0)
        _check_rank(centred[own], given.names, word)
        _check_range(centred[own], given.names, word)
        design = np.column_stack([np.ones(own.sum()), centred[own]])
        coef, moved, counted = arm_regression(design, given.y[own], given.v[own], correction)
        notes += extrapolation_notes(counted, word)
        influence = np.zeros(len(given.y))
        influence[own] = moved * len(given.y)
        if population == "super":
            influence += mass * (centred @ coef[1:]) / mass.mean()
        values.append(float(coef[0]))
        influences.append(influence)
    n_parameters = 2 * (1 + centred.shape[1]) if correction == "hc1" else 0
    term, estimand = TARGETS[target]
    return Estimate(
        np.array([values[1] - values[0]]),
        (influences[1] - influences[0])[given.back, None],
        study.frame,
        (term,),
        estimand,
        f"regression in each arm on {centred.shape[1]} columns (Lin), {correction.upper()}",
        None,
        ("treatment was randomised, or outcomes are linear in the columns", "no interference"),
        tuple(notes),
        n_parameters,
    )


def arm_regression(
    design: Floats, y: Floats, v: Floats, correction: str
) -> tuple[Floats, Floats, Floats]:
    """Return coefficients, what each unit adds to the intercept, and how much it counts there.

    Parameters
    ----------
    design : ndarray of shape (n, k)
        First column ones, the others centred at the target population.
    y, v : ndarray of shape (n,)
        Outcome and weight.
    correction : {"hc1", "hc2", "hc3"}

    Returns
    -------
    coef : ndarray of shape (k,)
    moved : ndarray of shape (n,)
        ``intercept - truth = sum(moved)`` to first order, residuals corrected.
    counted : ndarray of shape (n,)
        ``intercept = sum(counted * y)``, with the sum 1.

    Examples
    --------
    >>> design = np.column_stack([np.ones(4), [-1.0, 1, -1, 1]])
    >>> arm_regression(design, np.array([1.0, 3, 1, 3]), np.ones(4), "hc2")[0].round(6).tolist()
    [2.0, 1.0]
    """
    root = np.sqrt(v)[:, None]
    q, r = np.linalg.qr(root * design)
    coef = np.linalg.solve(r, q.T @ (root[:, 0] * y))
    leverage = np.minimum((q**2).sum(axis=1), 1 - 1e-12)
    power = {"hc1": 0.0, "hc2": 0.5, "hc3": 1.0}[correction]
    residual = (y - design @ coef) / (1 - leverage) ** power
    # row of (X'VX)^-1 X'V that makes the intercept
    hat = (root * q) @ np.linalg.solve(r.T, np.eye(len(r))[0])
    return coef, hat * residual, hat


def extrapolation_notes(counted: Floats, word: str) -> tuple[str, ...]:
    """Tell where the mean of an arm rests on negative weights for a fifth or more.

    Parameters
    ----------
    counted : ndarray of shape (n_arm,)
        How much the outcome of each unit counts in the mean, with the sum 1.
    word : str
        The arm.

    Returns
    -------
    tuple of str

    Examples
    --------
    >>> extrapolation_notes(np.array([1.5, -0.5]), "treated")[0][:39]
    'the mean of the treated extrapolates: 5'
    """
    negative = -float(counted[counted < 0].sum())
    if negative < _TOLD:
        return ()
    effective = 1 / float(np.sum(counted**2))
    return (
        f"the mean of the {word} extrapolates: {negative:.0%} of the weight on their outcomes is "
        f"negative, and the {len(counted):,} units count as {effective:.1f}; the effect rests on "
        "outcomes being linear there. Compare average_effect, whose overlap is checked",
    )


def _check_range(centred: Floats, names: tuple[str, ...], word: str) -> None:
    """Refuse an arm whose columns do not reach the mean of the target population, which is 0."""
    low, high = centred.min(axis=0), centred.max(axis=0)
    beyond = np.flatnonzero((low > 1e-10) | (high < -1e-10))
    if len(beyond):
        found = [names[j] for j in beyond]
        nearest = max(max(low[j], -high[j]) for j in beyond)
        raise OverlapError(
            f"The arms do not overlap: in {len(beyond)} of {len(names)} columns the mean of the "
            f"target population lies outside what the {len(centred)} {word} units have "
            f"({list_some(found)}; by up to {nearest:.2g} standard deviations), so their mean "
            "would be extrapolated. Take the target 'treated' or 'control' that lies inside, or "
            "leave out these columns or the units beyond."
        )


def _check_rank(centred: Floats, names: tuple[str, ...], word: str) -> None:
    """Refuse an arm in which the columns do not identify the regression."""
    n_units, n_columns = centred.shape
    if n_units < n_columns + 2:
        raise OverlapError(
            f"A regression on {n_columns} columns needs at least {n_columns + 2} units in each "
            f"arm; there are {n_units} {word} units. Use n_components, fewer covariates, or "
            "average_effect with penalised learners."
        )
    flat = np.ptp(centred, axis=0) < 1e-10
    if flat.any():
        found = [name for name, is_flat in zip(names, flat, strict=True) if is_flat]
        raise OverlapError(
            f"Every column must vary in both arms; {len(found)} do not among the {word} units: "
            f"{list_some(found)}. Treatment does not vary there (a stratum with one arm?): leave "
            "out these columns or their units."
        )
    design = np.column_stack([np.ones(n_units), centred])
    rank = int(np.linalg.matrix_rank(design))
    if rank < n_columns + 1:
        raise OverlapError(
            f"The {n_columns} columns must be independent in each arm; among the {word} units "
            f"their rank is {rank - 1}. Leave out columns that repeat others, or use n_components."
        )
