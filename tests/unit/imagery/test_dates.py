import numpy as np
import pandas as pd
import pytest

from terracausal._foundation.errors import AlignmentError, LeakageError
from terracausal.imagery import Chips
from terracausal.imagery.dates import (
    as_day,
    cutoff_dates,
    date_in_metadata,
    layer_dates,
    refuse_later_images,
    refuse_undated,
    taken_before,
)
from terracausal.imagery.last_images import describe_image_dates, last_images
from terracausal.imagery.scene_names import date_by_pattern, date_in_name

PRODUCTS = {
    "LE71700552000342EDC00": "2000-12-07",
    "LE71700552000342": "2000-12-07",
    "LT51700551986365XXX03": "1986-12-31",
    "LC81700552016366LGN01.tar.gz": "2016-12-31",  # a leap year
    "LC08_L2SP_170055_20200113_20200823_02_T1_SR_B4.TIF": "2020-01-13",
    "LT05_CU_003006_19990705_20181222_C01_V01": "1999-07-05",
    "LC08_170055_20200113": "2020-01-13",
    "S2A_MSIL2A_20200113T104411_N0213_R008_T31TDG_20200114T121530.SAFE": "2020-01-13",
    "S2B_MSIL1C_20221231T235959_N0509_R022_T60CWS_20230101T003000": "2022-12-31",
    "T31TDG_20200113T104411_B02_10m.jp2": "2020-01-13",
    "S2A_31TDG_20200113_0_L2A": "2020-01-13",
    "S2A_OPER_PRD_MSIL1C_PDMC_20160806T202847_R011_V20160805T080612_20160805T082147": "2016-08-05",
    "S1A_IW_GRDH_1SDV_20200113T174432_20200113T174457_030784_0387F2_A1B2": "2020-01-13",
    "MOD13Q1.A2020001.h21v08.061.2020326010101.hdf": "2020-01-01",
    "/data/2024-01-01/ndvi_2000-12-07.tif": "2000-12-07",
    "https://a.b/c/scene_2000_12_07.tif?sig=2023-01-01": "2000-12-07",
    "20001207.tif": "2000-12-07",
    "NDVI_2000.12.07": "2000-12-07",
    "ndvi_2000342": "2000-12-07",
    "pucallpa/1985.tif": "1985-12-31",
    "mosaic_2000-02.tif": "2000-02-29",
    "C:\\images\\2000-12-07.tif": "2000-12-07",
}


@pytest.mark.parametrize(("name", "day"), PRODUCTS.items())
def test_names_of_products_and_plain_dates(name, day):
    assert date_in_name(name) == pd.Timestamp(day)


@pytest.mark.parametrize(
    "name",
    [
        "gewata.tif",
        "site_0042.tif",
        "2000-13-40.tif",  # no such day
        "13012020.tif",  # day first: nothing that can be read as year first
        "2001366.tif",  # no leap year
        "tile_2048.tif",  # a number is a year only where it is the whole name
        "S2_2015_10m.tif",
        "123420200113.tif",
        "20200101/b4.tif",  # folders are often days of downloads
        "",
    ],
)
def test_what_is_no_date_is_not_taken_for_one(name):
    assert date_in_name(name) is None


def test_two_dates_in_a_name_are_refused():
    with pytest.raises(ValueError, match=r"found 2: '2019-01-01', '2019-12-31'"):
        date_in_name("median_20190101_20191231.tif")
    assert date_in_name("2019-01-01_and_again_20190101.tif") == pd.Timestamp("2019-01-01")


