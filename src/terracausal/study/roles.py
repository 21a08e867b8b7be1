"""Which column plays which role, and what a column must be to play it."""

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from terracausal._foundation.errors import OverlapError, RoleError, list_some

_MOST_ARMS = 20  # dose_response needs as many different doses


@dataclass(frozen=True)
class Columns:
    """The column in each causal role; see `Study` for what each role means.

    Parameters
    ----------
    outcome, treatment : str
    site, cluster, strata, weight : str, default=None
    covariates : tuple of str, default=()
    propensity : float or str, default=None
    coords : pair of str, default=None
    treatment_date : str or date, default=None

    Examples
    --------
    >>> Columns(outcome="income", treatment="paid").names()
    ['income', 'paid']
    """

    outcome: str
    treatment: str
    site: str | None = None
    covariates: tuple[str, ...] = ()
    cluster: str | None = None
    strata: str | None = None
    weight: str | None = None
    propensity: float | str | None = None
    coords: tuple[str, str] | None = None
    treatment_date: Any = None

    def arguments(self) -> dict[str, Any]:
        """Return the roles as keyword arguments of `Study`."""
        return {item.name: getattr(self, item.name) for item in fields(self)}

    def names(self) -> list[str]:
        """Return all columns that are named."""
        single = [self.outcome, self.treatment, self.site, self.cluster, self.strata, self.weight]
        single += [self.propensity if isinstance(self.propensity, str) else None]
        return [n for n in single if n is not None] + [*self.covariates, *(self.coords or ())]


def check_columns(table: pd.DataFrame, columns: Columns) -> None:
    """Refuse columns that are not there, and covariates that already play another role."""
    if not isinstance(table, pd.DataFrame):
        raise TypeError(f"`table` must be a pandas DataFrame; got {type(table).__name__}.")
    if len(table) == 0:
        raise RoleError("`table` must have at least one unit; it has no rows.")
    doubled = table.columns[table.columns.duplicated()]
    if len(doubled):
        raise RoleError(f"Column names must be unique; doubled: {list_some(doubled)}. Rename them.")
    for role in ("outcome", "treatment"):
        name = getattr(columns, role)
        if name not in table.columns:
            raise RoleError(
                f"The {role} column {name!r} is not in the table, which has "
                f"{list_some(table.columns, 12)}. Name one of these."
            )
    _check_treatment_date(table, columns.treatment_date)
    absent = [name for name in columns.names() if name not in table.columns]
    if absent:
        raise RoleError(
            f"{len(absent)} columns with a role are not in the table: {list_some(absent)}. "
            f"The table has {list_some(table.columns, 12)}."
        )
    causal = [columns.outcome, columns.treatment, *columns.covariates]
    twice = sorted({name for name in causal if causal.count(name) > 1})
    if twice:
        raise RoleError(
            f"A column can be outcome, treatment or covariate, not two of them; {list_some(twice)} "
            "is named more than once."
        )


def _check_treatment_date(table: pd.DataFrame, given: Any) -> None:
    """Refuse a treatment date that is neither a column nor a date."""
    if given is None or (isinstance(given, str) and given in table.columns):
        return
    try:
        pd.Timestamp(given)
    except (TypeError, ValueError) as error:
        raise RoleError(
            f"`treatment_date` must be a date or a column of dates; {given!r} is neither. The "
            f"table has {list_some(table.columns, 12)}."
        ) from error


def check_outcome(outcome: "pd.Series[float]") -> NDArray[np.bool_]:
    """Return which units have an outcome; refuse infinite and textual ones."""
    if not (pd.api.types.is_numeric_dtype(outcome) or pd.api.types.is_bool_dtype(outcome)):
        raise RoleError(
            f"The outcome {outcome.name!r} must be a column of numbers; it holds {outcome.dtype}."
        )
    values = outcome.to_numpy(dtype=np.float64, na_value=np.nan)
    infinite = np.isinf(values)
    if infinite.any():
        raise RoleError(
            f"The outcome {outcome.name!r} must be finite; {int(infinite.sum())} units have "
            f"an infinite outcome: {list_some(outcome.index[infinite])}. A log of zero? Repair it."
        )
    if np.isnan(values).all():
        raise RoleError(f"The outcome {outcome.name!r} is missing for all {len(values)} units.")
    return ~np.isnan(values)


