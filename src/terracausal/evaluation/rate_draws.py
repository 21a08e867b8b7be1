"""RATEs of a priority with every half-sample behind their standard errors."""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from terracausal._foundation.randomness import RandomState
from terracausal.evaluation.priorities import read_priority
from terracausal.evaluation.repeated_rates import half_samples, rates_by_repeat
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
        Of repeats the first is taken.
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
    >>> import pandas as pd
    >>> x = np.arange(40.0)
    >>> scores = Scores.from_dataframe(pd.DataFrame({"score": x}))
    >>> found = rate_draws(scores, x, ["AUTOC"], random_state=0)["AUTOC"]
    >>> found.estimate > 0, found.draws.shape
    (True, (200,))
    """
    found = read_priority(scores, priority)
    weights = half_samples(scores, n_bootstrap, random_state)
    made: dict[str, RateDraws] = {}
    for target in targets:
        rates = rates_by_repeat(scores, found, weights, target, np.ones(1))[0][0]
        spread = float(rates[1:].std(ddof=1))
        made[target] = RateDraws(float(rates[0]), spread, found.widening, rates[1:])
    return made
