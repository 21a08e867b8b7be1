"""Networks that learn nuisances see no held-out unit, no order, and no bad input."""

from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone

from terracausal._foundation.errors import AlignmentError, BandError, LeakageError, RoleError
from terracausal.encoders.networks import KernelMaxNetwork, TrainingSettings
from terracausal.imagery import Chips
from terracausal.nuisance import ImageNuisanceLearner, doubly_robust_scores
from terracausal.nuisance.image_fitting import fit_line
from terracausal.nuisance.image_tasks import TASKS, TaskLoss, clever
from terracausal.study import Study

NAMES = ["propensity", "outcome_control", "outcome_treated"]
BRIGHTNESS = partial(KernelMaxNetwork, width_px=1, n_filters=1, pooling="mean")
QUICK = TrainingSettings(n_epochs=2, learning_rate=0.03)


@pytest.fixture
def chips(rng):
    pixels = rng.normal(size=(30, 1, 2, 5, 5)) + rng.normal(size=(30, 1, 1, 1, 1))
    return Chips.from_arrays(pixels, sites=range(30), bands=["red", "nir"])


def make(**settings):
    return ImageNuisanceLearner(BRIGHTNESS, **({"training": QUICK, "random_state": 0} | settings))


@pytest.fixture
def folds(study):
    return study.folds(2, random_state=0)


def test_the_loss_adds_what_its_tasks_say(rng):
    outputs = rng.normal(size=(6, 3 + 6 + 1)).astype(np.float32)
    w, y = np.array([0, 1, 1, 0, 1, 0]), rng.normal(size=6)
    e, x = rng.uniform(0.2, 0.8, 6), rng.normal(size=(6, 2))
    targets = np.column_stack([w, y, e, x]).astype(np.float32)
    linear = outputs[:, :3] + np.einsum("bkp,bp->bk", outputs[:, 3:9].reshape(6, 3, 2), x)
    mu = np.where(w == 1, linear[:, 2], linear[:, 1])
    probability = 1 / (1 + np.exp(-linear[:, 0]))
    entropy = -np.log(np.where(w == 1, probability, 1 - probability))
    pair = torch.from_numpy(outputs), torch.from_numpy(targets)
    joint = TaskLoss(TASKS, binary=False, targeted=False)(*pair).numpy()
    np.testing.assert_allclose(joint, entropy + (mu - y) ** 2, rtol=1e-4)
    h = np.where(w == 1, 1 / probability.clip(0.01, 0.99), -1 / (1 - probability).clip(0.01, 0.99))
    moved = (mu + outputs[:, -1] * h - y) ** 2
    targeted = TaskLoss(TASKS, binary=False, targeted=True)(*pair).numpy()
    np.testing.assert_allclose(targeted, joint + moved, rtol=1e-4)


def test_each_arm_teaches_its_own_surface_alone():
    outputs = torch.zeros(2, 3, requires_grad=True)
    loss = TaskLoss(TASKS[1:], binary=True, targeted=False)
    loss(outputs, torch.tensor([[0.0, 1.0, 0.5], [1.0, 0.0, 0.5]])).sum().backward()
    assert outputs.grad[:, :2].tolist() == [[-0.5, 0.0], [0.0, 0.5]]


def test_a_targeting_step_moves_arms_as_the_efficient_score_does():
    assert clever(np.array([0.25]), 1).item() == 4
    assert clever(np.array([0.25]), 0).item() == pytest.approx(-4 / 3)


def test_a_line_through_few_points_stays_near_the_diagonal():
    assert fit_line(np.array([2.0]), np.array([5.0]), np.ones(1)) == (3.0, 1.0)
    x = np.linspace(-1, 1, 400)
    assert fit_line(x, 1 + 0.5 * x, np.ones(400)) == pytest.approx((1.0, 0.5), abs=0.002)
    assert fit_line(x, -x, np.ones(400))[1] == 0


@pytest.mark.parametrize("last_layer", ["calibrated", "refitted", "own"])
@pytest.mark.parametrize("loss", ["joint", "targeted", "separate"])
def test_every_choice_gives_a_table_that_scores_accept(study, chips, folds, loss, last_layer):
    learner = make(loss=loss, last_layer=last_layer)
    nuisances = learner.cross_fit(study, chips, folds)
    assert nuisances.table.columns.tolist() == [*NAMES, "fold"]
    assert nuisances.table.index.equals(study.units)
    assert np.isfinite(nuisances.table.to_numpy()).all()
    assert nuisances.propensity.between(0, 1, inclusive="neither").all()
    assert len(doubly_robust_scores(study, nuisances).score) == study.n_units
    assert "KernelMaxNetwork(width_px=1" in nuisances.summary()
    assert not hasattr(learner, "networks_")
    assert len(clone(learner).fit(study, chips).networks_) == (3 if loss == "separate" else 1)


