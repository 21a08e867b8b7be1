"""Bad priorities, fractions and options are refused with what was found."""

import numpy as np
import pandas as pd
import pytest

from terracausal._foundation.errors import AlignmentError, RoleError
from terracausal.evaluation import rank_weighted_effect
from terracausal.nuisance import Scores


@pytest.fixture
def scores(rng):
    return Scores.from_dataframe(pd.DataFrame({"score": rng.normal(size=60)}))


@pytest.mark.parametrize(
    ("priority", "error", "message"),
    [
        (np.arange(59.0), AlignmentError, r"shape \(60,\); got \(59,\)"),
        (np.ones((60, 2)), AlignmentError, r"got \(60, 2\)"),
        (np.r_[np.nan, np.arange(59.0)], ValueError, "1 of 60 values are NaN"),
        (pd.Series(np.arange(60.0), index=range(5, 65)), AlignmentError, "5 are missing"),
        (pd.Series(np.arange(60.0)).mask(lambda s: s > 57), ValueError, "2 of 60 values"),
        (pd.DataFrame(np.ones((60, 2))), ValueError, "a table of 2 columns"),
        (pd.Series(np.arange(61.0), index=[0, *range(60)]), ValueError, "once|unique|doubled"),
    ],
    ids=["short", "table", "nan", "misaligned", "nan series", "frame", "doubled key"],
)
def test_bad_priorities(scores, priority, error, message):
    with pytest.raises(error, match=message):
        rank_weighted_effect(scores, priority)


@pytest.mark.parametrize("fractions", [[0.0], [1.1], [-0.2, 0.5], [], [np.nan]])
def test_bad_fractions(scores, fractions):
    with pytest.raises(ValueError, match=r"`fractions` must lie in \(0, 1\]"):
        rank_weighted_effect(scores, scores.score, fractions=fractions)


@pytest.mark.parametrize(
    ("name", "value"), [("target", "AUC"), ("rank_within", "sites"), ("n_bootstrap", 1)]
)
def test_bad_options(scores, name, value):
    with pytest.raises(ValueError, match=rf"`{name}` must be .* got {value!r}"):
        rank_weighted_effect(scores, scores.score, **{name: value})


def test_one_cluster(scores):
    with pytest.raises(RoleError, match=r"at least 2 clusters; the scores have 1"):
        rank_weighted_effect(
            Scores.from_dataframe(scores.table, cluster=np.zeros(60)), scores.score
        )
