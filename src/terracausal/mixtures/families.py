"""Families of outcomes: log densities, expected outcomes and draws, given linear predictors.

Predictors, and all that is computed from them, have shape (n_batch, n_units, n_components);
outcomes have shape (1, n_units, 1). Both are on the scale of `OutcomeScale`; expected outcomes and
draws are in the units of the outcome.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, softplus

from terracausal.mixtures.outcomes import OutcomeScale

_LOG_2PI = math.log(2 * math.pi)
_MOST = 30.0  # a log mean above this is no outcome of anything


@dataclass(frozen=True, eq=False)
class Noise:
    """Parameters of the noise of a batch, broadcastable to (n_batch, n_units, n_components).

    Parameters
    ----------
    log_sd : Tensor, default=None
        Log standard deviation of the standardised outcome, given what a site shares.
    log_site_sd : Tensor, default=None
        Log standard deviation of the intercept that the units of a site share.
    log_shape : Tensor, default=None
        Of "student_t": log of the degrees of freedom above 2; of "negative_binomial": log size,
        where the variance is ``mean + mean^2 / size``.
    """

    log_sd: Tensor | None = None
    log_site_sd: Tensor | None = None
    log_shape: Tensor | None = None


class Normal:
    """The standardised outcome is normal around the predictor."""

    n_predictors = 1
    has_sd = True
    shares_intercept = True
    shape_name: str | None = None

    def __init__(self, scale: OutcomeScale) -> None:
        self.scale = scale

    def log_density(self, y: Tensor, eta: list[Tensor], noise: Noise, at_floor: Tensor) -> Tensor:
        """Return log densities of standardised outcomes, or probabilities of those at the floor."""
        log_sd = _required(noise.log_sd)
        return normal((y - eta[0]) * torch.exp(-log_sd)) - log_sd

    def expected(self, eta: list[Tensor], noise: Noise) -> Tensor:
        """Return expected outcomes."""
        return self.scale.centre + self.scale.spread * eta[0]

    def draw(self, eta: list[Tensor], noise: Noise, generator: torch.Generator) -> Tensor:
        """Return random outcomes; the shared intercept is part of the predictor."""
        z = eta[0] + torch.exp(_required(noise.log_sd)) * _standard_normal(eta[0], generator)
        return self.scale.centre + self.scale.spread * z


class LogNormal(Normal):
    """The log of the outcome is normal."""

    def expected(self, eta: list[Tensor], noise: Noise) -> Tensor:
        """Return expected outcomes."""
        variance = torch.exp(2 * _required(noise.log_sd))
        if noise.log_site_sd is not None:
            variance = variance + torch.exp(2 * noise.log_site_sd)
        spread = self.scale.spread
        return _exp(self.scale.centre + spread * eta[0] + 0.5 * spread**2 * variance)

    def draw(self, eta: list[Tensor], noise: Noise, generator: torch.Generator) -> Tensor:
        """Return random outcomes."""
        return _exp(super().draw(eta, noise, generator))


class StudentT(Normal):
    """The outcome has heavy tails."""

    shares_intercept = False
    shape_name = "log_df"

    def log_density(self, y: Tensor, eta: list[Tensor], noise: Noise, at_floor: Tensor) -> Tensor:
        """Return log densities."""
        log_sd = _required(noise.log_sd)
        z = (y - eta[0]) * torch.exp(-log_sd)
        return student_t(z, _required(noise.log_shape)) - log_sd

    def draw(self, eta: list[Tensor], noise: Noise, generator: torch.Generator) -> Tensor:
        """Return random outcomes."""
        df = (2 + torch.exp(_required(noise.log_shape))).expand_as(eta[0])
        chi = 2 * torch._standard_gamma(df / 2, generator=generator)
        z = _standard_normal(eta[0], generator) * torch.sqrt(df / chi)
        return self.scale.centre + self.scale.spread * (
            eta[0] + torch.exp(_required(noise.log_sd)) * z
        )


class LeftCensored(Normal):
    """A normal outcome cut off at its floor (Tobit)."""

    shares_intercept = False

    def log_density(self, y: Tensor, eta: list[Tensor], noise: Noise, at_floor: Tensor) -> Tensor:
        """Return log densities, or at the floor log probabilities."""
        log_sd = _required(noise.log_sd)
        z = (y - eta[0]) * torch.exp(-log_sd)
        return torch.where(at_floor, torch.special.log_ndtr(z), normal(z) - log_sd)

    def expected(self, eta: list[Tensor], noise: Noise) -> Tensor:
        """Return expected outcomes."""
        sd, floor = torch.exp(_required(noise.log_sd)), self._floor()
        z = (eta[0] - floor) / sd
        above: Tensor = sd * (z * torch.special.ndtr(z) + torch.exp(normal(z)))
        return self.scale.centre + self.scale.spread * (floor + above)

    def draw(self, eta: list[Tensor], noise: Noise, generator: torch.Generator) -> Tensor:
        """Return random outcomes."""
        lowest = self.scale.centre + self.scale.spread * self._floor()
        return super().draw(eta, noise, generator).clamp_min(lowest)

    def _floor(self) -> float:
        floor = self.scale.standard_floor
        return -math.inf if floor is None else floor


class ZeroInflated(Normal):
    """At the floor with some probability, log-normal above it: a hurdle in two predictors.

    The first predictor is that of the log above the floor, the second the log odds of being there.
    """

    n_predictors = 2
    shares_intercept = False

    def log_density(self, y: Tensor, eta: list[Tensor], noise: Noise, at_floor: Tensor) -> Tensor:
        """Return log probabilities at the floor, and log densities above it."""
        above = logsigmoid(eta[1]) + super().log_density(y, eta, noise, at_floor)
        return torch.where(at_floor, logsigmoid(-eta[1]), above)

    def expected(self, eta: list[Tensor], noise: Noise) -> Tensor:
        """Return expected outcomes."""
        spread = self.scale.spread
        variance = torch.exp(2 * _required(noise.log_sd))
        mean = _exp(self.scale.centre + spread * eta[0] + 0.5 * spread**2 * variance)
        return (self.scale.floor or 0.0) + torch.sigmoid(eta[1]) * mean

    def draw(self, eta: list[Tensor], noise: Noise, generator: torch.Generator) -> Tensor:
        """Return random outcomes."""
        above = _uniform(eta[1], generator) < torch.sigmoid(eta[1])
        excess = _exp(super().draw(eta, noise, generator))
        return (self.scale.floor or 0.0) + torch.where(above, excess, torch.zeros_like(excess))


class Bernoulli(Normal):
    """The outcome is 1 with log odds given by the predictor."""

    has_sd = False
    shares_intercept = False

    def log_density(self, y: Tensor, eta: list[Tensor], noise: Noise, at_floor: Tensor) -> Tensor:
        """Return log probabilities."""
        return y * eta[0] - softplus(eta[0])

    def expected(self, eta: list[Tensor], noise: Noise) -> Tensor:
        """Return probabilities."""
        return torch.sigmoid(eta[0])

    def draw(self, eta: list[Tensor], noise: Noise, generator: torch.Generator) -> Tensor:
        """Return random outcomes."""
        return (_uniform(eta[0], generator) < torch.sigmoid(eta[0])).to(eta[0].dtype)


class Poisson(Bernoulli):
    """Counts; the predictor is the log of their mean, less the log of the mean count."""

    def log_density(self, y: Tensor, eta: list[Tensor], noise: Noise, at_floor: Tensor) -> Tensor:
        """Return log probabilities."""
        log_mean = self._log_mean(eta)
        return y * log_mean - torch.exp(log_mean) - torch.lgamma(y + 1)

    def expected(self, eta: list[Tensor], noise: Noise) -> Tensor:
        """Return expected counts."""
        return torch.exp(self._log_mean(eta))

    def draw(self, eta: list[Tensor], noise: Noise, generator: torch.Generator) -> Tensor:
        """Return random counts."""
        return torch.poisson(self.expected(eta, noise), generator=generator)

    def _log_mean(self, eta: list[Tensor]) -> Tensor:
        return (self.scale.offset + eta[0]).clamp(-_MOST, _MOST)


class NegativeBinomial(Poisson):
    """Counts that vary more than a Poisson's."""

    shape_name = "log_size"

    def log_density(self, y: Tensor, eta: list[Tensor], noise: Noise, at_floor: Tensor) -> Tensor:
        """Return log probabilities."""
        log_mean = self._log_mean(eta)
        log_size = _required(noise.log_shape).clamp(-_MOST, _MOST)
        size = torch.exp(log_size)
        ways = torch.lgamma(y + size) - torch.lgamma(size) - torch.lgamma(y + 1)
        # log(size / (size + mean)) and log(mean / (size + mean)), without cancellation
        ratio = log_mean - log_size
        return ways + size * logsigmoid(-ratio) + y * logsigmoid(ratio)

    def draw(self, eta: list[Tensor], noise: Noise, generator: torch.Generator) -> Tensor:
        """Return random counts."""
        mean = self.expected(eta, noise)
        size = torch.exp(_required(noise.log_shape)).expand_as(mean)
        rate = torch._standard_gamma(size, generator=generator) / size * mean
        return torch.poisson(rate, generator=generator)


