"""Which parameters a mixture has, and their priors."""

from dataclasses import dataclass
from math import log, prod

import numpy as np
from numpy.typing import NDArray

from terracausal.mixtures.design import MixtureTable
from terracausal.mixtures.outcomes import COUNTS
from terracausal.mixtures.settings import MixtureSpec

# outcomes that pile up at one value would otherwise pull the SD of a type to 0, where the
# density is infinite
SMALLEST_SD = 0.05
_LOGITS = ("bernoulli",)
_SHARED = ("normal", "log_normal")
_AXIS = {
    "membership": 0,
    "effect": 0,
    "effect_slope": 0,
    "odds_effect": 0,
    "log_sd": 1,
    "baseline_shift": 0,
    "odds_baseline_shift": 0,
}


@dataclass(frozen=True, eq=False)
class Block:
    """Parameters of one kind, with independent normal priors.

    Parameters
    ----------
    name : str
    shape : tuple of int
    location, scale : ndarray of length prod(shape)
        Mean and standard deviation of each prior.
    words : str
        The prior in words.
    """

    name: str
    shape: tuple[int, ...]
    location: NDArray[np.float64]
    scale: NDArray[np.float64]
    words: str

    @property
    def size(self) -> int:
        """Number of parameters."""
        return prod(self.shape)


def parameter_blocks(table: MixtureTable, spec: MixtureSpec) -> tuple[Block, ...]:
    """Return the parameters of a mixture and their priors, for standardised outcomes.

    Parameters
    ----------
    table : MixtureTable
    spec : MixtureSpec

    Returns
    -------
    tuple of Block
    """
    n_components = spec.n_components
    unit = unit_of(spec.family)
    words = "logit of each type: Normal(0, 1) for intercept and slopes on standardised components"
    blocks = [
        _block("membership", (n_components, table.image.shape[1]), 0.0, 1.0, words),
        _baseline("baseline", table.baseline.shape[1], unit),
        _effects("effect", n_components, unit),
    ]
    if table.modifier.shape[1]:
        words = f"slopes of each type's effect: Normal(0, 0.5), standardised ({unit})"
        shape = (n_components, table.modifier.shape[1])
        blocks.append(_block("effect_slope", shape, 0.0, 0.5, words))
    if spec.family == "zero_inflated":
        odds = "log odds of lying above the floor"
        blocks.append(_baseline("odds_baseline", table.baseline.shape[1], odds))
        blocks.append(_effects("odds_effect", n_components, odds))
    return (*blocks, *_noise_blocks(table, spec), *_shift_blocks(spec))


def _noise_blocks(table: MixtureTable, spec: MixtureSpec) -> tuple[Block, ...]:
    blocks, unit = [], unit_of(spec.family)
    if spec.family not in (*COUNTS, *_LOGITS):
        own = spec.noise == "arm_and_component"
        words = (
            f"noise SD by arm{' and type' if own else ''}: {SMALLEST_SD:g} + "
            f"log Normal(log 1, 0.5) ({unit})"
        )
        blocks.append(_block("log_sd", (2, spec.n_components if own else 1), 0.0, 0.5, words))
    if spec.family == "student_t":
        words = "degrees of freedom: 2 + log Normal(log 6, 1)"
        blocks.append(_block("log_df", (1,), log(6.0), 1.0, words))
    if spec.family == "negative_binomial":
        words = "size (variance = mean + mean^2 / size): log Normal(log 2, 1.5)"
        blocks.append(_block("log_size", (1,), log(2.0), 1.5, words))
    if spec.family in _SHARED and len(table.site) > table.n_sites:
        words = f"SD of what a site's units share: log Normal(log 0.2, 1) ({unit})"
        blocks.append(_block("log_site_sd", (1,), log(0.2), 1.0, words))
    return tuple(blocks)


def _shift_blocks(spec: MixtureSpec) -> tuple[Block, ...]:
    if spec.baseline == "shared" or spec.n_components == 1:
        return ()
    units = {"": unit_of(spec.family)}
    if spec.family == "zero_inflated":
        units["odds_"] = "log odds of lying above the floor"
    words = "baseline of each type less that of all: Normal(0, 1)"
    return tuple(
        _block(f"{prefix}baseline_shift", (spec.n_components,), 0.0, 1.0, f"{words} ({unit})")
        for prefix, unit in units.items()
    )


def unit_of(family: str) -> str:
    """Return the unit of baseline and effects in words.

    Parameters
    ----------
    family : str

    Returns
    -------
    str
    """
    if family in _LOGITS:
        return "on the log odds"
    if family in COUNTS:
        return "on the log mean"
    if family in ("log_normal", "zero_inflated"):
        return "SD of the log outcome"
    return "SD of the outcome"


def relabel(
    parameters: NDArray[np.float64], blocks: tuple[Block, ...], order: NDArray[np.intp]
) -> NDArray[np.float64]:
    """Return one vector of parameters with its components in another order.

    Parameters
    ----------
    parameters : ndarray of shape (n_parameters,)
    blocks : tuple of Block
    order : ndarray of shape (n_components,)
        Old component at each new place.

    Returns
    -------
    ndarray of shape (n_parameters,)
    """
    parts, start = [], 0
    for block in blocks:
        piece = parameters[start : start + block.size].reshape(block.shape)
        if block.name in _AXIS and len(order) == block.shape[_AXIS[block.name]]:
            piece = piece.take(order, axis=_AXIS[block.name])
        parts.append(piece.ravel())
        start += block.size
    return np.concatenate(parts)


def _block(name: str, shape: tuple[int, ...], location: float, scale: float, words: str) -> Block:
    size = prod(shape)
    return Block(name, shape, np.full(size, location), np.full(size, scale), words)


def _baseline(name: str, size: int, unit: str) -> Block:
    slopes = np.ones(size)
    slopes[0] = 2.5
    words = f"baseline: Normal(0, 2.5) intercept, Normal(0, 1) standardised slopes ({unit})"
    return Block(name, (size,), np.zeros(size), slopes, words)


def _effects(name: str, n_components: int, unit: str) -> Block:
    return _block(name, (n_components,), 0.0, 2.0, f"effect of each type: Normal(0, 2) ({unit})")
