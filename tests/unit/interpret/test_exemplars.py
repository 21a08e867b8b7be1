"""Exemplars: the right sites, apart, not flat, not doubled; profiles equal plain weighted means."""

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest

from terracausal._foundation.errors import AlignmentError, RoleError
from terracausal.imagery import Chips
from terracausal.interpret import component_profile, exemplars


def chips_at(lon, pixels):
    sites = gpd.GeoDataFrame(
        index=[f"s{k}" for k in range(len(lon))],
        geometry=gpd.points_from_xy(lon, np.zeros(len(lon))),
        crs=4326,
    )
    return Chips.from_arrays(pixels, sites=sites, bands=["red", "green", "blue"])


@pytest.fixture
def pixels(rng):
    return rng.normal(size=(12, 1, 3, 6, 6)).astype(np.float32)


def test_highest_and_lowest_sites_come_in_order(pixels):
    chips = chips_at(np.arange(12.0), pixels)
    values = pd.Series(np.arange(12.0), index=chips.keys)
    found = exemplars(values.sample(frac=1, random_state=0), chips, n_per_group=3)
    assert found.table["site"].tolist() == ["s11", "s10", "s9", "s0", "s1", "s2"]
    assert found.table["rank"].tolist() == [1, 2, 3] * 2
    np.testing.assert_array_equal(found.images[0], pixels[11, 0])


def test_few_sites_are_never_both_highest_and_lowest(pixels):
    chips = chips_at(np.arange(3.0), pixels[:3])
    found = exemplars(pd.Series([1.0, 2.0, 3.0], index=chips.keys), chips, n_per_group=5)
    assert sorted(found.table["site"]) == ["s0", "s1", "s2"]


def test_sites_of_a_group_are_apart(pixels):
    lon = np.arange(12.0)
    lon[10] = lon[11] - 0.008  # 890 m
    chips = chips_at(lon, pixels)
    values = pd.Series(np.arange(12.0), index=chips.keys)
    assert exemplars(values, chips, n_per_group=2).table["site"].tolist()[:2] == ["s11", "s9"]
    near = exemplars(values, chips, n_per_group=2, min_distance_m=0)
    assert near.table["site"].tolist()[:2] == ["s11", "s10"]


def test_flat_empty_and_doubled_images_are_passed_over_and_counted(pixels):
    pixels[11] = 3.0
    pixels[10] = np.nan
    pixels[9] = pixels[0]
    chips = chips_at(np.arange(12.0), pixels)
    values = pd.Series(np.arange(13.0), index=[*chips.keys, "nowhere"])
    found = exemplars(values, chips, n_per_group=2)
    assert found.table["site"].tolist() == ["s8", "s7", "s1", "s2"]
    assert "1 sites have no chip" in found.notes[0]
    assert "2 sites have the image of another site" in found.notes[1]
    assert "2 sites have a flat or empty image" in found.notes[2]


def test_memberships_give_typical_and_uncertain_sites(pixels):
    chips = chips_at(np.arange(12.0), pixels)
    p = np.linspace(0.02, 0.98, 12)
    table = pd.DataFrame(
        {"probability_1": p, "probability_2": 1 - p, "sd_1": p * (1 - p)}, index=chips.keys
    )
    found = exemplars(table, chips, n_per_group=1).table.set_index("group")["site"]
    assert found["typical of component 1"] == "s11"
    assert found["typical of component 2"] == "s0"
    assert found["component 1 least certain"] in ("s5", "s6")


def test_summary_and_picture_name_groups_and_sites(pixels):
    chips = chips_at(np.arange(12.0), pixels)
    found = exemplars(pd.Series(np.arange(12.0), index=chips.keys), chips, n_per_group=2)
    assert "highest" in str(found)
    assert "s11 (11)" in found._repr_html_()
    drawn = [text.get_text() for text in found.plot().texts]
    assert drawn == ["highest", "s11: 11", "s10: 10", "lowest", "s0: 0", "s1: 1"]


def test_values_of_other_sites_are_refused(pixels):
    chips = chips_at(np.arange(12.0), pixels)
    with pytest.raises(AlignmentError, match=r"values are for 'a'.*chips for 's0'"):
        exemplars(pd.Series([1.0], index=["a"]), chips)
    with pytest.raises(ValueError, match="values"):
        exemplars(pd.Series([np.nan], index=["s0"]), chips)
    with pytest.raises(ValueError, match=r"got -1.*0\.02"):
        exemplars(pd.Series([1.0], index=["s0"]), chips, min_distance_m=-1)


def test_profile_is_weighted_means_and_a_regression_of_them(rng):
    chance = pd.DataFrame({"probability_1": rng.random(40)}, index=range(40))
    chance["probability_2"], chance["sd_1"] = 1 - chance["probability_1"], 0.1
    x = pd.DataFrame({"ndvi": rng.normal(size=40), "water": rng.random(40)}, index=range(40))
    table = component_profile(chance, x.sample(frac=1, random_state=0)).table
    assert table["component"].tolist() == ["probability_1"] * 2 + ["probability_2"] * 2
    for row in table.itertuples():
        weight = chance[row.component]
        assert row.mean == pytest.approx(np.average(x[row.variable], weights=weight), abs=1e-12)
        assert row.estimate == pytest.approx(row.mean - x[row.variable].mean(), abs=1e-12)
        # leaving out a site moves the difference by its influence over n, to first order
        moves = [
            np.average(x[row.variable].drop(k), weights=weight.drop(k))
            - x[row.variable].drop(k).mean()
            for k in range(40)
        ]
        assert row.std_error == pytest.approx(np.std(moves) * 39 / np.sqrt(39), rel=0.1)


def test_components_without_sites_have_no_profile():
    chance = pd.DataFrame({"a": [1.0, 1.0], "b": [0.0, 0.0]})
    with pytest.raises(RoleError, match="'b'"):
        component_profile(chance, pd.DataFrame({"x": [1.0, 2.0]}))
