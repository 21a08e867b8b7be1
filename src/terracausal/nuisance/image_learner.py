"""Nuisances learned from chips: networks trained on treatment and outcome inside each fold."""

from collections.abc import Callable
from dataclasses import is_dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, clone
from sklearn.utils.validation import check_is_fitted

from terracausal._foundation.checks import check_choice
from terracausal._foundation.errors import AlignmentError, BandError, RoleError, list_some
from terracausal._foundation.progress import track
from terracausal._foundation.randomness import RandomState, draw_seed, random_generator
from terracausal.nuisance.cross_fitting import Nuisances, fold_rows, gather_folds
from terracausal.nuisance.defaults import outcome_learner_of, propensity_learner_of
from terracausal.nuisance.fitting import fit_learner, predict_numbers
from terracausal.study import Folds, Study

if TYPE_CHECKING:
    from terracausal.encoders.networks.settings import TrainingSettings
    from terracausal.imagery import Chips
    from terracausal.nuisance.image_tasks import TrainedTasks

Floats = NDArray[np.floating[Any]]
NAMES = ("propensity", "outcome_control", "outcome_treated")


class ImageNuisanceLearner(BaseEstimator):
    """Propensity and both outcome surfaces, learned from chips by a network.

    Parameters
    ----------
    network : {'cnn', 'channelvit', 'kernel_max'} or callable, default='cnn'
        As for `TrainedEncoder`: a name, or a function of the number of bands that returns a torch
        module, such as `functools.partial(KernelMaxNetwork, width_px=8, n_filters=8)`.
    loss : {'joint', 'targeted', 'separate'}, default='joint'
        "joint": one network with a head for the log-odds of treatment and one for the outcome in
        each arm. "targeted": the same with targeted regularisation. "separate": three networks.
    last_layer : {'calibrated', 'refitted', 'own'}, default='calibrated'
        "calibrated": the network's heads, put on the scale of the sites that stopped its training
        and entered no gradient (log-odds by Platt scaling, outcomes by a line in each arm).
        "own": the heads as they are. "refitted": the vectors of the sites and the covariates go
        into `cross_fit`'s learners, fitted on all training units.
    times : {'mean', 'attention'}, default='mean'
        How several images of a site become one vector.
    training : TrainingSettings, default=None
        How to train; None takes what is advised for the network.
    outcome_learner, propensity_learner : str or scikit-learn estimator, default=None
        As in `cross_fit`, for a refitted last layer.
    device : str, default='cpu'
        "cpu" or "cuda".
    random_state : None, int or Generator, default=None
        Seed of everything that is drawn.

    Attributes
    ----------
    networks_ : tuple of TrainedTasks
        One, or three with separate networks.
    history_ : DataFrame
        One row per network and epoch: tasks, epoch, learning_rate, loss, held_out_loss.
    calibration_ : dict of str to (float, float)
        Intercept and slope on each head, by nuisance, where heads are calibrated.
    learners_ : dict of str to scikit-learn estimator
        The refitted last layers, by nuisance.
    bands_ : tuple of str
        Bands of the fitted chips.

    Notes
    -----
    The losses of treatment (cross-entropy, without label smoothing) and of the standardised outcome
    in the arm that was seen (squared error, or cross-entropy for an outcome of 0 and 1) are added,
    as in Shi, Blei and Veitch (2019), Adapting neural networks for the estimation of treatment
    effects, NeurIPS, arXiv:1906.02120, with linear heads. What confounds moves both, so that a
    precise outcome finds a pattern that the treatment alone would not show. Covariates and joined
    embeddings enter linearly beside the image (late fusion), in each head those that its task may
    see. A known propensity is used, and not learned.

    A network knows the sites that trained it, so that its heads are too sure of them, and learners
    refitted on the same sites inherit this: in the kernel world of `simulations/image_confounding`
    at n = 500 they removed less of the bias than calibrated heads did, with more extreme
    propensities.

    A network is a guess at the form of the confounder. It removes what it finds; an adjustment that
    found nothing looks the same as one that had nothing to find. Look at `Nuisances.quality`.

    Examples
    --------
    >>> import terracausal as tc
    >>> from terracausal.encoders.networks import TrainingSettings
    >>> data = tc.simulate_study(n_sites=60, size_px=8, random_state=0)
    >>> quick = TrainingSettings(n_epochs=1)
    >>> learner = ImageNuisanceLearner("kernel_max", training=quick, random_state=0)
    >>> folds = data.study.folds(2, random_state=0)
    >>> nuisances = learner.cross_fit(data.study, data.chips, folds)
    >>> len(tc.doubly_robust_scores(data.study, nuisances).score) == data.study.n_units
    True
    """

    networks_: "tuple[TrainedTasks, ...]"
    history_: pd.DataFrame
    learners_: dict[str, Any]
    calibration_: dict[str, Any]
    bands_: tuple[str, ...]

    def __init__(  # noqa: PLR0913 - settings of a network and of the learners behind it
        self,
        network: "Literal['cnn', 'channelvit', 'kernel_max'] | Callable[[int], Any]" = "cnn",
        loss: Literal["joint", "targeted", "separate"] = "joint",
        last_layer: Literal["calibrated", "refitted", "own"] = "calibrated",
        times: Literal["mean", "attention"] = "mean",
        training: "TrainingSettings | None" = None,
        outcome_learner: Any = None,
        propensity_learner: Any = None,
        device: str = "cpu",
        random_state: RandomState = None,
    ) -> None:
        self.network = network
        self.loss = loss
        self.last_layer = last_layer
        self.times = times
        self.training = training
        self.outcome_learner = outcome_learner
        self.propensity_learner = propensity_learner
        self.device = device
        self.random_state = random_state

    # -- fitting ----------------------------------------------------------------------------------

    def fit(self, study: Study, chips: "Chips") -> Self:
        """Train the networks, and refit their last layers.

        Parameters
        ----------
        study : Study
            With sites; covariates and joined embeddings are used beside the image.
        chips : Chips
            Of all sites of the study; others are not read.

        Returns
        -------
        ImageNuisanceLearner
            The same object.

        Raises
        ------
        AlignmentError
            If a unit's site has no chip.
        LeakageError
            If images are not from before the treatment, where both dates are known.
        RoleError
            If units have no site, or an arm fewer than two units.
        ValueError
            If the outcome of an arm is constant, or a chip cannot be read.
        """
        from terracausal.nuisance.image_fitting import calibrate, site_vectors, train_tasks

        self._check_settings()
        with_images(study, chips)
        ordered = study.canonical()
        check_outcomes(ordered)
        rng = random_generator(self.random_state)
        self.schema_, self.roles_ = ordered.schema, ordered.roles
        self.bands_ = chips.bands
        self.networks_ = tuple(train_tasks(self, ordered, chips, rng))
        self.history_ = pd.concat(
            part.history.assign(tasks=", ".join(part.tasks)) for part in self.networks_
        )
        self.learners_, self.calibration_ = {}, {}
        if self.last_layer == "calibrated":
            for part in self.networks_:
                self.calibration_ |= calibrate(self, part, ordered, chips)
        if self.last_layer == "refitted":
            sites = sites_of(ordered.table, self.roles_.site, chips)
            vectors = [site_vectors(part, chips, sites, self) for part in self.networks_]
            self._refit(ordered, vectors, rng)
        self.fitted_sites_ = pd.Index(np.unique(np.asarray(ordered.sites)))
        return self

    def _check_settings(self) -> None:
        check_choice("loss", self.loss, ("joint", "targeted", "separate"))
        check_choice("last_layer", self.last_layer, ("calibrated", "refitted", "own"))
        check_choice("times", self.times, ("mean", "attention"))
        no_held_out = self.training is not None and self.training.held_out_share == 0
        if self.last_layer == "calibrated" and no_held_out:
            raise ValueError(
                "`last_layer='calibrated'` calibrates on held-out sites, but `held_out_share` of "
                "the training is 0. Hold out some sites, or use last_layer='own'."
            )

    def _refit(self, study: Study, vectors: list[pd.DataFrame], rng: np.random.Generator) -> None:
        """Fit the usual learners on what the networks say of sites and on the covariates."""
        treatment, given = study.treatment.to_numpy(), study.weight
        groups = study.frame.cluster_codes
        weight = None if given is None else (given / given.mean()).to_numpy()
        children = rng.spawn(len(vectors))
        for part, by_unit, child in zip(self.networks_, vectors, children, strict=True):
            for task in part.tasks:
                rows = _rows_of_task(task, treatment)
                features = pd.concat([by_unit, study.features(_kind(task))], axis=1)
                target = treatment if task == "propensity" else study.outcome.to_numpy()
                self.learners_[task] = fit_learner(
                    self._last_learner(task),
                    features.loc[rows],
                    target[rows],
                    weight=None if weight is None else weight[rows],
                    groups=None if groups is None else groups[rows],
                    rng=child,
                    task=f"the last layer of the {task.replace('_', ' ')}",
                )

    def _last_learner(self, task: str) -> Any:
        if task == "propensity":
            return propensity_learner_of(self.propensity_learner, 1)
        return outcome_learner_of(self.outcome_learner, 1)

    # -- predicting -------------------------------------------------------------------------------

    def predict(self, table: "pd.DataFrame | Study", chips: "Chips") -> pd.DataFrame:
        """Predict treatment and outcomes of units; for units that trained, use `cross_fit`.

        Parameters
        ----------
        table : pandas.DataFrame of shape (n_units, any), or Study
            With the site, the covariates and the embedding columns of the fitted study, by name.
        chips : Chips
            Of all sites of the table, with the fitted bands.

        Returns
        -------
        pandas.DataFrame of shape (n_units, 3)
            Columns propensity, outcome_control and outcome_treated, by unit.

        Raises
        ------
        AlignmentError
            If a unit's site has no chip.
        BandError
            If the bands differ from the fitted ones.
        """
        from terracausal.nuisance.image_fitting import heads, predictions, site_vectors

        check_is_fitted(self, "networks_")
        rows = table.table if isinstance(table, Study) else table
        if chips.bands != self.bands_:
            raise BandError(
                f"ImageNuisanceLearner was fitted on the bands {list_some(self.bands_, 20)}; these "
                f"chips have {list_some(chips.bands, 20)}. Read the same bands in the same order."
            )
        sites = sites_of(rows, self.roles_.site, chips)
        found = pd.DataFrame(index=rows.index, columns=list(NAMES), dtype=np.float64)
        given = self.roles_.propensity
        if given is not None:
            found["propensity"] = rows[given] if isinstance(given, str) else float(given)
        for part in self.networks_:
            vectors = site_vectors(part, chips, sites, self)
            if self.last_layer != "refitted":
                linear = heads(part, vectors, self, rows, found["propensity"])
                found[list(part.tasks)] = predictions(self, part.tasks, linear)
                continue
            for task in part.tasks:
                others = self.bounds_.transform(self.schema_.encode(rows, _kind(task)))
                features = pd.concat([vectors, others], axis=1)
                where = f"the last layer of the {task.replace('_', ' ')}"
                found[task] = predict_numbers(self.learners_[task], features, where)
        return found

    # -- out of fold ------------------------------------------------------------------------------

    def cross_fit(
        self, study: Study, chips: "Chips", folds: Folds | None = None, *, n_jobs: int = 1
    ) -> Nuisances:
        """Predict treatment and outcomes of each unit by networks that saw none of its fold.

        Parameters
        ----------
        study : Study
            With sites. The learner itself stays unfitted.
        chips : Chips
            Of all sites of the study.
        folds : Folds, default=None
            None takes 5 folds of whole clusters; sites whose chips share pixels are held out
            together.
        n_jobs : int, default=1
            Folds trained side by side; the numbers do not depend on it.

        Returns
        -------
        Nuisances
            As from `tc.cross_fit`.

        Raises
        ------
        AlignmentError
            If a unit's site has no chip, before anything is trained.
        LeakageError
            If folds split a cluster, or images are not from before the treatment.
        RoleError
            If a fold leaves fewer than two training units of an arm.
        """
        self._check_settings()
        rng = random_generator(self.random_state)
        linked = with_images(study, chips)
        if folds is None:
            folds = linked.folds(random_state=rng)
        ordered, splits = fold_rows(study, folds)
        for fold, (train, _) in enumerate(splits):
            check_outcomes(ordered.subset(train), f" of the training units of fold {fold}")
        learners = [self._for_fold(fold, draw_seed(rng)) for fold in range(folds.n_folds)]
        run = Parallel(n_jobs=n_jobs, return_as="generator")(
            delayed(_fit_fold)(learner, ordered, chips, rows, fold)
            for fold, (learner, rows) in enumerate(zip(learners, splits, strict=True))
        )
        found = track(run, "training networks out of fold", len(splits))
        return gather_folds(study, folds, zip(splits, found, strict=True), self._names(study))

    def _for_fold(self, fold: int, seed: int) -> "ImageNuisanceLearner":
        learner: ImageNuisanceLearner = clone(self).set_params(random_state=seed)
        if learner.training is not None and learner.training.checkpoint is not None:
            path = f"{learner.training.checkpoint}.fold{fold}"
            learner.training = replace(learner.training, checkpoint=path)
        return learner

    def _names(self, study: Study) -> dict[str, str]:
        """Describe what predicts each nuisance."""
        network = name_of(self.network)
        found = {}
        for name in NAMES:
            n_others = study.features(_kind(name)).shape[1]
            layer = {
                "calibrated": "heads calibrated on held-out sites",
                "own": "its own heads",
                "refitted": " ".join(repr(self._last_learner(name)).split()),
            }[self.last_layer]
            found[name] = f"{network}, {self.loss} loss, {layer}; {n_others} other features"
        if study.propensity is not None:
            found["propensity"] = "known"
        return found


