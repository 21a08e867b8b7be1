"""RATE against a plain loop, against closed forms, and its identities."""

from dataclasses import replace
from math import sqrt

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.special import expit

import terracausal as tc
from terracausal._foundation.errors import LeakageError, RoleError
from terracausal.effects.origin import EffectOrigin, with_origin
from terracausal.evaluation import rank_weighted_effect
from terracausal.evaluation.rates import draw_halves
from terracausal.nuisance import Scores

FRACTIONS = (0.05, 0.1, 0.33, 0.5, 0.9, 1.0)


def loop_rate(score, priority, weight, target):
    """Definition of the RATE, unit by unit."""
    units = sorted(range(len(score)), key=lambda i: (-priority[i], i))
    everyone = sum(weight)
    mean = sum(s * v for s, v in zip(score, weight, strict=True)) / everyone
    above, gain, rate = 0.0, 0.0, 0.0
    for i in units:
        if weight[i] == 0:
            continue
        tie = [j for j in units if priority[j] == priority[i]]
        shared = sum(score[j] * weight[j] for j in tie) / sum(weight[j] for j in tie)
        above, gain = above + weight[i], gain + weight[i] * shared
        share = 1 if target == "AUTOC" else above / everyone
        rate += weight[i] / everyone * share * (gain / above - mean)
    return rate


def loop_curve(score, priority, weight, fraction):
    """Mean score of the top share, the last unit used in part, less that of all."""
    left = goal = fraction * sum(weight)
    gain = 0.0
    for level in sorted(set(priority), reverse=True):
        tie = [j for j in range(len(score)) if priority[j] == level]
        mass = sum(weight[j] for j in tie)
        if mass > 0:
            used = min(left, mass)
            gain += used * sum(score[j] * weight[j] for j in tie) / mass
            left -= used
    return gain / goal - np.average(score, weights=weight)


@pytest.fixture
def score(rng):
    return rng.normal(size=60)


def scores_of(score, weight=None, cluster=None, index=None):
    table = pd.DataFrame({"score": score}, index=index)
    if weight is not None:
        table["weight"] = weight
    return Scores.from_dataframe(table, cluster)


def priority_of(kind, rng, n=60):
    values = rng.normal(size=n)
    return {"none": values, "some": values.round(0), "heavy": (values > 1).astype(float)}[kind]


@pytest.mark.parametrize("target", ["AUTOC", "QINI"])
@pytest.mark.parametrize("ties", ["none", "some", "heavy"])
@pytest.mark.parametrize("weights", ["none", "any", "zeros"])
def test_value_and_curve_against_a_loop(score, rng, target, ties, weights):
    priority = priority_of(ties, rng)
    weight = np.ones(60) if weights == "none" else rng.uniform(0.2, 3, 60)
    if weights == "zeros":
        weight[rng.permutation(60)[:25]] = 0.0
        weight[np.argmax(priority)] = 0.0
    scores = scores_of(score, None if weights == "none" else weight)
    found = rank_weighted_effect(scores, priority, target, fractions=FRACTIONS, random_state=0)
    assert found.value[0] == pytest.approx(loop_rate(score, priority, weight, target), abs=1e-10)
    curve = [loop_curve(score, priority, weight, q) for q in FRACTIONS]
    np.testing.assert_allclose(found.toc["estimate"], curve, atol=1e-10)
    assert found.toc["estimate"].iloc[-1] == pytest.approx(0, abs=1e-12)


def test_std_error_against_a_loop_over_the_same_half_samples(score, rng):
    cluster, priority = np.arange(60) // 5, priority_of("some", rng)
    found = rank_weighted_effect(
        scores_of(score, cluster=cluster), priority, n_bootstrap=20, random_state=7
    )
    draws = draw_halves(12, 20, np.random.default_rng(7)).astype(float)
    rates = [loop_rate(score, priority, draw[cluster], "AUTOC") for draw in draws]
    assert found.std_error[0] == pytest.approx(np.std(rates, ddof=1), rel=1e-10)


