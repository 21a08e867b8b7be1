"""Overlap, calibration, balance and trimming against numbers made by hand or by loops."""

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit

from terracausal import (
    BandStatisticsEncoder,
    Study,
    cross_fit,
    doubly_robust_scores,
    simulate_study,
)
from terracausal.evaluation import (
    check_balance,
    check_overlap,
    check_propensity,
    trimmed_units,
)
from terracausal.evaluation.propensity import calibration_slope, skill
from terracausal.nuisance import Scores
from terracausal.simulate import ConfoundingSettings


def scores_of(e, w, **columns):
    table = pd.DataFrame({"score": 1.0, "propensity": e, "treatment": w, **columns})
    return Scores.from_dataframe(table)


@pytest.fixture(scope="module")
def flow():
    settings = ConfoundingSettings(propensity_strength=0.6)
    data = simulate_study("tutorial", n_sites=400, size_px=4, settings=settings, random_state=0)
    encoder = BandStatisticsEncoder(quantiles=(), moments=("mean",))
    study = data.study.join(encoder.fit_transform(data.chips), role="confounder")
    nuisances = cross_fit(study, random_state=0)
    return study, nuisances, doubly_robust_scores(study, nuisances)


def test_overlap_by_hand():
    e = [0.2, 0.5, 0.5, 0.1, 0.5, 0.9]
    found = check_overlap(scores_of(e, [1, 1, 1, 0, 0, 0]), n_heaviest=2)
    treated, control = (found.table.iloc[row] for row in (0, 1))
    weights = np.array([5.0, 2.0, 2.0])
    assert treated["effective_units"] == pytest.approx(81 / 33)
    assert treated["largest_weight"] == pytest.approx(5 / 9)
    assert treated["share_outside"] == 0
    assert control["share_outside"] == pytest.approx(2 / 3)
    assert (control["propensity_min"], control["propensity_max"]) == (0.1, 0.9)
    other = np.array([1 / 0.9, 2.0, 10.0])
    assert control["effective_units"] == pytest.approx(other.sum() ** 2 / (other**2).sum())
    assert found.heaviest.index.tolist() == [5, 0]
    assert found.heaviest["weight_share"].iloc[1] == pytest.approx(weights[0] / weights.sum())
    assert "2 units carry more than 5%" in found.summary()
    assert found.plot().get_ylabel() == "Units per bin"
    assert "<table" in found._repr_html_()


@pytest.mark.parametrize("target", ["all", "treated", "control", "overlap"])
def test_swapped_arms_swap_the_rows(target, rng):
    e, w = rng.uniform(0.1, 0.9, 50), np.arange(50) % 2
    other = {"treated": "control", "control": "treated"}.get(target, target)
    one = check_overlap(scores_of(e, w), target).table.drop(
        columns=["propensity_min", "propensity_median", "propensity_max"]
    )
    two = check_overlap(scores_of(1 - e, 1 - w), other).table
    for here, there in ((0, 1), (1, 0)):
        names = one.columns.drop("arm")
        np.testing.assert_allclose(
            one.loc[here, names].astype(float), two.loc[there, names].astype(float), rtol=1e-12
        )


def test_skill_is_the_textbook_formula(rng):
    e = rng.uniform(0.1, 0.9, 60)
    w = (rng.random(60) < e).astype(float)
    found = skill(w, e, np.ones(60))
    loss = sum(-np.log(p if t else 1 - p) for p, t in zip(e, w, strict=True)) / 60
    pairs = [(a > b) + 0.5 * (a == b) for a in e[w == 1] for b in e[w == 0]]
    assert found["log_loss"] == pytest.approx(loss)
    assert found["brier"] == pytest.approx(np.mean((w - e) ** 2))
    assert found["auc"] == pytest.approx(np.mean(pairs))
    hits, precision = 0, []
    for rank, position in enumerate(np.argsort(-e), start=1):
        if w[position]:
            hits += 1
            precision.append(hits / rank)
    assert found["auprc"] == pytest.approx(np.mean(precision))


def test_the_base_rate_is_the_baseline(rng):
    w = (rng.random(200) < 0.3).astype(float)
    share = w.mean()
    found = check_propensity(scores_of(np.full(200, share), w)).table.set_index("metric")
    for metric in ("log_loss", "brier", "auc", "auprc"):
        assert found.loc[metric, "value"] == pytest.approx(found.loc[metric, "baseline"])
    assert found.loc["brier", "value"] == pytest.approx(share * (1 - share))
    assert np.isnan(found.loc["calibration_slope", "value"])


