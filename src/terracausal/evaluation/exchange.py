"""Which clusters may exchange their images, and random exchanges among them.

A cluster hands on all its images at once, so that units of one cluster may depend on each other.
Clusters exchange with others of the same stratum, the same number of sites and about the same
number of units: the latter are sorted, and neighbours join until a group has `_MIN_GROUP` clusters.
"""

from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

Codes = NDArray[np.int64]
_MIN_GROUP = 10


class Exchange(NamedTuple):
    """Groups of clusters, each an array of shape (n_clusters, n_sites) of positions of sites.

    `units_range` is the largest difference in the number of units inside a group.
    """

    groups: tuple[NDArray[np.intp], ...]
    units_range: int

    @property
    def n_fixed(self) -> int:
        """Number of clusters that have nobody to exchange with."""
        return sum(len(group) == 1 for group in self.groups)

    @property
    def log_arrangements(self) -> float:
        """Natural logarithm of the number of arrangements of the images."""
        return float(sum(gammaln(len(group) + 1) for group in self.groups))

    def draw(self, rng: np.random.Generator) -> NDArray[np.intp]:
        """Return for each site's image the site whose scores it gets, of shape (n_sites,)."""
        source = np.empty(sum(group.size for group in self.groups), dtype=np.intp)
        for group in self.groups:
            source[group] = group[rng.permutation(len(group))]
        return source

    def folds(self, n_folds: int, rng: np.random.Generator) -> Codes:
        """Deal whole clusters to folds, evenly in each group; the fold of each site."""
        fold = np.empty(sum(group.size for group in self.groups), dtype=np.int64)
        dealt = 0
        for group in self.groups:
            mixed = group[rng.permutation(len(group))]
            fold[mixed] = ((dealt + np.arange(len(mixed))) % n_folds)[:, None]
            dealt += len(mixed)
        return fold


def exchange_groups(block: Codes, stratum: NDArray[Any], n_units: Codes) -> Exchange:
    """Return who may exchange images with whom.

    Parameters
    ----------
    block : ndarray of shape (n_sites,)
        Cluster of each site.
    stratum : ndarray of shape (n_sites,)
        Codes of the stratum of each site.
    n_units : ndarray of shape (n_sites,)
        Number of units of each site.

    Returns
    -------
    Exchange

    Examples
    --------
    >>> found = exchange_groups(np.arange(4), np.array([0, 0, 1, 1]), np.ones(4, dtype=int))
    >>> [group[:, 0].tolist() for group in found.groups]
    [[0, 1], [2, 3]]
    """
    # inside a cluster sites stand by size, so that like meets like
    order = np.lexsort((np.arange(len(block)), n_units, stratum, block))
    blocks = np.split(order, np.flatnonzero(np.diff(block[order])) + 1)
    kinds: dict[tuple[Any, ...], list[tuple[int, NDArray[np.intp]]]] = {}
    for sites in blocks:
        kind = (len(sites), *stratum[sites].tolist())
        kinds.setdefault(kind, []).append((int(n_units[sites].sum()), sites))
    groups, widest = [], 0
    for _, members in sorted(kinds.items()):
        members.sort(key=lambda member: (member[0], int(member[1][0])))
        sizes = np.array([size for size, _ in members])
        for start, stop in _runs(sizes):
            groups.append(np.stack([sites for _, sites in members[start:stop]]))
            widest = max(widest, int(sizes[stop - 1] - sizes[start]))
    return Exchange(tuple(groups), widest)


def _runs(sizes: Codes) -> list[tuple[int, int]]:
    """Cut sorted sizes into runs of at least `_MIN_GROUP` that never part equal sizes."""
    cuts = [0]
    for end in [*(np.flatnonzero(np.diff(sizes)) + 1).tolist(), len(sizes)]:
        if end - cuts[-1] >= _MIN_GROUP:
            cuts.append(end)
    if len(cuts) == 1:
        cuts.append(len(sizes))
    cuts[-1] = len(sizes)
    return list(pairwise(cuts))