@pytest.mark.parametrize("n_clusters", [2, 7, 12])
def test_half_samples_are_halves(rng, n_clusters):
    draws = draw_halves(n_clusters, 50, rng)
    assert draws.shape == (50, n_clusters)
    assert (draws.sum(axis=1) == n_clusters // 2).all()
    # each cluster has the same chance; 6 SE of a share over 50 draws
    expected = n_clusters // 2 / n_clusters
    error = sqrt(expected * (1 - expected) / 50)
    assert np.abs(draws.mean(axis=0) - expected).max() < 6 * error


@pytest.mark.parametrize("target", ["AUTOC", "QINI"])
@pytest.mark.parametrize("weighted", [True, False])
def test_a_constant_priority_is_worth_nothing(score, rng, target, weighted):
    scores = scores_of(score + 1000, rng.uniform(0.5, 2, 60) if weighted else None)
    found = rank_weighted_effect(scores, np.full(60, 3.0), target, random_state=0)
    assert found.value[0] == 0
    assert found.std_error[0] == 0
    assert np.isnan(found.ratio[0])
    assert (found.toc["estimate"] == 0).all()


@pytest.mark.parametrize("target", ["AUTOC", "QINI"])
def test_rows_in_any_order(score, rng, target):
    index = [f"u{k:02d}" for k in range(60)]
    priority = pd.Series(priority_of("some", rng), index=index)
    cluster, weight = np.arange(60) // 4, rng.uniform(0.5, 2, 60)
    order = rng.permutation(60)
    one = scores_of(score, weight, cluster, index)
    other = scores_of(score[order], weight[order], cluster[order], np.array(index)[order])
    for scores in (one, other):
        found = [
            rank_weighted_effect(scores, p, target, random_state=3)
            for p in (priority, priority.iloc[rng.permutation(60)])
        ]
        assert found[0].value[0] == found[1].value[0]
    first, second = (
        rank_weighted_effect(s, priority, target, random_state=3) for s in (one, other)
    )
    np.testing.assert_allclose(first.value, second.value, rtol=1e-12)
    np.testing.assert_allclose(first.std_error, second.std_error, rtol=1e-10)
    pd.testing.assert_frame_equal(first.toc, second.toc, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("target", ["AUTOC", "QINI"])
def test_weight_zero_is_no_row(score, rng, target):
    priority, weight = priority_of("some", rng), rng.uniform(0.5, 2, 60)
    weight[::3] = 0.0
    kept = weight > 0
    one = rank_weighted_effect(scores_of(score, weight), priority, target, random_state=0)
    other = rank_weighted_effect(
        scores_of(score[kept], weight[kept]), priority[kept], target, random_state=0
    )
    np.testing.assert_allclose(one.value, other.value, atol=1e-12)
    np.testing.assert_allclose(one.toc["estimate"], other.toc["estimate"], atol=1e-12)


@pytest.mark.parametrize("target", ["AUTOC", "QINI"])
def test_identities_of_scores_weights_and_priorities(score, rng, target):
    priority, weight = priority_of("some", rng), rng.uniform(0.5, 2, 60)

    def rate(s=score, p=priority, v=weight):
        found = rank_weighted_effect(scores_of(s, v), p, target, random_state=0)
        return np.r_[found.value, found.std_error]

    base = rate()
    np.testing.assert_allclose(rate(v=9 * weight), base, rtol=1e-10)
    np.testing.assert_allclose(rate(s=score + 40), base, rtol=1e-9)
    np.testing.assert_allclose(rate(s=-2 * score), base * [-2, 2], rtol=1e-10)
    np.testing.assert_allclose(rate(p=np.exp(priority) * 5 - 2), base, rtol=1e-12)


@pytest.mark.parametrize("target", ["AUTOC", "QINI"])
def test_all_units_twice_in_their_clusters(score, rng, target):
    # with ties shared, the QINI of pairs differs only by where a pair is cut: order 1 / n
    priority, cluster = priority_of("some", rng), np.arange(60) // 4
    one = rank_weighted_effect(scores_of(score, cluster=cluster), priority, target, random_state=0)
    twice = np.repeat(np.arange(60), 2)
    other = rank_weighted_effect(
        scores_of(score[twice], cluster=cluster[twice]), priority[twice], target, random_state=0
    )
    np.testing.assert_allclose(one.toc["estimate"], other.toc["estimate"], atol=1e-12)
    assert one.value[0] == pytest.approx(other.value[0], abs=2 * np.abs(score).max() / 60)
    assert one.n_clusters == other.n_clusters == 15


@pytest.mark.parametrize(
    ("draw", "autoc", "qini"),
    [(stats.norm, 0.903197, 0.282095), (stats.uniform, 0.25, 1 / 12)],
    ids=["normal", "uniform"],
)
def test_closed_forms(rng, draw, autoc, qini):
    # the effect ranks itself; four seconds of tolerance are 4.42 SE, false alarms 1 in 100,000
    effect = draw.rvs(size=20_000, random_state=rng)
    scores = scores_of(effect + rng.normal(size=20_000))
    for target, truth in (("AUTOC", autoc), ("QINI", qini)):
        found = rank_weighted_effect(scores, effect, target, n_bootstrap=100, random_state=rng)
        tolerance = stats.norm.isf(0.5e-5) * found.std_error[0]
        # the error of the error: a chi-squared with 99 degrees of freedom at the same rate
        tolerance *= sqrt(99 / stats.chi2.ppf(1e-5, 99))
        assert abs(found.value[0] - truth) < tolerance
        assert tolerance < 0.1


def test_half_sample_error_is_the_error_of_a_mean(rng):
    # TOC at a half of a fixed ranking is half the difference of two means of 400 units
    score = rng.normal(size=800)
    found = rank_weighted_effect(
        scores_of(score), np.arange(800), fractions=[0.5], n_bootstrap=400, random_state=rng
    )
    halves = score[:400], score[400:]
    expected = sqrt(sum(h.var() / 400 for h in halves)) / 2
    # a standard deviation of 400 draws is off by 4.42 / sqrt(2 * 399) = 16 % once in 100,000
    assert found.toc["std_error"].iloc[0] == pytest.approx(expected, rel=0.16)


# -- any weight function, repeats, outcomes of any kind ------------------------------------------


def test_functions_weigh_the_curve(score, rng):
    priority, weight = priority_of("some", rng), rng.uniform(0.5, 2, 60)
    weight[np.argmax(priority)] = 0.0
    scores = scores_of(score, weight)

    def rate(target):
        found = rank_weighted_effect(scores, priority, target, random_state=0)
        return [found.value[0], found.std_error[0]]

    assert rate(np.ones_like) == rate("AUTOC")
    np.testing.assert_allclose(rate(lambda share: share), rate("QINI"), rtol=1e-12)
    # weights add: the curve over the first fifth and over the rest
    first, rest = (rate(f)[0] for f in (lambda u: u <= 0.2, lambda u: u > 0.2))
    assert first + rest == pytest.approx(rate("AUTOC")[0])
    # functions that are infinite at 0 are never asked there
    assert np.isfinite(rate(lambda share: -np.log(share))).all()
    assert rank_weighted_effect(scores, priority, np.sqrt, random_state=0).target == "sqrt"


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (lambda share: 1.0, r"for 11 shares it returned shape \(\) with 0 values not finite"),
        (lambda share: share * np.nan, "11 values not finite"),
        ("AUC", "got 'AUC'"),
    ],
)
def test_bad_functions(score, target, message):
    with pytest.raises(ValueError, match=message):
        rank_weighted_effect(scores_of(score), score, target)


