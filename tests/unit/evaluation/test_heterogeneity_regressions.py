"""Calibration and projection: brute-force jackknife, identities, refusals."""

import numpy as np
import pandas as pd
import pytest

from terracausal._foundation.errors import AlignmentError, LeakageError, RoleError
from terracausal.effects import EffectOrigin
from terracausal.effects.origin import with_origin
from terracausal.evaluation.calibration import calibration_test
from terracausal.evaluation.projection import best_linear_projection
from terracausal.nuisance import Scores
from terracausal.study import Dependence


def make_table(rng, n_units=120, n_clusters=20):
    x = rng.normal(size=n_units)
    w = rng.permutation(np.arange(n_units) % 2)
    e = rng.uniform(0.3, 0.7, n_units)
    y = x + w * (1 + x) + rng.normal(size=n_units)
    table = pd.DataFrame({"outcome": y, "treatment": w, "propensity": e, "x": x})
    table["outcome_control"], table["outcome_treated"] = 0.8 * x, 0.8 * x + 1
    mu = np.where(w == 1, table["outcome_treated"], table["outcome_control"])
    table["score"] = 1 + (w - e) / (e * (1 - e)) * (y - mu)
    table["cluster"] = np.arange(n_units) % n_clusters
    table["weight"] = rng.uniform(0.5, 2, n_units)
    table["lon"], table["lat"] = rng.normal(size=(2, n_units))
    return table


@pytest.fixture
def table(rng):
    return make_table(rng)


def jackknife(design, y, v, cluster):
    """Return coefficients and errors by leaving out each cluster in turn."""

    def fit(keep):
        x, weight = design[keep], v[keep, None]
        return np.linalg.solve(x.T @ (weight * x), x.T @ (v[keep] * y[keep]))

    full = fit(np.ones(len(y), dtype=bool))
    moves = np.array([fit(cluster != label) - full for label in np.unique(cluster)])
    return full, np.sqrt((moves**2).sum(axis=0))


@pytest.mark.parametrize("clustered", [True, False])
def test_projection_is_the_jackknife(table, clustered):
    used = table if clustered else table.drop(columns="cluster")
    scores = Scores.from_dataframe(used)
    design = np.column_stack([np.ones(len(table)), table["x"]])
    labels = table["cluster"].to_numpy() if clustered else np.arange(len(table))
    value, error = jackknife(design, table["score"].to_numpy(), table["weight"].to_numpy(), labels)
    found = best_linear_projection(scores, table[["x"]])
    np.testing.assert_allclose(found.value, value, rtol=1e-10)
    np.testing.assert_allclose(found.std_error, error, rtol=1e-10)


def test_calibration_is_the_jackknife(table, rng):
    effects = pd.Series(1 + 0.5 * table["x"] + 0.1 * rng.normal(size=len(table)))
    v, e = table["weight"], table["propensity"]
    mean = np.average(effects, weights=v)
    y_hat = e * table["outcome_treated"] + (1 - e) * table["outcome_control"]
    gap = table["treatment"] - e
    design = np.column_stack([gap * mean, gap * (effects - mean)])
    value, error = jackknife(
        design, (table["outcome"] - y_hat).to_numpy(), v.to_numpy(), table["cluster"].to_numpy()
    )
    found = calibration_test(Scores.from_dataframe(table), effects.sample(frac=1, random_state=0))
    np.testing.assert_allclose(found.value, value, rtol=1e-10)
    np.testing.assert_allclose(found.std_error, error, rtol=1e-10)


def test_without_columns_the_projection_is_the_average(table):
    found = best_linear_projection(Scores.from_dataframe(table))
    assert found.value[0] == pytest.approx(np.average(table["score"], weights=table["weight"]))


def test_categories_are_compared_with_their_first_level(table, rng):
    region = pd.Series(rng.permutation(["north", "south", "west"] * 40), name="region")
    scores = Scores.from_dataframe(table.drop(columns="weight"))
    found = best_linear_projection(scores, region)
    means = table["score"].groupby(region).mean()
    assert found.terms == ("(intercept)", "region = south", "region = west")
    gaps = [means["north"], means["south"] - means["north"], means["west"] - means["north"]]
    np.testing.assert_allclose(found.value, gaps)


def test_a_far_reaching_conley_error_is_not_the_clustered_one(table):
    scores = Scores.from_dataframe(table)
    near = best_linear_projection(
        scores, table[["x"]], dependence=Dependence("conley", cutoff_m=1.0)
    )
    alone = best_linear_projection(scores, table[["x"]], dependence=Dependence("hc"))
    wide = best_linear_projection(
        scores, table[["x"]], dependence=Dependence("conley", cutoff_m=200_000)
    )
    np.testing.assert_allclose(near.std_error, alone.std_error, rtol=1e-10)
    assert abs(wide.std_error / alone.std_error - 1).max() > 0.01


