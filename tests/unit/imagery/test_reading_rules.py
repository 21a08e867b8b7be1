"""Rules of `read_chips` on threads, clusters, units, dates and what a store remembers."""

import os
import pickle
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
import rasterio
from rasterio.errors import NotGeoreferencedWarning

from terracausal.imagery import Chips, Reading, open_chips, read_chips
from terracausal.imagery.calibration import Scaling, check_one_unit
from terracausal.imagery.workers import run_tasks

PLACE = rasterio.Affine(10, 0, 500_000, 0, -10, 100_000)
SITES = pd.DataFrame({"lon": [33.0009, 33.0018], "lat": [0.9036, 0.9036]}, index=["a", "b"])


def write_tile(path, dtype="uint16", scale=1.0, value=1):
    profile = {"driver": "GTiff", "height": 40, "width": 40, "count": 1, "dtype": dtype}
    with rasterio.open(path, "w", crs="EPSG:32636", transform=PLACE, **profile) as file:
        file.write(np.arange(1600, dtype=dtype).reshape(1, 40, 40) % 250 + value)
        file.scales = (scale,)


@pytest.fixture
def folder(tmp_path):
    tiles = tmp_path / "tiles"
    tiles.mkdir()
    for day in ("2008-06-30", "2008-07-01"):
        write_tile(tiles / f"tile_{day}.tif")
    return tiles


def test_threads_work_under_the_filter_of_the_thread_that_starts_them():
    def say(_):
        warnings.warn("in memory", NotGeoreferencedWarning, stacklevel=1)
        return 1

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert list(run_tasks(say, range(8), n_jobs=2)) == [1] * 8
        with pytest.raises(NotGeoreferencedWarning, match="in memory"):
            say(0)  # and the filter is gone afterwards


def test_resampling_with_threads_says_nothing(data_root):
    script = """
import sys, numpy as np, pandas as pd, rasterio, pyproj
from terracausal.imagery import read_chips
folder = sys.argv[1]
with rasterio.open(folder + "/1985.tif") as file:
    box, crs = file.bounds, file.crs.to_wkt()
rng = np.random.default_rng(0)
x, y = rng.uniform(box.left, box.right, 40), rng.uniform(box.bottom, box.top, 40)
lon, lat = pyproj.Transformer.from_crs(crs, 4326, always_xy=True).transform(x, y)
sites = pd.DataFrame({"lon": lon, "lat": lat}, index=[f"s{k}" for k in range(40)])
chips = read_chips(folder, sites, size_px=32, resolution_m=90, n_jobs=2)
sys.stdout.write(str(sum(len(keys) for keys, _ in chips.batches(16))))
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script, str(data_root / "pucallpa_landsat")],
        capture_output=True,
        text=True,
        env=os.environ,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("40", "")


def test_options_leave_their_cluster_behind():
    with ThreadPoolExecutor(1) as pool:
        reading = pickle.loads(pickle.dumps(Reading(resampling="cubic", client=pool, n_jobs=7)))
    assert (reading.client, reading.n_jobs, reading.resampling) == (None, 1, "cubic")


def test_selected_chips_travel_without_their_cluster(folder):
    with ThreadPoolExecutor(1) as pool:
        chips = read_chips(folder, SITES, size_px=4, client=pool)
        reader = chips.select(["b"], times=["2008-06-30"])._reader
        found = pickle.loads(pickle.dumps(reader)).read("b")
    np.testing.assert_array_equal(found, chips["b"][:1])


def test_a_dask_client_is_told_not_to_remember_results():
    orders = []

    class Client:
        def submit(self, function, task, **options):
            orders.append(options)
            with ThreadPoolExecutor(1) as pool:
                return pool.submit(function, task)

    assert list(run_tasks(abs, [-1], n_jobs=1, client=Client())) == [1]
    Client.__module__ = "distributed.client"
    assert list(run_tasks(abs, [-2], n_jobs=1, client=Client())) == [2]
    assert orders == [{}, {"pure": False}]


def test_processes_of_a_cluster_read_the_same(folder, tmp_path):
    pytest.importorskip("distributed")
    here = read_chips(folder, SITES, size_px=4)
    # a fresh interpreter, because a cluster starts its processes from the main module
    script = """
