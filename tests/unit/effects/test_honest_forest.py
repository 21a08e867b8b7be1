"""Trees and forests against brute force, and what they draw."""

import numpy as np
import pytest

from terracausal.effects.honest_forest import (
    Draws,
    FeatureCodes,
    draw_clusters,
    draw_units,
    grow_forest,
    local_effect,
    variance_between,
)
from terracausal.effects.honest_trees import Rules, Sample, Tree, honest_tree


def make_sample(rng, n=120, weighted=False):
    features = rng.normal(size=(n, 3)).round(1)
    z = rng.integers(0, 2, n) - 0.5
    y = features[:, 0] + z * (1 + features[:, 1]) + rng.normal(size=n)
    weight = rng.uniform(0.5, 2, n) if weighted else np.ones(n)
    return features, Sample(FeatureCodes.of(features).encode(features), y, z, weight)


def best_by_hand(features, sample, rules, units):
    """Return the gain of each allowed cut, from the formulas and with real thresholds."""
    y, z, v = sample.outcome[units], sample.treatment[units], sample.weight[units]
    if rules.effects:
        slope, level = np.polyfit(z, y, 1, w=np.sqrt(v))
        rho = (z - np.average(z, weights=v)) * (y - level - slope * z)
    else:
        rho = y - np.average(y, weights=v)
    gains = {}
    for j in range(features.shape[1]):
        x = features[units, j]
        for threshold in np.unique(x)[:-1]:
            sides = [x <= threshold, x > threshold]
            if all(allowed(z, v, side, rules) for side in sides):
                gains[j, threshold] = sum((v * rho)[s].sum() ** 2 / v[s].sum() for s in sides)
    return gains


def allowed(z, v, side, rules):
    if not rules.effects:
        return side.sum() >= np.ceil(rules.min_share * len(z))
    mean = np.average(z, weights=v)
    below = (z[side] < mean).sum()
    variation = [
        np.cov(z[s], aweights=v[s], ddof=0) * v[s].sum() for s in (side, np.full(len(z), True))
    ]
    return (
        below >= rules.min_node_size
        and side.sum() - below >= rules.min_node_size
        and variation[0] >= rules.min_share * variation[1]
    )


@pytest.mark.parametrize("effects", [True, False])
@pytest.mark.parametrize("weighted", [True, False])
def test_every_split_is_the_best(rng, effects, weighted):
    features, sample = make_sample(rng, weighted=weighted)
    # a Poisson of mean 1000 is above 3 but for once in 10^400
    rules = Rules(1000.0, 5, 0.05, effects)
    growing, estimating = np.arange(80), np.arange(80, 120)
    tree = Tree(*honest_tree(sample, rules, growing, estimating, rng))
    # nobody is left without units to fill leaves, so no way was led past a branch
    n_splits = 0
    stack = [(0, growing)]
    while stack:
        node, units = stack.pop()
        gains = best_by_hand(features, sample, rules, units) if len(units) > 5 else {}
        first, second = tree.child[node]
        if first == 0:
            assert not gains
            continue
        if first == second:  # the other branch had no unit to fill it
            continue
        j, at = tree.feature[node], tree.cut[node]
        goes = sample.codes[j, units] <= at
        threshold = features[units[goes], j].max()
        assert gains[j, threshold] == pytest.approx(max(gains.values()))
        stack += [(first, units[goes]), (second, units[~goes])]
        n_splits += 1
    assert n_splits >= 2


def test_leaves_hold_the_means_of_the_other_half(rng):
    _, sample = make_sample(rng, weighted=True)
    growing, estimating = np.arange(0, 120, 2), np.arange(1, 120, 2)
    tree = Tree(*honest_tree(sample, Rules(3.0, 2, 0.05, True), growing, estimating, rng))
    leaves = np.array([leaf_of(tree, sample.codes[:, i]) for i in estimating])
    for leaf in np.unique(leaves):
        own = estimating[leaves == leaf]
        y, z, v = sample.outcome[own], sample.treatment[own], sample.weight[own]
        expected = [np.mean(v * part) for part in (y, z, y * z, z * z, np.ones(len(own)))]
        np.testing.assert_allclose(tree.moment[leaf], expected)
    # whoever comes, arrives at a leaf that holds somebody
    everybody = {leaf_of(tree, sample.codes[:, i]) for i in range(120)}
    assert everybody == set(leaves)


def leaf_of(tree, code):
    node = 0
    while tree.child[node, 0]:
        node = tree.child[node, int(code[tree.feature[node]] > tree.cut[node])]
    return node


