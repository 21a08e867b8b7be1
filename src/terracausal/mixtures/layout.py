"""Which parameters a mixture has, and their priors."""

from dataclasses import dataclass
from math import log, prod

import numpy as np
from numpy.typing import NDArray

from terracausal.mixtures.design import MixtureTable

FAMILIES = ("normal", "student_t", "left_censored", "bernoulli")
NOISES = ("arm", "arm_and_component")
# outcomes that pile up at one value would otherwise pull the SD of a type to 0, where the
# density is infinite
SMALLEST_SD = 0.05


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


def parameter_blocks(
    table: MixtureTable, family: str, n_components: int, noise: str = "arm"
) -> tuple[Block, ...]:
    """Return the parameters of a mixture and their priors, for standardised outcomes.

    Parameters
    ----------
    table : MixtureTable
    family : str
        One of `FAMILIES`.
    n_components : int
    noise : {"arm", "arm_and_component"}, default="arm"

    Returns
    -------
    tuple of Block
    """
    n_image, n_baseline = table.image.shape[1], table.baseline.shape[1]
    unit = "on the log odds" if family == "bernoulli" else "SD of the outcome"
    slopes = np.ones(n_baseline)
    slopes[0] = 2.5
    blocks = [
        _block(
            "membership", (n_components, n_image), 0.0, 1.0,
            "logit of each type: Normal(0, 1) for intercept and slopes on standardised components",
        ),
        Block(
            "baseline", (n_baseline,), np.zeros(n_baseline), slopes,
            f"baseline: Normal(0, 2.5) intercept, Normal(0, 1) standardised slopes ({unit})",
        ),
        _block(
            "effect", (n_components,), 0.0, 2.0, f"effect of each type: Normal(0, 2) ({unit})"
        ),
    ]  # fmt: skip
    if family != "bernoulli":
        own = noise == "arm_and_component"
        words = (
            f"noise SD by arm{' and type' if own else ''}: {SMALLEST_SD:g} + "
            "log Normal(log 1, 0.5) (SD of the outcome)"
        )
        blocks.append(_block("log_sd", (2, n_components if own else 1), 0.0, 0.5, words))
    if family == "student_t":
        words = "degrees of freedom: 2 + log Normal(log 6, 1)"
        blocks.append(_block("log_df", (1,), log(6.0), 1.0, words))
    if family == "normal" and len(table.site) > table.n_sites:
        words = "SD of what a site's units share: log Normal(log 0.2, 1) (SD of the outcome)"
        blocks.append(_block("log_site_sd", (1,), log(0.2), 1.0, words))
    return tuple(blocks)


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
    axis_of = {"membership": 0, "effect": 0, "log_sd": 1}
    for block in blocks:
        piece = parameters[start : start + block.size].reshape(block.shape)
        if block.name in axis_of and len(order) == block.shape[axis_of[block.name]]:
            piece = piece.take(order, axis=axis_of[block.name])
        parts.append(piece.ravel())
        start += block.size
    return np.concatenate(parts)


def _block(name: str, shape: tuple[int, ...], location: float, scale: float, words: str) -> Block:
    size = prod(shape)
    return Block(name, shape, np.full(size, location), np.full(size, scale), words)
