import json
import pickle
import subprocess
import sys
import threading
from collections import Counter

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import rasterio
import xarray as xr
import zarr
from rasterio import Affine

from terracausal._foundation.errors import ChipReadError
from terracausal.imagery import Chips, read_chips, stored_chips
from terracausal.imagery.encoding import Encoding
from terracausal.imagery.places import site_table
from terracausal.imagery.records import inspect_chip
from terracausal.imagery.store import write_chips
from terracausal.imagery.stored_chips import open_chips, verify_store

BANDS = ("red", "nir")


class CountingReader:
    """Chips made on the fly, of which every read is counted."""

    def __init__(self, keys, n_times=None):
        self.keys = list(keys)
        self.n_times = n_times or dict.fromkeys(self.keys, 1)
        self.reads = Counter()
        self._lock = threading.Lock()

    def read(self, site):
        with self._lock:
            self.reads[site] += 1
        return self.make(site)

    def make(self, site):
        rng = np.random.default_rng(self.keys.index(site))
        pixels = rng.normal(size=(self.n_times[site], 2, 4, 5)).astype(np.float32)
        pixels[:, 0, 0, 0] = np.nan
        return pixels


def counted_chips(n_sites=7, n_times=None, keys=None):
    keys = [f"s{number}" for number in range(n_sites)] if keys is None else keys
    reader = CountingReader(keys, n_times)
    days = pd.date_range("2020-01-31", periods=9, freq="ME")
    records = [
        record
        for site in keys
        for record in inspect_chip(site, reader.make(site), days[: reader.n_times[site]], f"{site}")
    ]
    return Chips(reader, site_table(keys), records, BANDS, (4, 5)), reader


def files_of(root):
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def assert_same_chips(found, expected):
    pd.testing.assert_index_equal(found.keys, expected.keys)
    assert found.bands == expected.bands
    assert found.size_px == expected.size_px
    assert found.n_times == expected.n_times
    assert found.resolution_m == expected.resolution_m
    assert found.crs == expected.crs
    if expected.times is None:
        assert found.times is None
    else:
        assert list(found.times) == list(expected.times)
    for site in expected.keys:
        np.testing.assert_array_equal(found[site], expected[site])
        assert found[site].dtype == np.float32
    pd.testing.assert_frame_equal(found.manifest, expected.manifest)
    assert found.describe() == expected.describe()
    assert repr(found) == repr(expected)


def arrays(n_sites=5, n_times=2, dtype=np.float32):
    pixels = np.random.default_rng(0).uniform(0, 250, (n_sites, n_times, 2, 4, 5)).astype(dtype)
    if pixels.dtype.kind == "f":
        pixels[0, 0, 1] = np.nan
        pixels[1] = np.nan
    pixels[4] = pixels[2]
    return pixels


@pytest.mark.parametrize("keys", [list("ecadb"), [30, 10, 20, 50, 40], [1.5, 2.5, 3.5, 4.5, 5.5]])
@pytest.mark.parametrize(
    "times", [None, pd.DatetimeIndex(["2019-03-01 00:00", "2020-03-01 12:30:00.25"])]
)
def test_everything_comes_back(tmp_path, keys, times):
    chips = Chips.from_arrays(
        arrays(), sites=keys, bands=BANDS, times=times, crs="EPSG:32636", resolution_m=10.5
    )
    summary = write_chips(chips, tmp_path / "x.zarr", sites_per_shard=2)
    assert (summary.n_sites, summary.n_sites_read, summary.n_shards) == (5, 5, 3)
    assert summary.n_shards_kept == 0
    assert_same_chips(open_chips(tmp_path / "x.zarr"), chips)
    assert [path.name for path in tmp_path.iterdir()] == ["x.zarr"]


@pytest.mark.parametrize(
    "keys",
    [
        pd.RangeIndex(5),
        pd.Index([1, 2, 3, 4, 2**20], dtype="int32"),
        pd.Index([np.int64(3), 5, 7, 8, 9], dtype=object),
        pd.Index(["ä/…", "b\n", "", "../x", " "]),
        pd.date_range("2020", periods=5, tz="UTC", name="site"),
        pd.CategoricalIndex(list("ecadb")),
    ],
)
def test_keys_of_many_types_come_back(tmp_path, keys):
    chips = Chips.from_arrays(arrays(), sites=keys, bands=BANDS)
    write_chips(chips, tmp_path / "x.zarr", sites_per_shard=2)
    found = open_chips(tmp_path / "x.zarr")
    assert list(found) == list(chips)
    assert list(found.sites.index) == list(chips)
    pd.testing.assert_frame_equal(found.manifest, chips.manifest)
    np.testing.assert_array_equal(found[keys[4]], chips[keys[4]])


