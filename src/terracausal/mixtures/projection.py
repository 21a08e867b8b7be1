"""From the columns of a table of sites to a few whitened numbers by site."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from terracausal._foundation.checks import check_unique
from terracausal._foundation.errors import AlignmentError, list_some
from terracausal.encoders.reduction import PrincipalComponents, fit_components

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class SiteProjection:
    """Columns of a table of sites, and their whitened principal components.

    Parameters
    ----------
    columns : tuple of str
        In the order of `components`.
    components : PrincipalComponents, default=None
        None where there are no columns.
    """

    columns: tuple[str, ...]
    components: PrincipalComponents | None

    def project(self, table: pd.DataFrame) -> Floats:
        """Return the components of sites, of shape (n_sites, n_dimensions).

        Parameters
        ----------
        table : pandas.DataFrame of shape (n_sites, n_features)
            The fitted columns, in any order and among others.

        Returns
        -------
        ndarray
        """
        check_unique("The index of the embeddings (the site keys)", table.index)
        if self.components is None:
            return np.empty((len(table), 0))
        named = table.rename(columns=str)
        absent = [name for name in self.columns if name not in named.columns]
        if absent:
            raise AlignmentError(
                f"The mixture was fitted to {len(self.columns)} embedding columns; the table lacks "
                f"{len(absent)} of them: {list_some(absent)}. It has {list_some(named.columns)}. "
                "Use the encoder that made the fitted embeddings, on the same bands."
            )
        rows = named[list(self.columns)].to_numpy(dtype=np.float64)
        bad = ~np.isfinite(rows).all(axis=1)
        if bad.any():
            raise ValueError(
                f"Embeddings must be finite; {int(bad.sum())} sites have NaN or infinite values: "
                f"{list_some(table.index[bad])}. Drop these sites or repair their chips."
            )
        return np.asarray(self.components.transform(rows))


def learn_projection(table: pd.DataFrame, n_dimensions: int) -> SiteProjection:
    """Learn whitened principal components of a table of sites.

    Parameters
    ----------
    table : pandas.DataFrame of shape (n_sites, n_features)
    n_dimensions : int
        Components to keep, fewer where the sites vary in fewer directions.

    Returns
    -------
    SiteProjection

    Raises
    ------
    ValueError
        No column varies.
    """
    columns = tuple(map(str, table.columns))
    if not columns:
        return SiteProjection((), None)
    rows = table.to_numpy(dtype=np.float64)
    most = int(np.linalg.matrix_rank(rows - rows.mean(axis=0)))
    if most == 0:
        raise ValueError(
            f"Embeddings must vary; all {len(rows)} sites have the same {rows.shape[1]} values."
        )
    return SiteProjection(columns, fit_components(rows, min(n_dimensions, most), whiten=True))
