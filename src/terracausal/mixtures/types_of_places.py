"""What estimators of types of places share, whether a mixture or groups of predicted effects."""

from abc import abstractmethod
from typing import Any

import pandas as pd

from terracausal.study import Estimate
from terracausal.study.result import IntervalResult


class TypesOfPlaces(IntervalResult):
    """Components of places with an effect each, told by their images."""

    n_components: int
    component_effects_: Estimate
    shares_: Estimate

    @abstractmethod
    def predict_proba(self, images: Any) -> pd.DataFrame:
        """Return columns probability_1, … and sd_1, … by site."""

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

    def _drawn(self, level: float) -> pd.DataFrame:
        table = self.to_dataframe(level)
        table["term"] = [f"{r.term} ({r.share:.0%})" for r in table.itertuples()]
        return table

    def __str__(self) -> str:
        return self.summary() if self.__sklearn_is_fitted__() else repr(self)
