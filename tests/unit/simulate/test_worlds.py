"""Worlds keep the identities that their description promises, for every seed."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pyproj
import pytest
from scipy import stats

from terracausal.simulate import SimulatedStudy, WorldSettings, simulate_study
from terracausal.simulate.sites import chip_means, standardise
from terracausal.simulate.trials import assign_half
from terracausal.study import Study, StudyData

TOLERANCE = {"rtol": 0, "atol": 1e-12}


def draw(landscape, **changes):
    arguments = {"n_sites": 24, "units_per_site": 3, "size_px": 16, "random_state": 0}
    return simulate_study(**{**arguments, "landscape": landscape, **changes})


@pytest.fixture(scope="module")
def data(landscape):
    return draw(landscape)


def test_counts_and_keys(data):
    assert isinstance(data, SimulatedStudy)
    assert isinstance(data, StudyData)
    assert (data.study.n_units, data.study.n_sites, len(data.chips)) == (72, 24, 24)
    assert data.name == "effect_modification"
    assert data.study.table.groupby("site").size().eq(3).all()
    assert list(data.chips.keys) == sorted(data.study.table["site"].unique())
    pd.testing.assert_index_equal(data.truth.index, data.study.units)
    assert list(data.truth) == [
        *("effect", "outcome_control", "outcome_treated", "propensity"),
        *("modifier", "site_effect", "noise"),
    ]


def test_truth_and_outcome_obey_their_identities(data):
    truth, table = data.truth, data.study.table
    np.testing.assert_allclose(
        truth["outcome_treated"] - truth["outcome_control"], truth["effect"], **TOLERANCE
    )
    treated = table["treatment"] == 1
    expected = truth["outcome_treated"].where(treated, truth["outcome_control"])
    np.testing.assert_allclose(
        table["outcome"], expected + truth["site_effect"] + truth["noise"], **TOLERANCE
    )
    assert truth["propensity"].eq(0.5).all()


def test_effects_have_exactly_the_mean_and_spread_that_were_asked_for(landscape):
    settings = WorldSettings(average_effect=-1.5, effect_sd=0.25)
    data = draw(landscape, settings=settings)
    by_site = data.truth.groupby(data.study.table["site"])["effect"]
    assert by_site.nunique().eq(1).all()
    effect = by_site.first()
    assert effect.mean() == pytest.approx(-1.5, abs=1e-12)
    assert effect.std(ddof=0) == pytest.approx(0.25, abs=1e-12)
    assert data.average_effect == pytest.approx(-1.5, abs=1e-12)


def test_the_modifier_is_the_cropland_that_lies_in_the_chip(data, landscape):
    """From the coordinates alone: find the chip's pixels, weigh their cropland, standardise."""
    first = data.study.table.drop_duplicates("site").set_index("site")
    project = pyproj.Transformer.from_crs("EPSG:4326", landscape.crs, always_xy=True)
    east, north = project.transform(first["lon"].to_numpy(), first["lat"].to_numpy())
    column, row = ~landscape.transform @ (east, north)
    means = []
    for site, centre_row, centre_column in zip(first.index, row, column, strict=True):
        top, left = round(centre_row - 8), round(centre_column - 8)
        assert abs(centre_row - 8 - top) < 1e-3
        square = (slice(top, top + 16), slice(left, left + 16))
        np.testing.assert_array_equal(data.chips[site][0], landscape.reflectance[:, *square])
        total = weights = 0.0
        for i in range(16):
            for j in range(16):
                weight = np.exp(-((i - 7.5) ** 2 + (j - 7.5) ** 2) / (2 * (16 / 3) ** 2))
                total += weight * landscape.layers["cropland"][square][i, j]
                weights += weight
        means.append(total / weights)
    expected = (np.array(means) - np.mean(means)) / np.std(means)
    modifier = data.truth["modifier"].groupby(data.study.table["site"]).first()
    np.testing.assert_allclose(modifier[first.index], expected, atol=1e-6)
    effect = data.truth["effect"].groupby(data.study.table["site"]).first()
    np.testing.assert_allclose(effect[first.index], 0.5 + 0.4 * expected, atol=1e-6)


