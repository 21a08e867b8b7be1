"""One call from a study and chips to ranked, tested effects and a rule within a budget."""

import re

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge

import terracausal as tc
from terracausal._foundation.errors import AlignmentError, RoleError
from terracausal.effects import origin_of, repeats_of
from terracausal.simulate import ConfoundingSettings
from terracausal.study import Dependence
from terracausal.workflows import analyze_heterogeneity

QUICK = {"outcome_learner": LinearRegression()}
LEARNER = tc.DRLearner(Ridge(), LinearRegression(), n_folds=2)


def run(study, chips, **options):
    options = {
        "encoder": tc.BandStatisticsEncoder(quantiles=(), moments=("mean",)),
        "learner": LEARNER,
        "n_folds": 3,
        "n_permutations": 0,
        "random_state": 0,
    } | options
    return analyze_heterogeneity(study, chips, **QUICK, **options)


@pytest.fixture(scope="module")
def data():
    return tc.simulate_study("effect_modification", n_sites=80, size_px=8, random_state=1)


@pytest.fixture(scope="module")
def found(data):
    return run(data.study, data.chips, n_permutations=99, n_repeats=2)


# -- what comes out ------------------------------------------------------------------------------


def test_all_parts_stand_on_the_same_scores_and_folds(found):
    folds = origin_of(found.effects).folds
    assert folds.equals(found.scores.table["fold"].loc[folds.index].rename(folds.name))
    by_hand = tc.rank_weighted_effect(found.scores, found.effects, random_state=1)
    assert by_hand.value == pytest.approx(found.autoc.value)
    assert tc.average_effect(found.scores).value == pytest.approx(found.average.value)
    rule = tc.treat_within_budget(found.scores, found.effects, 0.3)
    assert rule.equals(found.policy)
    assert tc.policy_value(found.scores, rule).value == pytest.approx(found.policy_value.value)


def test_everything_that_was_asked_is_there(found):
    kinds = [type(result).__name__ for result in found.results]
    assert kinds == [
        *("Study", "Estimate", "TargetingResult", "TargetingResult", "ImageHeterogeneityTest"),
        *("CalibrationTest", "GroupedEffects", "GroupComparison", "PriorityComparison", "Series"),
        *("Estimate", "LearnedPolicy", "Scores", "Nuisances"),
    ]
    assert found.notes == ()


def test_the_table_is_tidy_and_the_effects_are_by_unit(found, data):
    table = found.to_dataframe()
    assert table.columns.tolist()[:4] == ["quantity", "term", "estimate", "std_error"]
    quantities = table["quantity"].drop_duplicates().tolist()
    assert quantities[:4] == ["average effect", "AUTOC", "QINI", "calibration"]
    by_unit = found.by_unit()
    assert by_unit.index.equals(data.study.units)
    runs = pd.concat(list(repeats_of(found.effects)), axis=1)
    assert by_unit["effect"].to_numpy() == pytest.approx(runs.mean(axis=1).to_numpy())
    assert by_unit["policy"].mean() == pytest.approx(0.3, abs=1e-9)


def test_known_propensities_make_images_modifiers_only(found):
    assert found.nuisances.propensity_known
    assert [role for role, _ in found.study.joined_roles] == ["modifier"]


def test_readers_see_columns_that_they_understand(found):
    terms = set(found.comparison.estimate.terms)
    assert {"nir_mean", "age", "lat"} <= terms
    assert set(found.tree.columns) <= terms | set(found.tree.columns)


def test_the_page_has_a_section_for_each_part(found, tmp_path):
    html = found.to_html(tmp_path / "report.html").read_text(encoding="utf-8")
    titles = re.findall(r'<h2 id="h\d+">([^<]+)</h2>', html)
    assert titles == [
        *("The study", "Average effect", "Who benefits most? (targeting)"),
        *("Do effects vary with images at all?", "Are predicted effects right? (calibration)"),
        *("Effects in 5 groups", "Who are the most and the least affected?"),
        *("Two rankings compared", "Map of effects"),
        *("Places with the highest and lowest effect", "What a rule is worth"),
        *("A simple rule of whom to treat", "Overlap", "The images"),
        "The predictions behind the comparison",
    ]
    assert "2 times; the mean is shown" in html
    assert ">QINI</th>" in html
    assert "AUTOC" in found.summary()
    assert found.value == found.autoc.value
    assert found.plot().get_xlabel()


# -- choices -------------------------------------------------------------------------------------


def test_the_order_of_rows_changes_nothing(data):
    order = np.random.default_rng(0).permutation(data.study.n_units)
    shuffled = tc.Study(data.study.table.iloc[order], **data.study.roles.arguments())
    one, two = run(data.study, data.chips), run(shuffled, data.chips)
    pd.testing.assert_frame_equal(one.to_dataframe(), two.to_dataframe(), rtol=1e-9)