def test_patterns():
    assert date_by_pattern(
        "a_07-12-2000.tif", r"(?P<day>\d\d)-(?P<month>\d\d)-(?P<year>\d{4})"
    ) == (pd.Timestamp("2000-12-07"))
    assert date_by_pattern("x2000d342", r"x(?P<year>\d{4})d(?P<doy>\d+)") == pd.Timestamp(
        "2000-12-07"
    )
    assert date_by_pattern("landsat_1985.tif", r"_(?P<year>\d{4})") == pd.Timestamp("1985-12-31")
    assert date_by_pattern("median_20190101_20191231", r"_(\d{8})$") == pd.Timestamp("2019-12-31")
    with pytest.raises(ValueError, match=r"does not match 'gewata'"):
        date_by_pattern("gewata", r"_(\d{8})$")
    with pytest.raises(ValueError, match=r"it finds '20191399'"):
        date_by_pattern("median_20191399", r"_(\d{8})$")
    with pytest.raises(ValueError, match=r"has 2 groups, of which 0 are named"):
        date_by_pattern("a", r"(\d)(\d)")
    with pytest.raises(ValueError, match=r"'\(' is none"):
        date_by_pattern("a", "(")


def test_metadata_counts_a_period_by_its_end():
    item = {
        "datetime": None,
        "start_datetime": "2020-01-01T00:00:00Z",
        "end_datetime": "2020-01-16T23:59:59Z",
    }
    assert date_in_metadata(item) == pd.Timestamp("2020-01-16")
    assert date_in_metadata({**item, "datetime": "2020-01-01"}) == pd.Timestamp("2020-01-16")
    assert date_in_metadata({"DATE_ACQUIRED": "2000-12-07"}) == pd.Timestamp("2000-12-07")
    assert date_in_metadata({"system:time_start": "976147200000"}) == pd.Timestamp("2000-12-07")
    # the day on which the file was written says nothing about the image
    assert date_in_metadata({"TIFFTAG_DATETIME": "2024:01:01 10:00:00"}) is None
    with pytest.raises(ValueError, match="datetime must be a date or a scene name; got 'soon'"):
        date_in_metadata({"datetime": "soon"})


def test_layer_dates_from_every_origin():
    expected = pd.DatetimeIndex(["2001-02-05", "2000-12-07"])
    for names, dates in (
        (["b", "a"], ["2001-02-05", "LE71700552000342EDC00"]),
        (["b", "a"], pd.Series(["2001-02-05", "2000-12-07"])),
        (["b", "a"], pd.Series(["2001-02-05", "2000-12-07"], index=[7, 3])),  # rows of a table
        (["b", "a"], pd.to_datetime(["2001-02-05 23:00", "2000-12-07 01:00"])),
        (["b", "a"], {"a": "2000-12-07", "b": "2001-02-05", "c": "1999-01-01"}),
        (["b", "a"], pd.Series({"a": "2000-12-07", "b": "2001-02-05"})),
        (["x5-2-2001", "x7-12-2000"], r"x(?P<day>\d+)-(?P<month>\d+)-(?P<year>\d+)"),
        (["20010205.tif", "2000-12-07.tif"], None),
        (["b", "a"], [20010205, 20001207]),
    ):
        found = layer_dates(names, dates)
        assert found.tolist() == expected.tolist()


def test_metadata_come_before_names():
    told = layer_dates(
        ["1999-01-01", "2000-12-07"], metadata=[{"datetime": "2001-02-05T01:00:00Z"}, {}]
    )
    assert told.strftime("%Y-%m-%d").tolist() == ["2001-02-05", "2000-12-07"]


def test_layers_without_a_date():
    assert layer_dates(["a.tif", "b.tif"]) is None
    with pytest.raises(ValueError, match=r"1 of 2 have none: 'b.tif'"):
        layer_dates(["2000-12-07.tif", "b.tif"])
    with pytest.raises(AlignmentError, match=r"each of the 2 layers; it has 3"):
        layer_dates(["a", "b"], ["2000-12-07"] * 3)
    with pytest.raises(AlignmentError, match=r"1 have none: 'b'"):
        layer_dates(["a", "b"], {"a": "2000-12-07"})
    with pytest.raises(ValueError, match=r"dates\[1\] must be a date or a scene name; got 'x'"):
        layer_dates(["a", "b"], ["2000-12-07", "x"])


@pytest.mark.parametrize("value", ["01/02/2020", 3.5, None, pd.NaT, True, "12"])
def test_what_has_two_readings_is_no_date(value):
    with pytest.raises(ValueError, match="must be a date or a scene name"):
        as_day(value, "dates[0]")