def test_chips_carry_bands_resolution_and_distinct_places(data):
    assert data.chips["s0000"].shape == (1, 6, 16, 16)
    assert tuple(data.chips.bands) == ("blue", "green", "red", "nir", "swir1", "swir2")
    assert data.chips.resolution_m == 30.0
    places = data.study.table[["lon", "lat"]].drop_duplicates()
    assert len(places) == 24
    assert places["lon"].between(31.5, 33.0).all()
    assert places["lat"].between(2.0, 3.5).all()


@pytest.mark.parametrize("assignment", ["site", "unit"])
@pytest.mark.parametrize("n_sites", [24, 25])
def test_half_are_treated_and_sites_stay_whole_when_sites_are_assigned(
    landscape, assignment, n_sites
):
    settings = WorldSettings(assignment=assignment)
    table = draw(landscape, n_sites=n_sites, settings=settings).study.table
    arms = table.groupby("site")["treatment"].nunique()
    treated = table.drop_duplicates("site") if assignment == "site" else table
    assert abs(treated["treatment"].sum() - len(treated) / 2) <= 0.5
    assert arms.eq(1).all() == (assignment == "site")


def test_a_coin_decides_about_an_odd_unit():
    sums = [int(assign_half(5, np.random.default_rng(seed)).sum()) for seed in range(60)]
    assert set(sums) == {2, 3}  # one side alone has probability 2^-59
    heads = sum(total == 3 for total in sums)
    low, high = stats.binom.ppf([5e-6, 1 - 5e-6], 60, 0.5)
    assert low <= heads <= high


def test_same_seed_same_table_whether_the_landscape_is_given_or_made():
    first, again, other = (
        simulate_study(n_sites=10, units_per_site=2, size_px=16, random_state=seed)
        for seed in (0, 0, 1)
    )
    reused = simulate_study(
        n_sites=10, units_per_site=2, size_px=16, random_state=0, landscape=first.landscape
    )
    for same in (again, reused):
        pd.testing.assert_frame_equal(first.study.table, same.study.table)
        pd.testing.assert_frame_equal(first.truth, same.truth)
    assert not np.allclose(first.study.table["outcome"], other.study.table["outcome"])


def test_constant_world_differs_from_the_other_by_the_effect_alone(data, landscape):
    constant = draw(landscape, world="constant_effect")
    assert constant.name == "constant_effect"
    assert constant.settings.effect_sd == 0
    assert constant.truth["effect"].eq(0.5).all()
    assert constant.truth["modifier"].std() > 0.5
    gap = data.study.table["outcome"] - constant.study.table["outcome"]
    expected = data.study.table["treatment"] * 0.4 * data.truth["modifier"]
    np.testing.assert_allclose(gap, expected, **TOLERANCE)


def test_noise_and_site_effects_scale_with_their_settings(data, landscape):
    settings = WorldSettings(site_sd=0.6, noise_sd=0.0)
    other = draw(landscape, settings=settings)
    np.testing.assert_allclose(
        other.truth["site_effect"], 2 * data.truth["site_effect"], **TOLERANCE
    )
    assert not other.truth["noise"].any()
    site = data.study.table["site"]
    assert data.truth["site_effect"].groupby(site).nunique().eq(1).all()
    assert data.truth["noise"].nunique() == 72


def test_average_effect_ignores_the_order_of_rows_and_follows_dropped_units(data):
    def rebuilt(table):
        study = Study(table, outcome="outcome", treatment="treatment", site="site")
        return replace(data, study=study)

    table = data.study.table
    shuffled = rebuilt(table.sample(frac=1, random_state=1))
    assert shuffled.average_effect == pytest.approx(data.average_effect, abs=1e-12)
    half = rebuilt(table.iloc[:36])
    expected = data.truth["effect"].iloc[:36].mean()
    assert half.average_effect == pytest.approx(expected, abs=1e-12)
    assert abs(half.average_effect - data.average_effect) > 1e-3


