"""The file behind `terracausal run`: what it may hold, and what is said where it is wrong."""

import tomllib
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from terracausal._foundation.errors import list_some
from terracausal.workflows.options import suggest

Strictly = ConfigDict(extra="forbid", strict=True, frozen=True)


class ConfigurationError(ValueError):
    """A configuration file cannot be used as it is.

    Examples
    --------
    >>> issubclass(ConfigurationError, ValueError)
    True
    """


class DataSection(BaseModel):
    """Where units and images are; paths are relative to the configuration file."""

    model_config = Strictly

    dataset: str | None = None
    root: str | None = None
    units: str | None = None
    unit: str | None = None
    chips: str | None = None
    sites: str | None = None
    size_px: int | None = None
    bands: list[str] | None = None
    resolution_m: float | None = None
    before: str | date | None = None
    embeddings: str | None = None

    @model_validator(mode="after")
    def _one_source(self) -> "DataSection":
        if (self.dataset is None) == (self.units is None):
            found = "both" if self.dataset is not None else "neither"
            raise ValueError(f"needs either `dataset` or `units` (a table of units); found {found}")
        if self.units is not None and self.chips is None and self.embeddings is None:
            raise ValueError("needs `chips` or `embeddings` beside `units`; found neither")
        if self.chips is not None and self.embeddings is not None:
            raise ValueError("takes `chips` or `embeddings`; found both")
        reads_rasters = self.chips is not None and not self.chips.rstrip("/").endswith(".zarr")
        if reads_rasters and (self.sites is None or self.size_px is None):
            absent = [name for name in ("sites", "size_px") if getattr(self, name) is None]
            raise ValueError(
                f"needs {' and '.join(f'`{name}`' for name in absent)} to cut chips from rasters; "
                "a store (.zarr) needs neither"
            )
        return self


class StudySection(BaseModel):
    """Which column plays which role, as in `Study`."""

    model_config = Strictly

    outcome: str | None = None
    treatment: str | None = None
    site: str | None = None
    covariates: list[str] | None = None
    cluster: str | None = None
    strata: str | None = None
    weight: str | None = None
    propensity: float | str | None = None
    coords: Annotated[list[str], Field(min_length=2, max_length=2)] | None = None
    treatment_date: str | date | None = None

    def roles(self) -> dict[str, Any]:
        """Return the roles that were given, as arguments of `Study`."""
        given = self.model_dump(exclude_unset=True)
        for name in ("covariates", "coords"):
            if given.get(name) is not None:
                given[name] = tuple(given[name])
        return given


