"""Treatment and outcome of observational worlds, given what confounds and what the image shows."""

from dataclasses import dataclass

import geopandas as gpd
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from terracausal.simulate.places import place_points, scatter_places, smooth_field
from terracausal.simulate.settings import ConfoundingSettings
from terracausal.simulate.simulated_study import WorldSize
from terracausal.study import Study

_NODES, _NODE_WEIGHTS = np.polynomial.hermite_e.hermegauss(15)


@dataclass(frozen=True)
class Observed:
    """An observational study that has been run.

    Parameters
    ----------
    study : Study
    truth : pandas.DataFrame of shape (n_units, 9)
        As `SimulatedStudy` describes it.
    sites : GeoDataFrame
        The places of the sites.
    """

    study: Study
    truth: pd.DataFrame
    sites: gpd.GeoDataFrame


def observe(
    visible: NDArray[np.float64],
    settings: ConfoundingSettings,
    size: WorldSize,
    n_covariates: int,
    generator: np.random.Generator,
) -> Observed:
    """Draw covariates, treatment and outcome of all units.

    Parameters
    ----------
    visible : ndarray of shape (n_sites,)
        What the image shows of the confounder, with variance 1.
    settings : ConfoundingSettings
    size : WorldSize
    n_covariates : int
        Number of standard normal covariates, x1, x2, …, which confound with coefficient 1.
    generator : numpy.random.Generator
        The source of randomness.

    Returns
    -------
    Observed
    """
    # one stream for each cause, so that a change of one setting leaves the other causes alone
    of_places, of_unseen, of_field, of_covariates, of_treatment, of_outcome = generator.spawn(6)
    row = size.site_rows
    drawn = np.arange(size.n_sites) if settings.assignment == "site" else np.arange(len(row))
    to_unit = row if settings.assignment == "site" else drawn
    metres = scatter_places(size.n_sites, of_places)
    sites = place_points(metres, size.site_keys)
    share = settings.unseen_share
    unseen = of_unseen.standard_normal(size.n_sites)
    confounder = (np.sqrt(1.0 - share) * visible + np.sqrt(share) * unseen)[row]
    field = smooth_field(metres, settings.range_m, of_field)[row]
    covariates = of_covariates.standard_normal((len(drawn), n_covariates))[to_unit]
    seen = confounder + covariates.sum(axis=1)
    control = seen + settings.field_in_outcome * field
    log_odds = settings.propensity_strength * (seen + settings.field_in_treatment * field)
    noise = settings.treatment_noise_sd * of_treatment.standard_normal(len(drawn))[to_unit]
    luck = of_treatment.random(len(drawn))[to_unit]
    treatment = (luck < _logistic(log_odds + noise)).astype(np.int64)
    truth = _truth(confounder, control, log_odds, metres, settings, size, of_outcome)
    truth.insert(4, "confounder", confounder)
    truth.insert(5, "visible", visible[row])
    truth.insert(6, "field", field)
    outcome = control + truth["effect"] * treatment + truth["site_effect"] + truth["noise"]
    names = [f"x{j + 1}" for j in range(n_covariates)]
    columns = {
        "site": size.site_keys[row],
        "lon": sites.geometry.x.to_numpy()[row],
        "lat": sites.geometry.y.to_numpy()[row],
        **dict(zip(names, covariates.T, strict=True)),
        "treatment": treatment,
        "outcome": outcome.to_numpy(),
    }
    study = Study(
        pd.DataFrame(columns, index=size.unit_keys),
        outcome="outcome",
        treatment="treatment",
        site="site",
        covariates=names,
        coords=("lon", "lat"),
    )
    return Observed(study, truth, sites)


def describe_confounding(settings: ConfoundingSettings) -> str:
    """Return the confounding of a world in words, for its notes."""
    words = [f"Simulated; not randomised, treatment by {settings.assignment}"]
    if settings.propensity_strength != 1:
        words.append(f"log odds of treatment times {settings.propensity_strength:g}")
    if settings.unseen_share:
        words.append(f"{settings.unseen_share:.0%} of the confounder is not in the image")
    if settings.field_in_treatment or settings.field_in_outcome:
        words.append(
            f"a smooth field of the place adds {settings.field_in_treatment:g} to the log odds and "
            f"{settings.field_in_outcome:g} to the outcome"
        )
    return f"{'; '.join(words)}."


def _truth(
    confounder: NDArray[np.float64],
    control: NDArray[np.float64],
    log_odds: NDArray[np.float64],
    metres: NDArray[np.float64],
    settings: ConfoundingSettings,
    size: WorldSize,
    generator: np.random.Generator,
) -> pd.DataFrame:
    """Return effects, expectations, propensities and what is added to outcomes, by unit."""
    row = size.site_rows
    effect = settings.average_effect + settings.effect_slope * confounder
    share = settings.spatial_noise_share
    site_effect = settings.site_sd * generator.standard_normal(size.n_sites)[row]
    own = generator.standard_normal(len(row))
    patchy = smooth_field(metres, settings.range_m, generator)[row]
    columns = {
        "effect": effect,
        "outcome_control": control,
        "outcome_treated": control + effect,
        "propensity": mean_logistic(log_odds, settings.treatment_noise_sd),
        "site_effect": site_effect,
        "noise": settings.noise_sd * (np.sqrt(1.0 - share) * own + np.sqrt(share) * patchy),
    }
    return pd.DataFrame(columns, index=size.unit_keys)


def mean_logistic(log_odds: NDArray[np.float64], noise_sd: float) -> NDArray[np.float64]:
    """Return the probability whose log odds are `log_odds` plus normal noise, on average.

    Parameters
    ----------
    log_odds : ndarray of shape (n_units,)
    noise_sd : float

    Returns
    -------
    ndarray of shape (n_units,)

    Notes
    -----
    Gauss-Hermite quadrature with 15 nodes; exact to 1e-6 for noise up to 1.

    Examples
    --------
    >>> mean_logistic(np.array([0.0, 2.0]), 0.0).round(3).tolist()
    [0.5, 0.881]
    """
    nodes = _logistic(log_odds[:, None] + noise_sd * _NODES)
    return np.asarray(nodes @ (_NODE_WEIGHTS / _NODE_WEIGHTS.sum()))


def _logistic(log_odds: NDArray[np.float64]) -> NDArray[np.float64]:
    from scipy.special import expit

    return np.asarray(expit(log_odds))
