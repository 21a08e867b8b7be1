"""Scenes as layers: one grid for the bands of an item, completed from the headers of its files."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from affine import Affine
from odc.geo.crs import CRS as OdcCRS
from odc.geo.geobox import GeoBox

from terracausal._foundation.errors import BandError, ChipReadError, list_some
from terracausal.imagery.geodesy import LONLAT, move_points, parse_crs, same_crs
from terracausal.imagery.sources.base import Layer
from terracausal.imagery.sources.raster_files import FileHeader
from terracausal.imagery.sources.stac_items import Assets, Scene, SceneBand, crs_text

_OFF_PX = 0.5
_STAND_IN_M = 10.0


def scene_layer(scene: Scene, says_dtype: bool) -> Layer:
    """Return a scene as a layer on the grid of its finest file.

    Parameters
    ----------
    scene : Scene
        With the grid of every band.
    says_dtype : bool
        Whether the dtype of all bands of all scenes is known; float32 stands in where it is not.
    """
    bands = scene.bands
    finest = min((band.grid for band in bands), key=lambda grid: abs(grid.affine.determinant))
    dtypes = [band.dtype for band in bands if band.dtype is not None]
    scaled = any(band.scale is not None for band in bands)
    return Layer(
        scene.uri,
        tuple(band.name for band in bands),
        finest,
        scene.date,
        np.result_type(*dtypes).name if says_dtype else "float32",
        tuple(band.nodata for band in bands),
        tuple(1.0 if band.scale is None else band.scale for band in bands) if scaled else (),
        tuple(0.0 if band.offset is None else band.offset for band in bands) if scaled else (),
        cloud_share=scene.cloud_share,
    )


def file_layer(header: FileHeader, bands: Sequence[SceneBand], whole: Any) -> Layer:
    """Return some bands of one file as a layer; what the item says counts before the header."""
    places = [header.numbers.index(band.number) for band in bands]
    grid = header.grid
    if parse_crs(str(grid.crs)).is_geographic:
        # the planner may have turned the layer around the globe
        turns = round((whole.affine.c - grid.affine.c) / 360)
        moved = Affine(*_from_left(grid.affine, 360.0 * turns))
        grid = GeoBox(grid.shape, moved, grid.crs) if turns else grid
    return Layer(
        header.uri,
        tuple(band.name for band in bands),
        grid,
        dtype=header.dtype,
        nodata=tuple(
            header.nodata[k] if band.nodata is None else band.nodata
            for k, band in zip(places, bands, strict=True)
        ),
        scale=tuple(
            header.scale[k] if band.scale is None else band.scale
            for k, band in zip(places, bands, strict=True)
        ),
        offset=tuple(
            header.offset[k] if band.offset is None else band.offset
            for k, band in zip(places, bands, strict=True)
        ),
        numbers=tuple(band.number for band in bands),
    )


def _from_left(affine: Affine, shift: float) -> tuple[float, ...]:
    return affine.a, affine.b, affine.c + shift, affine.d, affine.e, affine.f


def with_headers(scene: Scene, headers: Mapping[str, FileHeader], named: bool) -> Scene:
    """Return a scene with what the headers of its files say where the item is silent.

    Parameters
    ----------
    scene : Scene
        Some of its bands may lack a grid.
    headers : mapping of str to FileHeader
        Of the files that could be opened, by address.
    named : bool
        Whether the bands were named by the caller, so that a file cannot add any.
    """
    bands: list[SceneBand] = []
    for band in scene.bands:
        header = headers.get(band.href)
        if header is None or band.grid is not None:
            bands.append(band)
        elif not band.is_described and len(header.numbers) > 1 and not named:
            own = zip(header.bands, header.numbers, strict=True)
            bands += [
                _from_header(replace(band, name=name, number=number), header)
                for name, number in own
            ]
        else:
            bands.append(_from_header(band, header))
    return replace(scene, bands=tuple(bands))


def _from_header(band: SceneBand, header: FileHeader) -> SceneBand:
    if band.number not in header.numbers:
        return replace(band, grid=header.grid)
    place = header.numbers.index(band.number)
    scale, offset = _scaling_of(band, header, place)
    return replace(
        band,
        grid=header.grid,
        dtype=band.dtype or header.dtype,
        nodata=header.nodata[place] if band.nodata is None else band.nodata,
        scale=scale,
        offset=offset,
        is_described=True,
    )


def _scaling_of(
    band: SceneBand, header: FileHeader, place: int
) -> tuple[float | None, float | None]:
    scale, offset = header.scale[place], header.offset[place]
    if band.scale is not None or (scale, offset) == (1.0, 0.0):
        return band.scale, band.offset
    return scale, offset


def with_stand_in(scene: Scene, scenes: Sequence[Scene]) -> Scene:
    """Return a scene in which something marks the place of files that could not be opened."""
    if all(band.grid is not None for band in scene.bands):
        return scene
    own = next((band.grid for band in scene.bands if band.grid is not None), None)
    if own is None and scene.box is not None:
        twin = next(
            (
                other
                for other in scenes
                if other.box == scene.box and all(band.grid is not None for band in other.bands)
            ),
            None,
        )
        own = twin.bands[0].grid if twin is not None else _grid_of_box(scene.box)
    if own is None:
        hrefs = [band.href for band in scene.bands]
        raise ChipReadError(
            f"The item {scene.uri} does not say where its pixels lie, and its files cannot be "
            f"opened: {list_some(dict.fromkeys(hrefs))}. Leave it out, or try again when the "
            "server is back."
        )
    bands = [
        replace(band, grid=band.grid if band.grid is not None else own) for band in scene.bands
    ]
    return replace(scene, bands=tuple(bands))


def _grid_of_box(box: tuple[float, float, float, float]) -> Any:
    """Return a grid of 10 m in UTM that covers a box in degrees."""
    west, south, east, north = box
    crs = parse_crs(str(OdcCRS.utm((west + east) / 2, (south + north) / 2)))
    corners = move_points([(x, y) for x in (west, east) for y in (south, north)], LONLAT, crs)
    (left, bottom), (right, top) = corners.min(axis=0), corners.max(axis=0)
    shape = (
        max(1, round((top - bottom) / _STAND_IN_M)),
        max(1, round((right - left) / _STAND_IN_M)),
    )
    return GeoBox(shape, Affine(_STAND_IN_M, 0, left, 0, -_STAND_IN_M, top), crs_text(crs))


def common_bands(scenes: list[Scene], assets: Assets) -> list[Scene]:
    """Return the scenes with the bands that all of them have, unless assets were asked for."""
    if assets is not None:
        return scenes
    counts = Counter(band.name for scene in scenes for band in scene.bands)
    common = {name for name, count in counts.items() if count == len(scenes)}
    if not common:
        shown = "; ".join(
            f"{[band.name for band in scene.bands]} in {scene.uri}" for scene in scenes[:3]
        )
        raise BandError(
            f"The {len(scenes)} items must have a band in common; found {shown}. Name the assets "
            "of each kind of item with `assets`, and read them apart."
        )
    return [
        replace(scene, bands=tuple(band for band in scene.bands if band.name in common))
        for scene in scenes
    ]


def is_same_grid(said: Any, found: Any) -> bool:
    """Say whether two grids agree to within half a pixel."""
    if said.shape != found.shape or not same_crs(str(said.crs), str(found.crs)):
        return False
    side = np.sqrt(abs(found.affine.determinant))
    height, width = found.shape
    for column, row in ((0, 0), (width, 0), (0, height), (width, height)):
        here = np.subtract(
            (
                said.affine.a * column + said.affine.b * row + said.affine.c,
                said.affine.d * column + said.affine.e * row + said.affine.f,
            ),
            (
                found.affine.a * column + found.affine.b * row + found.affine.c,
                found.affine.d * column + found.affine.e * row + found.affine.f,
            ),
        )
        if np.abs(here).max() > _OFF_PX * side:
            return False
    return True


def grid_words(grid: Any) -> str:
    """Return size, affine map and CRS of a grid as text."""
    height, width = grid.shape
    terms = ", ".join(f"{term:g}" for term in tuple(grid.affine)[:6])
    name = parse_crs(str(grid.crs)).name
    return f"{height} x {width} px at ({terms}) in {name}"
