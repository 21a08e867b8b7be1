"""What an estimate is: a value and the influence of each unit on it."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from terracausal._foundation.checks import (
    check_fraction,
    check_same_index,
)
from terracausal._foundation.errors import AlignmentError, list_some
from terracausal.study.result import IntervalResult, tidy_table
from terracausal.study.standard_errors import (
    clustered_covariance,
    conley_covariance,
    independent_covariance,
    repeated_covariance,
    two_way_covariance,
)
from terracausal.study.units import Dependence, Kernel, StdErrorKind, UnitFrame, one_cluster

Floats = NDArray[np.floating[Any]]
FEW_CLUSTERS = 40


@dataclass(frozen=True, eq=False)
class Estimate(IntervalResult):
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
    scale : {"identity", "log"}, default="identity"
        On which scale the interval is symmetric. "log" is for ratios: their intervals are formed
        for the logarithm, and their p-values test a ratio of 1.
    repeats : tuple of Estimate, default=()
        The same analysis with other folds and seeds, of which this is the median.

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
    scale: Literal["identity", "log"] = "identity"
    repeats: "tuple[Estimate, ...]" = field(default=(), repr=False)

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
        if dependence.kind == "two_way" and self.frame.second_cluster is None:
            raise ValueError(
                "A 'two_way' standard error needs the second cluster of each unit; none was given. "
                "Use with_std_error('two_way', by=labels)."
            )
        needed = {"cluster": "cluster", "two_way": "cluster", "conley": "coordinates"}.get(
            dependence.kind
        )
        if needed is not None and getattr(self.frame, needed) is None:
            role = {"conley": "coords=('lon', 'lat')"} | dict.fromkeys(
                ("cluster", "two_way"), "site=… or cluster=…"
            )
            raise ValueError(
                f"A {dependence.kind!r} standard error needs the {needed} of each unit; the scores "
                f"have none. Give the Study {role[dependence.kind]}."
            )
        if dependence.kind in ("cluster", "two_way") and self.n_clusters == 1:
            raise ValueError(f"{one_cluster(self.n_units)}.")

    @property
    def n_units(self) -> int:
        """Number of units."""
        return self.frame.n_units

    @property
    def n_clusters(self) -> int | None:
        """Number of clusters (of the rarer kind, if two ways), or None where there are none."""
        second = self.frame.second_codes
        if self._dependence.kind == "two_way" and second is not None:
            return min(self.frame.n_clusters or 0, int(second.max()) + 1)
        return self.frame.n_clusters

    @cached_property
    def covariance(self) -> Floats:
        """Covariance matrix of the terms, of shape (n_terms, n_terms)."""
        dependence, frame = self._dependence, self.frame
        if self.repeats:
            return repeated_covariance(
                np.stack([repeat.value for repeat in self.repeats]),
                np.stack([repeat.covariance for repeat in self.repeats]),
            )
        first, second = frame.cluster_codes, frame.second_codes
        if dependence.kind == "two_way" and first is not None and second is not None:
            return two_way_covariance(self.influence, first, second)
        if dependence.kind == "cluster" and first is not None:
            return clustered_covariance(self.influence, first)
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
        if self._dependence.kind in ("cluster", "two_way"):
            return float((self.n_clusters or 2) - 1)
        return float(max(self.n_units - self.n_parameters, 1))

    @property
    def p_value(self) -> Floats:
        """Two-sided p-values of "the term is 0" (of "the ratio is 1"), of shape (n_terms,)."""
        with np.errstate(divide="ignore", invalid="ignore"):
            shift = self.value * np.log(self.value) if self.scale == "log" else self.value
            statistic = np.abs(shift / self.std_error)
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
        if self.scale == "log":
            factor = np.exp(half / self.value)
            return np.column_stack([self.value / factor, self.value * factor])
        return np.column_stack([self.value - half, self.value + half])

    def with_std_error(
        self,
        kind: StdErrorKind,
        *,
        cutoff_m: float | None = None,
        kernel: Kernel = "bartlett",
        by: "pd.Series[Any] | None" = None,
    ) -> "Estimate":
        """Return the same estimate with another standard error.

        Parameters
        ----------
        kind : {"hc", "cluster", "two_way", "conley"}
            Independent units, independent clusters, two crossing kinds of clusters, or spatial
            dependence.
        cutoff_m : float, default=None
            For "conley": metres beyond which units are independent.
        kernel : {"bartlett", "uniform"}, default="bartlett"
            For "conley".
        by : pandas.Series of shape (n_units,), default=None
            For "two_way": the second cluster of each unit, by unit. The first is the study's own.

        Returns
        -------
        Estimate
        """
        frame = self.frame
        if by is not None:
            if not isinstance(by, pd.Series):
                raise TypeError(
                    "`by` must be a Series indexed by unit, since clusters are matched by key; got "
                    f"a {type(by).__name__}. Use pd.Series(labels, index=study.units)."
                )
            check_same_index("by", by.index, frame.units)
            if by.isna().any():
                raise AlignmentError(
                    f"Every unit needs a second cluster; {int(by.isna().sum())} of {len(by)} have "
                    f"none: {list_some(by.index[by.isna()])}."
                )
            frame = replace(frame, second_cluster=by.loc[frame.units])
        dependence = Dependence(kind, cutoff_m, kernel)
        repeats = tuple(
            replace(repeat, dependence=dependence, frame=frame) for repeat in self.repeats
        )
        return replace(self, dependence=dependence, frame=frame, repeats=repeats)

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
        clustered = self._dependence.kind in ("cluster", "two_way")
        return tidy_table(
            self.terms,
            self.value,
            self.std_error,
            self.confint(level),
            level=level,
            n_units=self.n_units,
            n_clusters=self.n_clusters if clustered else self.n_units,
        )

    def describe_std_error(self) -> str:
        """Return in words which standard error is used, and on how many clusters."""
        dependence = self._dependence
        if dependence.kind == "cluster":
            few = ", few: treat the interval with care" if self._has_few_clusters else ""
            return f"clustered ({self.n_clusters:,} clusters{few})"
        if dependence.kind == "two_way" and self.frame.second_codes is not None:
            few = ", few: treat the interval with care" if self._has_few_clusters else ""
            second = int(self.frame.second_codes.max()) + 1
            return f"clustered two ways ({self.frame.n_clusters:,} and {second:,} clusters{few})"
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
            # nothing is tested where the error is 0: a rule that treats all, less treating all
            p_value = f", p = {self.p_value[j]:.3g}" if self.std_error[j] > 0 else ""
            lines.append(
                f"  {term:<11} {self.value[j]:.4f} (std. error {self.std_error[j]:.4f}), "
                f"{level:.0%} interval {low:.4f} to {high:.4f}{p_value}"
            )
        lines.append(f"  std. error  {self.describe_std_error()}; {self.n_units:,} units")
        lines += self._repeat_lines()
        if self._dependence.kind == "cluster" and self._has_few_clusters:
            lines.append("              compare with wild_cluster_bootstrap, made for few clusters")
        lines += [f"  note        {note}" for note in self.notes]
        lines += [f"  assumes     {text}" for text in self.assumptions]
        return "\n".join(lines)

    def _repeat_lines(self) -> list[str]:
        """Tell how far repeats with other folds and seeds lie apart."""
        if not self.repeats:
            return []
        values = np.stack([repeat.value for repeat in self.repeats])
        return [
            f"  repeats     median of {len(values)} cross-fits; {term} from {low:.4f} to "
            f"{high:.4f}, SD {spread:.4f}, counted in the std. error"
            for term, low, high, spread in zip(
                self.terms,
                values.min(axis=0),
                values.max(axis=0),
                values.std(axis=0, ddof=1),
                strict=True,
            )
        ]

    def _repr_html_(self) -> str:
        from html import escape

        table: str = self.to_dataframe().to_html(index=False, float_format="{:.4f}".format)
        return f"<p><b>{escape(self.estimand)}</b></p>{table}<pre>{escape(self.summary())}</pre>"

    def _axis(self) -> dict[str, Any]:
        return {"reference": 1.0, "xlabel": "Ratio", "unit": None} if self.scale == "log" else {}

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
            scale="identity",
            repeats=tuple(repeat * factor for repeat in self.repeats),
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
        if self.repeats or other.repeats:
            return median_estimate(
                [a._combine(b, sign) for a, b in _pair_repeats(self, other)],
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
            scale="identity",
        )


def median_estimate(estimates: Sequence[Estimate]) -> Estimate:
    """Return the median of repeats of one analysis, whose error counts folds and seeds.

    Parameters
    ----------
    estimates : sequence of Estimate
        Of the same terms and units, from other folds and seeds.

    Returns
    -------
    Estimate
        Value: the median of each term. Variance: the median of ``variance + (value - median)^2``.
        Influence: the mean.

    References
    ----------
    Chernozhukov, V. et al. (2018). Econometrics Journal 21(1), definition 3.3.
    doi:10.1111/ectj.12097

    Examples
    --------
    >>> frame, shift = UnitFrame(pd.RangeIndex(2)), np.array([[-1.0], [1.0]])
    >>> runs = [Estimate(np.array([v]), shift, frame, ("ate",), "x", "y") for v in (1.0, 2.0, 4.0)]
    >>> median_estimate(runs).value.tolist()
    [2.0]
    """
    first = estimates[0]
    if len(estimates) == 1:
        return first
    for other in estimates[1:]:
        check_same_index("repeats", other.frame.units, first.frame.units)
        if other.terms != first.terms:
            raise AlignmentError(f"Repeats must share terms; got {first.terms} and {other.terms}.")
    return replace(
        first,
        value=np.median([estimate.value for estimate in estimates], axis=0),
        influence=np.mean([estimate.influence for estimate in estimates], axis=0),
        notes=tuple(dict.fromkeys(note for estimate in estimates for note in estimate.notes)),
        repeats=tuple(estimates),
    )


def _pair_repeats(one: Estimate, other: Estimate) -> list[tuple[Estimate, Estimate]]:
    """Pair the repeats of two estimates; an estimate without repeats stands in each pair."""
    left, right = one.repeats or (one,), other.repeats or (other,)
    if len(left) != len(right) and min(len(left), len(right)) > 1:
        raise AlignmentError(
            f"Both estimates must have the same number of repeats; got {len(left)} and "
            f"{len(right)}."
        )
    n_pairs = max(len(left), len(right))
    pair = zip(left * (n_pairs // len(left)), right * (n_pairs // len(right)), strict=True)
    return list(pair)


def _spread(estimate: Estimate, frame: UnitFrame) -> Floats:
    """Lay influence values on the units of `frame`; the mean over these stays the same."""
    if frame.units is estimate.frame.units:
        return estimate.influence
    spread = np.zeros((frame.n_units, len(estimate.terms)))
    spread[frame.units.get_indexer(estimate.frame.units)] = estimate.influence
    return spread * (frame.n_units / estimate.n_units)
