"""Whether residuals and scores are alike at places that are near each other."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
from scipy import stats
from scipy.sparse import csr_matrix

from terracausal._foundation.checks import (
    check_count,
    check_finite,
    check_positive,
    check_same_index,
)
from terracausal._foundation.errors import RoleError, list_some
from terracausal._foundation.randomness import RandomState, random_generator
from terracausal.evaluation.moran import (
    Floats,
    distance_weights,
    moran_moments,
    morans_i,
    nearest_weights,
    permuted_morans,
)
from terracausal.nuisance import Scores
from terracausal.study.result import TabularResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_FEWEST_PLACES = 10
_WORDS = {
    "score": "doubly robust score",
    "outcome_residual": "outcome less its prediction",
    "treatment_residual": "treatment less propensity",
}


@dataclass(frozen=True, eq=False)
class SpatialAutocorrelation(TabularResult):
    """Moran's I of one or several values.

    Parameters
    ----------
    table : pandas.DataFrame
        One row per value: `value`, its name; `moran`; `expected` without spatial dependence;
        `null_low` and `null_high`, between which 95 % of draws without dependence lie; `z`, from
        the moments over permutations; `p_value`, one-sided, of positive autocorrelation.
    n_places : int
        Distinct places.
    n_units : int
    neighbors : str
        Which places count as neighbours, in words.
    n_permutations : int
        0 where the p-value is analytic.

    Examples
    --------
    >>> coords = pd.DataFrame({"lon": np.arange(20.0), "lat": 0.0})
    >>> spatial_autocorrelation(coords["lon"], coords, n_neighbors=2, random_state=0).n_places
    20
    """

    table: pd.DataFrame
    n_places: int
    n_units: int
    neighbors: str
    n_permutations: int

    def to_dataframe(self) -> pd.DataFrame:
        """Return a copy of the table."""
        return self.table.copy()

    def summary(self) -> str:
        """Return Moran's I of each value in words."""
        how = f"{self.n_permutations:,} permutations" if self.n_permutations else "normal moments"
        lines = [
            f"Spatial autocorrelation of {self.n_units:,} units at {self.n_places:,} places",
            f"  neighbours  {self.neighbors}; p-values from {how}",
        ]
        for row in self.table.itertuples():
            lines.append(
                f"  {_WORDS.get(str(row.value), row.value)}: Moran's I {row.moran:.3f} "
                f"(expected {row.expected:.3f}, z = {row.z:.1f}, p = {row.p_value:.3g})"
            )
        if (self.table["p_value"] < 0.05).any():
            lines.append(
                "  advice      consider Conley standard errors, spatial blocks as folds, or the "
                "coordinates as covariates"
            )
        return "\n".join(lines)

    def plot(self, ax: "Axes | None" = None) -> "Axes":
        """Draw each Moran's I beside what chance alone gives.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, default=None
            Where to draw; None makes a new figure.

        Returns
        -------
        matplotlib.axes.Axes
        """
        from terracausal.plotting import plot_autocorrelation

        shown = self.table.assign(value=self.table["value"].replace(_WORDS))
        return plot_autocorrelation(shown, ax=ax)


def spatial_autocorrelation(
    values: "Scores | pd.Series[float] | pd.DataFrame",
    coordinates: pd.DataFrame | None = None,
    *,
    n_neighbors: int = 8,
    cutoff_m: float | None = None,
    n_permutations: int = 999,
    random_state: RandomState = None,
) -> SpatialAutocorrelation:
    """Test whether values are alike at places near each other (Moran's I).

    Parameters
    ----------
    values : Scores, pandas.Series or pandas.DataFrame of shape (n_units, any)
        Scores stand for the scores, for the outcome less its prediction for the unit's own arm, and
        for the treatment less the propensity, all out of fold.
    coordinates : pandas.DataFrame of shape (n_units, 2), default=None
        Columns lon and lat in degrees, by unit. None takes those of the scores.
    n_neighbors : int, default=8
        Nearest places that count as neighbours.
    cutoff_m : float, default=None
        Take all places within this many metres instead.
    n_permutations : int, default=999
        Permutations of the places for the p-value; 0 takes the normal approximation.
    random_state : None, int or Generator, default=None
        Seed of the permutations.

    Returns
    -------
    SpatialAutocorrelation

    Raises
    ------
    RoleError
        There are no coordinates, fewer than 10 places or no neighbours, or a value is the same
        everywhere.

    Notes
    -----
    Units of one place are averaged first: clustered standard errors are for what they share. The
    weights of a place's neighbours are equal and add up to 1. Cliff & Ord (1981), Spatial
    Processes. Unit weights are not used.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> coords = pd.DataFrame(rng.uniform(0, 1, (200, 2)), columns=["lon", "lat"])
    >>> smooth = np.sin(6 * coords["lon"]).rename("smooth")
    >>> bool(spatial_autocorrelation(smooth, coords, random_state=0).table["moran"][0] > 0.8)
    True
    """
    check_count("n_neighbors", n_neighbors)
    check_count("n_permutations", n_permutations, minimum=0)
    if cutoff_m is not None:
        check_positive("cutoff_m", cutoff_m)
    table, where = _table_of(values, coordinates)
    places = _places(table, where)
    weights, words = _weights(places, n_neighbors, cutoff_m)
    z = places.values
    moran = morans_i(z, weights)
    mean, variance = moran_moments(z, weights)
    score = (moran - mean) / np.sqrt(variance)
    half = 1.96 * np.sqrt(variance)
    low, high, p_value = mean - half, mean + half, stats.norm.sf(score)
    if n_permutations:
        draws = permuted_morans(z, weights, n_permutations, random_generator(random_state))
        low, high = np.quantile(draws, [0.025, 0.975], axis=0)
        # as many hits as rounding leaves equal, and the found one itself
        p_value = (1 + (draws >= moran - 1e-12).sum(axis=0)) / (1 + n_permutations)
    found = pd.DataFrame(
        {
            "value": [str(name) for name in table.columns],
            "moran": moran,
            "expected": mean,
            "null_low": low,
            "null_high": high,
            "z": score,
            "p_value": p_value,
        }
    )
    return SpatialAutocorrelation(found, len(z), len(table), words, n_permutations)


