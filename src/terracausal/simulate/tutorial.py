"""The tutorial world: one colour of the image is the confounder."""

import numpy as np
from numpy.typing import NDArray

from terracausal.imagery import Chips
from terracausal.simulate.confounding import describe_confounding, observe
from terracausal.simulate.settings import ConfoundingSettings
from terracausal.simulate.simulated_study import SimulatedStudy, WorldSize

_BANDS = ("red", "green", "blue")
_N_COVARIATES = 2


def run_tutorial(
    settings: ConfoundingSettings, size: WorldSize, generator: np.random.Generator
) -> SimulatedStudy:
    """Run the simulation of the causalimages tutorial; see `simulate_study`.

    Parameters
    ----------
    settings : ConfoundingSettings
    size : WorldSize
    generator : numpy.random.Generator
        The source of randomness.

    Returns
    -------
    SimulatedStudy
    """
    of_visible, of_pixels, of_units = generator.spawn(3)
    visible = of_visible.standard_normal(size.n_sites)
    observed = observe(visible, settings, size, _N_COVARIATES, of_units)
    chips = Chips.from_arrays(
        tutorial_pixels(visible, size.size_px, of_pixels), sites=observed.sites, bands=_BANDS
    )
    return SimulatedStudy(
        study=observed.study,
        chips=chips,
        name="tutorial",
        notes=(describe_confounding(settings), "The red band shows the confounder."),
        truth=observed.truth,
        settings=settings,
    )


def tutorial_pixels(
    visible: NDArray[np.float64], size_px: int, generator: np.random.Generator
) -> NDArray[np.float32]:
    """Paint the confounder in red; green and blue are one random shade per image.

    Row r of image i is multiplied by log(1 + r / size_px)^u with u ~ U(0, 1 / i), r and i counted
    from 1, so that only the first images have visible stripes.

    Parameters
    ----------
    visible : ndarray of shape (n_sites,)
        Becomes red, scaled to the range 0 to 1.
    size_px : int
        Height and width.
    generator : numpy.random.Generator
        The source of randomness.

    Returns
    -------
    ndarray of shape (n_sites, 1, 3, size_px, size_px)
        A read-only view: all pixels of a row are one number in memory.

    Examples
    --------
    >>> tutorial_pixels(np.array([0.0, 1.0]), 4, np.random.default_rng(0)).shape
    (2, 1, 3, 4, 4)
    """
    n_sites = len(visible)
    color = generator.random((n_sites, 3))
    color[:, 0] = (visible - visible.min()) / np.ptp(visible)
    exponent = generator.random((n_sites, size_px)) / np.arange(1, n_sites + 1)[:, None]
    stripes = np.log1p(np.arange(1, size_px + 1) / size_px) ** exponent
    rows = (color[:, :, None] * stripes[:, None, :]).astype(np.float32)
    shape = (n_sites, 1, 3, size_px, size_px)
    return np.broadcast_to(rows[:, None, :, :, None], shape)
