"""Chips read from the layers of a source when they are asked for, joined date by date."""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.errors import RasterioError

from terracausal._foundation.errors import ChipReadError, list_some
from terracausal.imagery.bands import BandPairs
from terracausal.imagery.options import Reading, is_remote
from terracausal.imagery.plan import SitePlan, Turn, turned
from terracausal.imagery.readers import fill_row
from terracausal.imagery.records import ChipRecord, inspect_chip
from terracausal.imagery.sources.base import BatchSource, ImagerySource, Layer
from terracausal.imagery.sources.windows import covers
from terracausal.imagery.workers import run_tasks, split_evenly

_CHIPS_TOGETHER = 256
_LIGHT_VALUES = 100_000  # in all bands and times of a chip
_BYTES_TOGETHER = 2**25  # of the chips that one worker holds
_ROWS_TOGETHER = 256
Frame = NDArray[np.float32]
Ahead = dict[tuple[Hashable, int, Turn], Frame]
"""What was read of a layer for a site and time before it is put together."""


@dataclass(frozen=True, slots=True)
class Scan:
    """What a look at the pixels of one site found."""

    site: Hashable
    records: tuple[ChipRecord, ...]
    problems: tuple[ChipReadError, ...] = ()


class SourceReader:
    """Reads chips of sites from a source.

    Parameters
    ----------
    source : ImagerySource
        Gives the pixels.
    layers : sequence of Layer
        Of the source, to which the plans refer.
    pairs : sequence of BandPairs
        What each layer gives to the bands of the chips.
    bands : tuple of str
        Names of the bands of the chips.
    plans : mapping of site to SitePlan
        Grid and layers of every site that has a chip.
    reading : Reading
        Options.
    """

    def __init__(
        self,
        source: ImagerySource,
        layers: Sequence[Layer],
        pairs: Sequence[BandPairs],
        bands: tuple[str, ...],
        plans: Mapping[Hashable, SitePlan],
        reading: Reading,
    ) -> None:
        self._source = source
        self._layers = layers
        self._pairs = pairs
        self._bands = bands
        self._plans = plans
        self._reading = reading
        self._methods = tuple(reading.method(band) for band in bands)
        self._marked: frozenset[tuple[Hashable, int]] = frozenset()

    @property
    def plans(self) -> Mapping[Hashable, SitePlan]:
        """Grid and layers of every site that has a chip."""
        return self._plans

    @property
    def layers(self) -> Sequence[Layer]:
        """Layers to which the plans refer."""
        return self._layers

    @property
    def reading(self) -> Reading:
        """Options."""
        return self._reading

    def read(self, site: Hashable) -> Frame:
        """Return a new array of shape (n_times, n_bands, height, width)."""
        return self._chip(site, {})

    def _chip(self, site: Hashable, ahead: Ahead) -> Frame:
        plan = self._plans[site]
        if len(plan.dates) == 1 and (site, 0) not in self._marked:
            return self._frame(plan, 0, ahead)[None]
        frames = np.empty((len(plan.dates), len(self._bands), *plan.grid.shape), dtype=np.float32)
        for time in range(len(plan.dates)):
            if (site, time) in self._marked:
                frames[time] = np.nan
            else:
                frames[time] = self._frame(plan, time, ahead)
        return frames

    def read_many(self, sites: Sequence[Hashable]) -> list[Frame]:
        """Return the chips of sites, read by several workers, neighbours together."""
        chips: list[Any] = [None] * len(sites)
        for row, chip in self._read_rows(sites):
            chips[row] = chip
        return chips

    def read_into(self, sites: Sequence[Hashable], pixels: Frame) -> None:
        """Write the chips of sites into an array (n_sites, n_times, n_bands, height, width).

        Rows of sites with fewer times are filled up with NaN.
        """
        for _ in self._read_rows(sites, pixels):
            pass

    def _read_rows(
        self, sites: Sequence[Hashable], pixels: Frame | None = None
    ) -> Iterator[tuple[int, Frame]]:
        """Yield the row of each site and its chip; with `pixels` workers write there instead."""
        reading = self._reading
        order = sorted(range(len(sites)), key=lambda row: self._place(sites[row]))
        runs = split_evenly(order, self._threads if reading.client is None else 16)
        if reading.client is None and pixels is not None:

            def write(run: Sequence[int]) -> None:
                chips = self.read_run([sites[row] for row in run])
                for row, chip in zip(run, chips, strict=True):
                    fill_row(pixels[row], chip)

            for _ in run_tasks(write, runs, n_jobs=min(len(runs), self._threads)):
                pass
            return
        tasks = (self._task([sites[row] for row in run]) for run in runs)
        results = run_tasks(
            _read_sites, tasks, n_jobs=min(len(runs), self._threads), client=reading.client
        )
        for run, chips in zip(runs, results, strict=True):
            for row, chip in zip(run, chips, strict=True):
                if pixels is not None:
                    fill_row(pixels[row], chip)
                yield row, chip

    def scan(self, sites: Sequence[Hashable]) -> "list[Scan]":
        """Look at the pixels of sites once, in the order in which they lie on the files."""
        reading = self._reading
        ordered = sorted(sites, key=self._place)
        n_runs = max(self._threads, -(-len(ordered) // self._n_together))
        tasks = (self._task(run) for run in split_evenly(ordered, n_runs))
        results = run_tasks(_scan_sites, tasks, n_jobs=self._threads, client=reading.client)
        return [scan for scans in results for scan in scans]

    @property
    def _threads(self) -> int:
        """Number of threads: as asked for, else one where chips are light.

        Cutting a small chip out of blocks that are decoded already is mostly Python, and threads
        would only wait for each other (benchmarks/read_chips.py).
        """
        plan = next(iter(self._plans.values()), None)
        if self._reading.n_jobs is not None or plan is None:
            return self._reading.threads
        height, width = plan.grid.shape
        is_light = len(plan.dates) * len(self._bands) * height * width < _LIGHT_VALUES
        layers = [self._layers[turn[0]] for parts in plan.parts for turn in parts]
        if is_light and all(_keeps_pixels(layer, plan.grid) for layer in layers):
            return 1
        return self._reading.threads

    @property
    def _n_together(self) -> int:
        """Number of chips that a worker may hold at once."""
        plan = next(iter(self._plans.values()), None)
        if plan is None:
            return 1
        height, width = plan.grid.shape
        chip_bytes = 4 * len(plan.dates) * len(self._bands) * height * width
        return int(min(_CHIPS_TOGETHER, max(1, _BYTES_TOGETHER // max(1, chip_bytes))))

    def read_run(self, sites: Sequence[Hashable]) -> Iterator[Frame]:
        """Yield the chips of sites that lie near each other, a few in memory at a time."""
        for start in range(0, len(sites), self._n_together):
            part = sites[start : start + self._n_together]
            ahead = self._ahead(part)
            for site in part:
                yield self._chip(site, ahead)

    def scan_run(self, sites: Sequence[Hashable]) -> Iterator[Scan]:
        """Yield what is found for sites that lie near each other."""
        for start in range(0, len(sites), self._n_together):
            part = sites[start : start + self._n_together]
            ahead = self._ahead(part)
            for site in part:
                yield self._scan_site(site, ahead)

    def _ahead(self, sites: Sequence[Hashable]) -> Ahead:
        """Return what a layer gives to several sites, read in one go."""
        source = self._source
        return self._read_ahead(source, sites) if isinstance(source, BatchSource) else {}

    def _read_ahead(self, source: BatchSource, sites: Sequence[Hashable]) -> Ahead:
        if len(set(self._methods)) > 1 or len(sites) < 2:
            return {}
        wanted: dict[Turn, list[tuple[Hashable, int, Turn]]] = {}
        for site in sites:
            plan = self._plans[site]
            for time, parts in enumerate(plan.parts):
                for turn in parts if (site, time) not in self._marked else ():
                    wanted.setdefault(turn, []).append((site, time, turn))
                    own = turned(self._layers[turn[0]], turn[1]).grid
                    if len(parts) == 1 or own is None or covers(own, plan.grid):
                        break  # those behind are needed only where this one has gaps
        found: Ahead = {}
        for turn, keys in wanted.items():
            if len(keys) > 1:
                layer = turned(self._layers[turn[0]], turn[1])
                positions = tuple(k for _, k in sorted(self._pairs[turn[0]]))
                grids = [self._plans[site].grid for site, _, _ in keys]
                try:
                    chips = source.read_many(layer, grids, positions, self._methods[0])
                except (RasterioError, OSError, ValueError):
                    continue  # one by one, the error will name its site
                found.update(zip(keys, chips, strict=True))
        return found

    def _scan_site(self, site: Hashable, ahead: Ahead) -> Scan:
        plan = self._plans[site]
        records: list[ChipRecord] = []
        problems: list[ChipReadError] = []
        for time, date in enumerate(plan.dates):
            uris = tuple(dict.fromkeys(self._layers[k].uri for k, _ in plan.parts[time]))
            facts: dict[str, Any] = {
                "source": "; ".join(uris),
                "offset_m": plan.offset_m,
                "grid": str(plan.grid.crs),
                "cloud_share": self._cloud_share(plan, time),
            }
            try:
                frame = self._frame(plan, time, ahead)
                records += inspect_chip(site, frame[None], [date], **facts)
            except ChipReadError as error:
                records.append(ChipRecord(site, date, "unreadable", float("nan"), **facts))
                if not all(self._reading.marks(uri) for uri in uris):
                    problems.append(error)
        return Scan(site, tuple(records), tuple(problems))

    def without_unreadable(self, scans: Sequence[Scan]) -> "SourceReader":
        """Return a reader that gives NaN for what was found unreadable, and does not try again."""
        marked = frozenset(
            (scan.site, time)
            for scan in scans
            for time, record in enumerate(scan.records)
            if record.status == "unreadable"
        )
        if not marked:
            return self
        other = self.only(list(self._plans))
        other._marked = marked
        return other

    def only(self, sites: Sequence[Hashable]) -> "SourceReader":
        """Return a reader of some sites and of the layers that these need."""
        return self._restricted(sites, self._reading)

    def _task(self, sites: Sequence[Hashable]) -> "tuple[SourceReader, Sequence[Hashable]]":
        reading = self._reading
        if reading.client is None:
            return self, sites
        # a worker of a cluster works by itself
        alone = Reading(reading.resampling, unreadable=reading.unreadable, n_jobs=1)
        return self._restricted(sites, alone), sites

    def _restricted(self, sites: Sequence[Hashable], reading: Reading) -> "SourceReader":
        """Return a small reader, such as travels to a worker of a cluster."""
        used = sorted({k for s in sites for part in self._plans[s].parts for k, _ in part})
        place = {k: new for new, k in enumerate(used)}
        plans = {
            site: replace(
                self._plans[site],
                parts=tuple(
                    tuple((place[k], turn) for k, turn in part) for part in self._plans[site].parts
                ),
            )
            for site in sites
        }
        reader = SourceReader(
            self._source,
            [self._layers[k] for k in used],
            [self._pairs[k] for k in used],
            self._bands,
            plans,
            reading,
        )
        reader._marked = frozenset(mark for mark in self._marked if mark[0] in plans)
        return reader

    def _cloud_share(self, plan: SitePlan, time: int) -> float:
        """Return the mean of what the metadata of the layers of a date say."""
        shares = [self._layers[k].cloud_share for k, _ in plan.parts[time]]
        known = [share for share in shares if not np.isnan(share)]
        return float(np.mean(known)) if known else float("nan")

    def _place(self, site: Hashable) -> tuple[int, int, int]:
        """Return where a site lies on its first layer, so that neighbours share blocks."""
        plan = self._plans[site]
        k = min(part[0][0] for part in plan.parts)
        layer, affine = self._layers[k], plan.grid.affine
        if layer.grid is None:
            return k, 0, 0
        # bands of rows that share most blocks, from west to east
        return k, int(-affine.f / abs(affine.e) // _ROWS_TOGETHER), int(affine.c / abs(affine.a))

    def _frame(self, plan: SitePlan, time: int, ahead: Ahead) -> Frame:
        """Return the pixels of one date, (n_bands, height, width): the first valid pixel wins."""
        parts = plan.parts[time]
        if len(parts) == 1 and len(self._pairs[parts[0][0]]) == len(self._bands):
            return self._layer_pixels(plan, time, parts[0], ahead)[1]
        frame = np.full((len(self._bands), *plan.grid.shape), np.nan, dtype=np.float32)
        for turn in parts:
            targets, pixels = self._layer_pixels(plan, time, turn, ahead)
            if len(targets) == len(frame):
                np.copyto(frame, pixels, where=np.isnan(frame))
            else:
                for target, band in zip(targets, pixels, strict=True):
                    np.copyto(frame[target], band, where=np.isnan(frame[target]))
            if turn != parts[-1] and not np.isnan(frame).any():
                break
        return frame

    def _layer_pixels(
        self, plan: SitePlan, time: int, turn: Turn, ahead: Ahead
    ) -> tuple[tuple[int, ...], Frame]:
        """Return the bands of the chip that one layer gives, sorted, and their pixels."""
        pairs = sorted(self._pairs[turn[0]])
        targets = tuple(target for target, _ in pairs)
        known = ahead.pop((plan.site, time, turn), None)
        if known is not None:
            return targets, known
        layer = turned(self._layers[turn[0]], turn[1])
        try:
            return targets, self._read_pairs(layer, plan.grid, pairs)
        except ChipReadError:
            raise
        except (RasterioError, OSError, ValueError) as error:
            when = "" if layer.date is None else f", {layer.date:%Y-%m-%d}"
            reason = str(error.__cause__ or error).strip().rstrip(".")
            raise ChipReadError(
                f"Site {list_some([plan.site])}{when}: {layer.uri} could not be read ({reason}). "
                "Replace the file, or leave the site out."
            ) from error

    def _read_pairs(self, layer: Layer, grid: Any, pairs: Sequence[tuple[int, int]]) -> Frame:
        methods = [self._methods[target] for target, _ in pairs]
        if len(set(methods)) == 1:
            return self._source.read(layer, grid, tuple(k for _, k in pairs), methods[0])
        pixels = np.empty((len(pairs), *grid.shape), dtype=np.float32)
        for method in sorted(set(methods)):
            rows = [row for row, other in enumerate(methods) if other == method]
            positions = tuple(pairs[row][1] for row in rows)
            pixels[rows] = self._source.read(layer, grid, positions, method)
        return pixels


def _read_sites(task: tuple[SourceReader, Sequence[Hashable]]) -> list[Frame]:
    reader, sites = task
    return list(reader.read_run(sites))


def _scan_sites(task: tuple[SourceReader, Sequence[Hashable]]) -> list[Scan]:
    reader, sites = task
    return list(reader.scan_run(sites))


def _keeps_pixels(layer: Layer, grid: Any) -> bool:
    """Return whether a layer is a local file whose pixels a grid takes as they are."""
    own = layer.grid
    if own is None or is_remote(layer.uri):
        return False
    return bool(own.crs == grid.crs and np.isclose(own.resolution.x, grid.resolution.x))
