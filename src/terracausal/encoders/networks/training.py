"""Train a network on chips, for any loss over any number of outputs.

One function serves regression, propensities, several heads and mixtures: the loss is given outputs
and targets by unit.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd
from torch import nn

from terracausal._foundation.randomness import RandomState, draw_seed, random_generator
from terracausal.encoders.digests import digest_of
from terracausal.encoders.networks.checkpoints import read_checkpoint
from terracausal.encoders.networks.devices import find_device, seeded
from terracausal.encoders.networks.runs import INITIAL, TrainingRun, UnitLoss, number_of
from terracausal.encoders.networks.settings import TrainingSettings
from terracausal.encoders.networks.targets import UnitTargets
from terracausal.encoders.networks.training_data import TrainingData
from terracausal.imagery import Chips


@dataclass(frozen=True, eq=False)
class TrainedNetwork:
    """A trained network and how its training went.

    Parameters
    ----------
    network : torch.nn.Module
        On the CPU, in evaluation mode, with the parameters of the epoch with the lowest held-out
        loss (the last epoch where no site was held out).
    history : DataFrame
        One row per epoch of the kept restart: epoch, learning_rate, loss, held_out_loss.
    held_out_loss : float
        The lowest; NaN where no site was held out. It was chosen, so it flatters a little.
    held_out_sites : Index
        Sites that stopped the training and entered no gradient.
    restart_losses : tuple of float
        Held-out loss of each restart.
    """

    network: nn.Module
    history: pd.DataFrame
    held_out_loss: float
    held_out_sites: pd.Index
    restart_losses: tuple[float, ...]


def train_network(
    make_network: Callable[[], nn.Module],
    chips: Chips,
    targets: UnitTargets,
    loss: UnitLoss,
    settings: TrainingSettings | None = None,
    *,
    device: str = "cpu",
    random_state: RandomState = None,
) -> TrainedNetwork:
    """Train a network on chips.

    Parameters
    ----------
    make_network : callable
        Returns a new network, which maps pixels (b, n_times, n_bands, h, w) and days since 1970
        (b, n_times) to outputs (b, n_outputs) by site, as `SiteNetwork` does. Its initial
        parameters follow `random_state` when they are drawn from torch's own stream.
    chips : Chips
        Of all sites with units; others are not read.
    targets : UnitTargets
        What the loss is given, by unit, with sites, weights and clusters.
    loss : callable
        Maps outputs (b, n_outputs) and targets (b, n_targets), a row by unit, to losses (b,). What
        is minimised is their weighted mean over all units.
    settings : TrainingSettings, default=None
        None takes the defaults.
    device : str, default="cpu"
        "cpu" or "cuda". CUDA computes in bfloat16 where torch holds that to be safe.
    random_state : None, int or numpy.random.Generator, default=None
        Seed of initial parameters, held-out sites, order of steps, augmentation and what the
        network draws.

    Returns
    -------
    TrainedNetwork

    Raises
    ------
    AlignmentError
        If a unit has no chip.
    FloatingPointError
        If a loss or gradient is not finite; the step and its learning rate are named.
    MemoryError
        If the device does not hold one site.
    RuntimeError
        If CUDA is asked for and absent.
    ValueError
        If a site cannot be read, or the checkpoint belongs to another training.

    Notes
    -----
    Every epoch draws from a stream of its own, numbered by seed and epoch, so that a training that
    goes on from a checkpoint repeats what an uninterrupted one does, exactly. Global streams are
    left as they were. The same seed gives the same numbers on the same CPU and number of threads.
    Another number of threads sums in another order, and CUDA in no fixed one: last digits change.

    Examples
    --------
    >>> import numpy as np
    >>> import torch
    >>> from terracausal.encoders.networks import KernelMaxNetwork, SiteNetwork
    >>> from terracausal.encoders.networks.losses import squared_error
    >>> pixels = np.random.default_rng(0).normal(size=(20, 1, 1, 6, 6))
    >>> chips = Chips.from_arrays(pixels, sites=range(20), bands=["red"])
    >>> def make():
    ...     images = KernelMaxNetwork(1, width_px=1, pooling="mean")
    ...     return SiteNetwork(images, 1, torch.zeros(1), torch.ones(1))
    >>> targets = UnitTargets.of(pd.Series(pixels.mean(axis=(1, 2, 3, 4)), name="brightness"))
    >>> settings = TrainingSettings(n_epochs=3)
    >>> trained = train_network(make, chips, targets, squared_error, settings, random_state=0)
    >>> trained.history.shape, len(trained.held_out_sites)
    ((3, 4), 4)
    """
    settings = TrainingSettings() if settings is None else settings
    place = find_device(device)
    targets.check_sites(chips.keys)
    paths = [_restart_path(settings, restart) for restart in range(settings.n_restarts)]
    seed = draw_seed(random_generator(random_state))
    with seeded(number_of(seed, 0, INITIAL), place):
        network = make_network()
    given = None if random_state is None else seed
    fingerprint = _fingerprint(network, chips, targets, settings, given)
    if given is None and paths[0] is not None:
        # a training that was not given a seed goes on with the one that it drew
        found = read_checkpoint(paths[0], fingerprint)
        seed = seed if found is None else int(found["seed"])
    data = TrainingData.of(chips, targets, settings.held_out_share, number_of(seed, 0))
    best: TrainingRun | None = None
    losses: list[float] = []
    for restart, path in enumerate(paths):
        with seeded(number_of(seed, restart, INITIAL), place):
            network = make_network()
        run = TrainingRun(network, data, loss, settings, place, (seed, restart))
        run.train(path, fingerprint)
        losses.append(run.best_loss)
        if best is None or run.best_loss < best.best_loss:
            best = run
    return _result(best, data, losses)


def _result(best: TrainingRun | None, data: TrainingData, losses: list[float]) -> TrainedNetwork:
    if best is None:
        raise RuntimeError("Expected at least one training; got none.")
    best.network.load_state_dict(best.best_parameters)
    columns = ["epoch", "learning_rate", "loss", "held_out_loss"]
    return TrainedNetwork(
        network=best.network.cpu().eval().requires_grad_(False),
        history=pd.DataFrame(best.history, columns=columns),
        held_out_loss=best.best_loss,
        held_out_sites=data.images.sites[data.held_out],
        restart_losses=tuple(losses),
    )


def _restart_path(settings: TrainingSettings, restart: int) -> Path | None:
    if settings.checkpoint is None:
        return None
    path = Path(settings.checkpoint)
    return path if restart == 0 else path.with_name(f"{path.name}.{restart}")


def _fingerprint(
    network: nn.Module,
    chips: Chips,
    targets: UnitTargets,
    settings: TrainingSettings,
    seed: int | None,
) -> str:
    """Return a checksum of what a training depends on, but for pixels, which enter by moments."""
    kept = {k: v for k, v in asdict(settings).items() if k not in ("checkpoint", "n_restarts")}
    shapes = [(name, tuple(value.shape)) for name, value in network.named_parameters()]
    # moments of bands are buffers
    buffers = [(name, value.tolist()) for name, value in network.named_buffers()]
    sites = [str(key) for key in targets.sites]
    pixels = (chips.bands, chips.size_px, chips.n_times)
    # the batch size is a setting of learning here, which `digest_of` would leave out of a mapping
    return digest_of([sorted(kept.items()), shapes, buffers, sites, targets.arrays(), pixels, seed])
