"""Reading, looking and writing take one pass over the pixels; after a kill none is read twice.

Run as a program, this file writes a store in child processes and kills them.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import rasterio

from terracausal._foundation.errors import ChipReadError
from terracausal.imagery import RasterFiles, open_chips, read_chips, verify_store

N_SITES, PER_SHARD, SIZE = 80, 4, 8
STEP, LEFT, TOP = 0.001, 33.0, 1.0


class LoggedFiles(RasterFiles):
    """One file for each site; every read of pixels adds a line to a file."""

    def __init__(self, paths, log, pause_s=0.0, **options):
        super().__init__(paths, **options)
        self._log, self._pause_s = log, pause_s

    def read_box(self, layer, positions, box):
        with open(self._log, "a") as file:
            file.write(f"{Path(layer.uri).stem}\n")
        time.sleep(self._pause_s)
        return super().read_box(layer, positions, box)


def make_files(folder, n_sites=N_SITES, dtype="int16", gaps=True):
    """Write a raster around each of some sites; some have gaps, and two have the same pixels."""
    folder.mkdir(exist_ok=True)
    for site in range(n_sites):
        # the first two are twins
        pixels = np.random.default_rng(max(1, site)).integers(1, 250, (2, 20, 20)).astype(dtype)
        if gaps:
            pixels[:, : max(1, site) % 5] = 0
        place = rasterio.Affine(STEP, 0, LEFT + site, 0, -STEP, TOP)
        profile = {"count": 2, "height": 20, "width": 20, "dtype": dtype, "crs": "EPSG:4326"}
        nodata = 0 if gaps else None
        with rasterio.open(
            folder / f"{site}.tif", "w", driver="GTiff", transform=place, nodata=nodata, **profile
        ) as file:
            file.write(pixels)
    return folder


def logged_chips(folder, log, pause_s=0.0, n_sites=N_SITES, **options):
    keys = list(range(n_sites))
    paths = [folder / f"{site}.tif" for site in keys]
    # the window begins in the fourth row, so that some sites have gaps
    sites = pd.DataFrame({"lon": [LEFT + s + 0.01 for s in keys], "lat": TOP - 0.007}, index=keys)
    source = LoggedFiles(paths, log, pause_s, dates=False, sites=keys)
    return read_chips(source, sites, size_px=SIZE, **options)


def reads_in(log):
    return [int(line) for line in log.read_text().splitlines()] if log.exists() else []


def write(chips, root, **options):
    return chips.write(root, sites_per_shard=PER_SHARD, **{"n_jobs": 2, **options})


def files_of(root):
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def finished_sites(root):
    folder = root.with_name(f"{root.name}.unfinished") / "pixels"
    numbers = [int(path.name.split(".")[1]) for path in folder.glob("c.*")]
    return {site for k in numbers for site in range(k * PER_SHARD, (k + 1) * PER_SHARD)}


def test_planning_reads_no_pixel(tmp_path):
    folder, log = make_files(tmp_path / "tiles"), tmp_path / "reads"
    chips = logged_chips(folder, log)
    facts = chips.keys, chips.times, chips.n_times, chips.crs, repr(chips), chips.select([3, 5])
    assert len(facts[0]) == N_SITES
    assert list(facts[-1]) == [3, 5]
    assert not log.exists()


def test_the_manifest_takes_one_pass_when_it_is_asked_for(tmp_path):
    folder, log = make_files(tmp_path / "tiles"), tmp_path / "reads"
    chips = logged_chips(folder, log)
    manifest = chips.manifest
    assert Counter(reads_in(log)) == dict.fromkeys(range(N_SITES), 1)
    pd.testing.assert_frame_equal(chips.manifest, manifest)
    chips.describe()
    assert len(reads_in(log)) == N_SITES
    assert manifest["status"].value_counts().to_dict() == {"ok": 64, "partial": 16}
    assert manifest.loc[1, "duplicate_of"] == 0


def test_reading_and_writing_take_one_pass(tmp_path):
    folder, log = make_files(tmp_path / "tiles"), tmp_path / "reads"
    chips = logged_chips(folder, log)
    summary = write(chips, tmp_path / "x.zarr")
    assert Counter(reads_in(log)) == dict.fromkeys(range(N_SITES), 1)
    assert summary.n_sites_read == N_SITES
    written = chips.manifest
    assert len(reads_in(log)) == N_SITES  # it is known from writing
    stored = open_chips(tmp_path / "x.zarr")
    pd.testing.assert_frame_equal(stored.manifest, written)
    pd.testing.assert_frame_equal(logged_chips(folder, log).manifest, written)
    for site in (0, 4, 9):
        np.testing.assert_array_equal(stored[site], chips[site])


@pytest.mark.parametrize("n_jobs", [1, 3])
def test_what_was_looked_at_before_changes_no_byte(tmp_path, n_jobs):
    folder, log = make_files(tmp_path / "tiles"), tmp_path / "reads"
    write(logged_chips(folder, log), tmp_path / "x.zarr")
    looked = logged_chips(folder, log)
    looked.describe()
    write(looked, tmp_path / "y.zarr", n_jobs=n_jobs)
    assert files_of(tmp_path / "x.zarr") == files_of(tmp_path / "y.zarr")


def test_views_of_bands_and_sites_are_written_in_one_pass(tmp_path):
    folder, log = make_files(tmp_path / "tiles"), tmp_path / "reads"
    chips = logged_chips(folder, log).select([7, 2, 5], bands=["band_2"])
    write(chips, tmp_path / "x.zarr")
    assert Counter(reads_in(log)) == {7: 1, 2: 1, 5: 1}
    stored = open_chips(tmp_path / "x.zarr")
    assert list(stored) == [7, 2, 5]
    pd.testing.assert_frame_equal(stored.manifest, chips.manifest)
    whole = logged_chips(folder, log)
    np.testing.assert_array_equal(stored[5], whole[5][:, 1:])


def test_a_whole_store_is_not_written_again_unless_pixels_changed(tmp_path):
    folder, log = make_files(tmp_path / "tiles"), tmp_path / "reads"
    root = tmp_path / "x.zarr"
    write(logged_chips(folder, log), root)
    assert write(logged_chips(folder, log), root).n_sites_read == 0
    with rasterio.open(folder / "5.tif", "r+") as file:
        file.write(file.read() + 1)
    with pytest.raises(FileExistsError, match=r"'records.parquet' differ"):
        write(logged_chips(folder, log), root)


def test_an_unfinished_store_is_not_gone_on_with_when_a_file_changed(tmp_path):
    folder, log = make_files(tmp_path / "tiles"), tmp_path / "reads"
    whole = (folder / "30.tif").read_bytes()
    (folder / "30.tif").write_bytes(whole[:900])
    root = tmp_path / "x.zarr"
    with pytest.raises(ChipReadError, match=r"Site 30: .*30.tif could not be read"):
        write(logged_chips(folder, log), root, n_jobs=1)
    assert finished_sites(root) == set(range(28))
    (folder / "30.tif").write_bytes(whole)
    with pytest.raises(FileExistsError, match=r"'plan.sha256' differ"):
        write(logged_chips(folder, log), root)
    write(logged_chips(folder, log), root, overwrite=True)
    assert verify_store(root) == 5 + N_SITES // PER_SHARD


def test_a_path_has_one_name(tmp_path, monkeypatch):
    make_files(tmp_path / "tiles", 2)
    monkeypatch.chdir(tmp_path)
    sites = pd.DataFrame({"lon": [LEFT + 0.01, LEFT + 1.01], "lat": TOP - 0.01}, index=[0, 1])
    for name, source in (("x", "tiles"), ("y", "./tiles/"), ("z", "tiles")):
        read_chips(source, sites, size_px=SIZE).write(f"{name}.zarr")
    assert files_of(Path("x.zarr")) == files_of(Path("y.zarr")) == files_of(Path("z.zarr"))
    for name, source in (("u", "./tiles/*.tif"), ("v", "tiles/*.tif")):
        read_chips(source, sites, size_px=SIZE).write(f"{name}.zarr")
    assert files_of(Path("u.zarr")) == files_of(Path("v.zarr"))


def test_sites_that_a_rule_leaves_out_are_known_at_once(tmp_path):
    folder, log = make_files(tmp_path / "tiles"), tmp_path / "reads"
    chips = logged_chips(folder, log, min_valid=1.0)
    assert len(reads_in(log)) == N_SITES
    assert len(chips) == 64
    assert "sites with a valid share below 1, left out: 16" in chips.describe()
    write(chips, tmp_path / "x.zarr")
    pd.testing.assert_frame_equal(open_chips(tmp_path / "x.zarr").manifest, chips.manifest)


@pytest.mark.parametrize(
    ("dtype", "gaps", "shift", "stored"),
    [
        ("uint8", False, 0.0, ("uint8", None)),
        ("uint8", True, 0.0, ("uint8", 0)),
        ("uint8", False, 0.008, ("uint16", 65535)),  # beyond the edge of the file
        ("int16", False, 0.008, ("int32", -(2**31))),
    ],
)
def test_integers_that_nobody_looked_at_leave_a_number_for_what_is_missing(
    tmp_path, dtype, gaps, shift, stored
):
    folder = make_files(tmp_path / "tiles", 2, dtype, gaps)
    sites = pd.DataFrame(
        {"lon": [LEFT + s + 0.01 + shift for s in range(2)], "lat": TOP - 0.01}, index=[0, 1]
    )
    chips = read_chips(folder, sites, size_px=SIZE)
    chips.write(tmp_path / "x.zarr")
    again = open_chips(tmp_path / "x.zarr")
    encoding = again._reader.encoding
    assert (encoding.dtype, encoding.nodata) == stored
    np.testing.assert_array_equal(again[1], chips[1])


def fork(work):
    """Run `work` in a child process and return its number."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    return child


