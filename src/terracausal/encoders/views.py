"""Look at embeddings: the cloud of sites, the nearest chips of a site, the filters of a feature."""

from collections.abc import Hashable, Sequence
from copy import copy
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from terracausal._foundation.checks import check_count, check_finite, check_unique
from terracausal._foundation.errors import AlignmentError, list_some
from terracausal.encoders.random_conv import RandomConvEncoder
from terracausal.encoders.reduction import fit_components
from terracausal.imagery import Chips
from terracausal.imagery.preview import color_positions
from terracausal.plotting import plot_chips, plot_cloud, plot_filter_rows, stretch_chips

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MOST_FILTERS = 4


def plot_embeddings(
    embeddings: pd.DataFrame,
    color: "str | pd.Series[Any] | None" = None,
    ax: "Axes | None" = None,
) -> "Axes":
    """Draw sites by the first two principal components of their standardised embeddings.

    Parameters
    ----------
    embeddings : DataFrame of shape (n_sites, n_features)
        One row per site, as from `transform`.
    color : str or Series, default=None
        A column of `embeddings`, or a value per site indexed by site: numbers, or groups such as
        districts. Sites without a value are light grey.
    ax : matplotlib.axes.Axes, default=None
        Where to draw; None makes a new figure.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    AlignmentError
        If none of the sites has a value in `color`.
    ValueError
        If the embeddings hold NaN, or vary in fewer than two directions.

    Examples
    --------
    >>> rows = np.random.default_rng(0).normal(size=(30, 4))
    >>> embeddings = pd.DataFrame(rows, columns=["a", "b", "c", "d"])
    >>> region = pd.Series(["north", "south"] * 15, name="region")
    >>> plot_embeddings(embeddings, region).get_legend().get_title().get_text()
    'region'
    """
    rows = check_finite("embeddings", embeddings)
    components = fit_components(rows, 2)
    x, y = components.transform(rows).T
    first, second = 100 * components.explained_variance_ratio
    values = _values_of(embeddings, color)
    return plot_cloud(
        x,
        y,
        None if values is None else values.to_numpy(),
        ax,
        xlabel=f"Component 1 ({first:.0f} % of the variance)",
        ylabel=f"Component 2 ({second:.0f} %)",
        label="" if values is None or values.name is None else str(values.name),
    )


def nearest_sites(
    embeddings: pd.DataFrame, site: Hashable, n_neighbours: int = 7
) -> "pd.Series[float]":
    """Return the sites whose embeddings point in the direction most like that of a site.

    Parameters
    ----------
    embeddings : DataFrame of shape (n_sites, n_features)
        One row per site, as from `transform`.
    site : site key
        Whose neighbours are wanted.
    n_neighbours : int, default=7
        Number of neighbours, or all other sites where there are fewer.

    Returns
    -------
    Series of length n_neighbours
        Cosine distance, 0 to 2, of embeddings whose columns are standardised over all sites,
        indexed by site; the nearest first. Ties stand in the order of `embeddings`.

    Raises
    ------
    KeyError
        If the site is not in `embeddings`.
    ValueError
        If embeddings hold NaN, or the site has the average embedding, which has no direction.

    Examples
    --------
    >>> embeddings = pd.DataFrame({"a": [1.0, 1.1, -2.0], "b": [0.0, 0.1, 0.5]}, index=list("xyz"))
    >>> nearest_sites(embeddings, "x").round(2).to_dict()
    {'y': 0.07, 'z': 1.99}
    """
    check_count("n_neighbours", n_neighbours)
    check_unique("Sites of embeddings", embeddings.index)
    if site not in embeddings.index:
        raise KeyError(
            f"Expected a site of the {len(embeddings)} embeddings, such as "
            f"{list_some(embeddings.index, 3)}; got {site!r}."
        )
    directions = unit_directions(check_finite("embeddings", embeddings))
    own = directions[embeddings.index.get_loc(site)]
    if not own.any():
        raise ValueError(f"Site {site!r} has the average embedding, so no site is nearer than any.")
    distance = pd.Series(1 - directions @ own, embeddings.index, name="cosine_distance")
    return distance.drop(index=site).sort_values(kind="stable").head(n_neighbours)


