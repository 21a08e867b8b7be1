"""One call from a study and chips to an adjusted effect with its checks."""

import re
import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, clone
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge

import terracausal as tc
from terracausal._foundation.errors import (
    AlignmentError,
    LeakageError,
    OverlapWarning,
    RoleError,
)
from terracausal.encoders import TrainedEncoder
from terracausal.imagery import Chips
from terracausal.simulate import ConfoundingSettings
from terracausal.study import Dependence
from terracausal.workflows import analyze_confounding, confounding, steps

MEANS = tc.BandStatisticsEncoder(quantiles=(), moments=("mean",))
QUICK = {"outcome_learner": LinearRegression(), "propensity_learner": LogisticRegression()}
SETTINGS = ConfoundingSettings(propensity_strength=0.5)
pytestmark = pytest.mark.filterwarnings("ignore::terracausal._foundation.errors.OverlapWarning")


def run(study, chips, **options):
    options = {"encoder": MEANS, "n_repeats": 1, "random_state": 0} | QUICK | options
    return analyze_confounding(study, chips, **options)


@pytest.fixture(scope="module")
def data():
    return tc.simulate_study("tutorial", n_sites=150, size_px=4, settings=SETTINGS, random_state=1)


@pytest.fixture(scope="module")
def found(data):
    return run(data.study, data.chips, n_repeats=2)


# -- what comes out ------------------------------------------------------------------------------


def test_estimates_stand_side_by_side_from_naive_to_adjusted(found, data):
    terms = found.estimates["term"].tolist()[:4]
    assert terms == ["no adjustment", "covariates", "images", "covariates and images"]
    values = found.estimates["estimate"].to_numpy()
    # adjusting for either confounder helps, for both helps most; the world says so by construction
    assert values[0] > max(values[1], values[2])
    assert min(values[1], values[2]) > values[3]
    low, high = found.headline.confint(0.9999)[0]
    assert low < data.average_effect < high


def test_the_parts_are_those_of_the_calls_by_hand(found, data):
    """The headline is what the single calls give on the same folds and seeds."""
    study = data.study.join(clone(MEANS).fit_transform(data.chips), role="confounder")
    by_hand = tc.average_effect(tc.doubly_robust_scores(study, found.nuisances))
    assert by_hand.value == pytest.approx(found.value, rel=1e-12)
    assert by_hand.std_error == pytest.approx(found.std_error, rel=1e-12)
    naive = tc.average_effect(found.scores, method="difference_in_means")
    assert found.estimates["estimate"].iloc[0] == pytest.approx(float(naive.value[0]))
    w, y = data.study.treatment, data.study.outcome
    assert naive.value[0] == pytest.approx(y[w == 1].mean() - y[w == 0].mean())


def test_how_far_adjustment_moves_the_estimate_has_an_error_of_its_own(found):
    moved = found.comparison.moved()
    values = found.estimates["estimate"]
    assert moved.value[0] == pytest.approx(values[3] - values[0], rel=1e-9)
    errors = found.estimates["std_error"]
    assert moved.std_error[0] < np.hypot(errors[0], errors[3])
    assert "so the groups would have differed" in found.comparison.headline()


def test_seed_spread_is_counted(found):
    repeats = [repeat.value[0] for repeat in found.headline.repeats]
    assert len(repeats) == 2
    assert found.estimates["seed_sd"].iloc[3] == pytest.approx(np.std(repeats, ddof=1))


def test_all_specifications_share_their_folds(data, monkeypatch):
    seen = []

    def watch(study, folds, **options):
        seen.append((folds.labels.sort_index(), options["random_state"]))
        return tc.cross_fit(study, folds, **options)

    monkeypatch.setattr("terracausal.workflows.adjusting.cross_fit", watch)
    run(data.study, data.chips, n_repeats=2)
    assert len(seen) == 6
    assert all(one[0].equals(seen[0][0]) and one[1] == seen[0][1] for one in seen[:3])
    assert not seen[3][0].equals(seen[0][0])


