"""Trains networks of types and baseline by the exact likelihood of whole sites, out of fold."""

import copy
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from terracausal._foundation.progress import track
from terracausal._foundation.randomness import draw_seed
from terracausal.encoders import networks
from terracausal.encoders.base import read_batches
from terracausal.encoders.networks.devices import seeded
from terracausal.encoders.networks.running import Appetite, run_sites
from terracausal.encoders.networks.settings import TrainingSettings
from terracausal.encoders.networks.site_images import days_since_1970
from terracausal.encoders.networks.targets import UnitTargets
from terracausal.encoders.networks.training import TrainedNetwork, train_network
from terracausal.encoders.random_networks import band_moments
from terracausal.imagery import Chips
from terracausal.mixtures.density import MixtureDensity
from terracausal.mixtures.design import MixtureTable, SiteTable, site_labels
from terracausal.mixtures.fitting import find_mode
from terracausal.mixtures.mean_field import MeanField
from terracausal.mixtures.networks import (
    NETWORKS,
    Member,
    MixtureNetworks,
    SiteNetworks,
    mean_table,
)
from terracausal.study import Folds, Study

Floats = NDArray[np.float64]
_STEP = 0.02  # learning rate of the parameters that all sites share
_SPREAD = (0.4, 1.0)  # of the first effects, in SD of the outcome: equal ones would never part


class TypeNetwork(nn.Module):
    """Logits of the types, the baseline, and the parameters that all sites share.

    Parameters
    ----------
    types : torch.nn.Module
        Maps pixels and days to K - 1 logits; None for one type.
    baseline : torch.nn.Module
        Maps pixels and days to one number.
    shared : Tensor of shape (n_parameters,)
        Where the shared parameters start.
    speed : float
        Their learning rate over that of the networks.
    """

    start: Tensor

    def __init__(
        self, types: nn.Module | None, baseline: nn.Module, shared: Tensor, speed: float
    ) -> None:
        super().__init__()
        self.types, self.baseline = types, baseline
        self.register_buffer("start", shared.to(torch.float32))
        self.moved = nn.Parameter(torch.zeros(len(shared)))
        self.speed = speed

    @property
    def oriented(self) -> bool:
        """Whether turned and mirrored images are other images to one of the networks."""
        both = (self.types, self.baseline)
        return any(bool(getattr(network, "oriented", False)) for network in both)

    @property
    def shared(self) -> Tensor:
        """The parameters that all sites share."""
        return self.start + self.speed * self.moved

    def forward(self, pixels: Tensor, days: Tensor) -> Tensor:
        """Return logits (b, K), the first of them 0, baseline (b, 1), what is shared, divergence.

        The divergence of the networks' posterior from their prior is 0 without one.
        """
        baseline = self.baseline(pixels, days)
        logits = torch.zeros_like(baseline)
        if self.types is not None:
            logits = torch.cat([logits, self.types(pixels, days)], dim=1)
        same = torch.cat([self.shared, self._divergence()]).expand(len(pixels), -1)
        return torch.cat([logits, baseline, same], dim=1)

    def with_posterior(self) -> "TypeNetwork":
        """Return the network with a normal posterior around its present parameters."""
        types = None if self.types is None else MeanField(self.types)
        return TypeNetwork(types, MeanField(self.baseline), self.shared.detach(), self.speed)

    def draws(self, drawing: bool) -> None:
        """Let the networks draw their parameters at each call, or not."""
        for network in (self.types, self.baseline):
            if isinstance(network, MeanField):
                network.drawing = drawing

    def _divergence(self) -> Tensor:
        parts = [n.divergence() for n in (self.types, self.baseline) if isinstance(n, MeanField)]
        return torch.stack([self.moved.new_zeros(()), *parts]).sum()[None]


