"""Names of the methods by which pixels of one grid become those of another."""

from terracausal._foundation.checks import check_choice

LINEAR = ("nearest", "bilinear", "cubic", "cubic_spline", "lanczos", "average")
"""Weighted means of the pixels under a kernel."""
ORDERED = ("mode", "max", "min", "med", "q1", "q3")
"""Choices among the pixels under a kernel."""
METHODS = LINEAR + ORDERED


def check_resampling(method: str) -> str:
    """Return the name of a resampling method, or raise with the names that there are.

    Examples
    --------
    >>> check_resampling("nearest")
    'nearest'
    """
    return check_choice("resampling", method, METHODS)
