"""Plots draw the numbers they are given, where they are given, and keep nothing open."""

import inspect
import io
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure

from terracausal import plotting
from terracausal.plotting import (
    plot_chips,
    plot_effect_map,
    plot_intervals,
    plot_overlap,
    plot_targeting_curve,
    stretch_chips,
)
from terracausal.plotting.canvas import BLUE, MISSING, ORANGE, decimals_for, diverging_colormap


@pytest.fixture
def table():
    return pd.DataFrame(
        {
            "term": ["first", "costs $5 or $6"],
            "estimate": [0.76, -0.10],
            "ci_low": [0.60, -0.40],
            "ci_high": [0.92, 0.20],
        }
    )


@pytest.fixture
def toc():
    fraction = np.array([1.0, 0.02, 0.1, 0.5])
    estimate = 0.5 * (1 - fraction)
    half = np.sqrt(1 / fraction - 1)
    return pd.DataFrame(
        {
            "fraction": fraction,
            "estimate": estimate,
            "ci_low": estimate - half,
            "ci_high": estimate + half,
        }
    )


def render(figure):
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def draw_all(ax, table, toc):
    yield plot_intervals(table, ax=ax())
    yield plot_targeting_curve(toc, ax=ax())
    yield plot_overlap([0.2, 0.8], [0, 1], ax=ax())
    yield plot_effect_map([1.0, 2.0], [3.0, 4.0], [0.1, -0.2], ax=ax())


def test_no_plot_is_left_with_pyplot(table, toc):
    before = plt.get_fignums()
    for drawn in draw_all(lambda: None, table, toc):
        assert render(drawn.figure).startswith(b"\x89PNG")
    render(plot_chips([np.ones((3, 2, 2))])[0, 0].figure)
    assert plt.get_fignums() == before


def test_plots_draw_on_the_axes_they_are_given(table, toc):
    given = []

    def fresh():
        given.append(Figure().add_subplot())
        return given[-1]

    drawn = list(draw_all(fresh, table, toc))
    assert all(one is other for one, other in zip(drawn, given, strict=True))


@pytest.mark.parametrize("name", plotting.__all__)
def test_every_argument_is_named(name):
    parameters = inspect.signature(getattr(plotting, name)).parameters.values()
    assert not [p for p in parameters if p.kind in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]


def test_importing_the_room_does_not_import_matplotlib():
    code = "import sys, terracausal.plotting; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_diverging_colours_darken_evenly_away_from_the_centre():
    colors = diverging_colormap()(np.linspace(0, 1, 65))[:, :3]
    # relative luminance decides the order also for readers who do not tell the two hues apart
    linear = np.where(colors <= 0.04045, colors / 12.92, ((colors + 0.055) / 1.055) ** 2.4)
    luminance = linear @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(luminance[:33]) > 0).all()
    assert (np.diff(luminance[32:]) < 0).all()


@pytest.mark.parametrize(("width", "expected"), [(0.32, 2), (3.2, 1), (2600.0, 0), (0.0, 2)])
def test_decimals_show_two_digits_of_the_width(width, expected):
    assert decimals_for(width) == expected


class TestIntervals:
    def test_draws_the_numbers_of_the_table_first_term_on_top(self, table):
        ax = plot_intervals(table)
        dots, lines = ax.collections[1], ax.collections[0]
        assert np.asarray(dots.get_offsets()).tolist() == [[0.76, 0.0], [-0.10, 1.0]]
        ends = [segment[:, 0].tolist() for segment in lines.get_segments()]
        assert ends == [[0.60, 0.92], [-0.40, 0.20]]
        bottom, top = ax.get_ylim()
        assert top < 0 < 1 < bottom

    def test_writes_the_numbers_with_two_digits_of_their_interval(self, table):
        written = [text.get_text() for text in plot_intervals(table).texts]
        assert written == ["0.76  (0.60 to 0.92)", "−0.10  (−0.40 to 0.20)"]
        assert not plot_intervals(table, show_numbers=False).texts

    def test_the_reference_is_where_it_is_asked_for(self, table):
        (line,) = plot_intervals(table, reference=0.5).lines
        assert list(line.get_xdata()) == [0.5, 0.5]
        assert not plot_intervals(table, reference=None).lines

    def test_names_with_dollar_signs_are_no_formulas(self, table):
        ax = plot_intervals(table)
        render(ax.figure)
        assert [label.get_text() for label in ax.get_yticklabels()] == list(table["term"])
        assert not any(label.get_parse_math() for label in ax.get_yticklabels())

    def test_states_the_unit(self, table):
        ax = plot_intervals(table, xlabel="Effect on yield", unit="t/ha")
        assert ax.get_xlabel() == "Effect on yield (t/ha)"

    def test_names_the_missing_column(self, table):
        with pytest.raises(ValueError, match="'ci_low' missing"):
            plot_intervals(table.drop(columns="ci_low"))

    def test_refuses_an_empty_table(self, table):
        with pytest.raises(ValueError, match="at least one row"):
            plot_intervals(table.iloc[:0])


