"""The sizes of what happens in a world: effects, noise, who is assigned, what stays hidden."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from terracausal._foundation.checks import check_choice, check_count, check_positive

Assignment = Literal["site", "unit"]
Pooling = Literal["max", "mean", "pixel"]


@dataclass(frozen=True)
class WorldSettings:
    """The sizes of what happens in a trial, in units of the outcome.

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
    assignment: Assignment = "site"

    def __post_init__(self) -> None:
        check_choice("assignment", self.assignment, ("site", "unit"))
        _check_finite(self, "average_effect")
        _check_not_negative(self, "effect_sd", "site_sd", "noise_sd")


@dataclass(frozen=True)
class ConfoundingSettings:
    """The sizes of what happens in an observational world; the defaults are the tutorial's.

    Parameters
    ----------
    average_effect : float, default=2.0
        Effect of a unit whose confounder is 0.
    effect_slope : float, default=0.0
        By how much the effect rises with the confounder; other than 0, the effects on all units,
        on the treated and on the overlap population differ.
    noise_sd : float, default=1.0
        Standard deviation of the noise of the outcome.
    treatment_noise_sd : float, default=0.0
        Standard deviation of what moves the log odds of treatment and nothing else.
    propensity_strength : float, default=1.0
        Factor on the log odds of treatment; large ones violate overlap.
    unseen_share : float, default=0.0
        Share of the confounder's variance from objects that the image does not show.
    field_in_treatment, field_in_outcome : float, default=0.0
        What a smooth field of the place, which no image shows, adds to the log odds of treatment
        and to the outcome. In both it confounds; in the treatment alone, with spatial noise, it
        makes errors of neighbours add up.
    spatial_noise_share : float, default=0.0
        Share of the noise's variance that is such a field of its own.
    range_m : float, default=30000.0
        Range of these fields in metres: places d apart have the correlation exp(-(d / range)² / 2).
    site_sd : float, default=0.0
        Standard deviation of what the units of a site share besides.
    assignment : {"unit", "site"}, default='unit'
        Whether covariates and treatment are drawn for each unit or once for all units of a site.

    Examples
    --------
    >>> ConfoundingSettings(propensity_strength=3.0).average_effect
    2.0
    """

    average_effect: float = 2.0
    effect_slope: float = 0.0
    noise_sd: float = 1.0
    treatment_noise_sd: float = 0.0
    propensity_strength: float = 1.0
    unseen_share: float = 0.0
    field_in_treatment: float = 0.0
    field_in_outcome: float = 0.0
    spatial_noise_share: float = 0.0
    range_m: float = 30_000.0
    site_sd: float = 0.0
    assignment: Assignment = "unit"

    def __post_init__(self) -> None:
        check_choice("assignment", self.assignment, ("site", "unit"))
        _check_finite(
            self, "average_effect", "effect_slope", "field_in_treatment", "field_in_outcome"
        )
        _check_not_negative(
            self, "noise_sd", "treatment_noise_sd", "propensity_strength", "site_sd"
        )
        check_positive("range_m", self.range_m)
        for name in ("unseen_share", "spatial_noise_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"`{name}` must lie in 0 to 1; got {getattr(self, name)!r}.")


@dataclass(frozen=True)
class KernelSettings(ConfoundingSettings):
    """The settings of the kernel world: a pattern in the image confounds.

    Parameters
    ----------
    average_effect : float, default=1.0
        Effect of a unit whose confounder is 0.
    effect_slope : float, default=0.0
        As in `ConfoundingSettings`, like the settings below.
    noise_sd : float, default=0.1
        Standard deviation of the noise of the outcome.
    treatment_noise_sd : float, default=0.1
        Standard deviation of the noise in the log odds of treatment.
    propensity_strength : float, default=1.0
        Factor on the log odds of treatment.
    unseen_share : float, default=0.0
        Share of the confounder that no image shows.
    field_in_treatment, field_in_outcome : float, default=0.0
        What the smooth field adds to the log odds of treatment and to the outcome.
    spatial_noise_share : float, default=0.0
        Share of the noise that is smooth in space.
    range_m : float, default=30000.0
        Range of smooth fields in metres.
    site_sd : float, default=0.0
        Standard deviation of what the units of a site share.
    assignment : {"unit", "site"}, default='unit'
        Who is assigned.
    width_px : int, default=8
        Height and width of the pattern in pixels of the image that is not degraded.
    pooling : {"max", "mean", "pixel"}, default='max'
        How responses to the pattern become the confounder: the largest or the mean of the scene, or
        that at the centre of the chip (each pixel is then a site).
    degrade : int, default=1
        The chips are averaged over squares of this many pixels; the confounder is not.
    band : str, default='nir'
        Band of the landscape or of the chips that holds the pattern.

    Examples
    --------
    >>> KernelSettings(width_px=16, degrade=4).noise_sd
    0.1
    """

    average_effect: float = 1.0
    noise_sd: float = 0.1
    treatment_noise_sd: float = 0.1
    width_px: int = 8
    pooling: Pooling = "max"
    degrade: int = 1
    band: str = "nir"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count("width_px", self.width_px, minimum=2)
        check_choice("pooling", self.pooling, ("max", "mean", "pixel"))
        check_count("degrade", self.degrade)


def _check_finite(settings: object, *names: str) -> None:
    for name in names:
        value = getattr(settings, name)
        if not np.isfinite(value):
            raise ValueError(f"`{name}` must be finite; got {value!r}.")


def _check_not_negative(settings: object, *names: str) -> None:
    for name in names:
        value = getattr(settings, name)
        if not (np.isfinite(value) and value >= 0):
            raise ValueError(f"`{name}` must be finite and not negative; got {value!r}.")
