"""Covariates as numbers: one stated rule for categories and for missing values."""

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from terracausal._foundation.checks import check_choice
from terracausal._foundation.errors import RoleError, list_some

Task = Literal["propensity", "outcome", "effect"]
EffectFeatures = Literal["all", "embeddings", "covariates"]

_ROLES_OF_TASK: dict[str, tuple[str, ...]] = {
    "propensity": ("confounder", "both"),
    "outcome": ("confounder", "modifier", "both"),
    "effect": ("confounder", "modifier", "both"),
}


@dataclass(frozen=True)
class CovariateEncoding:
    """How each covariate becomes columns of numbers.

    Numbers stay; a missing number becomes the median of the study, and a column
    ``NAME_missing`` tells so. A category becomes one column for each level but the first
    (levels sorted); a missing category is a level of its own.

    Parameters
    ----------
    medians : dict of str to float
        The numeric covariates and their medians.
    flagged : dict of str to int
        The numeric covariates with missing values, and how many.
    levels : dict of str to tuple of str
        The categorical covariates and their levels.
    absent : dict of str to int
        The categorical covariates with missing values, and how many.

    Examples
    --------
    >>> table = pd.DataFrame({"age": [20.0, None, 40.0], "sex": ["f", "m", "f"]})
    >>> CovariateEncoding.learn(table).transform(table).columns.tolist()
    ['age', 'age_missing', 'sex=m']
    """

    medians: dict[Hashable, float]
    flagged: dict[Hashable, int]
    levels: dict[Hashable, tuple[str, ...]]
    absent: dict[Hashable, int]

    @property
    def columns(self) -> tuple[Hashable, ...]:
        """Names of the covariates that go in."""
        return (*self.medians, *self.levels)

    @classmethod
    def learn(cls, table: pd.DataFrame) -> "CovariateEncoding":
        """Learn medians and levels; refuse constant and infinite columns.

        Parameters
        ----------
        table : pandas.DataFrame of shape (n_units, n_covariates)

        Returns
        -------
        CovariateEncoding
        """
        medians: dict[Hashable, float] = {}
        flagged: dict[Hashable, int] = {}
        levels: dict[Hashable, tuple[str, ...]] = {}
        absent: dict[Hashable, int] = {}
        for name, column in table.items():
            present = column.dropna()
            n_values = present.nunique() + int(column.isna().any())
            if n_values < 2 or len(present) == 0:
                found = (
                    f"only the value {list_some(present[:1])}"
                    if len(present)
                    else "no value at all"
                )
                raise RoleError(
                    f"The covariate {name!r} is constant: expected at least two values, found "
                    f"{found} in {len(column)} units. Leave it out of `covariates`."
                )
            if pd.api.types.is_bool_dtype(column) or pd.api.types.is_numeric_dtype(column):
                numbers = column.astype("float64")
                n_infinite = int(np.isinf(numbers).sum())
                if n_infinite:
                    raise RoleError(
                        f"The covariate {name!r} must be finite; {n_infinite} values are infinite. "
                        "Set them to NaN (they are then imputed and flagged) or drop the units."
                    )
                medians[name] = float(numbers.median())
                if numbers.isna().any():
                    flagged[name] = int(numbers.isna().sum())
            elif pd.api.types.is_datetime64_any_dtype(column):
                raise RoleError(
                    f"The covariate {name!r} holds dates; expected numbers or categories. "
                    "Turn it into a number, such as days since a fixed date."
                )
            else:
                levels[name] = tuple(sorted(_category(column).unique()))
                if column.isna().any():
                    absent[name] = int(column.isna().sum())
        return cls(medians, flagged, levels, absent)

    def transform(self, table: pd.DataFrame) -> pd.DataFrame:
        """Return the columns of numbers for any table that has the covariates.

        Parameters
        ----------
        table : pandas.DataFrame of shape (n_units, any)

        Returns
        -------
        pandas.DataFrame of shape (n_units, n_columns)
        """
        absent = [name for name in self.columns if name not in table.columns]
        if absent:
            raise RoleError(
                f"The table lacks {len(absent)} covariates: {list_some(absent)}. It has "
                f"{list_some(table.columns, 8)}. Add the missing columns."
            )
        flags = self._flag_names()
        parts: dict[str, pd.Series[float]] = {}
        for name, median in self.medians.items():
            numbers = table[name].astype("float64")
            parts[str(name)] = numbers.fillna(median)
            if name in self.flagged:
                parts[flags[name]] = numbers.isna().astype("float64")
        for name, levels in self.levels.items():
            category = _category(table[name])
            unknown = sorted(set(category) - set(levels))
            if unknown:
                raise RoleError(
                    f"The covariate {name!r} has {len(unknown)} levels that the study had not: "
                    f"{list_some(unknown)}. Known levels: {list_some(levels, 8)}."
                )
            for level in levels[1:]:
                parts[f"{name}={level}"] = (category == level).astype("float64")
        return pd.DataFrame(parts, index=table.index, dtype="float64")

    def _flag_names(self) -> dict[Hashable, str]:
        """Name the flag of each covariate with missing values, unlike any covariate."""
        taken = {str(name) for name in self.columns}
        flags: dict[Hashable, str] = {}
        for name in self.flagged:
            flag = f"{name}_missing"
            while flag in taken:
                flag += "_"
            taken.add(flag)
            flags[name] = flag
        return flags

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns that come out."""
        dummies = [f"{name}={level}" for name, of in self.levels.items() for level in of[1:]]
        return (*map(str, self.medians), *self._flag_names().values(), *dummies)

    def describe(self) -> list[str]:
        """Return one line for each covariate with missing values."""
        flags = self._flag_names()
        return [
            f"{name}: {count} missing values set to the median {self.medians[name]:.4g} and "
            f"flagged by {flags[name]}"
            for name, count in self.flagged.items()
        ] + [
            f"{name}: {count} missing values taken as a level of their own"
            for name, count in self.absent.items()
        ]


def _category(column: "pd.Series[str]") -> "pd.Series[str]":
    return column.astype("object").where(column.notna(), "missing").astype(str)


@dataclass(frozen=True)
class FeatureSchema:
    """Which columns a learner of each task sees, and how they become numbers.

    Parameters
    ----------
    encoding : CovariateEncoding
        How covariates become numbers.
    stratum : str, default=None
        Column with the stratum.
    strata : tuple, default=()
        All strata of the study, sorted.
    embeddings : tuple of (str, tuple of str), default=()
        Role and column names of each joined table of embeddings.

    Examples
    --------
    >>> encoding = CovariateEncoding.learn(pd.DataFrame({"age": [20.0, 30.0]}))
    >>> schema = FeatureSchema(encoding, embeddings=(("modifier", ("ndvi",)),))
    >>> table = pd.DataFrame({"age": [25.0], "ndvi": [0.4]})
    >>> schema.encode(table, "propensity").columns.tolist()
    ['age']
    """

    encoding: CovariateEncoding
    stratum: str | None = None
    strata: tuple[Any, ...] = ()
    embeddings: tuple[tuple[str, tuple[str, ...]], ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all encoded covariates and strata, which no embedding may bear."""
        return (*self.encoding.names, *(f"{self.stratum}={level}" for level in self.strata[1:]))

    def encode(
        self, table: pd.DataFrame, task: Task, *, use: EffectFeatures = "all"
    ) -> pd.DataFrame:
        """Return the features of a table; see `Study.encode`.

        Parameters
        ----------
        table : pandas.DataFrame of shape (n_rows, any)
        task : {"propensity", "outcome", "effect"}
        use : {"all", "embeddings", "covariates"}, default="all"

        Returns
        -------
        pandas.DataFrame of shape (n_rows, n_features)
        """
        check_choice("task", task, tuple(_ROLES_OF_TASK))
        check_choice("use", use, ("all", "embeddings", "covariates"))
        parts = [pd.DataFrame(index=table.index)]
        if use != "embeddings":
            parts.append(self.encoding.transform(table))
            if task != "effect" and self.stratum is not None:
                parts.append(self._stratum_columns(table, self.stratum))
        if use != "covariates":
            roles = _ROLES_OF_TASK[task]
            names = [name for role, columns in self.embeddings if role in roles for name in columns]
            absent = [name for name in names if name not in table.columns]
            if absent:
                raise RoleError(
                    f"The table lacks {len(absent)} embedding columns: {list_some(absent)}. "
                    "Join the embeddings of its sites first."
                )
            parts.append(table[names].astype("float64"))
        return pd.concat(parts, axis=1)

    def _stratum_columns(self, table: pd.DataFrame, name: str) -> pd.DataFrame:
        if name not in table.columns:
            raise RoleError(f"The table lacks the stratum column {name!r}.")
        return pd.DataFrame(
            {f"{name}={s}": (table[name] == s).astype("float64") for s in self.strata[1:]},
            index=table.index,
        )
