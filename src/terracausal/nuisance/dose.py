"""Outcome and density of a continuous dose, predicted for units that the learners have not seen."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.preprocessing import SplineTransformer

from terracausal._foundation.progress import track
from terracausal.nuisance.components import check_components, reduce_and_bound
from terracausal.nuisance.conditional_density import ResidualDensity, fit_density
from terracausal.nuisance.cross_fitting import fold_rows
from terracausal.nuisance.defaults import outcome_learner_of
from terracausal.nuisance.fitting import fit_learner, predict_numbers
from terracausal.study import Folds, Study

Floats = NDArray[np.floating[Any]]
_GRID = 40
_KNOTS = 6
_CELLS_AT_ONCE = 2_000_000
_LINEAR = (None, "ridge", "elastic_net", "logistic")


@dataclass(frozen=True, eq=False)
class DoseNuisances:
    """Out-of-fold predictions behind a dose-response curve, in the order of `units`.

    Parameters
    ----------
    units : pandas.Index of length n_units
    fold : ndarray of shape (n_units,)
    grid : ndarray of shape (n_grid,)
        Doses at which the surfaces are known; between them they are linear.
    outcome_at_own : ndarray of shape (n_units,)
        Predicted outcome at the unit's own dose.
    density_at_own : ndarray of shape (n_units,)
        Density of the unit's own dose given its features.
    outcome, density : ndarray of shape (n_units, n_grid)
        Predicted outcome and density of each unit at the doses of the grid.
    rank : ndarray of shape (n_units,)
        Predicted probability of a dose below the unit's own; uniform if the density is right.
    learners : dict of str to str
        What predicted outcome and dose.
    quality : pandas.DataFrame
        Out-of-fold fit: columns nuisance, metric, value, baseline.
    """

    units: pd.Index
    fold: NDArray[np.int64]
    grid: Floats
    outcome_at_own: Floats
    density_at_own: Floats
    outcome: Floats = field(repr=False)
    density: Floats = field(repr=False)
    rank: Floats = field(repr=False)
    learners: dict[str, str]
    quality: pd.DataFrame = field(repr=False)


@dataclass(frozen=True)
class _DoseWork:
    """Arrays, features and learners that every fold needs, in canonical order."""

    study: Study
    dose: Floats
    outcome: Floats
    weight: Floats | None
    groups: NDArray[np.int64] | None
    grid: Floats
    features: dict[str, pd.DataFrame]
    learners: dict[str, Any]
    n_components: int | None
    is_linear: bool

    def reduced(self, train: NDArray[np.bool_]) -> dict[str, pd.DataFrame]:
        """Return the features, with embeddings reduced to, and bounded by, the training rows."""
        names = frozenset(self.study.embedding_columns)
        return {
            task: reduce_and_bound(table, names, self.n_components, train)
            for task, table in self.features.items()
        }


def cross_fit_dose(
    study: Study,
    dose: "pd.Series[float]",
    folds: Folds,
    *,
    outcome_learner: Any = None,
    dose_learner: Any = None,
    n_components: int | None = None,
    rng: np.random.Generator,
) -> DoseNuisances:
    """Predict the outcome at every dose, and the density of the dose, from the other folds.

    Parameters
    ----------
    study : Study
        In canonical order. Its treatment is not used.
    dose : pandas.Series of shape (n_units,)
        By unit.
    folds : Folds
        Of the same study, of whole clusters.
    outcome_learner : str or scikit-learn regressor, default=None
        As in `cross_fit`. Penalised regressions see cubic splines of the dose, and the dose times
        each feature; other learners see the dose as one column more.
    dose_learner : str or scikit-learn regressor, default=None
        Predicts location and scale of the dose: "ridge" (None), "elastic_net", "boosting" or any
        regressor.
    n_components : int, default=None
        As in `cross_fit`.
    rng : numpy.random.Generator

    Returns
    -------
    DoseNuisances
    """
    work = _work_of(study, dose, outcome_learner, dose_learner, n_components)
    _, splits = fold_rows(study, folds)
    if n_components is not None:
        for train, _ in splits:
            check_components(n_components, study, train)
    found: dict[str, Floats] = {}
    for fold, (train, test) in enumerate(track(splits, "cross-fitting the dose", len(splits))):
        features, (of_dose, of_outcome) = work.reduced(train), rng.spawn(2)
        held_out = _predict_dose(work, features["propensity"], train, test, of_dose, fold)
        held_out |= _predict_outcome(work, features["outcome"], train, test, of_outcome, fold)
        for name, values in held_out.items():
            whole = found.setdefault(name, np.full((study.n_units, *values.shape[1:]), np.nan))
            whole[test] = values
    outcome, dose_name = (" ".join(repr(work.learners[task]).split()) for task in work.learners)
    return DoseNuisances(
        study.units,
        np.asarray(folds.labels.loc[study.units], dtype=np.int64),
        work.grid,
        found["outcome_at_own"],
        found["density_at_own"],
        found["outcome"],
        found["density"],
        found["rank"],
        {
            "outcome": f"{outcome} on dose and features",
            "dose": f"location and scale by {dose_name}, kernel density of held-out residuals",
        },
        _quality(work, found),
    )


def _work_of(
    study: Study,
    dose: "pd.Series[float]",
    outcome_learner: Any,
    dose_learner: Any,
    n_components: int | None,
) -> _DoseWork:
    features = {task: study.features(task) for task in ("propensity", "outcome")}
    values, weight = dose.loc[study.units].to_numpy(dtype=np.float64), study.weight
    is_linear = outcome_learner is None or (
        isinstance(outcome_learner, str) and outcome_learner in _LINEAR
    )
    # dense where units are, and never far apart; both ends are in it
    even = np.linspace(values.min(), values.max(), _GRID)
    grid = np.unique([*np.quantile(values, np.linspace(0, 1, _GRID)), *even])
    return _DoseWork(
        study,
        values,
        study.outcome.to_numpy(),
        None if weight is None else (weight / weight.mean()).to_numpy(),
        study.frame.cluster_codes,
        grid,
        features,
        {
            # the dose itself is a feature of the outcome
            "outcome": outcome_learner_of(outcome_learner, 1 + features["outcome"].shape[1]),
            "dose": outcome_learner_of(dose_learner, features["propensity"].shape[1]),
        },
        n_components,
        is_linear,
    )


@dataclass(frozen=True)
class _Beside:
    """Puts the dose beside features: as a number, and for linear learners as splines too."""

    centre: float
    spread: float
    splines: SplineTransformer | None

    @classmethod
    def learn(cls, dose: Floats, *, is_linear: bool) -> "_Beside":
        """Learn the standardisation and the knots from the doses of training units."""
        splines = SplineTransformer(_KNOTS, knots="quantile", extrapolation="linear")
        fitted = splines.fit(dose[:, None]) if is_linear else None
        return cls(float(dose.mean()), float(dose.std()), fitted)

    def __call__(self, features: pd.DataFrame, dose: Floats) -> pd.DataFrame:
        """Return the features with columns of the dose, and products with it if linear."""
        unit = (dose - self.centre) / self.spread
        parts = [features, pd.DataFrame({"dose": unit}, index=features.index)]
        if self.splines is not None:
            columns = pd.DataFrame(self.splines.transform(dose[:, None]), index=features.index)
            parts += [
                columns.add_prefix("dose spline "),
                (features * unit[:, None]).add_prefix("dose × "),
            ]
        return pd.concat(parts, axis=1)


def _predict_dose(
    work: _DoseWork,
    features: pd.DataFrame,
    train: NDArray[np.bool_],
    test: NDArray[np.bool_],
    rng: np.random.Generator,
    fold: int,
) -> dict[str, Floats]:
    """Return the density of the held-out units at their own dose and at all doses of the grid."""
    fitted = fit_density(
        work.learners["dose"],
        features.loc[train],
        work.dose[train],
        weight=None if work.weight is None else work.weight[train],
        groups=None if work.groups is None else work.groups[train],
        rng=rng,
        where=f"the dose learner on fold {fold}",
    )
    location, scale = fitted.standardise(features.loc[test])
    residual = (work.dose[test] - location) / scale
    elsewhere = (work.grid - location[:, None]) / scale[:, None]
    return {
        "location": location,
        "rank": fitted.residuals.cumulative_at(residual),
        "density_at_own": fitted.residuals.density_at(residual) / scale,
        "density": fitted.residuals.density_at(elsewhere) / scale[:, None],
    }


def _predict_outcome(
    work: _DoseWork,
    features: pd.DataFrame,
    train: NDArray[np.bool_],
    test: NDArray[np.bool_],
    rng: np.random.Generator,
    fold: int,
) -> dict[str, Floats]:
    """Return the outcome of the held-out units at their own dose and at all doses of the grid."""
    where = f"the outcome learner on fold {fold}"
    beside = _Beside.learn(work.dose[train], is_linear=work.is_linear)
    fitted = fit_learner(
        work.learners["outcome"],
        beside(features.loc[train], work.dose[train]),
        work.outcome[train],
        weight=None if work.weight is None else work.weight[train],
        groups=None if work.groups is None else work.groups[train],
        rng=rng,
        task=where,
    )
    held_out = features.loc[test]
    return {
        "outcome_at_own": predict_numbers(fitted, beside(held_out, work.dose[test]), where),
        "outcome": np.column_stack(
            [
                _surface(fitted, held_out, part, beside, where)
                for part in _parts(work.grid, held_out)
            ]
        ),
    }


def _parts(grid: Floats, held_out: pd.DataFrame) -> list[Floats]:
    """Split the grid so that rows times doses, predicted at once, stay within memory."""
    n_parts = np.ceil(held_out.size * len(grid) / _CELLS_AT_ONCE)
    return np.array_split(grid, int(min(max(n_parts, 1), len(grid))))


def _surface(
    fitted: Any,
    held_out: pd.DataFrame,
    doses: Floats,
    beside: _Beside,
    where: str,
) -> Floats:
    """Predict each unit at each dose, of shape (n_units, n_doses)."""
    rows = np.repeat(np.arange(len(held_out)), len(doses))
    everywhere = beside(held_out.iloc[rows], np.tile(doses, len(held_out)))
    return predict_numbers(fitted, everywhere, where).reshape(len(held_out), len(doses))


def _quality(work: _DoseWork, found: dict[str, Floats]) -> pd.DataFrame:
    """Return out-of-fold R² of outcome and dose, the log density, and how far ranks are off."""

    def r_squared(target: Floats, predicted: Floats) -> float:
        return float(1 - ((target - predicted) ** 2).mean() / target.var())

    ranks, n_units = np.sort(found["rank"]), len(work.dose)
    off = float(np.abs((np.arange(n_units) + 0.5) / n_units - ranks).max())
    centred = work.dose - work.dose.mean()
    weight = np.ones(n_units) if work.weight is None else work.weight
    marginal = ResidualDensity.of(centred, weight).density_at(centred)
    own = float(np.log(found["density_at_own"]).mean())
    rows = [
        ("outcome", "R²", r_squared(work.outcome, found["outcome_at_own"]), 0.0),
        ("dose", "R²", r_squared(work.dose, found["location"]), 0.0),
        ("dose", "mean log density", own, float(np.log(marginal).mean())),
        ("dose", "largest error of ranks", off, 0.0),
    ]
    return pd.DataFrame(rows, columns=["nuisance", "metric", "value", "baseline"])