def test_the_order_of_rows_and_chips_and_jobs_changes_nothing(table, make_study, chips, folds):
    study = make_study(table)
    first = make().cross_fit(study, chips, folds).table
    mixed = make_study(table.sample(frac=1, random_state=1))
    turned = chips.select(chips.keys[::-1])
    found = make().cross_fit(mixed, turned, folds, n_jobs=2).table
    pd.testing.assert_frame_equal(found.loc[first.index], first, rtol=1e-5)


def test_held_out_outcomes_change_no_held_out_prediction(table, make_study, chips, folds):
    changed = table.copy()
    held_out = (folds.labels == 0).loc[table.index]
    changed.loc[held_out, "y"] = 1000 - changed.loc[held_out, "y"]
    tables = [make().cross_fit(make_study(t), chips, folds).table for t in (table, changed)]
    pd.testing.assert_frame_equal(tables[0][held_out], tables[1][held_out])
    assert not np.allclose(tables[0].loc[~held_out, NAMES], tables[1].loc[~held_out, NAMES])


def test_predictions_of_a_table_are_those_of_the_study(study, chips):
    fitted = make().fit(study, chips)
    found = fitted.predict(study, chips)
    assert found.columns.tolist() == NAMES
    some = study.table.iloc[[5, 2]].drop(columns=["y", "w"])
    pd.testing.assert_frame_equal(fitted.predict(some, chips), found.iloc[[5, 2]], rtol=1e-5)


def test_a_known_propensity_is_used_and_not_learned(table, make_study, chips, folds):
    study = make_study(table, propensity="e")
    nuisances = make().cross_fit(study, chips, folds)
    assert nuisances.propensity_known
    assert nuisances.learners["propensity"] == "known"
    np.testing.assert_array_equal(nuisances.propensity, table["e"])
    fitted = make().fit(study, chips)
    assert fitted.networks_[0].tasks == TASKS[1:]
    np.testing.assert_array_equal(fitted.predict(study, chips)["propensity"], table["e"])


def test_shift_and_scale_of_the_outcome_pass_through(table, make_study, chips, folds):
    other = table.assign(y=1000 + 50 * table["y"])
    one, two = (make().cross_fit(make_study(t), chips, folds).table for t in (table, other))
    np.testing.assert_allclose(two[NAMES[1:]], 1000 + 50 * one[NAMES[1:]], rtol=1e-4, atol=0.5)
    np.testing.assert_allclose(two["propensity"], one["propensity"], atol=1e-3)


def test_a_unit_of_weight_0_teaches_nothing(table, make_study, chips):
    weighted = table.assign(v=1.0)
    out = weighted["site"] < 3
    weighted.loc[out, "v"] = 0.0
    changed = weighted.assign(y=weighted["y"].where(~out, 99.0))
    learner = make(last_layer="own", training=replace(QUICK, held_out_share=0))
    found = [
        clone(learner).fit(make_study(t, weight="v"), chips).predict(table, chips)
        for t in (weighted, changed)
    ]
    pd.testing.assert_frame_equal(*found)


def test_modifiers_do_not_enter_the_propensity(study, chips):
    rng = np.random.default_rng(0)
    embeddings = pd.DataFrame(rng.normal(size=(30, 2)), index=range(30), columns=["m0", "m1"])
    joined = study.join(embeddings, role="modifier")
    part = make().fit(joined, chips).networks_[0]
    n_covariates = len(study.roles.covariates)
    assert (part.coefficients[0, n_covariates:] == 0).all()
    assert (part.coefficients[1:, n_covariates:] != 0).all()


def test_an_outcome_of_0_and_1_is_a_probability(table, make_study, chips, folds):
    study = make_study(table.assign(y=(table["y"] > 0.5).astype(float)))
    found = make().cross_fit(study, chips, folds).table
    assert found[NAMES].to_numpy().min() > 0
    assert found[NAMES].to_numpy().max() < 1


# -- bad input ---------------------------------------------------------------------------------


