"""Honest trees on binned features, compiled: growing, filling and reading them.

Athey, Tibshirani & Wager (2019), Generalized random forests, Annals of Statistics 47(2),
doi:10.1214/18-AOS1709. One half of a tree's units chooses the splits by the gradient approximation
of their section 2.3, the other half fills the leaves. Features are codes from 0 to 255, so that a
split is found from sums by code instead of from sorted values.
"""

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
N_CODES = 256
N_MOMENTS = 5  # of a leaf: outcome, treatment, outcome x treatment, treatment squared, weight
_BEYOND_ROUNDING = 1 + 1e-9  # equal parts by different features are a tie, which the first wins
_COUNT, _WEIGHT, _RHO, _TREATMENT, _SQUARE, _BELOW = range(6)


class Sample(NamedTuple):
    """What trees see.

    `codes` has the shape (n_features, n_units) and is uint8; `outcome`, `treatment` and `weight`
    have (n_units,). Outcome and treatment are residuals; the treatment is not looked at by trees
    that predict the outcome.
    """

    codes: NDArray[np.uint8]
    outcome: Floats
    treatment: Floats
    weight: Floats


class Rules(NamedTuple):
    """How trees split.

    `n_split_features` is the expected number of features tried at a split; nodes of at most
    `min_node_size` units stay whole; `min_share` is the smallest share of a node that a child may
    have. With `effects` the tree looks for differences in the effect of the treatment, and a child
    needs `min_node_size` units on either side of its parent's mean treatment.
    """

    n_split_features: float
    min_node_size: int
    min_share: float
    effects: bool


class Tree(NamedTuple):
    """One tree: units with a code of at most `cut` go to the first child.

    `feature` and `cut` have the shape (n_nodes,), `child` (n_nodes, 2) with 0 for leaves, `moment`
    (n_nodes, 5): means over the units of a leaf, all 0 in nodes without any.
    """

    feature: NDArray[np.int32]
    cut: NDArray[np.uint8]
    child: NDArray[np.int32]
    moment: Floats


@njit(cache=True, nogil=True)
def honest_tree(
    sample: Sample, rules: Rules, growing: Integers, estimating: Integers, rng: np.random.Generator
) -> tuple[Any, Any, Any, Any]:
    """Grow a tree on one set of units and fill its leaves with another.

    Parameters
    ----------
    sample : Sample
    rules : Rules
    growing, estimating : ndarray of int64
        Positions of units; no unit is in both.
    rng : numpy.random.Generator

    Returns
    -------
    feature, cut, child, moment : ndarray
        The fields of `Tree`.
    """
    feature, cut, child = _grow(sample, rules, growing, rng)
    moment = _fill(sample, estimating, feature, cut, child)
    return feature, cut, child, moment


@njit(cache=True, nogil=True)
def _grow(sample: Sample, rules: Rules, growing: Integers, rng: np.random.Generator) -> Any:
    members = growing.copy()
    capacity = max(1, 2 * len(members))
    feature = np.zeros(capacity, np.int32)
    cut = np.zeros(capacity, np.uint8)
    child = np.zeros((capacity, 2), np.int32)
    span = np.zeros((capacity, 2), np.int64)
    span[0, 1] = len(members)
    columns = np.arange(sample.codes.shape[0])
    parts = np.empty((len(members), 6))
    sums = np.zeros((N_CODES + 1, 8))[:, :6]  # by code, then the left side; rows of 64 bytes
    n_nodes, node = 1, 0
    while node < n_nodes:
        start, stop = span[node, 0], span[node, 1]
        own = members[start:stop]
        if len(own) > rules.min_node_size and _weigh(sample, rules.effects, own, parts):
            chosen, at = _best_split(sample.codes, rules, own, parts, columns, sums, rng)
            if chosen >= 0:
                middle = start + _part(sample.codes[chosen], own, at)
                feature[node], cut[node] = chosen, at
                child[node, 0], child[node, 1] = n_nodes, n_nodes + 1
                span[n_nodes, 0], span[n_nodes, 1] = start, middle
                span[n_nodes + 1, 0], span[n_nodes + 1, 1] = middle, stop
                n_nodes += 2
        node += 1
    return feature[:n_nodes].copy(), cut[:n_nodes].copy(), child[:n_nodes].copy()


@njit(cache=True, nogil=True)
def _weigh(sample: Sample, effects: bool, own: Integers, parts: Floats) -> bool:
    """Write what each unit adds to a side of a split; False where no split can be judged.

    `rho` is the unit's influence on the node's mean outcome or on its effect (equation 8).
    """
    y, z, weight = sample.outcome, sample.treatment, sample.weight
    total = sum_y = sum_z = 0.0
    for i in own:
        total += weight[i]
        sum_y += weight[i] * y[i]
        sum_z += weight[i] * z[i]
    if total <= 0.0:
        return False
    mean_y, mean_z, slope = sum_y / total, sum_z / total, 0.0
    if effects:
        yz = zz = 0.0
        for i in own:
            yz += weight[i] * (z[i] - mean_z) * (y[i] - mean_y)
            zz += weight[i] * (z[i] - mean_z) ** 2
        if zz <= 1e-10 * total:
            return False
        slope = yz / zz
    for k in range(len(own)):
        i = own[k]
        rho = y[i] - mean_y
        if effects:
            rho = (z[i] - mean_z) * (rho - slope * (z[i] - mean_z))
        parts[k, _COUNT] = 1.0
        parts[k, _WEIGHT] = weight[i]
        parts[k, _RHO] = weight[i] * rho
        parts[k, _TREATMENT] = weight[i] * z[i]
        parts[k, _SQUARE] = weight[i] * z[i] * z[i]
        parts[k, _BELOW] = 1.0 if z[i] < mean_z else 0.0
    return True


