"""Settings that whole analyses share, beside their own arguments."""

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, TypeVar

from terracausal._foundation.checks import check_choice, check_count
from terracausal._foundation.errors import list_some


@dataclass(frozen=True, kw_only=True)
class FitOptions:
    """How nuisances are predicted and scores formed; every field can be given to an analysis.

    Parameters
    ----------
    outcome_learner, propensity_learner : str or scikit-learn estimator, default=None
        As in `cross_fit`.
    n_components : int, default=None
        Principal components of the embeddings that the nuisances see. None takes 10 for the default
        encoder, and all columns otherwise.
    clip, trim : float, default=None
        As in `doubly_robust_scores`.
    block_m, buffer_m : float, default=None
        As in `Study.folds`.
    later_images : {"refuse", "allow"}, default="refuse"
        As in `Study.join`.
    n_jobs : int, default=1
        Folds fitted side by side.
    keep : path, default=None
        Folder in which embeddings and finished steps are kept; a later call with the same data and
        settings reads them instead of computing them again.

    Examples
    --------
    >>> FitOptions(trim=0.05).n_jobs
    1
    """

    outcome_learner: Any = None
    propensity_learner: Any = None
    n_components: int | None = None
    clip: float | None = None
    trim: float | None = None
    block_m: float | None = None
    buffer_m: float | None = None
    later_images: Literal["refuse", "allow"] = "refuse"
    n_jobs: int = 1
    keep: str | Path | None = None


@dataclass(frozen=True, kw_only=True)
class HeterogeneityOptions(FitOptions):
    """What can be given to `analyze_heterogeneity` beside the fields of `FitOptions`.

    Parameters
    ----------
    outcome_learner, propensity_learner, n_components, clip, trim, block_m, buffer_m : any
        As for `FitOptions`, like `later_images`, `n_jobs` and `keep`.
    later_images, n_jobs, keep : any
    n_repeats : int, default=1
        Times that nuisances and effects are predicted, with other folds and seeds.
    n_groups : int, default=5
        Groups by predicted effect.
    role : {"modifier", "both"}, default=None
        Whether images only modify the effect, or also confound it. None takes "modifier" where the
        study knows its propensity, and "both" elsewhere.
    n_permutations : int, default=999
        Of images among sites, for the test of any heterogeneity by image; 0 leaves it out.
    n_splits : int, default=0
        Halvings for `split_sample_inference`; 0 leaves it out.

    Examples
    --------
    >>> HeterogeneityOptions(n_groups=3).n_repeats
    1
    """

    n_repeats: int = 1
    n_groups: int = 5
    role: Literal["modifier", "both"] | None = None
    n_permutations: int = 999
    n_splits: int = 0

    def __post_init__(self) -> None:
        check_count("n_groups", self.n_groups, 2)
        check_count("n_permutations", self.n_permutations, 0)
        check_count("n_splits", self.n_splits, 0)
        check_choice("role", self.role or "both", ("modifier", "both"))


Options = TypeVar("Options", bound=FitOptions)


def read_options(
    kind: type[Options], given: Mapping[str, Any], known_elsewhere: Iterable[str] = ()
) -> Options:
    """Return the options, or name the one that is unknown and its nearest neighbour.

    Parameters
    ----------
    kind : type
        `FitOptions`, or a class derived from it.
    given : mapping of str to any
    known_elsewhere : iterable of str, default=()
        Arguments of the analysis, to be suggested as well.

    Returns
    -------
    FitOptions

    Raises
    ------
    TypeError
        An option is unknown.

    Examples
    --------
    >>> read_options(FitOptions, {"trimm": 0.1})
    Traceback (most recent call last):
        ...
    TypeError: Unknown option 'trimm'; did you mean 'trim'?
    """
    known = [item.name for item in fields(kind)]
    for name in given:
        if name not in known:
            raise TypeError(f"Unknown option {name!r}{suggest(name, [*known, *known_elsewhere])}")
    return kind(**given)


def suggest(name: str, known: Iterable[str]) -> str:
    """Return the end of a sentence that proposes the nearest of the known names.

    Examples
    --------
    >>> suggest("outcom", ["outcome", "treatment"])
    "; did you mean 'outcome'?"
    """
    names = list(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else f"; known are {list_some(names, 30)}."
