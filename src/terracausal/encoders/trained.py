"""A network trained on outcomes, as an encoder: honest only out of fold."""

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from terracausal._foundation.checks import check_choice
from terracausal._foundation.errors import BandError, list_some
from terracausal._foundation.optional import require
from terracausal._foundation.randomness import RandomState
from terracausal.encoders.base import (
    ChipBatch,
    ChipEncoder,
    check_encodable,
    numbered,
    read_batches,
)
from terracausal.encoders.digests import digest_of
from terracausal.encoders.networks.settings import TrainingSettings
from terracausal.encoders.networks.targets import UnitTargets
from terracausal.encoders.random_networks import band_moments
from terracausal.encoders.trained_folds import fold_encoders
from terracausal.imagery import Chips

if TYPE_CHECKING:
    from terracausal.encoders.networks.running import Appetite
    from terracausal.encoders.networks.site_network import SiteNetwork

Outcomes: TypeAlias = "pd.DataFrame | pd.Series[Any]"


class TrainedEncoder(ChipEncoder):
    """A network trained from its first to its last layer to predict outcomes of sites or units.

    Columns are the numbers that enter the last, linear layer; `predict` gives its outputs.

    Parameters
    ----------
    network : {'cnn', 'channelvit', 'kernel_max'} or callable, default='cnn'
        `ConvNetwork`, `ChannelViT` or `KernelMaxNetwork` of `terracausal.encoders.networks` with
        their defaults; or a function of the number of bands that returns a torch module, such as
        `functools.partial(KernelMaxNetwork, width_px=16)`. A module of your own maps standardised
        images (b, n_bands, h, w), NaN where missing, to (b, n_features), NaN where an image
        cannot be read, and has an attribute `n_features`.
    task : {'regression', 'binary'}, default='regression'
        "regression" minimises squared errors of standardised outcomes; "binary" the cross-entropy
        of outcomes 0 and 1.
    times : {'mean', 'attention'}, default='mean'
        How the vectors of several images, all made by one network, become one: their mean, or
        `TemporalAttention` on their dates, trained with the rest.
    training : TrainingSettings, default=None
        How to train; None takes the defaults, or for "kernel_max" those that its docstring advises.
    device : str, default='cpu'
        "cpu" or "cuda".
    random_state : None, int or numpy.random.Generator, default=None
        Seed of everything that is drawn.
    n_components : int, default=None
        Number of principal components of the fitted sites to keep; None keeps all columns.
    whiten : bool, default=False
        Whether components have unit variance over the fitted sites.

    Attributes
    ----------
    parameters_ : dict of str to ndarray
        float32 parameters of the network and moments of the bands, by name.
    outcomes_ : DataFrame
        One row per outcome: mean and scale that were taken out of it.
    history_ : DataFrame
        One row per epoch: epoch, learning_rate, loss, held_out_loss.
    held_out_loss_ : float
        The lowest held-out loss; NaN where no site was held out.
    fitted_sites_, held_out_sites_ : Index
        Sites with outcomes, and those of them that stopped the training early.
    bands_ : tuple of str
        Bands of the fitted chips.
    n_sites_fitted_ : int
        Number of chips that `fit` was given.
    components_ : PrincipalComponents or None
        The reduction.

    Notes
    -----
    The row of a site at which the network was trained knows the outcomes of that site. Statistics
    on such rows are wrong, and `Study.join` refuses them. Use `cross_predict`: each site is
    predicted by a network that saw no outcome of its fold; the prediction is one column of
    known meaning. `cross_fit_transform` gives embeddings in the same way, but each fold has a
    network, and so columns, of its own: column 3 of one fold has nothing to do with column 3 of
    another. They serve to look at, and for statistics within a fold; a regression over all folds
    cannot use them. Both are out of fold for the site itself; an analysis that in turn trains on
    them mixes folds, which strict cross-fitting avoids by fitting the encoder anew in each
    training part.

    Missing pixels are left out (see the networks). "channelvit" encodes chips with any of the
    fitted bands, others ask for all of them, in order. The number of chips in a batch changes last
    digits of float32 (1e-5).

    Examples
    --------
    >>> pixels = np.random.default_rng(0).normal(size=(40, 1, 1, 8, 8))
    >>> chips = Chips.from_arrays(pixels, sites=range(40), bands=["red"])
    >>> income = pd.Series(pixels.max(axis=(1, 2, 3, 4)), index=chips.keys, name="income")
    >>> quick = TrainingSettings(n_epochs=2)
    >>> encoder = TrainedEncoder("kernel_max", training=quick, random_state=0)
    >>> encoder.fit_transform(chips, income).shape
    (40, 4)
    >>> folds = pd.Series([0, 1] * 20, index=chips.keys)
    >>> encoder.cross_predict(chips, income, folds).name
    'income'
    """

    parameters_: dict[str, NDArray[np.float32]]
    outcomes_: pd.DataFrame
    history_: pd.DataFrame
    held_out_loss_: float
    fitted_sites_: pd.Index
    held_out_sites_: pd.Index

    supervised = True

    def __init__(
        self,
        network: Literal["cnn", "channelvit", "kernel_max"] | Callable[[int], Any] = "cnn",
        task: Literal["regression", "binary"] = "regression",
        times: Literal["mean", "attention"] = "mean",
        training: TrainingSettings | None = None,
        device: str = "cpu",
        random_state: RandomState = None,
        n_components: int | None = None,
        whiten: bool = False,
    ) -> None:
        self.network = network
        self.task = task
        self.times = times
        self.training = training
        self.device = device
        self.random_state = random_state
        self.n_components = n_components
        self.whiten = whiten

    def fit(self, chips: Chips, y: Any = None) -> "TrainedEncoder":
        """Train the network.

        Parameters
        ----------
        chips : Chips
            Of all sites with outcomes; others are not trained on.
        y : Series or DataFrame
            Outcomes by site (a Series or DataFrame indexed by site), or by unit (a DataFrame with
            a column `site`; units may share one). Of a DataFrame, `weight` weights units in the
            loss and `cluster` names groups whose sites are held out together; all other columns are
            outcomes.

        Returns
        -------
        TrainedEncoder

        Raises
        ------
        AlignmentError
            If a unit has no chip.
        FloatingPointError
            If the training diverges.
        RuntimeError
            If CUDA is asked for and absent.
        TypeError
            If `y` is missing or has no sites, such as an array.
        ValueError
            If an outcome is not finite, constant, or not 0 and 1 for a binary task, or a site
            cannot be read.
        """
        super().fit(chips, y)
        return self

    def predict(self, chips: Chips) -> Outcomes:
        """Predict outcomes by site; for fitted sites, which the network knows, use `cross_predict`.

        Parameters
        ----------
        chips : Chips
            As for `transform`.

        Returns
        -------
        Series of length n_sites, or DataFrame where there are several outcomes
            Expected outcomes, or probabilities of 1 for a binary task, by site.
        """
        check_is_fitted(self, "bands_")
        check_encodable(chips)
        self._check_bands(chips.bands)
        outputs = self._rows(chips) @ self.parameters_["head.weight"].T.astype(np.float64)
        outputs += self.parameters_["head.bias"]
        if self.task == "binary":
            outputs = 1 / (1 + np.exp(-outputs))
        outputs = outputs * self.outcomes_["scale"].to_numpy() + self.outcomes_["mean"].to_numpy()
        table = pd.DataFrame(outputs, index=chips.keys, columns=self.outcomes_.index)
        found: Outcomes = table.iloc[:, 0] if table.shape[1] == 1 else table
        found.attrs["encoder"] = self.describe(chips)
        return found

    def cross_predict(self, chips: Chips, y: Any, folds: "pd.Series[Any]") -> Outcomes:
        """Predict the outcomes of each site by a network that saw none of its fold.

        Parameters
        ----------
        chips : Chips
            All sites.
        y : Series or DataFrame
            As for `fit`.
        folds : Series
            Label of the fold of each site, indexed by site. Clusters must not be split.

        Returns
        -------
        Series of length n_sites, or DataFrame where there are several outcomes
            As from `predict`; `attrs["encoder"]["out_of_fold"]` is True. The encoder itself stays
            unfitted.

        Raises
        ------
        AlignmentError
            If a site has no fold.
        LeakageError
            If sites of one cluster are in several folds.
        """
        found: Outcomes = self._cross(chips, y, folds, TrainedEncoder.predict)
        return found

    def cross_fit_transform(self, chips: Chips, y: Any, folds: "pd.Series[Any]") -> pd.DataFrame:
        """Encode each site by a network that saw none of its fold.

        Columns of different folds are different numbers under one name; see the Notes of the class,
        and prefer `cross_predict`.

        Parameters
        ----------
        chips : Chips
            All sites.
        y : Series or DataFrame
            As for `fit`.
        folds : Series
            Label of the fold of each site, indexed by site. Clusters must not be split.

        Returns
        -------
        DataFrame of shape (n_sites, n_features)
            `attrs["encoder"]["out_of_fold"]` is True. The encoder itself stays unfitted.

        Raises
        ------
        AlignmentError
            If a site has no fold.
        LeakageError
            If sites of one cluster are in several folds.
        """
        return pd.DataFrame(self._cross(chips, y, folds, TrainedEncoder.transform))

    def _cross(
        self,
        chips: Chips,
        y: Any,
        folds: "pd.Series[Any]",
        encode: "Callable[[TrainedEncoder, Chips], Outcomes]",
    ) -> Any:
        parts, facts = [], {}
        for encoder, held_out in fold_encoders(self, chips, UnitTargets.of(y), folds):
            parts.append(encode(encoder, chips.select(held_out)))
            facts = encoder.describe(chips)
        for part in parts:
            part.attrs = {}
        table = pd.concat(parts).loc[chips.keys]
        table.attrs["encoder"] = {**facts, "out_of_fold": True, "n_folds": len(parts)}
        return table

    # -- what the base asks for -------------------------------------------------------------------

    def _learn(self, chips: Chips, y: object) -> None:
        check_choice("task", self.task, ("regression", "binary"))
        check_choice("times", self.times, ("mean", "attention"))
        torch = require("torch", needed_by="TrainedEncoder")
        from terracausal.encoders.networks.devices import find_device
        from terracausal.encoders.networks.losses import cross_entropy, squared_error
        from terracausal.encoders.networks.making import check_bands
        from terracausal.encoders.networks.training import train_network

        find_device(self.device)
        check_bands(self.network, chips.bands)
        targets = UnitTargets.of(y)
        targets.check_sites(chips.keys)
        outcomes = outcome_moments(targets, self.task)
        used = chips.select(targets.sites)
        self._check_dates(used)
        moments = tuple(torch.from_numpy(numbers) for numbers in band_moments(used))
        n_outputs = len(outcomes)
        standard = (targets.values - outcomes["mean"]) / outcomes["scale"]
        trained = train_network(
            lambda: self._new_network(chips.n_bands, n_outputs, *moments),
            used,
            replace(targets, values=standard),
            squared_error if self.task == "regression" else cross_entropy,
            self._settings(),
            device=self.device,
            random_state=self.random_state,
        )
        state = trained.network.state_dict()
        self.parameters_ = {name: value.numpy() for name, value in state.items()}
        self.outcomes_ = outcomes
        self.history_ = trained.history
        self.held_out_loss_ = trained.held_out_loss
        self.fitted_sites_ = targets.sites
        self.held_out_sites_ = trained.held_out_sites
        self._ready: tuple[str, SiteNetwork, Appetite] | None = None

    def _new_network(self, n_bands: int, n_outputs: int, mean: Any, scale: Any) -> Any:
        from terracausal.encoders.networks.making import new_site_network

        return new_site_network(self.network, self.times, n_bands, n_outputs, (mean, scale))

    def _network(self) -> "tuple[SiteNetwork, Appetite]":
        """Return the trained network on its device, kept until the next fit or pickling."""
        torch = require("torch", needed_by="TrainedEncoder")
        from terracausal.encoders.networks.devices import find_device, seeded
        from terracausal.encoders.networks.running import Appetite

        ready = getattr(self, "_ready", None)
        if ready is None or ready[0] != self.device:
            device = find_device(self.device)
            state = {name: torch.from_numpy(x) for name, x in self.parameters_.items()}
            with seeded(0, torch.device("cpu")):
                network = self._new_network(
                    len(state["mean"]), len(state["head.bias"]), state["mean"], state["scale"]
                )
            network.load_state_dict(state)
            network = network.to(device).eval().requires_grad_(False)
            ready = self._ready = self.device, network, Appetite(self._sites_at_once(), device)
        return ready[1], ready[2]

    def _columns(self) -> list[str]:
        return numbered("trained", self.parameters_["head.weight"].shape[1])

    def _rows(self, chips: Chips) -> NDArray[np.float64]:
        self._check_dates(chips)
        if chips.bands == self.bands_:
            return super()._rows(chips)
        # a band that is missing everywhere is absent to a network that reads any bands
        place = [self.bands_.index(band) for band in chips.bands]
        return np.concatenate(
            [
                self._checked(batch.keys, self._encode(_spread(batch, place, len(self.bands_))))
                for batch in read_batches(chips, self._sites_at_once())
            ]
        )

    def _encode(self, batch: ChipBatch) -> NDArray[np.float64]:
        torch = require("torch", needed_by="TrainedEncoder")
        from terracausal.encoders.networks.running import run_sites
        from terracausal.encoders.networks.site_images import days_since_1970

        network, appetite = self._network()
        days = torch.from_numpy(days_since_1970(batch.days))
        found = run_sites(network.encode, (torch.from_numpy(batch.pixels), days), appetite)
        return np.asarray(found.numpy(), dtype=np.float64)

    def _encode_images(self, pixels: NDArray[np.float32]) -> NDArray[np.float64]:
        torch = require("torch", needed_by="TrainedEncoder")
        from terracausal.encoders.networks.running import run_sites

        network, appetite = self._network()
        images = torch.from_numpy(np.ascontiguousarray(pixels))
        found = run_sites(lambda x, _: network.encode_images(x), (images, images), appetite)
        return np.asarray(found.numpy(), dtype=np.float64)

    def _settings(self) -> TrainingSettings:
        from terracausal.encoders.networks.making import advised_training

        return self.training or advised_training(self.network)

    def _sites_at_once(self) -> int:
        return self._settings().batch_size

    def _need(self) -> str:
        return "enough valid pixels for the network to read"

    def _check_bands(self, bands: tuple[str, ...]) -> None:
        if not getattr(self._network()[0].images, "any_bands", False):
            super()._check_bands(bands)
            return
        unknown = [band for band in bands if band not in self.bands_]
        if unknown:
            raise BandError(
                f"TrainedEncoder was fitted on the bands {list_some(self.bands_, 20)}; it reads "
                f"any of them, but these chips have {list_some(bands, 20)}, of which "
                f"{list_some(unknown)} are unknown to it. Leave these out."
            )

    def _check_dates(self, chips: Chips) -> None:
        if self.times == "mean":
            return
        undated = [site for site in chips.keys if chips.times_of(site).isna().any()]
        if undated:
            raise ValueError(
                "`times='attention'` needs the date of every image; those of "
                f"{len(undated)} of {chips.n_sites} sites have none: {list_some(undated)}. Give "
                "`times` or `dates` when the chips are made, or use `times='mean'`."
            )

    def describe(self, chips: Chips) -> dict[str, Any]:
        """Return the description that `transform` hands on, with the bands that were read."""
        return {**super().describe(chips), "bands_read": list(chips.bands)}

    def _description(self) -> dict[str, Any]:
        sites = [key if isinstance(key, int | str) else str(key) for key in self.fitted_sites_]
        return {
            **super()._description(),
            "outcomes": [str(name) for name in self.outcomes_.index],
            "fitted_sites": sites,
            "out_of_fold": False,
            "moments": {name: self.parameters_[name].tolist() for name in ("mean", "scale")},
            "n_parameters": sum(x.size for x in self.parameters_.values()),
            "parameters_digest": digest_of(self.parameters_),
            "n_epochs": len(self.history_),
        }

    def __getstate__(self) -> Any:
        state = super().__getstate__()
        return {name: value for name, value in state.items() if name != "_ready"}


