"""Priorities and columns, read by unit key, with what they must not have seen."""

from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from terracausal._foundation.checks import (
    check_choice,
    check_finite,
    check_unique,
)
from terracausal._foundation.errors import AlignmentError, LeakageError, RoleError, list_some
from terracausal.effects import EffectOrigin, origin_of, repeats_of
from terracausal.evaluation.rates import rank_within_folds
from terracausal.nuisance import Scores
from terracausal.nuisance.scores import check_scores

Floats = NDArray[np.floating[Any]]
RankWithin = Literal["auto", "folds", "all"]
OUT_OF_FOLD_WIDENING = float(np.sqrt(2))


class Priority(NamedTuple):
    """A number per unit, aligned with scores, and where it comes from.

    `values` and `folds` have the shape (n_units,); `folds` is None where all units are compared
    with each other. `widening` is the factor for what the ranking itself adds to standard errors.
    """

    values: Floats
    folds: NDArray[Any] | None
    widening: float
    origin: EffectOrigin | None

    @property
    def within(self) -> str:
        """Which units are compared, in words."""
        if self.folds is None:
            return "all units"
        return f"each of {len(np.unique(self.folds))} folds"

    def assumption(self, word: str = "priority") -> str:
        """Return what is assumed about the outcomes, in words."""
        told = f"the {word} was made without the outcomes of these units"
        if self.origin is None:
            # an array, or a column of a table, has lost what cross_predict wrote down
            told += " (taken on trust: it carries no record of cross_predict)"
        return told

    def shares(self, weight: Floats) -> Floats:
        """Return the share of weight that ranks lower, plus half of what ranks the same."""
        folds = np.zeros(len(weight), dtype=np.int64) if self.folds is None else self.folds
        return rank_within_folds(self.values, folds, weight)


def read_priority(
    scores: Scores,
    priority: "pd.Series[float] | pd.DataFrame | ArrayLike",
    rank_within: RankWithin = "auto",
    name: str = "priority",
    option: str = "rank_within",
    out_of_bag: bool = False,
) -> Priority:
    """Align a priority with scores and refuse one that has seen their outcomes.

    Parameters
    ----------
    scores : Scores
    priority : pandas.Series, one-column pandas.DataFrame or array-like of shape (n_units,)
        A Series may have more units than the scores, which trimming leaves out.
    rank_within : {"auto", "folds", "all"}, default="auto"
        "auto" compares inside folds where the priority comes from `cross_predict`.
    name : str, default="priority"
        What it is called in messages.
    option : str, default="rank_within"
        What `rank_within` is called in messages.
    out_of_bag : bool, default=False
        Whether out-of-bag effects of a forest will do. They do not for a ranking: each is moved
        away from the outcomes of its own cluster.

    Returns
    -------
    Priority

    Raises
    ------
    LeakageError
        It was fitted on the units that evaluate it.
    AlignmentError
        It is of other units.
    """
    check_scores(scores)
    check_choice(option, rank_within, ("auto", "folds", "all"))
    if isinstance(priority, pd.DataFrame):
        if priority.shape[1] != 1:
            raise ValueError(
                f"Expected one {name}; got a table of {priority.shape[1]} columns. Pass one."
            )
        priority = priority.iloc[:, 0]
    origin = origin_of(priority) if isinstance(priority, pd.Series) else None
    folds = None if origin is None else origin.folds
    if rank_within == "folds" and folds is None:
        article, kind = "" if name.endswith("s") else "a ", "a Series that does not come from there"
        raise ValueError(
            f"{option}='folds' needs {article}{name} from `cross_predict`, which knows its folds; "
            f"got {kind if isinstance(priority, pd.Series) else 'an array'}."
        )
    if not isinstance(priority, pd.Series):
        if np.shape(priority) != (scores.n_units,):
            raise AlignmentError(
                f"`{name}` must have one number per unit, shape ({scores.n_units},); got "
                f"{np.shape(priority) or type(priority).__name__}. A Series indexed by unit is "
                "aligned by key."
            )
        return Priority(check_finite(name, priority), None, 1.0, None)
    values = check_finite(name, align(scores, priority, name))
    refuse_seen(scores, priority, name)
    if origin is not None and origin.out_of_bag and not out_of_bag:
        raise LeakageError(
            f"The {name} holds out-of-bag effects ({origin.learner}). Each of them leaves its own "
            "cluster out and so moves away from that cluster's outcomes, which biases a ranking "
            "downwards. Use cross_predict(study, folds), which is ranked within folds."
        )
    if folds is None:
        return Priority(values, None, 1.0, origin)
    labels = None if rank_within == "all" else folds.loc[scores.units].to_numpy()
    return Priority(values, labels, OUT_OF_FOLD_WIDENING, origin)


