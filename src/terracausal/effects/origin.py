"""Where predicted effects come from, so that nobody evaluates them on their training units."""

from dataclasses import dataclass, field
from typing import Any

import pandas as pd

ORIGIN = "terracausal_origin"


@dataclass(frozen=True, eq=False)
class EffectOrigin:
    """How the effects in a Series were predicted; kept in its `attrs`.

    Parameters
    ----------
    learner : str
        The learner, with its settings.
    trained_on : pandas.Index, default=None
        Units that trained the learner, for predictions of one fitted learner.
    folds : pandas.Series, default=None
        Fold of each unit, for out-of-fold predictions: a unit's own fold did not train.

    Examples
    --------
    >>> EffectOrigin("DRLearner()", trained_on=pd.RangeIndex(3)).folds is None
    True
    """

    learner: str
    trained_on: pd.Index | None = field(default=None, repr=False)
    folds: "pd.Series[Any] | None" = field(default=None, repr=False)

    def __deepcopy__(self, memo: dict[int, Any]) -> "EffectOrigin":
        # pandas copies attrs at every step; this object is immutable, so one is enough
        return self


def with_origin(effects: "pd.Series[float]", origin: EffectOrigin) -> "pd.Series[float]":
    """Return the effects with their origin in `attrs`."""
    effects.attrs[ORIGIN] = origin
    return effects


def origin_of(effects: "pd.Series[float]") -> EffectOrigin | None:
    """Return the origin of predicted effects, or None for a column from elsewhere.

    Parameters
    ----------
    effects : pandas.Series of shape (n_units,)
        From `predict` or `cross_predict` of an effect learner, or any other.

    Returns
    -------
    EffectOrigin or None

    Examples
    --------
    >>> origin_of(pd.Series([0.1, 0.2])) is None
    True
    """
    found = effects.attrs.get(ORIGIN)
    return found if isinstance(found, EffectOrigin) else None
