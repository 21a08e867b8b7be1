"""Effects by place: the map, and the chips where effects are highest and lowest."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from terracausal.effects import mean_of_repeats, origin_of
from terracausal.imagery import Chips
from terracausal.interpret.site_images import find_twins, latest_image
from terracausal.plotting import pick_bands, plot_effect_map
from terracausal.plotting.canvas import decimals_for, plain_number
from terracausal.report.pictures import Picture, draw_chips, draw_figure
from terracausal.report.sections import Section
from terracausal.report.tables import Table
from terracausal.report.wording import tell_spread
from terracausal.study import Study

N_EXEMPLARS = 4


def describe_places(
    effects: "pd.Series[float]", study: Study, chips: Chips | None
) -> list[Section]:
    """Return the sections on where effects are predicted to be high and low."""
    known = effects.dropna()
    if known.empty:
        raise ValueError(
            f"The effects {effects.name!r} must hold at least one number; all {len(effects)} "
            "values are NaN."
        )
    known = mean_of_repeats(known)
    by_site = known.groupby(site_keys(known.index, study)).mean()
    n_missing = len(effects) - len(known)
    notes = ["Effects of single places are predictions with large uncertainty of their own."]
    notes += tell_origin(effects)
    if n_missing:
        notes.append(f"{n_missing:,} units without a predicted effect were left out.")
    sections = []
    points = place_points(known, study)
    if points is not None:
        sections.append(_draw_map(by_site, points, tuple(notes)))
    sections.append(_show_exemplars(by_site, chips))
    return sections


def tell_origin(effects: "pd.Series[float]") -> list[str]:
    """Say which learner predicted the effects, and whether it had seen these units."""
    origin = origin_of(effects)
    if origin is None:
        return []
    if origin.folds is not None:
        often = f", {1 + len(origin.repeats)} times; the mean is shown" if origin.repeats else ""
        return [f"Effects were predicted out of fold by {origin.learner}{often}."]
    seen = 0 if origin.trained_on is None else int(effects.index.isin(origin.trained_on).sum())
    if seen == 0:
        return [f"Effects were predicted by {origin.learner}, fitted on other units."]
    return [
        f"{origin.learner} was fitted on {seen:,} of these {len(effects):,} units, so the map "
        "shows more variation than there is. Use cross_predict for predictions out of fold."
    ]


def place_points(effects: "pd.Series[float]", study: Study) -> pd.DataFrame | None:
    """Return the mean longitude, latitude and effect of each site, or None without coordinates."""
    coordinates = study.coordinates
    if coordinates is None:
        return None
    table = coordinates.loc[effects.index, ["lon", "lat"]].assign(effect=effects)
    return table.groupby(site_keys(effects.index, study)).mean().dropna()


def site_keys(units: pd.Index, study: Study) -> NDArray[Any]:
    """Return the site of each unit; a study without sites has each unit at a place of its own."""
    return (units if study.sites is None else study.sites.loc[units]).to_numpy()


def _draw_map(by_site: "pd.Series[float]", points: pd.DataFrame, notes: tuple[str, ...]) -> Section:
    low, high = by_site.quantile(0.05), by_site.quantile(0.95)
    # white means "no effect" as long as at least 5 % of places are on either side of it
    center = 0.0 if low < 0 < high else float(by_site.mean())
    meaning = "no effect" if center == 0 else "the average over places"
    picture = draw_figure(
        lambda ax: plot_effect_map(
            points["lon"],
            points["lat"],
            points["effect"],
            ax=ax,
            center=center,
            label="Predicted effect",
        ),
        _map_height(points),
        alt=f"Map of {len(points):,} places coloured by predicted effect.",
        caption=(
            f"One dot per place ({len(points):,}). Blue: above {meaning}; orange: below it; white: "
            f"{meaning}."
        ),
    )
    return Section("Map of effects", tell_spread(by_site), (picture,), limits=notes)


def _map_height(points: pd.DataFrame) -> float:
    shrink = np.cos(np.deg2rad(points["lat"].mean()))
    width = max(float(np.ptp(points["lon"]) * shrink), 1e-9)
    return float(np.clip(1.0 + 3.3 * float(np.ptp(points["lat"])) / width, 2.6, 6.4))


def _show_exemplars(by_site: "pd.Series[float]", chips: Chips | None) -> Section:
    twins = find_twins(chips)
    has_chip = by_site.index if chips is None else by_site.index[by_site.index.isin(chips.keys)]
    ranked = by_site.loc[has_chip[~has_chip.isin(list(twins))]].sort_values(
        ascending=False, kind="stable"
    )
    n_shown = min(N_EXEMPLARS, len(ranked) // 2)
    top, bottom = ranked.iloc[:n_shown], ranked.iloc[len(ranked) - n_shown :].iloc[::-1]
    # finer than for an interval, so that neighbours differ
    decimals = decimals_for(float(np.ptp(ranked)) / 4) if len(ranked) else 2
    title = "Places with the highest and lowest effect"
    if n_shown == 0:
        return Section(title, "There are too few places to set the highest against the lowest.")
    sentence = (
        f"The effect is predicted to be highest in {top.index[0]} "
        f"({plain_number(float(top.iloc[0]), decimals)}) and lowest in {bottom.index[0]} "
        f"({plain_number(float(bottom.iloc[0]), decimals)}); look at what the places have in "
        "common rather than at any one of them."
    )
    limits = []
    if twins:
        limits.append(
            f"{len(twins):,} places whose image is identical to that of another place were not "
            "shown, because one of the two must be wrong."
        )
    if chips is None:
        rows = [
            (f"{site}", plain_number(float(value), decimals))
            for site, value in pd.concat([top, bottom.iloc[::-1]]).items()
        ]
        table = Table(("Place", "Predicted effect"), tuple(rows))
        return Section(title, sentence, table=table, limits=tuple(limits))
    galleries, note = _draw_galleries(top, bottom, chips, decimals)
    return Section(title, sentence, galleries=galleries, note=note, limits=tuple(limits))


def _draw_galleries(
    top: "pd.Series[float]", bottom: "pd.Series[float]", chips: Chips, decimals: int
) -> tuple[tuple[tuple[str, tuple[Picture, ...]], ...], str]:
    """Return the two rows of chips, and a sentence on how they are coloured."""
    both = pd.concat([top, bottom])
    images = [latest_image(chips, site) for site in both.index]
    bands = pick_bands(chips.bands)
    texts = []
    for site, value in both.items():
        effect = plain_number(float(value), decimals)
        texts.append((f"Image of {site}, predicted effect {effect}", f"{site}: {effect}"))
    pictures = draw_chips(images, bands, texts)
    galleries = (
        ("Highest predicted effect", tuple(pictures[: len(top)])),
        ("Lowest predicted effect", tuple(pictures[len(top) :])),
    )
    return galleries, _tell_colors([str(chips.bands[k]) for k in bands], images)


def _tell_colors(names: Sequence[str], images: Sequence[NDArray[np.float32]]) -> str:
    if len(names) == 1:
        colors = f"Brightness shows the band {names[0]}"
    else:
        colors = f"Red, green and blue show the bands {names[0]}, {names[1]} and {names[2]}"
    words = f"{colors}, stretched alike in all images."
    if any(np.isnan(image).any() for image in images):
        words += " Light grey pixels are missing."
    return words
