"""Encoders that each know the outcomes of all folds but one."""

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pandas as pd
from sklearn.base import clone

from terracausal._foundation.checks import check_unique
from terracausal._foundation.errors import AlignmentError, LeakageError, list_some
from terracausal._foundation.progress import track
from terracausal._foundation.randomness import canonical_order, draw_seed, random_generator
from terracausal.imagery import Chips

if TYPE_CHECKING:
    from terracausal.encoders.networks.targets import UnitTargets
    from terracausal.encoders.trained import TrainedEncoder


def fold_encoders(
    encoder: "TrainedEncoder", chips: Chips, targets: "UnitTargets", folds: "pd.Series[Any]"
) -> Iterator[tuple["TrainedEncoder", pd.Index]]:
    """Yield for each fold an encoder fitted on all others, and the sites of the fold.

    Parameters
    ----------
    encoder : TrainedEncoder
        Its settings; a checkpoint gets the number of the fold at the end of its name.
    chips : Chips
        All sites.
    targets : UnitTargets
        Outcomes.
    folds : Series
        Label of the fold of each site, indexed by site.

    Yields
    ------
    encoder : TrainedEncoder
        Fitted on the units of other folds.
    held_out : Index
        Sites of the fold that have chips.
    """
    fold = _checked_folds(chips.keys, targets, folds)
    labels = pd.Index(fold.unique())
    labels = labels[canonical_order(labels)]
    generator = random_generator(encoder.random_state)
    for number, label in enumerate(track(labels, "training one network per fold")):
        fitted = clone(encoder).set_params(random_state=draw_seed(generator))
        if fitted.training is not None and fitted.training.checkpoint is not None:
            path = f"{fitted.training.checkpoint}.fold{number}"
            fitted.training = replace(fitted.training, checkpoint=path)
        others = targets.at(fold.index[fold != label])
        if not len(others.values):
            raise ValueError(f"No unit is outside of fold {label!r}; there is nothing to learn.")
        yield fitted.fit(chips.select(others.sites), others), fold.index[fold == label]


def _checked_folds(
    keys: pd.Index, targets: "UnitTargets", folds: "pd.Series[Any]"
) -> "pd.Series[Any]":
    """Return the fold of each site that has a chip, in the order of `keys`."""
    targets.check_sites(keys)
    if not isinstance(folds, pd.Series):
        raise TypeError(
            "`folds` must be a Series of fold labels indexed by site; got "
            f"{type(folds).__name__}. From the folds of a study: "
            "folds.labels.groupby(study.sites).first()."
        )
    check_unique("The index of `folds` (the site keys)", folds.index)
    absent = keys[~keys.isin(folds.index[folds.notna()])]
    if len(absent):
        raise AlignmentError(
            f"Every site needs a fold; {len(absent)} of {len(keys)} have none: "
            f"{list_some(absent)}. Leave them out with `chips.select`."
        )
    fold = folds.loc[keys]
    if fold.nunique() < 2:
        raise ValueError(f"`folds` must have at least two labels; got {list_some(fold.unique())}.")
    if targets.cluster is not None:
        n_folds = targets.site.map(fold).groupby(targets.cluster.to_numpy()).nunique()
        split = n_folds.index[n_folds > 1]
        if len(split):
            raise LeakageError(
                f"Folds must hold whole clusters; {len(split)} of {len(n_folds)} are in several "
                f"folds: {list_some(split)}. Make folds of clusters, as `study.folds` does."
            )
    return fold
