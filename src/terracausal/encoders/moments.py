"""Mean and standard deviation of columns that come in parts, some of them missing."""

import numpy as np
from numpy.typing import NDArray


class RunningMoments:
    """Adds up parts of a table; the order of the parts matters to rounding only.

    Chan, T. F., Golub, G. H. and LeVeque, R. J. (1983). Algorithms for computing the sample
    variance. The American Statistician 37(3), 242-247.

    Parameters
    ----------
    n_columns : int
        Number of columns.

    Attributes
    ----------
    count : ndarray of shape (n_columns,)
        Number of values so far that are not NaN.
    mean : ndarray of shape (n_columns,)
        Their mean; 0 where there are none.

    Examples
    --------
    >>> moments = RunningMoments(1)
    >>> for part in ([[1.0], [np.nan]], [[3.0]]):
    ...     moments.add(np.array(part))
    >>> moments.mean.tolist(), moments.scale().tolist()
    ([2.0], [1.0])
    """

    def __init__(self, n_columns: int) -> None:
        self.count = np.zeros(n_columns)
        self.mean = np.zeros(n_columns)
        self._squares = np.zeros(n_columns)

    def add(self, rows: NDArray[np.floating]) -> None:
        """Add rows (n_rows, n_columns), NaN where missing."""
        values = rows.astype(np.float64)
        seen = ~np.isnan(values)
        count = seen.sum(axis=0)
        mean = np.where(seen, values, 0.0).sum(axis=0) / np.maximum(count, 1)
        squares = np.where(seen, (values - mean) ** 2, 0.0).sum(axis=0)
        total = np.maximum(self.count + count, 1)
        apart = mean - self.mean
        self._squares += squares + apart**2 * self.count * count / total
        self.mean = self.mean + apart * count / total
        self.count = self.count + count

    def scale(self) -> NDArray[np.float64]:
        """Return the standard deviation (divided by the count) of each column, 1 where constant."""
        scale = np.sqrt(self._squares / np.maximum(self.count, 1))
        # what remains of a constant column is rounding of float32
        return np.where(scale > 1e-7 * np.abs(self.mean), scale, 1.0)
