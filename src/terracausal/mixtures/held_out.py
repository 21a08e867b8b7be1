"""What a mixture of some sites says of others."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import clone

from terracausal._foundation.randomness import random_generator
from terracausal.mixtures.adjusting import residuals_of
from terracausal.mixtures.design import SiteTable, embeddings_of, site_labels
from terracausal.mixtures.effect_mixture import EffectMixture
from terracausal.mixtures.preparing import prepare, train_on_images
from terracausal.nuisance import cross_fit
from terracausal.study import Study

if TYPE_CHECKING:
    from terracausal.imagery import Chips
    from terracausal.mixtures.design import MixtureDesign, MixtureTable

Floats = NDArray[np.float64]
_N_DRAWS = 200


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Log densities (n_held_out,) of sites, their clusters, and the types (n_sites,) of all.

    `blind_log_density` is that of types whose shares are the same at all sites, images unseen.
    """

    log_density: Floats
    blind_log_density: Floats
    clusters: list[object]
    types: NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class HeldOutSearch:
    """What all candidates and folds share."""

    study: Study
    settings: EffectMixture
    chips: "Chips | None"
    seed: int

    def held_out(
        self, n_components: int, train: NDArray[np.bool_], test: NDArray[np.bool_]
    ) -> HeldOut:
        """Fit to one part; return what is said of the other."""
        rng = random_generator(self.seed)
        (blind,) = rng.spawn(1)
        mixture = clone(self.settings).set_params(n_components=n_components)
        known, unknown = self.study.subset(train), self.study.subset(test)
        inside, outside = self._described(mixture, known, unknown, rng)
        left = self._residuals
        design, table = prepare(known, mixture, inside, left)
        held = design.apply(unknown, outside, left)
        site, logits = _predict(mixture, design, table, held, rng)
        without = site
        if n_components > 1:
            inside_blind, held_blind = (replace(t, image=t.image[:, :1]) for t in (table, held))
            without, _ = _predict(mixture, design, inside_blind, held_blind, blind)
        own = unknown.canonical()
        clusters = own.sites if own.clusters is None else own.clusters
        first = np.unique(held.site, return_index=True)[1]
        everyone = np.concatenate([table.image, held.image])
        order = np.argsort(table.sites.append(held.sites).astype(str), kind="stable")
        types = (everyone @ logits.T).argmax(axis=1)[order]
        return HeldOut(site, without, list(np.asarray(clusters, dtype=object)[first]), types)

    def _described(
        self, mixture: EffectMixture, known: Study, unknown: Study, rng: np.random.Generator
    ) -> tuple[SiteTable | None, SiteTable | None]:
        if self.chips is None and mixture.networks is None:
            return None, None
        networks = train_on_images(mixture, known, self.chips, rng)
        sites = site_labels(unknown).unique()
        images = self.chips.select(sites) if self.chips is not None else None
        if images is None:
            given = embeddings_of(unknown.canonical(), None).types
            images = networks.vectors(given)
        return networks.out_of_fold, networks.describe_together(images)

    @cached_property
    def _residuals(self) -> pd.DataFrame | None:
        if self.settings.adjustment != "orthogonal":
            return None
        return residuals_of(self.study, cross_fit(self.study, random_state=self.seed))


def _predict(
    mixture: EffectMixture,
    design: "MixtureDesign",
    table: "MixtureTable",
    held: "MixtureTable",
    rng: np.random.Generator,
) -> tuple[Floats, Floats]:
    """Return log densities (n_held_out,) of held-out sites, and the logits' coefficients."""
    import torch

    from terracausal.mixtures.density import MixtureDensity
    from terracausal.mixtures.fitting import find_mode, make_density, one_thread
    from terracausal.mixtures.posterior import laplace_posterior

    density = make_density(design, table)
    with one_thread(), torch.no_grad():
        mode = find_mode(density, mixture.n_restarts, rng)
        draws = laplace_posterior(mode, _N_DRAWS, rng).draws
        other = MixtureDensity(held, density.blocks, mixture.family, design.scale)
        by_draw = torch.cat([part.log_sites(draws) for _, part in other.parts(_N_DRAWS)], dim=1)
        site = (torch.logsumexp(by_draw, dim=0) - np.log(_N_DRAWS)).numpy()
        logits = density.part(mode.parameters[None], "membership")[0].numpy()
    volume = design.scale.log_volume(held.observed) * held.weight
    return site + np.bincount(held.site, weights=volume, minlength=held.n_sites), logits
