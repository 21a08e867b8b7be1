"""Trials: randomised studies on a simulated landscape, with the effect of every unit known."""

from collections.abc import Mapping
from dataclasses import replace

import geopandas as gpd
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from terracausal.simulate.landscape import Landscape
from terracausal.simulate.settings import WorldSettings
from terracausal.simulate.simulated_study import SimulatedStudy, WorldSize
from terracausal.simulate.sites import (
    chip_means,
    cut_chips,
    place_sites,
    site_points,
    standardise,
)
from terracausal.study import Study

_PROPENSITY = 0.5
_COVARIATES = ("age", "female", "schooling")


def run_trial(
    world: str,
    settings: WorldSettings,
    size: WorldSize,
    landscape: Landscape,
    streams: list[np.random.Generator],
) -> SimulatedStudy:
    """Run a trial in which the share of cropland modifies the effect, or nothing does.

    Parameters
    ----------
    world : {"effect_modification", "constant_effect"}
    settings : WorldSettings
    size : WorldSize
    landscape : Landscape
        Where the sites lie.
    streams : list of numpy.random.Generator
        For the places, the units, and effects with treatment.

    Returns
    -------
    SimulatedStudy
    """
    if world == "constant_effect":
        settings = replace(settings, effect_sd=0.0)
    n_sites, size_px, site_row = size.n_sites, size.size_px, size.site_rows
    corners = place_sites(landscape, n_sites, size_px, streams[0])
    sites = site_points(landscape, corners, size_px, size.site_keys)
    modifier = standardise(chip_means(landscape.layers["cropland"], corners, size_px))
    buildings = chip_means(landscape.layers["buildings_per_km2"], corners, size_px)
    table = _draw_units(sites, np.log1p(buildings), size, streams[1])
    truth = _truth(table, modifier[site_row], site_row, settings, streams[2])
    treatment = assign_half(n_sites if settings.assignment == "site" else len(table), streams[2])
    treatment = treatment[site_row] if settings.assignment == "site" else treatment
    expected = np.where(treatment == 1, truth["outcome_treated"], truth["outcome_control"])
    table["treatment"] = treatment
    table["outcome"] = expected + truth["site_effect"] + truth["noise"]
    study = Study(
        table.drop(columns="density"),
        outcome="outcome",
        treatment="treatment",
        site="site",
        covariates=_COVARIATES,
        propensity=_PROPENSITY,
        coords=("lon", "lat"),
    )
    note = (
        f"Simulated; treatment by {settings.assignment}. Effects have mean "
        f"{settings.average_effect:g} and standard deviation {settings.effect_sd:g} over sites"
        + (", and rise with the share of cropland in the chip." if settings.effect_sd else ".")
    )
    return SimulatedStudy(
        study=study,
        chips=cut_chips(landscape, corners, size_px, sites),
        name=world,
        notes=(note,),
        truth=truth,
        settings=settings,
        landscape=landscape,
    )


def assign_half(count: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """Draw treatment for exactly half of `count`; a coin decides about an odd one.

    Parameters
    ----------
    count : int
        Number of sites or units.
    generator : numpy.random.Generator
        The source of randomness.

    Returns
    -------
    ndarray of shape (count,)
        Zeros and ones; each is one with probability 0.5.

    Examples
    --------
    >>> int(assign_half(10, np.random.default_rng(0)).sum())
    5
    """
    n_treated = count // 2 + (int(generator.integers(2)) if count % 2 else 0)
    treatment = np.zeros(count, dtype=np.int64)
    treatment[:n_treated] = 1
    return generator.permutation(treatment)


def _draw_units(
    sites: gpd.GeoDataFrame,
    log_density: NDArray[np.float64],
    size: WorldSize,
    generator: np.random.Generator,
) -> pd.DataFrame:
    """Return one row per unit: site, coordinates, covariates and the site's density."""
    site_row = size.site_rows
    density = standardise(log_density)[site_row]
    degrees = sites.geometry.to_crs("EPSG:4326")
    n_units = len(site_row)
    schooling = generator.poisson(np.clip(7.0 + 0.8 * density, 1.0, None))
    columns: Mapping[str, NDArray[np.generic]] = {
        "site": sites.index.to_numpy()[site_row],
        "lon": degrees.x.to_numpy()[site_row],
        "lat": degrees.y.to_numpy()[site_row],
        "age": generator.integers(18, 36, size=n_units),
        "female": generator.integers(2, size=n_units),
        "schooling": np.minimum(schooling, 16),
        "density": density,
    }
    return pd.DataFrame(columns, index=size.unit_keys)


def _truth(
    table: pd.DataFrame,
    modifier: NDArray[np.float64],
    site_row: NDArray[np.intp],
    settings: WorldSettings,
    generator: np.random.Generator,
) -> pd.DataFrame:
    """Return the truth by unit, as `SimulatedStudy` describes it."""
    effect = settings.average_effect + settings.effect_sd * modifier
    personal = 0.02 * (table["age"] - 26) - 0.2 * table["female"] + 0.08 * (table["schooling"] - 7)
    control = (personal + 0.3 * table["density"]).to_numpy(dtype=np.float64)
    n_sites = int(site_row.max()) + 1
    columns = {
        "effect": effect,
        "outcome_control": control,
        "outcome_treated": control + effect,
        "propensity": np.full(len(table), _PROPENSITY),
        "modifier": modifier,
        "site_effect": settings.site_sd * generator.standard_normal(n_sites)[site_row],
        "noise": settings.noise_sd * generator.standard_normal(len(table)),
    }
    return pd.DataFrame(columns, index=table.index)
