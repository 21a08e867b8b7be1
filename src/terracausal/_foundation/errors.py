"""Errors and warnings, each catchable by a built-in base class.

Messages follow one plan: what was expected, what was found (names, counts, values), what to do.
"""

from collections.abc import Iterable


class RoleError(ValueError):
    """A column cannot play its causal role (missing, doubled, constant, not binary)."""


class AlignmentError(ValueError):
    """Two tables that should describe the same sites or units do not."""


class BandError(ValueError):
    """The bands of the imagery are not the bands that were asked for."""


class LeakageError(ValueError):
    """Information from treatment or outcome would reach a place where it must not be."""


class OverlapError(ValueError):
    """Some units could never have been in the other arm, so they have no identified effect."""


class ChipReadError(OSError):
    """A chip could not be read from its source."""


class MissingExtraError(ImportError):
    """An optional dependency is not installed."""


class OverlapWarning(UserWarning):
    """Some propensities are close to 0 or 1."""


def list_some(values: Iterable[object], limit: int = 5) -> str:
    """Return the first values as text, with the count of those left out.

    Examples
    --------
    >>> list_some(["a", "b", "c"], limit=2)
    "'a', 'b' and 1 more"
    """
    items = list(values)
    shown = ", ".join(repr(_plain(item)) for item in items[:limit])
    return shown if len(items) <= limit else f"{shown} and {len(items) - limit} more"


def _plain(value: object) -> object:
    """Turn a NumPy scalar into the Python object that prints without its type."""
    item = getattr(value, "item", None)
    return item() if callable(item) and getattr(value, "ndim", 1) == 0 else value