KINDS: dict[str, type[Normal]] = {
    "normal": Normal,
    "log_normal": LogNormal,
    "student_t": StudentT,
    "left_censored": LeftCensored,
    "zero_inflated": ZeroInflated,
    "bernoulli": Bernoulli,
    "poisson": Poisson,
    "negative_binomial": NegativeBinomial,
}


def normal(z: Tensor) -> Tensor:
    """Return the standard normal log density."""
    return -0.5 * (z**2 + _LOG_2PI)


def student_t(z: Tensor, log_excess: Tensor) -> Tensor:
    """Return the standard Student-t log density with ``2 + exp(log_excess)`` degrees of freedom."""
    df = 2 + torch.exp(log_excess)
    constant = torch.lgamma((df + 1) / 2) - torch.lgamma(df / 2) - 0.5 * torch.log(df * math.pi)
    return constant - 0.5 * (df + 1) * torch.log1p(z**2 / df)


def _exp(log_outcome: Tensor) -> Tensor:
    return torch.exp(log_outcome.clamp(max=_MOST * 10))


def _required(value: Tensor | None) -> Tensor:
    if value is None:
        raise KeyError("a noise parameter of this family is missing")
    return value


def _standard_normal(like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(like.shape, dtype=like.dtype, generator=generator)


def _uniform(like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.rand(like.shape, dtype=like.dtype, generator=generator)
