"""`terracausal run`: a whole analysis from a file, which goes on where it was stopped."""

import logging
import platform
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from pathlib import Path
from typing import Any

import pandas as pd

from terracausal._foundation.errors import list_some
from terracausal._foundation.randomness import draw_seed, random_generator
from terracausal.evaluation.policies import check_budget
from terracausal.imagery.shards import write_file
from terracausal.report import Report
from terracausal.study import Dependence
from terracausal.workflows.configuration import (
    ChoicesSection,
    Configuration,
    ConfigurationError,
    ConfoundingSection,
    HeterogeneitySection,
    read_configuration,
)
from terracausal.workflows.configured_choices import check_choices, run_choices
from terracausal.workflows.configured_data import load_data
from terracausal.workflows.configured_parts import build_encoder, build_learner
from terracausal.workflows.confounding import run_confounding
from terracausal.workflows.heterogeneity import run_heterogeneity
from terracausal.workflows.options import FitOptions, HeterogeneityOptions
from terracausal.workflows.planning import AnalysisPlan, plan_analysis
from terracausal.workflows.steps import LOG

COPY, PAGE, TABLE, DIARY = "analysis.toml", "report.html", "estimates.csv", "run.log"
BY_UNIT = "effects.csv"
KEPT = "kept"
_PACKAGES = ("terracausal", "numpy", "scipy", "pandas", "scikit-learn", "torch", "econml")


_Section = ConfoundingSection | HeterogeneitySection


@dataclass(frozen=True)
class RunResult:
    """What a run has written.

    Parameters
    ----------
    folder : Path
        Of all results.
    files : tuple of str
        Names of the files in it.
    summary : str
        The results as text.

    Examples
    --------
    >>> RunResult(Path("results"), ("report.html",), "").files
    ('report.html',)
    """

    folder: Path
    files: tuple[str, ...]
    summary: str


def template() -> str:
    """Return a configuration with comments, to begin with.

    Examples
    --------
    >>> template().splitlines()[3]
    '[data]'
    """
    here = files("terracausal.workflows")
    return (here / "analysis_template.toml").read_text(encoding="utf-8")


def check_run(path: Path) -> str:
    """Check a configuration and its data; nothing is encoded, trained or written.

    Parameters
    ----------
    path : Path
        The configuration.

    Returns
    -------
    str
        What would be run.
    """
    configuration = read_configuration(path)
    if isinstance(configuration.analysis, ChoicesSection):
        return check_choices(configuration, path.absolute().parent)
    plan = _plan(configuration, configuration.analysis, path.absolute().parent, None)
    parts = [
        plan.study.describe(),
        f"Images enter through {plan.source.describe()}",
        f"Analysis of {configuration.analysis.kind}: {plan.dealing.folds[0].summary()}",
    ]
    return "\n\n".join(parts)


def run_file(path: Path, *, overwrite: bool = False) -> RunResult:
    """Run the analysis of a configuration, or go on where it was stopped.

    Parameters
    ----------
    path : Path
        The configuration.
    overwrite : bool, default=False
        Whether results of another configuration in the same folder may be replaced.

    Returns
    -------
    RunResult

    Raises
    ------
    ConfigurationError
        The configuration cannot be used, or the folder holds results of another one.
    """
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    configuration = read_configuration(path)
    base = path.absolute().parent
    folder = base / Path(configuration.output.folder).expanduser()
    if not overwrite:
        refuse_other_results(folder, text)
    folder.mkdir(parents=True, exist_ok=True)
    with diary(folder / DIARY):
        LOG.info("%s, seed %d", _versions(), configuration.analysis.seed)
        report, tables, summary = _answer(configuration, base, folder, text)
        for name, table in tables.items():
            write_file(folder / name, table.to_csv(index=False).encode("utf-8"))
        report.to_html(folder / PAGE)
        LOG.info("written: %s", ", ".join([PAGE, *tables]))
    return RunResult(folder, (PAGE, *tables, COPY, DIARY), summary)