def test_the_forest_is_the_average_of_its_trees(rng):
    _, sample = make_sample(rng, weighted=True)
    draws = Draws(np.arange(120) // 3, 0.5, 2, 3)
    forest, left_out = grow_forest(sample, Rules(3.0, 2, 0.05, True), draws, 30, rng, 1)
    moments = np.empty((30, 120, 5))
    for t, root in enumerate(forest.roots):
        end = forest.roots[t + 1] if t < 29 else len(forest.trees.feature)
        own = [field[root:end] for field in forest.trees]
        own[2] = own[2] - np.where(own[2] > 0, root, 0)
        leaves = [leaf_of(Tree(*own), sample.codes[:, i]) for i in range(120)]
        moments[t] = own[3][leaves]
    np.testing.assert_allclose(forest.moments(sample.codes), moments.mean(axis=0))
    effect, influence = local_effect(moments.mean(axis=0))
    np.testing.assert_allclose(forest.effects(sample.codes)[:, 0], effect)
    # little bags, out of bag: by unit, from the pairs that left it out
    found = forest.effects(sample.codes, left_out)
    for i in (0, 50):
        chosen = moments[left_out[:, i], i]
        effect, influence = (part[0] for part in local_effect(chosen.mean(axis=0)[None]))
        assert found[i, 0] == pytest.approx(effect)
        bags = (chosen @ influence).reshape(-1, 2)
        parts = [(bags.mean(axis=1) ** 2).mean(), (bags**2).mean(), float(len(bags))]
        assert found[i, 1] == pytest.approx(variance_between(np.array([parts]), 2)[0])


def test_influence_is_the_derivative(rng):
    moment = rng.uniform(0.5, 1, (4, 5))
    influence = local_effect(moment)[1]
    for j in range(5):
        step = np.zeros(5)
        step[j] = 1e-6
        slope = (local_effect(moment + step)[0] - local_effect(moment - step)[0]) / 2e-6
        np.testing.assert_allclose(influence[:, j], slope, rtol=1e-5)
    np.testing.assert_allclose((influence * moment).sum(axis=1), 0, atol=1e-9)
    # weights 1 and centred means give the usual slope
    np.testing.assert_allclose(local_effect(np.array([[0.0, 0, 3, 2, 1]]))[0], 1.5)


def test_variances():
    # far above the noise nothing is corrected; at 0 the mean of a half-normal is left
    plain = variance_between(np.array([[1.0, 1.01, 1000.0]]), 2)
    assert plain[0] == pytest.approx(1.0 - 0.01)
    spread = np.sqrt(2 / 50)
    none = variance_between(np.array([[1.0, 2.0, 50.0]]), 2)
    assert none[0] == pytest.approx(spread * np.sqrt(2 / np.pi))
    assert np.isnan(variance_between(np.array([[np.nan, np.nan, 0.0]]), 2)[0])
    deep = variance_between(np.array([[1.0, 200.0, 1000.0]]), 2)
    assert 0 < deep[0] < 0.1 * 199


def test_codes():
    few = np.array([[3.0], [1.0], [1.0], [2.0]])
    codes = FeatureCodes.of(few)
    assert codes.encode(few).tolist() == [[2, 0, 0, 1]]
    assert codes.encode(np.array([[0.0], [1.5], [9.0]])).tolist() == [[0, 1, 2]]
    many = np.r_[np.zeros(5000), np.arange(5000.0)][:, None]
    found = FeatureCodes.of(many).encode(many)[0]
    assert found.max() > 120
    # codes rise with values, and equal values have equal codes
    assert (np.diff(found[5000:].astype(int)) >= 0).all()
    assert (found[:5001] == 0).all()
    sizes = np.bincount(FeatureCodes.of(many[5000:]).encode(many[5000:])[0])
    assert len(sizes) == 256
    assert sizes.max() <= np.ceil(5000 / 256)
    assert FeatureCodes.of(np.ones((9, 1))).encode(np.ones((9, 1))).tolist() == [[0] * 9]


@pytest.mark.parametrize("fraction", [0.5, 0.3])
def test_pairs_share_a_half_sample_of_whole_clusters(rng, fraction):
    draws = Draws(np.repeat(np.arange(41), 3), fraction, 2, 3)
    for _ in range(20):
        one, other = draw_clusters(draws, rng)
        assert ((one > 0) | (other > 0)).sum() <= 20
        for part in (one, other):
            growing, estimating = draw_units(draws, part, rng)
            drawn = int(np.ceil(20 * 2 * fraction))
            assert len(growing) == 3 * np.ceil(drawn / 2)
            assert len(growing) + len(estimating) == 3 * drawn
            assert not set(draws.cluster[growing]) & set(draws.cluster[estimating])


def test_equal_numbers_from_each_cluster(rng):
    cluster = np.repeat(np.arange(40), 1 + np.arange(40) % 5)
    draws = Draws(cluster, 0.5, 2, 2)
    for part in draw_clusters(draws, rng):
        units = np.concatenate(draw_units(draws, part, rng))
        assert len(np.unique(units)) == len(units)
        counts = np.bincount(cluster[units], minlength=40)[part > 0]
        np.testing.assert_array_equal(counts, np.minimum(np.bincount(cluster)[part > 0], 2))
