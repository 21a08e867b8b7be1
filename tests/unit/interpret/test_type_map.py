"""The map of types: every place where it is, in the colour of its type, faint where unsure."""

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb

from terracausal._foundation.errors import AlignmentError, RoleError
from terracausal.imagery import Chips
from terracausal.interpret import map_types
from terracausal.plotting import plot_type_map
from terracausal.plotting.canvas import BLUE, ORANGE
from terracausal.study import Study

P = np.array([1.0, 0.9, 0.5, 0.1])
CHANCE = pd.DataFrame(
    {"probability_1": P, "probability_2": 1 - P, "sd_1": 0.1}, index=["a", "b", "c", "d"]
)


def make_chips():
    geometry = gpd.points_from_xy([31.0, 32.0, 33.0], [1.0, 2.0, 3.0])
    sites = gpd.GeoDataFrame(index=["d", "b", "a"], geometry=geometry, crs=4326)
    pixels = np.random.default_rng(0).normal(size=(3, 1, 1, 4, 4)).astype(np.float32)
    return Chips.from_arrays(pixels, sites=sites, bands=["red"])


def test_places_are_joined_by_key_and_lost_ones_counted():
    found = map_types(CHANCE, make_chips())
    assert found.table["lon"].to_dict() == {"a": 33.0, "b": 32.0, "d": 31.0}
    assert found.table["component"].to_dict() == {"a": 1, "b": 1, "d": 2}
    assert found.table.loc["d", "probability"] == 0.9
    assert found.notes == ("1 sites without a place are not on the map",)
    assert found.n_sure == 3
    assert "component 1 is the most probable at 2, at 2 of them" in found.summary()
    assert "not on the map" in found._repr_html_()
    assert found.to_dataframe()["site"].tolist() == ["a", "b", "d"]


def test_a_study_gives_mean_coordinates():
    table = pd.DataFrame(
        {"y": [1.0, 2, 3, 4], "w": [0, 1, 0, 1], "site": list("aabb"), "lon": [30, 32, 33, 35.0]}
    ).assign(lat=2.0)
    study = Study(table, outcome="y", treatment="w", site="site", coords=("lon", "lat"))
    found = map_types(CHANCE.loc[["a", "b"]], study)
    assert found.table["lon"].tolist() == [31.0, 34.0]
    bare = Study(table, outcome="y", treatment="w", site="site")
    with pytest.raises(RoleError, match="coords="):
        map_types(CHANCE, bare)


def test_colours_are_full_where_sure_and_paper_where_not():
    ax = map_types(CHANCE, make_chips()).plot()
    places = ax.collections[0]
    by_lon = dict(zip(places.get_offsets()[:, 0], places.get_facecolors()[:, :3], strict=True))
    np.testing.assert_allclose(by_lon[33.0], to_rgb(ORANGE))
    toward_blue = by_lon[31.0]
    paper = np.array(to_rgb("#f5f4f1"))
    np.testing.assert_allclose(toward_blue, paper + 0.8 * (np.array(to_rgb(BLUE)) - paper))
    ax = plot_type_map([31, 32], [1, 2], [[1 / 3, 1 / 3, 1 / 3], [0, 0, 1]], names=list("xyz"))
    np.testing.assert_allclose(ax.collections[0].get_facecolors()[0, :3], paper)
    assert [t.get_text() for t in ax.get_legend().get_texts()][2] == "z (1)"


def test_one_type_is_drawn_in_full():
    ax = plot_type_map([31], [1], [[1.0]])
    np.testing.assert_allclose(ax.collections[0].get_facecolors()[0, :3], to_rgb(ORANGE))
    assert len(ax.get_legend().get_texts()) == 1


def test_what_cannot_be_mapped_is_refused():
    with pytest.raises(RoleError, match="'sd_1'"):
        map_types(CHANCE[["sd_1"]], make_chips())
    with pytest.raises(AlignmentError, match=r"'c', places for 'd', 'b', 'a'"):
        map_types(CHANCE.loc[["c"]], make_chips())
    with pytest.raises(ValueError, match=r"sum to 1; got \[0.5, 0.2\]"):
        plot_type_map([31], [1], [[0.5, 0.2]])
    with pytest.raises(ValueError, match=r"1 to 6 columns; found shape \(1, 7\)"):
        plot_type_map([31], [1], [[1 / 7] * 7])
