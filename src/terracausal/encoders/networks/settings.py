"""How a network is trained."""

from dataclasses import dataclass
from os import PathLike
from typing import Literal

from terracausal._foundation.checks import (
    check_choice,
    check_count,
    check_fraction,
    check_positive,
)


@dataclass(frozen=True)
class TrainingSettings:
    """How a network is trained: AdamW, and early stopping on sites that are held out.

    Parameters
    ----------
    n_epochs : int, default=60
        Most passes over the training sites.
    batch_size : int, default=32
        Number of sites in a step.
    learning_rate : float, default=0.003
        Highest learning rate; reached after the first twentieth of all steps.
    schedule : {'cosine', 'plateau', 'constant'}, default='cosine'
        "cosine" falls to 0 over `n_epochs`; "plateau" halves the rate whenever the held-out loss
        has not improved for half of `patience` epochs.
    weight_decay : float, default=0.01
        Of AdamW.
    max_gradient_norm : float, default=1.0
        Longer gradients are shortened to this.
    held_out_share : float, default=0.2
        Share of sites, by whole clusters, that stop the training. 0 holds out none: the last
        parameters are kept.
    patience : int, default=15
        Epochs without a lower held-out loss after which training ends.
    augment : bool, default=None
        Whether each step shows a site turned by quarters and mirrored at random, which keeps
        radiometry. None: yes, unless the network says that direction matters (`oriented`).
    n_restarts : int, default=1
        Number of trainings from other initial parameters; that with the lowest held-out loss is
        kept.
    checkpoint : path, default=None
        File that holds the state after each epoch, from which a killed training goes on; further
        restarts add ".1", ".2", … to its name. None keeps nothing.

    Examples
    --------
    >>> TrainingSettings(n_epochs=5).learning_rate
    0.003
    """

    n_epochs: int = 60
    batch_size: int = 32
    learning_rate: float = 0.003
    schedule: Literal["cosine", "plateau", "constant"] = "cosine"
    weight_decay: float = 0.01
    max_gradient_norm: float = 1.0
    held_out_share: float = 0.2
    patience: int = 15
    augment: bool | None = None
    n_restarts: int = 1
    checkpoint: str | PathLike[str] | None = None

    def __post_init__(self) -> None:
        for name in ("n_epochs", "batch_size", "patience", "n_restarts"):
            check_count(name, getattr(self, name))
        check_positive("learning_rate", self.learning_rate)
        check_positive("max_gradient_norm", self.max_gradient_norm)
        check_choice("schedule", self.schedule, ("cosine", "plateau", "constant"))
        if not self.weight_decay >= 0:
            raise ValueError(f"`weight_decay` must not be negative; got {self.weight_decay!r}.")
        if self.held_out_share != 0:
            check_fraction("held_out_share", self.held_out_share)
        elif self.n_restarts > 1:
            raise ValueError(
                f"`n_restarts` = {self.n_restarts} chooses by the held-out loss, but "
                "`held_out_share` is 0. Hold out some sites."
            )
