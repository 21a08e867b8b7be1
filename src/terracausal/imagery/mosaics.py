"""Chips that keep the pixels of their layers, cut many at a time from windows that they share.

A call of GDAL or numpy costs as much as the pixels of several small chips, and threads wait for
each other at every call. So neighbouring layers whose pixels lie on one lattice are joined as a
mosaic, a window of it is read once for all chips that lie near each other, and each chip is a slice
of it. Which pixels a chip gets is decided in `plan` in any case.
"""

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.errors import RasterioError

from terracausal.imagery.bands import BandPairs
from terracausal.imagery.plan import SitePlan, Turn, layer_order, turned
from terracausal.imagery.sources.base import Box, Layer
from terracausal.imagery.sources.windows import (
    clipped,
    decode,
    endless,
    endless_grid,
    holds_values,
    whole_offset,
    whole_offsets,
)

ReadBox = Callable[[Layer, tuple[int, ...], Box], NDArray[Any]]
"""Returns the stored numbers of some bands of a layer in a box that lies on it."""

Ints = NDArray[np.int64]
Frame = NDArray[np.float32]

_SPARSE = 4  # a call costs as much as the pixels of some five chips of 64 x 64
_WINDOW_BYTES = 2**24  # as float32
_ROWS_TOGETHER = 256


@dataclass(frozen=True, slots=True)
class Tile:
    """A layer of a mosaic, and the column and row of the mosaic at which it begins."""

    layer: Layer
    positions: tuple[int, ...]
    left: int
    top: int

    def box(self) -> Box:
        """Return what the tile covers of the mosaic."""
        height, width = endless_grid(self.layer.grid).shape
        return self.left, self.top, self.left + width, self.top + height

    def read(self, read_box: ReadBox, box: Box) -> NDArray[Any]:
        """Return the stored numbers in a box of the mosaic that lies on the tile."""

        def read_turn(positions: tuple[int, ...], own: Box) -> NDArray[Any]:
            return read_box(self.layer, positions, own)

        _, read = endless(self.layer, read_turn)
        own = (box[0] - self.left, box[1] - self.top, box[2] - self.left, box[3] - self.top)
        return read(self.positions, own)


@dataclass(slots=True)
class Mosaic:
    """Layers of one date on one lattice of pixels, in the order in which they are joined."""

    origin: Any
    """Grid whose first pixel is column 0 and row 0."""
    tiles: dict[Turn, Tile] = field(default_factory=dict)