def test_trimmed_units_have_effects_and_no_part_in_the_evaluation():
    mild = ConfoundingSettings(propensity_strength=0.5)
    data = tc.simulate_study("tutorial", n_sites=200, size_px=4, settings=mild, random_state=0)
    found = run(
        data.study, data.chips, trim=0.2, propensity_learner=LogisticRegression(), n_repeats=2
    )
    assert found.scores.n_units < data.study.n_units == len(found.effects)
    assert len(found.policy) == found.scores.n_units
    assert found.by_unit()["policy"].isna().sum() == data.study.n_units - found.scores.n_units
    assert [role for role, _ in found.study.joined_roles] == ["both"]


def test_without_covariates_there_is_nothing_to_compare_with(data):
    found = run(data.study.with_roles(covariates=()), data.chips)
    assert found.versus_covariates is None
    assert found.notes == ()


def test_what_a_study_does_not_support_is_noted(data, tmp_path, monkeypatch):
    def refuse(*arguments, **options):
        raise RoleError("too few clusters")

    monkeypatch.setattr("terracausal.workflows.heterogeneity.image_heterogeneity_test", refuse)
    found = run(data.study, data.chips, n_permutations=99)
    assert found.image_test is None
    assert found.notes == ("the test by permutation could not be had: too few clusters",)
    html = found.to_html(tmp_path / "page.html").read_text(encoding="utf-8")
    assert "The test by permutation could not be had: too few clusters" in html


def test_split_sample_inference_on_demand(data):
    found = run(data.study, data.chips, n_splits=4, n_groups=2)
    assert found.split_sample.n_splits == 4
    assert found.groups.n_groups == 2


def test_spatial_errors_and_embeddings_from_elsewhere(data):
    table = tc.BandStatisticsEncoder(quantiles=()).fit_transform(data.chips)
    conley = Dependence("conley", cutoff_m=2_000)
    found = run(data.study, table, encoder=None, dependence=conley)
    assert "Conley" in found.average.describe_std_error()
    assert "Conley" in found.policy_value.describe_std_error()
    assert found.chips is None


class ChipLearner(tc.DRLearner):
    """An effect learner that reads the chips."""

    def fit(self, study, chips):
        assert chips.n_sites == 80
        return super().fit(study)

    def predict(self, table, chips):
        return super().predict(table)


def test_a_learner_of_chips_is_given_chips(data):
    learner = ChipLearner(Ridge(), LinearRegression(), use="embeddings")
    found = run(data.study.with_roles(covariates=()), data.chips, learner=learner)
    assert "ChipLearner" in origin_of(found.effects).learner
    with pytest.raises(TypeError, match="ChipLearner reads chips"):
        run(data.study, pd.DataFrame({"a": 0.0}, data.chips.keys), encoder=None, learner=learner)


def test_finished_steps_are_not_done_again(data, tmp_path, monkeypatch):
    first = run(data.study, data.chips, keep=tmp_path, n_repeats=2)

    def refuse(*arguments, **options):
        raise AssertionError("computed again")

    monkeypatch.setattr("terracausal.workflows.adjusting.cross_fit", refuse)
    monkeypatch.setattr(tc.DRLearner, "cross_predict", refuse)
    again = run(data.study, data.chips, keep=tmp_path, n_repeats=2)
    pd.testing.assert_frame_equal(first.to_dataframe(), again.to_dataframe())
    assert len(repeats_of(again.effects)) == 2


# -- bad input, before anything is trained -------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "error", "told"),
    [
        ({"n_group": 3}, TypeError, "'n_group'; did you mean 'n_groups'"),
        ({"n_groups": 1}, ValueError, "`n_groups` must be an integer of at least 2; got 1"),
        ({"budget": 1.5}, ValueError, "`budget` must be a share from 0 to 1; got 1.5"),
        ({"learner": Ridge()}, TypeError, "cross_predict.*got Ridge"),
        ({"role": "confounder"}, ValueError, "got 'confounder'"),
        ({"n_folds": 500}, RoleError, "clusters for 500 folds"),
        ({"n_groups": 5000}, RoleError, r"more groups than units; got n_groups=5000 and \d+ units"),
        ({"budget": None}, ValueError, "`budget` must be a share from 0 to 1; got None"),
        ({"n_splits": -2}, ValueError, "`n_splits` must be an integer of at least 0; got -2"),
    ],
)
def test_bad_arguments_are_refused_before_training(data, monkeypatch, change, error, told):
    def refuse(*arguments, **options):
        raise AssertionError("something was trained before the input was checked")

    monkeypatch.setattr("terracausal.workflows.adjusting.cross_fit", refuse)
    monkeypatch.setattr(tc.BandStatisticsEncoder, "fit", refuse)
    with pytest.raises(error, match=told):
        run(data.study, data.chips, **change)
    outcome = data.study.roles.outcome
    flat = tc.Study(data.study.table.assign(**{outcome: 1.0}), **data.study.roles.arguments())
    with pytest.raises(RoleError, match=rf"must vary.* it is 1 for all {flat.n_units} units"):
        run(flat, data.chips)
    with pytest.raises(AlignmentError, match="1 sites with 5 units have none"):
        run(data.study, data.chips.select(data.chips.keys[1:]))
