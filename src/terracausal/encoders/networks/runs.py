"""One training of one network, epoch by epoch, that can be killed and go on."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from terracausal._foundation.errors import list_some
from terracausal._foundation.progress import track
from terracausal.encoders.networks.augmentation import turn_and_mirror
from terracausal.encoders.networks.checkpoints import read_checkpoint, write_checkpoint
from terracausal.encoders.networks.devices import seeded
from terracausal.encoders.networks.learning_rates import learning_rate
from terracausal.encoders.networks.running import Appetite, half_precision, run_sites
from terracausal.encoders.networks.settings import TrainingSettings
from terracausal.encoders.networks.training_data import TrainingData

UnitLoss: TypeAlias = Callable[[Tensor, Tensor], Tensor]

INITIAL = 1
_EPOCH = 2  # streams of randomness


def number_of(*place: int) -> int:
    """Return the seed of one of many streams, named by whole numbers.

    Examples
    --------
    >>> number_of(0, 1) == number_of(0, 1), number_of(0, 1) == number_of(0, 2)
    (True, False)
    """
    sequence = np.random.SeedSequence(place)
    return int(sequence.generate_state(1)[0])


class TrainingRun:
    """The state of a training.

    Parameters
    ----------
    network : torch.nn.Module
        With initial parameters; they are changed.
    data : TrainingData
        Sites and units.
    loss : callable
        As for `train_network`.
    settings : TrainingSettings
        How to train.
    device : torch.device
        Where to compute.
    stream : tuple of int
        Seed and number of the restart.

    Attributes
    ----------
    history : list of tuple
        Number, learning rate at the end, training loss and held-out loss of each epoch.
    best_loss : float
        Lowest held-out loss; NaN where no site is held out.
    best_parameters : dict of str to Tensor
        Those of the epoch with the lowest held-out loss, or of the last epoch.
    """

    def __init__(
        self,
        network: nn.Module,
        data: TrainingData,
        loss: UnitLoss,
        settings: TrainingSettings,
        device: torch.device,
        stream: tuple[int, int],
    ) -> None:
        self.network = network.to(device)
        self.data = data
        self.loss = loss
        self.settings = settings
        self.device = device
        self.stream = stream
        self.optimizer = torch.optim.AdamW(
            network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
        )
        oriented = bool(getattr(network, "oriented", False))
        self.augment = not oriented if settings.augment is None else settings.augment
        self.appetite = Appetite(settings.batch_size, device)
        self.history: list[tuple[int, float, float, float]] = []
        self.best_loss = math.nan
        self.best_parameters: dict[str, Tensor] = {}

    def train(self, path: Path | None, fingerprint: str) -> None:
        """Train to the end, from the checkpoint if there is one."""
        state = None if path is None else read_checkpoint(path, fingerprint)
        if state is None:
            self._refuse_unreadable()
        else:
            self._restore(state)
        for epoch in track(range(self.settings.n_epochs), "training"):
            if epoch < len(self.history):
                continue
            if self._has_waited():
                break
            with seeded(number_of(*self.stream, _EPOCH, epoch), self.device):
                rate, loss = self._epoch(epoch)
            held_out = self._held_out_loss()
            self.history.append((epoch, rate, loss, held_out))
            if not held_out >= self.best_loss:  # also where there was none
                self.best_loss = held_out
                self.best_parameters = {
                    name: value.detach().cpu().clone()
                    for name, value in self.network.state_dict().items()
                }
            if path is not None:
                write_checkpoint(path, self._state(fingerprint))

    def _has_waited(self) -> bool:
        losses = [row[3] for row in self.history]
        if not losses or math.isnan(losses[0]):
            return False
        return len(losses) - 1 - int(np.argmin(losses)) >= self.settings.patience

    def _epoch(self, epoch: int) -> tuple[float, float]:
        """Run over all training sites; return the last learning rate and the mean loss."""
        generator = np.random.default_rng([*self.stream, _EPOCH, epoch])
        rows = generator.permutation(self.data.training)
        # parts of equal size: a small one at the end would have noisy gradients
        n_steps = -(-len(rows) // self.settings.batch_size)
        self.network.train()
        held_out_losses = [row[3] for row in self.history]
        total, rate = 0.0, 0.0
        for step, here in enumerate(np.array_split(rows, n_steps)):
            progress = (epoch + (step + 1) / n_steps) / self.settings.n_epochs
            rate = learning_rate(self.settings, progress, held_out_losses)
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            summed = self._step(here, generator)
            if not math.isfinite(summed):
                raise FloatingPointError(
                    f"The loss or its gradient became {summed} in step {step + 1} of {n_steps} of "
                    f"epoch {epoch + 1}, at learning rate {rate:.3g}. Lower `learning_rate` (now "
                    f"{self.settings.learning_rate:g}), or look at the loss for outputs that make "
                    "it infinite."
                )
            self.optimizer.step()
            total += summed
        return rate, total / self.data.total_weight(self.data.training)

    def _step(self, rows: NDArray[np.intp], generator: np.random.Generator) -> float:
        """Set the gradients of a step; return the weighted sum of its losses, NaN if not finite."""
        pixels, days = self.data.images.take(rows)
        if self.augment:
            pixels = turn_and_mirror(pixels, generator)
        # an unbiased estimate of the weighted mean over all training units
        share = len(self.data.training) / len(rows)
        factor = share / self.data.total_weight(self.data.training)

        def part(start: int, stop: int) -> float:
            with half_precision(self.device):
                moved = (x[start:stop].to(self.device) for x in (pixels, days))
                outputs = self.network(*moved)
            summed = self._summed_loss(outputs.float(), rows[start:stop])
            (factor * summed).backward()  # type: ignore[no-untyped-call]
            return float(summed.detach())

        total = sum(self.appetite.feed(len(rows), part, self.optimizer.zero_grad))
        longest = self.settings.max_gradient_norm
        length = nn.utils.clip_grad_norm_(self.network.parameters(), longest)
        return total if bool(length.isfinite()) else math.nan

    def _summed_loss(self, outputs: Tensor, rows: NDArray[np.intp]) -> Tensor:
        """Return the weighted sum of the losses of the units at some sites."""
        units, owner = self.data.units_at(rows)
        targets = self.data.values[units].to(self.device)
        losses = self.loss(outputs[owner.to(self.device)], targets)
        if losses.shape != (len(units),):
            raise ValueError(
                f"`loss` must return one loss per unit, of shape ({len(units)},); got "
                f"{tuple(losses.shape)}. Do not average over units."
            )
        return (losses * self.data.weight[units].to(self.device)).sum()

    def _held_out_loss(self) -> float:
        rows = self.data.held_out
        if not len(rows):
            return math.nan
        with torch.no_grad():
            parts = [
                float(self._summed_loss(self._outputs(here).to(self.device), here))
                for here in self._in_parts(rows)
            ]
        held_out = sum(parts) / self.data.total_weight(rows)
        if not math.isfinite(held_out):
            raise FloatingPointError(
                f"The loss of the {len(rows)} held-out sites became {held_out} after epoch "
                f"{len(self.history) + 1}. Lower `learning_rate` (now "
                f"{self.settings.learning_rate:g})."
            )
        return held_out

    def _refuse_unreadable(self) -> None:
        """Name the sites for which the network has no output, before anything is trained."""
        everyone = np.arange(len(self.data.images.sites))
        gaps = [self._outputs(here).isnan().any(dim=1).numpy() for here in self._in_parts(everyone)]
        bad = self.data.images.sites[np.concatenate(gaps)]
        if len(bad):
            raise ValueError(
                f"The network reads nothing in the chips of {len(bad)} of {len(everyone)} sites: "
                f"{list_some(bad)}. Too many of their pixels are missing; leave these sites out."
            )

    def _outputs(self, rows: NDArray[np.intp]) -> Tensor:
        self.network.eval()
        return run_sites(self.network, self.data.images.take(rows), self.appetite)

    def _in_parts(self, rows: NDArray[np.intp]) -> list[NDArray[np.intp]]:
        size = self.settings.batch_size
        return [rows[start : start + size] for start in range(0, len(rows), size)]

    def _state(self, fingerprint: str) -> dict[str, Any]:
        return {
            "fingerprint": fingerprint,
            "seed": self.stream[0],
            "history": self.history,
            "best_loss": self.best_loss,
            "best_parameters": self.best_parameters,
            "parameters": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }

    def _restore(self, state: dict[str, Any]) -> None:
        self.network.load_state_dict(state["parameters"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.history = [tuple(row) for row in state["history"]]
        self.best_loss = state["best_loss"]
        self.best_parameters = state["best_parameters"]
