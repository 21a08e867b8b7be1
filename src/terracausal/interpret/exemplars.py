"""Images that show what goes with an effect or a type: the most typical, and the least certain.

Section 3.3 of Jerzak, Johansson & Daoud (2023), Image-based treatment effect heterogeneity,
arXiv:2206.06417: the images with the highest probability of a type, at least 1,000 m apart, flat
ones left out, and those whose probability is least certain. Here the same for any number by site.
"""

from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from terracausal._foundation.checks import check_count, check_finite, check_unique
from terracausal._foundation.errors import AlignmentError, list_some
from terracausal.imagery import Chips
from terracausal.interpret.site_images import check_by_site, find_twins, latest_image, site_places
from terracausal.study.geography import great_circle_m
from terracausal.study.result import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_TYPICAL, _UNSURE = "probability_", "sd_"


@dataclass(frozen=True, eq=False)
class Exemplars(Result):
    """A few sites of each group, with their images.

    Parameters
    ----------
    table : pandas.DataFrame
        One row per shown site: group, rank, site, value, lon and lat (NaN where unknown).
    images : tuple of ndarray of shape (n_bands, height, width)
        The last image of each row.
    bands : tuple of str
        Names of the bands.
    notes : tuple of str, default=()
        Which sites were passed over, and why.

    Examples
    --------
    >>> import terracausal as tc
    >>> data = tc.simulate_study(n_sites=20, random_state=0)
    >>> brightness = tc.BandStatisticsEncoder().fit_transform(data.chips).iloc[:, 0]
    >>> exemplars(brightness, data.chips, n_per_group=2).table["group"].tolist()
    ['highest', 'highest', 'lowest', 'lowest']
    """

    table: pd.DataFrame
    images: tuple[NDArray[np.float32], ...] = field(repr=False)
    bands: tuple[str, ...]
    notes: tuple[str, ...] = ()

    @property
    def groups(self) -> tuple[str, ...]:
        """Names of the groups, in order."""
        return tuple(self.table["group"].unique())

    def to_dataframe(self) -> pd.DataFrame:
        """Return a copy of the table."""
        return self.table.copy()

    def summary(self) -> str:
        """Return the sites of each group with their values, as text."""
        lines = [f"Exemplars: {len(self.table)} sites in {len(self.groups)} groups"]
        for group in self.groups:
            rows = self.table[self.table["group"] == group]
            told = ", ".join(f"{r.site} ({r.value:.3g})" for r in rows.itertuples())
            lines.append(f"  {group:<28} {told}")
        return "\n".join([*lines, *(f"  note  {note}" for note in self.notes)])

    def plot(self, ax: "Axes | None" = None) -> "Axes":
        """Draw one row of images per group, all with the same stretch.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, default=None
            Where to draw; None makes a new figure.

        Returns
        -------
        matplotlib.axes.Axes
        """
        from terracausal.plotting import plot_chip_rows

        titles = [f"{row.site}: {row.value:.3g}" for row in self.table.itertuples()]
        group = self.table["group"].tolist()
        return plot_chip_rows(self.images, group, titles, band_names=self.bands, ax=ax)