def test_checks_cover_overlap_propensity_balance_and_space(found):
    kinds = [type(check).__name__ for check in found.checks]
    assert kinds[:3] == ["OverlapCheck", "PropensityCheck", "BalanceCheck"]
    assert "SpatialAutocorrelation" in kinds
    balance = found.checks[2].to_dataframe()
    assert set(balance["kind"]) == {"covariate", "embedding", "coordinate"}
    red = balance.set_index("column").loc["red_mean"]
    assert abs(red["after"]) < abs(red["before"])


def test_band_statistics_are_balanced_too_where_the_encoder_is_another(data):
    encoder = tc.RandomConvEncoder(n_features=12, patch_px=2, random_state=0)
    found = run(data.study, data.chips, encoder=encoder, n_components=3)
    balance = found.checks[2].to_dataframe()
    assert "red_mean" in set(balance.loc[balance["kind"] == "band statistics", "column"])
    assert "3 components of 12 embedding columns" in found.nuisances.summary()


def test_the_page_shows_everything(found, tmp_path):
    html = found.to_html(tmp_path / "report.html").read_text(encoding="utf-8")
    titles = re.findall(r'<h2 id="h\d+">([^<]+)</h2>', html)
    assert titles[:3] == ["The study", "Average effect", "What the images change"]
    assert {"Overlap", "Are the groups alike?", "Are neighbours alike?"} <= set(titles)
    assert "Without any adjustment, the two groups differ by" in html
    assert found.summary().startswith("Average effect on all units")
    assert len(found.plot().get_yticklabels()) == len(found.estimates)


# -- order, seeds, targets -----------------------------------------------------------------------


def test_the_order_of_rows_and_chips_changes_nothing(data, found):
    order = np.random.default_rng(0).permutation(data.study.n_units)
    table = data.study.table.iloc[order]
    roles = data.study.roles.arguments()
    chips = data.chips.select(data.chips.keys[::-1])
    again = run(tc.Study(table, **roles), chips, n_repeats=2)
    pd.testing.assert_frame_equal(again.estimates, found.estimates, rtol=1e-9)


def test_a_table_of_embeddings_is_as_good_as_chips(data, found):
    embeddings = clone(MEANS).fit_transform(data.chips)
    again = run(data.study, embeddings, encoder=None, n_repeats=2)
    assert again.estimates["estimate"].to_numpy() == pytest.approx(
        found.estimates["estimate"].to_numpy()
    )
    assert again.chips is None


def test_the_target_and_the_standard_error_are_passed_on(data):
    conley = Dependence("conley", cutoff_m=5_000)
    found = run(data.study, data.chips, target="treated", dependence=conley)
    assert found.headline.terms == ("att",)
    assert "Conley" in found.headline.describe_std_error()
    assert found.checks[0].target == "treated"


def test_trimmed_units_are_listed(data):
    found = run(data.study, data.chips, trim=0.2)
    assert "TrimmedUnits" in [type(check).__name__ for check in found.checks]
    assert "0.2" in found.headline.estimand


def test_without_covariates_images_are_the_headline(data):
    found = run(data.study.with_roles(covariates=()), data.chips)
    assert found.estimates["term"].tolist()[:2] == ["no adjustment", "images"]
    assert found.comparison.headline_name == "images"


def test_strata_are_adjusted_for_throughout(data):
    table = data.study.table.assign(region=np.arange(data.study.n_units) % 3)
    roles = data.study.roles.arguments() | {"strata": "region"}
    found = run(tc.Study(table, **roles), data.chips)
    assert found.estimates["term"].iloc[0] == "strata only"
    assert "With strata only, the two groups differ" in found.comparison.headline()
    assert "adjusted for 3 strata" in found.comparison.estimates["strata only"].summary()


def test_few_clusters_get_an_interval_made_for_them():
    data = tc.simulate_study(n_sites=24, units_per_site=6, size_px=8, random_state=0)
    found = run(data.study, data.chips)
    kinds = [type(check).__name__ for check in found.checks]
    assert kinds[-1] == "WildBootstrap"
    assert "PropensityCheck" not in kinds  # the trial knows its propensity


# -- poor overlap --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def poor():
    settings = ConfoundingSettings(propensity_strength=3.0)
    return tc.simulate_study("tutorial", n_sites=200, size_px=4, settings=settings, random_state=1)


