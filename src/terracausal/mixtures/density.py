"""Log densities of the mixture of effects: priors, sites with their type summed out, effects.

All functions take parameters of shape (n_batch, n_parameters), one row per restart or draw, in
units of the standardised outcome. The type of a site is summed out exactly, in log space.
"""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from terracausal.mixtures.design import MixtureTable
from terracausal.mixtures.layout import SMALLEST_SD, Block

_LOG_2PI = math.log(2 * math.pi)
_UNITS_AT_ONCE = 100_000


class MixtureDensity:
    """The density of one study under one family, for any parameters.

    Parameters
    ----------
    table : MixtureTable
    blocks : tuple of Block
        Layout and priors of the parameters.
    family : str
        As in `EffectMixture`.
    floor : float, default=None
        For "left_censored": the floor of the standardised outcome.
    """

    def __init__(
        self,
        table: MixtureTable,
        blocks: tuple[Block, ...],
        family: str,
        floor: float | None = None,
    ) -> None:
        self.n_sites, self.blocks, self.family, self.floor = table.n_sites, blocks, family, floor
        self._outcome = _tensor(table.outcome)
        self._treatment = _tensor(table.treatment)
        self._weight = _tensor(table.weight)
        self._baseline = _tensor(table.baseline)
        self._image = _tensor(table.image)
        self._site = torch.tensor(table.site)
        self._location = _tensor(np.concatenate([block.location for block in blocks]))
        self._scale = _tensor(np.concatenate([block.scale for block in blocks]))
        self._shares_intercept = any(block.name == "log_site_sd" for block in blocks)

    @property
    def n_parameters(self) -> int:
        """Number of parameters."""
        return sum(block.size for block in self.blocks)

    @property
    def rows_at_once(self) -> int:
        """Number of parameter vectors that are evaluated together, to bound memory."""
        return max(_UNITS_AT_ONCE // len(self._outcome), 1)

    def part(self, parameters: Tensor, name: str) -> Tensor:
        """Return one block of the parameters, of shape (n_batch, *shape)."""
        start = 0
        for block in self.blocks:
            if block.name == name:
                piece = parameters[:, start : start + block.size]
                return piece.reshape(len(parameters), *block.shape)
            start += block.size
        raise KeyError(name)

    def log_prior(self, parameters: Tensor) -> Tensor:
        """Return the log density of the priors, of shape (n_batch,)."""
        z = (parameters - self._location) / self._scale
        return -0.5 * (z**2 + _LOG_2PI).sum(dim=1) - self._scale.log().sum()

    def log_membership(self, parameters: Tensor, image: Tensor | None = None) -> Tensor:
        """Return log probabilities of the types given the image, (n_batch, n_sites, K).

        Parameters
        ----------
        parameters : Tensor of shape (n_batch, n_parameters)
        image : Tensor of shape (n_sites, n_dimensions + 1), default=None
            None takes the sites of the table.

        Returns
        -------
        Tensor
        """
        image = self._image if image is None else image
        logits = torch.einsum("sd,bkd->bsk", image, self.part(parameters, "membership"))
        return torch.log_softmax(logits, dim=2)

    def log_units(self, parameters: Tensor) -> Tensor:
        """Return log densities of sites given their type, of shape (n_batch, n_sites, K).

        The product over the units of a site; for "normal" the intercept that these share is
        integrated out exactly.
        """
        mean = self._means(parameters, self._treatment)
        y = self._outcome[None, :, None]
        if self.family == "bernoulli":
            return self._sum_sites(y * mean - torch.nn.functional.softplus(mean))
        log_sd = self._log_sd(parameters, self._treatment.long())
        z = (y - mean) * torch.exp(-log_sd)
        if self._shares_intercept:
            return self._log_units_with_intercept(parameters, z, log_sd)
        if self.family == "student_t":
            each = _student_t(z, self.part(parameters, "log_df")[:, :, None]) - log_sd
        else:
            each = _normal(z) - log_sd
        if self.family == "left_censored" and self.floor is not None:
            at_floor = (self._outcome <= self.floor)[None, :, None]
            each = torch.where(at_floor, torch.special.log_ndtr(z), each)
        return self._sum_sites(each)

    def _log_units_with_intercept(self, parameters: Tensor, z: Tensor, log_sd: Tensor) -> Tensor:
        """Integrate out what a site's units share: their covariance is diagonal plus a constant.

        The quadratic form is taken at its minimising intercept a, ``sum (r - a)^2 / sd^2 +
        a^2 / v``: a sum of squares, where Woodbury's difference would cancel.
        """
        log_sd_shared = self.part(parameters, "log_site_sd")[:, :, None]
        precision = torch.exp(-log_sd)
        # variance of the intercept times the precision of a site's units
        ratio = self._sum_sites(torch.exp(2 * (log_sd_shared - log_sd)))
        intercept = self._sum_sites(z * torch.exp(2 * log_sd_shared - log_sd)) / (1 + ratio)
        each = _normal(z - precision * intercept[:, self._site]) - log_sd
        shared = (intercept * torch.exp(-log_sd_shared)) ** 2
        return self._sum_sites(each) - 0.5 * (shared + torch.log1p(ratio))

    def log_sites(self, parameters: Tensor) -> Tensor:
        """Return log densities of sites with their type summed out, (n_batch, n_sites)."""
        joint = self.log_membership(parameters) + self.log_units(parameters)
        return torch.logsumexp(joint, dim=2)

    def responsibilities(self, parameters: Tensor) -> Tensor:
        """Return probabilities of types given image and outcomes, (n_batch, n_sites, K)."""
        joint = self.log_membership(parameters) + self.log_units(parameters)
        return torch.softmax(joint, dim=2)

    def answers(self, parameters: Tensor, site_weight: Tensor) -> Tensor:
        """Return component effects, implied average effect and shares, (n_batch, 2 K + 1).

        Effects are differences of mean outcomes, averaged over units with the weight of unit and
        site and the probability that the unit's site is of the type.

        Parameters
        ----------
        parameters : Tensor of shape (n_batch, n_parameters)
        site_weight : Tensor of shape (n_batch, n_sites)

        Returns
        -------
        Tensor
        """
        site = self._site
        weight = (site_weight[:, site] * self._weight)[:, :, None]
        belongs = weight * torch.exp(self.log_membership(parameters))[:, site]
        effect = self._expected(parameters, 1) - self._expected(parameters, 0)
        total, mass = (belongs * effect).sum(dim=1), belongs.sum(dim=1)
        everyone = weight.sum(dim=1)
        average = total.sum(dim=1, keepdim=True) / everyone
        return torch.cat([total / mass, average, mass / everyone], dim=1)

    def _means(self, parameters: Tensor, treatment: Tensor) -> Tensor:
        """Return means (of the latent outcome, or log odds) by unit and type."""
        baseline = self.part(parameters, "baseline") @ self._baseline.T
        effect = self.part(parameters, "effect")
        return baseline[:, :, None] + treatment[None, :, None] * effect[:, None, :]

    def _log_sd(self, parameters: Tensor, arm: Tensor) -> Tensor:
        by_arm: Tensor = torch.log(SMALLEST_SD + torch.exp(self.part(parameters, "log_sd")))
        noise: Tensor = by_arm[:, arm, :]
        return noise

    def _expected(self, parameters: Tensor, arm: int) -> Tensor:
        """Return expected outcomes of all units in one arm, by type."""
        treatment = torch.full_like(self._treatment, float(arm))
        mean = self._means(parameters, treatment)
        if self.family == "bernoulli":
            chance: Tensor = torch.sigmoid(mean)
            return chance
        if self.family == "left_censored" and self.floor is not None:
            sd = torch.exp(self._log_sd(parameters, treatment.long()))
            z = (mean - self.floor) / sd
            above: Tensor = sd * (z * torch.special.ndtr(z) + torch.exp(_normal(z)))
            return self.floor + above
        return mean

    def _sum_sites(self, values: Tensor) -> Tensor:
        """Add up weighted units, (n_batch, n_units, K) to (n_batch, n_sites, K)."""
        weighted = values * self._weight[None, :, None]
        shape = (values.shape[0], self.n_sites, values.shape[2])
        return torch.zeros(shape, dtype=values.dtype).index_add(1, self._site, weighted)


def _normal(z: Tensor) -> Tensor:
    return -0.5 * (z**2 + _LOG_2PI)


def _student_t(z: Tensor, log_excess: Tensor) -> Tensor:
    """Return the standard Student-t log density with ``2 + exp(log_excess)`` degrees of freedom."""
    df = 2 + torch.exp(log_excess)
    constant = torch.lgamma((df + 1) / 2) - torch.lgamma(df / 2) - 0.5 * torch.log(df * math.pi)
    return constant - 0.5 * (df + 1) * torch.log1p(z**2 / df)


def _tensor(array: NDArray[np.float64]) -> Tensor:
    return torch.tensor(array, dtype=torch.float64)
