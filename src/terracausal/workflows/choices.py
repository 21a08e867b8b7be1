"""The declaration of a comparison: which choices an analyst could have made, and their levels."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal

import pandas as pd

from terracausal._foundation.checks import check_choice, check_count
from terracausal._foundation.errors import list_some
from terracausal.effects import DRLearner, EffectLearner
from terracausal.encoders.base import ChipEncoder

NONE = "none"
"""The level of a factor that does not apply, such as the encoder where no image is used."""

FACTORS = ("data", "encoder", "components", "scale", "learner")
METRICS: tuple[Literal["AUTOC"], Literal["QINI"]] = ("AUTOC", "QINI")
_USE = {
    "tabular": "covariates",
    "image": "embeddings",
    "sequence": "embeddings",
    "both": "all",
    "both_sequence": "all",
}
Scale = int | tuple[int, ...] | None
Overlapping = Literal["together", "apart"]


@dataclass(frozen=True)
class Combination:
    """One level of each factor, by name; `NONE` where a factor does not apply.

    Parameters
    ----------
    data, encoder, components, scale, learner : str

    Examples
    --------
    >>> Combination("tabular", NONE, NONE, NONE, "ridge").use
    'covariates'
    """

    data: str
    encoder: str
    components: str
    scale: str
    learner: str

    @property
    def use(self) -> Any:
        """What `EffectLearner.use` is for this data: "covariates", "embeddings" or "all"."""
        return _USE[self.data]

    @property
    def images(self) -> str:
        """Which images are encoded: "last", "all", or `NONE`."""
        if self.data == "tabular":
            return NONE
        return "all" if self.data.endswith("sequence") else "last"

    @property
    def source(self) -> tuple[str, str, str]:
        """Encoder, scale and images, which make one table of embeddings."""
        return (self.encoder, self.scale, self.images)

    def __str__(self) -> str:
        levels = (self.data, self.encoder, self.components, self.scale, self.learner)
        return " / ".join(level for level in levels if level != NONE)


@dataclass(frozen=True, eq=False)
class Choices:
    """Which choices are compared: the levels of each factor, by name.

    Parameters
    ----------
    encoder : mapping of str to encoder or DataFrame, default=None
        Encoders of chips, or embeddings by site that were computed elsewhere; None has none.
    data : sequence of str, default=("tabular", "image", "both")
        What effects may vary with. "tabular": covariates; "image": the last image of each site;
        "sequence": all its images; "both" and "both_sequence": these with the covariates.
    components : sequence of int or None, or mapping from names to these, default=(None,)
        Principal components of the embeddings, learned on the training sites of each fold; None
        keeps the columns. Where embeddings vary in fewer directions, all of these are taken.
    scale : sequence of int, tuple or None, or mapping from names to these, default=(None,)
        Side of the centre crop in pixels, several for columns side by side; None is the whole chip.
        Embeddings given as a table have no scale.
    learner : mapping of str to EffectLearner, default=None
        Effect learners; their `use` and `random_state` are set. None is a `DRLearner`.
    metric : sequence of str, default=("AUTOC", "QINI")
        Metrics, which share one fit.
    n_seeds : int, default=20
        How often everything is repeated with other folds and seeds of the learner.
    n_folds : int, default=5
        Folds of whole clusters.
    n_bootstrap : int, default=200
        Half-samples of clusters for standard errors, the same for all choices and seeds.
    overlapping : {"together", "apart"}, default="together"
        As in `Study.folds`.

    Raises
    ------
    ValueError
        A factor has no level, an unknown one, or one twice; or a number is out of range.

    Notes
    -----
    Not every combination exists: covariates alone have no encoder, components or scale; tables of
    embeddings have no scale, and stand for "image" and "both" only, since they do not say which
    dates they saw.

    Examples
    --------
    >>> table = pd.DataFrame({"ndvi": [0.1, 0.4]}, index=["a", "b"])
    >>> choices = Choices({"ndvi": table}, components=(None, 1), n_seeds=2)
    >>> [str(found) for found in choices.combinations()][:3]
    ['tabular / DR-learner', 'image / ndvi / raw / DR-learner', 'image / ndvi / 1 PCs / DR-learner']
    """

    encoder: Mapping[str, Any] | None = None
    data: Sequence[str] = ("tabular", "image", "both")
    components: Sequence[int | None] | Mapping[str, int | None] = (None,)
    scale: Sequence[Scale] | Mapping[str, Scale] = (None,)
    learner: Mapping[str, EffectLearner] | None = None
    metric: Sequence[str] = METRICS
    n_seeds: int = 20
    n_folds: int = 5
    n_bootstrap: int = 200
    overlapping: Overlapping = "together"

    def __post_init__(self) -> None:
        named = {
            "encoder": dict(self.encoder or {}),
            "components": _named(self.components, _components_name),
            "scale": _named(self.scale, _scale_name),
            "learner": dict(self.learner or {}) or {"DR-learner": DRLearner()},
            "data": tuple(self.data),
            "metric": tuple(self.metric),
        }
        for name, levels in named.items():
            object.__setattr__(self, name, levels)
        for name in ("data", "metric", "components", "scale", "learner"):
            _check_levels(name, tuple(named[name]))
        for level in self.data:
            check_choice("data", level, tuple(_USE))
        for level in self.metric:
            check_choice("metric", level, METRICS)
        check_choice("overlapping", self.overlapping, ("together", "apart"))
        for name, minimum in (("n_seeds", 1), ("n_folds", 2), ("n_bootstrap", 2)):
            check_count(name, getattr(self, name), minimum)
        self._check_contents()

    def _check_contents(self) -> None:
        for name, count in self.component_counts.items():
            if count is not None:
                check_count(f"components[{name!r}]", count)
        for name, scale in self.crops.items():
            for size in (scale,) if isinstance(scale, int) else scale or ():
                check_count(f"scale[{name!r}]", size)
        kinds = {
            "learner": (EffectLearner, "effect learners, such as tc.DRLearner()"),
            "encoder": (
                (ChipEncoder, pd.DataFrame),
                "encoders of chips or DataFrames of embeddings by site",
            ),
        }
        for factor, (kind, words) in kinds.items():
            for name, given in getattr(self, factor).items():
                if not isinstance(given, kind):  # type: ignore[arg-type]
                    raise TypeError(
                        f"`{factor}` must hold {words}; got {type(given).__name__} for {name!r}."
                    )
        self._check_some_left()

    def _check_some_left(self) -> None:
        if not self.encoder and set(self.data) != {"tabular"}:
            raise ValueError(
                f"`data` = {list_some(self.data)} needs embeddings, and `encoder` is empty. Name "
                "encoders or tables of embeddings, or compare data=('tabular',)."
            )
        if not self.combinations():
            raise ValueError(
                f"No combination is left: `encoder` holds tables only, which do not say what dates "
                f"they saw, and `data` is {list_some(self.data)}. Use 'image' for tables."
            )

    @property
    def encoders(self) -> dict[str, Any]:
        """Encoders and tables by name."""
        return dict(self.encoder or {})

    @property
    def learners(self) -> dict[str, EffectLearner]:
        """Effect learners by name."""
        return dict(self.learner or {})

    @property
    def component_counts(self) -> dict[str, int | None]:
        """Number of principal components by name of the level."""
        return dict(self.components)  # type: ignore[arg-type]

    @property
    def crops(self) -> dict[str, Scale]:
        """Crops by name of the level."""
        return dict(self.scale)  # type: ignore[arg-type]

    @property
    def tables(self) -> dict[str, pd.DataFrame]:
        """Embeddings that were given as tables, by name."""
        return {name: e for name, e in self.encoders.items() if isinstance(e, pd.DataFrame)}

    def combinations(self) -> tuple[Combination, ...]:
        """Return the combinations that exist, each once, in declared order.

        Returns
        -------
        tuple of Combination
        """
        return tuple(dict.fromkeys(self._combinations()))

    def _combinations(self) -> Iterator[Combination]:
        tables = self.tables
        for data in self.data:
            if data == "tabular":
                yield from (Combination(data, NONE, NONE, NONE, name) for name in self.learners)
                continue
            for encoder, components, scale, learner in product(
                self.encoders, self.component_counts, self.crops, self.learners
            ):
                if encoder not in tables:
                    yield Combination(data, encoder, components, scale, learner)
                elif not data.endswith("sequence"):
                    yield Combination(data, encoder, components, NONE, learner)


def _check_levels(name: str, levels: Sequence[Any]) -> None:
    if not levels or len(set(levels)) < len(levels):
        raise ValueError(
            f"`{name}` must have at least one level, each once; got {list_some(levels, 12)}."
        )
    if NONE in levels:
        raise ValueError(f"`{name}` has a level named {NONE!r}, which means that there is none.")


def _named(levels: Any, name_of: Any) -> dict[str, Any]:
    """Return levels by name; a sequence is named after its values."""
    if isinstance(levels, Mapping):
        return dict(levels)
    names = [name_of(level) for level in levels]
    _check_levels("components" if name_of is _components_name else "scale", names)
    return dict(zip(names, levels, strict=True))


def _components_name(count: int | None) -> str:
    return "raw" if count is None else f"{count} PCs"


def _scale_name(scale: Scale) -> str:
    if scale is None:
        return "whole chip"
    return f"{'+'.join(map(str, (scale,) if isinstance(scale, int) else scale))} px"
