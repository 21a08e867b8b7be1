"""What a dose-response curve is: spline coefficients with influence values, and its bands."""

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from terracausal._foundation.checks import check_fraction
from terracausal._foundation.errors import OverlapError, list_some
from terracausal.effects.dose_spline import DoseSpline
from terracausal.study import Estimate
from terracausal.study.result import TabularResult
from terracausal.study.simultaneous import draw_statistics
from terracausal.study.units import Kernel, StdErrorKind

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Floats = NDArray[np.floating[Any]]
_DRAWS = 10_000


@dataclass(frozen=True, eq=False)
class DoseResponse(TabularResult):
    """The mean outcome if all units got the same dose, for a range of doses.

    Parameters
    ----------
    doses : ndarray of shape (n_doses,)
        Where the curve is told.
    coefficients : Estimate
        One term per spline; the curve, its contrasts and slopes are combinations of these.
    spline : DoseSpline
    support : pair of float
        Doses beyond these are refused.
    average_slope : Estimate
        Mean derivative of the curve over the units with a dose within the support: what a unit more
        of the dose does on average. It leans on the ends of the curve, where the jackknife is
        cautious: with 100 clusters its standard error was up to twice its standard deviation.
    treatment : str
        Name of the dose.
    learners : dict of str to str
        What predicted outcome and dose.
    quality : pandas.DataFrame
        Their fit on held-out units: columns nuisance, metric, value, baseline.
    effective_units : float
        Kish's effective number of units after balancing the features across doses.
    seed : int
        Of the draws behind the uniform band.

    Examples
    --------
    >>> from terracausal.effects import dose_response
    >>> rng = np.random.default_rng(0)
    >>> table = pd.DataFrame({"dose": rng.uniform(size=200)})
    >>> table["y"] = table["dose"] + rng.normal(size=200)
    >>> curve = dose_response(table, treatment="dose", outcome="y", random_state=0)
    >>> curve.contrast(0.2, 0.8).terms
    ('0.8 − 0.2',)
    """

    doses: Floats
    coefficients: Estimate = field(repr=False)
    spline: DoseSpline = field(repr=False)
    support: tuple[float, float]
    average_slope: Estimate
    treatment: str
    learners: dict[str, str] = field(repr=False)
    quality: pd.DataFrame = field(repr=False)
    effective_units: float
    seed: int = field(repr=False)

    @cached_property
    def curve(self) -> Estimate:
        """The curve as an estimate with one term per dose."""
        return combine(
            self.coefficients,
            self.spline.basis(self.doses),
            tuple(f"{dose:g}" for dose in self.doses),
            f"mean outcome if every unit had the same {self.treatment!r}",
        )

    @property
    def value(self) -> Floats:
        """Mean outcome at each dose, of shape (n_doses,)."""
        return self.curve.value

    @property
    def std_error(self) -> Floats:
        """Standard error at each dose, of shape (n_doses,)."""
        return self.curve.std_error

    @property
    def assumptions(self) -> tuple[str, ...]:
        """What must hold for the curve to be causal."""
        return self.coefficients.assumptions

    @property
    def notes(self) -> tuple[str, ...]:
        """What was done to the data."""
        return self.coefficients.notes

    def confint(self, level: float = 0.95) -> Floats:
        """Return pointwise intervals, each of which holds with probability `level`.

        Parameters
        ----------
        level : float, default=0.95
            Coverage.

        Returns
        -------
        ndarray of shape (n_doses, 2)
        """
        return self.curve.confint(level)

    def band(self, level: float = 0.95) -> Floats:
        """Return the uniform band, which holds the whole curve with probability `level`.

        Parameters
        ----------
        level : float, default=0.95
            Coverage.

        Returns
        -------
        ndarray of shape (n_doses, 2)
            At the doses of the curve.
        """
        half = self.critical_value(level) * self.std_error
        return np.column_stack([self.value - half, self.value + half])

    def critical_value(self, level: float = 0.95) -> float:
        """Return how many standard errors the uniform band reaches to either side.

        Parameters
        ----------
        level : float, default=0.95
            Coverage.

        Returns
        -------
        float
        """
        return float(np.quantile(self._largest, check_fraction("level", level)))

    @cached_property
    def _largest(self) -> Floats:
        """Draws of the largest absolute t statistic over the doses, of shape (n_draws,)."""
        rng = np.random.default_rng(self.seed)
        freedom = self.curve.degrees_of_freedom
        draws = draw_statistics(self.curve.covariance, freedom, _DRAWS, rng)
        return np.asarray(np.abs(draws).max(axis=1))

    def contrast(self, low: float, high: float) -> Estimate:
        """Return the effect of one dose against another on the mean outcome.

        Parameters
        ----------
        low, high : float
            Doses within the support; the outcome at `low` is subtracted from that at `high`.

        Returns
        -------
        Estimate
            One term.

        Raises
        ------
        OverlapError
            A dose lies outside the support.
        """
        ends = check_doses(np.array([low, high], dtype=np.float64), self.support, self.treatment)
        basis = self.spline.basis(ends)
        return combine(
            self.coefficients,
            basis[1:] - basis[:1],
            (f"{high:g} − {low:g}",),
            f"average effect of {self.treatment!r} = {high:g} against {low:g} on all units",
        )

    def with_std_error(
        self, kind: StdErrorKind, *, cutoff_m: float | None = None, kernel: Kernel = "bartlett"
    ) -> "DoseResponse":
        """Return the same curve with another standard error, and bands from it.

        Parameters
        ----------
        kind : {"hc", "cluster", "conley"}
        cutoff_m : float, default=None
            For "conley": metres beyond which units are independent.
        kernel : {"bartlett", "uniform"}, default="bartlett"
            For "conley".

        Returns
        -------
        DoseResponse
        """
        changed = {
            name: getattr(self, name).with_std_error(kind, cutoff_m=cutoff_m, kernel=kernel)
            for name in ("coefficients", "average_slope")
        }
        return replace(self, **changed)

    def to_dataframe(self, level: float = 0.95) -> pd.DataFrame:
        """Return one row per dose.

        Parameters
        ----------
        level : float, default=0.95
            Coverage of the intervals and of the band.

        Returns
        -------
        pandas.DataFrame
            Columns term (the dose), estimate, std_error, ci_low, ci_high, level, n_units,
            n_clusters, and band_low, band_high of the uniform band.
        """
        table, band = self.curve.to_dataframe(level), self.band(level)
        return table.assign(term=self.doses, band_low=band[:, 0], band_high=band[:, 1])

    def summary(self, level: float = 0.95) -> str:
        """Return range, contrast of the ends, slope and what they rest on, as text.

        Parameters
        ----------
        level : float, default=0.95
            Coverage of the intervals.

        Returns
        -------
        str
        """
        low, high = self.doses[0], self.doses[-1]
        lines = [
            f"Dose-response curve: {self.curve.estimand}",
            f"  method      {self.coefficients.method}",
            f"  doses       {low:g} to {high:g}; refused beyond {self.support[0]:g} and "
            f"{self.support[1]:g}",
        ]
        parts = [("slope", self.average_slope)]
        if len(self.doses) > 1:
            parts.insert(0, ("effect", self.contrast(float(low), float(high))))
        for word, found in parts:
            (from_, to), term = found.confint(level)[0], found.terms[0]
            lines.append(
                f"  {word:<11} {term}: {found.value[0]:.4f} (std. error {found.std_error[0]:.4f}), "
                f"{level:.0%} interval {from_:.4f} to {to:.4f}, p = {found.p_value[0]:.3g}"
            )
        lines += [
            f"  bands       pointwise ± {self._pointwise(level):.2f}, uniform ± "
            f"{self.critical_value(level):.2f} standard errors",
            f"  std. error  {self.curve.describe_std_error()}; {self.curve.n_units:,} units, "
            f"{self.effective_units:,.0f} effective after balancing",
        ]
        for name, learner in self.learners.items():
            told = "".join(
                f"; {row.metric} {row.value:.3f} (baseline {row.baseline:.3f})"
                for row in self.quality.loc[self.quality["nuisance"] == name].itertuples()
            )
            lines.append(f"  {name:<11} {learner}{told}")
        lines += [f"  note        {note}" for note in self.notes]
        lines += [f"  assumes     {text}" for text in self.assumptions]
        return "\n".join(lines)

    def _pointwise(self, level: float) -> float:
        half = np.diff(self.confint(level), axis=1)[:, 0] / 2
        return float(np.median(half / self.std_error))

    def plot(self, ax: "Axes | None" = None, level: float = 0.95) -> "Axes":
        """Draw the curve with both bands.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, default=None
            Where to draw; None makes a new figure.
        level : float, default=0.95
            Coverage of both bands.

        Returns
        -------
        matplotlib.axes.Axes
        """
        from terracausal.plotting import plot_dose_response

        return plot_dose_response(self.to_dataframe(level), ax=ax, xlabel=self.treatment)


