"""Units of chips: what the user says, whether the values agree, and the way to the network's."""

from typing import Any, Literal

import numpy as np

from terracausal.encoders.pretrained.entry import NetworkUnits

Units = Literal["uint8", "reflectance", "reflectance_10000"] | tuple[float, float]

_PLAUSIBLE = {
    "uint8": (0.0, 255.0),
    # noise makes dark pixels negative, and sunlit clouds exceed 1
    "reflectance": (-0.2, 3.0),
    "reflectance_10000": (-2000.0, 30_000.0),
}
_FULL_SCALE = {"uint8": 255.0, "reflectance": 1.0, "reflectance_10000": 10_000.0}
# fractions no larger than this are reflectance, whatever was said
_SURELY_REFLECTANCE = {"uint8": 1.0, "reflectance_10000": 3.0}

_CHOICES = (
    "'uint8' (0 to 255), 'reflectance' (0 to 1), 'reflectance_10000' (reflectance times 10,000) "
    "or a pair (low, high) that is stretched to black and white"
)


def check_units(units: Any, seen: tuple[float, float]) -> Units:
    """Return `units` if they are one of the choices, or list the choices with the range seen.

    Examples
    --------
    >>> check_units("reflectance", (0.0, 0.4))
    'reflectance'
    """
    if isinstance(units, str) and units in _PLAUSIBLE:
        return units  # type: ignore[return-value]
    if isinstance(units, tuple | list) and len(units) == 2 and not isinstance(units[0], str):
        low, high = (float(value) for value in units)
        if np.isfinite([low, high]).all() and low < high:
            return low, high
    raise ValueError(
        f"`units` must say what the values of the chips are: {_CHOICES}; got {units!r}. These "
        f"chips hold values from {seen[0]:g} to {seen[1]:g}. They cannot be told from the values "
        "alone, because a dark image in one unit looks like a bright one in another."
    )


def check_range(units: Units, low: float, high: float, *, few: bool = False) -> None:
    """Refuse values that the stated units cannot have, with the range seen.

    Of few images, only values outside the units are refused: they may all be dark.

    Examples
    --------
    >>> check_range("reflectance", 0.02, 0.4)
    >>> check_range("reflectance", 200, 4000)
    Traceback (most recent call last):
        ...
    ValueError: `units='reflectance'` means values from -0.2 to 3; ... from 200 to 4000. ...
    """
    if not np.isfinite([low, high]).all():
        return
    if isinstance(units, tuple):
        if few:
            return
        if high <= units[0] or low >= units[1]:
            raise ValueError(
                f"`units=({units[0]:g}, {units[1]:g})` is the range to stretch, but these chips "
                f"hold values from {low:g} to {high:g}, all outside it. State a range inside."
            )
        return
    least, most = _PLAUSIBLE[units]
    if low < least or high > most:
        raise ValueError(
            f"`units={units!r}` means values from {least:g} to {most:g}; these chips hold values "
            f"from {low:g} to {high:g}. Set `units` to what they are: {_CHOICES}."
        )
    small = _SURELY_REFLECTANCE.get(units)
    fractions = not (float(low).is_integer() and float(high).is_integer())
    if not few and small is not None and high <= small and fractions:
        raise ValueError(
            f"`units={units!r}` means values up to {_FULL_SCALE[units]:g}; these chips hold values "
            f"from {low:g} to {high:g}, which look like reflectance. Set `units` to what they are: "
            f"{_CHOICES}."
        )


def check_convertible(units: Units, native: NetworkUnits, name: str, *, by_factor: bool) -> None:
    """Refuse units that cannot be turned into those of the network.

    Parameters
    ----------
    units : Units
        Of the chips.
    native : str
        Of the network.
    name : str
        Of the weights, for the message.
    by_factor : bool
        Whether reflectance becomes bytes by a single factor.
    """
    if native == "uint8":
        allowed = isinstance(units, tuple) or units == "uint8" or by_factor
        hint = "'uint8', or a pair (low, high): the range that its authors stretched to 0..255"
    else:
        allowed = units in ("reflectance", "reflectance_10000")
        hint = "'reflectance' or 'reflectance_10000'"
    if not allowed:
        raise ValueError(
            f"The weights {name!r} were trained on {native!r}; chips in `units={units!r}` cannot "
            f"be turned into that. They must be {hint}."
        )


def conversion(units: Units, native: NetworkUnits) -> tuple[float, float]:
    """Return (low, factor): the network is shown (value - low) * factor.

    Examples
    --------
    >>> conversion("reflectance", "uint8"), conversion((50.0, 150.0), "uint8")
    ((0.0, 255.0), (50.0, 2.55))
    """
    full = _FULL_SCALE[native]
    if isinstance(units, tuple):
        return units[0], full / (units[1] - units[0])
    return 0.0, full / _FULL_SCALE[units]


def range_of(ranges: Any) -> tuple[float, float]:
    """Return the smallest and largest of (low, high) pairs, NaN where there are none."""
    pairs = np.array([pair for pair in ranges if np.isfinite(pair).all()], dtype=float)
    if not len(pairs):
        return float("nan"), float("nan")
    return float(pairs[:, 0].min()), float(pairs[:, 1].max())