def read_repeats(
    scores: Scores,
    priority: "pd.Series[float] | pd.DataFrame | ArrayLike",
    rank_within: RankWithin = "auto",
    name: str = "priority",
    option: str = "rank_within",
    out_of_bag: bool = False,
) -> "list[tuple[Scores, Priority]]":
    """Read a priority, and pair the repeats of scores with those of the priority.

    Parameters
    ----------
    scores, priority, rank_within, name, option, out_of_bag
        As in `read_priority`; both scores and priority may have repeats.

    Returns
    -------
    list of (Scores, Priority)
        One pair per repeat. Where only one of them has repeats, the other stands in each pair.

    Raises
    ------
    AlignmentError
        Both have repeats, of different numbers.
    """
    parts = repeats_of(priority) if isinstance(priority, pd.Series) else (priority,)
    found = [read_priority(scores, part, rank_within, name, option, out_of_bag) for part in parts]
    runs = (scores, *scores.repeats)
    if len(runs) != len(found) and min(len(runs), len(found)) > 1:
        raise AlignmentError(
            f"Scores and {name} must have the same number of repeats, or one of them none; got "
            f"{len(runs)} and {len(found)}. Repeat both over the same folds."
        )
    n_pairs = max(len(runs), len(found))
    pairs = zip(runs * (n_pairs // len(runs)), found * (n_pairs // len(found)), strict=True)
    return list(pairs)


def align(scores: Scores, values: Any, name: str) -> Any:
    """Return the rows of a Series or table in the order of the scores."""
    return align_units(scores.units, values, name)


def align_units(units: pd.Index, values: Any, name: str) -> Any:
    """Return the rows of a Series or table for `units`; it may have more of them."""
    check_unique(f"The index of `{name}` (the unit keys)", values.index)
    # trimming leaves fewer units in the scores than there were
    absent = units.difference(values.index)
    if len(absent):
        raise AlignmentError(
            f"`{name}` must have a row for each of the {len(units)} units; {len(absent)} are "
            f"missing ({list_some(absent)}). Its {len(values)} keys are such as "
            f"{list_some(values.index, 3)}. Index it by unit, as the study is."
        )
    return values.loc[units]


def refuse_seen(scores: Scores, values: "pd.Series[Any]", name: str) -> None:
    """Raise a `LeakageError` for predictions of a learner that was fitted on these units."""
    origin = origin_of(values)
    if origin is None or origin.trained_on is None:
        return
    seen = int(scores.units.isin(origin.trained_on).sum())
    if seen:
        raise LeakageError(
            f"The {name} was predicted by a learner that was fitted on {seen} of the "
            f"{scores.n_units} units that evaluate it ({origin.learner}), so it has seen their "
            "outcomes. Use cross_predict(study, folds)."
        )


def check_outcome_varies(scores: Scores) -> None:
    """Raise a `RoleError` where the outcome, or the score, is the same for all units."""
    check_scores(scores)
    for name in ("outcome", "score"):
        if name in scores.table and scores.table[name].nunique() < 2:
            raise RoleError(
                f"The {name} must vary to say anything about effects; it is "
                f"{scores.table[name].iloc[0]:g} for all {scores.n_units} units."
            )


def numeric_columns(
    scores: Scores,
    columns: "pd.DataFrame | pd.Series[Any] | ArrayLike",
    *,
    drop_first: bool,
    name: str = "columns",
) -> pd.DataFrame:
    """Return columns by unit as numbers; categories become indicators.

    Parameters
    ----------
    scores : Scores
    columns : pandas.DataFrame, pandas.Series or array-like of shape (n_units, n_columns)
        Tables are aligned by unit key.
    drop_first : bool
        Whether the first level of a category is the reference and has no indicator.
    name : str, default="columns"
        What they are called in messages.

    Returns
    -------
    pandas.DataFrame of shape (n_units, n_terms)
    """
    if isinstance(columns, pd.Series):
        refuse_seen(scores, columns, name)
        columns = columns.to_frame("x" if columns.name is None else columns.name)
    if isinstance(columns, pd.DataFrame):
        table = pd.DataFrame(align(scores, columns, name))
    else:
        array = np.asarray(columns, dtype=np.float64)
        array = array[:, None] if array.ndim == 1 else array
        if array.ndim != 2 or len(array) != scores.n_units:
            raise AlignmentError(
                f"`{name}` must have one row per unit, ({scores.n_units}, n); got {array.shape}. "
                "A table indexed by unit is aligned by key."
            )
        names = [f"x{j + 1}" for j in range(array.shape[1])]
        table = pd.DataFrame(array, index=scores.units, columns=names)
    missing = table.columns[table.isna().any()]
    if len(missing):
        raise RoleError(
            f"`{name}` must not have missing values; {len(missing)} of {table.shape[1]} columns "
            f"do: {list_some(missing)}. Impute them, or drop these units before the scores."
        )
    table.columns = table.columns.map(str)
    words = table.select_dtypes(exclude=["number", "bool"]).columns
    if len(words):
        table = pd.get_dummies(table, columns=list(words), drop_first=drop_first, prefix_sep=" = ")
    check_finite(name, table.to_numpy(dtype=np.float64))
    return pd.DataFrame(table, dtype=np.float64)