def outcome_moments(targets: UnitTargets, task: str) -> pd.DataFrame:
    """Return mean and scale of each outcome; 0 and 1 for a binary task.

    Raises
    ------
    ValueError
        If an outcome is constant, or not 0 and 1 for a binary task.

    Examples
    --------
    >>> targets = UnitTargets.of(pd.Series([1.0, 3.0], index=["a", "b"], name="income"))
    >>> outcome_moments(targets, "regression").loc["income"].tolist()
    [2.0, 1.0]
    """
    values = targets.values
    for name, column in values.items():
        found = column.unique()
        if len(found) < 2 or (task == "binary" and set(found) != {0.0, 1.0}):
            wanted = "0 and 1" if task == "binary" else "more than one value"
            raise ValueError(
                f"The outcome {name!r} must have {wanted} for a {task} task; its {len(column)} "
                f"units have {len(found)} values, such as {list_some(found)}."
            )
    if task == "binary":
        return pd.DataFrame({"mean": 0.0, "scale": 1.0}, index=values.columns)
    return pd.DataFrame({"mean": values.mean(), "scale": values.std(ddof=0)})


def _spread(batch: ChipBatch, place: list[int], n_bands: int) -> ChipBatch:
    """Return a batch with all fitted bands, NaN where its chips have none."""
    n_sites, n_times, _, *size = batch.pixels.shape
    pixels = np.full((n_sites, n_times, n_bands, *size), np.nan, dtype=np.float32)
    pixels[:, :, place] = batch.pixels
    return replace(batch, pixels=pixels)