def test_poor_overlap_warns_once_and_adds_overlap_weights(poor):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = run(poor.study, poor.chips)
    told = [one for one in caught if issubclass(one.category, OverlapWarning)]
    assert len(told) == 1
    assert "overlap-weighted effect stands beside" in str(told[0].message)
    assert "covariates and images (overlap-weighted)" in found.estimates["term"].tolist()
    assert found.headline.terms == ("ate",)


def test_no_overlap_at_all_leaves_the_overlap_weighted_effect(poor, monkeypatch):
    real = confounding.average_effect

    def refuse(scores, target="all", method="aipw", **options):
        if target == "all" and method == "aipw":
            raise confounding.OverlapError("the arms do not overlap at all")
        return real(scores, target, method, **options)

    monkeypatch.setattr(confounding, "average_effect", refuse)
    found = run(poor.study, poor.chips)
    assert found.headline.terms == ("ato",)
    assert any("the arms do not overlap at all" in note for note in found.notes)
    assert "adjusted for covariates and images the effect is" in found.comparison.headline()


# -- image learners ------------------------------------------------------------------------------


class OwnLearner(BaseEstimator):
    """Predicts nuisances from the chips themselves, as the networks do."""

    def __init__(self, random_state=None):
        self.random_state = random_state

    def cross_fit(self, study, chips, folds):
        joined = study.join(clone(MEANS).fit_transform(chips), role="confounder")
        return tc.cross_fit(joined, folds, random_state=self.random_state, **QUICK)


def test_a_learner_that_looks_at_chips_takes_the_place_of_embeddings(data, found):
    again = run(data.study, data.chips, encoder=OwnLearner(), n_repeats=2)
    assert again.estimates["estimate"].to_numpy() == pytest.approx(
        found.estimates["estimate"].to_numpy()
    )
    assert not again.study.embedding_columns


def test_a_fitted_encoder_is_used_as_it_is(data):
    encoder = tc.RandomConvEncoder(n_features=4, patch_px=2, random_state=0)
    encoder.fit(data.chips.select(data.chips.keys[:20]))
    found = run(data.study, data.chips, encoder=encoder)
    expected = encoder.transform(data.chips)
    assert found.study.embedding_columns == tuple(expected.columns)
    by_site = found.study.table.set_index("site")[list(expected.columns)]
    assert by_site.loc[expected.index].to_numpy() == pytest.approx(expected.to_numpy())


# -- kept steps ----------------------------------------------------------------------------------


@pytest.mark.parametrize("encoder", [MEANS, OwnLearner()], ids=["encoder", "learner"])
def test_finished_steps_are_not_done_again(data, tmp_path, monkeypatch, encoder):
    first = run(data.study, data.chips, encoder=encoder, keep=tmp_path)
    n_files = len(list((tmp_path / "steps").iterdir()))
    assert n_files == 3

    def refuse(*arguments, **options):
        raise AssertionError("computed again")

    monkeypatch.setattr("terracausal.workflows.adjusting.cross_fit", refuse)
    monkeypatch.setattr(OwnLearner, "cross_fit", refuse)
    again = run(data.study, data.chips, encoder=encoder, keep=tmp_path)
    pd.testing.assert_frame_equal(first.estimates, again.estimates)
    assert again.nuisances.summary() == first.nuisances.summary()


def test_other_data_or_settings_are_other_steps(data, tmp_path):
    run(data.study, data.chips, keep=tmp_path)
    run(data.study, data.chips, keep=tmp_path, outcome_learner=Ridge(2.0))
    assert len(list((tmp_path / "steps").iterdir())) == 6
    table = data.study.table
    table["outcome"] = table["outcome"] + np.arange(len(table)) / 100
    changed = tc.Study(table, **data.study.roles.arguments())
    run(changed, data.chips, keep=tmp_path)
    assert len(list((tmp_path / "steps").iterdir())) == 9


def test_a_damaged_step_is_computed_again(data, tmp_path, caplog):
    first = run(data.study, data.chips, keep=tmp_path)
    for path in (tmp_path / "steps").iterdir():
        path.write_bytes(b"half a file")
    again = run(data.study, data.chips, keep=tmp_path)
    assert "computed again" in caplog.text
    pd.testing.assert_frame_equal(first.estimates, again.estimates)


