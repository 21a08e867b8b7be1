"""Networks that read types and baseline off the images of sites: settings, and what they say."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from terracausal._foundation.checks import check_choice, check_count
from terracausal._foundation.errors import AlignmentError, BandError, list_some
from terracausal.encoders.base import image_facts
from terracausal.encoders.networks.settings import TrainingSettings
from terracausal.imagery import Chips
from terracausal.mixtures.design import SiteTable
from terracausal.mixtures.projection import SiteProjection
from terracausal.study import Study

if TYPE_CHECKING:
    from terracausal.mixtures.network_training import TypeNetwork

Floats = NDArray[np.float64]
NETWORKS = {"cnn": "ConvNetwork", "channelvit": "ChannelViT", "kernel_max": "KernelMaxNetwork"}
_SUGGESTED = {
    "cnn": TrainingSettings(n_epochs=40, patience=10),
    "channelvit": TrainingSettings(n_epochs=40, patience=10),
    "kernel_max": TrainingSettings(learning_rate=0.1, n_epochs=20, batch_size=64, n_restarts=4),
    "mlp": TrainingSettings(learning_rate=0.01, n_epochs=60, patience=15),
}
_N_DRAWS = 10  # of each network with a posterior


@dataclass(frozen=True)
class MixtureNetworks:
    """How the networks of an `EffectMixture` are made and trained.

    One network gives the log odds of the types, another the baseline; they share nothing. Of
    a site with several times, vectors are averaged before the last layer.

    Parameters
    ----------
    network : {"cnn", "channelvit", "kernel_max", "mlp"} or callable, default="cnn"
        `ConvNetwork`, `ChannelViT` or `KernelMaxNetwork` of `terracausal.encoders.networks`, which
        read chips, or a function of the number of bands that returns a torch module as
        `TrainedEncoder` takes it. "mlp" reads embeddings, through one hidden layer.
    baseline : same, default=None
        The network of the baseline; None takes the same kind.
    training : TrainingSettings, default=None
        None takes settings that suit the network. All restarts are kept, and the mean of their log
        odds and baselines is taken: on simulated chips that sorted sites better than the restart
        with the lowest held-out loss, and each restart holds out other sites.
    n_folds : int, default=3
        Each site is described by networks that saw none of the outcomes of its fold.
    bayesian : bool, default=False
        Whether all layers then have a mean-field normal posterior, as in the paper (see
        `mean_field`): a second training, and `predict_proba` draws from it.
    device : str, default="cpu"
        "cpu" or "cuda".

    Examples
    --------
    >>> MixtureNetworks("kernel_max").settings.n_restarts
    4
    """

    network: Literal["cnn", "channelvit", "kernel_max", "mlp"] | Callable[[int], Any] = "cnn"
    baseline: Literal["cnn", "channelvit", "kernel_max", "mlp"] | Callable[[int], Any] | None = None
    training: TrainingSettings | None = None
    n_folds: int = 3
    bayesian: bool = False
    device: str = "cpu"

    def __post_init__(self) -> None:
        check_count("n_folds", self.n_folds, minimum=2)
        for name in ("network", "baseline"):
            given = getattr(self, name)
            if given is not None and not callable(given):
                check_choice(name, given, tuple(_SUGGESTED))

    @property
    def settings(self) -> TrainingSettings:
        """How to train."""
        default = _SUGGESTED.get(self.network) if isinstance(self.network, str) else None
        return self.training or default or _SUGGESTED["cnn"]

    @property
    def reads_embeddings(self) -> bool:
        """Whether the network reads vectors instead of chips."""
        return self.network == "mlp"


@dataclass(frozen=True, eq=False)
class Member:
    """A trained network, its types in the order that all share.

    Parameters
    ----------
    network : TypeNetwork
    order : ndarray of shape (K,)
        Which of its types stands at each place.
    centre : ndarray of shape (K + 1,)
        Mean outputs over the sites of its fold's training.
    """

    network: "TypeNetwork"
    order: NDArray[np.intp]
    centre: Floats

    def table(self, outputs: Floats, keys: pd.Index) -> SiteTable:
        """Return centred log odds against the first type, and the baseline.

        Parameters
        ----------
        outputs : ndarray of shape (n_sites, K + 1)
            Logits of the types, and the baseline.
        keys : pandas.Index of length n_sites

        Returns
        -------
        SiteTable
        """
        centred = outputs - self.centre
        logits = centred[:, :-1][:, self.order]
        odds = logits[:, 1:] - logits[:, :1]
        names = [f"log_odds_{k}" for k in range(2, len(self.order) + 1)]
        baseline = pd.DataFrame({"baseline": centred[:, -1]}, index=keys)
        return SiteTable(pd.DataFrame(odds, index=keys, columns=names), baseline)


@dataclass(frozen=True, eq=False)
class SiteNetworks:
    """Trained networks, some for each fold, with types in the same order.

    Parameters
    ----------
    networks : tuple of tuple of Member
        The restarts of each fold, whose outputs are averaged.
    bands : tuple of str
    out_of_fold : SiteTable
        Of the fitted sites.
    blind : pandas.Series of shape (n_sites,)
        The networks of which fold did not see the outcomes of a fitted site.
    history : pandas.DataFrame
        One row per fold: fold, n_networks, and their means n_epochs, held_out_loss (negative log
        density of the sites that stopped the training), constant_loss (the same of a mixture that
        sees outcomes, these too, but no images); agreement (correlation of log odds with those of
        the first fold).
    settings : MixtureNetworks
    embedding : SiteProjection, default=None
        What made vectors out of embeddings, where there were no chips.
    """

    networks: tuple[tuple["Member", ...], ...]
    bands: tuple[str, ...]
    out_of_fold: SiteTable
    blind: "pd.Series[int]"
    history: pd.DataFrame
    settings: MixtureNetworks = field(repr=False)
    embedding: SiteProjection | None = None

    def describe(self, chips: Chips) -> list[SiteTable]:
        """Return what each fold (or draw of it) says; of fitted sites, what the blind one says.

        Parameters
        ----------
        chips : Chips
            With the fitted bands.

        Returns
        -------
        list of SiteTable
        """
        from terracausal.mixtures.network_training import outputs_of

        if chips.bands != self.bands:
            raise BandError(
                f"The mixture was fitted to chips of the bands {list_some(self.bands, 20)}; these "
                f"have {list_some(chips.bands, 20)}. Read the same bands in the same order."
            )
        size = self.settings.settings.batch_size
        seeds = range(_N_DRAWS) if self.settings.bayesian else [None]
        tables = [
            [
                mean_table(
                    [m.table(outputs_of(m.network, chips, size, seed), chips.keys) for m in fold]
                )
                for seed in seeds
            ]
            for fold in self.networks
        ]
        known = chips.keys.intersection(self.blind.index)
        for number, own in enumerate(tables):
            keys = known[(self.blind.loc[known] == number).to_numpy()]
            for others in tables:
                for one, other in zip(own, others, strict=True):
                    other.types.loc[keys] = one.types.loc[keys]
                    other.baseline.loc[keys] = one.baseline.loc[keys]
        return [table for drawn in zip(*tables, strict=True) for table in drawn]

    def describe_together(self, chips: Chips) -> SiteTable:
        """Return the mean of what the networks say of chips.

        Parameters
        ----------
        chips : Chips

        Returns
        -------
        SiteTable
        """
        return mean_table(self.describe(chips))

    def vectors(self, embeddings: pd.DataFrame) -> Chips:
        """Return embeddings as chips of one pixel, as the networks were trained on.

        Parameters
        ----------
        embeddings : pandas.DataFrame of shape (n_sites, n_features)

        Returns
        -------
        Chips
        """
        if self.embedding is None:
            raise TypeError("These networks read chips; got a table of embeddings.")
        return as_chips(self.embedding, embeddings)


def mean_table(tables: list[SiteTable]) -> SiteTable:
    """Return the mean of what several networks say of the same sites.

    Parameters
    ----------
    tables : list of SiteTable

    Returns
    -------
    SiteTable
    """
    types, baseline = tables[0].types.copy(), tables[0].baseline.copy()
    types[:] = np.mean([table.types.to_numpy() for table in tables], axis=0)
    baseline[:] = np.mean([table.baseline.to_numpy() for table in tables], axis=0)
    return SiteTable(types, baseline)


def join_images(study: Study, chips: Chips) -> Study:
    """Return the study with a column that stands for the images, checked as embeddings are.

    Every site must have a chip, images must be from before the treatment, and folds will hold sites
    with overlapping chips together.

    Parameters
    ----------
    study : Study
    chips : Chips

    Returns
    -------
    Study
    """
    place = pd.DataFrame({"chip_number": np.arange(chips.n_sites, dtype=float)}, index=chips.keys)
    place.attrs["encoder"] = image_facts(chips)
    return study.join(place, role="modifier")


def as_chips(projection: SiteProjection, embeddings: pd.DataFrame) -> Chips:
    """Return projected embeddings as chips of one pixel, so that networks of chips can read them.

    Parameters
    ----------
    projection : SiteProjection
    embeddings : pandas.DataFrame of shape (n_sites, n_features)

    Returns
    -------
    Chips
    """
    values = projection.project(embeddings)[:, None, :, None, None]
    bands = [f"dimension_{k}" for k in range(1, values.shape[2] + 1)]
    return Chips.from_arrays(values, sites=list(embeddings.index), bands=bands)


def refuse_other_input(given: object, fitted_bands: tuple[str, ...] | None) -> None:
    """Refuse chips where embeddings were fitted, and the other way round.

    Parameters
    ----------
    given : object
        What is to be predicted from.
    fitted_bands : tuple of str or None
        Bands of the fitted chips; None where embeddings were fitted.
    """
    if fitted_bands is None and not isinstance(given, pd.DataFrame):
        raise TypeError(
            "The types were fitted to embeddings; give a DataFrame of embeddings by site, not "
            f"{type(given).__name__}. Encode the chips with the fitted encoder first."
        )
    if fitted_bands is not None and not isinstance(given, Chips):
        raise TypeError(
            f"The mixture was fitted to chips of the bands {list_some(fitted_bands, 20)} and "
            f"predicts from Chips; got {type(given).__name__}."
        )


_PASSING = ("last_image", "last_images", "overlapping", "bands_read", "out_of_fold")


def refuse_other_encoder(found: dict[str, Any], fitted: tuple[dict[str, Any], ...]) -> None:
    """Refuse embeddings that another encoder made, or one fitted to other sites.

    Parameters
    ----------
    found : dict
        What the embeddings say of their encoder; nothing is known of embeddings from elsewhere.
    fitted : tuple of dict
        What the joined tables of the fitted study said.
    """
    if not found or not fitted or not all(fitted):
        return
    gaps = []
    for made in fitted:
        names = sorted({*found, *made} - {*_PASSING})
        gaps.append([name for name in names if found.get(name) != made.get(name)])
    # of several joined tables, facts of any may have survived putting them together
    other, made = min(zip(gaps, fitted, strict=True), key=lambda pair: len(pair[0]))
    if other:
        told = "; ".join(f"{k}: {found.get(k)!r}, not {made.get(k)!r}" for k in other[:3])
        raise AlignmentError(
            "Types are read off embeddings of the encoder that made the fitted ones; these differ "
            f"in {list_some(other)} ({told}). Transform with the encoder that was fitted."
        )