def test_geography_and_other_columns_come_back(tmp_path):
    sites = gpd.GeoDataFrame(
        {"village": ["A", None], "year": [2001, 2002]},
        index=pd.Index([8, 9], name="site"),
        geometry=gpd.points_from_xy([500_000.25, 600_000.5], [10.0, -20.0]),
        crs="EPSG:32636",
    )
    chips = Chips.from_arrays(arrays()[:2], sites=sites, bands=BANDS, crs="ESRI:54009")
    write_chips(chips, tmp_path / "x.zarr")
    found = open_chips(tmp_path / "x.zarr")
    pd.testing.assert_frame_equal(pd.DataFrame(found.sites), pd.DataFrame(chips.sites))
    assert found.sites.crs == sites.crs
    assert found.crs == chips.crs


def test_a_projection_without_a_code_comes_back(tmp_path):
    text = "+proj=laea +lat_0=3 +lon_0=31 +datum=WGS84 +units=m"
    chips = Chips.from_arrays(arrays(), sites=list("abcde"), bands=BANDS, crs=text)
    write_chips(chips, tmp_path / "x.zarr")
    assert open_chips(tmp_path / "x.zarr").crs == chips.crs


def test_what_chips_do_stored_chips_do(tmp_path):
    chips = Chips.from_arrays(arrays(), sites=list("abcde"), bands=BANDS)
    write_chips(chips, tmp_path / "x.zarr", sites_per_shard=2)
    found = open_chips(tmp_path / "x.zarr")
    assert_same_chips(pickle.loads(pickle.dumps(found)), chips)
    assert_same_chips(found.select(["d", "a"]), chips.select(["d", "a"]))
    xr.testing.assert_identical(found.to_xarray(), chips.to_xarray())
    for (keys, block), (others, expected) in zip(found.batches(2), chips.batches(2), strict=True):
        pd.testing.assert_index_equal(keys, others)
        np.testing.assert_array_equal(block, expected)
    with pytest.raises(KeyError, match="No chip for site 'z'; 5 sites have one"):
        found["z"]
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = found.nonsense


def test_a_selection_and_a_store_can_be_written_again(tmp_path):
    chips = Chips.from_arrays(arrays(), sites=list("abcde"), bands=BANDS)
    write_chips(chips.select(["d", "a", "c"]), tmp_path / "x.zarr")
    found = open_chips(tmp_path / "x.zarr")
    assert_same_chips(found, chips.select(["d", "a", "c"]))
    write_chips(found, tmp_path / "y.zarr")
    assert files_of(tmp_path / "x.zarr") == files_of(tmp_path / "y.zarr")


def test_sequences_of_different_length_keep_their_times(tmp_path):
    lengths = {"s0": 2, "s1": 4, "s2": 1, "s3": 4, "s4": 3}
    chips, reader = counted_chips(5, lengths)
    write_chips(chips, tmp_path / "x.zarr", sites_per_shard=2)
    found = open_chips(tmp_path / "x.zarr")
    for site, n_times in lengths.items():
        assert found[site].shape == (n_times, 2, 4, 5)
        np.testing.assert_array_equal(found[site], reader.make(site))
    pd.testing.assert_frame_equal(found.manifest, chips.manifest)
    stored = zarr.open_array(tmp_path / "x.zarr" / "pixels", mode="r")
    assert stored.shape == (5, 4, 2, 4, 5)
    assert np.isnan(stored[2, 1:]).all()


