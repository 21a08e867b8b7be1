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
        Columns do not vary, or are too many, in one arm, such as a stratum with one arm.

    Notes
    -----
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
    for arm, word in ((0, "control"), (1, "treated")):
        own = (given.w == arm) & (given.v > 0)
        _check_rank(centred[own], given.names, word)
        design = np.column_stack([np.ones(own.sum()), centred[own]])
        coef, moved = arm_regression(design, given.y[own], given.v[own], correction)
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
        (),
        n_parameters,
    )


def arm_regression(design: Floats, y: Floats, v: Floats, correction: str) -> tuple[Floats, Floats]:
    """Return coefficients, and what each unit adds to the intercept.

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
    return coef, hat * residual


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
