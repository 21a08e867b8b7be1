"""What training units do to embedding columns: principal components, and bounds."""

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.decomposition import PCA

from terracausal._foundation.checks import check_count
from terracausal._foundation.errors import RoleError
from terracausal.study import Study

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class ColumnComponents:
    """Principal components of some standardised columns, which replace these.

    Parameters
    ----------
    columns : tuple of str
        The columns that are replaced; none where there were no more than components.
    mean, spread : ndarray of shape (n_columns,)
        Of the rows that it was learned from.
    pca : sklearn.decomposition.PCA, default=None
        None where nothing is replaced.

    Examples
    --------
    >>> table = pd.DataFrame({"age": [1.0, 2, 3], "a": [0.0, 1, 2], "b": [0.0, 2, 4]})
    >>> ColumnComponents.learn(table, ["a", "b"], 1).transform(table).columns.tolist()
    ['age', 'component_0']
    """

    columns: tuple[str, ...]
    mean: Floats = field(repr=False)
    spread: Floats = field(repr=False)
    pca: PCA | None = field(default=None, repr=False)

    @classmethod
    def learn(
        cls, features: pd.DataFrame, columns: Collection[str], n_components: int
    ) -> "ColumnComponents":
        """Learn components; columns that are not more than components stay as they are.

        Parameters
        ----------
        features : pandas.DataFrame of shape (n_units, n_features)
        columns : collection of str
            The columns to replace, where there.
        n_components : int

        Returns
        -------
        ColumnComponents
        """
        own = [name for name in features.columns if name in columns]
        if len(own) <= n_components:
            return cls((), np.zeros(0), np.ones(0))
        wide = features[own].to_numpy()
        mean, spread = wide.mean(axis=0), wide.std(axis=0)
        spread[spread < 1e-12 * np.maximum(1.0, np.abs(mean))] = 1.0
        pca = PCA(n_components, svd_solver="full").fit((wide - mean) / spread)
        return cls(tuple(own), mean, spread, pca)

    def transform(self, features: pd.DataFrame) -> pd.DataFrame:
        """Return the other columns, then the components.

        Parameters
        ----------
        features : pandas.DataFrame of shape (n_rows, n_features)

        Returns
        -------
        pandas.DataFrame of shape (n_rows, n_other + n_components)
        """
        if self.pca is None:
            return features
        wide = (features[list(self.columns)].to_numpy() - self.mean) / self.spread
        components = self.pca.transform(wide) if len(wide) else np.zeros((0, self.pca.n_components))
        names = [f"component_{j}" for j in range(components.shape[1])]
        reduced = pd.DataFrame(components, index=features.index, columns=names)
        return pd.concat([features.drop(columns=list(self.columns)), reduced], axis=1)


def reduce_columns(
    features: pd.DataFrame, columns: Collection[str], n_components: int, train: NDArray[np.bool_]
) -> pd.DataFrame:
    """Replace some columns by their principal components, learned on the training rows.

    Parameters
    ----------
    features : pandas.DataFrame of shape (n_units, n_features)
    columns : collection of str
        The columns to replace.
    n_components : int
    train : ndarray of bool of shape (n_units,)
        Rows that the components are learned from.

    Returns
    -------
    pandas.DataFrame of shape (n_units, n_other + n_components)

    Examples
    --------
    >>> table = pd.DataFrame({"age": [1.0, 2, 3], "a": [0.0, 1, 2], "b": [0.0, 2, 4]})
    >>> reduce_columns(table, ["a", "b"], 1, np.ones(3, dtype=bool)).columns.tolist()
    ['age', 'component_0']
    """
    return ColumnComponents.learn(features.loc[train], columns, n_components).transform(features)


