"""RATEs of a priority with every half-sample behind their standard errors."""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from terracausal._foundation.errors import RoleError
from terracausal._foundation.randomness import RandomState, canonical_order, random_generator
from terracausal.evaluation.priorities import read_priority
from terracausal.evaluation.rates import Ranking, half_sample_weights, rate_and_curve
from terracausal.nuisance import Scores

Floats = NDArray[np.floating[Any]]


class RateDraws(NamedTuple):
    """A RATE, and what it is on each half-sample.

    `draws` has the shape (n_bootstrap,); its standard deviation is `std_error`. `widening` is the
    factor for intervals, above 1 for out-of-fold priorities.
    """

    estimate: float
    std_error: float
    widening: float
    draws: Floats


def rate_draws(
    scores: Scores,
    priority: Any,
    targets: Sequence[Literal["AUTOC", "QINI"]],
    *,
    n_bootstrap: int = 200,
    random_state: RandomState = None,
) -> dict[str, RateDraws]:
    """Return several RATEs of one priority with their half-samples.

    With the same seed, and scores of the same units and clusters, the half-samples are the same
    clusters, so that draws of different priorities can be subtracted and averaged.

    Parameters
    ----------
    scores : Scores
    priority : pandas.Series or array-like of shape (n_units,)
        As in `rank_weighted_effect`, whose numbers these are.
    targets : sequence of "AUTOC" or "QINI"
    n_bootstrap : int, default=200
        Half-samples of clusters.
    random_state : None, int or Generator, default=None
        Seed of the half-samples.

    Returns
    -------
    dict of str to RateDraws

    Examples
    --------
    >>> x = np.arange(40.0)
    >>> scores = Scores.from_dataframe(pd.DataFrame({"score": x}))
    >>> found = rate_draws(scores, x, ["AUTOC"], random_state=0)["AUTOC"]
    >>> found.estimate > 0, found.draws.shape
    (True, (200,))
    """
    found = read_priority(scores, priority)
    order = canonical_order(scores.units)
    values = found.values if found.folds is None else found.shares(scores.weight)
    codes, v = np.arange(scores.n_units), scores.weight[order]
    if scores.frame.cluster is not None:
        codes = pd.factorize(scores.frame.cluster.iloc[order])[0].astype(np.int64)
    if codes.max() < 1:
        raise RoleError("Half-samples need at least 2 clusters; the scores have 1.")
    halves = half_sample_weights(codes, n_bootstrap, random_generator(random_state)) * v
    ranking = Ranking.of(scores.score.to_numpy()[order], values[order])
    made = {}
    for target in targets:
        value, rates = (
            rate_and_curve(ranking, weight, target, np.ones(1))[0] for weight in (v[None], halves)
        )
        made[target] = RateDraws(float(value[0]), float(rates.std(ddof=1)), found.widening, rates)
    return made
