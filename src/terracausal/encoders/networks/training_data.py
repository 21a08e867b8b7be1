"""Sites and units of a training, and which sites are held out."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from terracausal.encoders.networks.site_images import SiteImages
from terracausal.encoders.networks.targets import UnitTargets, choose_held_out
from terracausal.imagery import Chips


@dataclass(frozen=True, eq=False)
class TrainingData:
    """What a training reads.

    Parameters
    ----------
    images : SiteImages
        Of all sites.
    values : Tensor of shape (n_units, n_targets)
        Targets, ordered by site.
    site : ndarray of shape (n_units,)
        Number of the site of each unit, ascending.
    weight : Tensor of shape (n_units,)
        Weight of each unit.
    training, held_out : ndarray of int
        Numbers of the sites that train, and of those that stop the training.
    """

    images: SiteImages
    values: Tensor
    site: NDArray[np.intp]
    weight: Tensor
    training: NDArray[np.intp]
    held_out: NDArray[np.intp]

    @classmethod
    def of(cls, chips: Chips, targets: UnitTargets, share: float, seed: int) -> "TrainingData":
        """Read chips and targets, and hold out a share of sites by whole clusters."""
        held_out = choose_held_out(targets.groups(), share, np.random.default_rng(seed))
        values, site, weight = targets.arrays()
        return cls(
            images=SiteImages(chips, targets.sites),
            values=torch.from_numpy(values),
            site=site,
            weight=torch.from_numpy(weight),
            training=np.flatnonzero(~held_out),
            held_out=np.flatnonzero(held_out),
        )

    def units_at(self, rows: NDArray[np.intp]) -> tuple[Tensor, Tensor]:
        """Return the units at some sites, and for each the position of its site in `rows`."""
        first = np.searchsorted(self.site, rows, "left")
        count = np.searchsorted(self.site, rows, "right") - first
        owner = np.repeat(np.arange(len(rows)), count)
        within = np.arange(len(owner)) - np.repeat(np.cumsum(count) - count, count)
        return torch.from_numpy(first[owner] + within), torch.from_numpy(owner)

    def total_weight(self, rows: NDArray[np.intp]) -> float:
        """Return the sum of the weights of the units at some sites."""
        return float(self.weight[self.units_at(rows)[0]].sum())
