"""Plots of diagnostics draw what their tables hold, and refuse what they cannot draw."""

import numpy as np
import pandas as pd
import pytest

from terracausal.plotting import (
    plot_autocorrelation,
    plot_balance,
    plot_calibration,
    plot_trimmed_map,
)


def labels(ax):
    return [text.get_text() for text in ax.get_yticklabels()]


def test_the_love_plot_shows_sizes_the_worst_first():
    table = pd.DataFrame(
        {"column": ["a", "b", "c"], "before": [0.1, -0.5, 0.3], "after": [0.05, 0.02, -0.1]}
    )
    ax = plot_balance(table)
    assert labels(ax) == ["b", "c", "a"]
    before, after = (np.asarray(points.get_offsets())[:, 0] for points in ax.collections[1:])
    np.testing.assert_allclose(before, [0.5, 0.3, 0.1])
    np.testing.assert_allclose(after, [0.02, 0.1, 0.05])


def test_the_love_plot_counts_what_it_leaves_out():
    table = pd.DataFrame(
        {"column": list("abcd"), "before": [0.1, 0.2, 0.0, 0.3], "after": [0.0, 0.0, 0.9, 0.0]}
    )
    ax = plot_balance(table, n_rows=2)
    # the largest of either side is kept: c is worst after weighting
    assert labels(ax) == ["d", "c"]
    assert "2 better balanced not shown" in [text.get_text() for text in ax.texts]


def test_calibration_points_lie_where_the_table_says():
    table = pd.DataFrame(
        {
            "predicted": [0.2, 0.8],
            "observed": [0.3, 0.6],
            "ci_low": [0.1, 0.4],
            "ci_high": [0.5, 0.9],
        }
    )
    ax = plot_calibration(table)
    points = np.asarray(ax.collections[-1].get_offsets())
    np.testing.assert_allclose(points, table[["predicted", "observed"]])
    assert ax.get_xlim() == ax.get_ylim()


def test_autocorrelation_is_drawn_on_the_range_of_chance():
    table = pd.DataFrame(
        {"value": ["score"], "moran": 0.4, "null_low": -0.1, "null_high": 0.2, "p_value": 0.0123}
    )
    ax = plot_autocorrelation(table)
    (segment,) = ax.collections[0].get_segments()
    np.testing.assert_allclose(segment[:, 0], [-0.1, 0.2])
    assert "p = 0.0123" in [text.get_text() for text in ax.texts]


def test_the_map_of_trimmed_units_counts_each_side():
    ax = plot_trimmed_map([30, 31, 32, 33], [1, 2, 1, 2], [0, 0, -1, 1])
    texts = [text.get_text() for text in ax.get_legend().get_texts()]
    assert [text[-3:] for text in texts] == ["(2)", "(1)", "(1)"]
    places = [np.asarray(points.get_offsets()).tolist() for points in ax.collections]
    assert places == [[[30, 1], [31, 2]], [[32, 1]], [[33, 2]]]


def test_given_axes_are_used():
    from matplotlib.figure import Figure

    ax = Figure().add_subplot()
    assert plot_trimmed_map([30, 31], [1, 2], [0, 1], ax=ax) is ax


@pytest.mark.parametrize("plot", [plot_autocorrelation, plot_balance, plot_calibration])
def test_missing_columns_are_named(plot):
    with pytest.raises(ValueError, match=r"`table` needs the columns .* found 'x'"):
        plot(pd.DataFrame({"x": [1.0]}))


def test_a_side_that_is_none_is_named():
    with pytest.raises(ValueError, match="`side` must be -1, 0 or 1; found 2"):
        plot_trimmed_map([30, 31], [1, 2], [0, 2])
    with pytest.raises(ValueError, match="`lon`, `lat` and `side` must be one number per place"):
        plot_trimmed_map([30, 31], [1, 2], [0])
