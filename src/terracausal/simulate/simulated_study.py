"""A simulated study: what an analyst would see, and the truth that no real study shows."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd

from terracausal._foundation.checks import check_choice, check_count
from terracausal.simulate.settings import ConfoundingSettings, WorldSettings
from terracausal.study import StudyData

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from terracausal.simulate.landscape import Landscape

Target = Literal["all", "treated", "control", "overlap"]


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
    truth : pandas.DataFrame of shape (n_units, any)
        By unit key. `effect`: the unit's effect. `outcome_control`, `outcome_treated`: expected
        outcome in each arm given all causes, so *without* site effect and noise; their difference
        is `effect`. `propensity`: probability of treatment given the same causes. `site_effect`,
        `noise`: what is added to either arm's expectation to give the outcome. Trials have
        `modifier`, the image feature that drives the effect, mean 0 and standard deviation 1 over
        sites. Observational worlds have `confounder`, its part `visible` in the image (the two are
        the same unless some of it is unseen), and `field`, the smooth field of the place.
    settings : WorldSettings or ConfoundingSettings
        The sizes that were used.
    landscape : Landscape, default=None
        Where the study took place, in worlds that lie in a landscape.

    Examples
    --------
    >>> from terracausal.simulate import simulate_study
    >>> data = simulate_study(n_sites=20, random_state=0)
    >>> round(data.average_effect, 3)
    0.5
    """

    truth: pd.DataFrame
    settings: WorldSettings | ConfoundingSettings
    landscape: "Landscape | None" = None

    @property
    def average_effect(self) -> float:
        """Mean true effect of the study's units."""
        return self.true_effect("all")

    def true_effect(self, target: Target = "all") -> float:
        """Return the true average effect on a target population.

        Units count by what the target makes of their true propensity e: 1 for all, e for the
        treated, 1 - e for the controls, e (1 - e) for the overlap population.

        Parameters
        ----------
        target : {"all", "treated", "control", "overlap"}, default="all"

        Returns
        -------
        float
        """
        check_choice("target", target, ("all", "treated", "control", "overlap"))
        truth = self.truth.loc[self.study.units]
        e = truth["propensity"].to_numpy(dtype=np.float64)
        tilt = {"all": np.ones_like(e), "treated": e, "control": 1 - e, "overlap": e * (1 - e)}
        return float(np.average(truth["effect"].to_numpy(dtype=np.float64), weights=tilt[target]))


@dataclass(frozen=True)
class WorldSize:
    """How many sites and units a world has, and how large its chips are.

    Parameters
    ----------
    n_sites, units_per_site, size_px : int

    Examples
    --------
    >>> WorldSize(4, 2, 8).site_rows.tolist()
    [0, 0, 1, 1, 2, 2, 3, 3]
    """

    n_sites: int
    units_per_site: int
    size_px: int

    def __post_init__(self) -> None:
        check_count("n_sites", self.n_sites, minimum=4)
        check_count("units_per_site", self.units_per_site)
        check_count("size_px", self.size_px)

    @property
    def site_rows(self) -> "NDArray[np.intp]":
        """Position of the site of each unit, of shape (n_units,)."""
        return np.repeat(np.arange(self.n_sites), self.units_per_site)

    @property
    def site_keys(self) -> pd.Index:
        """Keys of the sites: s0000, s0001 and so on."""
        return pd.Index([f"s{number:04d}" for number in range(self.n_sites)], name="site")

    @property
    def unit_keys(self) -> pd.Index:
        """Keys of the units: s0000-0, s0000-1 and so on."""
        numbers = np.tile(np.arange(self.units_per_site), self.n_sites)
        keys = self.site_keys[self.site_rows]
        return pd.Index([f"{s}-{u}" for s, u in zip(keys, numbers, strict=True)], name="unit")
