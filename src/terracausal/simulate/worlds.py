"""Worlds: one door to all simulated studies whose truth is known."""

from dataclasses import dataclass

from numpy.typing import ArrayLike

from terracausal._foundation.checks import check_choice
from terracausal._foundation.randomness import RandomState, random_generator
from terracausal.imagery import Chips
from terracausal.simulate.kernel import run_kernel
from terracausal.simulate.landscape import Landscape, simulate_landscape
from terracausal.simulate.settings import ConfoundingSettings, KernelSettings, WorldSettings
from terracausal.simulate.simulated_study import SimulatedStudy, WorldSize
from terracausal.simulate.sites import enough_px
from terracausal.simulate.trials import run_trial
from terracausal.simulate.tutorial import run_tutorial

Settings = WorldSettings | ConfoundingSettings
_KERNEL_LANDSCAPE_PX = 1024


@dataclass(frozen=True)
class _World:
    """What a world takes where nothing is said."""

    settings: type[Settings]
    size: WorldSize


_TRIAL = _World(WorldSettings, WorldSize(400, 5, 32))
WORLDS = {
    "effect_modification": _TRIAL,
    "constant_effect": _TRIAL,
    "tutorial": _World(ConfoundingSettings, WorldSize(1000, 1, 64)),
    "kernel": _World(KernelSettings, WorldSize(500, 1, 64)),
}