def test_repeats_give_the_median(table, rng):
    runs = [Scores.from_dataframe(make_table(rng)) for _ in range(3)]
    joined = Scores(runs[0].table, repeats=tuple(runs[1:]))
    x = table[["x"]]
    each = np.array([best_linear_projection(run, x).value for run in runs])
    np.testing.assert_allclose(best_linear_projection(joined, x).value, np.median(each, axis=0))


def test_scale_of_effects_moves_the_coefficients_inversely(table):
    scores, effects = Scores.from_dataframe(table), 1 + table["x"]
    one, double = calibration_test(scores, effects), calibration_test(scores, 2 * effects)
    np.testing.assert_allclose(double.value, one.value / 2)
    np.testing.assert_allclose(double.p_value, one.p_value)
    flipped = calibration_test(scores, 1 - table["x"])
    assert flipped.value[1] < 0 < one.value[1]
    assert flipped.p_value[1] > 0.5 > one.p_value[1]


def test_out_of_fold_effects_are_centred_by_fold_and_widened(table):
    scores, fold = Scores.from_dataframe(table), pd.Series(np.arange(len(table)) % 5)
    effects = 1 + table["x"] + 3 * fold
    origin = EffectOrigin("learner", folds=fold)
    found = calibration_test(scores, with_origin(effects.copy(), origin))
    inside = table["x"] - fold.map(
        (table["x"] * table["weight"]).groupby(fold).sum() / table["weight"].groupby(fold).sum()
    )
    plain = calibration_test(scores, inside + np.average(effects, weights=table["weight"]))
    np.testing.assert_allclose(found.value, plain.value)
    np.testing.assert_allclose(found.std_error, plain.std_error * [1, np.sqrt(2)])
    assert "each of 5 folds" in found.summary()
    pooled = calibration_test(scores, with_origin(effects.copy(), origin), centre_within="all")
    assert abs(pooled.value[1] - found.value[1]) > 0.01


def test_results_can_be_shown(table):
    found = calibration_test(Scores.from_dataframe(table), 1 + table["x"])
    assert found.to_dataframe()["term"].tolist() == ["mean prediction", "differential prediction"]
    assert "<table" in found._repr_html_()
    assert found.plot().get_xlabel() == "Calibration"


# -- refusals ----------------------------------------------------------------------------------


def in_sample(effects):
    return with_origin(effects.copy(), EffectOrigin("Learner()", trained_on=effects.index))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda x: x * 0 + 2, RoleError, "must differ .* all 120 are 2"),
        (lambda x: x.where(x.index > 3), ValueError, "4 of 120 values are NaN"),
        (lambda x: x.set_axis(x.index + 7), AlignmentError, "7 are missing"),
        (in_sample, LeakageError, "fitted on 120 of the 120 units"),
        (lambda x: x.to_numpy()[:5], AlignmentError, r"shape \(120,\); got \(5,\)"),
    ],
    ids=["constant", "nan", "other index", "in sample", "short"],
)
def test_bad_effects(table, change, error, message):
    with pytest.raises(error, match=message):
        calibration_test(Scores.from_dataframe(table), change(table["x"]))


def test_centring_in_folds_needs_folds(table):
    scores = Scores.from_dataframe(table)
    with pytest.raises(ValueError, match=r"centre_within='folds' needs effects from .* an array"):
        calibration_test(scores, table["x"].to_numpy(), centre_within="folds")
    with pytest.raises(ValueError, match=r"`centre_within` must be one of .* got 'sites'"):
        calibration_test(scores, table["x"], centre_within="sites")


@pytest.mark.parametrize("name", ["outcome", "propensity", "outcome_treated"])
def test_missing_columns_are_named(table, name):
    with pytest.raises(RoleError, match=rf"calibration test needs the column '{name}'"):
        calibration_test(Scores.from_dataframe(table.drop(columns=name)), table["x"])


@pytest.mark.parametrize("run", [calibration_test, best_linear_projection])
def test_outcome_of_one_value_and_one_cluster(table, run):
    with pytest.raises(RoleError, match=r"outcome must vary .* 1 for all 120 units"):
        run(Scores.from_dataframe(table.assign(outcome=1.0)), table["x"])
    with pytest.raises(RoleError, match="at least 2 clusters; the scores have 1"):
        run(Scores.from_dataframe(table.assign(cluster=0)), table["x"])


def test_bad_columns(table):
    scores = Scores.from_dataframe(table)
    with pytest.raises(RoleError, match=r"1 of 3 terms .* 'twice'"):
        best_linear_projection(scores, table[["x"]].assign(twice=2 * table["x"]))
    with pytest.raises(RoleError, match="1 of 1 columns do: 'x'"):
        best_linear_projection(scores, table[["x"]].shift(2))
    with pytest.raises(LeakageError):
        best_linear_projection(scores, in_sample(table["x"]))
    with pytest.raises(RoleError, match="1 of 20 clusters determine one alone"):
        best_linear_projection(scores, (table["cluster"] == 3).rename("district"))
    with pytest.raises(RoleError, match="more units than terms; got 120 units and 121 terms"):
        best_linear_projection(scores, np.random.default_rng(0).normal(size=(120, 120)))
