"""The Youth Opportunities Program, from file to targeting curve: a real experiment's numbers."""

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.linear_model import LinearRegression, LogisticRegression

import terracausal as tc
from terracausal._foundation.errors import LeakageError
from terracausal.datasets.uganda_yop import read_rdata

COVARIATES = ("x3", "x5", "female")
TWINS = {159: 157, 229: 228}
N_SEEDS = 5


@pytest.fixture(scope="module")
def folder(data_root):
    found = data_root / "uganda_yop"
    if not found.is_dir():
        pytest.skip(f"no uganda_yop in {data_root}")
    return found


@pytest.fixture(scope="module")
def data(folder):
    return tc.load_dataset("uganda_yop", root=folder.parent)


@pytest.fixture(scope="module")
def shuffled(data):
    """Return the study with its rows, and the chips with their sites, in another order."""
    rng = np.random.default_rng(1)
    rows = rng.permutation(data.study.n_units)
    study = tc.Study(data.study.table.iloc[rows], **data.study.roles.arguments())
    chips = data.chips.select(data.chips.keys[rng.permutation(data.chips.n_sites)])
    assert not study.units.equals(data.study.units)
    assert not chips.keys.equals(data.chips.keys)
    return study, chips


def fitted_scores(study, folds, random_state=0):
    nuisances = tc.cross_fit(study, folds, random_state=random_state)
    return tc.doubly_robust_scores(study, nuisances)


def largest_difference(one, other):
    one = one.loc[other.index]
    return np.abs(one.to_numpy(dtype=float) - other.to_numpy(dtype=float)).max()


# -- what is in it ---------------------------------------------------------------------------------


def test_design(data, folder):
    study = data.study
    assert (study.n_units, study.n_sites, study.n_clusters) == (2082, 327, 327)
    assert int(study.treatment.sum()) == 825
    assert "49 with both arms, 110 only treated, 168 only control" in study.describe()
    assert "x3: 7 missing values" in study.describe()
    decoded = pd.read_csv(folder / "units.csv", index_col="unit")
    names = ["site", "treated", "outcome", "female", "x3", "x5"]
    pd.testing.assert_frame_equal(
        study.table[names], decoded[names], check_dtype=False, check_index_type=False
    )


def test_the_full_matrix_is_refused_with_its_leaking_columns(data, folder):
    matrix = np.asarray(read_rdata(folder / "CausalImagesTutorialData.RData")["X"])
    names = [str(number) for number in range(7)]
    table = data.study.table.join(pd.DataFrame(matrix, data.study.units, names))
    roles = {"outcome": "outcome", "treatment": "treated", "site": "site"}
    with pytest.raises(LeakageError, match=r"4 of 7 covariates .*: '0', '2', '4', '6'") as caught:
        tc.Study(table, covariates=names, **roles)
    for name in ("1", "3", "5"):
        assert f"'{name}'" not in str(caught.value)
    kept = tc.Study(table, covariates=["1", "3", "5"], **roles)
    assert kept.n_units == 2082


def test_duplicate_chips_are_told(data):
    manifest = data.chips.manifest.set_index("site")["duplicate_of"].dropna()
    assert manifest.to_dict() == TWINS
    told = "duplicates: 157 = 159, 228 = 229 (identical pixels)"
    assert told in data.chips.describe()
    assert told in data.describe()


def test_geotiffs_hold_the_same_pixels(data, folder):
    sites = pd.read_csv(folder / "sites.csv")
    chips = tc.read_chips(folder / "chips", sites, size_px=35, bands=data.chips.bands)
    assert set(chips.keys) == set(data.chips.keys)
    assert chips.crs.to_epsg() == 32636
    assert chips.resolution_m == pytest.approx(14.25)
    for site in chips:
        np.testing.assert_array_equal(chips[site], data.chips[site])
    assert chips.manifest.set_index("site")["duplicate_of"].dropna().to_dict() == TWINS


# -- average effects -------------------------------------------------------------------------------


def test_difference_in_means(data):
    folds = data.study.folds(random_state=0)
    scores = fitted_scores(data.study, folds)
    found = tc.average_effect(scores, method="difference_in_means")
    assert found.value[0] == pytest.approx(0.7415, abs=0.0005)
    assert found.std_error[0] == pytest.approx(0.0755, abs=0.0005)  # by site, unasked
    assert found.with_std_error("hc").std_error[0] == pytest.approx(0.0615, abs=0.0005)
    assert "clustered (327 clusters)" in found.summary()

    study = data.study.with_roles(strata="district")
    within = tc.average_effect(fitted_scores(study, folds), method="difference_in_means")
    assert within.value[0] == pytest.approx(0.772, abs=0.005)
    # the tables' own figure for 14 district dummies, clustered, with another small-sample factor
    assert within.std_error[0] == pytest.approx(0.0746, abs=0.0005)


def test_doubly_robust_average_with_random_features(data):
    encoder = tc.RandomConvEncoder(n_features=512, random_state=0)
    study = data.study.join(encoder.fit_transform(data.chips), role="modifier")
    assert set(study.roles.covariates) == set(COVARIATES)
    found = tc.average_effect(fitted_scores(study, study.folds(random_state=0)))
    assert 0.68 < found.value[0] < 0.82
    assert 0.065 < found.std_error[0] < 0.09
    assert "clustered (327 clusters)" in found.summary()