def refuse_other_results(folder: Path, text: str) -> None:
    """Refuse a folder with results of another configuration.

    Parameters
    ----------
    folder : Path
    text : str
        The configuration.
    """
    if folder.exists() and not folder.is_dir():
        raise ConfigurationError(f"[output] folder: {folder} is a file; name a folder.")
    advice = "Name another folder in [output], or run with --overwrite to replace them"
    copy = folder / COPY
    if not copy.is_file():
        found = [name for name in (PAGE, TABLE) if (folder / name).exists()]
        if found:
            raise ConfigurationError(
                f"{folder} holds {list_some(found)} that no configuration there explains. {advice}."
            )
        return
    changed = list(_differences(tomllib.loads(copy.read_text("utf-8")), tomllib.loads(text)))
    if changed:
        raise ConfigurationError(
            f"{folder} holds results of another configuration, which differs in "
            f"{'; '.join(changed[:5])}. {advice}."
        )


def _differences(there: dict[str, Any], here: dict[str, Any]) -> Iterator[str]:
    """Yield what differs, key by key."""
    for section in sorted({*there, *here}):
        old, new = there.get(section, {}), here.get(section, {})
        for key in sorted({*old, *new}):
            if old.get(key) != new.get(key):
                yield f"[{section}] {key} ({old.get(key)!r} there, {new.get(key)!r} here)"


def _plan(
    configuration: Configuration, section: _Section, base: Path, keep: Path | None
) -> AnalysisPlan:
    """Load the data and check everything."""
    rng = random_generator(section.seed)
    seed, encoder = draw_seed(rng), None
    if configuration.encoder is not None:
        encoder = build_encoder(configuration.encoder.name, configuration.encoder.settings(), seed)
    LOG.info("loading the data")
    study, chips = load_data(configuration, base)
    dependence = None
    if section.std_error is not None:
        dependence = Dependence(section.std_error, section.cutoff_m)
    return plan_analysis(
        study,
        chips,
        encoder,
        (section.n_folds, section.n_repeats),
        dependence=dependence,
        options=_options_of(section, keep),
        rng=rng,
    )


def _options_of(section: _Section, keep: Path | None) -> FitOptions:
    """Return the options of the kind of analysis; its learner and budget are checked as well."""
    kind: type[FitOptions] = FitOptions
    if isinstance(section, HeterogeneitySection):
        kind = HeterogeneityOptions
        build_learner(section.learner, section.seed)
        check_budget(section.budget)
    names = {item.name for item in fields(kind)} & set(type(section).model_fields)
    return kind(**{name: getattr(section, name) for name in names}, keep=keep)


_Answer = tuple[Report, dict[str, pd.DataFrame], str]


def _answer(configuration: Configuration, base: Path, folder: Path, text: str) -> _Answer:
    """Run the analysis; once its input is checked, the folder belongs to this configuration."""
    section = configuration.analysis
    if isinstance(section, ChoicesSection):
        check_choices(configuration, base)
        write_file(folder / COPY, text.encode("utf-8"))
        return run_choices(configuration, base, folder / KEPT)
    plan = _plan(configuration, section, base, folder / KEPT)
    write_file(folder / COPY, text.encode("utf-8"))
    if isinstance(section, ConfoundingSection):
        return _run_confounding(plan, section)
    return _run_heterogeneity(plan, section)


def _run_confounding(plan: AnalysisPlan, section: ConfoundingSection) -> _Answer:
    found = run_confounding(plan, section.target)
    return found.report, {TABLE: found.estimates}, found.summary()


def _run_heterogeneity(plan: AnalysisPlan, section: HeterogeneitySection) -> _Answer:
    learner = build_learner(section.learner, plan.seed)
    found = run_heterogeneity(plan, learner, section.budget)
    tables = {TABLE: found.to_dataframe(), BY_UNIT: found.by_unit().reset_index(names="unit")}
    return found.report, tables, found.summary()


@contextmanager
def diary(path: Path) -> Iterator[None]:
    """Write what happens to a file, with times; an error is its last line."""
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    before = LOG.level
    LOG.addHandler(handler)
    LOG.setLevel(logging.INFO)
    try:
        yield
    except BaseException as error:
        LOG.info("stopped: %s: %s", type(error).__name__, error)
        raise
    finally:
        LOG.removeHandler(handler)
        LOG.setLevel(before)
        handler.close()


def _versions() -> str:
    found = [f"Python {platform.python_version()}"]
    for package in _PACKAGES:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            found.append(f"{package} not installed")
    return ", ".join(found)