def test_cutoffs():
    sites = pd.DataFrame({"when": ["2008-07-01", None, "2009-01-15"]}, index=["a", "b", "c"])
    one = cutoff_dates("2008-07-01", sites)
    assert one.tolist() == [pd.Timestamp("2008-07-01")] * 3
    column = cutoff_dates("when", sites)
    assert column["a"] == pd.Timestamp("2008-07-01")
    assert pd.isna(column["b"])
    mapped = cutoff_dates({"c": "2009", "b": pd.NaT, "a": "2008-07"}, sites)
    # as a limit, a year or a month begins with its first day
    assert mapped[["a", "c"]].tolist() == [pd.Timestamp("2008-07-01"), pd.Timestamp("2009-01-01")]
    years = cutoff_dates("year", sites.assign(year=[2008, None, 2009]))
    assert years["c"] == pd.Timestamp("2009-01-01")
    with pytest.raises(AlignmentError, match=r"each of 3 sites; 1 have no entry: 'c'"):
        cutoff_dates({"a": "2008", "b": "2008"}, sites)
    with pytest.raises(ValueError, match=r"got 'wann'. Columns: 'when'"):
        cutoff_dates("wann", sites)
    with pytest.raises(ValueError, match=r"of site 'a' must be a date; got 'soon'"):
        cutoff_dates({"a": "soon", "b": None, "c": None}, sites)


def test_an_image_of_the_day_itself_is_not_before_it():
    dates = pd.DatetimeIndex(["2008-06-30 23:59", "2008-07-01 00:00", "2008-07-01 12:00"])
    assert taken_before(dates, pd.Timestamp("2008-07-01 18:00")).tolist() == [True, False, False]
    assert taken_before(dates, pd.NaT).all()


def test_leakage_is_refused_with_both_dates():
    limits = pd.Series(pd.to_datetime(["2008-07-01", None, "2009-01-01"]), index=["a", "b", "c"])
    refuse_later_images({"a": "2008-06-30", "b": "2020-01-01", "c": "2008-12-31"}, limits)
    with pytest.raises(
        LeakageError, match=r"1 of 2 sites .* 'c' with an image of 2009-01-01 .* on 2009-01-01"
    ):
        refuse_later_images({"a": "2008-06-30", "b": "2020-01-01", "c": "2009-01-01"}, limits)
    with pytest.raises(LeakageError, match=r"1 of 2 treated sites have no date: 'c'"):
        refuse_later_images({"a": "2008-06-30", "b": None}, limits)
    with pytest.raises(LeakageError, match=r"1 of 2 have none: 'b.tif'"):
        refuse_undated([pd.Timestamp("2008-06-30"), None], ["a.tif", "b.tif"])


def test_last_images_are_those_with_pixels():
    pixels = np.ones((3, 2, 1, 2, 2))
    pixels[0, 1] = np.nan  # an image without a pixel at the site tells nothing
    pixels[1, 1, 0, 0, 0] = np.nan
    pixels[2] = np.nan
    days = ["2000-01-01 00:00", "2001-01-01 10:30"]
    chips = Chips.from_arrays(pixels, sites=["a", "b", "c"], bands=["red"], times=days)
    last = last_images(chips)
    assert last[["a", "b"]].tolist() == [pd.Timestamp("2000-01-01"), pd.Timestamp("2001-01-01")]
    assert pd.isna(last["c"])
    undated = Chips.from_arrays(pixels, sites=["a", "b", "c"], bands=["red"])
    assert last_images(undated).isna().all()
    assert describe_image_dates(undated) == {"last_image": None}
    facts = describe_image_dates(chips.select(["b", "a"]))
    assert facts == {
        "last_image": "2001-01-01",
        "last_images": {"2000-01-01": ["a"], "2001-01-01": ["b"]},
    }
    assert describe_image_dates(chips.select(["b"])) == {"last_image": "2001-01-01"}