class TestTargetingCurve:
    def test_draws_the_curve_in_order_of_the_fraction(self, toc):
        curve = plot_targeting_curve(toc).lines[1]
        assert list(curve.get_xdata()) == [0.02, 0.1, 0.5, 1.0]
        assert list(curve.get_ydata()) == pytest.approx([0.49, 0.45, 0.25, 0.0])

    def test_the_frame_leaves_out_the_band_of_the_first_units(self, toc):
        low, high = plot_targeting_curve(toc).get_ylim()
        assert high < toc["ci_high"].max()
        assert high > toc.loc[toc["fraction"] >= 0.05, "ci_high"].max()
        assert low < toc.loc[toc["fraction"] >= 0.05, "ci_low"].min()

    def test_refuses_percentages(self, toc):
        toc["fraction"] *= 100
        with pytest.raises(ValueError, match=r"4 do not, such as 100\.0"):
            plot_targeting_curve(toc)


class TestOverlap:
    def test_bars_count_the_units_of_each_arm_back_to_back(self):
        generator = np.random.default_rng(0)
        propensity, treatment = generator.random(500), generator.integers(0, 2, 500)
        ax = plot_overlap(propensity, treatment, n_bins=10)
        for color, arm, sign in ((BLUE, 1, 1), (ORANGE, 0, -1)):
            bars = [bar for bar in ax.patches if to_hex(bar.get_facecolor()) == color]
            counts = [sign * bar.get_height() for bar in bars]
            expected, _ = np.histogram(propensity[treatment == arm], bins=10, range=(0, 1))
            assert counts == expected.tolist()

    def test_both_directions_have_the_same_scale_and_no_negative_counts(self):
        ax = plot_overlap([0.5] * 9 + [0.4], [1] * 9 + [0])
        render(ax.figure)
        low, high = ax.get_ylim()
        assert -low == high
        assert not [text for text in ax.get_yticklabels() if "−" in text.get_text()]

    @pytest.mark.parametrize(
        ("propensity", "treatment", "message"),
        [
            ([0.5, 1.2], [0, 1], "0.5 to 1.2"),
            ([0.5, 0.6], [1, 2], "found 2 among 1"),
            ([0.5, 0.6], [1], r"\(2,\) and \(1,\)"),
            ([0.5, np.nan], [0, 1], "1 of 2 values are NaN"),
        ],
    )
    def test_refuses(self, propensity, treatment, message):
        with pytest.raises(ValueError, match=message):
            plot_overlap(propensity, treatment)


