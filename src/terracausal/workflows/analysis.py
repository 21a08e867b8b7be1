"""What the two whole analyses share: a page."""

import os
from pathlib import Path

from terracausal.report import Report
from terracausal.study.result import Result


class Analysis(Result):
    """A result of many parts, with a report of them all."""

    @property
    def report(self) -> Report:
        """The page, before it is written."""
        raise NotImplementedError

    def to_html(self, path: str | os.PathLike[str]) -> Path:
        """Write the page.

        Parameters
        ----------
        path : path
            Where to write; missing folders are made.

        Returns
        -------
        pathlib.Path
            The file.
        """
        return self.report.to_html(path)

    def _repr_html_(self) -> str:
        return self.report._repr_html_()
