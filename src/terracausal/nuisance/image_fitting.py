"""From a study and its chips to trained networks, and from these to numbers by unit."""

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy.special import expit

from terracausal._foundation.errors import list_some
from terracausal._foundation.randomness import draw_seed
from terracausal.encoders.base import numbered, read_batches
from terracausal.encoders.networks.devices import find_device
from terracausal.encoders.networks.making import advised_training, check_bands, new_site_network
from terracausal.encoders.networks.running import Appetite, run_sites
from terracausal.encoders.networks.settings import TrainingSettings
from terracausal.encoders.networks.site_images import days_since_1970
from terracausal.encoders.networks.targets import UnitTargets
from terracausal.encoders.networks.training import train_network
from terracausal.encoders.random_networks import band_moments
from terracausal.imagery import Chips
from terracausal.nuisance.components import ColumnBounds
from terracausal.nuisance.image_tasks import TASKS, TaskLoss, TaskNetwork, TrainedTasks, clever
from terracausal.nuisance.learners import fit_calibration
from terracausal.study import Study

if TYPE_CHECKING:
    from terracausal.nuisance.image_learner import ImageNuisanceLearner

Floats = NDArray[np.floating[Any]]


class ReadsImages(Protocol):
    """What the settings of a learner say of its networks."""

    network: Any
    times: Any
    training: TrainingSettings | None
    device: str


def train_tasks(
    learner: "ImageNuisanceLearner", study: Study, chips: Chips, rng: np.random.Generator
) -> Iterator[TrainedTasks]:
    """Train one network for all tasks, or one for each.

    Parameters
    ----------
    learner : ImageNuisanceLearner
        Its settings; `outcome_moments_` and `covariate_moments_` are set.
    study : Study
        In canonical order.
    chips : Chips
    rng : numpy.random.Generator

    Yields
    ------
    TrainedTasks
    """
    find_device(learner.device)
    check_bands(learner.network, chips.bands)
    tasks = TASKS if study.propensity is None else TASKS[1:]
    groups = [(task,) for task in tasks] if learner.loss == "separate" else [tasks]
    learner.outcome_moments_ = outcome_moments(study)
    covariates = study.features("outcome")
    mean, scale = covariates.mean(), covariates.std(ddof=0)
    learner.bounds_ = ColumnBounds.learn(covariates, study.embedding_columns)
    learner.covariate_moments_ = mean, scale.where(scale > 1e-12 * mean.abs().clip(1), 1.0)
    targets = _targets(learner, study, covariates)
    used = chips.select(targets.sites)
    centre, spread = band_moments(used)
    moments = torch.from_numpy(centre), torch.from_numpy(spread)
    seen_by_propensity = covariates.columns.isin(study.features("propensity").columns)
    for group in groups:
        allowed = np.ones((len(group), covariates.shape[1]), dtype=np.float32)
        if "propensity" in group:
            allowed[group.index("propensity")] = seen_by_propensity
        own = _units_of(group, targets)
        trained = train_network(
            partial(new_task_network, learner, chips.n_bands, moments, torch.from_numpy(allowed)),
            used.select(own.sites),
            own,
            TaskLoss(group, learner.outcome_moments_ is None, learner.loss == "targeted"),
            learner.training or advised_training(learner.network),
            device=learner.device,
            random_state=draw_seed(rng),
        )
        yield TrainedTasks.of(group, trained)


def new_task_network(
    learner: ReadsImages,
    n_bands: int,
    moments: tuple[torch.Tensor, torch.Tensor],
    allowed: torch.Tensor,
) -> TaskNetwork:
    """Return a network with a head for each row of `allowed`, and fresh parameters.

    Parameters
    ----------
    learner : ReadsImages
        Kind of network, and how times are joined.
    n_bands : int
    moments : pair of Tensor of shape (n_bands,)
    allowed : Tensor of shape (n_tasks, n_covariates)
        As for `TaskNetwork`.
    """
    sites = new_site_network(learner.network, learner.times, n_bands, len(allowed), moments)
    return TaskNetwork(sites, allowed)