def test_repeats_give_medians_whose_spread_counts(score, rng):
    runs = [scores_of(score + 0.3 * rng.normal(size=60)) for _ in range(3)]
    alone = [rank_weighted_effect(run, score, random_state=5) for run in runs]
    found = rank_weighted_effect(replace(runs[0], repeats=tuple(runs[1:])), score, random_state=5)
    value, spread = (np.array([getattr(one, what)[0] for one in alone]) for what in
                     ("value", "std_error"))  # fmt: skip
    assert found.value[0] == pytest.approx(np.median(value))
    variance = np.median(spread**2 + (value - np.median(value)) ** 2)
    assert found.std_error[0] == pytest.approx(sqrt(variance))
    curves = np.array([one.curve["estimate"] for one in alone])
    np.testing.assert_allclose(found.curve["estimate"], np.median(curves, axis=0))
    assert "median of 3 cross-fits" in found.summary()


@pytest.mark.parametrize("outcome", ["binary", "count"])
def test_binary_and_count_outcomes(seed, outcome):
    rng = np.random.default_rng(seed)
    x, w = rng.normal(size=600), rng.permutation(np.arange(600) % 2)
    level = 0.8 * w * x
    y = rng.binomial(1, expit(level)) if outcome == "binary" else rng.poisson(np.exp(level))
    study = tc.Study(
        pd.DataFrame({"y": y, "w": w, "x": x}),
        outcome="y", treatment="w", covariates=["x"], propensity=0.5,
    )  # fmt: skip
    learner = "logistic" if outcome == "binary" else None
    nuisances = tc.cross_fit(study, outcome_learner=learner, random_state=0)
    found = rank_weighted_effect(tc.doubly_robust_scores(study, nuisances), x, random_state=0)
    # the mean effect above x = 1 exceeds that below by 0.2 (chances) and 1.5 (counts)
    assert found.ratio[0] > 2
    assert found.to_dataframe().notna().all(axis=None)


