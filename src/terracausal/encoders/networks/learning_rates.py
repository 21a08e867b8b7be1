"""Learning rates as functions of what has happened, so that nothing has to be stored."""

import math
from collections.abc import Sequence

from terracausal.encoders.networks.settings import TrainingSettings

_WARM_UP = 0.05


def learning_rate(
    settings: TrainingSettings, progress: float, held_out_losses: Sequence[float]
) -> float:
    """Return the learning rate of a step.

    Parameters
    ----------
    settings : TrainingSettings
        Highest rate and schedule.
    progress : float
        Share of all steps of `n_epochs` that are done, the present one included.
    held_out_losses : sequence of float
        After each finished epoch.

    Examples
    --------
    >>> settings = TrainingSettings(learning_rate=1.0)
    >>> [round(learning_rate(settings, at, []), 3) for at in (0.025, 0.05, 0.525, 1.0)]
    [0.5, 1.0, 0.5, 0.0]
    """
    warm = min(progress / _WARM_UP, 1.0)
    rest = max(progress - _WARM_UP, 0.0) / (1 - _WARM_UP)
    factor = 1.0
    if settings.schedule == "cosine":
        factor = (1 + math.cos(math.pi * rest)) / 2
    elif settings.schedule == "plateau":
        factor = 0.5 ** n_plateaus(held_out_losses, max(settings.patience // 2, 1))
    return settings.learning_rate * warm * factor


def n_plateaus(losses: Sequence[float], wait: int) -> int:
    """Return how often the loss did not fall below its lowest for `wait` epochs in a row.

    Examples
    --------
    >>> n_plateaus([3.0, 2.0, 2.5, 2.5, 2.5, 2.5, 1.0], wait=2)
    2
    """
    lowest, since, found = math.inf, 0, 0
    for loss in losses:
        since = 0 if loss < lowest else since + 1
        lowest = min(lowest, loss)
        if since == wait:
            found, since = found + 1, 0
    return found
