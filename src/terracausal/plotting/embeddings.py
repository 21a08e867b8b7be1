"""Embeddings as pictures: clouds of sites, explained variance, filters beside chips."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from terracausal._foundation.checks import check_finite
from terracausal.plotting.canvas import (
    BLUE,
    INK,
    MISSING,
    MUTED,
    ORANGE,
    diverging_colormap,
    dress,
    ensure_axes,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# distinct in lightness as well as in hue
_GROUPS = (BLUE, ORANGE, "#6cb0c7", "#7b4f9d", "#4c9a5f", "#c23b5a", "#c9b037", INK)


def plot_cloud(
    x: ArrayLike,
    y: ArrayLike,
    color: ArrayLike | None = None,
    ax: "Axes | None" = None,
    *,
    xlabel: str = "Component 1",
    ylabel: str = "Component 2",
    label: str = "",
) -> "Axes":
    """Draw sites as dots, coloured by a number or by a group.

    Parameters
    ----------
    x, y : array-like of shape (n_sites,)
        Positions.
    color : array-like of shape (n_sites,), default=None
        Numbers are told by a colour bar, whose ends leave out the most extreme 2 %; anything else
        by a legend, where the eight largest groups have a colour. Missing values are light grey.
    ax : matplotlib.axes.Axes, default=None
        Where to draw; None makes a new figure.
    xlabel : str, default="Component 1"
        Label of the horizontal axis.
    ylabel : str, default="Component 2"
        Label of the vertical axis.
    label : str, default=""
        What the colours show.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError
        Lengths differ, or a position is not finite.

    Examples
    --------
    >>> ax = plot_cloud([0.0, 1.0, 2.0], [1.0, 0.0, 1.0], ["dry", "wet", "wet"], label="Season")
    >>> [text.get_text() for text in ax.get_legend().get_texts()]
    ['wet (2)', 'dry (1)']
    """
    across, up = check_finite("x", x), check_finite("y", y)
    values = pd.Series(np.zeros(across.size) if color is None else color).reset_index(drop=True)
    if across.ndim != 1 or not across.shape == up.shape == values.shape:
        raise ValueError(
            "`x`, `y` and `color` must be one value per site; found "
            f"{across.size}, {up.size} and {values.size}."
        )
    numeric = pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)
    ax = ensure_axes(ax, 5.6 if color is None else 6.6, 4.4)
    size = float(np.clip(9000 / max(across.size, 1), 8, 46))
    style: dict[str, Any] = {"s": size, "edgecolor": "white", "linewidth": 0.4}
    unknown = values.isna().to_numpy()
    ax.scatter(across[unknown], up[unknown], color=MISSING, **style)
    if color is None:
        ax.scatter(across, up, color=BLUE, alpha=0.8, **style)
    elif numeric:
        _numbers(
            ax, across[~unknown], up[~unknown], np.asarray(values[~unknown], float), label, style
        )
    else:
        _groups(ax, across, up, values, label, style)
    ax.set_xlabel(xlabel, parse_math=False)
    ax.set_ylabel(ylabel, parse_math=False)
    ax.margins(0.05)
    dress(ax, grid="both")
    return ax


def plot_explained_variance(shares: ArrayLike, n_kept: int, ax: "Axes | None" = None) -> "Axes":
    """Draw the variance that the first components explain together.

    Parameters
    ----------
    shares : array-like of shape (n_possible,)
        Share of each component, in descending order; they sum to 1.
    n_kept : int
        Number of components that are kept, marked in the curve.
    ax : matplotlib.axes.Axes, default=None
        Where to draw; None makes a new figure.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError
        `n_kept` is not between 1 and the number of components.

    Examples
    --------
    >>> ax = plot_explained_variance([0.6, 0.3, 0.1], n_kept=2)
    >>> ax.texts[0].get_text()
    '2 of 3 components: 90.0 %'
    """
    total = np.cumsum(check_finite("shares", shares))
    if not 1 <= n_kept <= total.size:
        raise ValueError(f"`n_kept` must lie between 1 and {total.size}; got {n_kept}.")
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    ax = ensure_axes(ax, 6.0, 3.4)
    # where the curve is flat there is nothing to see
    ax.set_xlim(0, min(total.size, max(1.25 * n_kept, int((total < 0.995).sum()) + 1)))
    numbers = np.arange(total.size + 1)
    curve = np.concatenate([[0.0], total])
    reached = float(total[n_kept - 1])
    kept = numbers <= n_kept
    ax.fill_between(numbers[kept], curve[kept], color=BLUE, alpha=0.16, linewidth=0)
    ax.plot(numbers, curve, color=BLUE, linewidth=2.0)
    ax.vlines(n_kept, 0.0, reached, color=MUTED, linewidth=1.0, linestyle=(0, (4, 3)))
    ax.plot([n_kept], [reached], "o", color=BLUE, markersize=6)
    left = n_kept > ax.get_xlim()[1] / 2
    ax.annotate(
        f"{n_kept} of {total.size} components: {100 * reached:.1f} %",
        xy=(n_kept, reached),
        xytext=(-8 if left else 8, -14),
        textcoords="offset points",
        ha="right" if left else "left",
        va="top",
        color=INK,
        fontsize="small",
    )
    ax.set_ylim(0, 1.02)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    ax.set_xlabel("Number of principal components")
    ax.set_ylabel("Variance explained")
    dress(ax, grid="y")
    return ax


def plot_filter_rows(
    filters: Sequence[ArrayLike],
    pictures: Sequence[Sequence[ArrayLike]],
    *,
    bands: Sequence[str],
    names: Sequence[str],
    titles: Sequence[Sequence[str]],
) -> NDArray[Any]:
    """Draw a row for each filter: its bands as small pictures, then chips.

    Each filter has colours of its own that reach equally far on both sides of 0, which is white:
    blue where it wants more of a band than usual, orange where less.

    Parameters
    ----------
    filters : sequence of array-like of shape (n_bands, patch_px, patch_px)
        Sizes may differ.
    pictures : sequence of sequences of array-like of shape (height, width, 3)
        The chips of each row, as colours between 0 and 1; the same number in every row.
    bands : sequence of str of length n_bands
        Names of the bands.
    names : sequence of str
        Name of each row.
    titles : sequence of sequences of str
        What stands above each chip.

    Returns
    -------
    ndarray of matplotlib.axes.Axes of shape (n_rows, n_bands + n_chips)

    Raises
    ------
    ValueError
        There is no filter, or the rows have different numbers of bands or chips.

    Examples
    --------
    >>> filters, picture = [np.ones((2, 3, 3))], np.full((8, 8, 3), 0.5)
    >>> plot_filter_rows(
    ...     filters, [[picture]], bands=["red", "nir"], names=["rcf_000"], titles=[["Arua"]]
    ... ).shape
    (1, 3)
    """
    arrays = [np.asarray(one, dtype=np.float64) for one in filters]
    n_chips = {len(row) for row in (*pictures, *titles)}
    lengths = {len(arrays), len(pictures), len(names), len(titles)}
    if not arrays or len(n_chips) != 1 or len(lengths) != 1 or {*map(len, arrays)} != {len(bands)}:
        raise ValueError(
            "Each row needs a filter with all bands, a name and the same number of chips; found "
            f"{len(arrays)} filters with {[len(one) for one in arrays]} of {len(bands)} bands and "
            f"{[len(row) for row in pictures]} chips in {len(pictures)} rows."
        )
    n_rows, n_bands = len(arrays), len(bands)
    widths = [0.62] * n_bands + [1.0] * n_chips.pop()
    figure: Any = ensure_axes(None, 1.45 * sum(widths) + 0.5, 1.62 * n_rows + 0.3).figure
    figure.clear()
    axes: NDArray[Any] = figure.subplots(n_rows, len(widths), squeeze=False, width_ratios=widths)
    for row, (one, name) in enumerate(zip(arrays, names, strict=True)):
        reach = float(np.abs(one).max()) or 1.0
        for place, layer in enumerate(one):
            ax = axes[row, place]
            ax.imshow(layer, cmap=diverging_colormap(), vmin=-reach, vmax=reach)
            ax.set_xlabel(bands[place], fontsize="x-small", color=MUTED, parse_math=False)
        axes[row, 0].set_title(name, fontsize="small", color=INK, loc="left", parse_math=False)
        for ax, picture, title in zip(axes[row, n_bands:], pictures[row], titles[row], strict=True):
            ax.imshow(np.asarray(picture), interpolation="nearest")
            ax.set_title(title, fontsize="small", color=INK, parse_math=False)
    for ax in axes.flat:
        ax.set_xticks([])
        ax.set_yticks([])
        ax.spines[:].set_color(MISSING)
    return axes


def _numbers(
    ax: "Axes",
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    values: NDArray[np.float64],
    label: str,
    style: dict[str, Any],
) -> None:
    """Draw dots coloured by numbers, the lowest dark, with a colour bar."""
    if values.size == 0:
        return
    low, high = np.quantile(values, (0.01, 0.99))
    dots = ax.scatter(x, y, c=values, cmap="viridis", vmin=low, vmax=high, **style)
    bar = ax.figure.colorbar(dots, ax=ax, shrink=0.8, aspect=24, pad=0.02)
    bar.outline.set_visible(False)
    bar.ax.tick_params(color=INK, labelcolor=INK, length=3)
    bar.set_label(label, color=INK, parse_math=False)


def _groups(
    ax: "Axes",
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    values: "pd.Series[Any]",
    label: str,
    style: dict[str, Any],
) -> None:
    """Draw dots coloured by group, the largest first, with a legend."""
    counts = values.value_counts()
    named = counts.index[: len(_GROUPS)]
    other = (values.notna() & ~values.isin(named)).to_numpy()
    if other.any():
        n_others = len(counts) - len(named)
        text = f"{n_others} other group{'' if n_others == 1 else 's'} ({other.sum()})"
        ax.scatter(x[other], y[other], color=MUTED, alpha=0.5, label=text, **style)
    for name, color in zip(named, _GROUPS, strict=False):
        here = (values == name).to_numpy()
        ax.scatter(x[here], y[here], color=color, label=f"{name} ({here.sum()})", **style)
    handles, texts = ax.get_legend_handles_labels()
    if other.any():
        handles, texts = [*handles[1:], handles[0]], [*texts[1:], texts[0]]
    legend = ax.legend(
        handles,
        texts,
        title=label or None,
        loc="center left",
        bbox_to_anchor=(1.0, 0.5),
        frameon=False,
        fontsize="small",
        title_fontsize="small",
        labelcolor=INK,
    )
    legend.get_title().set(color=INK, parse_math=False)
    for entry in legend.get_texts():
        entry.set_parse_math(False)
