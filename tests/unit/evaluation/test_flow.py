"""The whole flow on a small simulated study: the order of rows reaches no number."""

import numpy as np
import pandas as pd
import pytest

import terracausal as tc


def run(table, embeddings, learner):
    study = tc.Study(
        table,
        outcome="outcome",
        treatment="treatment",
        site="site",
        covariates=["age", "female"],
        coords=("lon", "lat"),
    ).join(embeddings, role="modifier")
    folds = study.folds(3, random_state=0)
    nuisances = tc.cross_fit(study, folds, random_state=0)
    scores = tc.doubly_robust_scores(study, nuisances)
    priority = learner.cross_predict(study, folds)
    estimates = [
        tc.average_effect(scores),
        tc.average_effect(scores, "treated"),
        tc.average_effect(scores, "overlap"),
        tc.average_effect(scores, method="difference_in_means"),
        tc.average_effect(scores, std_error="conley", cutoff_m=2_000),
        tc.rank_weighted_effect(scores, priority, random_state=0),
        tc.rank_weighted_effect(scores, priority, "QINI", random_state=0),
    ]
    numbers = [x for e in estimates for x in (e.value[0], e.std_error[0])]
    return np.array(numbers), scores.table, priority


@pytest.fixture(scope="module")
def simulated():
    return tc.simulate_study(n_sites=40, units_per_site=4, size_px=8, random_state=1)


@pytest.mark.parametrize(
    ("learner", "tolerance"),
    [
        (tc.DRLearner(random_state=0), 1e-12),
        (tc.CausalForest(n_trees=20, random_state=0), 1e-12),
    ],
    ids=["ridge", "forest"],
)
def test_shuffled_rows_change_no_number(simulated, rng, learner, tolerance):
    table = simulated.study.table
    embeddings = tc.BandStatisticsEncoder().fit_transform(simulated.chips).iloc[:, :6]
    one = run(table, embeddings, learner)
    order = rng.permutation(len(table))
    other = run(table.iloc[order], embeddings.iloc[rng.permutation(len(embeddings))], learner)
    np.testing.assert_allclose(one[0], other[0], rtol=tolerance, atol=tolerance)
    pd.testing.assert_frame_equal(one[1], other[1].loc[table.index], rtol=0, atol=1e-11)
    np.testing.assert_allclose(one[2], other[2].loc[table.index], rtol=0, atol=1e-11)


def test_estimates_of_the_same_scores_subtract(simulated):
    study = simulated.study
    scores = tc.doubly_robust_scores(study, tc.cross_fit(study, random_state=0))
    difference = tc.average_effect(scores) - tc.average_effect(scores, "treated")
    assert difference.n_units == study.n_units
    assert 0 < difference.std_error[0] < tc.average_effect(scores).std_error[0]


def test_estimates_of_a_part_and_of_the_whole_subtract(simulated):
    study = simulated.study
    nuisances = tc.cross_fit(study, random_state=0)
    whole = tc.average_effect(tc.doubly_robust_scores(study, nuisances))
    women = study.subset((study.table["female"] == 1).to_numpy())
    own = tc.doubly_robust_scores(women, tc.cross_fit(women, random_state=0))
    part = tc.average_effect(own)
    assert (whole - part).value[0] == pytest.approx(whole.value[0] - part.value[0])
    assert (whole - part).n_units == study.n_units