def test_pixels_are_a_sharded_zarr_with_checksums(tmp_path):
    chips, reader = counted_chips(7)
    write_chips(chips, tmp_path / "x.zarr", sites_per_shard=3)
    said = json.loads((tmp_path / "x.zarr" / "pixels" / "zarr.json").read_text())
    assert said["zarr_format"] == 3
    assert said["chunk_grid"]["configuration"]["chunk_shape"] == [3, 1, 2, 4, 5]
    (codec,) = said["codecs"]
    assert codec["name"] == "sharding_indexed"
    assert codec["configuration"]["chunk_shape"] == [1, 1, 2, 4, 5]
    inner = [item["name"] for item in codec["configuration"]["codecs"]]
    assert inner == ["bytes", "zstd", "crc32c"]
    assert [item["name"] for item in codec["configuration"]["index_codecs"]] == ["bytes", "crc32c"]
    dataset = xr.open_zarr(tmp_path / "x.zarr")
    assert dataset["pixels"].dims == ("site", "time", "band", "y", "x")
    np.testing.assert_array_equal(dataset["pixels"][5].to_numpy(), reader.make("s5"))
    assert verify_store(tmp_path / "x.zarr") == 5 + 3
    assert sorted(path.name for path in (tmp_path / "x.zarr" / "pixels").iterdir()) == [
        "c.0.0.0.0.0",
        "c.1.0.0.0.0",
        "c.2.0.0.0.0",
        "zarr.json",
    ]


def test_the_store_says_where_it_comes_from(tmp_path):
    chips, _ = counted_chips(7)
    write_chips(chips, tmp_path / "x.zarr", sites_per_shard=3)
    said = dict(zarr.open_group(tmp_path / "x.zarr", mode="r").attrs)["terracausal"]
    assert (said["format"], said["format_version"]) == ("chips", 1)
    assert said["provenance"]["sources"] == [f"s{number}" for number in range(7)]
    assert said["provenance"]["versions"]["zarr"] == zarr.__version__
    assert said["provenance"]["versions"]["numpy"] == np.__version__
    assert said["sites_per_shard"] == 3


@pytest.mark.parametrize("n_jobs", [2, 5])
def test_workers_do_not_change_a_byte(tmp_path, n_jobs):
    chips, reader = counted_chips(11)
    write_chips(chips, tmp_path / "one.zarr", sites_per_shard=2, n_jobs=1)
    write_chips(chips, tmp_path / "many.zarr", sites_per_shard=2, n_jobs=n_jobs)
    assert files_of(tmp_path / "one.zarr") == files_of(tmp_path / "many.zarr")
    assert set(reader.reads.values()) == {2}


def test_an_executor_can_do_the_work(tmp_path):
    class Client:
        """Runs what it is given after sending it to itself, as a cluster does."""

        def submit(self, function, task):
            function, task = pickle.loads(pickle.dumps((function, task)))
            from concurrent.futures import Future

            future = Future()
            future.set_result(function(task))
            return future

    chips = Chips.from_arrays(arrays(), sites=list("abcde"), bands=BANDS)
    write_chips(chips, tmp_path / "x.zarr", sites_per_shard=2)
    write_chips(chips, tmp_path / "y.zarr", sites_per_shard=2, client=Client())
    assert files_of(tmp_path / "x.zarr") == files_of(tmp_path / "y.zarr")


