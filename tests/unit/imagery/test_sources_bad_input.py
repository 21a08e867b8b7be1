"""Bad rasters, bad places: refused or marked, with site, date and file named."""

import subprocess
import sys
import textwrap

import geopandas as gpd
import numpy as np
import pandas as pd
import pyproj
import pytest
import rasterio
from affine import Affine

from terracausal._foundation.errors import BandError, ChipReadError
from terracausal.imagery import ArraySource, CubeSource, RasterFiles, read_chips
from terracausal.imagery.sources.base import Layer


def noise(n_bands=2, size=128, dtype="uint16"):
    pixels = np.random.default_rng(0).integers(0, 10_000, (n_bands, size, size))
    return pixels.astype(dtype)


@pytest.fixture
def arua(plane):
    return plane.sites_at([40], [100], ["Arua"])


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5])
def test_truncated_tiles_are_named(tmp_path, share, plane, arua):
    path = plane.write(tmp_path / "scene_2020-01-13.tif", noise())
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    who = r"Site 'Arua', 2020-01-13: " if share == 0.5 else ""
    with pytest.raises(ChipReadError, match=f"{who}.*scene_2020-01-13.tif could not be read"):
        read_chips(path, arua, size_px=16).describe()


def test_what_cannot_be_read_is_marked_when_asked_for(tmp_path, plane):
    for day in ("2020-01-13", "2020-02-13"):
        plane.write(tmp_path / f"scene_{day}.tif", noise())
    path = tmp_path / "scene_2020-01-13.tif"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    sites = plane.sites_at([40, 40], [100, 5], ["south", "north"])
    with pytest.raises(ChipReadError, match="Site 'south', 2020-01-13"):
        read_chips(tmp_path, sites, size_px=8).describe()
    chips = read_chips(tmp_path, sites, size_px=8, unreadable="mark")
    status = chips.manifest.set_index(["site", "time"])["status"]
    assert status["south"].tolist() == ["unreadable", "ok"]
    assert status["north"].tolist() == ["ok", "ok"]
    assert np.isnan(chips["south"][0]).all()
    np.testing.assert_array_equal(chips["south"][1], noise()[:, 97:105, 37:45])
    block = next(chips.batches(2))[1]
    assert np.isnan(block[0, 0]).all()
    assert not np.isnan(block[1]).any()
    only = sites.loc[["south"]]
    with pytest.raises(ValueError, match=r"sites that could not be read, left out: 1 \('south'\)"):
        read_chips(path, only, size_px=8, unreadable="mark")


def test_a_file_without_crs(tmp_path, plane, arua):
    path = plane.write(tmp_path / "scene.tif", noise(), crs=None)
    with pytest.raises(ChipReadError, match=r"scene.tif has no coordinate reference system"):
        read_chips(path, arua, size_px=16)


def test_a_file_without_a_place(tmp_path, plane, arua):
    with pytest.warns(rasterio.errors.NotGeoreferencedWarning):
        plane.write(tmp_path / "scene.tif", noise(), transform=Affine.identity())
    with pytest.raises(ChipReadError, match=r"scene.tif has a coordinate .* but no place in it"):
        read_chips(tmp_path / "scene.tif", arua, size_px=16)


def test_a_wrong_crs_says_where_both_are(tmp_path, plane, arua):
    path = plane.write(tmp_path / "scene.tif", noise(), crs="EPSG:32736")
    with pytest.raises(
        ValueError, match=r"none lies on the 1 layers: 'Arua'.*lat 3.6.* lat -86.*EPSG:32736"
    ):
        read_chips(path, arua, size_px=16)


def test_different_bands_in_tiles(tmp_path, plane, arua):
    plane.write(tmp_path / "a.tif", noise(2))
    plane.write(tmp_path / "b.tif", noise(3))
    with pytest.raises(BandError, match=r"2 in files 'a.tif'; 3 in files 'b.tif'"):
        read_chips(tmp_path, arua, size_px=16)


def test_bytes_and_wider_numbers_do_not_mix(tmp_path, plane, arua):
    plane.write(tmp_path / "a.tif", noise(dtype="uint8"))
    plane.write(tmp_path / "b.tif", noise())
    with pytest.raises(BandError, match=r"dtypes: uint8 in files 'a.tif'; uint16 in files 'b.tif'"):
        read_chips(tmp_path, arua, size_px=16)


