"""Arms, propensities and balancing weights, as diagnostics read them off scores."""

from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from terracausal._foundation.checks import check_choice
from terracausal._foundation.errors import RoleError
from terracausal.effects.averages import arm_weights
from terracausal.nuisance import Scores

Floats = NDArray[np.floating[Any]]
Target = Literal["all", "treated", "control", "overlap"]
TARGETS = ("all", "treated", "control", "overlap")


class Arms(NamedTuple):
    """Treatment, propensity, unit weight and balancing weight, each of shape (n_units,)."""

    treatment: Floats
    propensity: Floats
    weight: Floats
    balancing: Floats


def arms_of(scores: Scores, target: str, needed_by: str) -> Arms:
    """Return the arms and the weights that turn both into the target population.

    Parameters
    ----------
    scores : Scores
    target : {"all", "treated", "control", "overlap"}
    needed_by : str
        What needs them, for the message.

    Returns
    -------
    Arms
        The balancing weight contains the unit weight.

    Raises
    ------
    RoleError
        Scores lack treatment or propensity, or have one arm only.
    """
    check_choice("target", target, TARGETS)
    w, e = scores.column("treatment", needed_by), scores.column("propensity", needed_by)
    counts = int((w == 1).sum()), int((w == 0).sum())
    if min(counts) == 0:
        raise RoleError(
            f"{needed_by} compares two arms; found {counts[0]} treated and {counts[1]} control."
        )
    treated, control = arm_weights(w, e, target)
    return Arms(w, e, scores.weight, scores.weight * np.where(w == 1, treated, control))


def effective_units(weight: Floats) -> float:
    """Return Kish's effective number of units, ``(sum w)² / sum w²``; 0 without weight.

    Parameters
    ----------
    weight : ndarray of shape (n_units,)

    Returns
    -------
    float

    Examples
    --------
    >>> effective_units(np.array([1.0, 1.0, 0.0]))
    2.0
    """
    squares = float(np.sum(weight**2))
    return float(np.sum(weight) ** 2 / squares) if squares > 0 else 0.0
