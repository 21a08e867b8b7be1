"""A statistic among those that chance gives."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from terracausal._foundation.checks import check_finite
from terracausal.plotting.canvas import MUTED, ORANGE, dress, ensure_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plot_permutations(
    permuted: ArrayLike, observed: float, ax: "Axes | None" = None, *, xlabel: str = "Statistic"
) -> "Axes":
    """Draw a histogram of permuted statistics and a line at the observed one.

    Parameters
    ----------
    permuted : array-like of shape (n_permutations,)
    observed : float
    ax : matplotlib.axes.Axes, default=None
        Where to draw; None makes a new figure.
    xlabel : str, default="Statistic"

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError
        A statistic is not finite.

    Examples
    --------
    >>> plot_permutations([-1.0, 0.0, 1.0], 2.5).get_ylabel()
    'Permutations'
    """
    values = check_finite("permuted", permuted)
    place = float(check_finite("observed", observed))
    ax = ensure_axes(ax, 6.0, 3.4)
    n_bins = int(np.clip(np.sqrt(values.size), 5, 40))
    ax.hist(values, bins=n_bins, color=MUTED, alpha=0.45, edgecolor="white", label="permuted")
    ax.axvline(place, color=ORANGE, linewidth=2.2, label="observed")
    ax.set_xlabel(xlabel, parse_math=False)
    ax.set_ylabel("Permutations")
    ax.legend(frameon=False)
    dress(ax, grid="y")
    return ax
