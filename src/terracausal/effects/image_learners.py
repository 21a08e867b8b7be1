"""Effect learners from images end to end: networks trained on the R-loss or the DR-loss."""

from abc import abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.utils.validation import check_is_fitted

from terracausal._foundation.checks import check_choice, check_count
from terracausal._foundation.errors import BandError, list_some
from terracausal._foundation.randomness import RandomState, draw_seed, random_generator
from terracausal.effects.learner import EffectLearner, check_outcome_varies
from terracausal.effects.origin import EffectOrigin, with_origin
from terracausal.effects.r_learner import residuals
from terracausal.nuisance import ImageNuisanceLearner, Nuisances, cross_fit, doubly_robust_scores
from terracausal.nuisance.components import ColumnBounds
from terracausal.nuisance.image_learner import sites_of, with_images
from terracausal.study import Study
from terracausal.study.features import EffectFeatures

if TYPE_CHECKING:
    from terracausal.effects.effect_networks import TrainedEffect
    from terracausal.encoders.networks.settings import TrainingSettings
    from terracausal.imagery import Chips

Floats = NDArray[np.floating[Any]]


class ImageEffectLearner(EffectLearner):
    """Base of learners that train networks on images to predict effects.

    A subclass turns nuisances into a target and a factor for each unit: the networks minimise
    ``(target - factor * effect)^2``.

    Examples
    --------
    >>> issubclass(ImageRLearner, ImageEffectLearner)
    True
    """

    networks_: "tuple[TrainedEffect, ...]"
    nuisances_: Nuisances
    bands_: tuple[str, ...]

    def __init__(  # noqa: PLR0913 - settings of networks, of the nuisances, and of the ensemble
        self,
        network: "Literal['cnn', 'channelvit', 'kernel_max'] | Callable[[int], Any]" = "cnn",
        nuisances: "Literal['image', 'table'] | ImageNuisanceLearner" = "image",
        n_networks: int = 5,
        use: EffectFeatures | None = "all",
        times: Literal["mean", "attention"] = "mean",
        training: "TrainingSettings | None" = None,
        n_folds: int = 5,
        device: str = "cpu",
        random_state: RandomState = None,
    ) -> None:
        self.network = network
        self.nuisances = nuisances
        self.n_networks = n_networks
        self.use = use  # type: ignore[assignment]
        self.times = times
        self.training = training
        self.n_folds = n_folds
        self.device = device
        self.random_state = random_state

    def fit(self, study: Study, chips: "Chips") -> Self:  # type: ignore[override]
        """Predict treatment and outcome out of fold, then train the networks of the effect.

        Parameters
        ----------
        study : Study
            With sites; covariates and joined embeddings stand beside the image.
        chips : Chips
            Of all sites of the study.

        Returns
        -------
        ImageEffectLearner
            The same object.

        Raises
        ------
        AlignmentError
            If a unit's site has no chip, before anything is trained.
        LeakageError
            If images are not from before the treatment, where both dates are known.
        RoleError
            If units have no site, the outcome is constant, or a fold lacks an arm.
        """
        from terracausal.effects.effect_networks import train_effect

        self._check_settings()
        check_outcome_varies(study)
        linked, ordered = with_images(study, chips), study.canonical()
        rng = random_generator(self.random_state)
        folds = linked.folds(self.n_folds, random_state=rng)
        self.nuisances_ = self._nuisances(ordered, chips, folds, rng)
        target, factor = self._targets(ordered, self.nuisances_)
        beside = pd.DataFrame(index=ordered.units)
        if self.use is not None:
            beside = ordered.features("effect", use=self.use)
        self.bounds_ = ColumnBounds.learn(beside, ordered.embedding_columns)
        self.schema_, self.site_, self.bands_ = ordered.schema, ordered.roles.site, chips.bands
        self.networks_ = tuple(
            train_effect(self, ordered, chips, beside, (target, factor), draw_seed(rng))
            for _ in range(self.n_networks)
        )
        self.units_ = ordered.units
        return self

    def predict(self, table: pd.DataFrame | Study, chips: "Chips") -> "pd.Series[float]":  # type: ignore[override]
        """Predict the effect for each row: the mean over the networks.

        Parameters
        ----------
        table : pandas.DataFrame of shape (n_rows, any), or Study
            With the site column, the covariates and the embedding columns of the study.
        chips : Chips
            Of all sites of the rows, with the fitted bands.

        Returns
        -------
        pandas.Series of shape (n_rows,)
            Named cate, marked with the units that trained the networks.
        """
        effects = self.predict_networks(table, chips).mean(axis=1).rename("cate")
        return with_origin(effects, EffectOrigin(repr(self), trained_on=self.units_))

    def predict_networks(self, table: pd.DataFrame | Study, chips: "Chips") -> pd.DataFrame:
        """Return the effect for each row by each network.

        Their spread tells how much the draw of initial parameters, held-out sites and steps
        matters. It says nothing of the draw of units, which all of them share, so that it is
        smaller than the error of a prediction.

        Parameters
        ----------
        table : pandas.DataFrame of shape (n_rows, any), or Study
            As for `predict`.
        chips : Chips

        Returns
        -------
        pandas.DataFrame of shape (n_rows, n_networks)
        """
        from terracausal.effects.effect_networks import predict_effect

        check_is_fitted(self, "networks_")
        rows = table.table if isinstance(table, Study) else table
        if chips.bands != self.bands_:
            raise BandError(
                f"{type(self).__name__} was fitted on the bands {list_some(self.bands_, 20)}; "
                f"these chips have {list_some(chips.bands, 20)}. Read the same bands in the same "
                "order."
            )
        sites = sites_of(rows, self.site_, chips)
        beside = pd.DataFrame(index=rows.index)
        if self.use is not None:
            beside = self.bounds_.transform(self.schema_.encode(rows, "effect", use=self.use))
        found = [predict_effect(self, part, chips, sites, beside) for part in self.networks_]
        return pd.DataFrame(dict(enumerate(found)), index=rows.index)

    def _check_settings(self) -> None:
        check_choice("times", self.times, ("mean", "attention"))
        check_count("n_networks", self.n_networks)
        check_count("n_folds", self.n_folds, minimum=2)
        if self.use is not None:
            check_choice("use", self.use, ("all", "embeddings", "covariates"))
        if not isinstance(self.nuisances, ImageNuisanceLearner):
            check_choice("nuisances", self.nuisances, ("image", "table"))
        if self.training is not None and not hasattr(self.training, "held_out_share"):
            raise TypeError(
                "`training` must be a TrainingSettings, or None for what is advised; got "
                f"{self.training!r}."
            )
        if self.training is not None and self.training.held_out_share == 0:
            raise ValueError(
                "Networks of effects stop by, and are calibrated on, held-out sites, but "
                "`held_out_share` of the training is 0. Hold out some sites."
            )

    def _nuisances(
        self, study: Study, chips: "Chips", folds: Any, rng: np.random.Generator
    ) -> Nuisances:
        if isinstance(self.nuisances, str) and self.nuisances == "table":
            return cross_fit(study, folds, random_state=rng)
        learner = (
            ImageNuisanceLearner(
                self.network, times=self.times, training=self.training, device=self.device
            )
            if isinstance(self.nuisances, str)
            else clone(self.nuisances)
        )
        if learner.random_state is None:
            learner.set_params(random_state=draw_seed(rng))
        return learner.cross_fit(study, chips, folds)

    @abstractmethod
    def _targets(self, study: Study, nuisances: Nuisances) -> tuple[Floats, Floats]:
        """Return target and factor of each unit, of shape (n_units,)."""


