"""A study bound to its images: both must speak of the same places."""

import geopandas as gpd
import numpy as np
import pytest

from terracausal._foundation.errors import RoleError
from terracausal.imagery import Chips
from terracausal.study import StudyData


@pytest.fixture
def chips(table):
    places = table.groupby("village")[["lon", "lat"]].first()
    points = gpd.points_from_xy(places["lon"], places["lat"])
    return Chips.from_arrays(
        np.ones((20, 1, 1, 4, 4), dtype=np.float32),
        sites=gpd.GeoDataFrame(index=places.index, geometry=points, crs="EPSG:4326"),
        bands=("red",),
        resolution_m=30.0,
    )


def test_study_and_chips_describe_themselves_together(table, make_study, chips):
    study = make_study(table, site="village", coords=("lon", "lat"))
    data = StudyData(study, chips, "a world", ("2 chips were repaired",))
    for words in ("a world", "60: 30 treated", "2 chips were repaired"):
        assert words in str(data)


def test_units_far_from_their_chips_are_refused(table, make_study, chips):
    study = make_study(table.assign(lon=table["lon"] - 3), site="village", coords=("lon", "lat"))
    with pytest.raises(RoleError, match=r"60 of 60 units|km"):
        StudyData(study, chips, "a world")


def test_studies_without_places_are_let_through(table, make_study, chips):
    assert StudyData(make_study(table, site="village"), chips, "a world").notes == ()
