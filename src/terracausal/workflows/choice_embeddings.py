"""The embeddings of a comparison: each encoder once for each scale, and what they are told by."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import clone

from terracausal._foundation.errors import AlignmentError, LeakageError, list_some
from terracausal._foundation.randomness import canonical_order
from terracausal.encoders import MultiScaleEncoder, embed
from terracausal.encoders.base import ChipEncoder, overlapping_groups
from terracausal.encoders.digests import digest_of
from terracausal.encoders.identity import chips_digest
from terracausal.imagery import Chips
from terracausal.imagery.cropping import centre_crop, check_crop
from terracausal.imagery.last_images import describe_image_dates
from terracausal.study import Study
from terracausal.workflows.choices import Choices, Scale

Source = tuple[str, str, str]
_PREFIX = "embedding_"  # so that no column bears the name of a covariate


@dataclass(frozen=True, eq=False)
class EmbeddingRecipe:
    """What makes one table of embeddings, without making it.

    Parameters
    ----------
    encoder : ChipEncoder or DataFrame
    chips : Chips, default=None
        The images that are encoded; None for a table.
    crop : int or tuple of int, default=None
        Side of the centre crop, or several.
    identity : str, default=""
        Checksum of all that decides about the numbers.
    """

    encoder: Any
    chips: Chips | None = None
    crop: Scale = None
    identity: str = ""

    def table(self, folder: Path | None) -> pd.DataFrame:
        """Return the embeddings by site; encoders are fitted on all chips of the study.

        Parameters
        ----------
        folder : Path, default=None
            Where embeddings are kept.

        Returns
        -------
        pandas.DataFrame of shape (n_sites, n_features)
        """
        if self.chips is None:
            found = self.encoder
        else:
            chips, encoder = self.chips, clone(self.encoder)
            if isinstance(self.crop, int):
                chips = centre_crop(chips, self.crop)
            elif self.crop is not None:
                encoder = MultiScaleEncoder(encoder, self.crop)
            encoder.fit(chips)
            found = encoder.transform(chips) if folder is None else embed(encoder, chips, folder)
        named = found.rename(columns=str).add_prefix(_PREFIX)
        named.attrs = dict(found.attrs)
        return pd.DataFrame(named)


def embedding_recipes(
    study: Study, choices: Choices, chips: Chips | None, root: int
) -> dict[Source, EmbeddingRecipe]:
    """Return the recipe of every table of embeddings, checked at the door.

    Parameters
    ----------
    study : Study
    choices : Choices
    chips : Chips, default=None
        Needed by encoders.
    root : int
        Seed of encoders that have none of their own.

    Returns
    -------
    dict of (encoder, scale, images) to EmbeddingRecipe
    """
    sources = dict.fromkeys(c.source for c in choices.combinations() if c.data != "tabular")
    tables, made = choices.tables, {}
    for name, table in tables.items():
        study.join(table.add_prefix(_PREFIX), role="modifier")  # refuses what cannot be joined
        made[name] = digest_of(["table", table.iloc[canonical_order(table.index)]])
    by_images = _chips_by_images(study, sources, tables, chips)
    digests = {images: chips_digest(found) for images, found in by_images.items()}
    recipes = {}
    for name, scale, images in sources:
        if name in tables:
            recipes[name, scale, images] = EmbeddingRecipe(tables[name], identity=made[name])
            continue
        crop, encoder = choices.crops[scale], _seeded(choices.encoders[name], root)
        if crop is not None:
            check_crop(by_images[images].size_px, max((crop,) if isinstance(crop, int) else crop))
        recipe = EmbeddingRecipe(encoder, by_images[images], crop)
        identity = digest_of(["encoder", encoder, crop, digests[images]])
        recipes[name, scale, images] = replace(recipe, identity=identity)
    return recipes


def _chips_by_images(
    study: Study, sources: Any, tables: dict[str, pd.DataFrame], chips: Chips | None
) -> dict[str, Chips]:
    """Return the chips of the study's sites: all of their images, or the last of each."""
    needed = {images for name, _, images in sources if name not in tables}
    if not needed:
        return {}
    names = list(dict.fromkeys(name for name, _, _ in sources if name not in tables))
    if chips is None:
        raise ValueError(
            f"The encoders {list_some(names)} need chips; got none. Pass chips=, or tables of "
            "embeddings by site instead of encoders."
        )
    if study.sites is None:
        raise ValueError("Chips are found by site, but the study has no `site` column. Name it.")
    sites = pd.Index(study.sites.unique())
    absent = sites[~sites.isin(chips.keys)]
    if len(absent):
        raise AlignmentError(
            f"Every unit needs a chip of its site; {len(absent)} of {len(sites)} sites have none: "
            f"{list_some(absent)}. Read their chips, or leave these units out of the study."
        )
    own = chips.select(sites[canonical_order(sites)])
    if "all" in needed and own.n_times == 1:
        raise ValueError(
            "`data` names image sequences, but each site has 1 image. Compare data='image', or "
            "read chips of several dates."
        )
    found = {images: own if images == "all" else own.select(times="last") for images in needed}
    for images in found.values():
        _told(study, f"{_PREFIX}dates", describe_image_dates(images))  # refuses late images
    return found


def _seeded(encoder: ChipEncoder, root: int) -> ChipEncoder:
    """Return a clone whose unset seeds are set, so that the same call encodes the same."""
    fresh: ChipEncoder = clone(encoder)
    if fresh.supervised:
        raise LeakageError(
            f"Encoders are fitted on all chips of the study, so they must not read outcomes; "
            f"{type(fresh).__name__} does. Give the table of its `cross_fit_transform` instead."
        )
    unset = {
        name: root
        for name, value in fresh.get_params(deep=True).items()
        if value is None and name.rpartition("__")[2] == "random_state"
    }
    return fresh.set_params(**unset) if unset else fresh


def study_with_overlaps(study: Study, recipes: dict[Source, EmbeddingRecipe]) -> Study:
    """Return the study with columns that only tell which sites have overlapping images.

    Folds of all choices are made from it, so that they are the same.

    Parameters
    ----------
    study : Study
    recipes : dict of (encoder, scale, images) to EmbeddingRecipe

    Returns
    -------
    Study
    """
    facts = [
        recipe.encoder.attrs.get("encoder", {}).get("overlapping", ())
        if recipe.chips is None
        else overlapping_groups(recipe.chips)
        for recipe in recipes.values()
    ]
    distinct = {tuple(sorted(map(tuple, groups), key=str)) for groups in facts}
    for number, groups in enumerate(sorted(distinct - {()}, key=str)):
        study = _told(study, f"{_PREFIX}overlaps_{number}", {"overlapping": groups})
    return study


def _told(study: Study, name: str, facts: dict[str, Any]) -> Study:
    """Join a constant column that brings facts about the images of the sites."""
    sites = pd.Index([] if study.sites is None else study.sites.unique())
    column = pd.DataFrame({name: np.zeros(len(sites))}, index=sites)
    column.attrs["encoder"] = facts
    return study.join(column, role="modifier")
