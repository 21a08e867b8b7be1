"""From a study and its images to what a mixture is fitted to and predicts from."""

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from terracausal._foundation.errors import RoleError
from terracausal._foundation.randomness import draw_seed
from terracausal.mixtures.design import (
    MixtureDesign,
    MixtureTable,
    SiteTable,
    embeddings_of,
    learn_design,
    site_labels,
)
from terracausal.mixtures.networks import (
    MixtureNetworks,
    SiteNetworks,
    as_chips,
    join_images,
    refuse_other_encoder,
    refuse_other_input,
)
from terracausal.mixtures.projection import learn_projection
from terracausal.mixtures.settings import MIN_SITES
from terracausal.study import Study
from terracausal.study.data import check_same_places

if TYPE_CHECKING:
    from terracausal.imagery import Chips
    from terracausal.mixtures.effect_mixture import EffectMixture

Floats = NDArray[np.float64]


def prepare(
    study: Study,
    mixture: "EffectMixture",
    described: SiteTable | None = None,
    residuals: pd.DataFrame | None = None,
) -> tuple[MixtureDesign, MixtureTable]:
    """Return design and arrays of a study; refuse more components than its sites support.

    Parameters
    ----------
    study : Study
    mixture : EffectMixture
        Its settings.
    described : SiteTable, default=None
        None takes the study's joined embeddings.
    residuals : pandas.DataFrame, default=None
        As from `residuals_of`, for the orthogonal likelihood.

    Returns
    -------
    MixtureDesign, MixtureTable

    Raises
    ------
    ValueError
        There are fewer than 10 sites per component.
    """
    spec = mixture.spec
    design = learn_design(study, spec, mixture.n_dimensions, described, residuals)
    table = design.apply(study, described, residuals)
    check_support(table.n_sites, spec.n_components)
    return design, table


def check_support(n_sites: int, n_components: int) -> None:
    """Refuse more components than the sites support.

    Parameters
    ----------
    n_sites : int
    n_components : int
    """
    most = n_sites // MIN_SITES
    if n_components > most:
        raise ValueError(
            f"Each component needs at least {MIN_SITES} sites; {n_sites} sites support at "
            f"most {most}, got n_components={n_components}. Use fewer components or more sites."
        )


def check_input(study: Study, chips: "Chips | None", mixture: "EffectMixture") -> None:
    """Refuse, before anything is fitted or trained, what a mixture cannot be fitted to.

    Parameters
    ----------
    study : Study
    chips : Chips or None
    mixture : EffectMixture
        Its settings.

    Raises
    ------
    TypeError
        One of these is something else.
    RoleError
        The networks read something else, or effects are to differ along no covariates.
    AlignmentError
        A site has no chip.
    ValueError
        The outcome is constant or not of the family, or sites are too few.
    """
    from terracausal.imagery import Chips

    kinds = (
        ("study", study, Study),
        ("chips", chips, Chips | None),
        ("networks", mixture.networks, MixtureNetworks | None),
    )
    for name, given, kind in kinds:
        if not isinstance(given, kind):
            wanted = {"study": "a Study", "chips": "Chips", "networks": "MixtureNetworks"}[name]
            raise TypeError(
                f"`{name}` must be {wanted}; got {type(given).__name__}. Embeddings are joined to "
                "the study: study.join(embeddings, role='modifier')."
            )
    if chips is not None or mixture.networks is not None:
        check_network_input(mixture.networks or MixtureNetworks(), chips)
    if chips is not None:
        site_labels(study)
        check_same_places(study, chips)
        join_images(study, chips)
    blank = pd.DataFrame(index=pd.Index(site_labels(study).unique()))
    learn_design(study, mixture.spec, 1, SiteTable(blank, blank))
    check_support(len(blank), mixture.n_components)


def check_network_input(given: MixtureNetworks, chips: "Chips | None") -> None:
    """Refuse chips for networks that read embeddings, and the other way round.

    Parameters
    ----------
    given : MixtureNetworks
    chips : Chips or None
    """
    if given.reads_embeddings != (chips is None):
        got = "no chips" if chips is None else f"chips of {chips.n_sites} sites"
        raise RoleError(
            f"The network {given.network!r} reads "
            f"{'embeddings, fit(study)' if given.reads_embeddings else 'chips, fit(study, chips)'};"
            f" got {got}."
        )


def train_on_images(
    mixture: "EffectMixture", study: Study, chips: "Chips | None", rng: np.random.Generator
) -> SiteNetworks:
    """Train networks on chips, or on embeddings; images are checked as joined embeddings are.

    Parameters
    ----------
    mixture : EffectMixture
        Its settings.
    study : Study
    chips : Chips or None
    rng : numpy.random.Generator

    Returns
    -------
    SiteNetworks
    """
    from terracausal.mixtures.fitting import make_density, one_thread
    from terracausal.mixtures.network_training import site_folds, train_site_networks

    given = mixture.networks or MixtureNetworks()
    check_network_input(given, chips)
    grouped, embedding = study, None
    if chips is None:
        table = embeddings_of(study.canonical(), None).types
        embedding = learn_projection(table, mixture.n_dimensions)
        chips = as_chips(embedding, table)
    else:
        site_labels(study)
        check_same_places(study, chips)
        grouped = join_images(study, chips)
    blank = pd.DataFrame(index=pd.Index(chips.keys))
    unseen = SiteTable(blank, blank)
    spec = replace(mixture.spec, effect="constant", adjustment="baseline")
    design = learn_design(study, spec, 1, unseen)
    table_of_units = design.apply(study, unseen)
    check_support(table_of_units.n_sites, spec.n_components)
    folds = grouped.folds(given.n_folds, random_state=draw_seed(rng))
    labels = site_folds(folds, study, table_of_units.sites)
    with one_thread():
        found = train_site_networks(
            chips, table_of_units, make_density(design, table_of_units), labels, given, rng
        )
    return replace(found, embedding=embedding)


def site_features(
    mixture: "EffectMixture", images: "pd.DataFrame | Chips"
) -> tuple[pd.Index, list[Floats]]:
    """Return the sites, and what each network (or the one projection) says of their types.

    Parameters
    ----------
    mixture : EffectMixture
        Fitted.
    images : DataFrame or Chips
        Any sites.

    Returns
    -------
    keys : pandas.Index of length n_sites
    places : list of ndarray of shape (n_sites, n_dimensions)
    """
    networks, design = mixture.networks_, mixture.design_
    on_chips = networks is not None and not networks.settings.reads_embeddings
    refuse_other_input(images, networks.bands if networks is not None and on_chips else None)
    if isinstance(images, pd.DataFrame):
        refuse_other_encoder(dict(images.attrs.get("encoder", {})), mixture.encoders_)
        if networks is None or networks.embedding is None:
            return images.index, [design.types.project(images)]
        images = networks.vectors(images)
    if networks is None:
        raise TypeError("chips were given to a mixture of embeddings")
    tables = networks.describe(images)
    return images.keys, [design.types.project(table.types) for table in tables]
