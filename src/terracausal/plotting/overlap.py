"""How likely treatment was in each arm: two histograms back to back."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from terracausal._foundation.checks import check_count, check_finite
from terracausal.plotting.canvas import BLUE, MUTED, ORANGE, dress, ensure_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plot_overlap(
    propensity: ArrayLike,
    treatment: ArrayLike,
    ax: "Axes | None" = None,
    *,
    n_bins: int = 40,
    labels: tuple[str, str] = ("Comparison", "Treated"),
) -> "Axes":
    """Draw the propensities of the treated upwards and of the comparison units downwards.

    Where only one side has bars, units have no counterpart in the other arm.

    Parameters
    ----------
    propensity : array-like of shape (n_units,)
        Probability of treatment, in 0 to 1.
    treatment : array-like of shape (n_units,)
        1 for treated, 0 for comparison units.
    ax : matplotlib.axes.Axes, default=None
        Where to draw; None makes a new figure.
    n_bins : int, default=40
        Number of bins between 0 and 1.
    labels : tuple of str, default=("Comparison", "Treated")
        Names of the arms 0 and 1.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError
        Lengths differ, a propensity lies outside 0 to 1, or the treatment is not 0 or 1.

    Examples
    --------
    >>> plot_overlap([0.2, 0.5, 0.7], [0, 1, 1]).get_ylabel()
    'Units per bin'
    """
    check_count("n_bins", n_bins)
    e = check_finite("propensity", propensity)
    w = check_finite("treatment", treatment)
    if e.ndim != 1 or e.shape != w.shape:
        raise ValueError(
            "`propensity` and `treatment` must be one number per unit; "
            f"found shapes {e.shape} and {w.shape}. Take both from the same table."
        )
    if e.size and (e.min() < 0 or e.max() > 1):
        raise ValueError(
            f"`propensity` must lie between 0 and 1; found {e.min():g} to {e.max():g}. "
            "Pass probabilities, not log odds."
        )
    other = np.setdiff1d(w, (0.0, 1.0))
    if other.size:
        raise ValueError(
            f"`treatment` must be 0 or 1; found {other[0]:g} among {other.size} other values. "
            "Recode the arms first."
        )
    ax = ensure_axes(ax, 6.0, 3.4)
    edges = np.linspace(0.0, 1.0, n_bins + 1)
    for arm, color, sign in ((1, BLUE, 1), (0, ORANGE, -1)):
        counts, _ = np.histogram(e[w == arm], bins=edges)
        ax.bar(
            edges[:-1],
            sign * counts,
            width=np.diff(edges),
            align="edge",
            color=color,
            edgecolor="white",
            linewidth=0.6,
        )
        ax.annotate(
            f"{labels[arm]} ({int((w == arm).sum()):,} units)",
            xy=(0.0, 0.98 if sign > 0 else 0.02),
            xycoords="axes fraction",
            xytext=(6, 0),
            textcoords="offset points",
            va="top" if sign > 0 else "bottom",
            color=color,
            fontweight="bold",
            fontsize="small",
            parse_math=False,
        )
    _finish(ax)
    return ax


def _finish(ax: "Axes") -> None:
    """Set the axes: the same scale up and down, counts without sign."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    # a fifth of head-room keeps the names of the arms clear of the bars
    reach = 1.22 * max(abs(limit) for limit in ax.get_ylim())
    ax.set_ylim(-reach, reach)
    ax.set_xlim(0.0, 1.0)
    ax.axhline(0.0, color=MUTED, linewidth=0.8)
    ax.yaxis.set_major_locator(MaxNLocator(nbins=7, integer=True))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{abs(value):,.0f}"))
    ax.set_xlabel("Propensity (probability of treatment)")
    ax.set_ylabel("Units per bin")
    dress(ax, grid="y")
