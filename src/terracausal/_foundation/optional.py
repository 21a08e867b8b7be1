"""Heavy or optional packages, imported when they are used and named when they are missing."""

from importlib import import_module
from typing import Any

from terracausal._foundation.errors import MissingExtraError


def require(module: str, *, needed_by: str, extra: str | None = None) -> Any:
    """Import `module` or say what to install.

    Parameters
    ----------
    module : str
        Dotted name of the module.
    needed_by : str
        What the user asked for, for the message.
    extra : str, default=None
        The optional extra of terracausal that brings the module; None for a core dependency.

    Examples
    --------
    >>> require("math", needed_by="the example").sqrt(4.0)
    2.0
    """
    try:
        return import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        target = f"terracausal[{extra}]" if extra else package
        raise MissingExtraError(
            f"{needed_by} needs the package {package!r}, which could not be imported "
            f"({error}). Install it with: pip install '{target}'"
        ) from error