def outcome_moments(study: Study) -> tuple[Floats, float] | None:
    """Return the mean of each arm, and the spread within arms; None for an outcome of 0 and 1."""
    y, w = study.outcome.to_numpy(), study.treatment.to_numpy()
    if set(np.unique(y)) <= {0.0, 1.0}:
        return None
    v = np.ones(len(y)) if study.weight is None else study.weight.to_numpy()
    mean = np.array([np.average(y[w == arm], weights=v[w == arm]) for arm in (0, 1)])
    spread = np.sqrt(np.average((y - mean[w.astype(int)]) ** 2, weights=v))
    return mean, float(spread)


def _targets(
    learner: "ImageNuisanceLearner", study: Study, covariates: pd.DataFrame
) -> UnitTargets:
    """Return what `TaskLoss` is given of each unit."""
    y, w, e = study.outcome, study.treatment, study.propensity
    if learner.outcome_moments_ is not None:
        mean, spread = learner.outcome_moments_
        y = (y - mean[w.to_numpy().astype(int)]) / spread
    known = pd.Series(0.5 if e is None else e, index=study.units, name="known", dtype=np.float64)
    mean, scale = learner.covariate_moments_
    columns = [w, y, known, (covariates - mean) / scale]
    site = study.sites
    if site is None:
        raise TypeError("Units have sites here.")
    return UnitTargets(pd.concat(columns, axis=1), site, study.weight, study.clusters)


def _units_of(group: tuple[str, ...], targets: UnitTargets) -> UnitTargets:
    """Return the units that some task of a group learns from."""
    if len(group) > 1 or group[0] == "propensity":
        return targets
    kept = (targets.values["treatment"] == TASKS.index(group[0]) - 1).to_numpy()
    weight, cluster = (x if x is None else x[kept] for x in (targets.weight, targets.cluster))
    return UnitTargets(targets.values[kept], targets.site[kept], weight, cluster)


def site_vectors(
    part: TrainedTasks, chips: Chips, sites: "pd.Series[Any]", learner: ReadsImages
) -> pd.DataFrame:
    """Return what a network says of the site of each unit, of shape (n_units, n_features).

    Parameters
    ----------
    part : TrainedTasks
    chips : Chips
    sites : pandas.Series of shape (n_units,)
    learner : ReadsImages
        Device and batch size.
    """
    device = find_device(learner.device)
    settings = learner.training or advised_training(learner.network)
    appetite = Appetite(settings.batch_size, device)
    needed = pd.Index(sites.unique())
    network = part.sites.to(device)
    parts = []
    for batch in read_batches(chips.select(needed), settings.batch_size):
        inputs = torch.from_numpy(batch.pixels), torch.from_numpy(days_since_1970(batch.days))
        parts.append(run_sites(network.encode, inputs, appetite).numpy().astype(np.float64))
    part.sites.cpu()
    found = np.concatenate(parts)
    bad = needed[np.isnan(found).any(axis=1)]
    if len(bad):
        raise ValueError(
            f"The network reads nothing in the chips of {len(bad)} of {len(needed)} sites: "
            f"{list_some(bad)}. Too many of their pixels are missing; leave these sites out."
        )
    rows = found[needed.get_indexer(pd.Index(sites))]
    return pd.DataFrame(rows, index=sites.index, columns=numbered("image", rows.shape[1]))


def heads(
    part: TrainedTasks,
    vectors: pd.DataFrame,
    learner: "ImageNuisanceLearner",
    rows: pd.DataFrame,
    propensity: "pd.Series[float]",
) -> Floats:
    """Return what the network's own heads say before links and scales, (n_units, n_tasks).

    Parameters
    ----------
    part : TrainedTasks
    vectors : pandas.DataFrame of shape (n_units, n_features)
    learner : ImageNuisanceLearner
    rows : pandas.DataFrame of shape (n_units, any)
        The units' table.
    propensity : pandas.Series of shape (n_units,)
        Known, for the targeting step of a network without a head for it.
    """
    mean, scale = learner.covariate_moments_
    covariates = learner.bounds_.transform(learner.schema_.encode(rows, "outcome"))
    covariates = (covariates - mean) / scale
    found = part.linear(vectors.to_numpy(), covariates.to_numpy())
    if part.step:
        e = propensity.to_numpy(dtype=np.float64)
        if "propensity" in part.tasks:
            e = expit(found[:, part.tasks.index("propensity")])
        for column, task in enumerate(part.tasks):
            if task != "propensity":
                found[:, column] += part.step * clever(e, TASKS.index(task) - 1)
    return found


