"""Worlds: randomised studies on a simulated landscape, with the effect of every unit known."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import geopandas as gpd
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from terracausal._foundation.checks import check_choice, check_count
from terracausal._foundation.randomness import RandomState, random_generator
from terracausal.simulate.landscape import Landscape, simulate_landscape
from terracausal.simulate.sites import (
    chip_means,
    cut_chips,
    enough_px,
    place_sites,
    site_points,
)
from terracausal.study import Study, StudyData

WORLDS = ("effect_modification", "constant_effect")
_PROPENSITY = 0.5
_COVARIATES = ("age", "female", "schooling")


@dataclass(frozen=True)
class WorldSettings:
    """The sizes of what happens in a world, in units of the outcome.

    Parameters
    ----------
    average_effect : float, default=0.5
        Mean effect over sites.
    effect_sd : float, default=0.4
        Standard deviation of the effect between sites.
    site_sd : float, default=0.3
        Standard deviation of what the units of a site share and no image shows.
    noise_sd : float, default=1.0
        Standard deviation of the unit's own noise.
    assignment : {"site", "unit"}, default='site'
        Who is randomised: half of the sites, or half of the units.

    Examples
    --------
    >>> WorldSettings(assignment="unit").average_effect
    0.5
    """

    average_effect: float = 0.5
    effect_sd: float = 0.4
    site_sd: float = 0.3
    noise_sd: float = 1.0
    assignment: Literal["site", "unit"] = "site"

    def __post_init__(self) -> None:
        check_choice("assignment", self.assignment, ("site", "unit"))
        if not np.isfinite(self.average_effect):
            raise ValueError(f"`average_effect` must be finite; got {self.average_effect!r}.")
        for name in ("effect_sd", "site_sd", "noise_sd"):
            value = getattr(self, name)
            if not (np.isfinite(value) and value >= 0):
                raise ValueError(f"`{name}` must be finite and not negative; got {value!r}.")


@dataclass(frozen=True, eq=False, kw_only=True)
class SimulatedStudy(StudyData):
    """A study of a simulated world, its chips, and the truth that no real study shows.

    Parameters
    ----------
    study : Study
        Units and their roles.
    chips : Chips
        One chip for each site.
    name : str
        Name of the world.
    notes : tuple of str, default=()
        How the world was made.
    truth : pandas.DataFrame of shape (n_units, 7)
        By unit key. `effect`: the unit's effect. `outcome_control`, `outcome_treated`: expected
        outcome in each arm given the covariates and the image, so *without* site effect and
        noise; their difference is `effect`. `propensity`: probability of treatment. `modifier`:
        the image feature that drives the effect, mean 0 and standard deviation 1 over sites.
        `site_effect`, `noise`: what is added to either arm's expectation to give the outcome.
    landscape : Landscape
        Where the study took place.
    settings : WorldSettings
        The sizes that were used.

    Examples
    --------
    >>> data = simulate_study(n_sites=20, random_state=0)
    >>> round(data.average_effect, 3)
    0.5
    """

    truth: pd.DataFrame
    landscape: Landscape
    settings: WorldSettings

    @property
    def average_effect(self) -> float:
        """Mean true effect of the study's units."""
        return float(self.truth.loc[self.study.units, "effect"].mean())


