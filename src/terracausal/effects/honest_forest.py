"""Forests of honest trees that draw whole clusters: fitting, out-of-bag and new rows, variances."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil
from typing import Any, NamedTuple

import numpy as np
from joblib import Parallel, delayed
from numpy.typing import NDArray
from scipy.special import log_ndtr

from terracausal._foundation.progress import track
from terracausal.effects.honest_trees import (
    N_CODES,
    Rules,
    Sample,
    Tree,
    average_moments,
    find_leaves,
    honest_tree,
    little_bags,
)

Floats = NDArray[np.float64]
_ROWS_AT_ONCE = 512  # leaves of all trees are held for so many rows
_GROUPS_AT_ONCE = 25


@dataclass(frozen=True, eq=False)
class FeatureCodes:
    """Features as codes from 0 to 255, by the values or the quantiles of the training rows.

    Parameters
    ----------
    edges : tuple of ndarray
        Per feature, the upper edges of all codes but the last. A feature of at most 256 different
        values loses nothing.
    """

    edges: tuple[Floats, ...]

    @classmethod
    def of(cls, features: Floats) -> "FeatureCodes":
        """Learn the codes from training rows of shape (n_units, n_features)."""
        return cls(tuple(_edges(np.sort(column)) for column in features.T))

    def encode(self, features: Floats) -> NDArray[np.uint8]:
        """Return codes of shape (n_features, n_rows) for features of shape (n_rows, n_features)."""
        codes = np.empty(features.shape[::-1], dtype=np.uint8)
        for j, edges in enumerate(self.edges):
            codes[j] = np.searchsorted(edges, features[:, j], side="left")
        return codes


def _edges(ordered: Floats) -> Floats:
    values = ordered[np.r_[True, ordered[1:] > ordered[:-1]]]
    if len(values) > N_CODES:
        ranks = np.arange(1, N_CODES) * len(ordered) // N_CODES
        values = np.unique(ordered[ranks - 1])
        return values if values[-1] < ordered[-1] else values[:-1]
    return values[:-1]


class Draws(NamedTuple):
    """How trees draw units.

    `cluster` has the shape (n_units,), codes from 0; a tree sees `fraction` of the clusters, half
    of them for its splits. `group_size` trees share a half-sample. Of each cluster at most
    `units_per_cluster` units are drawn.
    """

    cluster: NDArray[np.int64]
    fraction: float
    group_size: int
    units_per_cluster: int


@dataclass(frozen=True, eq=False)
class HonestForest:
    """Trees of one forest, one after another.

    Parameters
    ----------
    trees : Tree
        Arrays over the nodes of all trees; children are counted from the first tree's root.
    roots : ndarray of shape (n_trees,)
    group_size : int
        Trees that share a half-sample.
    """

    trees: Tree
    roots: NDArray[np.int64]
    group_size: int

    def moments(
        self, codes: NDArray[np.uint8], used: NDArray[np.bool_] | None = None, n_jobs: int = 1
    ) -> Floats:
        """Return the moments of rows, averaged over trees.

        Parameters
        ----------
        codes : ndarray of shape (n_features, n_rows)
        used : ndarray of shape (n_trees, n_rows), default=None
            Trees to use for each row; None uses all.
        n_jobs : int, default=1

        Returns
        -------
        ndarray of shape (n_rows, 5)
            NaN where no tree is used.
        """
        return np.concatenate(self._read(self._moments, codes, used, n_jobs))

    def effects(
        self, codes: NDArray[np.uint8], used: NDArray[np.bool_] | None = None, n_jobs: int = 1
    ) -> Floats:
        """Return effects and their variances for rows, as `moments` takes them.

        Returns
        -------
        ndarray of shape (n_rows, 2)
        """
        return np.concatenate(self._read(self._effects, codes, used, n_jobs))

    def _read(self, read: Any, codes: Any, used: Any, n_jobs: int) -> list[Floats]:
        starts = range(0, max(1, codes.shape[1]), _ROWS_AT_ONCE)
        chunks = [slice(start, start + _ROWS_AT_ONCE) for start in starts]
        run = Parallel(n_jobs=n_jobs, backend="threading", return_as="generator")(
            delayed(read)(codes[:, rows], None if used is None else used[:, rows])
            for rows in chunks
        )
        return list(track(run, "predicting from the forest", len(chunks)))

    def _leaves(self, codes: Any, used: Any) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
        leaves = find_leaves(self.trees, self.roots, np.ascontiguousarray(codes))
        used = np.ones(leaves.shape, np.bool_) if used is None else np.ascontiguousarray(used)
        return leaves, used

    def _moments(self, codes: Any, used: Any) -> Floats:
        found: Floats = average_moments(self.trees.moment, *self._leaves(codes, used))
        return found

    def _effects(self, codes: Any, used: Any) -> Floats:
        leaves, used = self._leaves(codes, used)
        effect, influence = local_effect(average_moments(self.trees.moment, leaves, used))
        bags = little_bags(self.trees.moment, leaves, used, influence, self.group_size)
        return np.column_stack([effect, variance_between(bags, self.group_size)])


def grow_forest(
    sample: Sample, rules: Rules, draws: Draws, n_trees: int, rng: np.random.Generator, n_jobs: int
) -> tuple[HonestForest, NDArray[np.bool_]]:
    """Grow a forest.

    Parameters
    ----------
    sample : Sample
    rules : Rules
    draws : Draws
    n_trees : int
        Rounded up to whole groups.
    rng : numpy.random.Generator
    n_jobs : int
        Threads; they do not change the trees.

    Returns
    -------
    forest : HonestForest
    left_out : ndarray of shape (n_trees, n_units)
        Whether the tree did not draw the unit's cluster.
    """
    n_groups = ceil(n_trees / draws.group_size)
    seeds = rng.integers(2**63, size=n_groups)
    run = Parallel(n_jobs=n_jobs, backend="threading", return_as="generator")(
        delayed(_grow_groups)(sample, rules, draws, seeds[start : start + _GROUPS_AT_ONCE])
        for start in range(0, n_groups, _GROUPS_AT_ONCE)
    )
    n_tasks = ceil(n_groups / _GROUPS_AT_ONCE)
    grown = [one for batch in track(run, "growing a forest", n_tasks) for one in batch]
    sizes = np.array([len(tree.feature) for tree, _ in grown])
    roots = np.cumsum(sizes) - sizes
    fields = [np.concatenate(parts) for parts in zip(*(tree for tree, _ in grown), strict=True)]
    whole = Tree(*fields)
    # a leaf keeps its zeros
    whole.child[...] += np.where(whole.child > 0, np.repeat(roots, sizes)[:, None], 0)
    drawn = np.array([clusters for _, clusters in grown])
    return HonestForest(whole, roots, draws.group_size), ~drawn[:, draws.cluster]


def _grow_groups(
    sample: Sample, rules: Rules, draws: Draws, seeds: NDArray[np.int64]
) -> list[tuple[Tree, NDArray[np.bool_]]]:
    """Return trees, each with a mask of shape (n_clusters,) of those it drew."""
    grown = []
    for seed in seeds:
        rng = np.random.default_rng(seed)
        for part in draw_clusters(draws, rng):
            growing, estimating = draw_units(draws, part, rng)
            tree = Tree(*honest_tree(sample, rules, growing, estimating, rng))
            grown.append((tree, part > 0))
    return grown


def draw_clusters(draws: Draws, rng: np.random.Generator) -> Iterator[NDArray[np.int8]]:
    """Draw the clusters of one group of trees.

    Yields
    ------
    ndarray of shape (n_clusters,)
        One per tree: 1 for clusters that choose its splits, 2 for those that fill its leaves, 0 for
        the others. A group of several trees has only clusters of one half-sample.
    """
    n_clusters = int(draws.cluster.max()) + 1
    available, n_drawn = np.arange(n_clusters), int(n_clusters * draws.fraction)
    if draws.group_size > 1:
        available = rng.permutation(n_clusters)[: n_clusters // 2]
        n_drawn = ceil(len(available) * 2 * draws.fraction)
    n_growing = ceil(n_drawn / 2)
    for _ in range(draws.group_size):
        drawn = rng.permutation(available)[:n_drawn]
        part = np.zeros(n_clusters, dtype=np.int8)
        part[drawn[:n_growing]], part[drawn[n_growing:]] = 1, 2
        yield part


def draw_units(
    draws: Draws, part: NDArray[np.int8], rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the positions of units that choose the splits, and of those that fill the leaves."""
    by_unit = part[draws.cluster]
    some = np.flatnonzero(by_unit)
    if draws.units_per_cluster < np.bincount(draws.cluster).max():
        some = rng.permutation(some)
        order = np.argsort(draws.cluster[some], kind="stable")
        cluster = draws.cluster[some[order]]
        starts = np.flatnonzero(np.r_[True, cluster[1:] != cluster[:-1]])
        rank = np.arange(len(some)) - np.repeat(starts, np.diff(np.r_[starts, len(some)]))
        some = np.sort(some[order[rank < draws.units_per_cluster]])
    return some[by_unit[some] == 1], some[by_unit[some] == 2]


