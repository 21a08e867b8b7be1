"""Views show the sites, distances and filters that they say."""

import numpy as np
import pandas as pd
import pytest
from scipy.spatial.distance import cdist
from sklearn.decomposition import PCA

from terracausal._foundation.errors import AlignmentError
from terracausal.encoders import RandomConvEncoder
from terracausal.encoders.views import (
    nearest_sites,
    plot_embeddings,
    plot_filters,
    plot_neighbours,
    unlike_features,
)
from terracausal.imagery import Chips

KEYS = pd.Index(list("hcagbdfe"), name="site")


@pytest.fixture(scope="module")
def chips():
    rng = np.random.default_rng(0)
    level = rng.normal(50, 20, size=(len(KEYS), 1, 2, 1, 1))
    pixels = level + 10 * rng.normal(size=(len(KEYS), 2, 2, 9, 9))
    return Chips.from_arrays(pixels, sites=KEYS, bands=["red", "nir"])


@pytest.fixture(scope="module")
def encoder(chips):
    return RandomConvEncoder(24, patch_px=(3, 5), random_state=0).fit(chips)


@pytest.fixture(scope="module")
def embeddings(encoder, chips):
    return encoder.transform(chips)


def standardised(table):
    return ((table - table.mean()) / table.std(ddof=0)).to_numpy()


def picture(ax):
    return np.asarray(ax.images[0].get_array())


def test_the_cloud_shows_the_first_two_components(embeddings):
    ax = plot_embeddings(embeddings)
    drawn = np.asarray(ax.collections[-1].get_offsets())
    expected = PCA(2, svd_solver="full").fit(standardised(embeddings))
    numbers = expected.transform(standardised(embeddings))
    np.testing.assert_allclose(np.abs(drawn), np.abs(numbers), rtol=1e-6, atol=1e-9)
    share = 100 * expected.explained_variance_ratio_[0]
    assert ax.get_xlabel() == f"Component 1 ({share:.0f} % of the variance)"


def test_colours_are_found_by_site(embeddings):
    rain = pd.Series({"a": 1.0, "h": 8.0, "z": 100.0, "b": 2.0}, name="Rain")
    ax = plot_embeddings(embeddings, rain)
    assert ax.collections[1].get_array().tolist() == [8.0, 1.0, 2.0]  # in the order h, a, b
    assert len(ax.collections[0].get_offsets()) == 5
    assert ax.figure.axes[1].get_ylabel() == "Rain"
    own = plot_embeddings(embeddings, "rcf_003")
    np.testing.assert_array_equal(own.collections[1].get_array(), embeddings["rcf_003"])


def test_colours_of_other_sites_are_refused(embeddings):
    with pytest.raises(AlignmentError, match=r"indexed by site, such as 'h', .* it has 0, 1"):
        plot_embeddings(embeddings, pd.Series([1.0, 2.0]))
    with pytest.raises(AlignmentError, match="1 stand more than once: 'a'"):
        plot_embeddings(embeddings, pd.Series([1.0, 2.0], index=["a", "a"]))
    with pytest.raises(ValueError, match=r"a column of the embeddings, .* got 'rain'"):
        plot_embeddings(embeddings, "rain")


def test_nearest_sites_have_the_smallest_cosine_distance(embeddings):
    rows = standardised(embeddings)
    distances = pd.DataFrame(cdist(rows, rows, "cosine"), KEYS, KEYS)
    for site in KEYS:
        expected = distances[site].drop(site).sort_values().head(3)
        found = nearest_sites(embeddings, site, 3)
        assert list(found.index) == list(expected.index)
        np.testing.assert_allclose(found, expected, atol=1e-12)
    assert len(nearest_sites(embeddings, "a", 100)) == len(KEYS) - 1


def test_units_and_constant_columns_do_not_change_neighbours(embeddings):
    other = embeddings.assign(rcf_000=1000 * embeddings["rcf_000"] + 5)
    other["constant"] = 0.1
    one, two = (nearest_sites(table, "a") for table in (embeddings, other))
    pd.testing.assert_series_equal(one, two, rtol=1e-9)


def test_neighbours_of_nobody_are_refused(embeddings):
    with pytest.raises(KeyError, match=r"8 embeddings, such as 'h', 'c', 'a' and 5 more; got 'z'"):
        nearest_sites(embeddings, "z")
    flat = pd.DataFrame({"a": [1.0, 2.0, 3.0]})
    with pytest.raises(ValueError, match="Site 1 has the average embedding"):
        nearest_sites(flat, 1)
    with pytest.raises(ValueError, match=r"`n_neighbours` .* got 0"):
        nearest_sites(flat, 0, 0)


def test_neighbours_are_drawn_nearest_first(embeddings, chips):
    axes = plot_neighbours(embeddings, chips, "c", 3, time=0, bands=["nir"])
    near = nearest_sites(embeddings, "c", 3)
    titles = [ax.get_title() for ax in axes.flat]
    assert titles == ["c", *(f"{site} ({distance:.2f})" for site, distance in near.items())]
    for site, ax in zip(["c", *near.index], axes.flat, strict=True):
        grey, pixels = picture(ax)[..., 0], chips[site][0, 1]
        inside = (grey > 0) & (grey < 1)
        assert np.corrcoef(grey[inside], pixels[inside])[0, 1] > 1 - 1e-6


def test_filters_stand_beside_the_chips_with_the_highest_values(encoder, embeddings, chips):
    origins = encoder.feature_origins()
    names = ["rcf_002", "rcf_020"]  # 3 px with relu(z), 5 px with relu(-z)
    assert origins.loc[names, ["patch_px", "sign"]].to_numpy().tolist() == [[3, 1], [5, -1]]
    axes = plot_filters(encoder, chips, names, n_chips=4)
    assert axes.shape == (2, 6)
    for row, name in zip(axes, names, strict=True):
        size, sign = origins.loc[name, "patch_px"], origins.loc[name, "sign"]
        weights = sign * encoder.filters_[origins.loc[name, "filter"], :, :size, :size]
        np.testing.assert_array_equal([picture(ax) for ax in row[:2]], weights)
        highest = embeddings[name].sort_values(ascending=False).head(4)
        titles = [f"{site} ({value:.2f})" for site, value in highest.items()]
        assert [ax.get_title() for ax in row[2:]] == titles


def test_filters_of_a_reduced_encoder_are_those_before_the_reduction(encoder, chips):
    reduced = RandomConvEncoder(24, patch_px=(3, 5), n_components=2, random_state=0).fit(chips)
    axes, same = (plot_filters(one, chips, ["rcf_005"], n_chips=2) for one in (reduced, encoder))
    assert [ax.get_title() for ax in axes.flat] == [ax.get_title() for ax in same.flat]
    assert reduced.transform(chips).shape == (8, 2)


def test_filters_that_are_shown_unasked_are_unlike(encoder, embeddings, chips):
    shown = unlike_features(embeddings)
    assert 1 < len(shown) <= 4
    assert plot_filters(encoder, chips, n_chips=1).shape[0] > 1
    # two groups of equal columns: one of each is shown
    rng = np.random.default_rng(0)
    one, two = rng.normal(size=(2, 50))
    table = pd.DataFrame({"a": one, "b": one, "c": two, "d": one})
    table += 1e-6 * rng.normal(size=table.shape)
    assert "c" in unlike_features(table)


def test_unknown_features_are_refused(encoder, chips):
    with pytest.raises(ValueError, match=r"such as 'rcf_000', .* got 'rcf_999'"):
        plot_filters(encoder, chips, ["rcf_000", "rcf_999"])
