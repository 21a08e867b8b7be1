"""Where predicted effects come from, so that nobody evaluates them on their training units.

The origin travels in the `attrs` of a Series. Pandas hands it on when a Series is copied, sliced,
sorted, renamed, ranked, scaled, or taken from a table that has it. It is lost, and effects look
like any other column, in `to_numpy`, `np.maximum`, `pd.concat` with other columns,
``pd.DataFrame({"cate": effects})`` and `DataFrame.assign`; the sum of two Series has the origin of
the first. Whoever builds a priority from several predictions takes all of them from `cross_predict`
over the same folds, and puts the origin back with `with_origin`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
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
    repeats : tuple of pandas.Series, default=()
        Effects of the same units from other folds and seeds, each with an origin (and folds) of its
        own. The Series that has this origin is the first repeat.
    out_of_bag : bool, default=False
        True where a unit's effect comes from the trees of a forest that left out its cluster.

    Examples
    --------
    >>> EffectOrigin("DRLearner()", trained_on=pd.RangeIndex(3)).folds is None
    True
    """

    learner: str
    trained_on: pd.Index | None = field(default=None, repr=False)
    folds: "pd.Series[Any] | None" = field(default=None, repr=False)
    repeats: "tuple[pd.Series[float], ...]" = field(default=(), repr=False)
    out_of_bag: bool = False

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


def with_repeats(runs: "Sequence[pd.Series[float]]") -> "pd.Series[float]":
    """Return the first of several out-of-fold predictions, with the others in its origin.

    Parameters
    ----------
    runs : sequence of pandas.Series of shape (n_units,)
        From the same learner and units, over other folds, each with its origin.

    Returns
    -------
    pandas.Series of shape (n_units,)
    """
    first = runs[0].copy()
    origin = origin_of(first)
    if origin is None or len(runs) == 1:
        return first
    return with_origin(first, replace(origin, repeats=tuple(runs[1:])))


def repeats_of(effects: "pd.Series[float]") -> "tuple[pd.Series[float], ...]":
    """Return all repeats of out-of-fold effects, each with its own folds; the first comes first.

    A statistic of the ranking is computed for each repeat within its folds, and the median over
    repeats is taken, as for repeated cross-fitting.

    Parameters
    ----------
    effects : pandas.Series of shape (n_units,)
        From `cross_predict`.

    Returns
    -------
    tuple of pandas.Series
        The Series itself where there are no repeats.

    Examples
    --------
    >>> len(repeats_of(pd.Series([0.1, 0.2])))
    1
    """
    origin = origin_of(effects)
    if origin is None or not origin.repeats:
        return (effects,)
    first = with_origin(effects.copy(), replace(origin, repeats=()))
    return (first, *origin.repeats)


def mean_of_repeats(effects: "pd.Series[float]") -> "pd.Series[float]":
    """Return the mean over repeats of out-of-fold effects: for maps and tables, not for tests.

    A unit's mean has not seen its own outcome, but no fold is left within which units compare:
    the outcome of each unit has trained, in some repeat, the effect of almost any other. Evaluation
    therefore refuses the mean as it refuses effects on training units; it takes the Series from
    `cross_predict`, whose repeats it can rank one by one.

    Parameters
    ----------
    effects : pandas.Series of shape (n_units,)
        From ``cross_predict(..., n_repeats=)``.

    Returns
    -------
    pandas.Series of shape (n_units,)
        In the order of `effects`.

    Examples
    --------
    >>> mean_of_repeats(pd.Series([0.1, 0.2])).tolist()
    [0.1, 0.2]
    """
    runs = repeats_of(effects)
    if len(runs) == 1:
        return effects
    table = pd.concat([run.loc[effects.index] for run in runs], axis=1)
    mean = pd.Series(table.mean(axis=1).to_numpy(), index=effects.index, name=effects.name)
    origin = origin_of(effects)
    words = f"mean of {len(runs)} repeats of {'' if origin is None else origin.learner}"
    return with_origin(mean, EffectOrigin(words, trained_on=effects.index))