def local_effect(moment: Floats) -> tuple[Floats, Floats]:
    """Return the slope of outcome on treatment, and how it reacts to the moments.

    Parameters
    ----------
    moment : ndarray of shape (n_rows, 5)
        Weighted means of outcome y, treatment z, y z, z z and of the weight w.

    Returns
    -------
    effect : ndarray of shape (n_rows,)
    influence : ndarray of shape (n_rows, 5)
        Derivatives of the effect with respect to the moments; their product with the moments is 0.
    """
    y, z, yz, zz, w = moment.T
    determinant = zz * w - z**2
    effect = (yz * w - y * z) / determinant
    level = (y - z * effect) / w
    influence = [-z, z * effect - w * level, w, -w * effect, z * level]
    return effect, np.column_stack(influence) / determinant[:, None]


def variance_between(bags: Floats, group_size: int) -> Floats:
    """Return the sampling variance from groups of trees.

    The mean square between groups less what few trees in a group add to it; the posterior mean
    under a flat prior on variances above 0, so that noise does not make it negative.

    Parameters
    ----------
    bags : ndarray of shape (n_rows, 3)
        Mean square of the groups' means, mean square of the trees, number of groups.
    group_size : int

    Returns
    -------
    ndarray of shape (n_rows,)
        NaN where fewer than two groups are complete.
    """
    between, total, n_groups = bags.T
    noise = (total - between) / (group_size - 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        spread = np.maximum(between, noise) * np.sqrt(2 / n_groups)
        ratio = np.where(spread > 0, (between - noise) / spread, 0.0)
        # mean of a normal cut off at 0: density over upper tail
        hazard = np.exp(-(ratio**2) / 2 - log_ndtr(ratio)) / np.sqrt(2 * np.pi)
    return np.where(n_groups > 1, between - noise + spread * hazard, np.nan)
