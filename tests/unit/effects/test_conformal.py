"""Conformal intervals: the quantile, the splits, and what is said about them."""

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import Ridge

from terracausal._foundation.errors import LeakageError, RoleError
from terracausal.effects import TLearner, conformal_intervals, origin_of
from terracausal.effects.conformal import hierarchical_quantile
from terracausal.evaluation import rank_weighted_effect
from terracausal.nuisance import Scores
from terracausal.study import Study


def make_table(rng, n_sites=60):
    site = np.repeat(np.arange(n_sites), 2)
    x, w = rng.normal(size=2 * n_sites), np.tile([0, 1], n_sites)
    y = w * (1 + x) + rng.normal(size=n_sites)[site] + rng.normal(size=2 * n_sites)
    return pd.DataFrame({"y": y, "w": w, "site": site, "x": x})


def study_of(table, **roles):
    chosen = {"site": "site", "covariates": ["x"], "propensity": 0.5}
    return Study(table, outcome="y", treatment="w", **(chosen | roles))


@pytest.fixture
def study(rng):
    return study_of(make_table(rng))


@pytest.mark.parametrize("level", [0.5, 0.8, 0.9])
def test_single_units_give_the_usual_split_conformal_quantile(rng, level):
    distance = rng.exponential(size=39)
    found = hierarchical_quantile(distance, np.arange(39), np.ones(39), level)
    assert found == np.sort(distance)[int(np.ceil(40 * level)) - 1]


def test_each_cluster_counts_once(rng):
    distance, cluster = rng.exponential(size=60), np.repeat(np.arange(20), 3)
    v = rng.uniform(0.5, 2, 60)
    found = hierarchical_quantile(distance, cluster, v, 0.8)
    shares = [
        np.average(distance[cluster == g] <= found, weights=v[cluster == g]) for g in range(20)
    ]
    below = [np.average(distance[cluster == g] < found, weights=v[cluster == g]) for g in range(20)]
    assert sum(below) / 21 < 0.8 <= sum(shares) / 21
    # a cluster all of whose units are there twice says the same
    twice = np.concatenate([np.arange(60), np.flatnonzero(cluster < 10)])
    assert found == hierarchical_quantile(distance[twice], cluster[twice], v[twice], 0.8)
    # a cluster without weight is not there
    v[cluster == 19] = 0
    less = cluster < 19
    assert hierarchical_quantile(distance, cluster, v, 0.8) == hierarchical_quantile(
        distance[less], cluster[less], v[less], 0.8
    )


def test_too_few_clusters_are_an_infinite_interval():
    assert hierarchical_quantile(np.ones(8), np.arange(8), np.ones(8), 0.9) == np.inf


def test_intervals_are_predictions_of_two_unseen_folds(study):
    found = conformal_intervals(TLearner("ridge"), study, n_folds=3, level=0.9, random_state=0)
    folds = study.folds(3, random_state=np.random.default_rng(0))
    labels = folds.labels
    assert origin_of(found.table["cate"]).folds.equals(labels)
    for fold in range(3):
        train = (labels == (fold + 2) % 3).to_numpy()
        own = labels == fold
        expected = TLearner("ridge").fit(study.subset(train)).predict(study.table[own])
        np.testing.assert_allclose(found.table.loc[own, "cate"], expected)
        middle = found.table.loc[own, ["ci_low", "ci_high"]].mean(axis=1)
        np.testing.assert_allclose(middle, expected)
        assert (found.table.loc[own, "ci_high"] - expected).to_numpy() == pytest.approx(
            found.half_width[fold]
        )


def test_a_units_own_outcome_never_reaches_its_interval(study):
    found = conformal_intervals(TLearner("ridge"), study, n_folds=3, random_state=0)
    table = study.table
    own = study.folds(3, random_state=np.random.default_rng(0)).labels == 1
    table.loc[own, "y"] = 5 - 10 * table.loc[own, "y"]
    again = conformal_intervals(TLearner("ridge"), study_of(table), n_folds=3, random_state=0)
    pd.testing.assert_frame_equal(found.table[own], again.table[own], check_exact=True)
    assert (found.table[~own] != again.table[~own]).any().all()


def test_new_units(study, rng):
    new = make_table(rng)[["x"]].set_axis([f"new{k}" for k in range(120)])
    found = conformal_intervals(TLearner("ridge"), study, new, random_state=0)
    assert found.table.index.equals(new.index)
    assert len(found.half_width) == 1
    assert found.n_calibration == (12,)
    scores = Scores.from_dataframe(pd.DataFrame({"score": study.outcome}))
    inside = conformal_intervals(TLearner("ridge"), study, study.table, random_state=0)
    with pytest.raises(LeakageError, match=r"fitted on 120 of the 120 units"):
        rank_weighted_effect(scores, inside.table["cate"])


def test_order_of_rows_and_seed(study, rng):
    shuffled = study_of(study.table.iloc[rng.permutation(120)])
    one, other = (
        conformal_intervals(TLearner("ridge"), s, n_folds=3, random_state=3).table
        for s in (study, shuffled)
    )
    pd.testing.assert_frame_equal(one, other.loc[one.index], rtol=1e-8)


def test_the_outcome_scaled_by_four(study):
    larger = study_of(study.table.assign(y=4 * study.table["y"] - 7))
    one, other = (
        conformal_intervals(TLearner("ridge"), s, n_folds=3, random_state=0).table
        for s in (study, larger)
    )
    pd.testing.assert_frame_equal(4 * one, other, rtol=1e-6)


def test_it_says_what_it_covers(study):
    found = conformal_intervals(TLearner("ridge"), study, n_folds=3, random_state=0)
    told = found.summary()
    assert "on 20 whole held-out clusters per split" in told
    assert "not its mean effect" in told
    assert "clusters are exchangeable" in told
    assert found.plot().get_ylabel() == "Effect (units of the outcome)"
    assert "single units" in found._repr_html_()
    pd.testing.assert_frame_equal(found.to_dataframe(), found.table)


def test_levels_that_cannot_be_reached(study):
    with pytest.raises(RoleError, match=r"0\.95 needs at least 19 clusters .* has 12"):
        conformal_intervals(TLearner("ridge"), study, level=0.95)
    with pytest.raises(ValueError, match=r"`n_folds` must be an integer of at least 3; got 2"):
        conformal_intervals(TLearner("ridge"), study, n_folds=2)
    with pytest.raises(ValueError, match=r"`level` must .* got 90"):
        conformal_intervals(TLearner("ridge"), study, level=90)
    for bad, found in (
        (Ridge(), "got Ridge"),
        (TLearner, "got the class TLearner"),
        (5, "got int"),
    ):
        with pytest.raises(TypeError, match=f"`learner` must be an effect learner.* {found}"):
            conformal_intervals(bad, study)