class TestEffectMap:
    def setup_method(self):
        generator = np.random.default_rng(1)
        self.lon, self.lat = generator.uniform(20, 22, 50), generator.uniform(58, 62, 50)
        self.effect = generator.normal(0.5, 1.0, 50)

    def test_points_stay_where_they_are(self):
        ax = plot_effect_map(self.lon, self.lat, self.effect)
        drawn = np.asarray(ax.collections[0].get_offsets())
        assert np.array_equal(drawn, np.column_stack([self.lon, self.lat]))

    def test_a_kilometre_is_as_long_both_ways(self):
        middle = (self.lat.min() + self.lat.max()) / 2
        ax = plot_effect_map(self.lon, self.lat, self.effect)
        assert ax.get_aspect() == pytest.approx(1 / np.cos(np.deg2rad(middle)))

    @pytest.mark.parametrize("center", [0.0, 0.5])
    def test_the_centre_is_white_and_the_colours_reach_equally_far(self, center):
        dots = plot_effect_map(self.lon, self.lat, self.effect, center=center).collections[0]
        low, high = dots.get_clim()
        assert (low + high) / 2 == pytest.approx(center)
        assert np.ptp(dots.to_rgba(center)[:3]) < 0.02
        red, _, blue, _ = dots.to_rgba(high)
        assert blue > red

    def test_the_scale_bar_is_as_long_as_it_says(self):
        ax = plot_effect_map(self.lon, self.lat, self.effect)
        bar, (text,) = ax.lines[-1], ax.texts
        share = np.ptp(bar.get_xdata())
        degrees = share * np.ptp(ax.get_xlim())
        middle = (self.lat.min() + self.lat.max()) / 2
        length_km = degrees * np.pi / 180 * 6371.0 * np.cos(np.deg2rad(middle))
        assert float(text.get_text().removesuffix(" km")) == pytest.approx(length_km, rel=0.01)

    def test_equal_effects_are_drawn(self):
        ax = plot_effect_map([1.0, 2.0], [1.0, 2.0], [0.3, 0.3], center=0.3)
        render(ax.figure)
        assert ax.collections[0].get_clim() == pytest.approx((-0.7, 1.3))

    def test_one_place_is_drawn(self):
        assert render(plot_effect_map([1.0], [2.0], [0.3]).figure)

    def test_the_colour_bar_states_the_unit(self):
        figure = plot_effect_map(self.lon, self.lat, self.effect, unit="t/ha").figure
        assert "Effect\n(t/ha)" in [ax.get_ylabel() for ax in figure.axes]

    def test_swapped_coordinates_are_named(self):
        with pytest.raises(ValueError, match=r"`lat` must lie .* found 120"):
            plot_effect_map([10.0], [120.0], [0.1])

    def test_lengths_must_agree(self):
        with pytest.raises(ValueError, match=r"\(1,\), \(2,\) and \(1,\)"):
            plot_effect_map([10.0], [1.0, 2.0], [0.1])


class TestChips:
    def test_one_stretch_for_all_chips(self):
        dark, bright = np.full((3, 4, 4), 10.0), np.full((3, 4, 4), 20.0)
        first, second = stretch_chips([dark, bright])
        assert first.max() == 0.0
        assert second.min() == 1.0

    def test_bands_keep_their_order(self):
        chip = np.zeros((4, 1, 4))
        chip[3, 0, 3] = 1.0
        (picture,) = stretch_chips([chip], bands=(3, 1, 0), percentiles=(0, 100))
        assert picture[0, 3].tolist() == [1.0, 0.5, 0.5]

    def test_missing_pixels_are_the_stated_grey(self):
        chip = np.random.default_rng(0).random((3, 5, 5))
        chip[1, 2, 3] = np.nan
        (picture,) = stretch_chips([chip])
        grey = np.isclose(picture, to_rgb(MISSING)).all(axis=-1)
        assert np.argwhere(grey).tolist() == [[2, 3]]
        assert MISSING in inspect.getdoc(stretch_chips)

    def test_a_chip_without_pixels_is_grey(self):
        (picture,) = stretch_chips([np.full((3, 2, 2), np.nan)])
        assert np.allclose(picture, to_rgb(MISSING))

    def test_one_band_is_grey_scale(self):
        (picture,) = stretch_chips([np.arange(6.0).reshape(1, 2, 3)], bands=(0,))
        assert picture.shape == (2, 3, 3)
        assert (np.ptp(picture, axis=-1) == 0).all()
        assert all(a <= b for a, b in pairwise(picture[..., 0].ravel()))

    def test_the_grid_has_a_place_for_each_chip(self):
        axes = plot_chips([np.ones((3, 2, 2))] * 5, titles=list("abcde"), n_columns=3)
        assert axes.shape == (2, 3)
        assert [ax.get_title() for ax in axes.flat] == [*"abcde", ""]
        assert len(axes[1, 2].images) == 0

    @pytest.mark.parametrize(
        ("images", "options", "message"),
        [
            ([], {}, "at least one chip"),
            ([np.ones((2, 3, 3))], {}, "chip 0 has 2 bands"),
            ([np.ones((3, 3))], {}, r"chip 0 has \(3, 3\)"),
            ([np.ones((3, 2, 2))], {"bands": (0, 1)}, "got 2"),
            ([np.ones((3, 2, 2))], {"percentiles": (98, 2)}, r"\(98, 2\)"),
        ],
    )
    def test_refuses(self, images, options, message):
        with pytest.raises(ValueError, match=message):
            stretch_chips(images, **options)

    def test_titles_must_fit(self):
        with pytest.raises(ValueError, match="1 chips; got 2 titles"):
            plot_chips([np.ones((3, 2, 2))], titles=["a", "b"])
