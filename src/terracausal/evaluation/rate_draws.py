"""RATEs of a priority with every half-sample behind their standard errors."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from terracausal._foundation.randomness import RandomState
from terracausal.evaluation.priorities import read_repeats
from terracausal.evaluation.rates import Target, check_target
from terracausal.evaluation.repeated_rates import half_samples, median_and_error, rates_by_repeat
from terracausal.nuisance import Scores

Floats = NDArray[np.floating[Any]]


class RateDraws(NamedTuple):
    """A RATE, and what it is on each half-sample.

    `draws` has the shape (n_bootstrap,); its standard deviation is `std_error`. With repeats of
    cross-fitting the estimate is their median, `draws` their mean, and `std_error` also counts
    their spread. `widening` is the factor for intervals, above 1 for out-of-fold priorities.
    """

    estimate: float
    std_error: float
    widening: float
    draws: Floats


def rate_draws(
    scores: Scores,
    priority: Any,
    targets: Sequence[Target],
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
    targets : sequence of {"AUTOC", "QINI"} or callable
    n_bootstrap : int, default=200
        Half-samples of clusters.
    random_state : None, int or Generator, default=None
        Seed of the half-samples.

    Returns
    -------
    dict of str to RateDraws

    Examples
    --------
    >>> import pandas as pd
    >>> x = np.arange(40.0)
    >>> scores = Scores.from_dataframe(pd.DataFrame({"score": x}))
    >>> found = rate_draws(scores, x, ["AUTOC"], random_state=0)["AUTOC"]
    >>> found.estimate > 0, found.draws.shape
    (True, (200,))
    """
    pairs = read_repeats(scores, priority)
    weights = half_samples(scores, n_bootstrap, random_state)
    made = {}
    for target in targets:
        rates, _ = rates_by_repeat(pairs, weights, target, np.ones(1))
        value, std_error = median_and_error(rates[:, :, None])
        made[check_target(target)] = RateDraws(
            float(value[0]), float(std_error[0]), pairs[0][1].widening, rates[:, 1:].mean(axis=0)
        )
    return made