def unit_directions(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return rows (n_sites, n_features) standardised by column, then of unit length or 0."""
    centred = rows - rows.mean(axis=0)
    scale = rows.std(axis=0)
    # what remains of a constant feature is rounding
    varied = scale > 1e-10 * np.abs(rows).max(axis=0)
    standard = np.where(varied, centred / np.where(varied, scale, 1.0), 0.0)
    length = np.linalg.norm(standard, axis=1, keepdims=True)
    return np.asarray(standard / np.where(length > 0, length, 1.0))


def plot_neighbours(
    embeddings: pd.DataFrame,
    chips: Chips,
    site: Hashable,
    n_neighbours: int = 7,
    *,
    time: int = -1,
    bands: Sequence[str] | None = None,
) -> NDArray[Any]:
    """Draw the chip of a site and those of the nearest sites, with their cosine distances.

    If neighbours look alike, the embedding sees what the eye sees.

    Parameters
    ----------
    embeddings : DataFrame of shape (n_sites, n_features)
        One row per site, as from `transform`.
    chips : Chips
        Their pixels; may hold more sites.
    site : site key
        Drawn first.
    n_neighbours : int, default=7
        Number of neighbours; see `nearest_sites`.
    time : int, default=-1
        Which image of each chip is drawn.
    bands : sequence of str, default=None
        One band in grey, or three as red, green and blue; None takes red, green and blue where the
        chips have them, and the first band otherwise.

    Returns
    -------
    ndarray of matplotlib.axes.Axes of shape (n_rows, n_columns)

    Raises
    ------
    KeyError
        If a site has no embedding or no chip.

    Examples
    --------
    >>> from terracausal.encoders import BandStatisticsEncoder
    >>> pixels = np.random.default_rng(0).normal(size=(5, 1, 1, 8, 8))
    >>> chips = Chips.from_arrays(pixels, sites=list("abcde"), bands=["lights"])
    >>> embeddings = BandStatisticsEncoder().fit_transform(chips)
    >>> plot_neighbours(embeddings, chips, "a", n_neighbours=3)[0, 0].get_title()
    'a'
    """
    near = nearest_sites(embeddings, site, n_neighbours)
    keys = [site, *near.index]
    titles = [str(site), *(f"{key} ({distance:.2f})" for key, distance in near.items())]
    images = [chips[key][time] for key in keys]
    axes = plot_chips(images, titles, bands=color_positions(chips.bands, bands))
    axes[0, 0].title.set_fontweight("bold")
    return axes


def plot_filters(
    encoder: RandomConvEncoder,
    chips: Chips,
    features: Sequence[str] | None = None,
    n_chips: int = 5,
    *,
    time: int = -1,
    bands: Sequence[str] | None = None,
) -> NDArray[Any]:
    """Draw the filters of some random features, each beside the chips with the highest values.

    Parameters
    ----------
    encoder : RandomConvEncoder
        Fitted.
    chips : Chips
        Among which the highest values are looked for.
    features : sequence of str, default=None
        Names such as "rcf_003", before any reduction; None takes, for each of the first four
        principal components of the features that are made of relu(z), the one that follows it most.
    n_chips : int, default=5
        Number of chips in a row, or all where there are fewer.
    time : int, default=-1
        Which image of each chip is drawn; features are means over all of them.
    bands : sequence of str, default=None
        Which bands of the chips are drawn; as for `plot_neighbours`.

    Returns
    -------
    ndarray of matplotlib.axes.Axes of shape (n_features, n_bands + n_chips)
        In each row the filter, on standardised pixels: blue where it wants more of a band than
        usual, orange where less. For relu(-z) it is drawn with its sign turned.

    Raises
    ------
    ValueError
        If a feature is not among the columns of the encoder.

    Examples
    --------
    >>> pixels = np.random.default_rng(0).normal(size=(6, 1, 1, 8, 8))
    >>> chips = Chips.from_arrays(pixels, sites=list("abcdef"), bands=["lights"])
    >>> encoder = RandomConvEncoder(n_features=8, random_state=0).fit(chips)
    >>> plot_filters(encoder, chips, ["rcf_000", "rcf_003"], n_chips=2).shape
    (2, 3)
    """
    check_count("n_chips", n_chips)
    origins = encoder.feature_origins()
    unreduced = copy(encoder)
    unreduced.components_ = None
    values = unreduced.encode(chips)
    if features is None:
        features = unlike_features(values.loc[:, origins["sign"] == 1])
    unknown = [name for name in features if name not in origins.index]
    if unknown or not features:
        raise ValueError(
            f"`features` must name columns such as {list_some(origins.index, 3)}; got "
            f"{list_some(unknown or features)}."
        )
    top = [values[name].nlargest(n_chips) for name in features]
    images = [chips[site][time] for highest in top for site in highest.index]
    pictures = iter(stretch_chips(images, bands=color_positions(chips.bands, bands)))
    chosen = origins.loc[list(features), ["sign", "filter", "patch_px"]].to_numpy(dtype=int)
    filters = [sign * encoder.filters_[row, :, :size, :size] for sign, row, size in chosen]
    return plot_filter_rows(
        filters,
        [[next(pictures) for _ in highest] for highest in top],
        bands=encoder.bands_,
        names=list(features),
        titles=[[f"{site} ({value:.2f})" for site, value in each.items()] for each in top],
    )


def unlike_features(values: pd.DataFrame) -> list[str]:
    """Return the features (of n_sites, n_features) that follow the first components most."""
    most = min(_MOST_FILTERS, len(values) - 1, values.shape[1])
    loadings = np.abs(fit_components(values.to_numpy(), most).directions)
    return list(dict.fromkeys(values.columns[loadings.argmax(axis=1)]))


def _values_of(
    embeddings: pd.DataFrame, color: "str | pd.Series[Any] | None"
) -> "pd.Series[Any] | None":
    """Return one value per row of the embeddings, missing where there is none."""
    if color is None:
        return None
    if isinstance(color, str):
        if color not in embeddings.columns:
            raise ValueError(
                f"`color` must be a column of the embeddings, such as "
                f"{list_some(embeddings.columns, 3)}, or a Series by site; got {color!r}."
            )
        return embeddings[color]
    check_unique("Sites of `color`", color.index)
    if not color.index.isin(embeddings.index).any():
        raise AlignmentError(
            f"`color` must be indexed by site, such as {list_some(embeddings.index, 3)}; it has "
            f"{list_some(color.index, 3)}."
        )
    return color.reindex(embeddings.index)