def name_of(network: Any) -> str:
    """Return what to call a network in words.

    Examples
    --------
    >>> from functools import partial
    >>> name_of("cnn"), name_of(partial(dict, width_px=8))
    ('cnn', 'dict(width_px=8)')
    """
    if isinstance(network, str):
        return network
    if is_dataclass(network):
        return repr(network)
    maker = getattr(network, "func", network)
    name = getattr(maker, "__name__", type(maker).__name__)
    given = ", ".join(f"{key}={value!r}" for key, value in getattr(network, "keywords", {}).items())
    return f"{name}({given})" if given else str(name)


def with_images(study: Study, chips: "Chips") -> Study:
    """Return the study linked with its chips, so that it refuses late and absent images.

    Parameters
    ----------
    study : Study
    chips : Chips

    Returns
    -------
    Study
        Folds of it hold sites together whose chips share pixels.
    """
    from terracausal.encoders.base import check_encodable, image_facts

    check_encodable(chips)
    facts = pd.DataFrame(index=chips.keys)
    facts.attrs["encoder"] = image_facts(chips)
    return study.join(facts)


def sites_of(rows: pd.DataFrame, name: str | None, chips: "Chips") -> "pd.Series[Any]":
    """Return the site of each row, all of which must have chips.

    Parameters
    ----------
    rows : pandas.DataFrame of shape (n_rows, any)
    name : str
        Column with the site.
    chips : Chips
    """
    if name not in rows.columns:
        raise RoleError(
            f"The table lacks the site column {name!r}; it has {list_some(rows.columns, 8)}. "
            "Images are found by site."
        )
    sites = rows[name]
    absent = pd.Index(sites.unique()).difference(chips.keys, sort=False)
    if len(absent):
        raise AlignmentError(
            f"Every unit needs a chip; {len(absent)} of {sites.nunique()} sites have none: "
            f"{list_some(absent)}. Leave their units out."
        )
    return sites