def exemplars(
    values: "pd.Series[float] | pd.DataFrame",
    chips: Chips,
    *,
    n_per_group: int = 5,
    min_distance_m: float = 1000.0,
    min_contrast: float = 0.02,
) -> Exemplars:
    """Choose the sites that show best what goes with a value, and return their images.

    Parameters
    ----------
    values : pandas.Series or pandas.DataFrame
        By site. A Series, such as mean effects, gives its highest and lowest sites. A table gives
        the highest sites of each column. That of `EffectMixture.predict_proba` is read as what it
        is: the most typical sites of each component, and those whose membership is least certain.
    chips : Chips
        Images of these sites, and maybe of others.
    n_per_group : int, default=5
        Most sites of a group. Highest and lowest never share a site.
    min_distance_m : float, default=1000.0
        Sites of a group are at least this far apart (great circle), where their places are known.
    min_contrast : float, default=0.02
        An image is passed over as flat (a lake, a cloud) where its pixels vary by less than this
        share of what the pixels of typical sites vary by.

    Returns
    -------
    Exemplars

    Raises
    ------
    TypeError
        What is given is no table by site.
    AlignmentError
        No site with a value has a chip.
    ValueError
        A value is not finite, a site stands twice, or a setting is out of range.

    Notes
    -----
    Exemplars illustrate; they prove nothing. Sites whose pixels equal those of another site are
    passed over, because one of the two images must be wrong.

    Examples
    --------
    >>> import terracausal as tc
    >>> data = tc.simulate_study(n_sites=20, random_state=0)
    >>> chance = pd.DataFrame({"probability_1": 0.5, "sd_1": 0.1}, index=data.chips.keys)
    >>> exemplars(chance, data.chips, n_per_group=1).groups
    ('typical of component 1', 'component 1 least certain')
    """
    check_by_site("values", values)
    check_count("n_per_group", n_per_group)
    if min_distance_m < 0 or not 0 <= min_contrast < 1:
        raise ValueError(
            "`min_distance_m` must not be negative and `min_contrast` must lie in 0 to 1; got "
            f"{min_distance_m!r} and {min_contrast!r}."
        )
    check_unique("The sites of `values`", values.index)
    check_finite("values", values)
    known = values[values.index.isin(chips.keys)]
    if not len(known):
        raise AlignmentError(
            f"No site with a value has a chip: values are for {list_some(values.index, 3)}, chips "
            f"for {list_some(chips.keys, 3)}. Give values by site."
        )
    twins = find_twins(chips)
    shown = known[~known.index.isin(list(twins))]
    gallery = _Gallery(chips, min_contrast)
    rows = []
    for group, ranked in _groups(shown):
        chosen = _apart(ranked.index, gallery, n_per_group, min_distance_m)
        rows += [(group, k + 1, site, float(ranked[site])) for k, site in enumerate(chosen)]
    table = pd.DataFrame(rows, columns=["group", "rank", "site", "value"])
    places = gallery.places
    table = table.join(pd.DataFrame(columns=["lon", "lat"]) if places is None else places, "site")
    counts = (
        (len(values) - len(known), "sites have no chip"),
        (len(known) - len(shown), "sites have the image of another site"),
        (len(gallery.flat), "sites have a flat or empty image"),
    )
    notes = tuple(f"{count:,} {why} and are not shown" for count, why in counts if count)
    images = tuple(latest_image(chips, site) for site in table["site"])
    return Exemplars(table, images, tuple(str(band) for band in chips.bands), notes)


class _Gallery:
    """Reads images as they are asked for, and remembers which are flat."""

    def __init__(self, chips: Chips, min_contrast: float) -> None:
        self.chips, self.flat = chips, set[Hashable]()
        self.places = site_places(chips)
        # every (n / 32)-th site tells what is usual
        some = chips.keys[:: max(1, len(chips.keys) // 32)]
        usual = [_variation(latest_image(chips, site)) for site in some]
        self._least = min_contrast * float(np.nanmedian(usual)) if np.isfinite(usual).any() else 0.0

    def is_flat(self, site: Hashable) -> bool:
        variation = _variation(latest_image(self.chips, site))
        if not variation >= self._least:
            self.flat.add(site)
        return site in self.flat


def _variation(image: NDArray[np.float32]) -> float:
    """Return the root mean variance of the bands of an image; NaN where it is empty."""
    bands = [band[np.isfinite(band)].astype(np.float64) for band in image]
    found = [band.var() for band in bands if band.size]
    return float(np.sqrt(np.mean(found))) if found else float("nan")


def _groups(
    values: "pd.Series[float] | pd.DataFrame",
) -> Iterable[tuple[str, "pd.Series[float]"]]:
    """Yield the name of each group and its candidates, best first."""
    if isinstance(values, pd.Series):
        ranked = values.sort_values(ascending=False, kind="stable")
        half = max(len(ranked) // 2, 1)
        yield "highest", ranked.iloc[:half]
        yield "lowest", ranked.iloc[half:][::-1]
        return
    for column in values.columns:
        ranked = values[column].sort_values(ascending=False, kind="stable")
        yield _group_name(str(column)), ranked


def _group_name(column: str) -> str:
    if column.startswith(_TYPICAL):
        return f"typical of component {column.removeprefix(_TYPICAL)}"
    if column.startswith(_UNSURE):
        return f"component {column.removeprefix(_UNSURE)} least certain"
    return f"highest {column}"


def _apart(ranked: pd.Index, gallery: _Gallery, n_most: int, min_distance_m: float) -> list[Any]:
    """Return the first sites in order that are not flat and far enough from those before."""
    chosen: list[Any] = []
    for site in ranked:
        if len(chosen) == n_most:
            break
        if not _is_near(site, chosen, gallery.places, min_distance_m) and not gallery.is_flat(site):
            chosen.append(site)
    return chosen


def _is_near(
    site: Hashable, chosen: list[Any], places: pd.DataFrame | None, min_distance_m: float
) -> bool:
    if places is None or not chosen or site not in places.index:
        return False
    others = places.reindex(chosen).dropna()
    own = places.loc[[site]]
    metres = great_circle_m(
        others["lon"].to_numpy(), others["lat"].to_numpy(), own["lon"].item(), own["lat"].item()
    )
    return bool((metres < min_distance_m).any())