def residuals_of(scores: Scores) -> pd.DataFrame:
    """Return the scores, and the out-of-fold residuals of outcome and treatment.

    Parameters
    ----------
    scores : Scores

    Returns
    -------
    pandas.DataFrame of shape (n_units, at most 3)
        Columns score, outcome_residual and treatment_residual, as far as the scores can tell.

    Examples
    --------
    >>> table = pd.DataFrame({"score": [1.0, 2], "treatment": [0, 1], "propensity": [0.4, 0.5]})
    >>> residuals_of(Scores.from_dataframe(table))["treatment_residual"].tolist()
    [-0.4, 0.5]
    """
    table, parts = scores.table, {"score": scores.score}
    known = set(table.columns)
    if {"outcome", "treatment", "outcome_control", "outcome_treated"} <= known:
        own = table["outcome_treated"].where(table["treatment"] == 1, table["outcome_control"])
        parts["outcome_residual"] = table["outcome"] - own
    if {"treatment", "propensity"} <= known:
        parts["treatment_residual"] = table["treatment"] - table["propensity"]
    return pd.DataFrame(parts)


class _Places(NamedTuple):
    lon: Floats
    lat: Floats
    values: Floats


def _table_of(
    values: "Scores | pd.Series[float] | pd.DataFrame", coordinates: pd.DataFrame | None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the values and the coordinates of units, in the order of their keys."""
    if isinstance(values, Scores):
        table = residuals_of(values)
        coordinates = values.frame.coordinates if coordinates is None else coordinates
    else:
        table = pd.DataFrame(values)
        if isinstance(values, pd.Series) and values.name is None:
            table.columns = pd.Index(["value"])
    if coordinates is None:
        raise RoleError(
            "Spatial autocorrelation needs places; found none. Name the columns when the study is "
            "made, coords=('lon', 'lat'), or pass `coordinates`."
        )
    if not {"lon", "lat"} <= set(coordinates.columns):
        raise RoleError(
            "`coordinates` needs the columns lon and lat in degrees; it has "
            f"{list_some(coordinates.columns)}."
        )
    check_same_index("coordinates", coordinates.index, table.index)
    table = table.sort_index(kind="stable")
    return table, coordinates.loc[table.index, ["lon", "lat"]]


def _places(table: pd.DataFrame, where: pd.DataFrame) -> _Places:
    """Average the values over the units of each place."""
    values, degrees = check_finite("values", table), check_finite("coordinates", where)
    unique, place = np.unique(degrees, axis=0, return_inverse=True)
    place = place.reshape(-1)
    counts = np.bincount(place)
    if len(unique) < _FEWEST_PLACES:
        raise RoleError(
            f"Spatial autocorrelation needs at least {_FEWEST_PLACES} distinct places; found "
            f"{len(unique)}."
        )
    means = np.column_stack([np.bincount(place, weights=x) / counts for x in values.T])
    spread = means.std(axis=0)
    flat = spread <= 1e-12 * np.maximum(1.0, np.abs(means.mean(axis=0)))
    if flat.any():
        raise RoleError(
            f"Values must differ between places; {list_some(table.columns[flat])} do not."
        )
    return _Places(unique[:, 0], unique[:, 1], means)


def _weights(places: _Places, n_neighbors: int, cutoff_m: float | None) -> tuple[csr_matrix, str]:
    n_places = len(places.lon)
    if cutoff_m is None:
        if n_neighbors >= n_places:
            raise RoleError(
                f"`n_neighbors` must be below the number of places, {n_places}; got {n_neighbors}."
            )
        weights = nearest_weights(places.lon, places.lat, n_neighbors)
        return weights, f"the {n_neighbors} nearest places"
    weights = distance_weights(places.lon, places.lat, cutoff_m)
    alone = int((np.diff(weights.indptr) == 0).sum())
    if alone == n_places:
        raise RoleError(f"No two places are within {cutoff_m:g} m of each other; take more.")
    words = f"all places within {cutoff_m / 1000:g} km"
    return weights, f"{words}; {alone:,} places have none" if alone else words
