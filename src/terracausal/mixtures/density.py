"""Log densities of the mixture of effects: priors, sites with their type summed out, effects.

All functions take parameters of shape (n_batch, n_parameters), one row per restart or draw. The
type of a site is summed out exactly, in log space.
"""

import copy
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from terracausal.mixtures.design import MixtureTable
from terracausal.mixtures.families import KINDS, Noise, normal
from terracausal.mixtures.layout import SMALLEST_SD, Block
from terracausal.mixtures.outcomes import OutcomeScale

_UNITS_AT_ONCE = 100_000  # times parameter vectors; what takes more is worked through in parts
_UNITS_IN_PART = 20_000
_STANDARD = OutcomeScale(0.0, 1.0)


class MixtureDensity:
    """The density of one study under one family, for any parameters.

    Parameters
    ----------
    table : MixtureTable
    blocks : tuple of Block
        Layout and priors of the parameters.
    family : str
        As in `EffectMixture`.
    scale : OutcomeScale, default=OutcomeScale(0.0, 1.0)
        That of the table's outcomes.
    """

    def __init__(
        self,
        table: MixtureTable,
        blocks: tuple[Block, ...],
        family: str,
        scale: OutcomeScale = _STANDARD,
    ) -> None:
        self.n_sites, self.blocks = table.n_sites, blocks
        self.family = KINDS[family](scale)
        # units of a site stand together, so that some sites can be taken out quickly
        order = np.argsort(table.site, kind="stable")
        self._starts = np.searchsorted(table.site[order], np.arange(table.n_sites + 1))
        self._outcome = _tensor(table.outcome[order])
        self._at_floor = torch.from_numpy(table.at_floor[order])
        self._treatment = _tensor(table.treatment[order])
        self._dose = _tensor(table.dose[order])
        chance = _tensor((table.treatment - table.dose)[order])
        self._predicted = chance if chance.any() else None
        self._weight = _tensor(table.weight[order])
        self._baseline = _tensor(table.baseline[order])
        self._modifier = _tensor(table.modifier[order])
        self._image = _tensor(table.image)
        self._site = torch.from_numpy(table.site[order])
        self._location = _tensor(np.concatenate([block.location for block in blocks]))
        self._scale = _tensor(np.concatenate([block.scale for block in blocks]))
        self._names = {block.name for block in blocks}
        self._logits: Tensor | None = None
        self._shift: Tensor | None = None
        self._kept: tuple[int, list[tuple[slice, MixtureDensity]]] = (0, [])

    @property
    def n_parameters(self) -> int:
        """Number of parameters."""
        return sum(block.size for block in self.blocks)

    @property
    def n_components(self) -> int:
        """Number of components."""
        return next(block.shape[0] for block in self.blocks if block.name == "effect")

    @property
    def rows_at_once(self) -> int:
        """Number of parameter vectors that are evaluated together, to bound memory."""
        return max(_UNITS_AT_ONCE // len(self._outcome), 1)

    def rows(self, n_rows: int) -> list[slice]:
        """Return consecutive parameter vectors that are evaluated together.

        Parameters
        ----------
        n_rows : int
            How many there are.

        Returns
        -------
        list of slice
        """
        size = self.rows_at_once
        return [slice(start, start + size) for start in range(0, n_rows, size)]

    def at(self, sites: NDArray[np.intp]) -> "MixtureDensity":
        """Return the density of some sites alone, with the same priors.

        Parameters
        ----------
        sites : ndarray of shape (n_some,)
            Codes, each once.

        Returns
        -------
        MixtureDensity
        """
        counts = self._starts[sites + 1] - self._starts[sites]
        starts = np.concatenate([[0], np.cumsum(counts)])
        own = np.repeat(np.arange(len(sites)), counts)
        units = torch.from_numpy(self._starts[sites][own] + np.arange(starts[-1]) - starts[own])
        return self._taken(torch.from_numpy(sites), units, torch.from_numpy(own), starts)

    def _run(self, first: int, stop: int) -> "MixtureDensity":
        """Return the density of consecutive sites, whose arrays are views."""
        units = slice(int(self._starts[first]), int(self._starts[stop]))
        starts = self._starts[first : stop + 1] - units.start
        return self._taken(slice(first, stop), units, self._site[units] - first, starts)

    def _taken(
        self, sites: Tensor | slice, units: Tensor | slice, own: Tensor, starts: NDArray[np.intp]
    ) -> "MixtureDensity":
        part = copy.copy(self)
        part.n_sites, part._starts, part._site = len(starts) - 1, starts, own
        for name in ("_outcome", "_at_floor", "_treatment", "_dose", "_weight", "_baseline",
                     "_modifier", "_predicted"):  # fmt: skip
            if getattr(self, name) is not None:
                setattr(part, name, getattr(self, name)[units])
        part._image = self._image[sites]
        part._kept = (0, [])
        return part

    def parts(self, n_rows: int = 1) -> "list[tuple[slice, MixtureDensity]]":
        """Return consecutive sites and their densities, so that memory is bounded.

        Parameters
        ----------
        n_rows : int, default=1
            How many parameter vectors are evaluated together.

        Returns
        -------
        list of (slice, MixtureDensity)
        """
        n_units = len(self._outcome)
        if n_units * n_rows <= _UNITS_AT_ONCE:
            return [(slice(0, self.n_sites), self)]
        most = min(_UNITS_IN_PART, _UNITS_AT_ONCE) / max(n_rows, 1)
        size = max(int(most * self.n_sites / n_units), 1)
        if self._kept[0] != size:
            ends = [*range(0, self.n_sites, size), self.n_sites]
            cut = pairwise(ends)
            self._kept = size, [(slice(*pair), self._run(*pair)) for pair in cut]
        return self._kept[1]

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
        return normal(z).sum(dim=1) - self._scale.log().sum()

    @property
    def prior_precision(self) -> Tensor:
        """Second derivatives of the negative log prior, of shape (n_parameters,)."""
        return self._scale**-2

    def with_images(self, logits: Tensor, shift: Tensor) -> "MixtureDensity":
        """Return the density with what a network says of the sites.

        Parameters
        ----------
        logits : Tensor of shape (n_sites, K)
            Instead of the linear logits of the types.
        shift : Tensor of shape (n_sites,)
            Added to the baseline.

        Returns
        -------
        MixtureDensity
        """
        part = copy.copy(self)
        part._logits, part._shift, part._kept = logits, shift, (0, [])
        return part

    def log_membership(self, parameters: Tensor) -> Tensor:
        """Return log probabilities of the types given the image, (n_batch, n_sites, K)."""
        if self._logits is not None:
            return torch.log_softmax(self._logits, dim=1).expand(len(parameters), -1, -1)
        logits = torch.einsum("sd,bkd->bsk", self._image, self.part(parameters, "membership"))
        return torch.log_softmax(logits, dim=2)

    def log_units(self, parameters: Tensor) -> Tensor:
        """Return log densities of sites given their type, of shape (n_batch, n_sites, K).

        The product over the units of a site; for normal outcomes (or logs) the intercept that these
        share is integrated out exactly.
        """
        eta = self._predictors(parameters, self._dose)
        noise = self._noise(parameters, self._treatment.long())
        y = self._outcome[None, :, None]
        if noise.log_site_sd is not None and noise.log_sd is not None:
            z = (y - eta[0]) * torch.exp(-noise.log_sd)
            return self._log_units_with_intercept(noise.log_site_sd, z, noise.log_sd)
        at_floor = self._at_floor[None, :, None]
        return self._sum_sites(self.family.log_density(y, eta, noise, at_floor))

    def _log_units_with_intercept(self, log_shared: Tensor, z: Tensor, log_sd: Tensor) -> Tensor:
        """Integrate out what a site's units share: their covariance is diagonal plus a constant.

        The quadratic form is taken at its minimising intercept a, ``sum (r - a)^2 / sd^2 +
        a^2 / v``: a sum of squares, where Woodbury's difference would cancel.
        """
        precision = torch.exp(-log_sd)
        # variance of the intercept times the precision of a site's units
        ratio = self._sum_sites(torch.exp(2 * (log_shared - log_sd)))
        intercept = self._sum_sites(z * torch.exp(2 * log_shared - log_sd)) / (1 + ratio)
        each = normal(z - precision * intercept[:, self._site]) - log_sd
        shared = (intercept * torch.exp(-log_shared)) ** 2
        return self._sum_sites(each) - 0.5 * (shared + torch.log1p(ratio))

    def log_sites(self, parameters: Tensor) -> Tensor:
        """Return log densities of sites with their type summed out, (n_batch, n_sites)."""
        joint = self.log_membership(parameters) + self.log_units(parameters)
        return torch.logsumexp(joint, dim=2)

    def responsibilities(self, parameters: Tensor) -> Tensor:
        """Return probabilities of types given image and outcomes, (n_batch, n_sites, K)."""
        joint = self.log_membership(parameters) + self.log_units(parameters)
        return torch.softmax(joint, dim=2)

    def unit_effects(self, parameters: Tensor) -> Tensor:
        """Return differences of expected outcomes by unit and type, (n_batch, n_units, K).

        Units stand in the order of their sites; see `unit_sites`.
        """
        return self._expected(parameters, 1) - self._expected(parameters, 0)

    @property
    def unit_sites(self) -> Tensor:
        """Site of each unit, in the order of `unit_effects`."""
        return self._site

    @property
    def unit_weights(self) -> Tensor:
        """Weight of each unit, in the order of `unit_effects`."""
        return self._weight

    def totals(self, parameters: Tensor, site_weight: Tensor) -> tuple[Tensor, Tensor]:
        """Return summed effects and weights of the units of each type, (n_batch, K) each."""
        site = self._site
        weight = (site_weight[:, site] * self._weight)[:, :, None]
        belongs = weight * torch.exp(self.log_membership(parameters))[:, site]
        return (belongs * self.unit_effects(parameters)).sum(dim=1), belongs.sum(dim=1)

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
        return answers_from(*self.totals(parameters, site_weight))

    def draw_outcomes(self, parameters: Tensor, generator: torch.Generator) -> Tensor:
        """Draw a type for each site and outcomes for all units, in the units of the outcome.

        Parameters
        ----------
        parameters : Tensor of shape (n_batch, n_parameters)
        generator : torch.Generator

        Returns
        -------
        Tensor of shape (n_batch, n_units)
            Units stand in the order of their sites.
        """
        chance = torch.exp(self.log_membership(parameters))
        kind = torch.multinomial(chance.flatten(0, 1), 1, generator=generator)
        kind = kind.reshape(len(parameters), self.n_sites)[:, self._site]
        eta = self._predictors(parameters, self._dose)
        noise = self._noise(parameters, self._treatment.long())
        if noise.log_site_sd is not None:
            shape = (len(parameters), self.n_sites)
            shared = torch.randn(shape, dtype=eta[0].dtype, generator=generator)[:, self._site]
            eta = [eta[0] + torch.exp(noise.log_site_sd) * shared[:, :, None], *eta[1:]]
        drawn = self.family.draw(eta, noise, generator)
        return drawn.gather(2, kind[:, :, None])[:, :, 0]

    def _predictors(self, parameters: Tensor, dose: Tensor) -> list[Tensor]:
        """Return the linear predictors by unit and type.

        Where the dose is the treatment w less its prediction e, the outcome is less what was
        expected of it before type and treatment were known. Type k, with an intercept a_k of its
        own, is left with ``tau_k (w - e)`` and with the gap between ``a_k + tau_k e`` and its mean
        over types given the image.
        """
        found = []
        for prefix in ("", "odds_")[: self.family.n_predictors]:
            baseline = self.part(parameters, f"{prefix}baseline") @ self._baseline.T
            if self._shift is not None:
                baseline = baseline + self._shift[self._site]
            effect = self.part(parameters, f"{prefix}effect")[:, None, :]
            if not prefix and "effect_slope" in self._names:
                slope = self.part(parameters, "effect_slope")
                effect = effect + torch.einsum("up,bkp->buk", self._modifier, slope)
            own = torch.zeros_like(effect)
            if f"{prefix}baseline_shift" in self._names:
                own = self.part(parameters, f"{prefix}baseline_shift")[:, None, :]
            if self._predicted is not None:
                own = own + self._predicted[None, :, None] * effect
                chance = torch.exp(self.log_membership(parameters))[:, self._site]
                own = own - (chance * own).sum(dim=2, keepdim=True)
            found.append(baseline[:, :, None] + own + dose[None, :, None] * effect)
        return found

    def _noise(self, parameters: Tensor, arm: Tensor) -> Noise:
        log_sd = log_site_sd = log_shape = None
        if self.family.has_sd:
            by_arm = torch.log(SMALLEST_SD + torch.exp(self.part(parameters, "log_sd")))
            log_sd = by_arm[:, arm, :]
        if "log_site_sd" in self._names:
            log_site_sd = self.part(parameters, "log_site_sd")[:, :, None]
        if self.family.shape_name is not None:
            log_shape = self.part(parameters, self.family.shape_name)[:, :, None]
        return Noise(log_sd, log_site_sd, log_shape)

    def _expected(self, parameters: Tensor, arm: int) -> Tensor:
        """Return expected outcomes of all units in one arm, by type."""
        treatment = torch.full_like(self._treatment, float(arm))
        noise = self._noise(parameters, treatment.long())
        return self.family.expected(self._predictors(parameters, treatment), noise)

    def _sum_sites(self, values: Tensor) -> Tensor:
        """Add up weighted units, (n_batch, n_units, K) to (n_batch, n_sites, K)."""
        weighted = values * self._weight[None, :, None]
        shape = (values.shape[0], self.n_sites, values.shape[2])
        return torch.zeros(shape, dtype=values.dtype).index_add(1, self._site, weighted)


def answers_from(total: Tensor, mass: Tensor) -> Tensor:
    """Return component effects, average effect and shares, (n_batch, 2 K + 1).

    Parameters
    ----------
    total, mass : Tensor of shape (n_batch, K)
        Summed effects and weights of the units of each type.

    Returns
    -------
    Tensor
    """
    everyone = mass.sum(dim=1, keepdim=True)
    average = total.sum(dim=1, keepdim=True) / everyone
    return torch.cat([total / mass, average, mass / everyone], dim=1)


def _tensor(array: NDArray[np.float64]) -> Tensor:
    return torch.tensor(array, dtype=torch.float64)
