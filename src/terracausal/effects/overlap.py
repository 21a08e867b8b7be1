"""When an average over units rests on too few of them to be told."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from terracausal._foundation.errors import OverlapError, list_some
from terracausal.nuisance.scores import EXTREME

Floats = NDArray[np.floating[Any]]
_FEWEST_EFFECTIVE = 2.0
_TOLD, _MOST_LOST = 0.2, 0.5
MIN_DISJOINT = 5  # with fewer units in an arm, arms are disjoint by chance
_ADVICE = (
    "Use target='overlap', the effect where the arms are closest, trim=0.05 in "
    "doubly_robust_scores, which changes the population, or fewer confounders."
)


def refuse_disjoint_arms(w: Floats, e: Floats) -> None:
    """Refuse averages over units of which none could be compared with the other arm.

    Parameters
    ----------
    w, e : ndarray of shape (n_units,)
        Treatment and propensity.
    """
    treated, control = e[w == 1], e[w == 0]
    if min(len(treated), len(control)) < MIN_DISJOINT or treated.min() <= control.max():
        return
    raise OverlapError(
        "Treated and control units do not overlap at all: the propensities of the "
        f"{len(control):,} controls reach {control.max():.4f}, those of the {len(treated):,} "
        f"treated begin at {treated.min():.4f}. Their averages rest on extrapolation. {_ADVICE}"
    )


def refuse_collapsed_arm(
    balancing: Floats, chance: Floats, units: pd.Index, arm: str, advice: str = _ADVICE
) -> None:
    """Refuse an average to which one unit of an arm contributes nearly everything.

    The mean outcome of an arm is a mean over its units with balancing weights. Where Kish's
    effective number of units, ``(sum g)^2 / sum g^2``, falls below 2, there are fewer units than a
    variance can be estimated from, so neither the mean nor its standard error says anything. It
    takes one unit with at least 70 % of the weight.

    Parameters
    ----------
    balancing, chance : ndarray of shape (n_arm,)
        Balancing weights of the arm's units, without unit weights, and their propensities.
    units : pandas.Index of length n_arm
    arm : str
        Its name, for the message.
    advice : str
        What to do, for the message; by default what `average_effect` offers.
    """
    n_units, total = len(balancing), float(balancing.sum())
    if n_units < MIN_DISJOINT or total <= 0:
        return
    effective = total**2 / float(np.sum(balancing**2))
    if effective >= _FEWEST_EFFECTIVE:
        return
    heaviest = int(np.argmax(balancing))
    raise OverlapError(
        f"The average rests on one unit: {list_some(units[[heaviest]])} ({arm}) has a propensity "
        f"of {chance[heaviest]:.10g} and carries {balancing[heaviest] / total:.1%} of the weight "
        f"of the {n_units:,} units {arm}, which leaves {effective:.1f} effective units; a variance "
        f"needs 2. {advice}"
    )


def lost_share(arms: Sequence[Floats], size: Floats, weight: Floats) -> tuple[float, float]:
    """Return the share of the target population that lacks a counterpart in some arm.

    Where every unit could have been in each arm, the balancing weights of an arm add up to the size
    of the population, up to chance; what is missing are units that none of the arm is like. The
    arms are added up, so that a propensity that is too high throughout, which loses as much in one
    arm as it gains in the other, is not taken for this.

    Parameters
    ----------
    arms : sequence of ndarray of shape (n_units,)
        Balancing weights of each arm, zero outside it.
    size, weight : ndarray of shape (n_units,)
        How much each unit counts in the target population, and its own weight.

    Returns
    -------
    lost, std_error : float

    Examples
    --------
    >>> two = np.array([2.0, 0.0, 2.0, 0.0])
    >>> lost_share([two, two[::-1]], np.ones(4), np.ones(4))[0]
    0.0
    """
    total = float(np.sum(weight * size))
    lost = sum(1 - float(np.sum(weight * balancing)) / total for balancing in arms)
    squares = sum(float(np.sum((weight * balancing) ** 2)) for balancing in arms)
    return lost, float(np.sqrt(squares)) / total


def lost_note(lost: float, std_error: float, advice: str = _ADVICE) -> tuple[str, ...]:
    """Tell where a fifth of the target population lacks a counterpart; refuse at a half.

    Parameters
    ----------
    lost, std_error : float
        From `lost_share`. Up to three standard errors are chance.
    advice : str
        What to do, for the message.

    Returns
    -------
    tuple of str
    """
    if not lost > max(_TOLD, 3 * std_error):
        return ()
    if lost > _MOST_LOST:
        raise OverlapError(
            f"The arms hardly overlap: {lost:.0%} of the target population have no counterpart in "
            "the other arm, to judge by balancing weights, which should add up to all of it in "
            f"each arm. Their average rests on extrapolation. {advice}"
        )
    return (
        f"{lost:.0%} of the target population have no counterpart in the other arm, to judge by "
        "the sum of the balancing weights; for these the effect is extrapolated",
    )


def heavy_unit_note(influence: Floats, e: Floats, units: pd.Index) -> tuple[str, ...]:
    """Tell of an extreme unit without which the estimate would move by more than its error.

    Leaving out a unit that carries the share s of the variance moves the estimate by
    ``sqrt(s / (1 - s))`` standard errors of the others: by more than one where s is above one half.

    Parameters
    ----------
    influence, e : ndarray of shape (n_units,)
        Influence values and propensities.
    units : pandas.Index of length n_units

    Returns
    -------
    tuple of str

    Examples
    --------
    >>> heavy_unit_note(np.array([9.0, -1, -1]), np.full(3, 0.995), pd.Index(list("abc")))[0][:30]
    "unit 'a' (propensity 0.9950) c"
    """
    squares = influence**2
    total = float(squares.sum())
    heaviest = int(np.argmax(squares))
    is_extreme = min(e[heaviest], 1 - e[heaviest]) < EXTREME
    if not (total > 0 and is_extreme and squares[heaviest] > 0.5 * total):
        return ()
    share = squares[heaviest] / total
    return (
        f"unit {list_some(units[[heaviest]])} (propensity {e[heaviest]:.4f}) carries {share:.0%} "
        "of the variance: without it the estimate moves by more than a standard error, so do not "
        "rely on the interval; see check_overlap, and consider target='overlap' or trim",
    )
