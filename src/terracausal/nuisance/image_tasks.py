"""One network for treatment and outcomes: its heads, what it minimises, and what it predicts."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from terracausal.encoders.networks.site_network import SiteNetwork

TASKS = ("propensity", "outcome_control", "outcome_treated")
_FURTHEST = 0.01
"""Propensities are held this far from 0 and 1 where something is divided by them."""


class TaskNetwork(nn.Module):
    """A network of sites, and linear terms of covariates that are the same at every site.

    `train_network` sees outputs by site alone. What all sites share is therefore told with each:
    after the outputs come the coefficients of the covariates, and the step of targeted
    regularisation.

    Parameters
    ----------
    sites : SiteNetwork
        With one output for each task.
    allowed : Tensor of shape (n_tasks, n_covariates)
        1 where a task may see a covariate, 0 elsewhere.

    Examples
    --------
    >>> from terracausal.encoders.networks import KernelMaxNetwork
    >>> sites = SiteNetwork(KernelMaxNetwork(1), 3, torch.zeros(1), torch.ones(1))
    >>> network = TaskNetwork(sites, torch.ones(3, 2))
    >>> network(torch.zeros(5, 1, 1, 9, 9), torch.zeros(5, 1)).shape
    torch.Size([5, 10])
    """

    allowed: Tensor

    def __init__(self, sites: SiteNetwork, allowed: Tensor) -> None:
        super().__init__()
        self.sites = sites
        self.coefficients = nn.Parameter(torch.zeros_like(allowed))
        self.step = nn.Parameter(torch.zeros(1))
        self.register_buffer("allowed", allowed)

    @property
    def oriented(self) -> bool:
        """Whether turned and mirrored images are other images to the network."""
        return self.sites.oriented

    def forward(self, pixels: Tensor, days: Tensor) -> Tensor:
        """Return outputs, coefficients and step, of shape (b, n_tasks * (1 + n_covariates) + 1)."""
        outputs = self.sites(pixels, days)
        shared = torch.cat([(self.coefficients * self.allowed).flatten(), self.step])
        return torch.cat([outputs, shared.expand(len(outputs), -1)], dim=1)


@dataclass(frozen=True)
class TaskLoss:
    """What a unit adds to the loss: cross-entropy of its arm, and the error of its own outcome.

    Parameters
    ----------
    tasks : tuple of str
        Those of `TASKS` that the network learns.
    binary : bool
        Whether the outcome is 0 and 1, so that its loss is a cross-entropy as well.
    targeted : bool
        Whether the error of the outcome after a targeting step is added.

    Examples
    --------
    >>> loss = TaskLoss(TASKS, binary=False, targeted=False)
    >>> outputs, targets = torch.tensor([[0.0, 5.0, 1.0, 0.0]]), torch.tensor([[1.0, 3.0, 0.5]])
    >>> round(loss(outputs, targets).item(), 3)  # log 2 + (3 - 1)²
    4.693
    """

    tasks: tuple[str, ...]
    binary: bool
    targeted: bool

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return losses (b,).

        Parameters
        ----------
        outputs : Tensor of shape (b, any)
            Of a `TaskNetwork`, by unit.
        targets : Tensor of shape (b, 3 + n_covariates)
            Treatment, outcome, known propensity (NaN-free; ignored where the propensity is a task)
            and covariates.
        """
        w, y, known, x = targets[:, 0], targets[:, 1], targets[:, 2], targets[:, 3:]
        n_tasks = len(self.tasks)
        coefficients = outputs[:, n_tasks:-1].reshape(len(outputs), n_tasks, x.shape[1])
        linear = outputs[:, :n_tasks] + (coefficients * x[:, None]).sum(dim=2)
        found = dict(zip(self.tasks, linear.unbind(dim=1), strict=True))
        losses = torch.zeros_like(y)
        propensity = known
        if "propensity" in found:
            losses = losses + _cross_entropy(found["propensity"], w)
            propensity = found["propensity"].sigmoid()
        for arm, task in enumerate(TASKS[1:]):
            if task in found:
                own = w if arm else 1 - w
                losses = losses + own * self._error(found[task], y)
                if self.targeted:
                    moved = found[task] + outputs[:, -1] * clever(propensity, arm)
                    losses = losses + own * self._error(moved, y)
        return losses

    def _error(self, found: Tensor, y: Tensor) -> Tensor:
        return _cross_entropy(found, y) if self.binary else (found - y).square()


def clever(propensity: Any, arm: int) -> Any:
    """Return by how much a targeting step of 1 moves the outcome of an arm: 1/e, or -1/(1 - e)."""
    inside = propensity.clip(_FURTHEST, 1 - _FURTHEST)
    return 1 / inside if arm else -1 / (1 - inside)


def _cross_entropy(odds: Tensor, target: Tensor) -> Tensor:
    return functional.binary_cross_entropy_with_logits(odds, target, reduction="none")


@dataclass(frozen=True, eq=False)
class TrainedTasks:
    """What training left: the network of sites, the shared terms, and how it went.

    Parameters
    ----------
    tasks : tuple of str
    sites : SiteNetwork
        On the CPU, in evaluation mode.
    coefficients : ndarray of shape (n_tasks, n_covariates)
    step : float
        Of targeted regularisation; 0 without.
    history : DataFrame
        One row per epoch.
    held_out_loss : float
    held_out_sites : Index
    """

    tasks: tuple[str, ...]
    sites: SiteNetwork
    coefficients: NDArray[np.float64]
    step: float
    history: Any
    held_out_loss: float
    held_out_sites: Any

    @classmethod
    def of(cls, tasks: tuple[str, ...], trained: Any) -> "TrainedTasks":
        """Read what `train_network` returns for a `TaskNetwork`."""
        network = trained.network
        return cls(
            tasks,
            network.sites,
            (network.coefficients * network.allowed).numpy().astype(np.float64),
            float(network.step),
            trained.history,
            trained.held_out_loss,
            trained.held_out_sites,
        )

    def linear(
        self, vectors: NDArray[np.float64], covariates: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Return what the heads say before any link, of shape (n_units, n_tasks).

        Parameters
        ----------
        vectors : ndarray of shape (n_units, n_features)
            Of the site of each unit.
        covariates : ndarray of shape (n_units, n_covariates)
            Standardised.
        """
        head = self.sites.head
        weight, bias = (x.numpy().astype(np.float64) for x in (head.weight, head.bias))
        return np.asarray(vectors @ weight.T + bias + covariates @ self.coefficients.T)
