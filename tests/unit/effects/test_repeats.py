"""Effects predicted over several folds, and what is known of where they come from."""

import numpy as np
import pandas as pd
import pytest

from terracausal._foundation.errors import LeakageError, RoleError
from terracausal.effects import TLearner, mean_of_repeats, origin_of, repeats_of
from terracausal.effects.origin import with_repeats
from terracausal.evaluation import rank_weighted_effect
from terracausal.nuisance import Scores
from terracausal.study import Folds, Study


@pytest.fixture
def table(rng):
    n = 120
    site, x = np.arange(n) // 2, rng.normal(size=n)
    w = rng.permutation(np.arange(n) % 2)
    y = w * x + rng.normal(size=n)
    lon, lat = 30 + site % 8 / 10, site // 8 / 10
    return pd.DataFrame({"y": y, "w": w, "site": site, "x": x, "lon": lon, "lat": lat})


@pytest.fixture
def study(table):
    roles = {"site": "site", "covariates": ["x"], "propensity": 0.5, "coords": ("lon", "lat")}
    return Study(table, outcome="y", treatment="w", **roles)


@pytest.fixture
def learner():
    return TLearner("ridge", random_state=0)


def test_the_first_repeat_is_the_prediction_over_the_given_folds(learner, study):
    folds = study.folds(3, random_state=0)
    once = learner.cross_predict(study, folds)
    thrice = learner.cross_predict(study, folds, n_repeats=3)
    pd.testing.assert_series_equal(once, thrice, check_exact=True)
    assert origin_of(thrice).folds.equals(folds.labels)
    assert len(origin_of(thrice).repeats) == 2


def test_repeats_have_folds_of_their_own(learner, study):
    # the folds and the learner have one seed, which must not give the same folds again
    found = learner.cross_predict(study, study.folds(3, random_state=0), n_repeats=3)
    runs = repeats_of(found)
    labels = [origin_of(run).folds for run in runs]
    assert len(runs) == 3
    assert all(not origin_of(run).repeats for run in runs)
    for one, other in ((0, 1), (0, 2), (1, 2)):
        together = [
            np.equal.outer(labels[k].to_numpy(), labels[k].to_numpy()) for k in (one, other)
        ]
        assert (together[0] != together[1]).any()
    for run, own in zip(runs, labels, strict=True):
        again = learner.cross_predict(study, Folds(own, pd.DataFrame({"fold": range(3)})))
        pd.testing.assert_series_equal(run, again, check_exact=True)
        assert own.groupby(study.sites).nunique().eq(1).all()


def test_repeats_do_not_depend_on_the_order_of_rows(learner, table, study, rng):
    shuffled = study.subset(np.ones(120, dtype=bool))
    shuffled = Study(
        table.iloc[rng.permutation(120)],
        outcome="y",
        treatment="w",
        site="site",
        covariates=["x"],
        propensity=0.5,
    )
    one, other = (learner.cross_predict(s, n_repeats=2) for s in (study, shuffled))
    for a, b in zip(repeats_of(one), repeats_of(other), strict=True):
        np.testing.assert_allclose(a, b.loc[a.index], rtol=1e-8)


def test_blocks_and_buffers_are_drawn_again(learner, study):
    folds = study.folds(2, block_m=20_000, buffer_m=15_000, random_state=0)
    assert folds.drawn["block_m"] == 20_000
    found = learner.cross_predict(study, folds, n_repeats=2)
    own = origin_of(repeats_of(found)[1]).folds
    again = learner.cross_predict(study, Folds(own, folds.table))
    # without the buffer others would have trained
    assert (again != repeats_of(found)[1]).any()


def test_folds_that_cannot_be_drawn_again(learner, study):
    folds = study.folds(2, random_state=0)
    handmade = Folds(folds.labels, folds.table)
    with pytest.raises(RoleError, match=r"were not drawn by study\.folds"):
        learner.cross_predict(study, handmade, n_repeats=2)
    found = learner.cross_predict(study, [handmade, study.folds(3, random_state=1)])
    assert [origin_of(run).folds.nunique() for run in repeats_of(found)] == [2, 3]
    with pytest.raises(RoleError, match=r"Expected 3 Folds.* got 2"):
        learner.cross_predict(study, [handmade, handmade], n_repeats=3)
    with pytest.raises(ValueError, match=r"`n_repeats` must be .* got 0"):
        learner.cross_predict(study, n_repeats=0)


def test_the_mean_is_for_maps_and_evaluation_refuses_it(learner, study):
    found = learner.cross_predict(study, study.folds(3, random_state=0), n_repeats=3)
    mean = mean_of_repeats(found)
    np.testing.assert_allclose(mean, np.mean([run.to_numpy() for run in repeats_of(found)], axis=0))
    assert mean.name == "cate"
    scores = Scores.from_dataframe(pd.DataFrame({"score": study.outcome}))
    assert rank_weighted_effect(scores, found, random_state=0).ranked_within == "each of 3 folds"
    with pytest.raises(LeakageError, match=r"mean of 3 repeats of TLearner"):
        rank_weighted_effect(scores, mean)


def test_the_rate_is_the_median_over_repeats_each_within_its_folds(learner, study):
    found = learner.cross_predict(study, study.folds(3, random_state=0), n_repeats=3)
    scores = Scores.from_dataframe(pd.DataFrame({"score": study.outcome}))
    all_of_them = rank_weighted_effect(scores, found, random_state=0)
    each = [rank_weighted_effect(scores, run, random_state=0) for run in repeats_of(found)]
    values = np.array([one.value[0] for one in each])
    errors = np.array([one.std_error[0] for one in each])
    assert all_of_them.value[0] == np.median(values)
    by_hand = np.sqrt(np.median(errors**2 + (values - np.median(values)) ** 2))
    assert all_of_them.std_error[0] == pytest.approx(by_hand)
    assert all_of_them.widening == each[0].widening > 1
    assert all_of_them.n_repeats == 3
    # two repeats of the same folds are one
    again = with_repeats([repeats_of(found)[0], repeats_of(found)[0].copy()])
    twice = rank_weighted_effect(scores, again, random_state=0)
    np.testing.assert_allclose(twice.std_error, each[0].std_error)


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s.copy(),
        lambda s: 2 * s - 1,
        lambda s: -s,
        lambda s: s + pd.Series(1.0, index=s.index),
        lambda s: np.exp(s),
        lambda s: s.rank(),
        lambda s: s.rename("priority"),
        lambda s: s.sort_values(),
        lambda s: s.to_frame().iloc[:, 0],
    ],
)
def test_effects_on_training_units_stay_refused(change, learner, study):
    fitted = learner.fit(study).predict(study)
    scores = Scores.from_dataframe(pd.DataFrame({"score": study.outcome}))
    with pytest.raises(LeakageError, match=r"fitted on 120 of the 120 units"):
        rank_weighted_effect(scores, change(fitted))
    with pytest.raises(LeakageError, match=r"fitted on 60 of the 60 units"):
        rank_weighted_effect(
            Scores.from_dataframe(pd.DataFrame({"score": study.outcome.iloc[::2]})),
            change(fitted).loc[study.units[::2]],
        )
