"""Folds that never split a cluster and keep the arms balanced."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from terracausal._foundation.errors import LeakageError, RoleError, list_some
from terracausal.study.geography import chord_of_distance, sphere_points

Codes = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Folds:
    """Which units are held out together.

    Parameters
    ----------
    labels : pandas.Series of shape (n_units,)
        Fold of each unit, from 0 to n_folds - 1, indexed by unit.
    table : pandas.DataFrame
        One row per fold: fold, n_units, n_treated, n_control, n_clusters, n_buffered.
    buffered : ndarray of bool of shape (n_units, n_folds), default=None
        True where a unit is too near to a fold's held-out units to train for it.
    drawn : dict, default=None
        The arguments of `Study.folds` that drew them, so that others can be drawn in the same way.

    Examples
    --------
    >>> table = pd.DataFrame({"y": range(8), "w": [0, 1] * 4})
    >>> from terracausal.study import Study
    >>> folds = Study(table, outcome="y", treatment="w").folds(2, random_state=0)
    >>> [int(test.sum()) for train, test in folds.split()]
    [4, 4]
    """

    labels: "pd.Series[int]"
    table: pd.DataFrame
    buffered: NDArray[np.bool_] | None = field(default=None, repr=False)
    drawn: dict[str, Any] | None = field(default=None, repr=False)

    @property
    def n_folds(self) -> int:
        """Number of folds."""
        return len(self.table)

    def split(self) -> Iterator[tuple[NDArray[np.bool_], NDArray[np.bool_]]]:
        """Yield a mask of training units and a mask of held-out units for each fold.

        Yields
        ------
        train, test : ndarray of bool of shape (n_units,)
            In the order of `labels`.
        """
        labels = self.labels.to_numpy()
        for fold in range(self.n_folds):
            test = labels == fold
            train = ~test if self.buffered is None else ~test & ~self.buffered[:, fold]
            yield train, test

    def to_dataframe(self) -> pd.DataFrame:
        """Return one row per fold with the counts of units, arms and clusters."""
        return self.table.copy()

    def summary(self) -> str:
        """Return the counts of each fold as text."""
        return f"{self.n_folds} folds of whole clusters\n{self.table.to_string(index=False)}"

    def __str__(self) -> str:
        return self.summary()

    def _repr_html_(self) -> str:
        html: str = self.table.to_html(index=False)
        return html


def assign_folds(group: Codes, treatment: Codes, n_folds: int, rng: np.random.Generator) -> Codes:
    """Deal whole groups out to folds so that the arms are spread evenly.

    Groups are taken from large to small, in random order among equals, and each goes to the fold
    in which its arms are scarcest.

    Parameters
    ----------
    group : ndarray of shape (n_units,)
        Codes from 0 to n_groups - 1.
    treatment : ndarray of shape (n_units,)
        0 or 1.
    n_folds : int
    rng : numpy.random.Generator

    Returns
    -------
    ndarray of shape (n_units,)
        Fold of each unit.
    """
    n_groups = int(group.max()) + 1
    counts = np.stack([np.bincount(group[treatment == arm], minlength=n_groups) for arm in (0, 1)])
    share = counts / counts.sum(axis=1, keepdims=True)
    order = rng.permutation(n_groups)
    order = order[np.argsort(-share.sum(axis=0)[order], kind="stable")]
    fold_of_group = np.zeros(n_groups, dtype=np.int64)
    held = [[0.0] * n_folds, [0.0] * n_folds]
    # plain lists: n_folds is small, and this loop runs once per group
    for g, in_control, in_treated in zip(
        order.tolist(), share[0, order].tolist(), share[1, order].tolist(), strict=True
    ):
        load = [
            in_control * held[0][k] + in_treated * held[1][k] + 1e-9 * (held[0][k] + held[1][k])
            for k in range(n_folds)
        ]
        best = load.index(min(load))
        fold_of_group[g] = best
        held[0][best] += in_control
        held[1][best] += in_treated
    # the fold numbers carry no meaning, so they are shuffled too
    return rng.permutation(n_folds)[fold_of_group][group]


def buffered_units(
    lon_lat: NDArray[np.float64], labels: Codes, n_folds: int, buffer_m: float
) -> NDArray[np.bool_]:
    """Tell which units lie within `buffer_m` of the held-out units of each fold.

    Parameters
    ----------
    lon_lat : ndarray of shape (n_units, 2)
        Degrees.
    labels : ndarray of shape (n_units,)
        Fold of each unit.
    n_folds : int
    buffer_m : float
        Metres.

    Returns
    -------
    ndarray of bool of shape (n_units, n_folds)
    """
    points = sphere_points(lon_lat[:, 0], lon_lat[:, 1])
    near = np.zeros((len(points), n_folds), dtype=bool)
    for fold in range(n_folds):
        others = labels != fold
        distance, _ = cKDTree(points[~others]).query(points[others])
        near[others, fold] = distance <= chord_of_distance(buffer_m)
    return near


def fold_table(labels: Codes, treatment: Codes, group: Codes) -> pd.DataFrame:
    """Return one row per fold: fold, n_units, n_treated, n_control, n_clusters."""
    frame = pd.DataFrame({"fold": labels, "w": treatment, "g": group})
    grouped = frame.groupby("fold")
    return pd.DataFrame(
        {
            "n_units": grouped.size(),
            "n_treated": grouped["w"].sum(),
            "n_control": grouped.size() - grouped["w"].sum(),
            "n_clusters": grouped["g"].nunique(),
        }
    ).reset_index()


def check_whole_clusters(labels: "pd.Series[int]", cluster: "pd.Series[Any] | None") -> None:
    """Refuse folds that split a cluster, such as folds made before the clusters were named.

    Parameters
    ----------
    labels : pandas.Series of shape (n_units,)
        Fold of each unit.
    cluster : pandas.Series of shape (n_units,), default=None
        Cluster of each unit.
    """
    if cluster is None:
        return
    n_folds = labels.groupby(cluster.loc[labels.index].to_numpy()).nunique()
    split = n_folds.index[n_folds > 1]
    if len(split):
        raise LeakageError(
            f"Folds must hold whole clusters; {len(split)} of {len(n_folds)} clusters are split: "
            f"{list_some(split)}. Make the folds from this study: study.folds(...)."
        )


def check_arms(folds: Folds, treatment: Codes) -> None:
    """Refuse folds in which an arm is missing from the held-out or the training units."""
    for fold, (train, test) in enumerate(folds.split()):
        for word, part in (("held-out", test), ("training", train)):
            n_treated, n_control = int(treatment[part].sum()), int((1 - treatment[part]).sum())
            if min(n_treated, n_control) == 0:
                raise RoleError(
                    f"Every fold must have both arms; the {word} units of fold {fold} have "
                    f"{n_treated} treated and {n_control} control. Use fewer folds"
                    f"{' or a smaller buffer_m' if folds.buffered is not None else ''}."
                )