def train_site_networks(
    chips: Chips,
    table: MixtureTable,
    density: MixtureDensity,
    folds: "pd.Series[int]",
    given: MixtureNetworks,
    rng: np.random.Generator,
) -> SiteNetworks:
    """Train networks for each fold on all others, and describe each site out of fold.

    The restarts of a fold are averaged: which of them is best, a few held-out sites cannot tell.

    Parameters
    ----------
    chips : Chips
        Of all sites.
    table : MixtureTable
    density : MixtureDensity
        Of the table, whose memberships and baseline do not see images.
    folds : pandas.Series of shape (n_sites,)
        Fold of each site of the table.
    given : MixtureNetworks
    rng : numpy.random.Generator

    Returns
    -------
    SiteNetworks
    """
    labels = np.unique(folds.to_numpy())
    everyone = chips.select(table.sites)
    trained: list[list[TypeNetwork]] = []
    histories = []
    for number, label in enumerate(track(labels, "training networks, fold by fold")):
        inside = (folds != label).to_numpy()
        found, constant = _train(chips, table, density, inside, (given, number), rng)
        trained.append([cast(TypeNetwork, one.network) for one in found])
        histories.append(
            {
                "fold": int(label),
                "n_networks": len(found),
                "n_epochs": float(np.mean([len(one.history) for one in found])),
                "held_out_loss": float(np.mean([one.held_out_loss for one in found])),
                "constant_loss": float(np.mean(constant)),
            }
        )
    outputs = [
        [outputs_of(network, everyone, given.settings.batch_size) for network in networks]
        for networks in trained
    ]
    members = _members(trained, outputs, density, [(folds != f).to_numpy() for f in labels])
    said = [
        mean_table([m.table(rows, table.sites) for m, rows in zip(own, by_network, strict=True)])
        for own, by_network in zip(members, outputs, strict=True)
    ]
    history = pd.DataFrame(histories)
    history["agreement"] = [_correlation(said[0].types, other.types) for other in said]
    blind = np.searchsorted(labels, folds)
    return SiteNetworks(
        members,
        chips.bands,
        _out_of_fold(said, blind),
        pd.Series(blind, index=table.sites),
        history,
        given,
    )


def _members(
    trained: list[list[TypeNetwork]],
    outputs: list[list[Floats]],
    density: MixtureDensity,
    inside: list[NDArray[np.bool_]],
) -> tuple[tuple[Member, ...], ...]:
    """Return the networks with their types in one order, centred at the sites of their training."""
    flat = [network for networks in trained for network in networks]
    effects = [density.part(net.shared[None].double(), "effect")[0].numpy() for net in flat]
    order = iter(_orders([rows for by in outputs for rows in by], effects, density.n_components))
    return tuple(
        tuple(
            Member(network, next(order), rows[known].mean(axis=0))
            for network, rows in zip(networks, by_network, strict=True)
        )
        for networks, by_network, known in zip(trained, outputs, inside, strict=True)
    )


