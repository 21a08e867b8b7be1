"""The density of a dose given features: location, scale, and the residuals of held-out units.

``dose = location(x) + scale(x) * residual``, where both are predicted by a learner and the
residual is independent of x. Location and scale are learned on part of the clusters and the
residuals taken on the others, so that the residuals are as large as those of new units.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from terracausal.nuisance.fitting import fit_learner, predict_numbers
from terracausal.nuisance.learners import cluster_splits

Floats = NDArray[np.floating[Any]]
_INNER_FOLDS = 3
_CELLS = 801
_TAIL = stats.t(3)


@dataclass(frozen=True)
class ResidualDensity:
    """A kernel density of residuals, to which one unit with a heavy tail is added.

    The added unit, with a t distribution of 3 degrees of freedom, keeps the density of a residual
    beyond all others away from zero.

    Parameters
    ----------
    cells : ndarray of shape (n_cells,)
        Where the kernel density is tabulated.
    density, cumulative : ndarray of shape (n_cells,)
        Kernel density and its integral.
    n_effective : float
        Units behind it, which the added one is weighed against.
    spread : float
        Standard deviation of the residuals.

    Examples
    --------
    >>> found = ResidualDensity.of(np.random.default_rng(0).normal(size=500), np.ones(500))
    >>> bool(abs(found.density_at(np.zeros(1))[0] - 0.4) < 0.05)
    True
    """

    cells: Floats
    density: Floats
    cumulative: Floats
    n_effective: float
    spread: float

    @classmethod
    def of(cls, residual: Floats, weight: Floats) -> "ResidualDensity":
        """Estimate the density of residuals, with the bandwidth of Silverman (1986), eq. 3.31.

        Parameters
        ----------
        residual, weight : ndarray of shape (n_units,)

        Returns
        -------
        ResidualDensity
        """
        share = weight / weight.sum()
        n_effective = float(1 / np.sum(share**2))
        spread = float(np.sqrt(share @ (residual - share @ residual) ** 2))
        low, high = np.quantile(residual, [0.25, 0.75])
        width = 0.9 * (min(spread, (high - low) / 1.34) or spread) * n_effective**-0.2
        edge = 4 * width
        cells = np.linspace(residual.min() - edge, residual.max() + edge, _CELLS)
        density = np.zeros(_CELLS)
        for part in np.array_split(np.arange(len(residual)), 1 + len(residual) // 4000):
            distance = (cells[:, None] - residual[part]) / width
            density += np.exp(-0.5 * distance**2) @ share[part] / (width * np.sqrt(2 * np.pi))
        step = np.diff(cells) * (density[1:] + density[:-1]) / 2
        cumulative = np.concatenate([[0.0], np.cumsum(step)])
        density, cumulative = density / cumulative[-1], cumulative / cumulative[-1]
        return cls(cells, density, cumulative, n_effective, spread)

    def density_at(self, residual: Floats) -> Floats:
        """Return the density, of the shape of `residual`."""
        kernel = np.interp(residual, self.cells, self.density, left=0.0, right=0.0)
        return self._add(kernel, _TAIL.pdf(residual / self.spread) / self.spread)

    def cumulative_at(self, residual: Floats) -> Floats:
        """Return the probability of a smaller residual, of the shape of `residual`."""
        kernel = np.interp(residual, self.cells, self.cumulative, left=0.0, right=1.0)
        return self._add(kernel, _TAIL.cdf(residual / self.spread))

    def _add(self, kernel: Floats, tail: Floats) -> Floats:
        return np.asarray((self.n_effective * kernel + tail) / (self.n_effective + 1))


@dataclass(frozen=True)
class ConditionalDensity:
    """Density of the dose given features, for units that did not train it.

    Parameters
    ----------
    location, log_scale : scikit-learn estimator
        Fitted learners of the dose and of half the log of its squared residual.
    scale_range : pair of float
        Within which predicted log scales are kept: that of the training units.
    residuals : ResidualDensity
        Of the standardised residuals.
    where : str
        What was fitted, for messages.
    """

    location: Any
    log_scale: Any
    scale_range: tuple[float, float]
    residuals: ResidualDensity
    where: str

    def standardise(self, features: pd.DataFrame) -> tuple[Floats, Floats]:
        """Return location and scale of each row.

        Parameters
        ----------
        features : pandas.DataFrame of shape (n_units, n_features)

        Returns
        -------
        location, scale : ndarray of shape (n_units,)
        """
        location = predict_numbers(self.location, features, self.where)
        log_scale = predict_numbers(self.log_scale, features, self.where)
        return location, np.exp(np.clip(log_scale, *self.scale_range))


def fit_density(
    learner: Any,
    features: pd.DataFrame,
    dose: Floats,
    *,
    weight: Floats | None,
    groups: NDArray[np.int64] | None,
    rng: np.random.Generator,
    where: str,
) -> ConditionalDensity:
    """Learn location, scale and the density of held-out residuals.

    Parameters
    ----------
    learner : scikit-learn regressor
        Predicts the dose, and half the log of its squared residual.
    features : pandas.DataFrame of shape (n_units, n_features)
    dose : ndarray of shape (n_units,)
    weight : ndarray of shape (n_units,), default=None
    groups : ndarray of shape (n_units,), default=None
        Clusters, of which whole ones are held out.
    rng : numpy.random.Generator
    where : str
        What is being fitted, for messages.

    Returns
    -------
    ConditionalDensity
    """

    def fit(target: Floats, rows: NDArray[np.intp]) -> Any:
        return fit_learner(
            learner,
            features.iloc[rows],
            target[rows],
            weight=None if weight is None else weight[rows],
            groups=None if groups is None else groups[rows],
            rng=rng,
            task=where,
        )

    def held_out(target: Floats) -> Floats:
        predicted = np.full(len(target), np.nan)
        for train, test in cluster_splits(target, groups, _INNER_FOLDS):
            predicted[test] = predict_numbers(fit(target, train), features.iloc[test], where)
        return predicted

    everyone = np.arange(len(dose))
    residual = dose - held_out(dose)
    # a residual of exactly zero has no log; a thousandth of the spread is as good as zero
    log_size = np.log(np.maximum(np.abs(residual), 1e-3 * residual.std()))
    log_scale = held_out(log_size)
    bounds = (float(log_scale.min()), float(log_scale.max()))
    shape = ResidualDensity.of(
        residual / np.exp(log_scale), np.ones(len(dose)) if weight is None else weight
    )
    return ConditionalDensity(fit(dose, everyone), fit(log_size, everyone), bounds, shape, where)
