"""Which type each place is of, on the map; uncertain places are faint."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from terracausal._foundation.checks import check_finite
from terracausal.plotting.canvas import BLUE, INK, MUTED, ORANGE
from terracausal.plotting.maps import check_places, frame_map, map_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# orange and blue first, as in all pictures; the others stay apart in lightness too
_COLORS = (ORANGE, BLUE, "#7a9a3a", "#7b4a8f", "#c2a000", "#4a4a4a")
_PAPER = "#f5f4f1"


def plot_type_map(
    lon: ArrayLike,
    lat: ArrayLike,
    memberships: ArrayLike,
    ax: "Axes | None" = None,
    *,
    names: Sequence[str] | None = None,
) -> "Axes":
    """Draw each place in the colour of its most probable type, the fainter the less sure.

    The colour is full where the type is certain, and paper where no type is more probable than
    the others.

    Parameters
    ----------
    lon : array-like of shape (n_places,)
        Longitude in degrees east.
    lat : array-like of shape (n_places,)
        Latitude in degrees north.
    memberships : array-like of shape (n_places, n_components)
        Probability of each type; rows sum to 1. At most 6 types.
    ax : matplotlib.axes.Axes, default=None
        Where to draw; None makes a new figure of fitting shape.
    names : sequence of str, default=None
        Of the types; None numbers them.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError
        Shapes differ, a value is not finite, rows are not probabilities, there are more types than
        colours, or a place is not on the globe.

    Examples
    --------
    >>> ax = plot_type_map([32.1, 33.0, 32.5], [1.9, 2.8, 2.0], [[1, 0], [0.1, 0.9], [0.45, 0.55]])
    >>> [text.get_text() for text in ax.get_legend().get_texts()]
    ['component 1 (1)', 'component 2 (2)', 'no more probable than others']
    """
    from matplotlib.colors import to_rgb

    x, y = check_finite("lon", lon), check_finite("lat", lat)
    chance = check_finite("memberships", memberships)
    if chance.ndim != 2 or not 1 <= chance.shape[1] <= len(_COLORS):
        raise ValueError(
            f"`memberships` must have a row for each place and 1 to {len(_COLORS)} columns; found "
            f"shape {chance.shape}."
        )
    check_places(x, y, chance[:, 0], "memberships")
    off = np.abs(chance.sum(axis=1) - 1) + np.abs(np.minimum(chance, 0)).sum(axis=1)
    if off.max() > 1e-6:
        worst = chance[off.argmax()].round(3).tolist()
        raise ValueError(f"Rows of `memberships` must be probabilities that sum to 1; got {worst}.")
    n_types = chance.shape[1]
    names = [f"component {k + 1}" for k in range(n_types)] if names is None else list(names)
    kind, most = chance.argmax(axis=1), chance.max(axis=1)
    sure = np.ones_like(most) if n_types == 1 else (most - 1 / n_types) / (1 - 1 / n_types)
    ax = map_axes(ax, x, y)
    size = float(np.clip(9000 / most.size, 10, 70))
    edge: dict[str, Any] = {"edgecolor": MUTED, "linewidth": 0.3}
    paper = np.array(to_rgb(_PAPER))
    colors = np.array([to_rgb(color) for color in _COLORS[:n_types]])
    face = paper + sure[:, None] * (colors[kind] - paper)
    order = np.argsort(sure, kind="stable")  # the sure ones on top
    ax.scatter(x[order], y[order], s=size, c=face[order], **edge)
    for k, name in enumerate(names):
        label = f"{name} ({int((kind == k).sum()):,})"
        ax.scatter([], [], s=40, color=_COLORS[k], label=label)
    if n_types > 1:
        ax.scatter([], [], s=40, color=_PAPER, label="no more probable than others", **edge)
    frame_map(ax, y)
    ax.legend(
        loc="upper center",
        bbox_to_anchor=(0.5, -0.16),
        ncols=min(n_types + 1, 3),
        frameon=False,
        fontsize="small",
        labelcolor=INK,
    )
    return ax
