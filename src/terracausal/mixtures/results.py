"""From a fitted mode to estimates: standard errors, the check against AIPW, what to distrust."""

import warnings
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from terracausal.mixtures.design import MixtureDesign, MixtureTable, site_labels
from terracausal.nuisance import cross_fit, doubly_robust_scores
from terracausal.study import Estimate, Study

if TYPE_CHECKING:
    from terracausal.mixtures.density import MixtureDensity
    from terracausal.mixtures.fitting import Mode

Floats = NDArray[np.float64]
_MIN_UNITS = 5.0
_MIN_SHARE = 0.02
_ASSUMPTIONS = (
    "treatment is as good as random given covariates and image",
    "the number of components is right, and the baseline is linear",
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
    design: MixtureDesign,
    table: MixtureTable,
    fitted: "tuple[MixtureDensity, Mode]",
    *,
    n_bootstrap: int,
    streams: tuple[np.random.Generator, np.random.Generator],
) -> MixtureAnswers:
    """Return the estimates at a mode, with standard errors over clusters.

    Parameters
    ----------
    study : Study
    design : MixtureDesign
    table : MixtureTable
    fitted : tuple of MixtureDensity and Mode
    n_bootstrap : int
        0 leaves the first-order standard errors.
    streams : pair of numpy.random.Generator
        For the refits, and for the check against AIPW.

    Returns
    -------
    MixtureAnswers
    """
    from terracausal.mixtures.fitting import component_answers, one_thread
    from terracausal.mixtures.uncertainty import (
        bootstrap_answers,
        match_covariance,
        refit_covariance,
        site_influence,
    )

    density, mode = fitted
    value = component_answers(density, mode.parameters)
    n_components = (len(value) - 1) // 2
    scale = np.where(np.arange(len(value)) <= n_components, design.spread, 1.0)
    draws, done = None, 1.0
    with one_thread():
        influence = _by_unit(site_influence(density, mode) * scale, study, table)
        if n_bootstrap:
            draws, done = bootstrap_answers(density, mode, table.cluster, n_bootstrap, streams[0])
    method = f"mixture of {n_components} effects by type of image, posterior mode"
    note = (
        f"standard errors from the central 90 % of {n_bootstrap} refits under random weights of "
        "clusters; influence values are the first-order ones, scaled to these"
        if n_bootstrap
        else "first-order (sandwich) standard errors"
    )
    terms = tuple(f"component {k + 1}" for k in range(n_components))

    def part(columns: slice, names: tuple[str, ...], estimand: str) -> Estimate:
        found = Estimate(
            (value * scale)[columns], influence[:, columns], study.frame, names, estimand, method,
            assumptions=_ASSUMPTIONS, notes=(note,),
        )  # fmt: skip
        if draws is None:
            return found
        wanted = refit_covariance((draws * scale)[:, columns])
        matched = match_covariance(found.influence, found.covariance, wanted)
        return replace(found, influence=matched)

    middle = n_components
    return MixtureAnswers(
        part(slice(0, middle), terms, "effect in each component"),
        part(slice(middle + 1, None), terms, "share of units in each component"),
        part(slice(middle, middle + 1), ("ate",), "average effect implied by the mixture"),
        robust_average(study, streams[1]),
        done,
        None if draws is None else draws * scale,
    )


def robust_average(study: Study, rng: np.random.Generator) -> Estimate:
    """Return the mean of cross-fitted doubly robust scores.

    Parameters
    ----------
    study : Study
    rng : numpy.random.Generator

    Returns
    -------
    Estimate
    """
    scores = doubly_robust_scores(study, cross_fit(study, random_state=rng))
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

    memberships = posterior_answers(density, mode.parameters[None])[1][table.site]
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