def tell_missing_outcomes(observed: NDArray[np.bool_], treatment: "pd.Series[Any]") -> str:
    """Return how many units had no outcome, and in which arm, as a sentence."""
    n_missing = int((~observed).sum())
    told = f"{n_missing} units ({n_missing / len(observed):.1%}) without an outcome were dropped"
    if not set(pd.unique(treatment)) <= {0, 1}:
        return told
    treated = treatment.to_numpy() == 1
    parts = [
        f"{int((~observed & arm).sum())} of {int(arm.sum())} {word}"
        for word, arm in (("treated", treated), ("control", ~treated))
    ]
    return f"{told}: {parts[0]}, {parts[1]}"


def check_treatment(treatment: "pd.Series[float]") -> None:
    """Refuse a treatment that is missing, not 0/1, or the same for all units."""
    missing = treatment.isna()
    if missing.any():
        raise RoleError(
            f"The treatment {treatment.name!r} must be known for every unit; {int(missing.sum())} "
            f"are missing: {list_some(treatment.index[missing])}. It cannot be imputed: drop these "
            "units if that is right for your design."
        )
    values = list(pd.unique(treatment))
    if not set(values) <= {0, 1}:
        raise RoleError(
            f"The treatment {treatment.name!r} must be 0 or 1 (or False or True); found "
            f"{len(values)} values: {list_some(sorted(values, key=str), 8)}. "
            + _advise_on_arms(treatment, len(values))
        )
    if len(values) < 2:
        raise RoleError(
            f"Both arms are needed; all {len(treatment)} units have treatment "
            f"{int(values[0])} in {treatment.name!r}."
        )


def _advise_on_arms(treatment: "pd.Series[Any]", n_values: int) -> str:
    """Say what to do with a treatment that is not 0 or 1."""
    if n_values <= 2:
        return "Code the control as 0 and the treated as 1."
    if n_values >= _MOST_ARMS and pd.api.types.is_numeric_dtype(treatment):
        return "Use dose_response for a continuous dose."
    return "Use multi_arm_effects for several arms, or code two of them as 0 and 1."


def count_lone_strata(strata: "pd.Series[Any]", treatment: "pd.Series[float]") -> int:
    """Return the number of strata that hold one arm only."""
    return int((treatment.groupby(strata).nunique() < 2).sum())


def check_strata(strata: "pd.Series[Any]", treatment: "pd.Series[float]") -> None:
    """Refuse strata of which none holds both arms."""
    n_strata = strata.nunique()
    if count_lone_strata(strata, treatment) == n_strata:
        raise RoleError(
            f"Treatment is randomised within strata, but it is constant in each of the {n_strata} "
            f"strata of {strata.name!r}, so none compares both arms. Name groups that were "
            "assigned together as `cluster`, or leave `strata` out."
        )


def check_keys_and_numbers(table: pd.DataFrame, columns: Columns) -> None:
    """Refuse missing keys, bad weights, impossible propensities and impossible coordinates."""
    for role in ("site", "cluster", "strata"):
        name = getattr(columns, role)
        if name is not None and table[name].isna().any():
            missing = table[name].isna()
            raise RoleError(
                f"The {role} {name!r} must be known for every unit; {int(missing.sum())} are "
                f"missing: {list_some(table.index[missing])}. Repair the keys or drop the units."
            )
    if columns.weight is not None:
        weight = _numbers(table[columns.weight], "weight")
        bad = ~(np.isfinite(weight) & (weight >= 0))
        if bad.any() or weight.sum() == 0:
            raise RoleError(
                f"The weight {columns.weight!r} must be finite, not negative and not all zero; "
                f"{int(bad.sum())} units break this: {list_some(table.index[bad])}."
            )
    if columns.propensity is not None:
        _check_known_propensity(table, columns.propensity)
    if columns.coords is not None:
        check_lon_lat(table[columns.coords[0]], table[columns.coords[1]])