def check_outcomes(study: Study, where: str = "") -> None:
    """Refuse an arm with fewer than two units, or with a constant outcome."""
    for arm, word in enumerate(("control", "treated")):
        own = study.outcome[study.treatment == arm]
        if len(own) < 2:
            raise RoleError(
                f"Each arm needs at least 2 units; the {word} arm{where} has {len(own)}."
            )
        if own.min() == own.max():
            raise ValueError(
                f"The outcome must vary in each arm; all {len(own)} units of the {word} arm{where} "
                f"have {own.iloc[0]:g}. There is nothing to learn."
            )


def _kind(task: str) -> Literal["propensity", "outcome"]:
    return "propensity" if task == "propensity" else "outcome"


def _rows_of_task(task: str, treatment: Floats) -> NDArray[np.bool_]:
    if task == "propensity":
        return np.ones(len(treatment), dtype=bool)
    return np.asarray(treatment == NAMES.index(task) - 1)


def _fit_fold(
    learner: ImageNuisanceLearner,
    study: Study,
    chips: "Chips",
    rows: tuple[NDArray[np.bool_], NDArray[np.bool_]],
    fold: int,
) -> Floats:
    train, test = rows
    try:
        fitted = learner.fit(study.subset(train), chips)
        found = fitted.predict(study.table.loc[test], chips).to_numpy(dtype=np.float64)
    except Exception as error:
        error.add_note(f"while cross-fitting fold {fold} with {type(learner).__name__}")
        raise
    bad = int((~np.isfinite(found)).any(axis=1).sum())
    if bad:
        raise ValueError(
            f"Predictions must be finite; those of {bad} of {len(found)} units of fold {fold} from "
            f"{type(learner).__name__} are NaN or infinite. Train another network."
        )
    return found