def test_too_extreme_propensities_have_a_flat_slope(rng):
    x = rng.normal(size=4000)
    w = (rng.random(4000) < expit(x)).astype(float)
    right = calibration_slope(w, expit(x), np.ones(4000))
    # the log odds are doubled, so their slope is exactly half
    assert calibration_slope(w, expit(2 * x), np.ones(4000)) == pytest.approx(right / 2, rel=1e-6)
    # information is at least n E[p(1 - p) x²] ≈ 0.16 n
    assert right == pytest.approx(1.0, abs=4.5 / np.sqrt(0.16 * 4000))
    assert np.isnan(calibration_slope(np.array([0.0, 0, 1, 1]), np.array([0.1, 0.2, 0.8, 0.9]),
                                      np.ones(4)))  # fmt: skip


def test_groups_are_of_equal_size_and_average_their_units(rng):
    e = rng.permutation(np.linspace(0.05, 0.95, 100))
    w = (rng.random(100) < e).astype(float)
    result = check_propensity(scores_of(e, w), n_groups=5)
    order = np.argsort(e).reshape(5, 20)
    assert result.groups["n_units"].tolist() == [20] * 5
    np.testing.assert_allclose(result.groups["predicted"], e[order].mean(axis=1))
    np.testing.assert_allclose(result.groups["observed"], w[order].mean(axis=1))
    inside = result.groups["observed"].between(result.groups["ci_low"], result.groups["ci_high"])
    assert inside.all()
    assert result.groups["ci_low"].min() >= 0
    assert not result.out_of_fold
    assert "of unknown origin" in result.summary()
    assert result.plot().get_ylabel() == "Share treated"


def test_weights_of_propensity_metrics_are_repeated_units(rng):
    e, w = rng.uniform(0.1, 0.9, 40), np.arange(40) % 2
    times = rng.integers(1, 4, 40)
    weighted = check_propensity(scores_of(e, w, weight=times)).table["value"][:5]
    repeated = check_propensity(scores_of(np.repeat(e, times), np.repeat(w, times))).table["value"]
    np.testing.assert_allclose(weighted, repeated[:5], rtol=1e-9)


def test_saturated_propensities_balance_exactly(rng):
    group = rng.integers(0, 3, 600)
    w = (rng.random(600) < np.array([0.2, 0.5, 0.7])[group]).astype(int)
    table = pd.DataFrame(
        {"y": 0.0, "w": w, "group": group.astype(float), "u": rng.normal(size=600)}
    )
    study = Study(table, outcome="y", treatment="w", covariates=["group", "u"])
    e = pd.Series(w).groupby(group).transform("mean").to_numpy()
    scores = scores_of(e, w)
    for target in ("all", "treated", "control", "overlap"):
        result = check_balance(study, scores, target=target)
        after = result.table.set_index("column")["after"]
        assert abs(after["group"]) < 1e-12
        assert abs(after["u"]) > 1e-6
    found = check_balance(study, scores).table.set_index("column")
    x = table["group"]
    gap = x[w == 1].mean() - x[w == 0].mean()
    spread = np.sqrt((x[w == 1].var(ddof=0) + x[w == 0].var(ddof=0)) / 2)
    assert found.loc["group", "before"] == pytest.approx(gap / spread, abs=1e-12)


def test_balance_of_the_flow_improves_and_ignores_the_order_of_rows(flow):
    study, _, scores = flow
    result = check_balance(study, scores)
    assert (
        result.table["kind"].tolist() == ["covariate"] * 2 + ["embedding"] * 3 + ["coordinate"] * 2
    )
    red = next(name for name in study.embedding_columns if "red" in name)
    worst = result.table.set_index("column").loc[["x1", "x2", red]]
    assert (worst["before"] > 0.3).all()
    assert (worst["after"].abs() < 0.5 * worst["before"]).all()
    shuffled = Scores.from_dataframe(scores.table.sample(frac=1, random_state=0))
    again = check_balance(study, shuffled).table
    pd.testing.assert_frame_equal(again, result.table, rtol=1e-10)
    assert result.plot().get_xlim()[0] == 0
    assert "chance alone" in result.summary()


