"""Which units belong together: by cluster, by site, and by chips that share pixels."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from terracausal.study.geography import linked_groups
from terracausal.study.roles import Columns


def dependent_groups(table: pd.DataFrame, columns: Columns) -> "pd.Series[Any] | None":
    """Return a label for each group of dependent units, or None where units are independent.

    Parameters
    ----------
    table : pandas.DataFrame of shape (n_units, any)
    columns : Columns
        Which of its columns are clusters and sites.

    Returns
    -------
    pandas.Series of shape (n_units,), or None
        The user's own labels where the groups are the user's own, numbers otherwise.
    """
    labels = [table[name] for name in (columns.cluster, columns.site) if name is not None]
    if not labels:
        return None
    groups = linked_groups(*(pd.factorize(label)[0].astype(np.int64) for label in labels))
    n_groups = int(groups.max()) + 1
    if n_groups == len(table) and columns.cluster is None:
        return None
    for label in labels:
        if label.nunique() == n_groups:
            # the groups are the user's own, so they keep the user's labels
            return label.rename("cluster")
    return pd.Series(groups, index=table.index, name="cluster")


def overlap_labels(
    sites: "pd.Series[Any] | None", tables: Sequence[tuple[tuple[Any, ...], ...]]
) -> list[NDArray[np.int64]]:
    """Return labels that units of sites with overlapping chips share, for `linked_groups`.

    Parameters
    ----------
    sites : pandas.Series of shape (n_units,), default=None
        Site key of each unit.
    tables : sequence of tuple of tuple
        For each joined table the groups of its sites, no site in two of them.

    Returns
    -------
    list of ndarray of shape (n_units,)
        One label for each table.
    """
    if sites is None:
        return []
    labels = []
    for groups in tables:
        first = {site: group[0] for group in groups for site in group}
        label = pd.factorize(pd.Series([first.get(site, site) for site in sites]))[0]
        labels.append(label.astype(np.int64))
    return labels
