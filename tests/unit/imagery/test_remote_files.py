"""Plain addresses of rasters: servers that fail for a while, for good, or at the header."""

import json
import subprocess
import sys
import urllib.request
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import rasterio

from terracausal._foundation.errors import ChipReadError
from terracausal.imagery import RasterFiles, read_chips
from terracausal.imagery.records import NoChipsError
from terracausal.imagery.sources import remote
from terracausal.imagery.sources.remote import Patience, may_pass

SERVER = Path(__file__).parents[2] / "data" / "stac" / "server.py"
DAYS = ("2019-03-01", "2019-09-01")
SITES = pd.DataFrame({"lon": [33.0018, 33.0018, 33.0018], "lat": [0.9045, 0.9045, 0.9045]})
SITES.index = pd.Index(["a", "b", "c"], name="site")


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch):
    monkeypatch.setattr(remote, "FIRST_PAUSE_S", 0.01)


@pytest.fixture
def server(tmp_path, rng):
    """A server with one file for each site and day."""
    for site in SITES.index:
        for day in DAYS:
            with rasterio.open(
                tmp_path / f"{site}_{day}.tif",
                "w",
                driver="GTiff",
                height=256,
                width=256,
                count=1,
                dtype="uint16",
                crs="EPSG:32636",
                transform=rasterio.Affine(10, 0, 500_000, 0, -10, 101_160),
            ) as file:
                file.write(rng.integers(1, 10_000, (1, 256, 256)).astype("uint16"))
    command = [sys.executable, str(SERVER), str(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    yield f"http://127.0.0.1:{process.stdout.readline().strip()}", process
    process.terminate()
    process.wait()
    process.stdout.close()


def order(url, **control):
    data = json.dumps(control).encode()
    urllib.request.urlopen(f"{url}/control", data=data).close()


def asked(url):
    with urllib.request.urlopen(f"{url}/control") as answer:
        return [path for _, path, _ in json.load(answer)]


def table(root):
    rows = [(f"{root}/{site}_{day}.tif", site, day) for site in SITES.index for day in DAYS]
    return pd.DataFrame(rows, columns=["path", "site", "date"])


@pytest.mark.parametrize("kind", ["failures", "drops"])
def test_addresses_that_fail_twice_are_asked_again(server, tmp_path, kind):
    url, _ = server
    expected = read_chips(table(tmp_path), SITES, size_px=16)
    order(url, **{kind: {f"/{path.name}": 2 for path in tmp_path.glob("*.tif")}})
    found = read_chips(table(url), SITES, size_px=16, n_jobs=1)
    for site in SITES.index:
        np.testing.assert_array_equal(found[site], expected[site])
    assert set(found.manifest["status"]) == {"ok"}
    paths = asked(url)
    assert all(paths.count(f"/{path.name}") >= 3 for path in tmp_path.glob("*.tif"))
    # neither a listing of the folder nor files beside these are asked for
    assert set(paths) <= {f"/{path.name}" for path in tmp_path.glob("*.tif")} | {"/control"}


def test_without_retries_a_failure_counts(server):
    url, _ = server
    order(url, failures={"/a_2019-03-01.tif": 1})
    with pytest.raises(ChipReadError, match=r"Site 'a': http.*a_2019-03-01\.tif .*503"):
        read_chips(table(url), SITES, size_px=16, retries=0, unreadable="raise")


def test_a_header_that_fails_marks_its_site_and_date(server, tmp_path):
    url, _ = server
    expected = read_chips(table(tmp_path), SITES, size_px=16)
    lost = ("a_2019-09-01", "b_2019-03-01", "b_2019-09-01")
    order(url, failures={f"/{name}.tif": 10**6 for name in lost})
    found = read_chips(table(url), SITES, size_px=16, retries=1)
    assert list(found) == ["a", "c"]
    manifest = found.manifest
    assert len(manifest) == 6
    assert dict(zip(zip(manifest["site"], manifest["time"], strict=True), manifest["status"],
                    strict=True)) == {
        (site, pd.Timestamp(day)): "unreadable" if f"{site}_{day}" in lost else "ok"
        for site in SITES.index
        for day in DAYS
    }  # fmt: skip
    np.testing.assert_array_equal(found["a"][0], expected["a"][0])
    assert np.isnan(found["a"][1]).all()
    assert "sites that could not be read, left out: 1 ('b')" in found.describe()
    order(url)
    # the pixels of the stand-in are never those of the file, also when its server is back
    assert np.isnan(found["a"][1]).all()


def test_tiles_whose_header_fails(server):
    url, _ = server
    order(url, failures={"/b_2019-03-01.tif": 10**6})
    tiles = [f"{url}/a_2019-03-01.tif", f"{url}/b_2019-03-01.tif"]
    far = pd.concat([SITES[:1], pd.DataFrame({"lon": [34.0], "lat": [0.9]}, index=["far"])])
    found = read_chips(tiles, far, size_px=16, retries=0, layout="tiles")
    manifest = found.manifest.set_index("site")
    # nobody knows whether the tile would have reached it
    assert manifest["status"].to_dict() == {"a": "ok", "far": "unreadable"}
    assert manifest.loc["far", "source"] == tiles[1]
    assert "files that could not be opened: 1" in found.describe()


def test_a_server_that_is_down_for_all_leaves_its_manifest(server):
    url, process = server
    process.terminate()
    process.wait()
    with pytest.raises(NoChipsError, match=r"of 3 sites: .*unreadable 6.*`manifest`") as caught:
        read_chips(table(url), SITES, size_px=16, retries=1)
    assert isinstance(caught.value, ChipReadError)
    manifest = caught.value.manifest
    assert list(manifest["site"]) == ["a", "a", "b", "b", "c", "c"]
    assert set(manifest["status"]) == {"unreadable"}
    assert manifest["source"].tolist() == table(url)["path"].tolist()
    assert manifest["time"].dt.strftime("%Y-%m-%d").tolist() == [*DAYS] * 3


def test_a_server_that_goes_down_after_the_headers(server):
    url, process = server
    source = RasterFiles(table(url)["path"], sites=table(url)["site"], retries=0)
    source.layers()
    process.terminate()
    process.wait()
    with pytest.raises(NoChipsError, match=r"could not be read, left out: 3") as caught:
        read_chips(source, SITES, size_px=16)
    assert set(caught.value.manifest["status"]) == {"unreadable"}
    assert len(caught.value.manifest) == 6


def test_a_header_of_a_file_raises_unless_it_is_to_be_marked(tmp_path, server):
    (tmp_path / "b_2019-03-01.tif").write_bytes(b"II*\0broken")
    with pytest.raises(ChipReadError, match=r"Site 'b': .*b_2019-03-01\.tif could not be read"):
        read_chips(table(tmp_path), SITES, size_px=16)
    found = read_chips(table(tmp_path), SITES, size_px=16, unreadable="mark")
    assert found.manifest["status"].tolist() == ["ok", "ok", "unreadable", "ok", "ok", "ok"]


def test_a_dead_server_costs_its_pauses_a_few_times_only(monkeypatch):
    pauses = []
    monkeypatch.setattr(remote.time, "sleep", pauses.append)
    tries = []

    def fail():
        tries.append(1)
        raise OSError("HTTP response code: 503")

    patience = Patience(retries=3)
    for k in range(20):
        for _ in range(2):
            with pytest.raises(OSError, match="503"):
                patience.insist(f"http://a.org/{k}.tif", fail)
    # eight addresses four times, the others once, and none of them for the second site
    assert (len(tries), len(pauses)) == (8 * 4 + 12, 8 * 3)
    assert patience.insist("http://b.org/0.tif", lambda: 7) == 7


def test_what_is_wrong_with_a_file_does_not_pass():
    assert not may_pass(ChipReadError("it has no coordinate reference system"))
    assert may_pass(OSError("HTTP response code: 503"))
