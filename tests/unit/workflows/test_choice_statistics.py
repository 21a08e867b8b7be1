"""What the cells say together: means, errors, the set of the best, the regression."""

import dataclasses
from itertools import product

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf
from scipy import stats

from terracausal._foundation.errors import RoleError
from terracausal.plotting import plot_specification_curve
from terracausal.workflows.choice_regression import choice_design, regress_on_choices
from terracausal.workflows.choice_result import ChoiceComparison
from terracausal.workflows.choice_statistics import (
    could_be_best,
    joint_p_value,
    mean_over_seeds,
)

N_DRAWS = 400


def made_cells(rng, n_seeds=6, effects=(0.0, 0.0, 0.0), noise=1.0, sampling=1.0):
    """Return cells of {tabular, image × two encoders} × two metrics, and their draws."""
    rows, draws = [], []
    names = [("tabular", "none"), ("image", "one"), ("image", "two")]
    shared = rng.normal(size=N_DRAWS)
    for (data, encoder), effect in zip(names, effects, strict=True):
        own = rng.normal(size=N_DRAWS)
        for seed, metric in product(range(n_seeds), ("AUTOC", "QINI")):
            ratio = effect + noise * rng.normal() + 0.3 * (metric == "QINI")
            row = {"data": data, "encoder": encoder, "components": "raw", "scale": "none"}
            row |= {"learner": "ridge", "metric": metric, "seed": seed, "estimate": ratio / 10}
            row |= {"std_error": 0.1, "widening": 1.0, "ratio": ratio, "p_value": 0.5}
            row |= {"average_effect": 1.0, "average_std_error": 0.1, "n_units": 9}
            rows.append(row | {"n_clusters": 9, "error": ""})
            draws.append(sampling * (shared + own) / np.sqrt(2))
    return pd.DataFrame(rows), np.array(draws)


def comparison(*args, **options):
    cells, draws = made_cells(*args, **options)
    return ChoiceComparison(cells, draws, pd.Series(np.ones(len(cells))))


# -- means and errors ------------------------------------------------------------------------------


def test_mean_and_both_errors_by_hand(rng):
    ratio, gap = rng.normal(size=(3, 5)), rng.normal(size=(3, 5, N_DRAWS))
    ratio[1, 2] = np.nan
    found = mean_over_seeds(ratio, gap)
    for row in range(3):
        here = np.isfinite(ratio[row])
        values = ratio[row, here]
        assert found.mean[row] == pytest.approx(values.mean())
        assert found.seeds[row] == pytest.approx(values.std(ddof=1) / np.sqrt(here.sum()))
        # the clusters are drawn once for all seeds: first the mean, then its spread
        assert found.sampling[row] == pytest.approx(gap[row, here].mean(axis=0).std(ddof=1))
        assert found.total[row] == pytest.approx(np.hypot(found.seeds[row], found.sampling[row]))


def test_sampling_error_does_not_fall_with_seeds_and_that_of_seeds_does(rng):
    draw = rng.normal(size=N_DRAWS)
    few, many = (
        mean_over_seeds(rng.normal(size=(1, n)), np.tile(draw, (1, n, 1))) for n in (4, 400)
    )
    assert few.sampling[0] == pytest.approx(many.sampling[0])
    assert many.seeds[0] < few.seeds[0] / 3


def test_degrees_of_freedom_lie_between_those_of_the_parts(rng):
    ratio, gap = rng.normal(size=(1, 5)), rng.normal(size=(1, 1, N_DRAWS)).repeat(5, axis=1)
    assert 4 <= mean_over_seeds(ratio, gap).df[0] <= 4 + N_DRAWS - 1
    assert mean_over_seeds(ratio, 1e-9 * gap).df[0] == pytest.approx(4)
    assert mean_over_seeds(ratio * 1e-9, gap).df[0] == pytest.approx(N_DRAWS - 1)


def test_a_choice_without_results_and_one_seed():
    gap = np.zeros((2, 1, 3))
    found = mean_over_seeds(np.array([[np.nan], [1.0]]), gap)
    assert np.isnan(found.mean[0])
    assert found.mean[1] == 1
    assert np.isnan(found.seeds).all()


# -- the best --------------------------------------------------------------------------------------


def test_a_clear_best_is_told_and_noise_is_not(rng):
    clear = comparison(rng, effects=(0.0, 0.0, 30.0))
    told = clear.ranking()
    assert told.groupby("metric")["could_be_best"].sum().to_dict() == {"AUTOC": 1, "QINI": 1}
    assert told.iloc[0][["encoder", "times_first"]].tolist() == ["two", 6]
    assert "winner: image / two / raw / ridge" in clear.summary()
    same = comparison(rng, noise=0.2)
    assert "no winner: 3 of 3 could be the best, given both errors" in same.summary()


