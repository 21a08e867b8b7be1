"""A comparison of choices, as a configuration file declares it."""

import inspect
from pathlib import Path
from typing import Any

import pandas as pd

from terracausal import effects
from terracausal._foundation.randomness import draw_seed, random_generator
from terracausal.report import Report
from terracausal.study import Study
from terracausal.workflows.choices import Choices
from terracausal.workflows.comparison import compare_choices, plan_comparison
from terracausal.workflows.configuration import ChoicesSection, Configuration, ConfigurationError
from terracausal.workflows.configured_data import load_data
from terracausal.workflows.configured_parts import build_encoder
from terracausal.workflows.options import suggest


def check_choices(configuration: Configuration, base: Path) -> str:
    """Check a comparison and its data; nothing is encoded, trained or written.

    Parameters
    ----------
    configuration : Configuration
    base : Path
        Folder that relative paths start from.

    Returns
    -------
    str
        What would be run.
    """
    study, chips, choices = _declared(configuration, base)
    plan = plan_comparison(study, choices, chips=chips, random_state=configuration.analysis.seed)
    plan.folds(0)
    combinations = "\n".join(f"  {one}" for one in choices.combinations())
    return (
        f"{study.describe()}\n\nComparison of {len(choices.combinations())} combinations of "
        f"choices, {choices.n_seeds} seeds each: {len(plan.cells)} cells\n{combinations}"
    )


def run_choices(
    configuration: Configuration, base: Path, folder: Path
) -> tuple[Report, dict[str, pd.DataFrame], str]:
    """Run a comparison, or go on where it was stopped.

    Parameters
    ----------
    configuration : Configuration
    base : Path
        Folder that relative paths start from.
    folder : Path
        Where finished cells are kept.

    Returns
    -------
    report : Report
    tables : dict of str to pandas.DataFrame
        By name of the file.
    summary : str
    """
    study, chips, choices = _declared(configuration, base)
    section = configuration.analysis
    found = compare_choices(
        study,
        choices,
        chips=chips,
        folder=folder,
        n_jobs=section.n_jobs,
        retry_failed=getattr(section, "retry_failed", False),
        random_state=section.seed,
    )
    results: list[Any] = [study, found]
    tables = {"choices.csv": found.to_dataframe(), "ranking.csv": found.ranking()}
    summary = found.summary()
    if found.n_seeds > 1:
        regression = found.regression()
        results.append(regression)
        tables["regression.csv"] = regression.to_dataframe()
        summary = f"{summary}\n\n{regression.summary()}"
    return Report(results), tables, summary


def _declared(configuration: Configuration, base: Path) -> tuple[Study, Any, Choices]:
    """Return the study, its chips where there are any, and the declaration."""
    section = configuration.analysis
    if not isinstance(section, ChoicesSection):
        raise ConfigurationError(f"[analysis] kind: expected 'choices'; found {section.kind!r}.")
    seed = draw_seed(random_generator(section.seed))
    encoders: dict[str, Any] = {
        name: build_encoder(one.name, one.settings(), seed)
        for name, one in configuration.encoders.items()
    }
    study, images = load_data(configuration, base)
    chips = None if isinstance(images, pd.DataFrame) else images
    if isinstance(images, pd.DataFrame):
        encoders = {"embeddings": images}
    choices = Choices(
        encoder=encoders,
        data=section.data,
        components=[None if one == "raw" else one for one in section.components],
        scale=[_scale(one) for one in section.scale],
        learner={name: _learner(name) for name in section.learners},
        metric=section.metric,
        n_seeds=section.n_seeds,
        n_folds=section.n_folds,
        n_bootstrap=section.n_bootstrap,
        overlapping=section.overlapping,
    )
    return study, chips, choices


def _scale(given: Any) -> Any:
    if given == "whole":
        return None
    return tuple(given) if isinstance(given, list) else given


def _learner(name: str) -> Any:
    """Return an effect learner with its defaults."""
    known = {
        found: kind
        for found, kind in ((name, getattr(effects, name)) for name in effects.__all__)
        if inspect.isclass(kind)
        and issubclass(kind, effects.EffectLearner)
        and not inspect.isabstract(kind)
        and not _needs_arguments(kind)
    }
    if name not in known:
        near = suggest(name, known).removesuffix("?").removesuffix(".")
        raise ConfigurationError(f"[analysis] learners: there is no effect learner {name!r}{near}.")
    return known[name]()


def _needs_arguments(kind: type) -> bool:
    parameters = inspect.signature(kind).parameters.values()
    return any(one.default is inspect.Parameter.empty for one in parameters)
