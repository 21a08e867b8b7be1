"""What every result can do: be printed, and be shown in a notebook."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class Result(ABC):
    """A result that says in words what was found."""

    @abstractmethod
    def summary(self) -> str:
        """Return the result in words."""

    def __str__(self) -> str:
        return self.summary()

    def _repr_html_(self) -> str:
        return f"<pre>{escape(str(self))}</pre>"


class TabularResult(Result):
    """A result with a table that is short enough to be read."""

    @abstractmethod
    def to_dataframe(self) -> pd.DataFrame:
        """Return the result as a table."""

    def _repr_html_(self) -> str:
        table: str = self.to_dataframe().to_html(index=False, float_format="{:.4g}".format)
        return table + super()._repr_html_()


class IntervalResult(Result):
    """A result with an interval for each term."""

    @abstractmethod
    def to_dataframe(self, level: float = 0.95) -> pd.DataFrame:
        """Return one row per term with its interval."""

    def plot(self, ax: "Axes | None" = None, level: float = 0.95) -> "Axes":
        """Draw the intervals.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, default=None
            Where to draw; None makes a new figure.
        level : float, default=0.95
            Coverage of the interval.

        Returns
        -------
        matplotlib.axes.Axes
        """
        from terracausal.plotting import plot_intervals

        return plot_intervals(self._drawn(level), ax=ax, **self._axis())

    def _drawn(self, level: float) -> pd.DataFrame:
        return self.to_dataframe(level)

    def _axis(self) -> dict[str, Any]:
        return {}


def tidy_table(
    terms: Sequence[str],
    value: ArrayLike,
    std_error: ArrayLike,
    interval: ArrayLike,
    **more: Any,
) -> pd.DataFrame:
    """Return one row per term with the tidy columns that all results share.

    Parameters
    ----------
    terms : sequence of str, of length n_terms
    value : array-like of shape (n_terms,)
    std_error : array-like of shape (n_terms,)
    interval : array-like of shape (n_terms, 2)
    **more : object
        Further columns, in this order: the level, the numbers of units and clusters, and whatever
        a result has of its own.

    Returns
    -------
    pandas.DataFrame

    Examples
    --------
    >>> table = tidy_table(["ATE"], [0.7], [0.1], [[0.5, 0.9]], level=0.95)
    >>> list(table.columns)
    ['term', 'estimate', 'std_error', 'ci_low', 'ci_high', 'level']
    """
    ends = np.asarray(interval)
    columns = {"term": list(terms), "estimate": value, "std_error": std_error}
    return pd.DataFrame(columns | {"ci_low": ends[:, 0], "ci_high": ends[:, 1]} | more)
