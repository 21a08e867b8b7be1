"""Principal components of embeddings against scikit-learn, and what they refuse."""

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

from terracausal.encoders import BandStatisticsEncoder, RandomConvEncoder
from terracausal.encoders.reduction import fit_components
from terracausal.imagery import Chips


def embeddings(n_sites=40, n_features=7, seed=0):
    """Return correlated features of very different level and spread."""
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(n_features, n_features))
    return rng.normal(size=(n_sites, n_features)) @ mixing * 10.0 ** np.arange(n_features) + 3


@pytest.mark.parametrize("whiten", [False, True])
@pytest.mark.parametrize(("n_sites", "n_features"), [(40, 7), (6, 30)])
def test_components_are_those_of_scikit_learn(n_sites, n_features, whiten):
    rows = (
        embeddings(n_sites, n_features)
        if n_features < 20
        else embeddings(n_sites, 7) @ (np.random.default_rng(1).normal(size=(7, n_features)))
    )
    found = fit_components(rows, 4, whiten=whiten)
    standard = StandardScaler().fit(rows)
    other = PCA(4, whiten=whiten, svd_solver="full").fit(standard.transform(rows))
    np.testing.assert_allclose(
        found.explained_variance_ratio, other.explained_variance_ratio_, rtol=1e-9
    )
    new = embeddings(5, 7, seed=2) if n_features < 20 else rows[:5] + 1.0
    # scikit-learn divides by n - 1 and has signs of its own
    expected = other.transform(standard.transform(new))
    expected *= np.sqrt(n_sites / (n_sites - 1)) if whiten else 1.0
    ours = found.transform(new)
    signs = np.sign((ours * expected).sum(axis=0))
    np.testing.assert_allclose(ours * signs, expected, rtol=1e-7, atol=1e-7)


def test_shares_of_all_possible_components_sum_to_one():
    found = fit_components(embeddings(), 2)
    assert found.variance_shares.shape == (7,)
    assert found.variance_shares.sum() == pytest.approx(1)
    assert (np.diff(found.variance_shares) <= 0).all()
    assert found.description()["explained_variance"] == found.variance_shares[:2].sum()
    # the sites, about their mean, span one dimension less than there are sites
    assert fit_components(embeddings(5, 7), 2).variance_shares.shape == (4,)


def test_whitened_components_are_uncorrelated_with_unit_variance():
    rows = embeddings()
    found = fit_components(rows, 5, whiten=True).transform(rows)
    np.testing.assert_allclose(np.cov(found.T, bias=True), np.eye(5), atol=1e-9)


@pytest.mark.parametrize("n_features", [7, 301])
def test_the_row_of_a_site_does_not_depend_on_the_other_rows(n_features):
    rows = np.random.default_rng(0).normal(size=(40, n_features))
    components = fit_components(np.asfortranarray(rows), 3)
    together = components.transform(rows)
    for position in range(len(rows)):
        alone = components.transform(rows[position : position + 1])
        np.testing.assert_array_equal(alone[0], together[position])


def test_the_largest_loading_is_positive():
    directions = fit_components(embeddings(), 5).directions
    largest = directions[np.arange(5), np.abs(directions).argmax(axis=1)]
    assert (largest > 0).all()


def test_units_of_a_feature_change_nothing():
    rows = embeddings()
    other = rows * np.array([1e-6, 1, 1e6, 5, 1, 1, 1]) + 7
    one, two = (fit_components(given, 3).transform(given) for given in (rows, other))
    np.testing.assert_allclose(one, two, rtol=1e-6, atol=1e-6)


def test_constant_features_have_no_bearing():
    rows = embeddings()
    padded = np.insert(rows, [0, 3], [0.1, 1e9], axis=1)
    one, two = (fit_components(given, 3) for given in (rows, padded))
    assert (two.scale[[0, 4]] == 1).all()
    np.testing.assert_allclose(one.transform(rows), two.transform(padded), atol=1e-9)


@pytest.mark.parametrize(
    ("rows", "n_components", "message"),
    [
        (embeddings(), 8, "at most 7 for 40 sites and 7 features; got 8"),
        (embeddings(5), 5, "at most 4 for 5 sites and 7 features; got 5"),
        (np.repeat(embeddings(10, 2), 3, axis=1), 3, "vary in 2 directions only; got .* = 3"),
        (np.ones((5, 3)), 1, "vary in 0 directions only"),
    ],
)
def test_too_many_components_are_refused(rows, n_components, message):
    with pytest.raises(ValueError, match=message):
        fit_components(rows, n_components)


def chips_of(seed, n_sites=12):
    pixels = np.random.default_rng(seed).gamma(3, 20, size=(n_sites, 1, 2, 9, 9))
    return Chips.from_arrays(pixels, sites=range(n_sites), bands=["red", "nir"])


@pytest.mark.parametrize("whiten", [False, True])
def test_an_encoder_keeps_the_components_of_the_fitted_chips(whiten):
    full = BandStatisticsEncoder().fit(chips_of(0))
    reduced = BandStatisticsEncoder(n_components=3, whiten=whiten).fit(chips_of(0))
    rows = full.transform(chips_of(0)).to_numpy()
    new = full.transform(chips_of(1)).to_numpy()
    expected = fit_components(rows, 3, whiten=whiten).transform(new)
    table = reduced.transform(chips_of(1))
    np.testing.assert_array_equal(table, expected)
    assert list(table.columns) == ["pc_000", "pc_001", "pc_002"]
    assert table.attrs["encoder"]["reduction"]["n_features"] == 10


def test_too_many_components_of_an_encoder_are_refused():
    with pytest.raises(ValueError, match="at most 11 for 12 sites and 16 features; got 12"):
        RandomConvEncoder(16, n_components=12, random_state=0).fit(chips_of(0))
    with pytest.raises(ValueError, match=r"`n_components` .* at least 1; got 2\.5"):
        RandomConvEncoder(16, n_components=2.5, random_state=0).fit(chips_of(0))


def test_explained_variance_is_drawn():
    encoder = RandomConvEncoder(16, n_components=3, random_state=0).fit(chips_of(0))
    components = encoder.components_
    ax = components.plot()
    curve = ax.lines[0].get_xydata()
    np.testing.assert_array_equal(curve[:, 0], np.arange(12))
    np.testing.assert_allclose(np.diff(curve[:, 1]), components.variance_shares)
    share = 100 * components.explained_variance_ratio.sum()
    assert ax.texts[0].get_text() == f"3 of 11 components: {share:.1f} %"