@dataclass(frozen=True)
class ColumnBounds:
    """The range of some columns over the rows that it was learned from; others are moved into it.

    An image unlike all others has embeddings far outside, and a linear learner would extrapolate to
    it: one unit then decides an average, or stands alone at the top of a ranking.

    Parameters
    ----------
    columns : tuple of str
        The columns that are bounded.
    lowest, highest : ndarray of shape (n_columns,)

    Examples
    --------
    >>> table = pd.DataFrame({"age": [1.0, 2], "a": [0.0, 1]})
    >>> new = pd.DataFrame({"age": [99.0], "a": [99.0]})
    >>> ColumnBounds.learn(table, ["a"]).transform(new).iloc[0].tolist()
    [99.0, 1.0]
    """

    columns: tuple[str, ...]
    lowest: Floats = field(repr=False)
    highest: Floats = field(repr=False)

    @classmethod
    def learn(cls, features: pd.DataFrame, columns: Collection[str]) -> "ColumnBounds":
        """Learn the range of the columns that are there.

        Parameters
        ----------
        features : pandas.DataFrame of shape (n_units, n_features)
        columns : collection of str
            The columns to bound; others stay as they are.

        Returns
        -------
        ColumnBounds
        """
        own = [name for name in features.columns if name in columns]
        inside = features[own].to_numpy(dtype=np.float64)
        if not own:
            return cls((), np.zeros(0), np.zeros(0))
        return cls(tuple(own), inside.min(axis=0), inside.max(axis=0))

    def transform(self, features: pd.DataFrame) -> pd.DataFrame:
        """Return the table with the columns, where it has them, moved into their range.

        Parameters
        ----------
        features : pandas.DataFrame of shape (n_rows, n_features)

        Returns
        -------
        pandas.DataFrame of shape (n_rows, n_features)
        """
        at = features.columns.get_indexer(pd.Index(self.columns))
        there = at >= 0
        if not there.any():
            return features
        values = features.to_numpy(dtype=np.float64, copy=True)
        own = at[there]
        values[:, own] = np.clip(values[:, own], self.lowest[there], self.highest[there])
        return pd.DataFrame(values, index=features.index, columns=features.columns)


def reduce_and_bound(
    features: pd.DataFrame,
    columns: Collection[str],
    n_components: int | None,
    train: NDArray[np.bool_],
) -> pd.DataFrame:
    """Return columns as nuisance learners see them: reduced to, and bounded by, training rows.

    Parameters
    ----------
    features : pandas.DataFrame of shape (n_units, n_features)
    columns : collection of str
        Those that images gave; others stay as they are.
    n_components : int, default=None
        Components that replace them; None keeps the columns.
    train : ndarray of bool of shape (n_units,)

    Returns
    -------
    pandas.DataFrame of shape (n_units, n_kept)

    Examples
    --------
    >>> table = pd.DataFrame({"age": [1.0, 2, 99], "a": [0.0, 1, 99]})
    >>> train = np.array([True, True, False])
    >>> reduce_and_bound(table, ["a"], None, train).iloc[2].tolist()
    [99.0, 1.0]
    """
    others = [name for name in features.columns if name not in columns]
    if n_components is not None:
        features = reduce_columns(features, columns, n_components, train)
    bounded = features.columns.difference(others)
    return ColumnBounds.learn(features.loc[train], bounded).transform(features)


def check_components(
    n_components: int, study: Study, train: NDArray[np.bool_] | None = None
) -> None:
    """Refuse a number of components that the embeddings or the training sites cannot give.

    Units of a site share its embedding, so that the number of sites bounds what can be told apart.

    Parameters
    ----------
    n_components : int
    study : Study
    train : ndarray of bool of shape (n_units,), default=None
        Training units of the smallest fold; None is all units.
    """
    check_count("n_components", n_components)
    if not study.embedding_columns:
        raise RoleError(
            "`n_components` reduces joined embeddings; the study has none. Join them, or leave "
            "n_components out."
        )
    rows = np.ones(study.n_units, dtype=np.bool_) if train is None else train
    n_train = int(rows.sum() if study.sites is None else study.sites[rows].nunique())
    what = "units" if study.sites is None else "sites"
    if n_components >= n_train:
        where = "the study" if train is None else "a training part"
        raise RoleError(
            f"`n_components` must be below the number of training {what}; got {n_components} for "
            f"{n_train} {what} in {where}. Use at most {max(n_train - 1, 0)}, or more sites."
        )
