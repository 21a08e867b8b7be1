"""The default learners against scikit-learn at the penalty that they chose."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GroupKFold

from terracausal.nuisance import ClusterLogistic, ClusterRidge


def data(rng, n=60, p=5):
    X = rng.normal(size=(n, p)) * rng.uniform(0.1, 10, p) + rng.normal(size=p)
    return X, X @ (rng.normal(size=p) / X.std(axis=0)) + rng.normal(size=n), rng.uniform(0.5, 2, n)


def standardised(X, v):
    centre = np.average(X, axis=0, weights=v)
    return (X - centre) / np.sqrt(np.average((X - centre) ** 2, axis=0, weights=v))


@pytest.mark.parametrize("p", [3, 40, 90])
@pytest.mark.parametrize("weighted", [False, True])
def test_ridge_at_the_chosen_penalty(rng, p, weighted):
    X, y, v = data(rng, p=p)
    v = v / v.mean() if weighted else np.ones(60)
    found = ClusterRidge().fit(X, y, sample_weight=v if weighted else None)
    Z = standardised(X, v)
    expected = Ridge(alpha=found.penalty_ * 60, solver="svd").fit(Z, y, sample_weight=v)
    np.testing.assert_allclose(found.predict(X), expected.predict(Z), rtol=1e-8, atol=1e-8)
    coef = expected.coef_ * (Z.std(axis=0) / X.std(axis=0))
    np.testing.assert_allclose(found.coef_, coef, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("p", [4, 90])
def test_ridge_chooses_the_penalty_with_least_loss_on_held_out_clusters(rng, p):
    X, y, _ = data(rng, p=p)
    groups = np.repeat(np.arange(15), 4)
    penalties = (0.01, 0.1, 1.0, 10.0)
    found = ClusterRidge(penalties).fit(X, y, groups=groups)
    Z = standardised(X, np.ones(60))
    losses = []
    for penalty in penalties:
        loss = 0.0
        for train, test in GroupKFold(5).split(Z, y, groups):
            ridge = Ridge(alpha=penalty * 60, solver="svd").fit(Z[train], y[train])
            loss += ((y[test] - ridge.predict(Z[test])) ** 2).sum()
        losses.append(loss)
    assert found.penalty_ == pytest.approx(penalties[int(np.argmin(losses))])


def test_groups_matter(rng):
    # all that X tells is the cluster, so knowing a neighbour's outcome is no merit
    cluster, ratios = np.repeat(np.arange(20), 6), []
    for _ in range(5):
        X, y = rng.normal(size=(20, 30))[cluster], rng.normal(size=20)[cluster]
        y = y + 0.1 * rng.normal(size=120)
        one, other = ClusterRidge().fit(X, y, groups=cluster), ClusterRidge().fit(X, y)
        ratios.append(one.penalty_ / other.penalty_)
    assert np.median(ratios) > 10


@pytest.mark.parametrize("make", [ClusterRidge, ClusterLogistic])
def test_names_of_groups_do_not_matter(rng, make):
    X, y, _ = data(rng)
    y, groups = (y > np.median(y)).astype(float), np.arange(60) // 4
    one = make().fit(X, y, groups=groups).predict(X)
    other = make().fit(X, y, groups=[f"g{99 - g}" for g in groups]).predict(X)
    np.testing.assert_array_equal(one, other)


def test_ridge_with_doubled_rows_is_ridge_with_weight_two(rng):
    X, y, _ = data(rng)
    v = np.where(np.arange(60) < 20, 2.0, 1.0)
    twice = np.repeat(np.arange(60), v.astype(int))
    one = ClusterRidge((0.3,)).fit(X, y, sample_weight=v)
    other = ClusterRidge((0.3,)).fit(X[twice], y[twice])
    # the penalty is per unit: 60 units of mean weight 4/3 stand for 80
    np.testing.assert_allclose(one.coef_, other.coef_, rtol=1e-8)


@pytest.mark.parametrize("make", [ClusterRidge, ClusterLogistic])
def test_scale_of_weights_does_not_matter(rng, make):
    X, y, v = data(rng)
    y = (y > np.median(y)).astype(float)
    one, other = (make().fit(X, y, sample_weight=k * v) for k in (1.0, 25.0))
    values = [getattr(f, "predict_proba", f.predict)(X) for f in (one, other)]
    np.testing.assert_allclose(values[0], values[1], rtol=1e-6)


def test_ridge_shift_and_scale_of_the_outcome(rng):
    X, y, _ = data(rng)
    one, other = ClusterRidge().fit(X, y), ClusterRidge().fit(X, 3 * y + 100)
    np.testing.assert_allclose(3 * one.predict(X) + 100, other.predict(X), rtol=1e-9)


def test_ridge_scale_of_columns_does_not_matter(rng):
    X, y, _ = data(rng)
    scale = 10.0 ** np.arange(-2, 3)
    np.testing.assert_allclose(
        ClusterRidge().fit(X, y).predict(X),
        ClusterRidge().fit(X * scale + 7, y).predict(X * scale + 7),
        rtol=1e-8,
    )


def test_constant_columns_add_nothing(rng):
    X, y, _ = data(rng)
    flat = np.column_stack([X, np.full(60, 1e6), np.zeros(60)])
    found = ClusterRidge().fit(flat, y)
    np.testing.assert_allclose(found.predict(flat), ClusterRidge().fit(X, y).predict(X), rtol=1e-9)
    classes = (y > np.median(y)).astype(int)
    np.testing.assert_allclose(
        ClusterLogistic().fit(flat, classes).predict_proba(flat),
        ClusterLogistic().fit(X, classes).predict_proba(X),
        rtol=1e-6,
    )


def test_constant_outcome(rng):
    X, _, _ = data(rng)
    np.testing.assert_allclose(ClusterRidge().fit(X, np.full(60, 4.0)).predict(X), 4.0, rtol=1e-12)


@pytest.mark.parametrize("p", [4, 90])
def test_logistic_at_the_chosen_penalty(rng, p):
    X, y, v = data(rng, p=p)
    y = (y > np.median(y)).astype(int)
    v = v / v.mean()
    found = ClusterLogistic(calibrate=False).fit(X, y, sample_weight=v)
    Z = standardised(X, v)
    expected = LogisticRegression(C=found.inverse_penalty_, tol=1e-10, max_iter=5000)
    expected.fit(Z, y, sample_weight=v)
    # the learner stops at scikit-learn's default gradient of 1e-4
    np.testing.assert_allclose(found.predict_proba(X), expected.predict_proba(Z), atol=1e-3)
    assert (found.predict(X) == (found.predict_proba(X)[:, 1] > 0.5)).all()


def test_logistic_of_noise_shrinks_to_the_share(rng):
    spreads = []
    for _ in range(5):
        X, y = rng.normal(size=(200, 60)), rng.permutation(np.arange(200) % 4 == 0).astype(int)
        spreads.append(ClusterLogistic().fit(X, y).predict_proba(X)[:, 1].std())
    # without a penalty 60 columns of noise spread the probabilities by more than 0.3
    assert np.median(spreads) < 0.15


@pytest.mark.parametrize("make", [ClusterRidge, ClusterLogistic])
def test_scikit_learn_habits(rng, make):
    X, y, _ = data(rng)
    y = (y > 0).astype(int)
    with pytest.raises(NotFittedError):
        make().predict(X)
    learner = make(n_folds=3)
    assert clone(learner).get_params() == learner.get_params()
    assert learner.fit(X, y) is learner
    with pytest.raises(ValueError, match=r"4 features, but \w+ is expecting 5"):
        learner.predict(X[:, :4])
    with pytest.raises(ValueError, match=r"n_folds` must be .* got 1"):
        make(n_folds=1).fit(X, y)


def test_wide_columns_of_sites_are_fitted_in_their_own_directions(rng, monkeypatch):
    # 120 columns of 30 sites: at most 30 directions, and two columns of units
    site = np.repeat(np.arange(30), 8)
    x = np.column_stack([rng.normal(size=(30, 120))[site], rng.normal(size=(240, 2))])
    y, v = x[:, 0] + x[:, -1] + rng.normal(size=240), rng.uniform(0.5, 2, 240)
    quick = ClusterRidge().fit(x, y, sample_weight=v, groups=site)
    monkeypatch.setattr("terracausal.nuisance.learners._WIDE", 1_000)
    slow = ClusterRidge().fit(x, y, sample_weight=v, groups=site)
    assert quick.penalty_ == slow.penalty_
    np.testing.assert_allclose(quick.coef_, slow.coef_, rtol=0, atol=1e-10)
    assert quick.intercept_ == pytest.approx(slow.intercept_, abs=1e-10)