class EncoderSection(BaseModel):
    """An encoder by the name of its class, with its settings."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True)

    name: str

    def settings(self) -> dict[str, Any]:
        """Return everything but the name."""
        return dict(self.model_extra or {})


class _AnalysisSection(BaseModel):
    """What all analyses share."""

    model_config = Strictly

    seed: int = 0
    n_folds: int = 5
    outcome_learner: str | None = None
    propensity_learner: str | None = None
    n_components: int | None = None
    clip: float | None = None
    trim: float | None = None
    block_m: float | None = None
    buffer_m: float | None = None
    later_images: Literal["refuse", "allow"] = "refuse"
    n_jobs: int = 1
    std_error: Literal["hc", "cluster", "conley"] | None = None
    cutoff_m: float | None = None

    @model_validator(mode="after")
    def _conley(self) -> "_AnalysisSection":
        if (self.std_error == "conley") != (self.cutoff_m is not None):
            raise ValueError(
                '`cutoff_m` (metres) goes with std_error = "conley", and only with it; found '
                f"std_error {self.std_error!r} and cutoff_m {self.cutoff_m!r}"
            )
        return self


class ConfoundingSection(_AnalysisSection):
    """`analyze_confounding`."""

    kind: Literal["confounding"]
    n_repeats: int = 3
    target: Literal["all", "treated", "control", "overlap"] = "all"


class HeterogeneitySection(_AnalysisSection):
    """`analyze_heterogeneity`."""

    kind: Literal["heterogeneity"]
    learner: str | dict[str, Any] = "DRLearner"
    budget: float = 0.3
    n_repeats: int = 1
    n_groups: int = 5
    role: Literal["modifier", "both"] | None = None
    n_permutations: int = 999
    n_splits: int = 0


class ChoicesSection(BaseModel):
    """`compare_choices`."""

    model_config = Strictly

    kind: Literal["choices"]
    seed: int = 0
    n_folds: int = 5
    n_jobs: int = 1
    data: list[str] = ["tabular", "image", "both"]
    components: list[int | Literal["raw"]] = ["raw"]
    scale: list[int | list[int] | Literal["whole"]] = ["whole"]
    learners: list[str] = ["DRLearner"]
    metric: list[str] = ["AUTOC", "QINI"]
    n_seeds: int = 20
    n_bootstrap: int = 200
    overlapping: Literal["together", "apart"] = "together"
    retry_failed: bool = False


class OutputSection(BaseModel):
    """Where results go."""

    model_config = Strictly

    folder: str = "results"


_KINDS: dict[str, type[BaseModel]] = {
    "confounding": ConfoundingSection,
    "heterogeneity": HeterogeneitySection,
    "choices": ChoicesSection,
}


class Configuration(BaseModel):
    r"""A whole configuration file.

    Examples
    --------
    >>> text = "data.dataset = 'uganda_yop'\nanalysis.kind = 'confounding'"
    >>> parse_configuration(text, Path("analysis.toml")).analysis.n_folds
    5
    """

    model_config = Strictly

    data: DataSection
    study: StudySection = StudySection()
    encoder: EncoderSection | None = None
    encoders: dict[str, EncoderSection] = {}
    analysis: Annotated[
        ChoicesSection | ConfoundingSection | HeterogeneitySection, Field(discriminator="kind")
    ]
    output: OutputSection = OutputSection()

    @model_validator(mode="after")
    def _consistent(self) -> "Configuration":
        if self.data.units is not None:
            for name in ("outcome", "treatment", "site"):
                if getattr(self.study, name) is None:
                    raise ValueError(f"[study] needs `{name}`, the name of a column of the units")
        several = isinstance(self.analysis, ChoicesSection)
        if several and self.encoder is not None:
            raise ValueError("[encoder] is one; kind 'choices' takes [encoders.NAME], any number")
        if not several and self.encoders:
            raise ValueError(
                f"[encoders] are for kind 'choices'; {self.analysis.kind!r} takes one [encoder]"
            )
        if self.data.embeddings is not None and (self.encoder is not None or self.encoders):
            raise ValueError("[encoder] encodes chips; [data] gives `embeddings` already")
        return self


def read_configuration(path: Path) -> Configuration:
    """Read and check a configuration file.

    Parameters
    ----------
    path : Path

    Returns
    -------
    Configuration

    Raises
    ------
    ConfigurationError
        The file is no TOML, or holds what it may not; the message names the keys.
    FileNotFoundError
        There is no such file.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"Expected a configuration file; found none at {path}. `terracausal init` prints one "
            "to begin with."
        )
    return parse_configuration(path.read_text(encoding="utf-8"), path)


def parse_configuration(text: str, path: Path) -> Configuration:
    """Check the text of a configuration file.

    Parameters
    ----------
    text : str
        TOML.
    path : Path
        For messages.

    Returns
    -------
    Configuration
    """
    try:
        found = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{path.name} is no valid TOML: {error}.") from error
    try:
        return Configuration.model_validate(found)
    except ValidationError as error:
        told = "; ".join(dict.fromkeys(_tell(one) for one in error.errors()))
        raise ConfigurationError(f"{path.name}: {told}.") from error


def _tell(error: Mapping[str, Any]) -> str:
    """Say what is wrong at one place, which is named as in the file."""
    steps = [str(step) for step in error["loc"]]
    section = steps[0] if steps else ""
    kind = steps[1] if section == "analysis" and steps[1:2] and steps[1] in _KINDS else None
    # pydantic also names the kind of the analysis and the members of a union of types
    keys = [step for step in steps[1:] if step != kind and step not in _TYPES]
    where = f"[{section}] {'.'.join(keys)}".strip() if steps else ""
    if error["type"] == "extra_forbidden":
        if len(steps) == 1:
            return f"unknown section [{section}]{_near(section, list(Configuration.model_fields))}"
        known = _KINDS[kind] if kind else _SECTIONS[section]
        return f"{where}: unknown key{_near(keys[-1], list(known.model_fields))}"
    if error["type"] == "missing":
        return f"{where} is missing"
    if error["type"] == "union_tag_not_found":
        return f"[{section}] kind is missing; it is one of {list_some(_KINDS)}"
    if error["type"] == "union_tag_invalid":
        found = error["input"].get("kind")
        return f"[{section}] kind must be one of {list_some(_KINDS)}; found {found!r}"
    message = str(error["msg"]).removeprefix("Value error, ")
    if error["type"] == "value_error":
        return f"{where} {message}".strip()
    return f"{where}: {message[:1].lower()}{message[1:]}; found {error['input']!r}"


def _near(name: str, known: list[str]) -> str:
    return suggest(name, known).removesuffix("?").removesuffix(".")


_TYPES = {"str", "float", "date", "dict[str,any]"}
_SECTIONS: dict[str, type[BaseModel]] = {
    "data": DataSection,
    "study": StudySection,
    "output": OutputSection,
}
