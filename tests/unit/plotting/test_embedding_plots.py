"""Clouds, explained variance and filters: what is drawn is what was given."""

import io

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from terracausal.plotting import plot_cloud, plot_explained_variance, plot_filter_rows
from terracausal.plotting.canvas import BLUE, MISSING, MUTED, ORANGE

X, Y = np.arange(12.0), np.arange(12.0) ** 2


def offsets(collection):
    return np.asarray(collection.get_offsets()).tolist()


def render(figure):
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    assert buffer.getvalue().startswith(b"\x89PNG")


class TestCloud:
    def test_numbers_are_told_by_colours_without_the_extremes(self):
        values = np.append(np.arange(199.0), 1e6)
        ax = plot_cloud(np.arange(200.0), np.zeros(200), values, label="Rain (mm)")
        dots = ax.collections[-1]
        np.testing.assert_array_equal(dots.get_array(), values)
        assert dots.get_clim() == tuple(np.quantile(values, (0.01, 0.99)))
        assert dots.get_clim()[1] < 1000
        assert ax.figure.axes[1].get_ylabel() == "Rain (mm)"

    def test_missing_values_are_grey(self):
        values = pd.Series([np.nan, *range(11)])
        ax = plot_cloud(X, Y, values)
        grey, known = ax.collections
        assert offsets(grey) == [[0.0, 0.0]]
        assert to_hex(grey.get_facecolor()[0]) == MISSING
        assert len(offsets(known)) == 11
        render(ax.figure)

    def test_groups_have_a_colour_each_the_largest_first(self):
        groups = ["b"] * 7 + ["costs $5 or $6"] * 4 + [None]
        ax = plot_cloud(X, Y, groups, label="District")
        legend = ax.get_legend()
        assert [text.get_text() for text in legend.get_texts()] == ["b (7)", "costs $5 or $6 (4)"]
        assert legend.get_title().get_text() == "District"
        grey, first, second = ax.collections
        assert offsets(grey) == [[11.0, 121.0]]
        assert len(offsets(first)) == 7
        assert [to_hex(c.get_facecolor()[0]) for c in (first, second)] == [BLUE, ORANGE]
        render(ax.figure)

    def test_small_groups_share_a_colour(self):
        groups = [f"g{k}" for k in range(9)] * 2 + [f"g{k}" for k in range(8)]
        place = np.arange(float(len(groups)))
        ax = plot_cloud(place, place, groups)
        texts = [text.get_text() for text in ax.get_legend().get_texts()]
        assert texts == [f"g{k} (3)" for k in range(8)] + ["1 other group (2)"]
        others = ax.collections[1]
        assert offsets(others) == [[8.0, 8.0], [17.0, 17.0]]
        assert to_hex(others.get_facecolor()[0]) == MUTED

    def test_truth_values_are_groups(self):
        assert plot_cloud(X, Y, X > 3).get_legend() is not None

    def test_without_colours_there_is_nothing_to_tell(self):
        ax = plot_cloud(X, Y)
        assert ax.get_legend() is None
        assert len(ax.figure.axes) == 1
        assert offsets(ax.collections[-1]) == np.column_stack([X, Y]).tolist()

    @pytest.mark.parametrize(
        ("x", "color", "message"),
        [
            (X[:5], X, "found 5, 12 and 12"),
            (X, X[:3], "found 12, 12 and 3"),
            ([np.nan, *X[1:]], X, "`x` must be finite; 1 of 12"),
        ],
    )
    def test_refuses(self, x, color, message):
        with pytest.raises(ValueError, match=message):
            plot_cloud(x, Y, color)


class TestExplainedVariance:
    def test_the_curve_rises_from_nothing_to_all(self):
        ax = plot_explained_variance([0.5, 0.3, 0.2], 2)
        np.testing.assert_allclose(ax.lines[0].get_ydata(), [0, 0.5, 0.8, 1.0])
        np.testing.assert_allclose(ax.lines[1].get_xydata(), [[2, 0.8]])
        assert ax.texts[0].get_text() == "2 of 3 components: 80.0 %"
        assert ax.get_xlim() == (0, 3)
        render(ax.figure)

    def test_the_flat_end_is_left_out(self):
        shares = np.r_[[0.9, 0.0999], np.full(98, 0.0001 / 98)]
        assert plot_explained_variance(shares, 2).get_xlim()[1] < 10
        assert plot_explained_variance(shares, 60).get_xlim()[1] == 75

    @pytest.mark.parametrize("n_kept", [0, 4])
    def test_refuses(self, n_kept):
        with pytest.raises(ValueError, match=f"between 1 and 3; got {n_kept}"):
            plot_explained_variance([0.5, 0.3, 0.2], n_kept)


class TestFilterRows:
    def test_each_filter_has_its_own_symmetric_colours(self):
        small, large = np.array([[[0.5]], [[-2.0]]]), np.ones((2, 3, 3))
        picture = np.full((4, 4, 3), 0.5)
        axes = plot_filter_rows(
            [small, large],
            [[picture], [picture]],
            bands=["red", "nir"],
            names=["rcf_000", "rcf_001"],
            titles=[["a"], ["b"]],
        )
        assert axes.shape == (2, 3)
        assert [ax.images[0].get_clim() for ax in axes[:, 0]] == [(-2, 2), (-1, 1)]
        np.testing.assert_array_equal(axes[0, 1].images[0].get_array(), [[-2.0]])
        assert [ax.get_title() for ax in axes[:, 2]] == ["a", "b"]
        assert axes[1, 1].get_xlabel() == "nir"
        render(axes[0, 0].figure)

    def test_refuses_rows_of_different_lengths(self):
        with pytest.raises(ValueError, match=r"2 filters with \[2, 1\] of 2 bands"):
            plot_filter_rows(
                [np.ones((2, 3, 3)), np.ones((1, 3, 3))],
                [[], []],
                bands=["red", "nir"],
                names=["a", "b"],
                titles=[[], []],
            )


def test_axes_are_those_given_and_pyplot_keeps_nothing():
    before = plt.get_fignums()
    for draw in (
        lambda ax: plot_cloud(X, Y, X, ax),
        lambda ax: plot_explained_variance([0.6, 0.4], 1, ax),
    ):
        ax = Figure().add_subplot()
        assert draw(ax) is ax
        draw(None)
    assert plt.get_fignums() == before