def simulate_study(
    world: str = "effect_modification",
    *,
    n_sites: int = 400,
    units_per_site: int = 5,
    size_px: int = 32,
    landscape: Landscape | None = None,
    settings: WorldSettings | None = None,
    random_state: RandomState = None,
) -> SimulatedStudy:
    """Run a randomised trial in a simulated landscape.

    With s(i) the site of unit i and all image features read off the landscape's layers in the
    chip, weighted towards its centre and standardised over the study's sites::

        modifier_s   = share of cropland
        effect_i     = average_effect + effect_sd × modifier_s(i)
        control_i    = 0.02 (age_i - 26) - 0.2 female_i + 0.08 (schooling_i - 7) + 0.3 density_s(i)
        outcome_i    = control_i + effect_i × treatment_i + site_effect_s(i) + noise_i
        site_effect  ~ Normal(0, site_sd),  noise ~ Normal(0, noise_sd)

    where density is the logarithm of buildings per km². Treatment is drawn for exactly half of the
    sites (or units); of an odd number, the odd one out is decided by a coin.

    Parameters
    ----------
    world : {"effect_modification", "constant_effect"}, default='effect_modification'
        Whether fields in the image modify the effect, or nothing does (`effect_sd` is then 0).
    n_sites : int, default=400
        Number of sites, at least 4. They lie where people live, with probability proportional to
        the density of buildings, no two at the same place.
    units_per_site : int, default=5
        Number of units of each site.
    size_px : int, default=32
        Height and width of the chips, each centred on its site.
    landscape : Landscape, default=None
        Where the sites lie. None simulates one just large enough that few chips overlap (1,024
        pixels for the defaults); pass one to reuse it in a Monte Carlo study.
    settings : WorldSettings, default=None
        Sizes of effects and noise; None takes the defaults of `WorldSettings`.
    random_state : None, int or numpy.random.Generator, default=None
        The same seed gives the same study.

    Returns
    -------
    SimulatedStudy
        With `study` (known propensity 0.5), `chips`, `truth` and `average_effect`.

    Raises
    ------
    ValueError
        If the world is unknown, the sites do not fit in the landscape, or the landscape has no
        differences in cropland.

    Notes
    -----
    The features are standardised over the study's own sites, so the mean of the true effects is
    `average_effect` and their standard deviation `effect_sd`, exactly.

    Examples
    --------
    >>> data = simulate_study(n_sites=20, units_per_site=3, random_state=0)
    >>> data.study.n_units, data.study.n_sites, data.chips["s0000"].shape
    (60, 20, (1, 6, 32, 32))
    """
    check_choice("world", world, WORLDS)
    n_sites = check_count("n_sites", n_sites, minimum=4)
    units_per_site = check_count("units_per_site", units_per_site)
    size_px = check_count("size_px", size_px)
    settings = WorldSettings() if settings is None else settings
    if world == "constant_effect":
        settings = replace(settings, effect_sd=0.0)
    streams = random_generator(random_state).spawn(4)
    if landscape is None:
        landscape = simulate_landscape(enough_px(n_sites, size_px), random_state=streams[0])
    corners = place_sites(landscape, n_sites, size_px, streams[1])
    keys = pd.Index([f"s{number:04d}" for number in range(n_sites)], name="site")
    sites = site_points(landscape, corners, size_px, keys)
    modifier = standardise(chip_means(landscape.layers["cropland"], corners, size_px))
    buildings = chip_means(landscape.layers["buildings_per_km2"], corners, size_px)
    table = _draw_units(sites, np.log1p(buildings), units_per_site, streams[2])
    site_row = np.repeat(np.arange(n_sites), units_per_site)
    truth = _truth(table, modifier[site_row], site_row, settings, streams[3])
    treatment = assign_half(n_sites if settings.assignment == "site" else len(table), streams[3])
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
        landscape=landscape,
        settings=settings,
    )


def standardise(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Shift and scale values to mean 0 and standard deviation 1.

    Parameters
    ----------
    values : ndarray of shape (n_sites,)
        A feature.

    Returns
    -------
    ndarray of shape (n_sites,)
        The standardised feature.

    Raises
    ------
    ValueError
        If all values are the same.

    Examples
    --------
    >>> standardise(np.array([1.0, 3.0])).tolist()
    [-1.0, 1.0]
    """
    spread = float(values.std())
    if not spread > 1e-9 * (1.0 + abs(float(values.mean()))):
        raise ValueError(
            f"The image feature must differ between sites; all {values.size} sites have "
            f"{float(values.mean()):.4g}. Take a larger landscape or more sites."
        )
    return np.asarray((values - values.mean()) / spread)


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
    units_per_site: int,
    generator: np.random.Generator,
) -> pd.DataFrame:
    """Return one row per unit: site, coordinates, covariates and the site's density."""
    site_row = np.repeat(np.arange(len(sites)), units_per_site)
    number = np.tile(np.arange(units_per_site), len(sites))
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
    keys = [f"{sites.index[row]}-{unit}" for row, unit in zip(site_row, number, strict=True)]
    return pd.DataFrame(columns, index=pd.Index(keys, name="unit"))


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
