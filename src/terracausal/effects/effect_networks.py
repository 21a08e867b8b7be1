"""Networks of effects: their loss, how they are trained, and what they predict."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from terracausal.encoders.networks.devices import find_device
from terracausal.encoders.networks.making import advised_training, check_bands
from terracausal.encoders.networks.targets import UnitTargets
from terracausal.encoders.networks.training import train_network
from terracausal.encoders.random_networks import band_moments
from terracausal.imagery import Chips
from terracausal.nuisance.image_fitting import ReadsImages, fit_line, new_task_network, site_vectors
from terracausal.nuisance.image_tasks import TrainedTasks
from terracausal.study import Study

Floats = NDArray[np.floating[Any]]


def effect_loss(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the squared error (b,) of a target by a factor times the effect.

    Parameters
    ----------
    outputs : Tensor of shape (b, 1 + n_covariates + 1)
        Of a `TaskNetwork` with one task, by unit.
    targets : Tensor of shape (b, 2 + n_covariates)
        Target, factor and covariates.

    Examples
    --------
    >>> effect_loss(torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([[3.0, 0.5, 4.0]])).tolist()
    [0.0]
    """
    effect = outputs[:, 0] + (outputs[:, 1:-1] * targets[:, 2:]).sum(dim=1)
    return (targets[:, 0] - targets[:, 1] * effect).square()


@dataclass(frozen=True, eq=False)
class TrainedEffect:
    """A network of effects, with the scales that its outputs and covariates have.

    Parameters
    ----------
    part : TrainedTasks
        The network.
    covariate_moments : pair of Series
        Mean and scale of the features beside the image.
    line : (float, float)
        Intercept and slope from outputs to effects, fitted on the held-out sites.
    """

    part: TrainedTasks
    covariate_moments: "tuple[pd.Series[float], pd.Series[float]]"
    line: tuple[float, float]


def train_effect(
    learner: ReadsImages,
    study: Study,
    chips: Chips,
    beside: pd.DataFrame,
    pair: tuple[Floats, Floats],
    seed: int,
) -> TrainedEffect:
    """Train one network of the effect, and calibrate it on the sites that stopped it.

    Parameters
    ----------
    learner : ReadsImages
        Its settings.
    study : Study
        In canonical order.
    chips : Chips
    beside : pandas.DataFrame of shape (n_units, n_covariates)
        Features beside the image.
    pair : pair of ndarray of shape (n_units,)
        Target and factor.
    seed : int

    Returns
    -------
    TrainedEffect
    """
    find_device(learner.device)
    check_bands(learner.network, chips.bands)
    target, factor = pair
    v = np.ones(len(target)) if study.weight is None else study.weight.to_numpy()
    level = float((v * factor * target).sum() / (v * factor**2).sum())
    rest = target - factor * level
    # both sides of the loss in units of their own size, so that outputs are of order one
    by_rest, by_factor = (float(np.sqrt(np.average(x**2, weights=v))) for x in (rest, factor))
    by_rest = by_rest or 1.0
    mean, scale = beside.mean(), beside.std(ddof=0)
    scale = scale.where(scale > 1e-12 * mean.abs().clip(1), 1.0)
    columns = {"target": rest / by_rest, "factor": factor / by_factor}
    values = pd.concat([pd.DataFrame(columns, index=study.units), (beside - mean) / scale], axis=1)
    targets = UnitTargets(values, _sites(study), study.weight, study.clusters)
    used = chips.select(targets.sites)
    centre, spread = band_moments(used)
    moments = torch.from_numpy(centre), torch.from_numpy(spread)
    allowed = torch.ones((1, beside.shape[1]))
    trained = train_network(
        partial(new_task_network, learner, chips.n_bands, moments, allowed),
        used,
        targets,
        effect_loss,
        learner.training or advised_training(learner.network),
        device=learner.device,
        random_state=seed,
    )
    part = TrainedTasks.of(("effect",), trained)
    held = _sites(study).isin(part.held_out_sites).to_numpy()
    outputs = _outputs(learner, part, chips, _sites(study)[held], (beside - mean)[held] / scale)
    # target / factor has the effect as its mean, and counts by factor²
    f, t, weight = factor[held], target[held], (v * factor**2)[held]
    seen = weight > 0
    line = (level, by_rest / by_factor)
    if seen.any():
        share = weight[seen] / weight[seen].mean()
        line = fit_line(line[1] * outputs[seen], t[seen] / f[seen], share)
        line = (line[0], line[1] * by_rest / by_factor)
    return TrainedEffect(part, (mean, scale), line)


def predict_effect(
    learner: ReadsImages,
    trained: TrainedEffect,
    chips: Chips,
    sites: "pd.Series[Any]",
    beside: pd.DataFrame,
) -> Floats:
    """Return the effects that one network predicts, of shape (n_rows,).

    Parameters
    ----------
    learner : ReadsImages
    trained : TrainedEffect
    chips : Chips
    sites : pandas.Series of shape (n_rows,)
    beside : pandas.DataFrame of shape (n_rows, n_covariates)
    """
    mean, scale = trained.covariate_moments
    outputs = _outputs(learner, trained.part, chips, sites, (beside - mean) / scale)
    return np.asarray(trained.line[0] + trained.line[1] * outputs)


def _outputs(
    learner: ReadsImages,
    part: TrainedTasks,
    chips: Chips,
    sites: "pd.Series[Any]",
    covariates: pd.DataFrame,
) -> Floats:
    vectors = site_vectors(part, chips, sites, learner)
    return part.linear(vectors.to_numpy(), covariates.to_numpy(dtype=np.float64))[:, 0]


def _sites(study: Study) -> "pd.Series[Any]":
    sites = study.sites
    if sites is None:
        raise TypeError("Units have sites here.")
    return sites
