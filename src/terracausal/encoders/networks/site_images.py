"""Pixels of sites for training: any sites, in any order, as often as needed."""

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from terracausal._foundation.progress import track
from terracausal.encoders.base import read_batches
from terracausal.imagery import Chips

MOST_BYTES = 4 * 2**30
"""Chips that take more than this are read anew in every step."""

_SITES_AT_ONCE = 64


class SiteImages:
    """Pixels and days of sites, in memory where they take less than 4 GiB.

    Parameters
    ----------
    chips : Chips
        Of these or more sites.
    sites : Index of length n_sites
        In the order in which they are counted.

    Examples
    --------
    >>> chips = Chips.from_arrays(np.ones((2, 1, 1, 4, 4)), sites=["a", "b"], bands=["red"])
    >>> pixels, days = SiteImages(chips, pd.Index(["b", "a"])).take(np.array([1]))
    >>> pixels.shape, days.shape
    (torch.Size([1, 1, 1, 4, 4]), torch.Size([1, 1]))
    """

    def __init__(self, chips: Chips, sites: pd.Index) -> None:
        self._chips = chips
        self.sites = sites
        n_numbers = len(sites) * chips.n_times * chips.n_bands * chips.size_px[0] * chips.size_px[1]
        self._held: tuple[Tensor, Tensor] | None = None
        if 4 * n_numbers <= MOST_BYTES:
            steps = range(0, len(sites), _SITES_AT_ONCE)
            read = [
                self._read(sites[start : start + _SITES_AT_ONCE])
                for start in track(steps, "reading chips")
            ]
            pixels, days = zip(*read, strict=True)
            self._held = torch.cat(pixels), torch.cat(days)

    def take(self, rows: NDArray[np.intp]) -> tuple[Tensor, Tensor]:
        """Return pixels (b, n_times, n_bands, h, w) and days since 1970 (b, n_times), float32."""
        if self._held is None:
            return self._read(self.sites[rows])
        chosen = torch.from_numpy(rows)
        return self._held[0][chosen], self._held[1][chosen]

    def _read(self, keys: pd.Index) -> tuple[Tensor, Tensor]:
        (batch,) = read_batches(self._chips.select(keys), len(keys))
        # a selection may hold fewer times than all chips do
        lack = self._chips.n_times - batch.pixels.shape[1]
        pixels = np.pad(
            batch.pixels, [(0, 0), (0, lack), (0, 0), (0, 0), (0, 0)], constant_values=np.nan
        )
        days = np.pad(days_since_1970(batch.days), [(0, 0), (0, lack)], constant_values=np.nan)
        return torch.from_numpy(pixels), torch.from_numpy(days)


def days_since_1970(days: NDArray[np.datetime64]) -> NDArray[np.float32]:
    """Return dates as numbers, NaN for NaT.

    Examples
    --------
    >>> days_since_1970(np.array(["1970-01-03", "NaT"], dtype="datetime64[D]")).tolist()
    [2.0, nan]
    """
    numbers = days.astype("datetime64[D]").astype(np.int64).astype(np.float32)
    return np.where(np.isnat(days), np.float32(np.nan), numbers)