class ImageRLearner(ImageEffectLearner):
    """Predict effects from images by networks trained on the R-loss.

    The networks minimise ``((y - m) - (w - e) effect(image))^2``, with outcome and treatment
    predicted out of fold. Units that were bound to be in their arm count little.

    Parameters
    ----------
    network : {'cnn', 'channelvit', 'kernel_max'} or callable, default='cnn'
        As for `ImageNuisanceLearner`.
    nuisances : {'image', 'table'} or ImageNuisanceLearner, default='image'
        What predicts outcome and treatment: a network of the same kind on the images, `cross_fit`
        on covariates and joined embeddings (enough in a trial), or a learner of your own.
    n_networks : int, default=5
        Networks of the effect, from other seeds and with other held-out sites.
    use : {'all', 'embeddings', 'covariates'}, default='all'
        Features that enter linearly beside the image; None takes the image alone.
    times : {'mean', 'attention'}, default='mean'
        How several images of a site become one vector.
    training : TrainingSettings, default=None
        How to train; None takes what is advised for the network.
    n_folds : int, default=5
        Inner folds of whole clusters for the nuisances.
    device : str, default='cpu'
        "cpu" or "cuda".
    random_state : None, int or Generator, default=None
        Seed.

    Attributes
    ----------
    networks_ : tuple of TrainedEffect
        The networks of the effect.
    nuisances_ : Nuisances
        Of the fitted units.

    Notes
    -----
    Nie & Wager (2021), Quasi-oracle estimation of heterogeneous treatment effects, Biometrika
    108(2), doi:10.1093/biomet/asaa076. Each network is stopped by whole clusters that it did not
    train on, and its effects are put on the scale that fits these: a network that found nothing is
    flattened. Effects of units that trained are not honest; use `cross_predict(study, folds,
    chips=chips)`.

    Examples
    --------
    >>> import terracausal as tc
    >>> data = tc.simulate_study(n_sites=40, size_px=8, random_state=0)
    >>> quick = tc.encoders.TrainingSettings(n_epochs=1)
    >>> learner = ImageRLearner("kernel_max", nuisances="table", n_networks=2, training=quick)
    >>> learner.fit(data.study, data.chips).predict(data.study, data.chips).name
    'cate'
    """

    def _targets(self, study: Study, nuisances: Nuisances) -> tuple[Floats, Floats]:
        return residuals(study, nuisances)