@pytest.fixture
def untrained(monkeypatch):
    def fail(*_, **__):
        raise AssertionError("trained before the input was refused")

    monkeypatch.setattr("terracausal.nuisance.image_fitting.train_network", fail)


@pytest.mark.usefixtures("untrained")
class TestRefusedBeforeTraining:
    def test_missing_chips_are_named(self, study, chips):
        with pytest.raises(AlignmentError, match=r"2 sites with 8 units have none: 7, 9"):
            make().cross_fit(study, chips.select([k for k in chips.keys if k not in (7, 9)]))

    def test_units_without_sites(self, table, chips):
        study = Study(table, outcome="y", treatment="w")
        with pytest.raises(RoleError, match="no `site` column"):
            make().fit(study, chips)

    def test_what_is_no_chips(self, study):
        with pytest.raises(TypeError, match="got ndarray"):
            make().fit(study, np.zeros((30, 1, 2, 5, 5)))

    def test_a_fold_without_an_arm(self, table, make_study, chips, folds):
        w = table["w"].where(folds.labels.loc[table.index] == 0, 0)
        w.iloc[np.flatnonzero(folds.labels.loc[table.index] == 1)[0]] = 1
        study = make_study(table.assign(w=w))
        with pytest.raises(RoleError, match=r"without fold 0 there are 1 treated and \d+ control"):
            make().cross_fit(study, chips, folds)

    def test_a_constant_outcome_in_an_arm(self, table, make_study, chips):
        study = make_study(table.assign(y=table["y"].where(table["w"] == 0, 3.0)))
        with pytest.raises(ValueError, match=r"all \d+ units of the treated arm .* have 3"):
            make().cross_fit(study, chips)

    def test_late_images(self, table, make_study, rng):
        pixels = rng.normal(size=(30, 1, 2, 5, 5))
        dated = Chips.from_arrays(
            pixels, sites=range(30), bands=["red", "nir"], times=["2020-05-01"]
        )
        study = make_study(table, treatment_date="2020-01-01")
        with pytest.raises(LeakageError, match="Images must be from before the treatment"):
            make().cross_fit(study, dated)

    def test_split_clusters(self, table, make_study, chips):
        folds = Study(table, outcome="y", treatment="w").folds(2, random_state=0)
        with pytest.raises(LeakageError, match="clusters are split"):
            make().cross_fit(make_study(table), chips, folds)

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"loss": "both"}, "`loss` must be one of 'joint', 'targeted', 'separate'; got 'both'"),
            ({"last_layer": "mean"}, "got 'mean'"),
            ({"times": "last"}, "got 'last'"),
            ({"training": TrainingSettings(held_out_share=0)}, "`held_out_share` of the training"),
            ({"device": "tpu"}, "got 'tpu'"),
        ],
    )
    def test_settings(self, study, chips, settings, message):
        with pytest.raises(ValueError, match=message):
            make(**settings).fit(study, chips)


def test_other_bands_and_unknown_sites_are_named(study, chips, table):
    fitted = make().fit(study, chips)
    with pytest.raises(BandError, match=r"fitted on the bands 'red', 'nir'; these chips have 'n"):
        fitted.predict(study, chips.select(bands=["nir", "red"]))
    with pytest.raises(AlignmentError, match=r"1 of 30 sites have none: 4"):
        fitted.predict(study, chips.select([k for k in chips.keys if k != 4]))
    with pytest.raises(RoleError, match="lacks the site column 'site'"):
        fitted.predict(table.drop(columns="site"), chips)


def test_nan_from_a_last_layer_is_named_with_its_fold(study, chips, folds, monkeypatch):
    def nothing(_, tasks, linear):
        return np.full((len(linear), len(tasks)), np.nan)

    monkeypatch.setattr("terracausal.nuisance.image_fitting.predictions", nothing)
    with pytest.raises(ValueError, match=r"those of \d+ of \d+ units of fold 0 from ImageNuis"):
        make().cross_fit(study, chips, folds)


def test_a_failing_network_is_named_with_its_fold(study, chips, folds):
    learner = ImageNuisanceLearner(partial(KernelMaxNetwork, width_px=9), training=QUICK)
    with pytest.raises(ValueError, match="at least as large as the filters") as caught:
        learner.cross_fit(study, chips, folds)
    assert "fold 0 with ImageNuisanceLearner" in "".join(caught.value.__notes__)
