"""Who the units of an estimate are, and how they may depend on each other."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from terracausal._foundation.checks import check_choice, check_positive
from terracausal._foundation.errors import AlignmentError, list_some

StdErrorKind = Literal["hc", "cluster", "two_way", "conley"]
Kernel = Literal["bartlett", "uniform"]


def one_cluster(n_units: int) -> str:
    """Return why folds and standard errors need more than one cluster, and what to do."""
    return (
        f"Expected at least 2 clusters; found 1, with all {n_units:,} units, which leaves nothing "
        "to compare it with. Use a finer `site` or `cluster` (none where units are independent)"
    )


@dataclass(frozen=True)
class Dependence:
    """How units may depend on each other, which decides the standard error.

    Parameters
    ----------
    kind : {"hc", "cluster", "two_way", "conley"}, default="hc"
        Independent units, independent clusters, clusters of two kinds that cross, or dependence
        that fades with distance.
    cutoff_m : float, default=None
        For "conley": metres beyond which units are independent.
    kernel : {"bartlett", "uniform"}, default="bartlett"
        For "conley": how the weight of a pair falls with distance.

    Examples
    --------
    >>> Dependence("conley", cutoff_m=20_000).kernel
    'bartlett'
    """

    kind: StdErrorKind = "hc"
    cutoff_m: float | None = None
    kernel: Kernel = "bartlett"

    def __post_init__(self) -> None:
        check_choice("kind", self.kind, ("hc", "cluster", "two_way", "conley"))
        check_choice("kernel", self.kernel, ("bartlett", "uniform"))
        if self.kind == "conley":
            if self.cutoff_m is None:
                raise ValueError(
                    "A Conley standard error needs `cutoff_m`, the distance in metres beyond which "
                    "units are independent; got None. Try the size of a district, say 20_000."
                )
            check_positive("cutoff_m", self.cutoff_m)
        elif self.cutoff_m is not None:
            raise ValueError(f"`cutoff_m` is for 'conley' only; got it with {self.kind!r}.")


@dataclass(frozen=True)
class UnitFrame:
    """Who the units of an estimate are; no outcome, no covariate.

    Parameters
    ----------
    units : pandas.Index of length n_units
        Unit keys.
    cluster : pandas.Series, default=None
        Cluster label of each unit.
    coordinates : pandas.DataFrame, default=None
        Columns lon and lat, in degrees.
    treatment : pandas.Series, default=None
        Arm of each unit. It guards against subtracting estimates of different studies whose units
        happen to bear the same keys.
    second_cluster : pandas.Series, default=None
        Label of each unit in a second kind of cluster, which may cross the first.

    Examples
    --------
    >>> UnitFrame(pd.RangeIndex(3)).n_units
    3
    """

    units: pd.Index
    cluster: "pd.Series[Any] | None" = None
    coordinates: pd.DataFrame | None = None
    treatment: "pd.Series[Any] | None" = None
    second_cluster: "pd.Series[Any] | None" = None

    @property
    def n_units(self) -> int:
        """Number of units."""
        return len(self.units)

    @cached_property
    def cluster_codes(self) -> NDArray[np.int64] | None:
        """Codes from 0 to n_clusters - 1, or None where there are no clusters."""
        if self.cluster is None:
            return None
        return pd.factorize(self.cluster)[0].astype(np.int64)

    @cached_property
    def second_codes(self) -> NDArray[np.int64] | None:
        """Codes of the second clusters from 0, or None where there are none."""
        if self.second_cluster is None:
            return None
        return pd.factorize(self.second_cluster)[0].astype(np.int64)

    @property
    def n_clusters(self) -> int | None:
        """Number of clusters, or None where there are none."""
        return None if self.cluster is None else int(self.cluster.nunique())

    def union(self, other: "UnitFrame") -> "UnitFrame":
        """Return the units of both; what both know of a shared unit must agree."""
        if self is other:
            return self
        if self.units.equals(other.units):
            units = self.units
        else:
            units = self.units.union(other.units, sort=False)
        parts = {
            name: _merge(name, getattr(self, name), getattr(other, name), units)
            for name in ("cluster", "coordinates", "treatment", "second_cluster")
        }
        return UnitFrame(units, **parts)


def _merge(name: str, a: Any, b: Any, units: pd.Index) -> Any:
    if a is None and b is None:
        return None
    if a is None or b is None:
        if name == "treatment":
            return None
        raise AlignmentError(
            f"Both estimates must have a {name}, or neither; only one of them does. "
            "Compute both from scores of the same study."
        )
    shared = a.index.intersection(b.index)
    left, right = a.loc[shared].to_numpy(), b.loc[shared].to_numpy()
    differs = left != right
    differs = differs.any(axis=1) if differs.ndim == 2 else differs
    if differs.any():
        raise AlignmentError(
            f"The estimates share {len(shared)} unit keys, but {int(differs.sum())} of these have "
            f"another {name}: {list_some(shared[differs])}. They come from different studies; give "
            "the units of each study their own keys."
        )
    return pd.concat([a, b.loc[b.index.difference(a.index, sort=False)]]).loc[units]