@njit(cache=True, nogil=True)
def _best_split(
    codes: NDArray[np.uint8],
    rules: Rules,
    own: Integers,
    parts: Floats,
    columns: Integers,
    sums: Floats,
    rng: np.random.Generator,
) -> tuple[int, int]:
    """Return the best feature of some drawn at random, and its cut; (-1, 0) if none will do."""
    n_features = len(columns)
    tried = min(max(rng.poisson(rules.n_split_features), 1), n_features)
    everyone = np.zeros(6)
    for k in range(len(own)):
        for j in range(6):
            everyone[j] += parts[k, j]
    if rules.effects:
        # as quickly said before as after all features have been tried
        rare = min(everyone[_BELOW], everyone[_COUNT] - everyone[_BELOW])
        if rare < 2 * rules.min_node_size:
            return -1, 0
    best_gain, best_feature, best_cut = 0.0, -1, 0
    for k in range(tried):
        other = k + int(rng.random() * (n_features - k))
        columns[k], columns[other] = columns[other], columns[k]
        low, high = _add_up(codes[columns[k]], own, parts, rules.effects, sums)
        gain, at = _best_cut(sums, low, high, everyone, rules)
        if gain > _BEYOND_ROUNDING * best_gain:
            best_gain, best_feature, best_cut = gain, columns[k], at
    return best_feature, best_cut


@njit(cache=True, nogil=True)
def _add_up(
    code: NDArray[np.uint8], own: Integers, parts: Floats, effects: bool, sums: Floats
) -> tuple[int, int]:
    """Sum the parts by code into empty `sums`; return the lowest and the highest code."""
    low, high = N_CODES - 1, 0
    for k in range(len(own)):
        b = code[own[k]]
        low, high = min(low, b), max(high, b)
        sums[b, _COUNT] += 1.0
        sums[b, _WEIGHT] += parts[k, _WEIGHT]
        sums[b, _RHO] += parts[k, _RHO]
        if effects:
            sums[b, _TREATMENT] += parts[k, _TREATMENT]
            sums[b, _SQUARE] += parts[k, _SQUARE]
            sums[b, _BELOW] += parts[k, _BELOW]
    return low, high


@njit(cache=True, nogil=True)
def _best_cut(
    sums: Floats, low: int, high: int, everyone: Floats, rules: Rules
) -> tuple[float, int]:
    """Return the largest gain and its cut, and leave `sums` empty."""
    left = sums[N_CODES]
    left[:] = 0.0
    whole = everyone[_WEIGHT]
    best_gain, best_cut = 0.0, 0
    for b in range(low, high):
        if sums[b, _COUNT] == 0.0:
            continue
        for j in range(3):
            left[j] += sums[b, j]
            sums[b, j] = 0.0
        if rules.effects:
            for j in range(3, 6):
                left[j] += sums[b, j]
                sums[b, j] = 0.0
        # rho adds up to 0, so both sides have the same square; a side without weight has none
        product = left[_WEIGHT] * (whole - left[_WEIGHT])
        gain = left[_RHO] ** 2 * whole / product if product > 0.0 else 0.0
        if gain > _BEYOND_ROUNDING * best_gain and _is_allowed(left, everyone, rules):
            best_gain, best_cut = gain, b
    sums[high] = 0.0
    return best_gain, best_cut


@njit(cache=True, nogil=True)
def _is_allowed(left: Floats, everyone: Floats, rules: Rules) -> bool:
    count, whole = left[_COUNT], everyone[_COUNT]
    if not rules.effects:
        smallest = max(1.0, np.ceil(rules.min_share * whole))
        return bool(smallest <= count <= whole - smallest)
    below, above = left[_BELOW], count - left[_BELOW]
    all_below = everyone[_BELOW]
    fewest = min(below, above, all_below - below, whole - all_below - above)
    if fewest < rules.min_node_size:
        return False
    smallest = rules.min_share * _variation(everyone)
    return bool(_variation(left) >= smallest and _variation(everyone - left) >= smallest)


@njit(cache=True, nogil=True)
def _variation(side: Floats) -> float:
    return float(side[_SQUARE] - side[_TREATMENT] ** 2 / side[_WEIGHT])


