"""Dose-response: exact influence, algebra of the curve, double robustness, refusals."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.dummy import DummyRegressor
from sklearn.linear_model import LinearRegression

from terracausal._foundation.errors import LeakageError, OverlapError, OverlapWarning, RoleError
from terracausal.effects import dose_response
from terracausal.effects.dose_coefficients import (
    CurveParts,
    balancing_weights,
    curve_coefficients,
)
from terracausal.effects.dose_spline import DoseSpline
from terracausal.nuisance.conditional_density import ResidualDensity, fit_density
from terracausal.nuisance.dose import DoseNuisances

N = 400
LINEAR = {"outcome_learner": LinearRegression(), "dose_learner": LinearRegression()}


def make_table(rng, n_units=N):
    x = rng.normal(size=(n_units, 2))
    table = pd.DataFrame(x, columns=["x1", "x2"]).assign(site=np.arange(n_units) // 2)
    table["dose"] = 3 + 0.4 * x[:, 0] + rng.normal(size=n_units)
    table["y"] = (
        table["dose"] - 0.1 * table["dose"] ** 2 + x @ [1.0, 0.5] + rng.normal(size=n_units)
    )
    table["lon"], table["lat"] = rng.uniform(30, 31, (2, n_units))
    return table.set_index(pd.Index(rng.permutation(n_units) + 1000))


def fit(table, **changes):
    given = {"treatment": "dose", "outcome": "y", "covariates": ["x1", "x2"], "random_state": 0}
    return dose_response(table, **(given | changes))


@pytest.fixture(scope="module")
def table():
    return make_table(np.random.default_rng(3))


@pytest.fixture(scope="module")
def found(table):
    return fit(table)


def synthetic_parts(rng, n_units, n_basis, weight):
    """Nuisances drawn at random; every dose is on the grid, so nothing is interpolated."""
    dose = np.sort(rng.normal(size=n_units))
    nuisances = DoseNuisances(
        pd.RangeIndex(n_units), np.zeros(n_units, dtype=int), dose, rng.normal(size=n_units),
        rng.uniform(0.5, 1, n_units), rng.normal(size=(n_units, n_units)),
        rng.uniform(0.5, 1, (n_units, n_units)), np.zeros(n_units), {}, pd.DataFrame(),
    )  # fmt: skip
    basis = DoseSpline.of(dose, n_basis).basis(dose)
    basis[:2] = 0.0  # outside the support
    residual = rng.normal(size=n_units)

    def parts(weight):
        balancing, capped = balancing_weights(nuisances, dose, weight)
        assert not capped.any()
        return CurveParts(nuisances, basis, dose, residual, balancing, ~capped, weight)

    return parts


def test_influence_is_the_derivative_by_a_weight(rng):
    """Nuisances fixed and one fold: n times d coefficients / d log v_i, by differences."""
    n_units, n_basis = 600, 4
    weight = rng.uniform(0.5, 1.5, n_units)
    weight /= weight.mean()
    parts = synthetic_parts(rng, n_units, n_basis, weight)
    influence = curve_coefficients(parts(weight), None)[1]
    step = 1e-4
    for i in (0, 1, 100, 150, 299, 500):
        up, down = weight.copy(), weight.copy()
        up[i] += step
        down[i] -= step
        ends = [curve_coefficients(parts(v), None)[0] for v in (up, down)]
        derivative = weight[i] * n_units * (ends[0] - ends[1]) / (2 * step)
        # the jackknife divides by one less the leverage, 4 in 600 on average and more at the ends
        scale = np.abs(derivative).max()
        assert np.abs(derivative - influence[i]).max() < 0.05 * scale


def test_the_part_of_the_residuals_is_the_jackknife(rng):
    """With the same means for all units, leaving out a cluster changes the regressions only."""
    n_units, weight = 60, np.ones(60)
    parts = synthetic_parts(rng, n_units, 4, weight)(weight)
    flat = {
        name: np.tile(getattr(parts.nuisances, name)[0], (n_units, 1))
        for name in ("outcome", "density")
    }
    parts = parts._replace(nuisances=replace(parts.nuisances, **flat))
    cluster = np.arange(n_units) // 3
    value, influence = curve_coefficients(parts, cluster)
    for left_out in (0, 7, 19):
        kept = cluster != left_out

        def fit(y, v, kept=kept):
            x = parts.basis[kept] * np.sqrt(v[kept])[:, None]
            return np.linalg.lstsq(x, y[kept] * np.sqrt(v[kept]), rcond=None)[0]

        mean = flat["outcome"][0]
        without = fit(mean, weight) + fit(parts.residual, parts.balancing)
        moved = influence[~kept].sum(axis=0) / n_units / np.sqrt(1 - 1 / 20)
        assert value - without == pytest.approx(moved, rel=1e-8, abs=1e-12)


def test_a_function_of_the_dose_needs_no_weights(rng):
    """A residual that the splines can follow is taken out exactly, whatever the weights."""
    weight = np.ones(60)
    parts = synthetic_parts(rng, 60, 5, weight)(weight)
    shift = parts.basis @ np.arange(5.0)
    one = curve_coefficients(parts, None)
    other = curve_coefficients(parts._replace(residual=parts.residual + shift), None)
    assert other[0] - one[0] == pytest.approx(np.arange(5.0))
    assert other[1] == pytest.approx(one[1])


def test_the_order_of_rows_reaches_no_number(table, found):
    shuffled = fit(table.sample(frac=1, random_state=1))
    assert shuffled.value == pytest.approx(found.value, rel=1e-10)
    assert shuffled.std_error == pytest.approx(found.std_error, rel=1e-10)
    assert shuffled.critical_value() == pytest.approx(found.critical_value(), rel=1e-6)


@pytest.mark.parametrize("learners", [None, LINEAR])
def test_units_of_outcome_and_dose(table, learners):
    plain = fit(table, learners=learners)
    outcome = fit(table.assign(y=5 - 3 * table["y"]), learners=learners)
    assert outcome.value == pytest.approx(5 - 3 * plain.value, rel=1e-6)
    assert outcome.std_error == pytest.approx(3 * plain.std_error, rel=1e-6)
    dose = fit(table.assign(dose=2 * table["dose"] + 1), learners=learners)
    assert dose.doses == pytest.approx(2 * plain.doses + 1)
    assert dose.value == pytest.approx(plain.value, rel=1e-6)
    assert dose.average_slope.value == pytest.approx(plain.average_slope.value / 2, rel=1e-6)


def test_a_common_factor_of_weights_changes_nothing(table):
    weight = np.random.default_rng(0).uniform(1, 2, N)
    one = fit(table.assign(v=weight), weight="v")
    other = fit(table.assign(v=7 * weight), weight="v")
    assert one.value == pytest.approx(other.value, rel=1e-9)
    assert one.value != pytest.approx(fit(table).value, rel=1e-3)


def test_contrasts_are_differences_of_the_curve(found):
    low, high = found.doses[[10, 40]]
    contrast = found.contrast(low, high)
    assert contrast.value[0] == pytest.approx(found.value[40] - found.value[10])
    covariance = found.curve.covariance
    variance = covariance[40, 40] + covariance[10, 10] - 2 * covariance[10, 40]
    assert contrast.std_error[0] == pytest.approx(np.sqrt(variance))
    assert found.contrast(high, low).value[0] == -contrast.value[0]
    assert found.contrast(low, low).std_error[0] == 0
    assert contrast.terms == (f"{high:g} − {low:g}",)


def test_the_slope_is_the_derivative_of_the_curve(table, found):
    inside = table.loc[table["dose"].between(*found.support), "dose"].to_numpy()
    step = 1e-6
    inner = inside[(inside > found.support[0] + step) & (inside < found.support[1] - step)]
    up, down = (found.spline.basis(inner + s) @ found.coefficients.value for s in (step, -step))
    slopes = (up - down) / (2 * step)
    expected = slopes.sum() / len(inside)
    # doses at both ends are left out of the numerical derivative only
    n_ends = len(inside) - len(inner)
    assert found.average_slope.value[0] == pytest.approx(expected, abs=0.01 * max(n_ends, 1e-4))


def test_bands(found):
    pointwise, band = found.confint(), found.band()
    assert (band[:, 0] < pointwise[:, 0]).all()
    assert (band[:, 1] > pointwise[:, 1]).all()
    # no wider than a correction for as many independent terms as there are splines times two
    assert 2.3 < found.critical_value() < 3.1
    assert found.critical_value(0.5) < found.critical_value(0.99)
    frame = found.to_dataframe(0.9)
    assert frame.columns.tolist() == [
        "term", "estimate", "std_error", "ci_low", "ci_high", "level", "n_units", "n_clusters",
        "band_low", "band_high",
    ]  # fmt: skip
    assert frame["term"].to_numpy() == pytest.approx(found.doses)
    assert (frame["level"] == 0.9).all()


def test_summary_and_plot(found):
    text = found.summary()
    for told in (
        "cubic splines (undersmoothed)", "refused beyond", "average slope", "mean log density",
        "no unmeasured confounding", "effective after balancing",
    ):  # fmt: skip
        assert told in text
    ax = found.plot()
    assert ax.get_xlabel() == "dose"
    assert len(ax.collections) == 2
    assert "<pre>" in found._repr_html_()


def test_clusters_and_places(table, found):
    clustered = fit(table, site="site", coords=("lon", "lat"))
    assert "clustered (200 clusters)" in clustered.summary()
    plain = clustered.with_std_error("hc")
    assert plain.value == pytest.approx(clustered.value)
    assert plain.std_error != pytest.approx(clustered.std_error, rel=1e-3)
    spatial = clustered.with_std_error("conley", cutoff_m=20_000)
    assert "Conley" in spatial.summary()
    # pointwise 1.96 of the normal, and a band of its own
    assert spatial.critical_value() > 1.96


@pytest.mark.parametrize("wrong", ["outcome_learner", "dose_learner"])
def test_one_right_nuisance_is_enough(wrong):
    table = make_table(np.random.default_rng(5), 2000)
    table["y"] += 2 * table["x1"]
    learners = LINEAR | {"outcome_learner": None, wrong: DummyRegressor()}
    # the curve rises by 2 - 0.1 * (16 - 4) from 2 to 4; five standard errors
    rise = fit(table, learners=learners).contrast(2, 4)
    assert abs(rise.value[0] - 0.8) < 5 * rise.std_error[0]
    naive = fit(table, learners=dict.fromkeys(LINEAR, DummyRegressor())).contrast(2, 4)
    assert naive.value[0] - 0.8 > 5 * naive.std_error[0]


def test_embeddings_are_joined_by_site(table):
    sites = table.groupby("site")[["x1"]].mean().add_prefix("emb_")
    found = fit(table, site="site", embeddings=sites, covariates=["x2"], learners={"n_folds": 3})
    assert found.curve.n_clusters == 200
    with pytest.raises(RoleError, match=r"n_components.*got 400"):
        fit(table, site="site", embeddings=sites, learners={"n_components": 400})


def test_missing_outcomes_are_counted(table):
    gaps = table.assign(y=table["y"].where(np.arange(N) > 4))
    assert "5 units without an outcome were dropped" in fit(gaps).summary()


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"dose": lambda t: t["dose"].round()}, RoleError, r"at least 20 .* 'dose' has \d:"),
        ({"dose": lambda t: t["dose"].where(t["x1"] > 0, 0.0)}, RoleError, r"\d\.\d% of 400 "),
        ({"dose": lambda t: t["dose"].where(t["x1"] > -2)}, RoleError, r"\d+ are missing"),
        ({"dose": lambda t: t["dose"].where(t["x1"] > -2, np.inf)}, RoleError, r"\d+ units have"),
        ({"dose": lambda t: t["dose"].astype(str)}, RoleError, r"it holds (object|str)"),
        ({"x1": lambda t: 2 * t["dose"]}, LeakageError, r"'x1' determines the treatment"),
    ],
)  # fmt: skip
def test_bad_doses(table, change, error, message):
    with pytest.raises(error, match=message):
        fit(table.assign(**change))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"doses": [3.0, 9.0]}, OverlapError, r"1 of 2 lie outside: 9\.0"),
        ({"doses": [3.0, np.nan]}, ValueError, r"1 of 2 are not"),
        ({"n_basis": 3}, ValueError, r"at least 4; got 3"),
        (
            {"n_basis": 41},
            RoleError,
            r"41 splines .* 410 independent units; .* has 400",
        ),
        ({"cluster": "area"}, RoleError, r"at least 40 independent clusters; the study has 20"),
        ({"propensity": 0.5}, RoleError, r"leave out propensity"),
        ({"learners": {"outcome": "ridge"}}, ValueError, r"got 'outcome'"),
        ({"treatment": "amount"}, RoleError, r"'amount' is not in the table"),
    ],
)
def test_bad_options(table, options, error, message):
    with pytest.raises(error, match=message):
        fit(table.assign(area=np.arange(N) % 20), **options)


def test_contrasts_outside_the_support_are_refused(found):
    with pytest.raises(OverlapError, match=r"doses of 'dose' from .* lie outside: -20\.0"):
        found.contrast(-20, 3)


def test_features_that_nearly_tell_the_dose(rng):
    table = make_table(rng)
    noise = rng.normal(size=N)
    told = (
        r"weights average 0\.\d\d where 1 is expected, \d+ of 380 units are effective, .* carries"
    )
    with pytest.warns(OverlapWarning, match=told):
        fit(table.assign(dose=2 * table["x1"] + noise))
    with pytest.raises(OverlapError, match=r"No overlap: .* average 0\.[0-4]\d where"):
        fit(table.assign(dose=10 * table["x1"] + noise))


def test_a_learner_that_raises_is_named_with_its_fold(table):
    class Broken(LinearRegression):
        def fit(self, X, y, sample_weight=None):
            raise ArithmeticError("no")

    with pytest.raises(ArithmeticError) as caught:
        fit(table, learners={"dose_learner": Broken()})
    assert "the dose learner on fold 0" in caught.value.__notes__[0]


def test_the_residual_density_is_a_density(rng):
    residual = rng.standard_t(5, size=600)
    density = ResidualDensity.of(residual, np.ones(600))
    cells = np.linspace(-200, 200, 400_001)
    assert np.trapezoid(density.density_at(cells), cells) == pytest.approx(1, abs=1e-4)
    step = density.cumulative_at(np.array([1.0, 1.0 + 1e-4]))
    assert np.diff(step)[0] / 1e-4 == pytest.approx(
        density.density_at(np.array([1.0]))[0], rel=0.02
    )
    # beyond all units the density is that of one unit in 601
    far = density.density_at(np.array([500.0]))[0]
    assert 0 < far < 1 / 601
    weighted = ResidualDensity.of(np.array([0.0, 1.0, 5.0]), np.array([1.0, 1.0, 2.0]))
    double = ResidualDensity.of(np.array([0.0, 1.0, 5.0, 5.0]), np.ones(4))
    assert weighted.spread == pytest.approx(double.spread)


def test_the_density_finds_location_and_scale(rng):
    x = rng.normal(size=4000)
    dose = 1 + 2 * x + np.exp(0.5 * x) * rng.normal(size=4000)
    options = {"weight": None, "groups": None, "rng": rng, "where": "test"}
    found = fit_density(LinearRegression(), pd.DataFrame({"x": x}), dose, **options)
    location, scale = found.standardise(pd.DataFrame({"x": [-1.0, 0.0, 1.0]}))
    assert location == pytest.approx([-1, 1, 3], abs=0.2)
    # 4,000 units: log |residual| has SD 1.1, so the slope has a standard error of 0.018
    assert np.log(scale[2] / scale[0]) == pytest.approx(1.0, abs=5 * 2 * 0.018)
    peak = found.residuals.density_at(np.zeros(1))[0] / scale[1]
    assert peak == pytest.approx(0.399, abs=0.04)


def test_balancing_removes_the_correlation_with_features(rng):
    table = make_table(rng, 2000)
    dose = table["dose"].to_numpy()
    from terracausal.effects.indicator import study_of_indicator
    from terracausal.nuisance.dose import cross_fit_dose

    roles = {"outcome": "y", "covariates": ["x1", "x2"]}
    study = study_of_indicator(table, table["dose"] > 3, None, "both", roles).canonical()
    nuisances = cross_fit_dose(study, table["dose"], study.folds(random_state=0), rng=rng)
    balancing, _ = balancing_weights(
        nuisances, table.loc[study.units, "dose"].to_numpy(), np.ones(2000)
    )
    x = table.loc[study.units, "x1"].to_numpy()
    dose = table.loc[study.units, "dose"].to_numpy()
    assert np.corrcoef(x, dose)[0, 1] > 0.3
    centred = (x - np.average(x, weights=balancing)) * (dose - np.average(dose, weights=balancing))
    effective = balancing.sum() ** 2 / (balancing**2).sum()
    assert abs(np.average(centred, weights=balancing)) < 5 / np.sqrt(effective)
    ranks = nuisances.quality.set_index("metric")["value"]["largest error of ranks"]
    # Kolmogorov: exceeded once in 100,000 if uniform
    assert ranks < 2.47 / np.sqrt(2000)