def test_integers_and_fractions_are_noted(tmp_path, plane, arua):
    plane.write(tmp_path / "a.tif", noise(dtype="float32"))
    plane.write(tmp_path / "b.tif", noise())
    text = read_chips(tmp_path, arua, size_px=16).describe()
    assert "bands whose dtypes differ between files: 2 (fractions first in" in text


def test_rotated_pixels_need_a_resolution(tmp_path, plane):
    cos, sin = plane.step * np.cos(np.radians(20)), plane.step * np.sin(np.radians(20))
    turned = Affine(cos, sin, plane.left, sin, -cos, plane.top)
    path = plane.write(tmp_path / "scene.tif", noise(), transform=turned)
    x, y = turned.a * 64 + turned.b * 64 + turned.c, turned.d * 64 + turned.e * 64 + turned.f
    lon, lat = pyproj.Transformer.from_crs(plane.crs, 4326, always_xy=True).transform(x, y)
    sites = pd.DataFrame({"lon": [lon], "lat": [lat]}, index=["Arua"])
    with pytest.raises(ValueError, match=r"scene.tif are rotated by -?20 degrees.*`resolution_m`"):
        read_chips(path, sites, size_px=16)
    chips = read_chips(path, sites, size_px=16, resolution_m=10)
    assert chips.manifest["status"].tolist() == ["ok"]
    # the centre of the chip is the centre of the file
    middle = chips["Arua"][0, :, 7:9, 7:9].mean(axis=(1, 2))
    np.testing.assert_allclose(middle, noise()[:, 63:65, 63:65].mean(axis=(1, 2)), rtol=0.2)


def test_oblong_pixels_need_a_resolution(tmp_path, plane, arua):
    path = plane.write(
        tmp_path / "scene.tif", noise(), transform=Affine(10, 0, plane.left, 0, -20, plane.top)
    )
    with pytest.raises(ValueError, match=r"measure 10 x 20 metres"):
        read_chips(path, arua, size_px=16)
    assert read_chips(path, arua, size_px=16, resolution_m=20).n_sites == 1


def test_swapped_coordinates(tmp_path, plane, arua):
    path = plane.write(tmp_path / "scene.tif", noise())
    swapped = arua.rename(columns={"lon": "lat", "lat": "lon"})
    with pytest.raises(ValueError, match=r"1 of 1 .* site 'Arua' with lon 3\.6.*look swapped"):
        read_chips(path, swapped, size_px=16)


def test_coordinates_that_are_missing(tmp_path, plane, arua):
    path = plane.write(tmp_path / "scene.tif", noise())
    sites = arua.assign(lat=np.nan)
    with pytest.raises(ValueError, match="1 of 1 have none: 'Arua'"):
        read_chips(path, sites, size_px=16)
    empty = gpd.GeoDataFrame(index=["Arua"], geometry=gpd.points_from_xy([np.nan], [1.0]), crs=4326)
    with pytest.raises(ValueError, match="'Arua'"):
        read_chips(path, empty, size_px=16)


def test_infinite_pixels_name_their_site(tmp_path, plane, arua):
    pixels = noise(dtype="float32")
    pixels[0, 100, 40] = np.inf
    path = plane.write(tmp_path / "scene.tif", pixels)
    with pytest.raises(ChipReadError, match=r"Site 'Arua': .*scene.tif.* 1 of 512 are infinite"):
        read_chips(path, arua, size_px=16).describe()


def test_integers_too_large_name_their_site(tmp_path, plane, arua):
    path = plane.write(tmp_path / "scene.tif", np.full((1, 128, 128), 2**24 + 1, dtype="int32"))
    with pytest.raises(ChipReadError, match=r"Site 'Arua': .*scene.tif.*256 of 256 do not"):
        read_chips(path, arua, size_px=16).describe()


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("absent/*.tif", r"found nothing at .*absent"),
        ("empty", r"has 1 other entries: 'readme.txt'"),
        ([], "must name at least one file"),
    ],
)
def test_no_files(tmp_path, source, message, arua):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "readme.txt").write_text("nothing here")
    source = str(tmp_path / source) if isinstance(source, str) else source
    with pytest.raises(ChipReadError, match=message):
        read_chips(source, arua, size_px=16)


def test_arrays_are_no_source(arua):
    with pytest.raises(TypeError, match=r"got ndarray. For arrays use `ArraySource`"):
        read_chips(np.ones((1, 4, 4)), arua, size_px=2)