class NativeFrames:
    """Where the frames, one for each time of each site, lie on mosaics.

    Parameters
    ----------
    plans : mapping of site to SitePlan
        Of every site that has a chip.
    layers : sequence of Layer
        To which the plans refer.
    pairs : sequence of BandPairs
        What each layer gives to the bands of the chips.
    n_bands : int
        Of the chips.

    Attributes
    ----------
    first : dict of site to int
        Number of the first frame of each site; those of its other times follow.
    mosaic : ndarray of shape (n_frames,)
        Number of the mosaic; -1 for frames that are not cut from one.
    left, top : ndarray of shape (n_frames,)
        Column and row of the mosaic at which a frame begins.
    has_more : ndarray of shape (n_frames,)
        Whether other layers fill the gaps of the one that the mosaic has.
    place : ndarray of shape (3, n_frames)
        Where frames lie, so that sorting puts neighbours together.
    """

    def __init__(
        self,
        plans: Mapping[Hashable, SitePlan],
        layers: Sequence[Layer],
        pairs: Sequence[BandPairs],
        n_bands: int,
    ) -> None:
        self.first: dict[Hashable, int] = {}
        self.owners: list[tuple[Hashable, int]] = []
        grids: list[Any] = []
        self._parts: list[tuple[Turn, ...]] = []
        for site, plan in plans.items():
            self.first[site] = len(grids)
            for time, parts in enumerate(plan.parts):
                self.owners.append((site, time))
                self._parts.append(parts)
                grids.append(plan.grid)
        n_frames = len(grids)
        self.mosaics: list[Mosaic] = []
        self.mosaic = np.full(n_frames, -1, dtype=np.int64)
        self.left, self.top = np.zeros((2, n_frames), dtype=np.int64)
        self.has_more = np.zeros(n_frames, dtype=bool)
        self.size_px = tuple(grids[0].shape) if grids else (1, 1)
        self._layers, self._pairs, self._n_bands = layers, pairs, n_bands
        affines = np.array([tuple(grid.affine)[:6] for grid in grids]).reshape(-1, 6)
        self._join(affines, [str(grid.crs) for grid in grids])
        self.place = self._places(affines)

    def in_order(self, frames: Ints) -> Ints:
        """Return positions that put frames which lie near each other side by side."""
        return np.lexsort(self.place[::-1, frames])

    def cut(self, frames: Ints, rows: Ints, out: Frame, read_box: ReadBox) -> NDArray[np.bool_]:
        """Write frames of mosaics into rows of an array (n_rows, n_bands, height, width).

        Returns
        -------
        ndarray of shape (n_frames,)
            Whether each could be read.
        """
        done = np.ones(len(frames), dtype=bool)
        height, width = self.size_px
        lefts, tops = self.left[frames], self.top[frames]
        ends = np.flatnonzero(np.diff(self.mosaic[frames])) + 1
        for run in np.split(np.arange(len(frames)), ends) if len(frames) else ():
            placed = lefts[run].tolist(), tops[run].tolist()
            for box, members in shared_windows(*placed, self.size_px, 4 * self._n_bands):
                chosen = run[members]
                try:
                    pixels = self._window(box, frames[chosen], read_box)
                except (RasterioError, OSError, ValueError):
                    done[chosen] = False
                    continue
                corners = zip(placed[0][members], placed[1][members], strict=True)
                for row, (x, y) in zip(rows[chosen].tolist(), corners, strict=True):
                    x, y = x - box[0], y - box[1]
                    out[row] = pixels[:, y : y + height, x : x + width]
        return done

    @property
    def is_covered(self) -> bool:
        """Whether layers cover every frame with pixels of their own."""
        if (self.mosaic < 0).any():
            return False
        height, width = self.size_px
        for frame in np.flatnonzero(~self.has_more).tolist():
            left, top = int(self.left[frame]), int(self.top[frame])
            box = (left, top, left + width, top + height)
            tiles = self.mosaics[self.mosaic[frame]].tiles
            seen = np.zeros(self.size_px, dtype=bool)
            for turn in self._parts[frame]:
                part = clipped(box, tiles[turn].box())
                if part is not None:
                    _inside(seen[None], box, part)[:] = True
            if not seen.all():
                return False
        return True

    def _window(self, box: Box, frames: Ints, read_box: ReadBox) -> NDArray[Any]:
        """Return the pixels of a mosaic in a box, shape (n_bands, height, width).

        Stored numbers where they are the values, else float32 with NaN where missing.
        """
        tiles = self.mosaics[self.mosaic[frames[0]]].tiles
        if len(tiles) > 1:
            wanted = {turn for frame in frames.tolist() for turn in self._parts[frame]}
            tiles = {turn: tile for turn, tile in tiles.items() if turn in wanted}
        parts = []
        for tile in tiles.values():
            part = clipped(box, tile.box())
            if part is not None:
                parts.append((tile, part, tile.read(read_box, part)))
        return _together(box, parts)

    def _join(self, affines: NDArray[np.float64], crs: Sequence[str]) -> None:
        """Find the mosaic of every frame that keeps the pixels of all layers that it needs."""
        by_turn: dict[Turn, list[int]] = {}
        for frame, parts in enumerate(self._parts):
            for turn in parts:
                by_turn.setdefault(turn, []).append(frame)
        ranks = sorted(range(len(self._layers)), key=lambda k: layer_order(self._layers[k]))
        rank = {k: place for place, k in enumerate(ranks)}
        whole = [n for n, pairs in enumerate(self._pairs) if len(pairs) == self._n_bands]
        usable = {k for k in whole if self._layers[k].grid is not None}
        found: dict[Turn, tuple[Ints, Ints, Ints]] = {}
        lattices: dict[Any, list[int]] = {}
        homes: dict[Turn, int] = {}
        for turn in sorted(by_turn, key=lambda turn: (rank[turn[0]], turn[1])):
            if turn[0] not in usable:
                continue
            frames = np.array(by_turn[turn])
            layer = turned(self._layers[turn[0]], turn[1])
            own = endless_grid(layer.grid)
            if own.affine.b or own.affine.d:
                continue  # rotated pixels are always resampled
            texts = [crs[frame] for frame in by_turn[turn]]
            lefts, tops, fits = whole_offsets(own, affines[frames], texts, self.size_px)
            found[turn] = (frames, np.where(fits, lefts, 0), np.where(fits, tops, 0))
            found[turn] = tuple(part[fits] for part in found[turn])  # type: ignore[assignment]
            homes[turn] = self._home(turn, layer, own, lattices)
        self._settle(found, homes)

    def _home(self, turn: Turn, layer: Layer, own: Any, lattices: dict[Any, list[int]]) -> int:
        """Return the number of the mosaic to which a layer belongs, a new one if there is none."""
        affine = own.affine
        positions = tuple(k for _, k in sorted(self._pairs[turn[0]]))
        known: list[int] = []
        if layer.site is None:
            phases = (round(affine.c / affine.a, 2) % 1, round(affine.f / affine.e, 2) % 1)
            key = (layer.date, str(own.crs), f"{affine.a:.9g} {affine.e:.9g}", phases)
            known = lattices.setdefault(key, [])
        for number in known:
            place = whole_offset(self.mosaics[number].origin, own)
            if place is not None:
                self.mosaics[number].tiles[turn] = Tile(layer, positions, *place)
                return number
        known.append(len(self.mosaics))
        self.mosaics.append(Mosaic(own, {turn: Tile(layer, positions, 0, 0)}))
        return known[-1]

    def _settle(
        self, found: Mapping[Turn, tuple[Ints, Ints, Ints]], homes: Mapping[Turn, int]
    ) -> None:
        height, width = self.size_px
        n_parts = np.array([len(parts) for parts in self._parts], dtype=np.int64)
        n_seen = np.zeros(len(n_parts), dtype=np.int64)
        n_covered = np.zeros(len(n_parts), dtype=np.int64)
        agreed = np.ones(len(n_parts), dtype=bool)
        alone: dict[Turn, int] = {}
        for turn, (frames, lefts, tops) in found.items():
            number = homes[turn]
            tile = self.mosaics[number].tiles[turn]
            own = endless_grid(tile.layer.grid).shape
            covered = (lefts >= 0) & (tops >= 0)
            covered &= (lefts + width <= own[1]) & (tops + height <= own[0])
            lefts, tops = lefts + tile.left, tops + tile.top
            is_new = self.mosaic[frames] < 0
            fresh = frames[is_new]
            self.mosaic[fresh] = number
            self.left[fresh], self.top[fresh] = lefts[is_new], tops[is_new]
            agreed[frames] &= (
                (self.mosaic[frames] == number)
                & (self.left[frames] == lefts)
                & (self.top[frames] == tops)
            )
            n_seen[frames] += 1
            n_covered[frames] += covered
            # the first layer has all of the chip: the others only fill its gaps
            first = np.array([self._parts[f][0] == turn for f in frames.tolist()], dtype=bool)
            enough = covered & first & (n_parts[frames] > 1)
            if enough.any():
                alone[turn] = len(self.mosaics)
                self.mosaics.append(Mosaic(tile.layer.grid, {turn: replace(tile, left=0, top=0)}))
                chosen = frames[enough]
                self.has_more[chosen] = True
                self.mosaic[chosen] = alone[turn]
                self.left[chosen] = lefts[enough] - tile.left
                self.top[chosen] = tops[enough] - tile.top
        complete = agreed & (n_seen == n_parts) & ((n_covered == 0) | (n_parts == 1))
        self.mosaic[~(complete | self.has_more)] = -1

    def _places(self, affines: NDArray[np.float64]) -> Ints:
        first = np.array([min(parts)[0] for parts in self._parts], dtype=np.int64)
        joined = self.mosaic >= 0
        steps = np.abs(affines[:, [0, 4]])
        columns = (affines[:, 2] / steps[:, 0]).astype(np.int64)
        rows = (-affines[:, 5] / steps[:, 1]).astype(np.int64)
        rows[joined], columns[joined] = self.top[joined], self.left[joined]
        # first what is cut from mosaics
        source = np.where(joined, self.mosaic, len(self.mosaics) + first)
        return np.stack([source, rows // _ROWS_TOGETHER, columns])


def _together(box: Box, parts: Sequence[tuple[Tile, Box, NDArray[Any]]]) -> NDArray[Any]:
    """Return the pixels of a box that parts make up, the first valid one of each.

    Stored numbers where all of them are the values, else float32 with NaN where missing.
    """
    left, top, right, bottom = box
    boxes = [part for _, part, _ in parts]
    are_apart = not any(clipped(a, b) for k, a in enumerate(boxes) for b in boxes[:k])
    is_full = are_apart and sum(map(_area, boxes)) == _area(box)
    as_stored = is_full and len({stored.dtype for _, _, stored in parts}) == 1
    if as_stored and all(holds_values(s, tile.layer, tile.positions) for tile, _, s in parts):
        if len(parts) == 1:
            return parts[0][2]
        pixels = np.empty((len(parts[0][2]), bottom - top, right - left), parts[0][2].dtype)
        for _, part, stored in parts:
            _inside(pixels, box, part)[:] = stored
        return pixels
    if is_full and len(parts) == 1:
        tile, _, stored = parts[0]
        return decode(stored, tile.layer, tile.positions)
    n_bands = len(parts[0][0].positions) if parts else 1
    pixels = np.full((n_bands, bottom - top, right - left), np.nan, dtype=np.float32)
    for tile, part, stored in parts:
        values, target = decode(stored, tile.layer, tile.positions), _inside(pixels, box, part)
        if are_apart:
            target[:] = values
        else:
            np.copyto(target, values, where=np.isnan(target))
    return pixels


def _inside(pixels: NDArray[Any], box: Box, part: Box) -> NDArray[Any]:
    """Return the view of a part of the pixels (n_bands, height, width) of a box."""
    left, top = box[:2]
    return pixels[:, part[1] - top : part[3] - top, part[0] - left : part[2] - left]


def _area(box: Box) -> int:
    return (box[2] - box[0]) * (box[3] - box[1])


def shared_windows(
    lefts: Sequence[int], tops: Sequence[int], size_px: tuple[int, int], itemsize: int
) -> Iterator[tuple[Box, slice]]:
    """Yield windows that cover neighbouring chips, and which chips lie in each.

    Parameters
    ----------
    lefts, tops : sequence of int
        First column and row of each chip; chips that lie near each other stand side by side.
    size_px : (int, int)
        Height and width of a chip.
    itemsize : int
        Bytes of a pixel with all its bands.

    Examples
    --------
    >>> list(shared_windows([0, 10, 2000], [0, 5, 0], (64, 64), 4))
    [((0, 0, 74, 69), slice(0, 2, None)), ((2000, 0, 2064, 64), slice(2, 3, None))]
    """
    height, width = size_px
    area, limit = height * width, _WINDOW_BYTES // itemsize
    start = 0
    west, north, east, south = 0, 0, 0, 0
    for place, (left, top) in enumerate(zip(lefts, tops, strict=True)):
        right, bottom = left + width, top + height
        if place > start:
            x0, y0 = min(west, left), min(north, top)
            x1, y1 = max(east, right), max(south, bottom)
            total = (x1 - x0) * (y1 - y0)
            if total <= _SPARSE * area * (place - start + 1) and total <= limit:
                west, north, east, south = x0, y0, x1, y1
                continue
            yield (west, north, east, south), slice(start, place)
        start, west, north, east, south = place, left, top, right, bottom
    if lefts:
        yield (west, north, east, south), slice(start, len(lefts))