def test_a_cluster_can_read_and_write(tmp_path):
    pytest.importorskip("distributed")
    rasters = tmp_path / "rasters"
    rasters.mkdir()
    options = {"driver": "GTiff", "height": 8, "width": 8, "count": 1, "crs": "EPSG:32636"}
    for number in range(6):
        with rasterio.open(
            rasters / f"{number}.tif",
            "w",
            **options,
            dtype="int16",
            nodata=-9999,
            transform=Affine(10, 0, 500_000, 0, -10, 0),
        ) as file:
            file.write(np.arange(64, dtype="int16").reshape(1, 8, 8) * number)
    points = gpd.points_from_xy([500_040] * 6, [-40] * 6)
    sites = gpd.GeoDataFrame(geometry=points, crs=32636).rename_axis("site")
    here = read_chips(rasters, sites, size_px=8)
    write_chips(here, tmp_path / "here.zarr", sites_per_shard=2)
    # a fresh interpreter, because a cluster leaves threads and loops behind for the tests after it
    sites.to_file(tmp_path / "sites.gpkg")
    script = """
import sys
import distributed, geopandas as gpd
from terracausal.imagery import read_chips, write_chips
folder = sys.argv[1]
sites = gpd.read_file(folder + "/sites.gpkg")
options = dict(n_workers=1, processes=False, dashboard_address=None)
with distributed.LocalCluster(**options) as cluster, distributed.Client(cluster) as client:
    there = read_chips(folder + "/rasters", sites, size_px=8, client=client)
    for overwrite in (False, False, True):
        told = write_chips(
            there,
            folder + "/there.zarr",
            sites_per_shard=2,
            client=client,
            overwrite=overwrite,
        )
print("read", told.n_sites_read)
"""
    (tmp_path / "job.py").write_text(script)
    done = subprocess.run(
        [sys.executable, str(tmp_path / "job.py"), str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "read 6" in done.stdout
    assert files_of(tmp_path / "here.zarr") == files_of(tmp_path / "there.zarr")
    assert zarr.open_array(tmp_path / "there.zarr" / "pixels", mode="r").dtype == "int16"


def test_the_manifest_is_read_when_it_is_asked_for(tmp_path, monkeypatch):
    chips, _ = counted_chips(7)
    write_chips(chips, tmp_path / "x.zarr")
    calls = []
    monkeypatch.setattr(
        stored_chips,
        "read_records",
        lambda path: calls.append(path) or pytest.fail("records were read"),
    )
    found = open_chips(tmp_path / "x.zarr")
    assert "s3" in found
    assert found["s3"].shape == (1, 2, 4, 5)
    assert (found.n_sites, found.bands, found.times, len(list(found))) == (7, BANDS, chips.times, 7)
    monkeypatch.undo()
    assert not calls
    assert len(found.manifest) == 7


def test_writing_again_reads_nothing(tmp_path):
    chips, reader = counted_chips(7)
    write_chips(chips, tmp_path / "x.zarr", sites_per_shard=3)
    before = files_of(tmp_path / "x.zarr")
    again = write_chips(chips, tmp_path / "x.zarr", sites_per_shard=3)
    assert (again.n_sites_read, again.n_shards_kept) == (0, 3)
    assert set(reader.reads.values()) == {1}
    assert files_of(tmp_path / "x.zarr") == before


def test_another_store_is_replaced_only_when_told(tmp_path):
    chips, _ = counted_chips(7)
    others, reader = counted_chips(3)
    write_chips(chips, tmp_path / "x.zarr")
    with pytest.raises(FileExistsError, match=r"other contents: 'index.parquet', 'sites.parquet'"):
        write_chips(others, tmp_path / "x.zarr")
    assert not reader.reads
    assert open_chips(tmp_path / "x.zarr").n_sites == 7
    write_chips(others, tmp_path / "x.zarr", overwrite=True)
    assert_same_chips(open_chips(tmp_path / "x.zarr"), others)
    assert [path.name for path in tmp_path.iterdir()] == ["x.zarr"]


def test_the_old_store_stays_until_the_new_one_is_whole(tmp_path):
    chips, _ = counted_chips(7)
    others, reader = counted_chips(5)
    write_chips(chips, tmp_path / "x.zarr")
    reader.make = lambda site: 1 / 0
    with pytest.raises(ZeroDivisionError):
        write_chips(others, tmp_path / "x.zarr", overwrite=True)
    assert_same_chips(open_chips(tmp_path / "x.zarr"), chips)


@pytest.mark.parametrize("overwrite", [False, True])
def test_what_is_no_store_is_never_replaced(tmp_path, overwrite):
    chips, reader = counted_chips(3)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "thesis.txt").write_text("years of work")
    (tmp_path / "file").write_text("a file")
    write_chips(chips, tmp_path / "mixed")
    reader.reads.clear()
    (tmp_path / "mixed" / "thesis.txt").write_text("years of work")
    others, _ = counted_chips(4)
    for name in ("folder", "file", "mixed"):
        with pytest.raises(FileExistsError, match=f"{name} is something else, which is never repl"):
            write_chips(others, tmp_path / name, overwrite=overwrite)
    assert (tmp_path / "folder" / "thesis.txt").read_text() == "years of work"
    assert (tmp_path / "mixed" / "thesis.txt").read_text() == "years of work"
    assert not reader.reads


def test_keys_of_several_types_are_refused_before_reading(tmp_path):
    chips, reader = counted_chips(keys=["a", 1, 2.5])
    with pytest.raises(ValueError, match=r"of one plain type .* found 'float', 'int', 'str'"):
        write_chips(chips, tmp_path / "x.zarr")
    assert not reader.reads
    assert not list(tmp_path.iterdir())


def calls_of(chips, monkeypatch):
    """Rows (first, stop) of every call by which a store is read from now on."""
    calls, stored = [], stored_chips.StoreReader._stored

    def watched(self, start, stop):
        calls.append((start, stop))
        return stored(self, start, stop)

    monkeypatch.setattr(stored_chips.StoreReader, "_stored", watched)
    return calls


@pytest.mark.parametrize("nodata", [None, 65535])
def test_rows_that_lie_together_are_read_by_one_call(tmp_path, monkeypatch, nodata):
    keys = [f"s{number:02d}" for number in range(20)]
    if nodata is None:
        chips, _ = counted_chips(n_times={key: 1 + k % 3 for k, key in enumerate(keys)}, keys=keys)
        encoding = None
    else:
        encoding = Encoding("uint16", nodata, (0.5, 2.0), (0.0, 1.0))
        numbers = np.random.default_rng(0).integers(9990, 10000, (20, 2, 2, 4, 5)).astype("uint16")
        numbers[numbers == 9999] = nodata
        chips = Chips.from_arrays(encoding.unpack(numbers), sites=keys, bands=BANDS)
    write_chips(chips, tmp_path / "x.zarr", sites_per_shard=6, encoding=encoding)
    stored = open_chips(tmp_path / "x.zarr")
    calls = calls_of(stored, monkeypatch)
    for (keys, found), (_, expected) in zip(stored.batches(8), chips.batches(8), strict=True):
        np.testing.assert_array_equal(found, expected, err_msg=str(keys))
    assert calls == [(0, 8), (8, 16), (16, 20)]
    # in any order; across one row that is not asked for, but not across two
    wanted = chips.keys[[7, 3, 12, 1, 9, 2, 19, 4]]
    calls.clear()
    found, expected = (next(c.select(wanted).batches(8))[1] for c in (stored, chips))
    np.testing.assert_array_equal(found, expected)
    assert calls == [(1, 5), (7, 10), (12, 13), (19, 20)]
    calls.clear()
    red = next(stored.select(wanted, bands=["red"]).batches(8))[1]
    np.testing.assert_array_equal(red, expected[:, :, :1])
    assert len(calls) == 4


def test_a_call_reads_no_more_than_its_share_of_memory(tmp_path, monkeypatch):
    chips = Chips.from_arrays(arrays(), sites=list("ecadb"), bands=BANDS)
    write_chips(chips, tmp_path / "x.zarr", sites_per_shard=5)
    stored = open_chips(tmp_path / "x.zarr")
    calls = calls_of(stored, monkeypatch)
    monkeypatch.setattr(stored_chips, "_BYTES_AT_ONCE", 2 * arrays()[0].nbytes)
    np.testing.assert_array_equal(stored.to_xarray(), chips.to_xarray())
    assert calls == [(0, 2), (2, 4), (4, 5)]
    calls.clear()
    some = list("eab")  # rows 0, 2 and 4: the row between two of them would be one too many
    np.testing.assert_array_equal(stored.select(some).to_xarray(), chips.select(some).to_xarray())
    assert calls == [(0, 1), (2, 3), (4, 5)]


def test_a_damaged_chip_stands_in_the_way_of_itself_only(tmp_path):
    chips = Chips.from_arrays(arrays(), sites=list("ecadb"), bands=BANDS)
    write_chips(chips, tmp_path / "x.zarr", sites_per_shard=1)
    (tmp_path / "x.zarr" / "pixels" / "c.2.0.0.0.0").write_bytes(b"nothing that can be read")
    stored = open_chips(tmp_path / "x.zarr")
    with pytest.raises(ChipReadError, match=r"Site 'a': .*c\.2\.0\.0\.0\.0 could not be read"):
        next(stored.batches(5))
    others = list("cd")  # the rows before and after it
    found, expected = (next(c.select(others).batches(2))[1] for c in (stored, chips))
    np.testing.assert_array_equal(found, expected)