class ImageDRLearner(ImageEffectLearner):
    """Predict effects from images by networks trained on doubly robust scores.

    The networks minimise ``(score - effect(image))^2``, with cross-fitted scores.

    Parameters
    ----------
    network : {'cnn', 'channelvit', 'kernel_max'} or callable, default='cnn'
        As for `ImageNuisanceLearner`.
    nuisances : {'image', 'table'} or ImageNuisanceLearner, default='image'
        What predicts outcome and treatment: a network of the same kind on the images, `cross_fit`
        on covariates and joined embeddings (enough in a trial), or a learner of your own.
    n_networks : int, default=5
        Networks of the effect, from other seeds and with other held-out sites.
    use : {'all', 'embeddings', 'covariates'}, default='all'
        Features that enter linearly beside the image; None takes the image alone.
    times : {'mean', 'attention'}, default='mean'
        How several images of a site become one vector.
    training : TrainingSettings, default=None
        How to train; None takes what is advised for the network.
    n_folds : int, default=5
        Inner folds of whole clusters for the nuisances.
    device : str, default='cpu'
        "cpu" or "cuda".
    random_state : None, int or Generator, default=None
        Seed.

    Attributes
    ----------
    networks_ : tuple of TrainedEffect
        The networks of the effect.
    nuisances_ : Nuisances
        Of the fitted units.

    Notes
    -----
    Kennedy (2023), Towards optimal doubly robust estimation of heterogeneous causal effects,
    Electronic Journal of Statistics 17(2), doi:10.1214/23-EJS2157. See `ImageRLearner` for what is
    held out; where overlap is poor, prefer it.

    Examples
    --------
    >>> import terracausal as tc
    >>> data = tc.simulate_study(n_sites=40, size_px=8, random_state=0)
    >>> quick = tc.encoders.TrainingSettings(n_epochs=1)
    >>> learner = ImageDRLearner("kernel_max", nuisances="table", n_networks=2, training=quick)
    >>> learner.fit(data.study, data.chips).predict_networks(data.study, data.chips).shape
    (200, 2)
    """

    def _targets(self, study: Study, nuisances: Nuisances) -> tuple[Floats, Floats]:
        scores = doubly_robust_scores(study, nuisances)
        return scores.score.loc[study.units].to_numpy(), np.ones(study.n_units)
