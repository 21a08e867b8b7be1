"""Cubic splines of the dose: the columns that a dose-response curve is a combination of."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import BSpline

from terracausal._foundation.errors import RoleError

Floats = NDArray[np.floating[Any]]
_DEGREE = 3
FEWEST = _DEGREE + 1


@dataclass(frozen=True, eq=False)
class DoseSpline:
    """A basis of cubic B-splines, which add up to one at every dose.

    Parameters
    ----------
    knots : ndarray of shape (n_basis + 4,)
        Both ends stand four times.

    Examples
    --------
    >>> spline = DoseSpline.of(np.linspace(0, 1, 50), n_basis=6)
    >>> spline.basis(np.array([0.3])).sum().round(12).item()
    1.0
    """

    knots: Floats

    @classmethod
    def of(cls, dose: Floats, n_basis: int) -> "DoseSpline":
        """Place inner knots at quantiles of the dose.

        Parameters
        ----------
        dose : ndarray of shape (n_units,)
        n_basis : int
            At least 4, which is one cubic polynomial.

        Returns
        -------
        DoseSpline
        """
        inner = np.quantile(dose, np.linspace(0, 1, n_basis - _DEGREE + 1))
        if len(np.unique(inner)) < len(inner):
            raise RoleError(
                f"A curve of {n_basis} splines needs {len(inner)} different quantiles of the dose; "
                f"only {len(np.unique(inner))} are different, so many units share a dose. Use a "
                "smaller n_basis, or multi_arm_effects."
            )
        ends = np.full(_DEGREE, inner[0]), np.full(_DEGREE, inner[-1])
        return cls(np.concatenate([ends[0], inner, ends[1]]))

    @property
    def n_basis(self) -> int:
        """Number of columns."""
        return len(self.knots) - _DEGREE - 1

    def basis(self, dose: Floats) -> Floats:
        """Return the columns at doses within the knots, of shape (n_doses, n_basis)."""
        return np.asarray(BSpline(self.knots, np.eye(self.n_basis), _DEGREE)(dose))

    def slope(self, dose: Floats) -> Floats:
        """Return the derivatives of the columns, of shape (n_doses, n_basis)."""
        return np.asarray(BSpline(self.knots, np.eye(self.n_basis), _DEGREE).derivative()(dose))