def predictions(learner: "ImageNuisanceLearner", tasks: tuple[str, ...], linear: Floats) -> Floats:
    """Return probabilities and expected outcomes from what heads say, calibrated if asked for.

    Parameters
    ----------
    learner : ImageNuisanceLearner
    tasks : tuple of str
    linear : ndarray of shape (n_units, n_tasks)

    Returns
    -------
    ndarray of shape (n_units, n_tasks)
    """
    found = linear.copy()
    for column, task in enumerate(tasks):
        intercept, slope = learner.calibration_.get(task, (0.0, 1.0))
        found[:, column] = intercept + slope * found[:, column]
        if task == "propensity" or learner.outcome_moments_ is None:
            found[:, column] = expit(found[:, column])
        else:
            level, spread = learner.outcome_moments_
            found[:, column] = level[TASKS.index(task) - 1] + spread * found[:, column]
    return found


def calibrate(
    learner: "ImageNuisanceLearner", part: TrainedTasks, study: Study, chips: Chips
) -> dict[str, tuple[float, float]]:
    """Return intercept and slope that put each head on the scale of the held-out sites.

    Parameters
    ----------
    learner : ImageNuisanceLearner
    part : TrainedTasks
        Its held-out sites are used.
    study : Study
        In canonical order.
    chips : Chips

    Returns
    -------
    dict of str to (float, float)
        (0, 1) for an arm without a held-out unit.
    """
    held = study.sites.isin(part.held_out_sites).to_numpy()  # type: ignore[union-attr]
    vectors = site_vectors(part, chips, study.sites[held], learner)  # type: ignore[index]
    e = study.propensity
    known = pd.Series(np.nan, index=study.units) if e is None else e
    linear = heads(part, vectors, learner, study.table[held], known[held])
    w, y = study.treatment.to_numpy()[held], study.outcome.to_numpy()[held]
    v = np.ones(len(y)) if study.weight is None else study.weight.to_numpy()[held]
    found = {}
    for column, task in enumerate(part.tasks):
        if task == "propensity":
            found[task] = fit_calibration(linear[:, column], w, v / v.mean())
            continue
        arm = TASKS.index(task) - 1
        own = (w == arm) & (v > 0)
        if not own.any():
            found[task] = (0.0, 1.0)
        elif learner.outcome_moments_ is None:
            found[task] = fit_calibration(linear[own, column], y[own], v[own] / v[own].mean())
        else:
            level, spread = learner.outcome_moments_
            target = (y[own] - level[arm]) / spread
            found[task] = fit_line(linear[own, column], target, v[own] / v[own].mean())
    return found


def fit_line(found: Floats, target: Floats, weight: Floats) -> tuple[float, float]:
    """Return intercept and slope of targets on predictions, the slope held near 1 by one unit.

    Parameters
    ----------
    found, target, weight : ndarray of shape (n,)
        Weights have mean one.

    Returns
    -------
    (float, float)
        The slope is not negative.

    Examples
    --------
    >>> line = fit_line(np.array([0.0, 1.0, 2.0]), np.array([1.0, 2.0, 3.0]), np.ones(3))
    >>> [round(number, 6) for number in line]
    [1.0, 1.0]
    """
    centre, level = np.average(found, weights=weight), np.average(target, weights=weight)
    deviation = found - centre
    variance = float(np.average(deviation**2, weights=weight))
    if variance == 0:
        return float(level - centre), 1.0
    moment = float((weight * deviation * (target - level)).sum())
    slope = max((moment + variance) / (weight.sum() * variance + variance), 0.0)
    return float(level - slope * centre), float(slope)
