"""The linear DR-learner: its coefficients are a regression of scores, its intervals follow."""

import numpy as np
import pandas as pd
import pytest

from terracausal._foundation.errors import RoleError
from terracausal.effects import LinearDRLearner
from terracausal.evaluation import best_linear_projection
from terracausal.nuisance import cross_fit, doubly_robust_scores
from terracausal.study import Dependence, Study


@pytest.fixture
def table(rng):
    n = 120
    site, x = np.arange(n) // 3, rng.normal(size=n)
    w = rng.permutation(np.arange(n) % 2)
    y = w * (1 + x) + rng.normal(size=n)
    lon, lat = 30 + site / 50, site % 7 / 10
    v = rng.uniform(0.5, 2, n)
    return pd.DataFrame(
        {"y": y, "w": w, "site": site, "x": x, "z": x + rng.normal(size=n), "v": v, "lon": lon}
    ).assign(lat=lat)


def study_of(table, **roles):
    chosen = {"site": "site", "covariates": ["x", "z"], "propensity": 0.5} | roles
    return Study(table, outcome="y", treatment="w", **chosen)


@pytest.mark.parametrize("roles", [{}, {"weight": "v"}, {"site": None}])
def test_coefficients_are_the_best_linear_projection(table, roles):
    study = study_of(table, **roles)
    fitted = LinearDRLearner(n_folds=3, random_state=0).fit(study)
    rng = np.random.default_rng(0)
    nuisances = cross_fit(study, study.folds(3, random_state=rng), random_state=rng)
    scores = doubly_robust_scores(study, nuisances)
    expected = best_linear_projection(scores, table[["x", "z"]])
    np.testing.assert_allclose(fitted.coefficients_.value, expected.value)
    np.testing.assert_allclose(fitted.coefficients_.covariance, expected.covariance)
    assert fitted.coefficients_.terms == ("(intercept)", "x", "z")


def test_intervals_by_hand(table):
    fitted = LinearDRLearner(random_state=0).fit(study_of(table))
    new = pd.DataFrame({"z": [0.0, 1.0], "x": [2.0, -1.0]}, index=["a", "b"])
    found = fitted.predict_interval(new, level=0.9)
    estimate = fitted.coefficients_
    for key, x, z in (("a", 2.0, 0.0), ("b", -1.0, 1.0)):
        row = np.array([1.0, x, z])
        # the same as a combination of estimates
        assert found.loc[key, "cate"] == pytest.approx(row @ estimate.value)
        std_error = np.sqrt(row @ estimate.covariance @ row)
        assert found.loc[key, "std_error"] == pytest.approx(std_error)
    origin = pd.DataFrame({"x": [0.0], "z": [0.0]})
    intercept = estimate.confint(0.9)[0]
    at_zero = fitted.predict_interval(origin, 0.9)[["ci_low", "ci_high"]].to_numpy()[0]
    np.testing.assert_allclose(at_zero, intercept)
    pd.testing.assert_series_equal(found["cate"], fitted.predict(new))
    with pytest.raises(ValueError, match=r"`level` must .* got 95"):
        fitted.predict_interval(new, 95)


def test_spatial_standard_errors(table):
    study = study_of(table, coords=("lon", "lat"))
    conley = Dependence("conley", cutoff_m=50_000)
    fitted = LinearDRLearner(dependence=conley, random_state=0).fit(study)
    assert "spatial (Conley" in fitted.coefficients_.describe_std_error()
    plain = LinearDRLearner(random_state=0).fit(study)
    assert (fitted.coefficients_.std_error != plain.coefficients_.std_error).all()
    np.testing.assert_allclose(fitted.coefficients_.value, plain.coefficients_.value)


def test_more_features_than_it_supports(table, rng):
    # 40 clusters are enough for 8 coefficients
    wide = pd.DataFrame(rng.normal(size=(40, 6))).add_prefix("e")
    study = study_of(table).join(wide, "modifier")
    with pytest.raises(
        RoleError, match=r"got 40 clusters for 9 coefficients \(8 features\)"
    ) as caught:
        LinearDRLearner(random_state=0).fit(study)
    assert "at most 7 features: reduce embeddings with n_components" in str(caught.value)
    fitted = LinearDRLearner(n_components=5, random_state=0).fit(study)
    assert len(fitted.coefficients_.terms) == 8
    assert fitted.coefficients_.terms[-1] == "component_4"


def test_a_column_that_one_cluster_knows_is_left_out_and_told(table):
    table.loc[table.index[:2], "x"] = np.nan
    fitted = LinearDRLearner(random_state=0).fit(study_of(table))
    assert fitted.columns_ == ["x", "z"]
    assert "fewer than 2 clusters and were left out: 'x_missing'" in fitted.coefficients_.summary()
    assert np.isfinite(fitted.predict_interval(table)).all(axis=None)
    table.loc[table.index[60:62], "x"] = np.nan
    assert "x_missing" in LinearDRLearner(random_state=0).fit(study_of(table)).columns_


def test_columns_that_others_determine_are_named(table):
    with pytest.raises(RoleError, match=r"1 of 3 terms are constant or determined .* 'z'"):
        LinearDRLearner(random_state=0).fit(study_of(table.assign(z=2 * table["x"] - 1)))
