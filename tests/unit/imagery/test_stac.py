"""STAC items over HTTP: the same chips as the files, servers that fail, items that say little."""

import json
import pickle
import subprocess
import sys
import urllib.request
from pathlib import Path

import numpy as np
import pandas as pd
import pystac
import pytest
import rasterio

from terracausal._foundation.errors import BandError, ChipReadError
from terracausal.imagery import read_chips
from terracausal.imagery.sources import remote, stac_catalog
from terracausal.imagery.sources.stac import StacSource
from terracausal.imagery.sources.stac_catalog import list_items, search_boxes, search_stac
from terracausal.imagery.sources.stac_items import grid_of, read_scene, resolve

SERVER = Path(__file__).parents[2] / "data" / "stac" / "server.py"
PLACE = rasterio.Affine(10, 0, 500_000, 0, -10, 100_000)
SIDE = 200


class Server:
    """The file server in a process of its own."""

    def __init__(self, folder):
        command = [sys.executable, str(SERVER), str(folder)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.url = f"http://127.0.0.1:{self.process.stdout.readline().strip()}"

    def order(self, **control):
        data = json.dumps(control).encode()
        urllib.request.urlopen(f"{self.url}/control", data=data).close()

    def log(self):
        with urllib.request.urlopen(f"{self.url}/control") as answer:
            return json.load(answer)

    def stop(self):
        self.process.terminate()
        self.process.wait()
        self.process.stdout.close()


def write_cog(path, pixels, transform, names=None, nodata=0, **profile):
    count, height, width = pixels.shape
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        tiled=True,
        blockxsize=64,
        blockysize=64,
        compress="deflate",
        count=count,
        height=height,
        width=width,
        dtype=pixels.dtype,
        crs="EPSG:32636",
        transform=transform,
        nodata=nodata,
        **profile,
    ) as file:
        file.write(pixels)
        for number, name in enumerate(names or [], start=1):
            file.set_band_description(number, name)


def item_of(name, day, assets, *, shift=0, **properties):
    """Return an item whose grid begins `shift` columns to the east."""
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": name,
        "collection": "simulated",
        "geometry": None,
        "bbox": [33 + shift * 8.98e-5, 0.886, 33.018 + shift * 8.98e-5, 0.905],
        "properties": {
            "datetime": f"{day}T08:10:11Z",
            "proj:epsg": 32636,
            "proj:shape": [SIDE, SIDE],
            "proj:transform": [10, 0, 500_000 + 10 * shift, 0, -10, 100_000, 0, 0, 1],
            **properties,
        },
        "assets": assets,
        "links": [],
    }


def two_bands(href):
    return {
        "image": {
            "href": href,
            "type": "image/tiff; application=geotiff; profile=cloud-optimized",
            "roles": ["data"],
            "eo:bands": [{"name": "red"}, {"name": "nir"}],
            "raster:bands": [{"data_type": "uint16", "nodata": 0}] * 2,
        },
        "thumbnail": {"href": "small.png", "type": "image/png", "roles": ["thumbnail"]},
    }


TILES = [("2019-03-01", 0), ("2019-03-01", SIDE), ("2019-09-01", 0), ("2019-09-01", SIDE)]


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory):
    """A static catalogue of two tiles at two dates, as files and on a server."""
    folder = tmp_path_factory.mktemp("catalogue")
    rng = np.random.default_rng(7)
    links = []
    for day, shift in TILES:
        name = f"{'west' if shift == 0 else 'east'}_{day}"
        pixels = rng.integers(1, 10_000, (2, SIDE, SIDE)).astype("uint16")
        pixels[:, :20, :30] = 0
        write_cog(
            folder / "tiles" / f"{name}.tif",
            pixels,
            PLACE * PLACE.translation(shift, 0),
            ["red", "nir"],
        )
        item = item_of(name, day, two_bands(f"../tiles/{name}.tif"), shift=shift)
        (folder / "items").mkdir(exist_ok=True)
        (folder / "items" / f"{name}.json").write_text(json.dumps(item))
        links.append({"rel": "item", "href": f"./items/{name}.json"})
    child = {"type": "Collection", "id": "simulated", "links": links}
    (folder / "collection.json").write_text(json.dumps(child))
    root = {
        "type": "Catalog",
        "id": "root",
        "links": [
            {"rel": "root", "href": "./catalog.json"},
            {"rel": "child", "href": "./collection.json"},
        ],
    }
    (folder / "catalog.json").write_text(json.dumps(root))
    server = Server(folder)
    yield folder, server
    server.stop()


