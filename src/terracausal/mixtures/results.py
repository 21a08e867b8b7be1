"""From a fitted mode to estimates: standard errors, the check against AIPW, what to distrust."""

import warnings
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from terracausal.mixtures.design import MixtureTable, site_labels
from terracausal.mixtures.settings import MIN_SITES
from terracausal.nuisance import Nuisances, doubly_robust_scores
from terracausal.study import Estimate, Study

if TYPE_CHECKING:
    from terracausal.mixtures.density import MixtureDensity
    from terracausal.mixtures.fitting import Mode
    from terracausal.mixtures.posterior import Posterior

Floats = NDArray[np.float64]
_MIN_UNITS = 5.0
_MIN_SHARE = 0.02
_CLEAR = 0.01
_SAME = 1e-3  # of the standard error of the average effect
_ASSUMPTIONS = (
    "treatment is as good as random given covariates and image",
    "the number of components is right, and the baseline is linear (or what networks found) and "
    "the same for all types, or different by a constant with baseline='by_type'",
)


class MixtureWarning(UserWarning):
    """Something about a mixture cannot be trusted.

    Examples
    --------
    >>> issubclass(MixtureWarning, UserWarning)
    True
    """


@dataclass(frozen=True, eq=False)
class MixtureAnswers:
    """Estimates of a mixture.

    Parameters
    ----------
    effects, shares : Estimate
        One term per component.
    implied, average : Estimate
        The average effect of the mixture, and the doubly robust one.
    refits_converged : float
        Share of the bootstrap refits that converged; 1 without any.
    draws : ndarray of shape (n_bootstrap, 2 K + 1), default=None
        Effects, implied average effect and shares of each refit.
    """

    effects: Estimate
    shares: Estimate
    implied: Estimate
    average: Estimate
    refits_converged: float
    draws: Floats | None = None


def answers_of(
    study: Study,
    table: MixtureTable,
    fitted: "tuple[MixtureDensity, Mode]",
    nuisances: Nuisances,
    *,
    n_bootstrap: int,
    rng: np.random.Generator,
) -> MixtureAnswers:
    """Return the estimates at a mode, with standard errors over clusters.

    Parameters
    ----------
    study : Study
    table : MixtureTable
    fitted : tuple of MixtureDensity and Mode
    nuisances : Nuisances
        For the check against AIPW.
    n_bootstrap : int
        0 leaves the first-order standard errors.
    rng : numpy.random.Generator
        For the refits.

    Returns
    -------
    MixtureAnswers
    """
    from terracausal.mixtures.fitting import component_answers, one_thread
    from terracausal.mixtures.uncertainty import (
        bootstrap_answers,
        degrees_of_freedom_factor,
        match_covariance,
        refit_covariance,
        site_influence,
    )

    density, mode = fitted
    value = component_answers(density, mode.parameters)
    n_components = (len(value) - 1) // 2
    draws, done = None, 1.0
    with one_thread():
        factor = degrees_of_freedom_factor(density, mode)
        influence = np.sqrt(factor) * _by_unit(site_influence(density, mode), study, table)
        if n_bootstrap:
            draws, done = bootstrap_answers(density, mode, table.cluster, n_bootstrap, rng)
    freed = f", times {np.sqrt(factor):.3f} for degrees of freedom"
    method = f"mixture of {n_components} effects by type of image, posterior mode"
    note = (
        f"standard errors from the central 90 % of {n_bootstrap} refits under random weights of "
        f"clusters{freed}; influence values are the first-order ones, scaled to these"
        if n_bootstrap
        else f"first-order (sandwich) standard errors{freed}"
    )
    terms = tuple(f"component {k + 1}" for k in range(n_components))

    def part(columns: slice, names: tuple[str, ...], estimand: str) -> Estimate:
        found = Estimate(
            value[columns], influence[:, columns], study.frame, names, estimand, method,
            assumptions=_ASSUMPTIONS, notes=(note,),
        )  # fmt: skip
        if draws is None:
            return found
        wanted = factor * refit_covariance(draws[:, columns])
        matched = match_covariance(found.influence, found.covariance, wanted)
        return replace(found, influence=matched)

    middle = n_components
    return MixtureAnswers(
        part(slice(0, middle), terms, "effect in each component"),
        part(slice(middle + 1, None), terms, "share of units in each component"),
        part(slice(middle, middle + 1), ("ate",), "average effect implied by the mixture"),
        robust_average(study, nuisances),
        done,
        draws,
    )


def robust_average(study: Study, nuisances: Nuisances) -> Estimate:
    """Return the mean of cross-fitted doubly robust scores.

    Parameters
    ----------
    study : Study
    nuisances : Nuisances

    Returns
    -------
    Estimate
    """
    scores = doubly_robust_scores(study, nuisances)
    weight = scores.weight / scores.weight.mean()
    score = scores.score.to_numpy()
    value = float(np.mean(weight * score))
    return Estimate(
        np.array([value]),
        (weight * (score - value))[:, None],
        scores.frame,
        ("ate",),
        "average effect",
        "augmented inverse propensity weighting (doubly robust)",
    )


