"""Predicting each unit from the other folds, everything refitted in each, once or several times."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from numpy.typing import NDArray

from terracausal._foundation.checks import check_count, check_finite, check_same_index
from terracausal._foundation.errors import RoleError
from terracausal._foundation.progress import track
from terracausal._foundation.randomness import RandomState, random_generator
from terracausal.nuisance.cross_fitting import check_training_arms
from terracausal.study import Folds, Study
from terracausal.study.folds import check_whole_clusters

Floats = NDArray[np.floating[Any]]
Mask = NDArray[np.bool_]
FitPredict = Callable[[Mask, Mask], Floats]


def repeated_folds(
    study: Study,
    folds: Folds | Sequence[Folds] | None,
    n_repeats: int,
    random_state: RandomState,
) -> list[Folds]:
    """Return the folds of each repeat, checked before anything is trained.

    Parameters
    ----------
    study : Study
    folds : Folds, sequence of Folds or None
        The first repeat has these; the others are drawn in the same way. None draws all of them: 5
        folds of whole clusters.
    n_repeats : int
        Must be the number of folds in a sequence.
    random_state : None, int or Generator

    Returns
    -------
    list of Folds

    Raises
    ------
    RoleError
        Folds cannot be redrawn, or leave an arm with fewer than two training units.
    """
    check_count("n_repeats", n_repeats)
    rng = random_generator(random_state)
    if folds is None or isinstance(folds, Folds):
        first = study.folds(random_state=rng) if folds is None else folds
        # children, since the first folds may have been drawn with the same seed
        given = [first, *(_redrawn(study, first, child) for child in rng.spawn(n_repeats - 1))]
    else:
        given = list(folds)
        if n_repeats not in (1, len(given)) or not given:
            raise RoleError(f"Expected {n_repeats} Folds, one for each repeat; got {len(given)}.")
    for one in given:
        check_same_index("folds", one.labels.index, study.units)
        check_whole_clusters(one.labels, study.clusters)
        check_training_arms(fold_masks(study, one), study.treatment.to_numpy())
    return given


def _redrawn(study: Study, folds: Folds, rng: np.random.Generator) -> Folds:
    if folds.drawn is None:
        raise RoleError(
            "Repeats need other folds, and these were not drawn by study.folds(...), so it is "
            "unknown how to draw more. Give a list with the Folds of each repeat."
        )
    return study.folds(**folds.drawn, random_state=rng)


def fold_masks(study: Study, folds: Folds) -> list[tuple[Mask, Mask]]:
    """Return the training and the held-out units of each fold, in the order of the study."""
    positions = folds.labels.index.get_indexer(study.units)
    return [(train[positions], test[positions]) for train, test in folds.split()]


def predict_folds(
    study: Study, folds: Folds, fit_predict: FitPredict, name: str, n_jobs: int = 1
) -> "pd.Series[float]":
    """Return a prediction for each unit from a learner that did not see its fold.

    Parameters
    ----------
    study : Study
    folds : Folds
    fit_predict : callable
        Takes the masks of training and held-out units, and returns the predictions of the latter.
    name : str
        Of the learner, for messages.
    n_jobs : int, default=1

    Returns
    -------
    pandas.Series of shape (n_units,)
    """
    splits = fold_masks(study, folds)
    run = Parallel(n_jobs=n_jobs, return_as="generator")(
        delayed(_one_fold)(fit_predict, train, test, f"fold {fold} with {name}")
        for fold, (train, test) in enumerate(splits)
    )
    effects = pd.Series(np.nan, index=study.units, name="cate")
    description = f"cross-predicting effects with {name}"
    for (_, test), found in zip(splits, track(run, description, len(splits)), strict=True):
        effects.loc[test] = found
    return effects


def _one_fold(fit_predict: FitPredict, train: Mask, test: Mask, where: str) -> Floats:
    try:
        return check_finite("predicted effects", fit_predict(train, test))
    except Exception as error:
        error.add_note(f"while cross-predicting {where}")
        raise