def test_effects_are_kept_with_their_origin(tmp_path):
    study = tc.simulate_study(n_sites=20, random_state=0).study
    folds = study.folds(2, random_state=0)
    origin = tc.effects.EffectOrigin("Forest()", folds=folds.labels)

    def make():
        return tc.effects.origin.with_origin(study.outcome.rename("cate"), origin)

    keeper = steps.Steps.at(tmp_path)
    made = keeper.effects("effects", [1], [folds], make)
    kept = keeper.effects("effects", [1], [folds], lambda: None)
    pd.testing.assert_series_equal(made, kept)
    assert tc.effects.origin_of(kept).learner == "Forest()"
    assert tc.effects.origin_of(kept).folds.equals(folds.labels)


# -- bad input, before anything is trained -------------------------------------------------------


@pytest.fixture
def untrained(monkeypatch):
    """Fail where anything is encoded or trained."""

    def refuse(*arguments, **options):
        raise AssertionError("something was trained before the input was checked")

    monkeypatch.setattr("terracausal.workflows.adjusting.cross_fit", refuse)
    monkeypatch.setattr(tc.BandStatisticsEncoder, "fit", refuse)


@pytest.mark.usefixtures("untrained")
@pytest.mark.parametrize(
    ("change", "error", "told"),
    [
        ({"trimm": 0.1}, TypeError, "'trimm'; did you mean 'trim'"),
        ({"tarket": "all"}, TypeError, "'tarket'; did you mean 'target'"),
        ({"trim": 0.7}, ValueError, "`trim` must lie strictly between 0 and 0.5; got 0.7"),
        ({"target": "everyone"}, ValueError, "got 'everyone'"),
        ({"n_folds": 1}, ValueError, "`n_folds` must be an integer of at least 2; got 1"),
        ({"n_folds": 500}, RoleError, "found 150 clusters for 500 folds"),
        ({"n_repeats": 0}, ValueError, "`n_repeats` must be an integer of at least 1; got 0"),
        ({"encoder": "clip"}, TypeError, "got str"),
        ({"encoder": TrainedEncoder()}, LeakageError, "TrainedEncoder learns from outcomes"),
        ({"outcome_learner": "forest"}, ValueError, "'forest'"),
        ({"dependence": Dependence("two_way")}, ValueError, "got 'two_way'"),
        ({"n_components": 0}, ValueError, "`n_components` must be .* got 0"),
        ({"random_state": "today"}, TypeError, "got str"),
    ],
)
def test_bad_arguments_are_refused_before_training(data, change, error, told):
    with pytest.raises(error, match=told):
        run(data.study, data.chips, **change)


@pytest.mark.usefixtures("untrained")
def test_bad_studies_and_images_are_refused_before_training(data):
    chips, study = data.chips, data.study
    with pytest.raises(TypeError, match="`study` must be a Study; got DataFrame"):
        run(study.table, chips)
    with pytest.raises(TypeError, match="DataFrame of embeddings by site; got list"):
        run(study, [1])
    with pytest.raises(TypeError, match="is a table of embeddings already"):
        run(study, pd.DataFrame({"a": 0.0}, index=chips.keys))
    joined = study.join(pd.DataFrame({"ndvi": 0.5}, index=chips.keys))
    with pytest.raises(RoleError, match="already has 1 joined columns"):
        run(joined, chips)
    with pytest.raises(RoleError, match="no `site` column"):
        run(study.with_roles(site=None), chips)
    with pytest.raises(AlignmentError, match="1 sites with 1 units have none"):
        run(study, chips.select(chips.keys[1:]))
    with pytest.raises(RoleError, match="needs coordinates; the study has none"):
        run(study.with_roles(coords=None), chips, dependence=Dependence("conley", cutoff_m=1e4))
    late = Chips.from_arrays(
        np.ones((150, 1, 1, 2, 2)), sites=chips.keys, bands=["red"], times=["2020-01-01"]
    )
    with pytest.raises(LeakageError, match="150 of 150 sites have images from treatment"):
        run(study.with_roles(treatment_date="2010-01-01"), late)