def test_options_that_do_not_exist(tmp_path, arua):
    with pytest.raises(TypeError, match=r"has no option 'resample'; it has 'resampling'"):
        read_chips(tmp_path, arua, size_px=2, resample="nearest")


def test_a_source_without_layers(arua):
    class Empty:
        def layers(self):
            return []

        def read(self, layer, grid, positions, resampling):
            raise AssertionError

    with pytest.raises(ChipReadError, match="no layer to read"):
        read_chips(Empty(), arua, size_px=2)


def test_cubes_say_what_they_lack(plane):
    xr = pytest.importorskip("xarray")
    cube = xr.DataArray(
        np.ones((2, 3)), dims=("y", "x"), coords={"y": [0.0, -10], "x": [0.0, 10, 25]}
    )
    with pytest.raises(ValueError, match="must say its coordinate reference system"):
        CubeSource(cube)
    with pytest.raises(ValueError, match=r"along 'x' the steps differ by up to 2.5"):
        CubeSource(cube, crs=plane.crs)
    with pytest.raises(ValueError, match="'easting'; found 'y', 'z'"):
        CubeSource(cube.rename(x="z"), crs=plane.crs)
    with pytest.raises(ValueError, match="found also 'level'"):
        CubeSource(cube.isel(x=[0, 1]).expand_dims("level"), crs=plane.crs)
    with pytest.raises(BandError, match=r"3 dims|shape \(n_times"):
        ArraySource(np.ones((2, 3)), ["red"], plane.transform(), plane.crs)


def test_a_box_beyond_memory_is_not_read(tmp_path, plane):
    """A file that says its pixels are a tenth of a millimetre wide would fill a chip with 1e12."""
    tiny = Affine(1e-4, 0, plane.left, 0, -1e-4, plane.top)
    with rasterio.open(
        tmp_path / "tiny.tif", "w", driver="GTiff", count=1, height=2_000_000, width=2_000_000,
        dtype="uint8", crs=plane.crs, transform=tiny, tiled=True, sparse_ok=True, BIGTIFF="YES",
    ):  # fmt: skip
        pass
    x, y = plane.left + 100, plane.top - 100
    lon, lat = pyproj.Transformer.from_crs(plane.crs, 4326, always_xy=True).transform(x, y)
    sites = pd.DataFrame({"lon": [lon], "lat": [lat]}, index=["Arua"])
    with pytest.raises(ChipReadError, match=r"Site 'Arua': .*tiny.tif .*GiB"):
        read_chips(tmp_path / "tiny.tif", sites, size_px=16, resolution_m=10).describe()


HUGE = """
import resource, sys
import numpy as np, pandas as pd, rasterio
from affine import Affine
from terracausal.imagery import read_chips

path, block = sys.argv[1], int(sys.argv[2])
size = 1_500_000
with rasterio.open(
    path, "w", driver="GTiff", count=1, height=size, width=size, dtype="uint16",
    crs="EPSG:32636", transform=Affine(0.1, 0, 500_000, 0, -0.1, 400_000), tiled=block > 0,
    sparse_ok=True, BIGTIFF="YES", **(dict(blockxsize=block, blockysize=block) if block else {})
):
    pass
sites = pd.DataFrame({"lon": [33.0005], "lat": [3.6175]}, index=["Arua"])
used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    chips = read_chips(path, sites, size_px=16)
    print(chips.manifest["status"][0])
except OSError as error:
    print(type(error).__name__, error)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - used) // 1024, "MB")
"""


@pytest.mark.parametrize(("block", "answer"), [(256, "ok"), (16_384, "ChipReadError"), (0, "ok")])
def test_a_header_that_announces_terabytes(tmp_path, block, answer):
    """4.5 TB by its header, a few kB to MB on disk: a chip is read, or the block refused."""
    found = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(HUGE), str(tmp_path / "huge.tif"), str(block)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert found.returncode == 0, found.stderr
    *said, used = found.stdout.strip().splitlines()
    assert said[0].startswith(answer), found.stdout
    if answer != "ok":
        assert "announces blocks of 16,384 x 16,384 pixels" in said[0]
    assert int(used.split()[0]) < 200


def test_layers_are_checked_by_type():
    with pytest.raises(BandError):
        Layer("a", ("red",), numbers=(1, 2))
    with pytest.raises(ChipReadError, match="is empty"):
        RasterFiles([])
