"""Studies of treatments that are not binary: roles and features come from an indicator."""

from typing import Any

import pandas as pd

from terracausal._foundation.errors import RoleError, list_some
from terracausal.study import Study
from terracausal.study.study import EmbeddingRole

_INDICATOR = "in_arm"


def study_of_indicator(
    table: pd.DataFrame,
    indicator: "pd.Series[bool]",
    embeddings: pd.DataFrame | None,
    role: EmbeddingRole,
    roles: dict[str, Any],
) -> Study:
    """Return a study whose treatment is the indicator.

    Parameters
    ----------
    table : pandas.DataFrame of shape (n_units, any)
    indicator : pandas.Series of bool of shape (n_units,)
    embeddings : pandas.DataFrame of shape (n_sites, n_features), default=None
    role : {"confounder", "modifier", "both"}
    roles : dict
        Further arguments of `Study`.

    Returns
    -------
    Study
    """
    table = table.assign(**{_INDICATOR: indicator.astype(int)})
    study = Study(table, treatment=_INDICATOR, **roles)
    return study if embeddings is None else study.join(embeddings, role)


def check_treatment_column(
    table: pd.DataFrame, treatment: str, roles: dict[str, Any], asked: str
) -> None:
    """Refuse a treatment that is not there or not known, and a known propensity.

    Parameters
    ----------
    table : pandas.DataFrame of shape (n_units, any)
    treatment : str
    roles : dict
        Further arguments of `Study`.
    asked : str
        What is refused where a propensity was given, for the message.
    """
    if treatment not in table.columns:
        raise RoleError(
            f"The treatment column {treatment!r} is not in the table, which has "
            f"{list_some(table.columns, 12)}. Name one of these."
        )
    if roles.get("propensity") is not None:
        raise RoleError(f"{asked}; leave out propensity.")
    if _INDICATOR in table.columns:
        raise RoleError(f"The table already has a column {_INDICATOR!r}. Rename it.")
    missing = table[treatment].isna()
    if missing.any():
        raise RoleError(
            f"The treatment {treatment!r} must be known for every unit; {int(missing.sum())} are "
            f"missing: {list_some(table.index[missing])}."
        )
