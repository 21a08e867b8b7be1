"""Sites sorted into groups by their predicted effects: by k-means, or by a tree on the image.

Symbols: n_sites places, K groups, ordered from the smallest mean predicted effect to the largest.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from sklearn.tree import DecisionTreeRegressor

from terracausal._foundation.errors import RoleError
from terracausal._foundation.randomness import draw_seed

Floats = NDArray[np.float64]
_SMALLEST_LEAF = 0.05  # of the sites


class EffectGroups(Protocol):
    """What sorts sites into groups.

    Parameters
    ----------
    centers : ndarray of shape (K,)
        Mean predicted effect of each group.
    """

    @property
    def centers(self) -> Floats: ...  # noqa: D102

    def memberships(self, effect: Floats, embeddings: pd.DataFrame) -> Floats: ...  # noqa: D102


@dataclass(frozen=True, eq=False)
class CenterGroups:
    """Groups of sites whose predicted effects lie near a centre.

    Parameters
    ----------
    centers : ndarray of shape (K,)
    spread : float
        SD of predicted effects around their centre.

    Examples
    --------
    >>> groups = CenterGroups(np.array([0.0, 2.0]), 0.5)
    >>> groups.memberships(np.array([0.0, 1.0]), pd.DataFrame(index=range(2))).round(3).tolist()
    [[1.0, 0.0], [0.5, 0.5]]
    """

    centers: Floats
    spread: float

    def memberships(self, effect: Floats, embeddings: pd.DataFrame) -> Floats:
        """Return the probability of each group for sites with these predicted effects.

        K-means is the mixture of normals with one SD and equal shares whose memberships are made
        hard; these are the soft ones. The most probable group is that of the nearest centre.

        Parameters
        ----------
        effect : ndarray of shape (n_sites,)
        embeddings : pandas.DataFrame of shape (n_sites, n_features)
            Not used.

        Returns
        -------
        ndarray of shape (n_sites, K)
        """
        distance = np.square((effect[:, None] - self.centers) / max(self.spread, 1e-12)) / 2
        near = np.exp(distance.min(axis=1, keepdims=True) - distance)
        return np.asarray(near / near.sum(axis=1, keepdims=True))


@dataclass(frozen=True, eq=False)
class TreeGroups:
    """Groups of sites that share a leaf of a tree on their embeddings.

    Parameters
    ----------
    tree : DecisionTreeRegressor
        Fitted to predicted effects.
    leaves : ndarray of shape (K,)
        Its leaves, by rising predicted effect.
    centers : ndarray of shape (K,)
    """

    tree: DecisionTreeRegressor
    leaves: NDArray[np.int64]
    centers: Floats

    def memberships(self, effect: Floats, embeddings: pd.DataFrame) -> Floats:
        """Return 1 for the leaf of each site and 0 for the others.

        Parameters
        ----------
        effect : ndarray of shape (n_sites,)
            Not used.
        embeddings : pandas.DataFrame of shape (n_sites, n_features)

        Returns
        -------
        ndarray of shape (n_sites, K)
        """
        found = self.tree.apply(embeddings.to_numpy(dtype=np.float64))
        return np.asarray(found[:, None] == self.leaves, dtype=np.float64)


def group_by_center(
    effect: Floats, weight: Floats, n_components: int, rng: np.random.Generator
) -> CenterGroups:
    """Sort sites into groups of similar predicted effects by k-means.

    Parameters
    ----------
    effect, weight : ndarray of shape (n_sites,)
    n_components : int
    rng : numpy.random.Generator

    Returns
    -------
    CenterGroups
    """
    _check_spread(effect, n_components)
    found = KMeans(n_components, n_init=10, random_state=draw_seed(rng)).fit(
        effect[:, None], sample_weight=weight
    )
    centers = np.sort(found.cluster_centers_[:, 0])
    return CenterGroups(centers, float(np.sqrt(found.inertia_ / weight.sum())))


def group_by_tree(
    effect: Floats,
    embeddings: pd.DataFrame,
    weight: Floats,
    n_components: int,
    rng: np.random.Generator,
) -> TreeGroups:
    """Sort sites into groups by a regression tree of predicted effects on the embeddings.

    Parameters
    ----------
    effect, weight : ndarray of shape (n_sites,)
    embeddings : pandas.DataFrame of shape (n_sites, n_features)
    n_components : int
        Leaves of the tree; each holds at least a twentieth of the sites.
    rng : numpy.random.Generator

    Returns
    -------
    TreeGroups
    """
    _check_spread(effect, n_components)
    tree = DecisionTreeRegressor(
        max_leaf_nodes=n_components, min_samples_leaf=_SMALLEST_LEAF, random_state=draw_seed(rng)
    )
    tree.fit(embeddings.to_numpy(dtype=np.float64), effect, sample_weight=weight)
    leaves = np.flatnonzero(tree.tree_.children_left < 0)
    if len(leaves) < n_components:
        raise RoleError(
            f"A tree of predicted effects on {embeddings.shape[1]} embedding columns needs "
            f"{n_components} leaves; it found {len(leaves)}. Use fewer components."
        )
    centers = tree.tree_.value[leaves, 0, 0]
    order = np.argsort(centers, kind="stable")
    return TreeGroups(tree, leaves[order], centers[order])


def _check_spread(effect: Floats, n_components: int) -> None:
    """Refuse effects that a learner predicts to be the same, to within rounding."""
    scale = 1e-9 * float(np.abs(effect).max())
    n_values = 1 + int((np.diff(np.sort(effect)) > scale).sum())
    if n_values < n_components:
        raise RoleError(
            f"{n_components} groups of predicted effects need as many different values; the "
            f"learner predicts {n_values} for {len(effect)} sites. Take it that effects do not "
            "differ, or use another learner."
        )