def combine(
    coefficients: Estimate, matrix: Floats, terms: tuple[str, ...], estimand: str
) -> Estimate:
    """Return linear combinations of the terms of an estimate.

    Parameters
    ----------
    coefficients : Estimate
    matrix : ndarray of shape (n_new, n_terms)
    terms : tuple of str
        One for each row.
    estimand : str

    Returns
    -------
    Estimate
    """
    return replace(
        coefficients,
        value=matrix @ coefficients.value,
        influence=coefficients.influence @ matrix.T,
        terms=terms,
        estimand=estimand,
    )


def check_doses(doses: Floats, support: tuple[float, float], treatment: str) -> Floats:
    """Return doses that are finite and within the support.

    Parameters
    ----------
    doses : ndarray of shape (n_doses,)
    support : pair of float
    treatment : str
        For the message.

    Returns
    -------
    ndarray of shape (n_doses,)
    """
    if not np.isfinite(doses).all():
        raise ValueError(
            f"Doses must be finite; {int((~np.isfinite(doses)).sum())} of {len(doses)} are not."
        )
    outside = doses[(doses < support[0]) | (doses > support[1])]
    if len(outside):
        raise OverlapError(
            f"The curve is known where the data are: doses of {treatment!r} from {support[0]:g} to "
            f"{support[1]:g}, the middle 95 % of the units; {len(outside)} of {len(doses)} lie "
            f"outside: {list_some(outside)}. Choose doses within."
        )
    return doses
