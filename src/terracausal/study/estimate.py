"""What an estimate is: a value and the influence of each unit on it."""

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from terracausal._foundation.checks import check_choice, check_fraction, check_positive
from terracausal._foundation.errors import AlignmentError, list_some
from terracausal.study.standard_errors import (
    clustered_covariance,
    conley_covariance,
    independent_covariance,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Floats = NDArray[np.floating[Any]]
StdErrorKind = Literal["hc", "cluster", "conley"]
Kernel = Literal["bartlett", "uniform"]
FEW_CLUSTERS = 40


@dataclass(frozen=True)
class Dependence:
    """How units may depend on each other, which decides the standard error.

    Parameters
    ----------
    kind : {"hc", "cluster", "conley"}, default="hc"
        Independent units, independent clusters, or dependence that fades with distance.
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
        check_choice("kind", self.kind, ("hc", "cluster", "conley"))
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

    Examples
    --------
    >>> UnitFrame(pd.RangeIndex(3)).n_units
    3
    """

    units: pd.Index
    cluster: "pd.Series[Any] | None" = None
    coordinates: pd.DataFrame | None = None
    treatment: "pd.Series[Any] | None" = None

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
            for name in ("cluster", "coordinates", "treatment")
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


@dataclass(frozen=True, eq=False)
class Estimate:
    """A value with its influence values, so that standard errors can be chosen afterwards.

    To first order ``value - truth = influence.mean(axis=0)``. Estimates therefore add, subtract
    and scale with correct standard errors, also when they share units.

    Parameters
    ----------
    value : ndarray of shape (n_terms,)
        The estimates.
    influence : ndarray of shape (n_units, n_terms)
        Influence values, with mean zero.
    frame : UnitFrame
        The units, their clusters and coordinates.
    terms : tuple of str
        A name for each term.
    estimand : str
        What is estimated, in words.
    method : str
        How it is estimated, in words.
    dependence : Dependence, default=None
        None clusters whenever the units have clusters, and treats units as independent otherwise.
    assumptions : tuple of str, default=()
        What must hold for the estimate to be the effect.
    notes : tuple of str, default=()
        What was done to the data (clipped, trimmed, dropped).
    n_parameters : int, default=1
        Means or coefficients behind each term, for the small-sample factor n / (n - k) of the
        standard error for independent units.

    Examples
    --------
    >>> frame = UnitFrame(pd.RangeIndex(4))
    >>> shift = np.array([[-1.0], [1.0], [-1.0], [1.0]])
    >>> one = Estimate(np.array([2.0]), shift, frame, ("ate",), "average effect", "example")
    >>> (one - one).std_error.tolist()
    [0.0]
    """

    value: Floats
    influence: Floats = field(repr=False)
    frame: UnitFrame = field(repr=False)
    terms: tuple[str, ...]
    estimand: str
    method: str
    dependence: Dependence | None = None
    assumptions: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    n_parameters: int = 1

    def __post_init__(self) -> None:
        expected = (self.frame.n_units, len(self.terms))
        if self.value.shape != expected[1:] or self.influence.shape != expected:
            raise ValueError(
                f"Expected values of shape {expected[1:]} and influence of shape {expected}; "
                f"got {self.value.shape} and {self.influence.shape}."
            )
        dependence = self.dependence
        if dependence is None:
            dependence = Dependence("hc" if self.frame.cluster is None else "cluster")
            object.__setattr__(self, "dependence", dependence)
        needed = {"cluster": "cluster", "conley": "coordinates"}.get(dependence.kind)
        if needed is not None and getattr(self.frame, needed) is None:
            role = {"cluster": "site=… or cluster=…", "conley": "coords=('lon', 'lat')"}
            raise ValueError(
                f"A {dependence.kind!r} standard error needs the {needed} of each unit; the scores "
                f"have none. Give the Study {role[dependence.kind]}."
            )
        if dependence.kind == "cluster" and self.frame.n_clusters == 1:
            raise ValueError(
                "Expected at least 2 clusters for a clustered standard error; found 1."
            )

    @property
    def n_units(self) -> int:
        """Number of units."""
        return self.frame.n_units

    @property
    def n_clusters(self) -> int | None:
        """Number of clusters, or None where the units have no clusters."""
        return self.frame.n_clusters

    @cached_property
    def covariance(self) -> Floats:
        """Covariance matrix of the terms, of shape (n_terms, n_terms)."""
        dependence, frame = self._dependence, self.frame
        if dependence.kind == "cluster" and frame.cluster_codes is not None:
            return clustered_covariance(self.influence, frame.cluster_codes)
        if dependence.kind == "conley" and frame.coordinates is not None:
            cutoff_m = float(dependence.cutoff_m or 0.0)
            points = frame.coordinates[["lon", "lat"]].to_numpy(dtype=np.float64)
            return conley_covariance(self.influence, points, cutoff_m, dependence.kernel)
        return independent_covariance(self.influence, self.n_parameters)

    @property
    def _dependence(self) -> Dependence:
        return self.dependence or Dependence()

    @cached_property
    def std_error(self) -> Floats:
        """Standard errors, of shape (n_terms,)."""
        variance = np.diag(self.covariance).copy()
        if (variance < 0).any():
            # only the uniform kernel gets here; a root of it would be a made-up number
            raise ValueError(
                f"The spatial variance is negative ({variance.min():.3g}), which the uniform "
                "kernel allows. Use kernel='bartlett', or another `cutoff_m`."
            )
        return np.sqrt(variance)

    @property
    def degrees_of_freedom(self) -> float:
        """Degrees of freedom of the t intervals: clusters - 1, units - k, or infinite (Conley)."""
        if self._dependence.kind == "conley":
            return float("inf")
        if self._dependence.kind == "cluster":
            return float((self.n_clusters or 2) - 1)
        return float(max(self.n_units - self.n_parameters, 1))

    @property
    def p_value(self) -> Floats:
        """Two-sided p-values of "the term is 0", of shape (n_terms,)."""
        with np.errstate(divide="ignore", invalid="ignore"):
            statistic = np.abs(self.value / self.std_error)
        p_value: Floats = 2 * stats.t.sf(statistic, self.degrees_of_freedom)
        return p_value

    def confint(self, level: float = 0.95) -> Floats:
        """Return confidence intervals.

        Parameters
        ----------
        level : float, default=0.95
            Coverage.

        Returns
        -------
        ndarray of shape (n_terms, 2)
            Lower and upper ends.
        """
        quantile = stats.t.ppf(0.5 + check_fraction("level", level) / 2, self.degrees_of_freedom)
        half = quantile * self.std_error
        return np.column_stack([self.value - half, self.value + half])

    def with_std_error(
        self, kind: StdErrorKind, *, cutoff_m: float | None = None, kernel: Kernel = "bartlett"
    ) -> "Estimate":
        """Return the same estimate with another standard error.

        Parameters
        ----------
        kind : {"hc", "cluster", "conley"}
            Independent units, independent clusters, or spatial dependence.
        cutoff_m : float, default=None
            For "conley": metres beyond which units are independent.
        kernel : {"bartlett", "uniform"}, default="bartlett"
            For "conley".

        Returns
        -------
        Estimate
        """
        return replace(self, dependence=Dependence(kind, cutoff_m, kernel))

    def to_dataframe(self, level: float = 0.95) -> pd.DataFrame:
        """Return one row per term.

        Parameters
        ----------
        level : float, default=0.95
            Coverage of the interval.

        Returns
        -------
        pandas.DataFrame
            Columns term, estimate, std_error, ci_low, ci_high, level, n_units, n_clusters.
        """
        interval = self.confint(level)
        clustered = self._dependence.kind == "cluster"
        return pd.DataFrame(
            {
                "term": list(self.terms),
                "estimate": self.value,
                "std_error": self.std_error,
                "ci_low": interval[:, 0],
                "ci_high": interval[:, 1],
                "level": level,
                "n_units": self.n_units,
                "n_clusters": self.n_clusters if clustered else self.n_units,
            }
        )

    def describe_std_error(self) -> str:
        """Return in words which standard error is used, and on how many clusters."""
        dependence = self._dependence
        if dependence.kind == "cluster":
            few = ", few: treat the interval with care" if self._has_few_clusters else ""
            return f"clustered ({self.n_clusters:,} clusters{few})"
        if dependence.kind == "conley":
            cutoff_km = float(dependence.cutoff_m or 0.0) / 1000
            return f"spatial (Conley, {dependence.kernel} kernel, {cutoff_km:g} km cutoff)"
        return "heteroskedasticity-robust, units taken as independent"

    @property
    def _has_few_clusters(self) -> bool:
        return self.n_clusters is not None and self.n_clusters < FEW_CLUSTERS

    def summary(self, level: float = 0.95) -> str:
        """Return the estimate, its interval and what it rests on, as text.

        Parameters
        ----------
        level : float, default=0.95
            Coverage of the interval.

        Returns
        -------
        str
        """
        interval = self.confint(level)
        lines = [f"{self.estimand[:1].upper()}{self.estimand[1:]}", f"  method      {self.method}"]
        for j, term in enumerate(self.terms):
            low, high = interval[j]
            lines.append(
                f"  {term:<11} {self.value[j]:.4f} (std. error {self.std_error[j]:.4f}), "
                f"{level:.0%} interval {low:.4f} to {high:.4f}, p = {self.p_value[j]:.3g}"
            )
        lines.append(f"  std. error  {self.describe_std_error()}; {self.n_units:,} units")
        lines += [f"  note        {note}" for note in self.notes]
        lines += [f"  assumes     {text}" for text in self.assumptions]
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.summary()

    def _repr_html_(self) -> str:
        from html import escape

        table: str = self.to_dataframe().to_html(index=False, float_format="{:.4f}".format)
        return f"<p><b>{escape(self.estimand)}</b></p>{table}<pre>{escape(self.summary())}</pre>"

    def plot(self, ax: "Axes | None" = None, level: float = 0.95) -> "Axes":
        """Draw the intervals.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, default=None
            Where to draw; None makes a new figure.
        level : float, default=0.95
            Coverage of the interval.

        Returns
        -------
        matplotlib.axes.Axes
        """
        from terracausal.plotting import plot_intervals

        return plot_intervals(self.to_dataframe(level), ax=ax)

    def __neg__(self) -> "Estimate":
        return self * -1.0

    def __mul__(self, factor: float) -> "Estimate":
        if not isinstance(factor, int | float | np.integer | np.floating):
            return NotImplemented
        return replace(
            self,
            value=self.value * factor,
            influence=self.influence * factor,
            estimand=f"{factor:g} × ({self.estimand})",
        )

    __rmul__ = __mul__

    def __truediv__(self, divisor: float) -> "Estimate":
        return self * (1.0 / divisor)

    def __add__(self, other: "Estimate") -> "Estimate":
        return self._combine(other, 1.0) if isinstance(other, Estimate) else NotImplemented

    def __sub__(self, other: "Estimate") -> "Estimate":
        return self._combine(other, -1.0) if isinstance(other, Estimate) else NotImplemented

    def _combine(self, other: "Estimate", sign: float) -> "Estimate":
        if len(self.terms) != len(other.terms):
            raise AlignmentError(
                f"Estimates add and subtract term by term; got {len(self.terms)} and "
                f"{len(other.terms)} terms."
            )
        if self._dependence != other._dependence:
            raise ValueError(
                "Both estimates must have the same kind of standard error; got "
                f"{self.describe_std_error()} and {other.describe_std_error()}. "
                "Use with_std_error first."
            )
        frame = self.frame.union(other.frame)
        mark, word = ("−", "minus") if sign < 0 else ("+", "plus")
        pairs = zip(self.terms, other.terms, strict=True)
        return replace(
            self,
            value=self.value + sign * other.value,
            influence=_spread(self, frame) + sign * _spread(other, frame),
            frame=frame,
            terms=tuple(a if a == b else f"{a} {mark} {b}" for a, b in pairs),
            estimand=f"{self.estimand} {word} {other.estimand}",
            method=self.method if self.method == other.method else f"{self.method}; {other.method}",
            assumptions=tuple(dict.fromkeys(self.assumptions + other.assumptions)),
            notes=tuple(dict.fromkeys(self.notes + other.notes)),
            n_parameters=max(self.n_parameters, other.n_parameters),
        )


def _spread(estimate: Estimate, frame: UnitFrame) -> Floats:
    """Lay influence values on the units of `frame`; the mean over these stays the same."""
    if frame.units is estimate.frame.units:
        return estimate.influence
    spread = np.zeros((frame.n_units, len(estimate.terms)))
    spread[frame.units.get_indexer(estimate.frame.units)] = estimate.influence
    return spread * (frame.n_units / estimate.n_units)
