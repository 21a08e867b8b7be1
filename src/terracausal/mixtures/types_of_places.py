"""What estimators of types of places share, whether a mixture or groups of predicted effects."""

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import pandas as pd

from terracausal.study import Estimate

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class TypesOfPlaces(ABC):
    """Components of places with an effect each, told by their images."""

    n_components: int
    component_effects_: Estimate
    shares_: Estimate

    @abstractmethod
    def predict_proba(self, images: Any) -> pd.DataFrame:
        """Return columns probability_1, … and sd_1, … by site."""

    @abstractmethod
    def summary(self, level: float = 0.95) -> str:
        """Return effects and what they rest on, as text."""

    @abstractmethod
    def to_dataframe(self, level: float = 0.95) -> pd.DataFrame:
        """Return one row per component, with its share."""

    @abstractmethod
    def __sklearn_is_fitted__(self) -> bool:
        """Return whether there is anything to tell."""

    def predict(self, images: Any) -> "pd.Series[int]":
        """Return the most probable type of sites, given their image alone.

        Parameters
        ----------
        images : pandas.DataFrame of shape (n_sites, n_features), or Chips
            As in `predict_proba`.

        Returns
        -------
        pandas.Series of shape (n_sites,)
            Numbers from 1, named component.
        """
        table = self.predict_proba(images)
        chance = table.to_numpy()[:, : self.n_components]
        return pd.Series(chance.argmax(axis=1) + 1, index=table.index, name="component")

    def plot(self, ax: "Axes | None" = None, level: float = 0.95) -> "Axes":
        """Draw the component effects with their intervals.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, default=None
            Where to draw; None makes a new figure.
        level : float, default=0.95
            Coverage of the intervals.

        Returns
        -------
        matplotlib.axes.Axes
        """
        from terracausal.plotting import plot_intervals

        table = self.to_dataframe(level)
        table["term"] = [f"{r.term} ({r.share:.0%})" for r in table.itertuples()]
        return plot_intervals(table, ax=ax)

    def __str__(self) -> str:
        return self.summary() if self.__sklearn_is_fitted__() else repr(self)

    def _repr_html_(self) -> str:
        from html import escape

        return f"<pre>{escape(str(self))}</pre>"