# -- targeting -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def targeting(data):
    """Return the AUTOC of a ridge DR-learner on band statistics for a few seeds."""
    embeddings = tc.BandStatisticsEncoder().fit_transform(data.chips)
    study = data.study.join(embeddings, role="modifier")
    found = []
    for random_state in range(N_SEEDS):
        folds = study.folds(random_state=random_state)
        learner = tc.DRLearner(use="embeddings", random_state=random_state)
        priority = learner.cross_predict(study, folds)
        scores = fitted_scores(study, folds, random_state)
        found.append(tc.rank_weighted_effect(scores, priority, random_state=random_state))
    return found


def test_images_rank_effects_modestly(targeting):
    mean = np.mean([rate.value[0] for rate in targeting])
    assert 0.08 < mean < 0.32
    std_error = np.mean([rate.std_error[0] for rate in targeting])
    assert 0.06 < std_error < 0.10  # "about 0.08"


def test_targeting_counts_sites_and_ranks_within_folds(targeting):
    told = targeting[0].summary()
    assert "327 clusters; 2,082 units" in told
    assert "within each of 5 folds" in told
    assert targeting[0].n_clusters == 327


# -- the order of rows and chips -------------------------------------------------------------------

EXACT = 1e-12


@pytest.mark.parametrize(
    "encoder",
    [
        tc.BandStatisticsEncoder(normalized_differences=[("nir", "green")]),
        tc.RandomConvEncoder(n_features=64, random_state=0),
    ],
    ids=["statistics", "random features"],
)
def test_chip_order_changes_no_embedding(data, shuffled, encoder):
    # also the random features, which are float32 inside: patches are drawn by site key, every
    # chip is convolved on its own, so not even a rounding depends on the order
    one = clone(encoder).fit(data.chips)
    other = clone(encoder).fit(shuffled[1])
    pd.testing.assert_frame_equal(
        other.transform(shuffled[1]).loc[data.chips.keys],
        one.transform(data.chips),
        check_exact=True,
    )


def test_random_features_do_not_depend_on_the_company_of_a_chip(data):
    encoder = tc.RandomConvEncoder(n_features=64, random_state=0).fit(data.chips)
    together = encoder.transform(data.chips)
    alone = pd.concat([encoder.transform(data.chips.select([site])) for site in (1, 159, 327)])
    # float32 sums may be taken in another order when the batch is smaller
    scale = float(together.abs().to_numpy().max())
    np.testing.assert_allclose(alone, together.loc[alone.index], rtol=0, atol=1e-5 * scale)
    np.testing.assert_array_equal(together.loc[159], together.loc[157])


@pytest.fixture(scope="module")
def two_analyses(data, shuffled):
    """Return folds, scores and effects of the same analysis for both orders."""
    found = []
    for study, chips in ((data.study, data.chips), shuffled):
        joined = study.join(tc.BandStatisticsEncoder().fit_transform(chips), role="modifier")
        folds = joined.folds(random_state=0)
        priority = tc.DRLearner(random_state=0).cross_predict(joined, folds)
        found.append((folds, fitted_scores(joined, folds), priority))
    return found


def test_row_order_changes_no_fold_score_or_effect(two_analyses):
    (folds, scores, priority), (other_folds, other_scores, other_priority) = two_analyses
    assert largest_difference(folds.labels, other_folds.labels) == 0
    names = ["score", "propensity", "outcome_control", "outcome_treated", "outcome", "treatment"]
    assert largest_difference(scores.table[names], other_scores.table[names]) < EXACT
    assert largest_difference(priority, other_priority) < EXACT


@pytest.mark.parametrize("method", ["aipw", "hajek", "ipw", "difference_in_means"])
def test_row_order_changes_no_average(two_analyses, method):
    one, other = (tc.average_effect(scores, method=method) for _, scores, _ in two_analyses)
    assert abs(one.value - other.value).max() < EXACT
    assert abs(one.std_error - other.std_error).max() < EXACT
    spatial = [each.with_std_error("conley", cutoff_m=20_000).std_error for each in (one, other)]
    assert abs(spatial[0] - spatial[1]).max() < EXACT


@pytest.mark.parametrize("target", ["AUTOC", "QINI"])
def test_row_order_changes_no_rate(two_analyses, target):
    # units of one site with equal covariates must stay exactly tied
    one, other = (
        tc.rank_weighted_effect(scores, priority, target, random_state=0)
        for _, scores, priority in two_analyses
    )
    assert abs(one.value - other.value).max() < EXACT
    assert abs(one.std_error - other.std_error).max() < EXACT
    np.testing.assert_allclose(one.curve, other.curve, rtol=0, atol=EXACT)


# -- whole analyses --------------------------------------------------------------------------------


def test_images_confound_nothing_in_a_trial(data):
    """The published difference within districts, and an adjustment that does not move it."""
    found = tc.analyze_confounding(
        data.study.with_roles(strata="district"),
        data.chips,
        encoder=tc.BandStatisticsEncoder(),
        n_repeats=1,
        n_components=5,
        outcome_learner=LinearRegression(),
        propensity_learner=LogisticRegression(max_iter=1000),
        random_state=0,
    )
    first = found.estimates.iloc[0]
    assert first["term"] == "strata only"
    assert first["estimate"] == pytest.approx(0.7724, abs=5e-5)
    assert first["std_error"] == pytest.approx(0.0746, rel=0.01)
    # a trial has nothing to adjust for, so only chance can move the estimate
    moved = found.comparison.moved()
    assert moved.p_value[0] > 1e-5
