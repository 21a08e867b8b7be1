"""Whatever the raster, its CRS and the site: the chip is what a plain reading of the file gives."""

import numpy as np
import pandas as pd
import pyproj
import pytest
from affine import Affine
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from terracausal.imagery import ArraySource, read_chips
from terracausal.imagery.geodesy import universal_crs
from terracausal.imagery.plan import native_grid, turned
from terracausal.imagery.sources.base import Layer
from terracausal.imagery.sources.windows import read_on_grid, whole_offset

DTYPES = ("uint8", "int16", "uint16", "float32")
FEW = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True
)


@st.composite
def scenes(draw):
    """A raster around a place anywhere between 78 S and 78 N, and the site in or near it."""
    lon, lat = draw(st.floats(-180, 180)), draw(st.floats(-78, 78))
    height, width = draw(st.integers(2, 40)), draw(st.integers(2, 40))
    dtype = draw(st.sampled_from(DTYPES))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    pixels = rng.integers(0, 200, (2, height, width)).astype(dtype)
    if draw(st.booleans()):
        crs, step = universal_crs(lon, lat).srs, draw(st.sampled_from([3.0, 10.0, 28.5]))
    else:
        crs, step = "EPSG:4326", draw(st.sampled_from([1e-4, 2.7e-4, 0.01]))
    x, y = pyproj.Transformer.from_crs(4326, crs, always_xy=True).transform(lon, lat)
    # the site lies on the raster or up to three pixels beyond its edge
    column = draw(st.floats(-3, width + 3))
    row = draw(st.floats(-3, height + 3))
    place = Affine(step, 0, x - step * column, 0, -step, y + step * row)
    nodata = draw(st.sampled_from([None, 7.0]))
    size = draw(st.tuples(st.integers(1, 12), st.integers(1, 12)))
    site = pd.DataFrame({"lon": [lon], "lat": [lat]}, index=["s"])
    return pixels, place, crs, nodata, (column, row), size, site


def plain_window(pixels, nodata, position, size):
    """Return the window by its definition, pixel by pixel; None where it misses the raster."""
    left, top = (
        int(np.floor(round(p - n / 2 + 0.5, 6))) for p, n in zip(position, size[::-1], strict=True)
    )
    expected = np.full((len(pixels), *size), np.nan, dtype=np.float32)
    touches = False
    for i in range(size[0]):
        for j in range(size[1]):
            row, column = top + i, left + j
            if 0 <= row < pixels.shape[1] and 0 <= column < pixels.shape[2]:
                touches = True
                for k in range(len(pixels)):
                    if nodata is None or pixels[k, row, column] != nodata:
                        expected[k, i, j] = pixels[k, row, column]
    return expected if touches else None


@given(scenes())
@FEW
def test_a_chip_is_the_window_of_its_definition(scene):
    pixels, place, crs, nodata, position, size, site = scene
    near = [abs(p - n / 2 + 0.5 - round(p - n / 2 + 0.5)) for p, n in zip(position, size[::-1])]  # noqa: B905
    if min(near) < 1e-4:
        return  # a tie, which the last digit decides
    source = ArraySource(pixels, ["red", "nir"], place, crs, nodata=nodata)
    expected = plain_window(pixels, nodata, position, size)
    if expected is None:
        with pytest.raises(ValueError, match="No site has a chip"):
            read_chips(source, site, size_px=size)
        return
    chips = read_chips(source, site, size_px=size)
    np.testing.assert_array_equal(chips["s"][0], expected)
    record = chips.manifest.iloc[0]
    absent = float(np.isnan(expected).mean())
    assert record["nodata_share"] == pytest.approx(absent)
    assert record["status"] == ("ok" if absent == 0 else "no data" if absent == 1 else "partial")


@given(scenes(), st.sampled_from([5.0, 40.0]), st.sampled_from(["nearest", "bilinear"]))
@FEW
def test_a_resampled_chip_invents_no_value(scene, resolution_m, method):
    pixels, place, crs, nodata, _, size, site = scene
    source = ArraySource(pixels, ["red", "nir"], place, crs, nodata=nodata)
    try:
        chips = read_chips(source, site, size_px=size, resolution_m=resolution_m, resampling=method)
    except ValueError as error:
        assert "No site has a chip" in str(error)  # noqa: PT017
        return
    chip = chips["s"]
    known = pixels[pixels != nodata].astype(float)
    assert chips.manifest["offset_m"][0] < 1e-6
    found = chip[~np.isnan(chip)]
    if found.size:
        assert found.min() >= known.min() - 1e-3
        assert found.max() <= known.max() + 1e-3
        if method == "nearest":
            assert set(found.tolist()) <= set(known.tolist())


@given(scenes(), st.integers(1, 39), st.integers(1, 39))
@FEW
def test_tiles_join_to_the_whole(scene, column, row):
    """Cut anywhere, in one CRS: the same chip to the last digit."""
    pixels, place, crs, nodata, _, size, site = scene
    height, width = pixels.shape[1:]
    column, row = min(column, width - 1), min(row, height - 1)

    class Tiles:
        def __init__(self):
            self.parts = {}
            for i, (top, bottom) in enumerate(((0, row), (row, height))):
                for j, (left, right) in enumerate(((0, column), (column, width))):
                    x, y = place.c + place.a * left, place.f + place.e * top
                    moved = Affine(place.a, 0, x, 0, place.e, y)
                    part = pixels[:, top:bottom, left:right]
                    one = ArraySource(part, ["red", "nir"], moved, crs, nodata=nodata)
                    (layer,) = one.layers()
                    name = f"tile_{i}{j}"
                    named = Layer(
                        name, layer.bands, layer.grid, dtype=layer.dtype, nodata=layer.nodata
                    )
                    self.parts[name] = (named, part)

        def layers(self):
            return [layer for layer, _ in self.parts.values()]

        def read(self, layer, grid, positions, resampling):
            part = self.parts[layer.uri][1]

            def read_box(places, box):
                return part[list(places), box[1] : box[3], box[0] : box[2]]

            return read_on_grid(layer, grid, positions, resampling, read_box)

    whole = ArraySource(pixels, ["red", "nir"], place, crs, nodata=nodata)
    try:
        expected = read_chips(whole, site, size_px=size)["s"]
    except ValueError:
        return
    np.testing.assert_array_equal(read_chips(Tiles(), site, size_px=size)["s"], expected)


@given(
    st.floats(-180, 180),
    st.floats(-85, 85),
    st.integers(1, 64),
    st.sampled_from([1e-4, 2.5e-4, 0.05]),
    st.integers(-1, 1),
)
@FEW
def test_a_window_keeps_its_place_when_longitudes_turn(lon, lat, size, step, turn):
    layer = Layer(
        "a", ("red",), ArraySource(np.ones((1, 9, 9)), ["red"], Affine(step, 0, lon, 0, -step, lat),
                                   "EPSG:4326").layers()[0].grid,
    )  # fmt: skip
    grid = native_grid(layer.grid, (lon + 2.2 * step, lat - 3.3 * step), (size, size))
    there = turned(layer, turn)
    moved = native_grid(there.grid, (lon + 360 * turn + 2.2 * step, lat - 3.3 * step), (size, size))
    assert whole_offset(layer.grid, grid) == whole_offset(there.grid, moved)
    assert whole_offset(layer.grid, grid) is not None