def test_given_columns_may_be_by_unit_or_by_site(flow):
    study, _, scores = flow
    by_unit = study.table[["x1"]]
    by_site = by_unit.set_axis(study.sites, axis=0)
    named = check_balance(study, scores, ["x1"]).table
    for columns in (by_unit, by_site, by_site.sample(frac=1, random_state=0)):
        pd.testing.assert_frame_equal(check_balance(study, scores, columns).table, named)
    with pytest.raises(ValueError, match="knows 0 of the units and the sites of 399"):
        check_balance(study, scores, by_site[1:])
    with pytest.raises(ValueError, match="1 of `columns` are not in the study's table: 'rain'"):
        check_balance(study, scores, ["x1", "rain"])
    with pytest.raises(ValueError, match="must be numbers; 'site' are not"):
        check_balance(study, scores, ["site"])
    gap = by_unit.where(pd.DataFrame({"x1": by_unit.index != by_unit.index[7]}, by_unit.index))
    with pytest.raises(ValueError, match="1 of 400 values are NaN"):
        check_balance(study, scores, gap)


def test_many_embedding_columns_become_components(flow):
    study, _, scores = flow
    wide = check_balance(study, scores, n_components=2).table
    assert wide.loc[wide["kind"] == "embedding", "column"].tolist() == [
        "embedding component 1",
        "embedding component 2",
    ]


def test_trimmed_units_are_those_outside(flow):
    study, nuisances, _ = flow
    scores = doubly_robust_scores(study, nuisances, trim=0.1)
    found = trimmed_units(study, nuisances, scores)
    e = nuisances.propensity
    outside = e.index[(e < 0.1) | (e > 0.9)]
    assert set(found.table.index) == set(outside)
    assert found.table.loc[found.table["side"] == "low", "propensity"].max() < 0.1
    assert found.table.loc[found.table["side"] == "high", "propensity"].min() > 0.9
    comparison = found.comparison.set_index("column")
    x1 = study.table["x1"]
    assert comparison.loc["x1", "left_out"] == pytest.approx(x1[outside].mean())
    assert comparison.loc["x1", "kept"] == pytest.approx(x1.drop(outside).mean())
    assert f"{len(outside)} of 400 units left out" in found.summary()
    assert found.to_dataframe()["unit"].tolist() == found.table.index.tolist()
    texts = [text.get_text() for text in found.plot().get_legend().get_texts()]
    assert f"({400 - len(outside)})" in texts[0]


def test_nothing_trimmed_is_said(flow):
    study, nuisances, scores = flow
    found = trimmed_units(study, nuisances, scores)
    assert found.table.empty
    assert "0 of 400 units left out (0.0%); averages speak for all units" in found.summary()


def test_bad_input_is_named(flow):
    study, nuisances, scores = flow
    only_scores = Scores.from_dataframe(pd.DataFrame({"score": [1.0, 2.0]}))
    for check in (check_overlap, check_propensity):
        with pytest.raises(ValueError, match=f"{check.__name__} needs the column 'treatment'"):
            check(only_scores)
    with pytest.raises(ValueError, match="found 2 treated and 0 control"):
        check_overlap(scores_of([0.4, 0.5], [1, 1]))
    with pytest.raises(ValueError, match=r"must be one of 'all', .* got 'everyone'"):
        check_overlap(scores, "everyone")
    foreign = scores_of([0.4, 0.5], [0, 1])
    for call in (
        lambda: check_balance(study, foreign),
        lambda: trimmed_units(study, nuisances, foreign),
    ):
        with pytest.raises(ValueError, match="2 of 2 are not in the study: 0, 1"):
            call()


def test_a_map_needs_places():
    study = simulate_study(n_sites=30, random_state=0).study
    table = study.table
    bare = Study(table, outcome="outcome", treatment="treatment", propensity=0.5)
    nuisances = cross_fit(bare, random_state=0)
    found = trimmed_units(bare, nuisances, doubly_robust_scores(bare, nuisances))
    with pytest.raises(ValueError, match="the study has no coordinates"):
        found.plot()
    with pytest.raises(ValueError, match="nothing to balance"):
        check_balance(bare, doubly_robust_scores(bare, nuisances))
