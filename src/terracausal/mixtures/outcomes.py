"""What the outcomes of each family may be, and the scale on which they are fitted."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from terracausal._foundation.errors import list_some

Floats = NDArray[np.float64]
FAMILIES = (
    "normal",
    "log_normal",
    "student_t",
    "left_censored",
    "zero_inflated",
    "bernoulli",
    "poisson",
    "negative_binomial",
)
COUNTS = ("poisson", "negative_binomial")
_FLOORED = ("left_censored", "zero_inflated")
_MIN_FLOOR_SHARE = 0.02


@dataclass(frozen=True)
class OutcomeScale:
    """How outcomes become the numbers that a family is fitted to.

    Parameters
    ----------
    centre, spread : float
        ``(outcome - centre) / spread``; of the log for "log_normal", and of the log of what lies
        above the floor for "zero_inflated".
    floor : float, default=None
        The lowest outcome, for families that expect outcomes to pile up there.
    log : bool, default=False
        Whether the log is taken.
    offset : float, default=0.0
        Of counts: the log of their mean, around which the log mean is modelled.

    Examples
    --------
    >>> OutcomeScale(1.0, 2.0).standardise(np.array([3.0])).tolist()
    [1.0]
    """

    centre: float
    spread: float
    floor: float | None = None
    log: bool = False
    offset: float = 0.0

    @property
    def standard_floor(self) -> float | None:
        """The floor on the scale of standardised outcomes; None where the log is taken."""
        if self.floor is None or self.log:
            return None
        return (self.floor - self.centre) / self.spread

    def at_floor(self, outcome: Floats) -> NDArray[np.bool_]:
        """Tell which outcomes sit at the floor."""
        if self.floor is None:
            return np.zeros(len(outcome), dtype=bool)
        return np.asarray(outcome <= self.floor)

    def standardise(self, outcome: Floats) -> Floats:
        """Return standardised outcomes; 0 for those at the floor of a logarithmic scale."""
        if not self.log:
            known = outcome if self.floor is None else np.maximum(outcome, self.floor)
            return np.asarray((known - self.centre) / self.spread)
        above = outcome - (self.floor or 0.0)
        usable = above > 0
        logs = np.log(np.where(usable, above, 1.0))
        return np.where(usable, (logs - self.centre) / self.spread, 0.0)

    def log_volume(self, outcome: Floats) -> Floats:
        """Return what turns log densities of standardised outcomes into those of outcomes.

        0 at the floor, where there is a probability and no density.
        """
        volume = np.full(len(outcome), -np.log(self.spread))
        if self.log:
            above = outcome - (self.floor or 0.0)
            volume -= np.log(np.where(above > 0, above, 1.0))
        return np.where(self.at_floor(outcome), 0.0, volume)


def learn_scale(outcome: Floats, weight: Floats, family: str, name: str) -> OutcomeScale:
    """Learn the scale of outcomes; refuse those outside the family's support.

    Parameters
    ----------
    outcome, weight : ndarray of shape (n_units,)
    family : str
        One of `FAMILIES`.
    name : str
        Of the outcome, for errors.

    Returns
    -------
    OutcomeScale

    Raises
    ------
    ValueError
        The outcome is constant, or not of the family.

    Examples
    --------
    >>> learn_scale(np.array([0.0, 1.0]), np.ones(2), "bernoulli", "employed")
    OutcomeScale(centre=0.0, spread=1.0, floor=None, log=False, offset=0.0)
    """
    if np.ptp(outcome) <= 1e-12 * max(float(np.abs(outcome).max()), 1.0):
        raise ValueError(
            f"The outcome {name!r} must vary; all {len(outcome)} units have the value "
            f"{outcome[0]:g}."
        )
    if family == "bernoulli":
        _check_binary(outcome, name)
        return OutcomeScale(0.0, 1.0)
    if family in COUNTS:
        _check_counts(outcome, family, name)
        return OutcomeScale(0.0, 1.0, offset=float(np.log(np.average(outcome, weights=weight))))
    floor = _check_floor(outcome, family, name) if family in _FLOORED else None
    if family == "log_normal":
        _check_positive(outcome, name)
        return OutcomeScale(*_moments(np.log(outcome), weight), log=True)
    if family == "zero_inflated" and floor is not None:
        above = outcome > floor
        logs = np.log(outcome[above] - floor)
        return OutcomeScale(*_moments(logs, weight[above]), floor, log=True)
    return OutcomeScale(*_moments(outcome, weight), floor)


def _moments(values: Floats, weight: Floats) -> tuple[float, float]:
    centre = float(np.average(values, weights=weight))
    spread = float(np.sqrt(np.average((values - centre) ** 2, weights=weight)))
    return centre, spread if spread > 0 else 1.0


def _check_binary(outcome: Floats, name: str) -> None:
    values = np.unique(outcome)
    if not set(values) <= {0.0, 1.0}:
        raise ValueError(
            f"family='bernoulli' takes outcomes 0 and 1; {name!r} has {len(values)} values: "
            f"{list_some(values)}. Use family='normal' or 'student_t'."
        )


def _check_counts(outcome: Floats, family: str, name: str) -> None:
    bad = (outcome < 0) | (outcome != np.round(outcome))
    if bad.any():
        raise ValueError(
            f"family={family!r} takes counts 0, 1, 2, …; {int(bad.sum())} of {len(outcome)} values "
            f"of {name!r} are negative or not whole: {list_some(np.unique(outcome[bad]))}. "
            "Use family='normal', 'log_normal' or 'zero_inflated'."
        )


def _check_positive(outcome: Floats, name: str) -> None:
    bad = outcome <= 0
    if bad.any():
        raise ValueError(
            f"family='log_normal' takes positive outcomes; {int(bad.sum())} of {len(outcome)} "
            f"values of {name!r} are not, the lowest {outcome.min():g}. Use family='normal', or "
            "'zero_inflated' where they pile up at one value."
        )


def _check_floor(outcome: Floats, family: str, name: str) -> float:
    floor = float(outcome.min())
    share = float(np.mean(outcome == floor))
    most = 1 - _MIN_FLOOR_SHARE
    if not _MIN_FLOOR_SHARE <= share <= most:
        raise ValueError(
            f"family={family!r} takes outcomes that pile up at their lowest value; "
            f"{'only ' if share < most else ''}{share:.1%} of the units of {name!r} sit at "
            f"{floor:g}. Use family={'normal' if share < most else 'bernoulli'!r}."
        )
    return floor
