"""Effect learners from images: what they minimise, and what every effect learner promises."""

from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone

from terracausal._foundation.errors import AlignmentError, BandError, LeakageError, RoleError
from terracausal.effects import ImageDRLearner, ImageRLearner, origin_of
from terracausal.effects.effect_networks import effect_loss
from terracausal.encoders.networks import KernelMaxNetwork, TrainingSettings
from terracausal.evaluation import rank_weighted_effect
from terracausal.imagery import Chips
from terracausal.nuisance import ImageNuisanceLearner, cross_fit, doubly_robust_scores
from terracausal.study import Study

BRIGHTNESS = partial(KernelMaxNetwork, width_px=1, n_filters=1, pooling="mean")
QUICK = TrainingSettings(n_epochs=2, learning_rate=0.03)
LONGER = TrainingSettings(n_epochs=15, learning_rate=0.1)
LEARNERS = {"R": ImageRLearner, "DR": ImageDRLearner}
every_learner = pytest.mark.parametrize("kind", list(LEARNERS))
N = 60


def make(kind="R", **settings):
    given = {"nuisances": "table", "n_networks": 2, "training": QUICK, "n_folds": 2}
    return LEARNERS[kind](BRIGHTNESS, **(given | {"random_state": 0} | settings))


@pytest.fixture
def brightness(rng):
    return rng.normal(size=N)


@pytest.fixture
def chips(rng, brightness):
    noise = rng.normal(size=(N, 1, 1, 4, 4))
    noise -= noise.mean(axis=(3, 4), keepdims=True)
    pixels = brightness[:, None, None, None, None] + noise
    return Chips.from_arrays(pixels, sites=range(N), bands=["nir"])


@pytest.fixture
def table(rng, brightness):
    site = np.arange(4 * N) // 4
    w, x = rng.permutation(np.arange(4 * N) % 2), rng.normal(size=4 * N)
    y = x + w * (1 + brightness[site]) + 0.5 * rng.normal(size=4 * N)
    index = pd.Index([f"u{k:03d}" for k in range(4 * N)], name="unit")
    columns = {"y": y, "w": w, "x": x, "site": site, "v": rng.uniform(0.5, 2, 4 * N)}
    return pd.DataFrame(columns, index=index)


def study_of(table, **roles):
    chosen = {"outcome": "y", "treatment": "w", "site": "site", "covariates": ["x"]}
    return Study(table, **(chosen | {"propensity": 0.5} | roles))


@pytest.fixture
def study(table):
    return study_of(table)


def test_the_loss_is_the_squared_error_of_factor_times_effect(rng):
    outputs, targets = rng.normal(size=(5, 4)), rng.normal(size=(5, 4))
    effect = outputs[:, 0] + (outputs[:, 1:3] * targets[:, 2:]).sum(axis=1)
    expected = (targets[:, 0] - targets[:, 1] * effect) ** 2
    found = effect_loss(torch.from_numpy(outputs), torch.from_numpy(targets))
    np.testing.assert_allclose(found, expected)


@every_learner
def test_effects_that_the_image_shows_are_found(kind, study, chips, brightness):
    learner = make(kind, training=LONGER)
    folds = study.folds(3, random_state=0)
    found = learner.cross_predict(study, folds, chips=chips)
    assert found.name == "cate"
    truth = 1 + brightness[study.sites]
    # a constant effect would have a correlation of 0, with a standard error of 1 / sqrt(60)
    assert np.corrcoef(found, truth)[0, 1] > 0.6
    assert found.mean() == pytest.approx(truth.mean(), abs=0.3)
    scores = doubly_robust_scores(study, cross_fit(study, folds, random_state=0))
    rate = rank_weighted_effect(scores, found, n_bootstrap=50, random_state=0)
    assert rate.value > 0


@every_learner
def test_priorities_tell_where_they_come_from(kind, study, chips):
    folds = study.folds(2, random_state=0)
    fitted = make(kind).fit(study, chips)
    scores = doubly_robust_scores(study, cross_fit(study, folds, random_state=0))
    with pytest.raises(LeakageError):
        rank_weighted_effect(scores, fitted.predict(study, chips))
    found = make(kind).cross_predict(study, folds, chips=chips)
    pd.testing.assert_series_equal(origin_of(found).folds, folds.labels.loc[study.units])


@every_learner
def test_scikit_learn_habits_and_one_seed(kind, study, chips):
    learner = make(kind)
    assert repr(clone(learner)) == repr(learner)
    one, two = (clone(learner).fit(study, chips).predict(study, chips) for _ in range(2))
    pd.testing.assert_series_equal(one, two)
    fitted = clone(learner).fit(study, chips)
    by_network = fitted.predict_networks(study, chips)
    assert by_network.shape == (study.n_units, 2)
    assert not np.allclose(by_network[0], by_network[1])
    np.testing.assert_allclose(by_network.mean(axis=1), one, rtol=1e-6)


