"""Encoders and effect learners from their names and settings in a configuration."""

import inspect
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from terracausal import effects, encoders
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


def known_learners() -> dict[str, type]:
    """Return the effect learners that can be named.

    Examples
    --------
    >>> "CausalForest" in known_learners()
    True
    """
    found = {name: getattr(effects, name) for name in effects.__all__}
    return {
        name: kind
        for name, kind in found.items()
        if inspect.isclass(kind)
        and callable(getattr(kind, "cross_predict", None))
        and not inspect.isabstract(kind)
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
    return _build("[encoder]", "encoder", known_encoders(), {"name": name, **settings}, seed)


def build_learner(given: str | Mapping[str, Any], seed: int) -> Any:
    """Return an effect learner from its name, or from a table with its name and settings.

    Parameters
    ----------
    given : str or mapping of str to any
    seed : int
        Its `random_state`, unless one is given.

    Returns
    -------
    EffectLearner

    Raises
    ------
    ConfigurationError
        The class or a setting is unknown.

    Examples
    --------
    >>> build_learner({"name": "DRLearner", "use": "embeddings"}, seed=1)
    DRLearner(random_state=1, use='embeddings')
    """
    settings = {"name": given} if isinstance(given, str) else given
    return _build("[analysis] learner", "effect learner", known_learners(), settings, seed)


def _build(
    where: str, kind: str, known: Mapping[str, type], given: Mapping[str, Any], seed: int
) -> Any:
    settings = dict(given)
    name = settings.pop("name", None)
    if name not in known:
        near = suggest(str(name), known).removesuffix("?").removesuffix(".")
        raise ConfigurationError(f"{where} name: there is no {kind} {name!r}{near}.")
    parameters = inspect.signature(known[name]).parameters
    arguments: dict[str, Any] = {}
    for key, value in settings.items():
        if key not in parameters:
            near = suggest(key, parameters).removesuffix("?").removesuffix(".")
            raise ConfigurationError(f"{where} {key}: {name} has no such setting{near}.")
        arguments[key] = _setting(key, value, seed)
    if "random_state" in parameters and "random_state" not in arguments:
        arguments["random_state"] = seed
    try:
        return known[name](**arguments)
    except TypeError as error:
        raise ConfigurationError(f"{where} {name}: {error}.") from error


def _setting(key: str, value: Any, seed: int) -> Any:
    if isinstance(value, list):
        return tuple(tuple(item) if isinstance(item, list) else item for item in value)
    if not isinstance(value, dict):
        return value
    if "name" in value:
        return _build("[encoder]", "encoder", known_encoders(), value, seed)
    plain = {"training": encoders.TrainingSettings, "texture": encoders.Texture}
    return plain[key](**value) if key in plain else value