def kill_at_random(folder, seed):
    """Kill five readers and writers of one store, each after a random number of reads."""
    rng = np.random.default_rng(seed)
    tiles, root, log = folder / "tiles", folder / "killed.zarr", folder / "reads"
    steps = []
    for _ in range(5):
        finished, n_before = finished_sites(root), len(reads_in(log))
        child = fork(lambda: write(logged_chips(tiles, log, pause_s=0.002), root))
        n_more, deadline = int(rng.integers(6, 14)), time.monotonic() + 60
        while len(reads_in(log)) < n_before + n_more and time.monotonic() < deadline:
            time.sleep(0.0005)
        time.sleep(rng.uniform(0, 0.01))
        os.kill(child, signal.SIGKILL)
        killed = os.WIFSIGNALED(os.waitpid(child, 0)[1])
        steps.append([sorted(finished), reads_in(log)[n_before:], killed])
    finished, n_before = finished_sites(root), len(reads_in(log))
    summary = write(logged_chips(tiles, log), root)
    steps.append([sorted(finished), reads_in(log)[n_before:], False])
    return {"steps": steps, "n_sites_read": summary.n_sites_read}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.parametrize("seed", [0, 1])
def test_killed_five_times_no_finished_shard_is_read_again_not_even_on_opening(tmp_path, seed):
    folder = make_files(tmp_path / "tiles")
    done = subprocess.run(
        [sys.executable, __file__, str(tmp_path), str(seed)],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert [killed for _, _, killed in seen["steps"]] == [True] * 5 + [False]
    for finished, read, _ in seen["steps"]:
        assert not set(finished) & set(read)
        assert len(read) == len(set(read))
    finished, read, _ = seen["steps"][-1]
    assert 0 < len(read) == seen["n_sites_read"] == N_SITES - len(finished) < N_SITES
    write(logged_chips(folder, tmp_path / "other"), tmp_path / "whole.zarr")
    assert files_of(tmp_path / "killed.zarr") == files_of(tmp_path / "whole.zarr")
    assert verify_store(tmp_path / "killed.zarr") == 5 + N_SITES // PER_SHARD


if __name__ == "__main__":
    sys.stdout.write(json.dumps(kill_at_random(Path(sys.argv[1]), seed=int(sys.argv[2]))))
