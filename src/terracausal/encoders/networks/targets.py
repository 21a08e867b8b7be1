"""What a network learns to predict: rows of units, each at a site."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from terracausal._foundation.checks import check_finite, check_unique
from terracausal._foundation.errors import AlignmentError, list_some
from terracausal._foundation.randomness import canonical_order


@dataclass(frozen=True, eq=False)
class UnitTargets:
    """Targets of units, their sites, and optionally their weights and clusters.

    Parameters
    ----------
    values : DataFrame of shape (n_units, n_targets)
        Numbers that the loss is given, by unit.
    site : Series of shape (n_units,)
        Site of each unit, with the index of `values`. Several units may share a site.
    weight : Series of shape (n_units,), default=None
        Weight of each unit in the loss; None weights all alike.
    cluster : Series of shape (n_units,), default=None
        Groups whose sites are held out together; None groups nothing but the units of a site.

    Raises
    ------
    ValueError
        If values are not finite, a weight is negative or a site is missing.

    Examples
    --------
    >>> UnitTargets.of(pd.Series([1.0, 2.0], index=["a", "b"], name="income")).site.tolist()
    ['a', 'b']
    >>> table = pd.DataFrame({"site": ["a", "a", "b"], "income": [1.0, 2.0, 3.0]})
    >>> UnitTargets.of(table).values.columns.tolist()
    ['income']
    """

    values: pd.DataFrame
    site: "pd.Series[Any]"
    weight: "pd.Series[float] | None" = None
    cluster: "pd.Series[Any] | None" = None

    def __post_init__(self) -> None:
        check_finite("targets", self.values)
        check_unique("The units of the targets", self.values.index)
        if not self.values.shape[1]:
            raise ValueError("Targets need at least one column; there is none.")
        for name in ("site", "cluster"):
            column = getattr(self, name)
            if column is not None and column.isna().any():
                raise ValueError(
                    f"Every unit needs a {name}; {int(column.isna().sum())} of {len(column)} have "
                    "none. Drop these units first."
                )
        if self.weight is not None:
            weight = check_finite("weight", self.weight)
            if (weight < 0).any() or not weight.sum() > 0:
                raise ValueError(
                    f"Weights must not be negative and not all 0; the smallest is {weight.min()}, "
                    f"their sum {weight.sum()}."
                )

    @classmethod
    def of(cls, y: Any) -> "UnitTargets":
        """Read targets as `TrainedEncoder.fit` takes them.

        Parameters
        ----------
        y : Series or DataFrame
            A Series by site, a DataFrame by site, or a DataFrame by unit with a column `site`. The
            columns `weight` and `cluster` of a DataFrame have these meanings; all others are
            targets.

        Returns
        -------
        UnitTargets

        Raises
        ------
        TypeError
            If it is something else, such as an array, whose rows have no site.
        """
        if isinstance(y, UnitTargets):
            return y
        if isinstance(y, pd.Series):
            y = y.to_frame("y" if y.name is None else y.name)
        if not isinstance(y, pd.DataFrame):
            raise TypeError(
                "Outcomes are joined by site key, so `y` must be a Series indexed by site, or a "
                f"DataFrame by unit with a column 'site'; got {type(y).__name__}."
            )
        site = y["site"] if "site" in y else pd.Series(y.index, index=y.index, name="site")
        kept = [name for name in y.columns if name not in ("site", "weight", "cluster")]
        return cls(y[kept].astype("float64"), site, y.get("weight"), y.get("cluster"))

    @property
    def sites(self) -> pd.Index:
        """Sites with units, in an order that does not depend on that of the rows."""
        found = pd.Index(self.site.unique(), name=None)
        ordered: pd.Index = found[canonical_order(found)]
        return ordered

    def at(self, sites: pd.Index) -> "UnitTargets":
        """Return the units at some sites."""
        kept = self.site.isin(sites).to_numpy()
        weight, cluster = (x if x is None else x[kept] for x in (self.weight, self.cluster))
        return UnitTargets(self.values[kept], self.site[kept], weight, cluster)

    def check_sites(self, keys: pd.Index) -> None:
        """Raise an `AlignmentError` that names sites without a chip."""
        absent = self.sites.difference(keys, sort=False)
        if len(absent):
            raise AlignmentError(
                f"Every unit needs a chip; {len(absent)} of {len(self.sites)} sites have none: "
                f"{list_some(absent)}. The chips have sites such as {list_some(keys, 3)}. Leave "
                "these units out."
            )

    def arrays(self) -> tuple[NDArray[np.float32], NDArray[np.intp], NDArray[np.float32]]:
        """Return values (n_units, n_targets), places in `sites`, and weights (n_units,).

        Units stand in the order of their sites and keys, so that the order of rows reaches no sum.
        """
        code = self.sites.get_indexer(pd.Index(self.site))
        order = canonical_order(self.values.index)
        order = order[np.argsort(code[order], kind="stable")]
        weight = np.ones(len(code)) if self.weight is None else self.weight.to_numpy(dtype=float)
        values = self.values.to_numpy(dtype=np.float32)
        return values[order], code[order], weight[order].astype(np.float32)

    def groups(self) -> NDArray[np.intp]:
        """Return the number of the group of each of `sites`: sites that clusters link."""
        n_sites = len(self.sites)
        if self.cluster is None:
            return np.arange(n_sites)
        code = self.sites.get_indexer(pd.Index(self.site))
        cluster = pd.factorize(self.cluster)[0] + n_sites
        n_nodes = int(cluster.max()) + 1
        links = coo_matrix((np.ones(len(code)), (code, cluster)), shape=(n_nodes, n_nodes))
        group = connected_components(links, directed=False)[1][:n_sites]
        # numbered by first site, so that the names of clusters do not matter
        return np.asarray(pd.factorize(group)[0], dtype=np.intp)


def choose_held_out(
    groups: NDArray[np.intp], share: float, generator: np.random.Generator
) -> NDArray[np.bool_]:
    """Return which sites are held out: whole groups, at random, until the share is reached.

    Parameters
    ----------
    groups : ndarray of shape (n_sites,)
        Number of the group of each site.
    share : float
        Of sites; at least one group is held out unless this is 0, and at least one is not.
    generator : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    ndarray of bool of shape (n_sites,)

    Raises
    ------
    ValueError
        If there is one group only.

    Examples
    --------
    >>> held_out = choose_held_out(np.array([0, 0, 1, 1]), 0.3, np.random.default_rng(0))
    >>> int(held_out.sum())
    2
    """
    if share == 0:
        return np.zeros(len(groups), dtype=bool)
    size = np.bincount(groups)
    if len(size) < 2:
        raise ValueError(
            f"Early stopping holds out whole clusters, but the {len(groups)} sites are one group. "
            "Train on more clusters, or set `held_out_share=0`."
        )
    order = generator.permutation(len(size))
    before = np.cumsum(size[order]) - size[order]
    n_groups = max(int((before < share * len(groups)).sum()), 1)
    chosen = order[: min(n_groups, len(size) - 1)]
    return np.isin(groups, chosen)