def _numbers(column: "pd.Series[Any]", role: str) -> NDArray[np.floating[Any]]:
    """Return a column as numbers, NaN where missing; refuse text, with the column named."""
    if not (pd.api.types.is_numeric_dtype(column) or pd.api.types.is_bool_dtype(column)):
        raise RoleError(
            f"The {role} {column.name!r} must be a column of numbers; it holds {column.dtype}. "
            "Convert it with pandas.to_numeric."
        )
    return column.to_numpy(dtype=np.float64, na_value=np.nan)


def _check_known_propensity(table: pd.DataFrame, propensity: float | str) -> None:
    given = table[propensity] if isinstance(propensity, str) else pd.Series([propensity])
    values = _numbers(given, "propensity")
    bad = ~((values > 0) & (values < 1))
    if bad.any():
        where = f" at units {list_some(given.index[bad])}" if isinstance(propensity, str) else ""
        raise OverlapError(
            "A known propensity must lie strictly between 0 and 1; found "
            f"{list_some(values[bad])}{where}. Units that could not be in both arms have no "
            "identified effect: leave them out."
        )


def check_lon_lat(lon: "pd.Series[float]", lat: "pd.Series[float]") -> None:
    """Refuse coordinates that are missing or not degrees, and say when they look swapped."""
    x, y = (_numbers(column, "coordinate") for column in (lon, lat))
    missing = ~(np.isfinite(x) & np.isfinite(y))
    if missing.any():
        raise RoleError(
            f"Coordinates must be known; {int(missing.sum())} units have none: "
            f"{list_some(lon.index[missing])}."
        )
    if (np.abs(y) > 90).any():
        fits = (np.abs(x) <= 90).all() and (np.abs(y) <= 180).all()
        advice = "Longitude and latitude look swapped." if fits else "Are they metres?"
        raise RoleError(
            f"Latitude ({lat.name!r}) must lie within ±90 degrees; found {y.min():g} to "
            f"{y.max():g}. {advice} Give coords=(longitude, latitude) in degrees."
        )
    if str(lon.name).lower().startswith("lat") and str(lat.name).lower().startswith("lon"):
        raise RoleError(
            f"Longitude and latitude look swapped: got coords=({lon.name!r}, {lat.name!r}). "
            "Give coords=(longitude, latitude)."
        )
    if (np.abs(x) > 360).any():
        raise RoleError(
            f"Longitude ({lon.name!r}) must lie within ±360 degrees; found {x.min():g} to "
            f"{x.max():g}. Give coords in degrees (EPSG:4326)."
        )


def tell_absent_sites(
    sites: "pd.Series[Any]", absent: "pd.Series[bool]", lost: pd.Index, known: pd.Index
) -> str:
    """Return which sites have no embedding, and what may be the reason."""
    hint = "Read their chips, or pass missing='drop' to leave these units out (they are counted)."
    if absent.all() and set(map(str, sites)) & set(map(str, known)):
        hint = (
            f"The keys agree as text but not in type: {sites.dtype} in the study, {known.dtype} in "
            "the embeddings. Convert one of them."
        )
    elif absent.all():
        hint = (
            f"The embeddings know none of these sites; theirs are "
            f"{list_some(known, 3)}. Was the table of sites that the chips were read for without "
            "a column 'site', or are the embeddings by unit?"
        )
    return (
        f"Every unit needs an embedding of its site; {len(lost)} sites with "
        f"{int(absent.sum())} units have none: {list_some(lost)}. {hint}"
    )