def test_outcomes_of_one_value_are_refused(score):
    table = pd.DataFrame({"score": score, "outcome": 4.0})
    with pytest.raises(RoleError, match="it is 4 for all 60 units"):
        rank_weighted_effect(Scores.from_dataframe(table), score)


def test_a_constant_priority_is_named(score):
    found = rank_weighted_effect(scores_of(score), np.full(60, 3.0), random_state=0)
    assert "the priority is constant, so it ranks nobody" in found.summary()


# -- priorities of learners --------------------------------------------------------------------


def test_priorities_fitted_on_these_units_are_refused(score):
    priority = pd.Series(score)
    seen = with_origin(priority, EffectOrigin("DRLearner()", trained_on=pd.RangeIndex(12)))
    with pytest.raises(LeakageError, match=r"fitted on 12 of the 60 units .*DRLearner\(\)"):
        rank_weighted_effect(scores_of(score), seen)
    other = with_origin(priority.copy(), EffectOrigin("x", trained_on=pd.Index([100, 101])))
    assert rank_weighted_effect(scores_of(score), other, random_state=0).n_units == 60


@pytest.mark.parametrize("how", [lambda p: p * 2, lambda p: -p, lambda p: p.sort_index(),
                                 lambda p: p.to_frame(), lambda p: p.rename("x"),
                                 lambda p: p.iloc[::-1], lambda p: p.rank()])  # fmt: skip
def test_the_origin_survives_what_one_does_with_a_series(score, how):
    seen = with_origin(pd.Series(score), EffectOrigin("x", trained_on=pd.RangeIndex(60)))
    with pytest.raises(LeakageError, match=r"60 of the 60"):
        rank_weighted_effect(scores_of(score), how(seen))


def test_out_of_fold_priorities_are_ranked_within_their_folds(score, rng):
    folds = pd.Series(np.arange(60) % 3)
    priority = pd.Series(rng.normal(size=60))
    moved = with_origin(priority + 100 * folds, EffectOrigin("x", folds=folds))
    ranks = priority.groupby(folds).rank()
    found = rank_weighted_effect(scores_of(score), moved, random_state=0)
    expected = loop_rate(score, ranks.tolist(), [1.0] * 60, "AUTOC")
    assert found.value[0] == pytest.approx(expected, abs=1e-10)
    assert found.ranked_within == "each of 3 folds"
    across = rank_weighted_effect(scores_of(score), moved, rank_within="all", random_state=0)
    expected = loop_rate(score, moved.tolist(), [1.0] * 60, "AUTOC")
    assert across.value[0] == pytest.approx(expected, abs=1e-10)


def test_weight_zero_is_no_row_within_folds_too(score, rng):
    folds, weight = pd.Series(np.arange(60) % 3), rng.uniform(0.5, 2, 60)
    weight[rng.permutation(60)[:20]] = 0.0
    kept = weight > 0
    priority = with_origin(pd.Series(rng.normal(size=60)), EffectOrigin("x", folds=folds))
    one = rank_weighted_effect(scores_of(score, weight), priority, random_state=0)
    scores = Scores.from_dataframe(pd.DataFrame({"score": score, "weight": weight})[kept])
    other = rank_weighted_effect(scores, priority, random_state=0)
    np.testing.assert_allclose(one.value, other.value, atol=1e-12)


@pytest.mark.parametrize("priority", [np.arange(60.0), pd.Series(np.arange(60.0))])
def test_folds_need_a_priority_that_knows_them(score, priority):
    with pytest.raises(ValueError, match=r"rank_within='folds' needs a priority from"):
        rank_weighted_effect(scores_of(score), priority, rank_within="folds")