def _train(
    chips: Chips,
    table: MixtureTable,
    density: MixtureDensity,
    inside: NDArray[np.bool_],
    what: tuple[MixtureNetworks, int],
    rng: np.random.Generator,
) -> tuple[list[TrainedNetwork], list[float]]:
    """Train all restarts of a fold; return also the losses of a mixture that sees no images.

    Each restart holds out other sites to stop its training.
    """
    given, fold = what
    codes = np.flatnonzero(inside)
    known = density.at(codes)
    mode = find_mode(known, 4, rng)
    start, speed = mode.parameters, _STEP / given.settings.learning_rate
    keys = table.sites[codes]
    used = chips.select(keys)
    mean, scale = (torch.from_numpy(numbers) for numbers in band_moments(used))
    values = pd.DataFrame({"site_number": codes.astype(float)}, index=keys)
    targets = UnitTargets(
        values,
        pd.Series(keys, index=keys, name="site"),
        cluster=pd.Series(table.cluster[codes], index=keys, name="cluster"),
    )

    def make() -> nn.Module:
        types = None
        if density.n_components > 1:
            types = _network(given.network, chips.n_bands, density.n_components - 1, mean, scale)
        kind = given.network if given.baseline is None else given.baseline
        baseline = _network(kind, chips.n_bands, 1, mean, scale)
        return TypeNetwork(types, baseline, _apart(density, start), speed)

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        return site_loss(density, outputs, targets[:, 0], len(codes))

    def train(make_network: Callable[[], nn.Module], name: str) -> TrainedNetwork:
        settings = _once(given.settings, f"fold_{fold}.{name}")
        return train_network(
            make_network, used, targets, loss, settings,
            device=given.device, random_state=draw_seed(rng),
        )  # fmt: skip

    trained, constant = [], []
    for restart in range(given.settings.n_restarts):
        found = train(make, f"restart_{restart}")
        if given.bayesian:
            first = cast(TypeNetwork, found.network)
            found = train(partial(_with_posterior, first), f"restart_{restart}.posterior")
        trained.append(found)
        held = density.at(table.sites.get_indexer(found.held_out_sites))
        with torch.no_grad():
            share = density.log_prior(start[None]) / len(codes)
            constant.append(float(-held.log_sites(start[None]).mean() - share))
    return trained, constant


def _with_posterior(network: TypeNetwork) -> TypeNetwork:
    return copy.deepcopy(network).with_posterior()


def _once(settings: TrainingSettings, name: str) -> TrainingSettings:
    """Return the settings of one training, whose checkpoint has a name of its own."""
    path = settings.checkpoint
    if path is not None:
        path = Path(path).with_name(f"{Path(path).name}.{name}")
    return replace(settings, n_restarts=1, checkpoint=path)


def site_loss(density: MixtureDensity, outputs: Tensor, codes: Tensor, n_sites: int) -> Tensor:
    """Return the negative log density of sites, types summed out, with a share of the priors.

    Parameters
    ----------
    density : MixtureDensity
    outputs : Tensor of shape (b, K + 1 + n_parameters + 1)
        As from `TypeNetwork`.
    codes : Tensor of shape (b,)
        Which sites.
    n_sites : int
        Over which priors and divergence are shared.

    Returns
    -------
    Tensor of shape (b,)
    """
    K = density.n_components
    outputs = outputs.double().cpu()
    parameters, divergence = outputs[:1, K + 1 : -1], outputs[0, -1]
    part = density.at(codes.cpu().long().numpy()).with_images(outputs[:, :K], outputs[:, K])
    shared = divergence - density.log_prior(parameters)
    return shared / n_sites - part.log_sites(parameters)[0]


def outputs_of(
    network: TypeNetwork, chips: Chips, batch_size: int, seed: int | None = None
) -> Floats:
    """Return logits and baseline of all sites, of shape (n_sites, K + 1).

    Parameters
    ----------
    network : TypeNetwork
    chips : Chips
    batch_size : int
    seed : int, default=None
        Of a draw of the networks' parameters; None takes their means.

    Returns
    -------
    ndarray
    """
    place = torch.device("cpu")
    appetite = Appetite(batch_size, place)
    rows = []
    network.eval()
    network.draws(seed is not None)
    for batch in read_batches(chips, batch_size):
        days = torch.from_numpy(days_since_1970(batch.days))
        with seeded(seed or 0, place):  # one draw for all sites
            rows.append(run_sites(network, (torch.from_numpy(batch.pixels), days), appetite))
    network.draws(False)
    found = torch.cat(rows)[:, : -len(network.start) - 1]
    return np.asarray(found.numpy(), dtype=np.float64)