@every_learner
def test_the_order_of_rows_changes_nothing(kind, table, chips):
    study, mixed = study_of(table), study_of(table.sample(frac=1, random_state=1))
    one = make(kind).fit(study, chips).predict(study, chips)
    two = make(kind).fit(mixed, chips.select(chips.keys[::-1])).predict(study, chips)
    pd.testing.assert_series_equal(one, two, rtol=1e-4, atol=1e-5)


def test_held_out_outcomes_change_no_held_out_effect(table, chips):
    study = study_of(table)
    folds = study.folds(2, random_state=0)
    held_out = folds.labels.loc[table.index] == 0
    changed = study_of(table.assign(y=table["y"].where(~held_out, 50 - table["y"])))
    one, two = (make().cross_predict(s, folds, chips=chips) for s in (study, changed))
    pd.testing.assert_series_equal(one[held_out], two[held_out])
    assert not np.allclose(one[~held_out], two[~held_out])


@every_learner
def test_shift_and_scale_of_the_outcome_pass_through(kind, table, chips):
    other = study_of(table.assign(y=7 + 20 * table["y"]))
    one, two = (make(kind).fit(s, chips).predict(s, chips) for s in (study_of(table), other))
    np.testing.assert_allclose(two, 20 * one, rtol=1e-3, atol=1e-2)


def test_swapped_arms_swap_the_sign_of_the_r_learner(table, chips):
    study, swapped = study_of(table), study_of(table.assign(w=1 - table["w"]))
    settings = {"training": LONGER, "n_networks": 1}
    one, two = (make(**settings).fit(s, chips).predict(s, chips) for s in (study, swapped))
    # the network starts from the same parameters, so that its way is another
    assert np.corrcoef(one, -two)[0, 1] > 0.9


@pytest.mark.parametrize("nuisances", ["image", ImageNuisanceLearner(BRIGHTNESS, training=QUICK)])
def test_nuisances_from_images(table, chips, nuisances):
    study = study_of(table, propensity=None, weight="v")
    fitted = make(nuisances=nuisances).fit(study, chips)
    assert "KernelMaxNetwork" in fitted.nuisances_.learners["propensity"]
    assert np.isfinite(fitted.predict(study, chips)).all()


def test_the_image_alone_reads_no_covariate(study, table, chips):
    fitted = make(use=None).fit(study, chips)
    same = fitted.predict(table.assign(x=99.0), chips)
    np.testing.assert_array_equal(same, fitted.predict(table, chips))
    assert fitted.networks_[0].part.coefficients.shape == (1, 0)


def test_bad_input(study, table, chips):
    with pytest.raises(TypeError, match="ImageRLearner reads chips: give chips="):
        make().cross_predict(study)
    with pytest.raises(AlignmentError, match=r"2 sites with 8 units have none: 3, 5"):
        make().fit(study, chips.select([k for k in chips.keys if k not in (3, 5)]))
    with pytest.raises(RoleError, match="no `site` column"):
        make().fit(study_of(table, site=None), chips)
    with pytest.raises(ValueError, match="`n_networks` must be an integer of at least 1; got 0"):
        make(n_networks=0).fit(study, chips)
    with pytest.raises(ValueError, match="'image', 'table'; got 'forest'"):
        make(nuisances="forest").fit(study, chips)
    with pytest.raises(TypeError, match=r"`training` must be a TrainingSettings.*got 5"):
        make(training=5).fit(study, chips)
    with pytest.raises(ValueError, match="`held_out_share` of the training is 0"):
        make(training=replace(QUICK, held_out_share=0)).fit(study, chips)
    fitted = make().fit(study, chips)
    other = Chips.from_arrays(np.zeros((N, 1, 1, 4, 4)), sites=range(N), bands=["red"])
    with pytest.raises(BandError, match=r"fitted on the bands 'nir'; these chips have 'red'"):
        fitted.predict(study, other)
    with pytest.raises(RoleError, match="lacks the site column 'site'"):
        fitted.predict(table.drop(columns="site"), chips)


def test_embeddings_beside_the_image_do_not_extrapolate(study, chips, rng):
    embeddings = pd.DataFrame({"a": rng.normal(size=N)})
    joined = study.join(embeddings, role="both")
    fitted = make(n_networks=1).fit(joined, chips)
    rows = joined.table.iloc[[0, 0]].copy()
    rows["a"] = [embeddings["a"].max(), 1e6]
    found = fitted.predict(rows, chips)
    assert found.iloc[0] == pytest.approx(found.iloc[1], abs=1e-9)