def test_seeds_that_agree_are_no_winner_when_another_sample_might_not(rng):
    # every seed has the same first, yet the clusters could have been others
    found = comparison(rng, effects=(0.0, 0.0, 0.8), noise=0.01, sampling=1.0)
    assert (found.ranking().query("encoder == 'two'")["times_first"] == 6).all()
    assert found.ranking()["could_be_best"].all()
    # and the other way round: a sample that is known, and seeds that disagree
    found = comparison(rng, effects=(0.0, 0.0, 0.8), noise=3.0, sampling=0.0)
    assert found.ranking()["could_be_best"].all()


def test_one_seed_tells_nothing_apart(rng):
    found = comparison(rng, n_seeds=1, effects=(0.0, 0.0, 30.0))
    assert found.ranking()["could_be_best"].all()
    assert "one seed tells nothing of their spread" in found.summary()


def test_the_best_is_kept_with_the_stated_probability():
    # normal seeds and draws with known errors; all choices equal is the hardest case
    rng, level, n_replications = np.random.default_rng(0), 0.9, 400
    missed = 0
    for _ in range(n_replications):
        truth = np.array([0.3, 0.0, 0.0, 0.0])
        sample = rng.normal(size=4)
        ratio = (truth + sample)[:, None] + 0.5 * rng.normal(size=(4, 8))
        gap = rng.normal(size=(4, 1, 200)).repeat(8, axis=1)
        missed += not could_be_best(ratio, gap, level)[0]
    assert missed <= stats.binom(n_replications, 1 - level).ppf(1 - 1e-5)
    assert missed > 0


def test_joint_p_value_has_its_size_over_correlated_choices():
    rng, n_replications = np.random.default_rng(1), 400
    mixing = 0.5 * rng.normal(size=(6, 6)) + np.ones((6, 6))
    hits = 0
    for _ in range(n_replications):
        sample = mixing @ rng.normal(size=6)
        gap = (mixing @ rng.normal(size=(6, 200)))[:, None, :]
        hits += joint_p_value(sample[:, None], gap) <= 0.1
    binomial = stats.binom(n_replications, 0.1)
    assert binomial.ppf(5e-6) <= hits <= binomial.ppf(1 - 5e-6)


def test_joint_p_value_counts_how_many_were_tried(rng):
    one = rng.normal(size=(1, 1, N_DRAWS))
    many = np.concatenate([one, rng.normal(size=(49, 1, N_DRAWS))])
    ratio = np.concatenate([[2.0], np.zeros(49)])[:, None]
    assert joint_p_value(ratio[:1], one) < 0.1 < joint_p_value(ratio, many)
    assert np.isnan(joint_p_value(np.full((2, 3), np.nan), np.zeros((2, 3, 5))))


# -- the regression --------------------------------------------------------------------------------


def test_regression_is_that_of_statsmodels_clustered_by_seed(rng):
    cells, draws = made_cells(rng, effects=(0.0, 1.0, 2.0))
    found = regress_on_choices(cells, draws)
    table = cells.assign(
        image=cells["data"] == "image",
        two=cells["encoder"] == "two",
        qini=cells["metric"] == "QINI",
    ).astype({"image": float, "two": float, "qini": float})
    expected = smf.ols("ratio ~ image + two + qini", table).fit(
        cov_type="cluster", cov_kwds={"groups": table["seed"]}
    )
    assert found.terms == ("intercept", "data: image", "encoder: two", "metric: QINI")
    assert found.value == pytest.approx(expected.params.to_numpy())
    assert found.std_error_seeds == pytest.approx(expected.bse.to_numpy())
    # G/(G-1) (n-1)/(n-k), summed by hand
    x, u = choice_design(cells)[0].to_numpy(), expected.resid.to_numpy()
    inverse, meat = np.linalg.inv(x.T @ x), np.zeros((4, 4))
    for seed in range(6):
        score = x[cells["seed"] == seed].T @ u[cells["seed"] == seed]
        meat += np.outer(score, score)
    n = len(cells)
    by_hand = inverse @ meat @ inverse * 6 / 5 * (n - 1) / (n - 4)
    assert found.std_error_seeds == pytest.approx(np.sqrt(np.diag(by_hand)))


