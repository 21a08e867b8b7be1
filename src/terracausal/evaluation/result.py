"""What every diagnostic can do: be printed, and be shown as a table in a notebook."""

from abc import ABC, abstractmethod

import pandas as pd


class Diagnostic(ABC):
    """A result with a summary and a table."""

    @abstractmethod
    def summary(self) -> str:
        """Return the result in words."""

    @abstractmethod
    def to_dataframe(self) -> pd.DataFrame:
        """Return the result as a table."""

    def __str__(self) -> str:
        return self.summary()

    def _repr_html_(self) -> str:
        from html import escape

        table: str = self.to_dataframe().to_html(index=False, float_format="{:.4g}".format)
        return f"{table}<pre>{escape(self.summary())}</pre>"