@njit(cache=True, nogil=True)
def _part(code: NDArray[np.uint8], own: Integers, at: int) -> int:
    """Bring units with a code of at most `at` to the front, in place; return how many."""
    front, back = 0, len(own) - 1
    while front <= back:
        if code[own[front]] <= at:
            front += 1
        else:
            own[front], own[back] = own[back], own[front]
            back -= 1
    return front


@njit(cache=True, nogil=True)
def _fill(
    sample: Sample,
    estimating: Integers,
    feature: NDArray[np.int32],
    cut: NDArray[np.uint8],
    child: NDArray[np.int32],
) -> Floats:
    """Return the mean moments of each leaf; both ways lead past a branch that holds no unit."""
    moment = np.zeros((len(feature), N_MOMENTS))
    count = np.zeros(len(feature))
    for i in estimating:
        node = 0
        while child[node, 0] > 0:
            node = child[node, int(sample.codes[feature[node], i] > cut[node])]
        y, z, w = sample.outcome[i], sample.treatment[i], sample.weight[i]
        count[node] += 1.0
        for j, value in enumerate((y, z, y * z, z * z, 1.0)):
            moment[node, j] += w * value
    # children stand behind their parents
    for node in range(len(feature) - 1, -1, -1):
        first, second = child[node, 0], child[node, 1]
        if first > 0:
            if count[first] == 0.0:
                child[node, 0] = second
            elif count[second] == 0.0:
                child[node, 1] = first
            count[node] = count[first] + count[second]
        elif moment[node, N_MOMENTS - 1] > 0.0:
            for j in range(N_MOMENTS):
                moment[node, j] /= count[node]
        else:
            count[node] = 0.0
    return moment


@njit(cache=True, nogil=True)
def find_leaves(tree: Tree, roots: Integers, codes: NDArray[np.uint8]) -> NDArray[np.int32]:
    """Return the leaf of each row in each tree.

    Parameters
    ----------
    tree : Tree
        All trees of a forest, one after another, with children counted from the first.
    roots : ndarray of shape (n_trees,)
    codes : ndarray of shape (n_features, n_rows)

    Returns
    -------
    ndarray of shape (n_trees, n_rows)
    """
    n_rows = codes.shape[1]
    leaves = np.empty((len(roots), n_rows), np.int32)
    for t in range(len(roots)):
        for i in range(n_rows):
            node = roots[t]
            while tree.child[node, 0] > 0:
                node = tree.child[node, int(codes[tree.feature[node], i] > tree.cut[node])]
            leaves[t, i] = node
    return leaves


@njit(cache=True, nogil=True)
def average_moments(moment: Floats, leaves: NDArray[np.int32], used: NDArray[np.bool_]) -> Floats:
    """Return the moments of each row, averaged over the trees that are used for it.

    Parameters
    ----------
    moment : ndarray of shape (n_nodes, 5)
    leaves, used : ndarray of shape (n_trees, n_rows)

    Returns
    -------
    ndarray of shape (n_rows, 5)
        NaN where no tree is used.
    """
    n_trees, n_rows = leaves.shape
    total, n_used = np.zeros((n_rows, N_MOMENTS)), np.zeros(n_rows)
    for t in range(n_trees):
        for i in range(n_rows):
            leaf = leaves[t, i]
            if used[t, i] and moment[leaf, N_MOMENTS - 1] > 0.0:
                n_used[i] += 1.0
                for j in range(N_MOMENTS):
                    total[i, j] += moment[leaf, j]
    for i in range(n_rows):
        for j in range(N_MOMENTS):
            total[i, j] = total[i, j] / n_used[i] if n_used[i] > 0 else np.nan
    return total


@njit(cache=True, nogil=True)
def little_bags(
    moment: Floats,
    leaves: NDArray[np.int32],
    used: NDArray[np.bool_],
    influence: Floats,
    group_size: int,
) -> Floats:
    """Return how a linear function of the moments varies between and within groups of trees.

    Parameters
    ----------
    moment : ndarray of shape (n_nodes, 5)
    leaves, used : ndarray of shape (n_trees, n_rows)
    influence : ndarray of shape (n_rows, 5)
        Coefficients of the function, whose mean over trees is 0.
    group_size : int
        Trees that share a half-sample, one after another.

    Returns
    -------
    ndarray of shape (n_rows, 3)
        Mean square of the groups' means; mean square of the trees; number of groups of which every
        tree is used.
    """
    n_trees, n_rows = leaves.shape
    found = np.zeros((n_rows, 3))
    for start in range(0, n_trees - group_size + 1, group_size):
        for i in range(n_rows):
            mean = square = 0.0
            complete = True
            for t in range(start, start + group_size):
                leaf = leaves[t, i]
                complete = complete and used[t, i] and moment[leaf, N_MOMENTS - 1] > 0.0
                value = 0.0
                for j in range(N_MOMENTS):
                    value += influence[i, j] * moment[leaf, j]
                mean += value / group_size
                square += value * value / group_size
            if complete:
                found[i, 0] += mean * mean
                found[i, 1] += square
                found[i, 2] += 1.0
    for i in range(n_rows):
        for j in range(2):
            found[i, j] = found[i, j] / found[i, 2] if found[i, 2] > 0 else np.nan
    return found