def test_sampling_error_of_a_coefficient_knows_what_cells_share(rng):
    cells, draws = made_cells(rng)
    found = regress_on_choices(cells, np.tile(rng.normal(size=N_DRAWS), (len(cells), 1)))
    # what moves all cells alike moves the intercept alone
    assert found.std_error_sampling[0] > 0.8
    assert found.std_error_sampling[1:] == pytest.approx(np.zeros(3), abs=1e-9)
    by_draw = np.array(
        [np.linalg.lstsq(choice_design(cells)[0], d, rcond=None)[0] for d in draws.T]
    )
    again = regress_on_choices(cells, draws)
    assert again.std_error_sampling == pytest.approx(by_draw.std(axis=0, ddof=1))
    assert again.std_error == pytest.approx(
        np.hypot(again.std_error_seeds, again.std_error_sampling)
    )


def test_regression_table_summary_and_plot(rng):
    found = comparison(rng).regression(level=0.9)
    table = found.to_dataframe()
    assert ((table["ci_low"] < table["estimate"]) & (table["estimate"] < table["ci_high"])).all()
    assert (table["level"] == 0.9).all()
    told = found.summary()
    assert "36 rows, 6 seeds" in told
    assert "compared with  data: tabular, encoder: one, metric: AUTOC" in told
    assert len(found.plot().get_yticks()) == 3
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.value = None


def test_regression_refuses_what_it_cannot_tell(rng):
    cells, draws = made_cells(rng, n_seeds=1)
    with pytest.raises(RoleError, match=r"at least 2 seeds with results; found 1 in 6 rows"):
        regress_on_choices(cells, draws)
    cells, draws = made_cells(rng)
    cells["learner"] = np.where(cells["encoder"] == "two", "forest", "ridge")
    with pytest.raises(RoleError, match=r"1 of 5 terms .*: 'learner: forest'"):
        regress_on_choices(cells, draws)


# -- the picture -----------------------------------------------------------------------------------


def test_specification_curve_is_in_order_and_has_a_dot_for_each_choice(rng):
    ax = comparison(rng, effects=(0.0, 2.0, 1.0)).plot()
    heights = ax.collections[-1].get_offsets()[:, 1]
    assert len(heights) == 6
    assert (np.diff(heights) >= 0).all()
    matrix = ax.figure.axes[1]
    labels = [text.get_text() for text in matrix.get_yticklabels()]
    assert labels == ["tabular", "image", "one", "two", "AUTOC", "QINI"]
    dots = [len(points.get_offsets()) for points in matrix.collections]
    assert dots == [2, 4, 2, 2, 3, 3]
    assert sum(dots[:2]) == 6


def test_specification_curve_in_a_given_place():
    from matplotlib.figure import Figure

    table = pd.DataFrame({"estimate": [2.0, 1.0], "ci_low": [1.0, 0.0], "ci_high": [3.0, 2.0]})
    table["data"] = ["image", "both"]
    figure = Figure(layout="constrained")
    left, right = figure.subplots(1, 2)
    assert plot_specification_curve(table, {"data": ["image", "both"]}, ax=right) is right
    assert len(figure.axes) == 3
    assert not left.collections
    free = Figure().add_axes((0.2, 0.4, 0.7, 0.5))
    plot_specification_curve(table, {"data": ["image", "both"]}, ax=free)
    assert len(free.child_axes) == 1
    with pytest.raises(ValueError, match=r"'learner' missing"):
        plot_specification_curve(table, {"learner": ["ridge"]})
    with pytest.raises(ValueError, match="must have at least one row"):
        plot_specification_curve(table.iloc[:0], {"data": ["image"]})


# -- in a report -----------------------------------------------------------------------------------


def test_findings_in_a_sentence_and_on_a_page(rng):
    from terracausal.report import Report

    clear, same = comparison(rng, effects=(0.0, 0.0, 30.0)), comparison(rng, noise=0.2)
    assert "by AUTOC image / two / raw / ridge is the best" in clear.headline()
    assert clear.headline().startswith("Some combination of choices ranks places")
    assert same.headline().startswith("No combination of choices is known")
    assert "by QINI 3 of 3 could be the best" in same.headline()
    assert "encoder: two (+" in clear.regression().headline()
    assert "encoder" not in same.regression().headline()
    assert same.regression(level=1 - 1e-9).headline().startswith("No choice is known")
    page = Report([clear, clear.regression()])._repr_html_()
    assert "Would other choices have found the same?" in page
    assert "What each choice adds to the RATE ratio" in page
