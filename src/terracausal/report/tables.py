"""Tables as text: tidy ones with intervals, and any other."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from terracausal.plotting.canvas import decimals_for, plain_number
from terracausal.report.wording import Interval, capitalise

MAX_ROWS = 12
_TIDY = ("term", "estimate", "std_error", "ci_low", "ci_high")
_COUNTS = ("n_units", "n_clusters")


@dataclass(frozen=True)
class Table:
    """A small table of text.

    Parameters
    ----------
    columns : tuple of str
        Heads.
    rows : tuple of tuple of str
        Cells; the first of each row is its head.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def tabulate(frame: pd.DataFrame) -> tuple[Table | None, int]:
    """Return the first rows of a table as text, and how many rows were left out.

    Of a curve, whose terms are numbers, rows from end to end are shown.

    Parameters
    ----------
    frame : pandas.DataFrame
        Tidy (term, estimate, std_error, ci_low, ci_high) or any other.

    Returns
    -------
    table : Table or None
    n_left_out : int

    Examples
    --------
    >>> tabulate(pd.DataFrame({"arm": ["treated"], "n_units": [1200]}))[0].rows
    (('treated', '1,200'),)
    """
    if frame.empty:
        return None, 0
    shown = frame.head(MAX_ROWS)
    if is_grid(frame):
        shown = frame.iloc[np.linspace(0, len(frame) - 1, MAX_ROWS).round().astype(int)]
    if set(_TIDY) <= set(frame.columns):
        known = {*_TIDY, *_COUNTS, "level"}
        table = tidy_table(shown, [str(name) for name in frame.columns if name not in known])
    else:
        table = _plain(shown)
    return table, len(frame) - len(shown)


def is_grid(frame: pd.DataFrame) -> bool:
    """Return whether the rows are points of a curve, more of them than are shown."""
    return len(frame) > MAX_ROWS and "term" in frame and pd.api.types.is_float_dtype(frame["term"])


def tidy_table(frame: pd.DataFrame, further: Sequence[str] = ()) -> Table:
    """Return tidy rows as text: estimate, interval, error, further columns and counts.

    Parameters
    ----------
    frame : pandas.DataFrame
        With columns term, estimate, std_error, ci_low and ci_high.
    further : sequence of str, default=()
        Further columns to show.

    Returns
    -------
    Table
    """
    intervals = [Interval.from_row(row) for _, row in frame.iterrows()]
    columns = [*further, *(name for name in _COUNTS if name in frame.columns)]
    rows = []
    for (_, row), interval in zip(frame.iterrows(), intervals, strict=True):
        error = float(row["std_error"])
        rows.append(
            (
                row["term"] if isinstance(row["term"], str) else cell_text(row["term"]),
                plain_number(interval.estimate, interval.decimals),
                interval.range_text,
                plain_number(error, decimals_for(error)),
                *(_cell(name, row[name]) for name in columns),
            )
        )
    heads = ("", "Estimate", intervals[0].level_text, "Std. error")
    return Table((*heads, *map(_head, columns)), tuple(rows))


def _plain(frame: pd.DataFrame) -> Table:
    if not isinstance(frame.index, pd.RangeIndex):
        frame = frame.reset_index(names=str(frame.index.name or ""))
    first, *others = frame.columns
    columns = [frame[first].map(str), *(frame[name].map(partial(_cell, name)) for name in others)]
    rows = list(zip(*columns, strict=True))
    return Table(tuple(map(_head, ("", *others))), tuple(rows))


def _cell(name: Any, value: Any) -> str:
    """Return a cell as text; p-values below a thousandth need no digits."""
    if str(name).startswith("p_") and 0 <= value < 1e-3:
        return "<0.001"
    return cell_text(value)


def _head(name: Any) -> str:
    text = str(name)
    words = {"n_units": "Units", "n_clusters": "Clusters", "p_value": "p", "p_adjusted": "adj. p"}
    return words.get(text, capitalise(text.replace("_", " ")))


def cell_text(value: Any) -> str:
    """Return a cell as text: counts with commas, other numbers with three digits.

    Examples
    --------
    >>> cell_text(1200), cell_text(0.12345), cell_text(np.nan), cell_text("a")
    ('1,200', '0.123', '–', 'a')
    """
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if value is None:
        return "–"
    if isinstance(value, int | np.integer):
        return f"{int(value):,}".replace("-", "−")
    if isinstance(value, float | np.floating):
        return _real_text(float(value))
    return str(value)


def _real_text(value: float) -> str:
    if not np.isfinite(value):
        return "–"
    if value.is_integer() and abs(value) >= 100:
        return plain_number(value, 0)
    if value != 0 and abs(value) < 1e-3:
        return f"{value:.1e}".replace("-", "−")
    digits = len(str(int(abs(value)))) if abs(value) >= 1 else 0
    return plain_number(value, max(0, 3 - digits))