def find_problems(
    density: "MixtureDensity", mode: "Mode", table: MixtureTable, answers: MixtureAnswers
) -> tuple[str, ...]:
    """Say which components cannot be trusted, and whether the average effect is missed.

    Parameters
    ----------
    density : MixtureDensity
    mode : Mode
    table : MixtureTable
    answers : MixtureAnswers

    Returns
    -------
    tuple of str
    """
    from terracausal.mixtures.fitting import posterior_answers

    by_site = posterior_answers(density, mode.parameters[None])[1]
    memberships, sites = by_site[table.site], by_site.sum(axis=0)
    notes = []
    for k, share in enumerate(answers.shares.value):
        treated = float(memberships[table.treatment == 1, k].sum())
        control = float(memberships[table.treatment == 0, k].sum())
        if min(treated, control) < _MIN_UNITS:
            notes.append(
                f"component {k + 1} has about {treated:.1f} treated and {control:.1f} control "
                "units: its effect is not identified. Use fewer components"
            )
        elif share < _MIN_SHARE:
            notes.append(
                f"component {k + 1} holds {share:.1%} of the units: it has collapsed. Use fewer "
                "components"
            )
        elif sites[k] < MIN_SITES:
            notes.append(
                f"component {k + 1} holds about {sites[k]:.1f} sites, fewer than {MIN_SITES}: "
                "sites tell types apart, however many units they have. Use fewer components"
            )
    notes += _same_types(answers)
    implied, average = answers.implied, answers.average
    error = float(np.hypot(implied.std_error[0], average.std_error[0]))
    gap = float(implied.value[0] - average.value[0])
    if abs(gap) > error:
        notes.append(
            f"the mixture implies an average effect of {implied.value[0]:.4g}, AIPW finds "
            f"{average.value[0]:.4g}: {abs(gap) / error:.1f} joint standard errors apart. Family "
            "or baseline may be wrong, or treatment confounded"
        )
    return tuple(notes)


def _same_types(answers: MixtureAnswers) -> list[str]:
    """Say which neighbouring components are one and the same: no data part them."""
    effect = answers.effects.value
    near = np.flatnonzero(np.diff(effect) < _SAME * answers.implied.std_error[0]) + 1
    return [
        f"components {k} and {k + 1} have the same effect, {effect[k]:.4g}: nothing parts them and "
        "they are one type. Use fewer components"
        for k in near
    ]


def baseline_notes(p_value: float | None) -> tuple[str, ...]:
    """Say that types seem to differ in their baselines.

    Parameters
    ----------
    p_value : float or None

    Returns
    -------
    tuple of str
    """
    if p_value is None or p_value >= _CLEAR:
        return ()
    return (
        f"types of places seem to differ in their outcomes without treatment too (score test, p = "
        f"{p_value:.2g}): with one baseline for all, effects may be wrong. Compare with "
        "baseline='by_type'",
    )


def warn_of(notes: tuple[str, ...]) -> None:
    """Give each note as a `MixtureWarning`.

    Parameters
    ----------
    notes : tuple of str
    """
    for note in notes:
        warnings.warn(f"{note[:1].upper()}{note[1:]}.", MixtureWarning, stacklevel=3)


def _by_unit(influence: Floats, study: Study, table: MixtureTable) -> Floats:
    """Spread influence of sites evenly over their units, in the order of the study."""
    site = table.sites.get_indexer(site_labels(study))
    per_site = np.bincount(site, minlength=table.n_sites)
    return np.asarray(influence[site] * (len(site) / per_site[site])[:, None])


def convergence_notes(
    mode: "Mode", posterior: "Posterior", answers: MixtureAnswers
) -> tuple[str, ...]:
    """Say which searches did not end.

    Parameters
    ----------
    mode : Mode
    posterior : Posterior
    answers : MixtureAnswers

    Returns
    -------
    tuple of str
    """
    notes, found = [], posterior.diagnostics
    if not mode.converged:
        notes.append("the best restart did not reach its mode: do not trust the effects")
    if len(posterior.elbo) and not posterior.converged:
        notes.append(
            f"the evidence lower bound still rose after {len(posterior.elbo):,} steps: "
            "posterior SDs are rough"
        )
    if "r_hat" in found and not posterior.converged:
        notes.append(
            f"the chains do not agree (worst R-hat {found['r_hat']:.2f}, fewest effective draws "
            f"{found['effective_draws']:.0f}): the posterior may have several modes"
        )
    if answers.refits_converged <= 0.9:
        notes.append(
            f"only {answers.refits_converged:.0%} of the refits converged: standard errors "
            "are rough"
        )
    return tuple(notes)


def tables_of(drawn: Floats, refits: Floats | None) -> tuple[pd.DataFrame | None, pd.DataFrame]:
    """Return the refits and the posterior of effects and shares as tables.

    Parameters
    ----------
    drawn : ndarray of shape (n_draws, 2 K + 1)
        Answers of posterior draws.
    refits : ndarray of shape (n_bootstrap, 2 K + 1) or None

    Returns
    -------
    refits : DataFrame or None
    posterior : DataFrame of shape (K, 4)
    """
    count = (drawn.shape[1] - 1) // 2
    kinds = range(1, count + 1)
    effects, shares = ([f"{word}_{k}" for k in kinds] for word in ("effect", "share"))
    columns = [*effects, "implied_effect", *shares]
    table = pd.DataFrame(
        {
            "mean": drawn[:, :count].mean(axis=0),
            "sd": drawn[:, :count].std(axis=0),
            "share": drawn[:, count + 1 :].mean(axis=0),
            "share_sd": drawn[:, count + 1 :].std(axis=0),
        },
        index=pd.Index([f"component {k}" for k in kinds], name="term"),
    )
    return None if refits is None else pd.DataFrame(refits, columns=columns), table
