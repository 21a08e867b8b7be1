"""An encoder from its name and settings in a configuration."""

import inspect
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from terracausal import encoders
from terracausal.encoders.base import ChipEncoder
from terracausal.workflows.configuration import ConfigurationError
from terracausal.workflows.options import suggest


def known_encoders() -> dict[str, type]:
    """Return what can be named: encoders of chips, and image learners.

    Examples
    --------
    >>> "RandomConvEncoder" in known_encoders()
    True
    """
    found = {name: getattr(encoders, name) for name in encoders.__all__}
    nuisance = import_module("terracausal.nuisance")
    found |= {name: getattr(nuisance, name) for name in nuisance.__all__}
    return {
        name: kind
        for name, kind in found.items()
        if inspect.isclass(kind)
        and (issubclass(kind, ChipEncoder) or callable(getattr(kind, "cross_fit", None)))
    }


def build_encoder(name: str, settings: Mapping[str, Any], seed: int) -> Any:
    """Return an encoder; a table with a name in it is an encoder inside another one.

    Parameters
    ----------
    name : str
        Of the class.
    settings : mapping of str to any
        Its arguments. Lists become tuples.
    seed : int
        Its `random_state`, unless one is given.

    Returns
    -------
    ChipEncoder or image learner

    Raises
    ------
    ConfigurationError
        The class or a setting is unknown.

    Examples
    --------
    >>> build_encoder("RandomConvEncoder", {"n_features": 64}, seed=1)
    RandomConvEncoder(n_features=64, random_state=1)
    """
    known = known_encoders()
    if name not in known:
        near = suggest(name, known).removesuffix("?").removesuffix(".")
        raise ConfigurationError(f"[encoder] name: there is no encoder {name!r}{near}.")
    parameters = inspect.signature(known[name]).parameters
    arguments: dict[str, Any] = {}
    for key, value in settings.items():
        if key not in parameters:
            near = suggest(key, parameters).removesuffix("?").removesuffix(".")
            raise ConfigurationError(f"[encoder] {key}: {name} has no such setting{near}.")
        arguments[key] = _setting(key, value, seed)
    if "random_state" in parameters and "random_state" not in arguments:
        arguments["random_state"] = seed
    try:
        return known[name](**arguments)
    except TypeError as error:
        raise ConfigurationError(f"[encoder] {name}: {error}.") from error


def _setting(key: str, value: Any, seed: int) -> Any:
    if isinstance(value, list):
        return tuple(tuple(item) if isinstance(item, list) else item for item in value)
    if isinstance(value, dict) and "name" in value:
        inner = dict(value)
        return build_encoder(inner.pop("name"), inner, seed)
    if isinstance(value, dict) and key == "training":
        return encoders.TrainingSettings(**value)
    if isinstance(value, dict) and key == "texture":
        return encoders.Texture(**value)
    return value