def test_average_effect_follows_a_changed_truth(data):
    truth = data.truth.assign(effect=data.truth["effect"] + 1.0)
    assert replace(data, truth=truth).average_effect == pytest.approx(1.5, abs=1e-12)


def test_simple_pixel_statistics_reveal_most_of_the_modifier(landscape):
    from sklearn.linear_model import RidgeCV
    from sklearn.model_selection import KFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    data = draw(landscape, n_sites=200, units_per_site=1)
    pixels = np.stack([data.chips[site][0] for site in data.chips.keys])
    flat = pixels.reshape(200, 6, -1)
    features = np.concatenate([flat.mean(axis=2), flat.std(axis=2)], axis=1)
    learner = make_pipeline(StandardScaler(), RidgeCV(np.logspace(-2, 3, 11)))
    modifier = data.truth["modifier"].to_numpy()
    folds = KFold(5, shuffle=True, random_state=0)
    predicted = cross_val_predict(learner, features, modifier, cv=folds)
    r_squared = 1 - np.mean((modifier - predicted) ** 2)
    assert r_squared > 0.5


def test_description_says_what_is_true(data):
    text = data.describe()
    assert "treatment by site" in text
    assert "mean 0.5 and standard deviation 0.4" in text
    assert "cropland" in text


def test_chip_means_weigh_the_centre_most():
    layer = np.zeros((9, 9))
    layer[4, 4] = 1.0
    centred, off = chip_means(layer, np.array([[2, 2], [0, 0]]), 5)
    offset = np.arange(5) - 2
    weight = np.exp(-(offset[:, None] ** 2 + offset**2) / (2 * (5 / 3) ** 2))
    assert centred == pytest.approx(weight[2, 2] / weight.sum())
    assert off == pytest.approx(weight[4, 4] / weight.sum())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"world": "flat_earth"},
            "must be one of 'effect_modification', 'constant_effect', .* got 'flat_earth'",
        ),
        ({"n_sites": 3}, "`n_sites` must be an integer of at least 4; got 3"),
        ({"units_per_site": 0}, "`units_per_site` must be an integer of at least 1; got 0"),
        ({"size_px": 600}, r"24 chips of 600 pixels must fit .* 512 × 512 pixels"),
        ({"size_px": 511}, r"24 chips of 511 pixels must fit"),
    ],
)
def test_bad_arguments_are_named(landscape, arguments, message):
    with pytest.raises(ValueError, match=message):
        draw(landscape, **arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"assignment": "village"}, "must be one of 'site', 'unit'; got 'village'"),
        ({"noise_sd": -1.0}, "`noise_sd` must be finite and not negative; got -1.0"),
        ({"effect_sd": float("nan")}, "`effect_sd` must be .* got nan"),
        ({"average_effect": float("inf")}, "`average_effect` must be finite; got inf"),
    ],
)
def test_bad_settings_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        WorldSettings(**arguments)


def test_more_sites_than_dry_places_are_counted(landscape):
    layers = {**landscape.layers, "water": np.ones((512, 512), dtype=np.float32)}
    layers["water"][100:102, 100:103] = 0.0
    with pytest.raises(ValueError, match=r"`n_sites` must be at most 6, .* got 24"):
        draw(replace(landscape, layers=layers))


def test_a_landscape_without_differences_is_refused(landscape):
    flat = {**landscape.layers, "cropland": np.full((512, 512), 0.5, dtype=np.float32)}
    with pytest.raises(ValueError, match=r"all 24 sites have 0\.5"):
        draw(replace(landscape, layers=flat))
    with pytest.raises(ValueError, match=r"all 3 sites have 0\.1"):
        standardise(np.full(3, 0.1))