@pytest.fixture
def sites(rng):
    """Sites on both tiles, over their border and at the edge, in longitudes and latitudes."""
    from pyproj import Transformer

    column = np.concatenate([rng.uniform(5, 395, 30), [200.0, 199.5, 3.0]])
    row = np.concatenate([rng.uniform(5, 195, 30), [100.0, 50.0, 100.0]])
    move = Transformer.from_crs("EPSG:32636", "EPSG:4326", always_xy=True)
    lon, lat = move.transform(500_000 + 10 * column, 100_000 - 10 * row)
    return pd.DataFrame({"lon": lon, "lat": lat}, index=[f"s{k}" for k in range(len(column))])


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch):
    monkeypatch.setattr(remote, "FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(stac_catalog, "FIRST_PAUSE_S", 0.01)


def same_chips(found, expected):
    assert list(found) == list(expected)
    for site in expected:
        np.testing.assert_array_equal(found[site], expected[site])


def test_chips_over_http_are_those_of_the_files(catalogue, sites):
    folder, server = catalogue
    expected = read_chips(str(folder / "tiles" / "*.tif"), sites, size_px=16, layout="tiles")
    assert expected.n_times == 2
    found = read_chips(StacSource(f"{server.url}/catalog.json"), sites, size_px=16)
    assert (found.bands, found.resolution_m) == (("red", "nir"), 10)
    assert list(found.times) == list(expected.times)
    same_chips(found, expected)
    columns = ["site", "time", "status", "nodata_share", "offset_m", "grid"]
    pd.testing.assert_frame_equal(found.manifest[columns], expected.manifest[columns])
    assert {"ok", "partial"} <= set(found.manifest["status"])


def test_local_catalogue_and_resampled_chips(catalogue, sites):
    folder, server = catalogue
    options = {"size_px": 12, "resolution_m": 15.0, "bands": ["nir"]}
    expected = read_chips(str(folder / "tiles" / "*.tif"), sites, layout="tiles", **options)
    same_chips(read_chips(StacSource(folder / "catalog.json"), sites, **options), expected)
    same_chips(read_chips(StacSource(f"{server.url}/catalog.json"), sites, **options), expected)


def test_only_ranges_are_asked_for(catalogue, sites):
    folder, _ = catalogue
    server = Server(folder)  # GDAL has kept nothing of this address
    try:
        source = StacSource(f"{server.url}/catalog.json")
        source.layers()
        assert not [path for _, path, _ in server.log() if path.endswith(".tif")]
        read_chips(source, sites, size_px=16)
        asked = [(kind, span) for kind, path, span in server.log() if path.endswith(".tif")]
        assert {span is not None for kind, span in asked if kind == "GET"} == {True}
        # a header and blocks of four files, not a request for each of 66 chips
        assert len(asked) < 66
    finally:
        server.stop()


def test_every_way_to_hand_over_items(catalogue, sites):
    folder, server = catalogue
    expected = read_chips(StacSource(folder / "catalog.json"), sites, size_px=8)
    documents = sorted((folder / "items").iterdir())
    mappings = [json.loads(path.read_text()) for path in documents]
    for item in mappings:
        item["assets"]["image"]["href"] = f"{server.url}/tiles/{item['id']}.tif"
        item["geometry"] = {"type": "Point", "coordinates": item["bbox"][:2]}
    collection = {"type": "FeatureCollection", "features": mappings}
    (folder / "collection_of_items.json").write_text(json.dumps(collection))
    ways = [
        documents,
        [f"{server.url}/items/{path.name}" for path in documents],
        mappings,
        iter(mappings),
        collection,
        folder / "collection_of_items.json",
        [pystac.Item.from_dict(item) for item in mappings],
        pystac.ItemCollection(mappings),
        [*documents, *documents],
    ]
    for items in ways:
        same_chips(read_chips(StacSource(items), sites, size_px=8), expected)


def test_a_source_pickles(catalogue, sites):
    _, server = catalogue
    source = StacSource(f"{server.url}/catalog.json", sign=add_nothing)
    expected = read_chips(source, sites, size_px=8)
    same_chips(read_chips(pickle.loads(pickle.dumps(source)), sites, size_px=8), expected)


def add_nothing(href):
    return href


@pytest.mark.parametrize("kind", ["failures", "drops"])
def test_a_server_that_fails_twice_is_asked_again(catalogue, sites, tmp_path, kind):
    folder, _ = catalogue
    server = Server(folder)  # a new address, of which GDAL knows nothing
    try:
        expected = read_chips(StacSource(folder / "catalog.json"), sites, size_px=16)
        tiles = [f"/tiles/{path.name}" for path in sorted((folder / "tiles").iterdir())]
        documents = ["/catalog.json", f"/items/west_{TILES[0][0]}.json"]
        server.order(**{kind: dict.fromkeys([*tiles, *documents], 2)})
        source = StacSource(f"{server.url}/catalog.json", retries=4)
        found = read_chips(source, sites, size_px=16, n_jobs=1)
        same_chips(found, expected)
        assert "unreadable" not in set(found.manifest["status"])
        asked = [path for _, path, _ in server.log()]
        assert all(asked.count(path) >= 3 for path in [*tiles, *documents])
    finally:
        server.stop()


def test_blocks_that_fail_are_asked_again(catalogue, sites):
    """The file opens, then the server fails, then it works."""
    folder, _ = catalogue
    server = Server(folder)
    try:
        expected = read_chips(StacSource(folder / "catalog.json"), sites, size_px=16)
        source = StacSource(f"{server.url}/catalog.json", retries=6)
        layers = source.layers()
        source.read(layers[0], layers[0].grid[:4, :4], (0,), "nearest")
        path = "/tiles/" + Path(layers[0].uri).stem + ".tif"
        server.order(drops={path: 6})
        pixels = source.read(layers[0], layers[0].grid, (0, 1), "nearest")
        with rasterio.open(folder / path[1:]) as file:
            np.testing.assert_array_equal(
                pixels, file.read(masked=True).astype("f4").filled(np.nan)
            )
        same_chips(read_chips(source, sites, size_px=16), expected)
    finally:
        server.stop()


def test_a_server_that_stays_down_marks_its_sites(catalogue, sites):
    folder, _ = catalogue
    server = Server(folder)
    try:
        expected = read_chips(StacSource(folder / "catalog.json"), sites, size_px=16)
        server.order(failures={"/tiles/east_2019-09-01.tif": 10**6})
        source = StacSource(f"{server.url}/catalog.json", retries=2)
        found = read_chips(source, sites, size_px=16)
        assert list(found) == list(expected)
        manifest = found.manifest.set_index(["site", "time"])
        whole = expected.manifest.set_index(["site", "time"])
        assert manifest.index.equals(whole.index)
        down = manifest["source"].str.contains("east_2019-09-01")
        assert 5 < down.sum() < len(down)
        assert set(manifest["status"][down]) == {"unreadable"}
        pd.testing.assert_series_equal(manifest["status"][~down], whole["status"][~down])
        for site in found:
            lost = down[site].to_numpy()
            assert np.isnan(found[site][lost]).all()
            np.testing.assert_array_equal(found[site][~lost], expected[site][~lost])
        asked = [path for _, path, _ in server.log() if "east_2019-09-01" in path]
        # each thread may try three times; the sites do not try on
        assert len([path for path in asked if path.endswith(".tif")]) <= 3 * 16
        # when the server is back, a new reading asks it again
        server.order()
        again = read_chips(StacSource(f"{server.url}/catalog.json"), sites, size_px=16)
        same_chips(again, expected)
    finally:
        server.stop()


def test_a_server_that_is_gone_leaves_a_complete_manifest(catalogue, sites):
    """One of two servers is gone for good: sites that only it had stay in the manifest."""
    folder, alive = catalogue
    gone = Server(folder)
    gone.stop()
    items = []
    for name, server in (("west_2019-03-01", alive), ("east_2019-03-01", gone)):
        item = json.loads((folder / "items" / f"{name}.json").read_text())
        item["assets"]["image"]["href"] = f"{server.url}/tiles/{name}.tif"
        items.append(item)
    expected = read_chips(StacSource(folder / "catalog.json"), sites, size_px=16)
    found = read_chips(StacSource(items, retries=1), sites, size_px=16)
    manifest = found.manifest.set_index("site")
    assert list(manifest.index) == list(sites.index)
    on_gone = manifest["source"].str.contains("east")
    assert 5 < on_gone.sum() < 30
    assert set(manifest["status"][on_gone]) == {"unreadable"}
    assert list(found) == list(manifest.index[~on_gone])
    for site in found:
        np.testing.assert_array_equal(found[site][0], expected[site][0])
    with pytest.raises(ChipReadError, match=r"Site 's\d+', 2019-03-01: .*east_2019-03-01"):
        read_chips(StacSource(items, retries=0), sites, size_px=16, unreadable="raise").describe()
    with pytest.raises(ValueError, match=r"No site has a chip; .* could not be read, left out: \d"):
        read_chips(StacSource(items[1:], retries=0), sites, size_px=16)


def test_gone_files_are_not_asked_again(catalogue):
    _, server = catalogue
    item = item_of("gone", "2020-01-01", two_bands(f"{server.url}/tiles/gone.tif"))
    source = StacSource([item], retries=4)
    server.order()
    layer = source.layers()[0]
    with pytest.raises(OSError, match=r"tiles/gone\.tif.*404"):
        source.read(layer, layer.grid, (0,), "nearest")
    assert len(server.log()) == 1


def test_unreadable_documents_are_named(catalogue, tmp_path):
    _, server = catalogue
    with pytest.raises(ChipReadError, match=r"/none\.json could not be read \(HTTP Error 404"):
        StacSource(f"{server.url}/none.json").layers()
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(ChipReadError, match=r"broken\.json could not be read \(Expecting"):
        StacSource(tmp_path / "broken.json").layers()
    with pytest.raises(ValueError, match="found the type 'Feature collection'"):
        StacSource({"type": "Feature collection"}).layers()
    with pytest.raises(ValueError, match="found none in list"):
        StacSource([]).layers()


# items with one file per band, as Sentinel-2 has them


def sentinel(folder, **properties):
    """Return an item with red and nir of 10 m, an index of 20 m in other words, and classes."""
    rng = np.random.default_rng(3)
    fine = rng.integers(1, 9_000, (2, SIDE, SIDE)).astype("uint16")
    fine[0, 0, 0] = 0
    classes = rng.integers(0, 12, (1, SIDE // 2, SIDE // 2)).astype("uint8")
    half = PLACE * PLACE.scale(2)
    write_cog(folder / "B04.tif", fine[:1], PLACE)
    write_cog(folder / "B08.tif", fine[1:], PLACE)
    write_cog(folder / "SCL.tif", classes, half, nodata=None)
    assets = {
        "B04": {
            "href": "B04.tif",
            "type": "image/tiff",
            "eo:bands": [{"name": "B04", "common_name": "red"}],
        },
        "B08": {
            "href": "B08.tif",
            "type": "image/tiff",
            "eo:bands": [{"name": "B08", "common_name": "nir"}],
        },
        "SCL": {
            "href": "SCL.tif",
            "type": "image/tiff",
            "proj:shape": [SIDE // 2] * 2,
            "proj:transform": list(half)[:6],
        },
        "visual": {"href": "TCI.tif", "type": "image/tiff", "roles": ["visual"]},
    }
    (folder / "item.json").write_text(json.dumps(item_of("S2", "2022-02-01", assets, **properties)))
    return folder / "item.json", fine, classes


def test_bands_in_several_files_make_one_layer(tmp_path):
    path, fine, classes = sentinel(tmp_path)
    source = StacSource(path)
    (layer,) = source.layers()
    assert layer.bands == ("red", "nir", "SCL")
    assert layer.grid.resolution.x == 10
    pixels = source.read(layer, layer.grid, (0, 1, 2), "bilinear")
    expected = fine.astype("float32")
    expected[0, 0, 0] = np.nan
    np.testing.assert_array_equal(pixels[:2], expected)
    # classes of 20 m are repeated, never averaged
    np.testing.assert_array_equal(pixels[2], classes[0].repeat(2, axis=0).repeat(2, axis=1))
    np.testing.assert_array_equal(source.read(layer, layer.grid, (2, 0), "bilinear")[1], pixels[0])


@pytest.mark.parametrize(
    ("properties", "scale", "offset"),
    [
        ({}, 1, 0),
        ({"s2:processing_baseline": "03.01"}, 1, 0),
        ({"s2:processing_baseline": "04.00"}, 1, -1000),
        ({"s2:processing_baseline": "05.11", "earthsearch:boa_offset_applied": True}, 1, 0),
    ],
)
def test_offset_of_sentinel2_baselines(tmp_path, properties, scale, offset):
    path, fine, classes = sentinel(tmp_path, **properties)
    source = StacSource(path)
    (layer,) = source.layers()
    pixels = source.read(layer, layer.grid, (0, 1, 2), "bilinear")
    assert np.isnan(pixels[0, 0, 0])
    np.testing.assert_array_equal(pixels[1], fine[1] * np.float32(scale) + offset)
    assert pixels[2].max() == classes.max()


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_declared_scale_and_offset_count_once(tmp_path, version):
    path, fine, _ = sentinel(tmp_path, **{"s2:processing_baseline": "04.00"})
    item = json.loads(path.read_text())
    asset = item["assets"]["B08"]
    if version == "1.0":
        asset["raster:bands"] = [{"nodata": 0, "scale": 1e-4, "offset": -0.1}]
    else:
        del asset["eo:bands"]
        asset["bands"] = [{"name": "B08", "eo:common_name": "nir", "raster:scale": 1e-4}]
        asset["nodata"], asset["raster:offset"] = 0, -0.1
    path.write_text(json.dumps(item))
    source = StacSource(path)
    (layer,) = source.layers()
    assert layer.bands[1] == "nir"
    pixels = source.read(layer, layer.grid, (1,), "nearest")
    np.testing.assert_allclose(pixels[0], fine[1] * 1e-4 - 0.1, atol=1e-7)


def test_scale_of_the_file_counts_where_the_item_is_silent(tmp_path):
    path, fine, _ = sentinel(tmp_path)
    with rasterio.open(tmp_path / "B08.tif", "r+") as file:
        file.scales, file.offsets = (0.5,), (3.0,)
    source = StacSource(path)
    (layer,) = source.layers()
    pixels = source.read(layer, layer.grid, (1,), "nearest")
    np.testing.assert_array_equal(pixels[0], fine[1] * np.float32(0.5) + 3)


def test_assets_by_key_and_by_name(tmp_path):
    path, _, _ = sentinel(tmp_path)
    assert StacSource(path, assets=["SCL", "B04"]).layers()[0].bands == ("SCL", "red")
    (layer,) = StacSource(path, assets={"B08": "swir"}).layers()
    assert layer.bands == ("swir",)
    with pytest.raises(BandError, match=r"lacks 'B99' and has 'B04', 'B08', 'SCL', 'visual'"):
        StacSource(path, assets=["B99"]).layers()
    with pytest.raises(BandError, match=r"name the 1 bands of asset 'B04' .* got 'a', 'b'"):
        StacSource(path, assets={"B04": ["a", "b"]}).layers()


def test_items_that_say_nothing_of_their_grid(catalogue, sites, tmp_path):
    folder, server = catalogue
    expected = read_chips(StacSource(folder / "catalog.json"), sites, size_px=8)
    items = [json.loads(path.read_text()) for path in (folder / "items").iterdir()]
    for item in items:
        item["properties"] = {"datetime": item["properties"]["datetime"]}
        asset = item["assets"]["image"]
        item["assets"]["image"] = {"href": f"{server.url}/tiles/{item['id']}.tif"}
        assert asset["roles"] == ["data"]
    found = read_chips(StacSource(items), sites, size_px=8)
    assert found.bands == ("red", "nir")
    same_chips(found, expected)


def test_items_without_grid_on_a_server_that_is_down(catalogue, sites):
    """The bounding box says which sites they have; twins of the same place keep the grid."""
    folder, _ = catalogue
    server = Server(folder)
    try:
        expected = read_chips(StacSource(folder / "catalog.json"), sites, size_px=8)
        items = [json.loads(path.read_text()) for path in sorted((folder / "items").iterdir())]
        for item in items:
            item["properties"] = {"datetime": item["properties"]["datetime"]}
            item["assets"]["image"]["href"] = f"{server.url}/tiles/{item['id']}.tif"
        server.order(failures={"/tiles/west_2019-03-01.tif": 10**6})
        found = read_chips(StacSource(items, retries=1), sites, size_px=8)
        manifest = found.manifest.set_index(["site", "time"])
        assert manifest.index.equals(expected.manifest.set_index(["site", "time"]).index)
        down = manifest["source"].str.contains("west_2019-03-01")
        assert set(manifest["status"][down]) == {"unreadable"}
        for site in found:
            kept = ~down[site].to_numpy()
            np.testing.assert_array_equal(found[site][kept], expected[site][kept])
    finally:
        server.stop()


def test_file_that_differs_from_its_item_is_refused(catalogue):
    folder, _ = catalogue
    item = json.loads((folder / "items" / "west_2019-03-01.json").read_text())
    item["assets"]["image"]["href"] = str(folder / "tiles" / "west_2019-03-01.tif")
    item["properties"]["proj:transform"][2] += 6
    source = StacSource([item])
    (layer,) = source.layers()
    with pytest.raises(OSError, match=r"its item says 200 x 200 px at \(10, 0, 500006.* the file"):
        source.read(layer, layer.grid, (0,), "nearest")


def test_file_with_fewer_bands_than_its_item_is_refused(catalogue):
    folder, _ = catalogue
    item = json.loads((folder / "items" / "west_2019-03-01.json").read_text())
    asset = item["assets"]["image"]
    asset["href"] = str(folder / "tiles" / "west_2019-03-01.tif")
    asset["eo:bands"].append({"name": "swir"})
    source = StacSource([item])
    (layer,) = source.layers()
    with pytest.raises(OSError, match="it has 2 bands, its item describes 3"):
        source.read(layer, layer.grid, (2,), "nearest")


def test_items_of_different_bands_keep_the_common_ones(tmp_path):
    red = {"href": "a.tif", "type": "image/tiff", "eo:bands": [{"common_name": "red"}]}
    blue = {"href": "b.tif", "type": "image/tiff", "eo:bands": [{"common_name": "blue"}]}
    new = item_of("new", "2020-01-01", {"B2": red, "B1": blue})
    old = item_of("old", "1990-01-01", {"B1": red})
    assert [layer.bands for layer in StacSource([new, old]).layers()] == [("red",), ("red",)]
    with pytest.raises(BandError, match=r"band in common; found \['red'\] in .*old"):
        StacSource([old, item_of("x", "2000-01-01", {"B1": blue})]).layers()


def test_composites_count_by_their_end():
    assets = two_bands("a.tif")
    item = item_of("year", "2019-01-01", assets, end_datetime="2019-12-31T23:59:59Z")
    item["properties"] |= {"datetime": None, "start_datetime": "2019-01-01T00:00:00Z"}
    assert read_scene(item).date == pd.Timestamp("2019-12-31")


def test_cloud_cover_reaches_the_manifest(tmp_path):
    path, _, _ = sentinel(tmp_path, **{"eo:cloud_cover": 12.5})
    assert StacSource(path).layers()[0].cloud_share == 0.125


def test_projection_by_every_field():
    grid = {"proj:shape": [2, 3], "proj:transform": [10, 0, 5e5, 0, -10, 9]}
    wkt = rasterio.crs.CRS.from_epsg(32636).to_wkt()
    for crs in ({"proj:code": "EPSG:32636"}, {"proj:epsg": 32636}, {"proj:wkt2": wkt}):
        found = grid_of([grid, crs], "x")
        assert found.crs.to_epsg() == 32636
    assert grid_of([grid], "x") is None
    with pytest.raises(ValueError, match="Item 'x' has a projection that cannot be read"):
        grid_of([grid, {"proj:code": "EPSG:1"}], "x")
    with pytest.raises(ValueError, match=r"proj:shape \[0, 3\]"):
        grid_of([{**grid, "proj:shape": [0, 3]}, {"proj:epsg": 32636}], "x")


@pytest.mark.parametrize("href", ["file:///etc/passwd", "/vsizip/vsicurl/x.zip/a.tif"])
def test_a_server_may_not_point_into_this_machine(href):
    with pytest.raises(
        ValueError, match=r"comes from https://a\.org/i\.json but points to the local"
    ):
        resolve(href, "https://a.org/i.json", "scene")


def test_a_catalogue_may_point_at_itself(tmp_path):
    links = [{"rel": "child", "href": "catalog.json"}, {"rel": "item", "href": "item.json"}]
    document = {"type": "Catalog", "id": "a", "links": links}
    (tmp_path / "catalog.json").write_text(json.dumps(document))
    (tmp_path / "item.json").write_text(json.dumps(item_of("a", "2020-01-01", {})))
    assert len(list_items(tmp_path / "catalog.json")) == 1


def test_search_follows_the_sites(catalogue, sites):
    folder, server = catalogue
    items = [json.loads(path.read_text()) for path in sorted((folder / "items").iterdir())]
    for item in items:
        item["assets"]["image"]["href"] = f"{server.url}/tiles/{item['id']}.tif"
    found = {"type": "FeatureCollection", "features": items, "links": []}
    (folder / "search.json").write_text(json.dumps(found))
    conforms = ["core", "item-search"]
    landing = {
        "type": "Catalog",
        "id": "api",
        "description": "simulated",
        "stac_version": "1.0.0",
        "conformsTo": [f"https://api.stacspec.org/v1.0.0/{name}" for name in conforms],
        "links": [
            {"rel": "self", "href": f"{server.url}/api.json"},
            {"rel": "root", "href": f"{server.url}/api.json"},
            {
                "rel": "search",
                "href": f"{server.url}/search",
                "type": "application/geo+json",
                "method": "POST",
            },
        ],
    }
    (folder / "api.json").write_text(json.dumps(landing))
    server.order()
    hits = search_stac(
        f"{server.url}/api.json", sites, collections=["simulated"], datetime="2019", margin_deg=0.1
    )
    asked = [entry for entry in server.log() if entry[0] == "SEARCH"]
    box = np.array(asked[0][2]["bbox"])
    np.testing.assert_allclose(
        box,
        [
            sites.lon.min() - 0.1,
            sites.lat.min() - 0.1,
            sites.lon.max() + 0.1,
            sites.lat.max() + 0.1,
        ],
    )
    expected = read_chips(StacSource(folder / "catalog.json"), sites, size_px=8)
    same_chips(read_chips(StacSource(hits), sites, size_px=8), expected)


def test_search_boxes_at_the_antimeridian():
    around = pd.DataFrame({"lon": [179.0, -179.0], "lat": [0.0, 1.0]}, index=["a", "b"])
    assert search_boxes(around, 0.5) == [(178.5, -0.5, 180.0, 1.5), (-180.0, -0.5, -178.5, 1.5)]
    wide = pd.DataFrame({"lon": [-60.0, 30.0], "lat": [0.0, 1.0]}, index=["a", "b"])
    assert search_boxes(wide, 0.0) == [(-60.0, 0.0, 30.0, 1.0)]
    with pytest.raises(ValueError, match="keys without positions"):
        search_boxes(["a"], 0.1)


def test_search_without_the_extra(monkeypatch, sites):
    monkeypatch.setitem(sys.modules, "pystac_client", None)
    with pytest.raises(ImportError, match=r"pip install 'terracausal\[stac\]'"):
        search_stac("http://127.0.0.1:9", sites, collections=["a"])


def asset(common=None, name=None, kind="image/tiff; application=geotiff", roles=("data",), **more):
    band = {"name": name, "common_name": common}
    bands = {"eo:bands": [{k: v for k, v in band.items() if v}]} if common or name else {}
    return {"href": f"https://a.org/{name}.tif", "type": kind, "roles": list(roles)} | bands | more


def test_names_as_large_archives_have_them():
    """Jpeg twins, pictures in three bands and three red edges, as two archives list them."""
    picture = {
        "eo:bands": [
            {"name": n, "common_name": c}
            for n, c in (("B04", "red"), ("B03", "green"), ("B02", "blue"))
        ]
    }
    assets = {
        "red": asset("red", "B04"),
        "red-jp2": asset("red", "B04", "image/jp2"),
        "rededge1": asset("rededge", "B05"),
        "rededge2": asset("rededge", "B06"),
        "scl": asset(name=None),
        "visual": asset(roles=["data"], **picture),
        "thumbnail": asset(kind="image/jpeg", roles=["thumbnail"]),
        "granule_metadata": asset(kind="application/xml", roles=["metadata"]),
    }
    scene = read_scene(item_of("S2", "2022-01-01", assets))
    assert [band.name for band in scene.bands] == ["red", "rededge1", "rededge2", "scl"]
    assert [band.is_class for band in scene.bands] == [False, False, False, True]
    only_jpeg = {key: assets[key] for key in ("red-jp2", "visual", "thumbnail")}
    assert [b.name for b in read_scene(item_of("S2", "2022-01-01", only_jpeg)).bands] == ["red"]
    with pytest.raises(BandError, match=r"no raster of data among its assets 'thumbnail'"):
        read_scene(item_of("S2", "2022-01-01", {"thumbnail": assets["thumbnail"]}))