def simulate_study(
    world: str = "effect_modification",
    *,
    n_sites: int | None = None,
    units_per_site: int | None = None,
    size_px: int | None = None,
    landscape: Landscape | Chips | ArrayLike | None = None,
    settings: Settings | None = None,
    random_state: RandomState = None,
) -> SimulatedStudy:
    """Run a study in a world whose truth is known.

    **Trials** ("effect_modification", "constant_effect") are randomised in a simulated landscape.
    With s(i) the site of unit i and all image features read off the landscape's layers in the
    chip, weighted towards its centre and standardised over the study's sites::

        modifier_s   = share of cropland
        effect_i     = average_effect + effect_sd × modifier_s(i)
        control_i    = 0.02 (age_i - 26) - 0.2 female_i + 0.08 (schooling_i - 7) + 0.3 density_s(i)
        outcome_i    = control_i + effect_i × treatment_i + site_effect_s(i) + noise_i
        site_effect  ~ Normal(0, site_sd),  noise ~ Normal(0, noise_sd)

    where density is the logarithm of buildings per km². Treatment is drawn for exactly half of the
    sites (or units); of an odd number, the odd one out is decided by a coin.

    **Observational worlds** ("tutorial", "kernel") are confounded by what the image shows::

        confounder_i = √(1 - unseen_share) visible_s(i) + √unseen_share Normal(0, 1)
        seen_i       = confounder_i + x1_i + x2_i
        control_i    = seen_i + field_in_outcome × field_s(i)
        log odds_i   = propensity_strength × (seen_i + field_in_treatment × field_s(i))
                       + Normal(0, treatment_noise_sd)
        effect_i     = average_effect + effect_slope × confounder_i
        outcome_i    = control_i + effect_i × treatment_i + site_effect_s(i) + noise_i

    "tutorial" is the simulation of the causalimages tutorial: red is the confounder, and the
    covariates x1 and x2 are standard normal. "kernel" is that of Jerzak, Johansson & Daoud (2023),
    without covariates: each scene is convolved with a diagonal pattern of `width_px` pixels, and
    the largest response in the scene, standardised over scenes, confounds.

    Parameters
    ----------
    world : str, default='effect_modification'
        "effect_modification": fields in the image modify the effect. "constant_effect": nothing
        does (`effect_sd` is then 0). "tutorial" and "kernel": as above.
    n_sites : int, default=None
        Number of sites, at least 4. In trials they lie where people live, with probability
        proportional to the density of buildings, no two at the same place. None takes 400 in
        trials, 1,000 in the tutorial, and 500 scenes or all given chips in the kernel world.
    units_per_site : int, default=None
        Number of units of each site; None takes 5 in trials and 1 elsewhere.
    size_px : int, default=None
        Height and width of the chips before any degrading; None takes 32 in trials, 64 elsewhere,
        or the size of given chips.
    landscape : Landscape, Chips or array-like of shape (height, width), default=None
        Where the sites lie; not for the tutorial. None simulates one: for trials just large enough
        that few chips overlap (1,024 pixels for the defaults), for the kernel world 1,024 pixels.
        Pass one to reuse it in a Monte Carlo study. The kernel world also takes real imagery: a
        raster of one band, NaN where missing, or chips, which are then the scenes.
    settings : WorldSettings, ConfoundingSettings or KernelSettings, default=None
        Sizes of effects, noise and confounding, of the kind that the world takes (in this order:
        trials, tutorial, kernel); None takes its defaults.
    random_state : None, int or numpy.random.Generator, default=None
        The same seed gives the same study.

    Returns
    -------
    SimulatedStudy
        With `study`, `chips`, `truth`, `average_effect` and `true_effect`. Trials have the known
        propensity 0.5.

    Raises
    ------
    ValueError
        If the world is unknown, the settings are those of another world, the sites do not fit in
        the imagery, or the imagery has no differences in what matters.
    TypeError
        If a trial is given imagery that is not a Landscape.

    Notes
    -----
    In trials the features are standardised over the study's own sites, so the mean of the true
    effects is `average_effect` and their standard deviation `effect_sd`, exactly. In the
    kernel world so is the confounder, so that the paper's standardisation of pixels and responses
    does not matter. The paper pools over a window that is the same for all widths; here it is
    every place where the pattern lies inside the scene. Scenes are cut at random, may share
    pixels, and are then put at random places of a map, as the sites of the tutorial are.

    Examples
    --------
    >>> data = simulate_study(n_sites=20, units_per_site=3, random_state=0)
    >>> data.study.n_units, data.study.n_sites, data.chips["s0000"].shape
    (60, 20, (1, 6, 32, 32))
    >>> data = simulate_study("tutorial", n_sites=100, random_state=0)
    >>> data.average_effect, data.chips.bands
    (2.0, ('red', 'green', 'blue'))
    """
    check_choice("world", world, tuple(WORLDS))
    default = WORLDS[world]
    settings = default.settings() if settings is None else settings
    if type(settings) is not default.settings:
        raise ValueError(
            f"The world {world!r} takes {default.settings.__name__}; got {type(settings).__name__}."
        )
    size = _size(default.size, n_sites, units_per_site, size_px, landscape)
    first, *streams = random_generator(random_state).spawn(4)
    if isinstance(settings, KernelSettings):
        if landscape is None:
            landscape = simulate_landscape(_KERNEL_LANDSCAPE_PX, random_state=first)
        return run_kernel(settings, size, landscape, streams[0])
    if isinstance(settings, ConfoundingSettings):
        if landscape is not None:
            raise ValueError("The world 'tutorial' paints its own images; give no `landscape`.")
        return run_tutorial(settings, size, streams[0])
    if landscape is None:
        landscape = simulate_landscape(enough_px(size.n_sites, size.size_px), random_state=first)
    if not isinstance(landscape, Landscape):
        raise TypeError(
            f"The world {world!r} needs the layers of a Landscape; got "
            f"{type(landscape).__name__}. Imagery alone will do for the world 'kernel'."
        )
    return run_trial(world, settings, size, landscape, streams)


def _size(
    default: WorldSize,
    n_sites: int | None,
    units_per_site: int | None,
    size_px: int | None,
    imagery: Landscape | Chips | ArrayLike | None,
) -> WorldSize:
    """Return what was asked for; the rest comes from given chips, then from the world."""
    sites, px = default.n_sites, default.size_px
    if isinstance(imagery, Chips):
        sites, px = len(imagery), imagery.size_px[0]
    return WorldSize(
        sites if n_sites is None else n_sites,
        default.units_per_site if units_per_site is None else units_per_site,
        px if size_px is None else size_px,
    )