class Perceptron(nn.Module):
    """One hidden layer on images of one pixel, which stand for vectors.

    Parameters
    ----------
    n_bands : int
        Length of the vectors.
    n_hidden : int, default=16
    """

    oriented = True

    def __init__(self, n_bands: int, n_hidden: int = 16) -> None:
        super().__init__()
        self.n_features = n_bands + n_hidden
        self.hidden = nn.Linear(n_bands, n_hidden)

    def forward(self, images: Tensor) -> Tensor:
        """Return the vectors and what the hidden layer makes of them."""
        flat = images.flatten(1)
        return torch.cat([flat, torch.tanh(self.hidden(flat))], dim=1)


def _network(
    kind: object, n_bands: int, n_outputs: int, mean: Tensor, scale: Tensor
) -> networks.SiteNetwork:
    make = kind
    if isinstance(kind, str):
        make = Perceptron if kind == "mlp" else getattr(networks, NETWORKS[kind])
    if not callable(make):
        raise TypeError(f"a network must be a name or callable; got {kind!r}")
    network = networks.SiteNetwork(make(n_bands), n_outputs, mean, scale)
    # types start alike and the baseline flat: what is seen at first is noise
    nn.init.normal_(network.head.weight, std=0.01)
    nn.init.zeros_(network.head.bias)
    return network


def _apart(density: MixtureDensity, start: Tensor) -> Tensor:
    """Return shared parameters whose effects are spread, at random, around their mean."""
    point = start[None].clone()
    effect = density.part(point, "effect")
    if density.n_components > 1:
        low, high = _SPREAD
        gap = low + (high - low) * float(torch.rand(1))
        sign = torch.linspace(-1.0, 1.0, density.n_components, dtype=point.dtype)
        effect[:] = effect.mean() + gap * sign
    return point[0]


def _orders(
    outputs: list[Floats], effects: list[Floats], n_components: int
) -> tuple[NDArray[np.intp], ...]:
    """Return the order of each network's types: by effect in the first, matched in the others.

    Matched by the Hungarian method on the sum of the gaps between effects, and on the share of
    sites that both call so.
    """
    first = np.argsort(effects[0], kind="stable")
    reference, chance = effects[0][first], _softmax(outputs[0][:, :-1][:, first])
    orders = []
    for rows, effect in zip(outputs, effects, strict=True):
        gap = np.abs(reference[:, None] - effect[None, :])
        shared = chance.T @ _softmax(rows[:, :-1]) / len(rows)
        _, columns = linear_sum_assignment(gap - n_components * shared)
        orders.append(np.asarray(columns, dtype=np.intp))
    return tuple(orders)


def _softmax(logits: Floats) -> Floats:
    high = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(high / high.sum(axis=1, keepdims=True))


def _correlation(one: pd.DataFrame, other: pd.DataFrame) -> float:
    """Return the mean correlation of log odds over sites; NaN for one type."""
    pairs = [np.corrcoef(one[name], other[name])[0, 1] for name in one.columns]
    return float(np.mean(pairs)) if pairs else float("nan")


def _out_of_fold(said: list[SiteTable], blind: NDArray[np.intp]) -> SiteTable:
    """Return what is said of each site by the networks that did not see it."""
    first, everyone = said[0], np.arange(len(blind))
    types = np.stack([table.types.to_numpy() for table in said])[blind, everyone]
    baseline = np.stack([table.baseline.to_numpy() for table in said])[blind, everyone]
    return SiteTable(
        pd.DataFrame(types, index=first.types.index, columns=first.types.columns),
        pd.DataFrame(baseline, index=first.baseline.index, columns=first.baseline.columns),
    )


def site_folds(folds: Folds, study: Study, keys: pd.Index) -> "pd.Series[int]":
    """Return the fold of each site.

    Parameters
    ----------
    folds : Folds
        Of units.
    study : Study
    keys : pandas.Index of length n_sites

    Returns
    -------
    pandas.Series of shape (n_sites,)
    """
    labels = folds.labels.loc[study.units].to_numpy()
    return pd.Series(labels, index=site_labels(study)).groupby(level=0).first().loc[keys]