import sys
import distributed, pandas as pd
from terracausal.imagery import read_chips
def main():
    sites = pd.DataFrame({"lon": [33.0009, 33.0018], "lat": [0.9036, 0.9036]}, index=["a", "b"])
    options = dict(n_workers=2, processes=True, threads_per_worker=1, dashboard_address=None)
    with distributed.LocalCluster(**options) as cluster, distributed.Client(cluster) as client:
        chips = read_chips(sys.argv[1], sites, size_px=4, client=client)
        chips.select(["b"]).write(sys.argv[2], client=client)
if __name__ == "__main__":
    main()
"""
    (tmp_path / "job.py").write_text(script)
    done = subprocess.run(
        [sys.executable, str(tmp_path / "job.py"), str(folder), str(tmp_path / "x.zarr")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    np.testing.assert_array_equal(open_chips(tmp_path / "x.zarr")["b"], here["b"])


@pytest.mark.parametrize(("day", "found"), [("01/02/2020", "'01/02/2020'"), (float("nan"), "nan")])
def test_times_of_arrays_are_days_in_one_way_only(day, found):
    with pytest.raises(ValueError, match=rf"times\[1\] must be a date .*got {found}"):
        Chips.from_arrays(
            np.ones((1, 2, 1, 2, 2)), sites=["a"], bands=["red"], times=["2019-12-31", day]
        )


def test_whole_numbers_are_years():
    pixels = np.ones((1, 2, 1, 2, 2))
    chips = Chips.from_arrays(pixels, sites=["a"], bands=["red"], times=[2000, 20010131])
    assert list(chips.times) == [pd.Timestamp("2000-12-31"), pd.Timestamp("2001-01-31")]


def test_layers_of_one_band_have_one_unit(folder):
    write_tile(folder / "tile_2009-01-01.tif", scale=1e-4)
    with pytest.raises(
        ValueError,
        match=r"'band_1' are multiplied by 0\.0001 in .*2009-01-01\.tif'; 1\.0 in .*06-30",
    ):
        read_chips(folder, SITES, size_px=4)


def test_fractions_beside_scaled_integers_have_one_unit(folder):
    for path in folder.glob("*.tif"):
        write_tile(path, scale=1e-4)
    write_tile(folder / "tile_2009-01-01.tif", dtype="float32")
    assert read_chips(folder, SITES, size_px=4).n_times == 3


def test_one_unit_without_files():
    with pytest.raises(ValueError, match=r"those of 'red' are multiplied by 0\.0001, 1\.0\."):
        check_one_unit({"red": [Scaling(1.0, 0.0), Scaling(1e-4, 0.0)]})


def test_a_store_remembers_the_arguments(folder, tmp_path):
    before = pd.Series({"a": pd.Timestamp("2008-07-01"), "b": pd.Timestamp("2010-01-01")})
    options = {"before": before, "resampling": {"band_1": "cubic"}, "n_jobs": 2, "retries": 1}
    chips = read_chips(folder, SITES, size_px=(4, 6), bands=["band_1"], min_valid=0.1, **options)
    chips.select(["b"]).write(tmp_path / "x.zarr")
    stored = open_chips(tmp_path / "x.zarr")
    said = stored._facts.provenance["arguments"]
    assert said.pop("before").startswith("Series of 2 rows, sha256 ")
    assert said == {
        "source": str(folder),
        "size_px": [4, 6],
        "bands": ["band_1"],
        "resolution_m": None,
        "min_valid": 0.1,
        "resampling": {"band_1": "cubic"},
    }
    # a store of chips from a store still says how they were read
    stored.write(tmp_path / "y.zarr")
    again = open_chips(tmp_path / "y.zarr")._facts.provenance["arguments"]
    assert again["source"] == str(folder)
    # threads and retries change no number, so the store is that of the same chips
    same = read_chips(
        folder, SITES, size_px=(4, 6), bands=["band_1"], min_valid=0.1, **options | {"n_jobs": 1}
    )
    assert same.select(["b"]).write(tmp_path / "x.zarr").n_sites_read == 0


def test_sites_without_a_limit_are_counted(folder):
    before = pd.Series({"a": pd.Timestamp("2008-07-01"), "b": pd.NaT})
    chips = read_chips(folder, SITES, size_px=4, before=before)
    assert (len(chips["a"]), len(chips["b"])) == (1, 2)
    assert "sites without a date in `before`, all images kept: 1 ('b')" in chips.describe()
