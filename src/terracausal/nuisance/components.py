"""What the training units of a fold do to embedding columns: principal components, and bounds."""

from collections.abc import Collection

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.decomposition import PCA

from terracausal._foundation.checks import check_count
from terracausal._foundation.errors import RoleError


def reduce_columns(
    features: pd.DataFrame, columns: Collection[str], n_components: int, train: NDArray[np.bool_]
) -> pd.DataFrame:
    """Replace some columns by their principal components, learned on the training rows.

    Columns are standardised first. Fewer columns than components stay as they are.

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
    own = [name for name in features.columns if name in columns]
    if len(own) <= n_components:
        return features
    wide = features[own].to_numpy()
    mean, spread = wide[train].mean(axis=0), wide[train].std(axis=0)
    spread[spread < 1e-12 * np.maximum(1.0, np.abs(mean))] = 1.0
    wide = (wide - mean) / spread
    components = PCA(n_components, svd_solver="full").fit(wide[train]).transform(wide)
    names = [f"component_{j}" for j in range(n_components)]
    reduced = pd.DataFrame(components, index=features.index, columns=names)
    return pd.concat([features.drop(columns=own), reduced], axis=1)


def bound_columns(
    features: pd.DataFrame, columns: Collection[str], train: NDArray[np.bool_]
) -> pd.DataFrame:
    """Move columns of the other rows into the range of the training rows.

    An image unlike all others has embeddings far outside them, and a linear learner would
    extrapolate to it: one unit then decides an average.

    Parameters
    ----------
    features : pandas.DataFrame of shape (n_units, n_features)
    columns : collection of str
        The columns to bound; others stay as they are.
    train : ndarray of bool of shape (n_units,)
        Rows that set the range.

    Returns
    -------
    pandas.DataFrame of shape (n_units, n_features)

    Examples
    --------
    >>> table = pd.DataFrame({"age": [1.0, 2, 99], "a": [0.0, 1, 99]})
    >>> bound_columns(table, ["a"], np.array([True, True, False])).iloc[2].tolist()
    [99.0, 1.0]
    """
    own = features.columns.isin(list(columns))
    if not own.any():
        return features
    values = features.to_numpy(dtype=np.float64, copy=True)
    inside = values[train][:, own]
    values[:, own] = np.clip(values[:, own], inside.min(axis=0), inside.max(axis=0))
    return pd.DataFrame(values, index=features.index, columns=features.columns)


def check_components(n_components: int, n_columns: int, n_train: int) -> None:
    """Refuse a number of components that the embeddings or the training units cannot give.

    Parameters
    ----------
    n_components : int
    n_columns : int
        Joined embedding columns.
    n_train : int
        Training units of the smallest fold.
    """
    check_count("n_components", n_components)
    if n_columns == 0:
        raise RoleError(
            "`n_components` reduces joined embeddings; the study has none. Join them, or leave "
            "n_components out."
        )
    if n_components >= n_train:
        raise RoleError(
            f"`n_components` must be below the number of training units; got {n_components} for "
            f"{n_train} units in the smallest fold."
        )
