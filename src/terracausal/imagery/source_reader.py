"""Chips read from the layers of a source when they are asked for, joined date by date."""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from rasterio.errors import RasterioError

from terracausal._foundation.errors import ChipReadError, list_some
from terracausal._foundation.progress import track
from terracausal.imagery.bands import BandPairs
from terracausal.imagery.mosaics import Frame, Ints, NativeFrames
from terracausal.imagery.options import Reading, is_remote
from terracausal.imagery.plan import SitePlan, Turn, turned
from terracausal.imagery.quiet import gdal_env
from terracausal.imagery.readers import fill_row
from terracausal.imagery.records import PLANNED, ChipRecord, looked_at
from terracausal.imagery.sources.base import BoxSource, ImagerySource, Layer
from terracausal.imagery.sources.raster_files import raise_all
from terracausal.imagery.workers import run_tasks, split_evenly

_CHIPS_TOGETHER = 256
_LIGHT_VALUES = 100_000  # in all bands and times of a chip
_BYTES_TOGETHER = 2**25  # of the chips that one worker holds


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
        self._found: NativeFrames | None = None

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

    @property
    def _native(self) -> NativeFrames:
        """Where frames lie on mosaics; found when it is first needed."""
        if self._found is None:
            self._found = NativeFrames(self._plans, self._layers, self._pairs, len(self._bands))
        return self._found

    def read(self, site: Hashable) -> Frame:
        """Return a new array of shape (n_times, n_bands, height, width)."""
        plan = self._plans[site]
        frames = np.empty((len(plan.dates), len(self._bands), *plan.grid.shape), dtype=np.float32)
        for time in range(len(frames)):
            frames[time] = np.nan if (site, time) in self._marked else self._frame(plan, time)
        return frames

    def read_many(self, sites: Sequence[Hashable]) -> list[Frame]:
        """Return the chips of sites, read by several workers, neighbours together."""
        if self._reading.client is None:
            frames, counts = self._frames_of(sites)
            block = self._empty(len(frames))
            self._fill(frames, np.arange(len(frames)), block)
            return _split(block, counts)
        order = self._order(sites)
        tasks = (self._task([sites[row] for row in run]) for run in split_evenly(order, 16))
        results = run_tasks(_read_sites, tasks, n_jobs=self._threads, client=self._reading.client)
        found = dict(zip(order, (chip for chips in results for chip in chips), strict=True))
        return [found[row] for row in range(len(sites))]

    def read_into(self, sites: Sequence[Hashable], pixels: Frame) -> None:
        """Write the chips of sites into an array (n_sites, n_times, n_bands, height, width).

        Rows of sites with fewer times are filled up with NaN.
        """
        if self._reading.client is not None or not pixels.flags.c_contiguous:
            for row, chip in enumerate(self.read_many(sites)):
                fill_row(pixels[row], chip)
            return
        frames, counts = self._frames_of(sites)
        n_times = pixels.shape[1]
        for row in np.flatnonzero(counts < n_times).tolist():
            pixels[row, counts[row] :] = np.nan
        # the frames of a site stand together, at the beginning of its row
        before = np.repeat(np.cumsum(counts) - counts, counts)
        rows = np.arange(len(frames)) - before + n_times * np.repeat(np.arange(len(sites)), counts)
        self._fill(frames, rows, pixels.reshape(-1, *pixels.shape[2:]))

    def scan(self, sites: Sequence[Hashable]) -> "Iterator[Scan]":
        """Look at the pixels of sites once, in the order in which they lie on the files."""
        ordered = [sites[row] for row in self._order(sites)]
        n_runs = max(self._threads, -(-len(ordered) // self._n_together))
        tasks = (self._task(run) for run in split_evenly(ordered, n_runs))
        results = run_tasks(_scan_sites, tasks, n_jobs=self._threads, client=self._reading.client)
        for scans in results:
            yield from scans

    def checked_scan(self, sites: Sequence[Hashable]) -> list[Scan]:
        """Look at the pixels of sites once, and raise all problems together.

        Raises
        ------
        ChipReadError
            If something cannot be read that is not to be marked.
        """
        scans = list(track(self.scan(sites), "looking at chips", total=len(sites)))
        by_site = {scan.site: scan for scan in scans}
        raise_all([p for site in sites for p in by_site[site].problems], len(sites))
        return scans

    @property
    def may_mark(self) -> bool:
        """Whether a layer that cannot be read is marked rather than raised, for any of them."""
        used = {k for plan in self._plans.values() for part in plan.parts for k, _ in part}
        return any(self._reading.marks(self._layers[k].uri) for k in used)

    @property
    def is_complete(self) -> bool:
        """Whether no pixel of any chip can be missing, by what is known without looking."""
        if self._marked or self.may_mark or not self._native.is_covered:
            return False
        used = {k for plan in self._plans.values() for part in plan.parts for k, _ in part}
        return not any(self._layers[k].may_miss for k in used)

    def read_run(
        self, sites: Sequence[Hashable]
    ) -> Iterator[tuple[Frame, dict[int, ChipReadError]]]:
        """Yield chips of sites that lie near each other, and what went wrong with their times.

        A few are held in memory at a time. Pixels of times that went wrong are NaN.
        """
        for start in range(0, len(sites), self._n_together):
            part = sites[start : start + self._n_together]
            frames, counts = self._frames_of(part)
            block = self._empty(len(frames))
            order = self._native.in_order(frames)
            failed = self._fill_run(frames[order], order, block)
            place = 0
            for chip in _split(block, counts):
                times = range(len(chip))
                yield chip, {t: failed[place + t] for t in times if place + t in failed}
                place += len(chip)

    def _frames_of(self, sites: Sequence[Hashable]) -> tuple[Ints, Ints]:
        """Return the frames of sites one after the other, and how many each site has."""
        native = self._native
        counts = np.array([len(self._plans[site].dates) for site in sites], dtype=np.int64)
        first = np.array([native.first[site] for site in sites], dtype=np.int64)
        before = np.repeat(np.cumsum(counts) - counts, counts)
        return np.repeat(first, counts) + np.arange(len(before)) - before, counts

    def _order(self, sites: Sequence[Hashable]) -> list[int]:
        """Return the positions of sites in the order in which they lie on the files."""
        native = self._native
        first = np.array([native.first[site] for site in sites], dtype=np.int64)
        return [int(row) for row in native.in_order(first)]

    def _empty(self, n_frames: int) -> Frame:
        return np.empty((n_frames, len(self._bands), *self._native.size_px), dtype=np.float32)

    def _fill(self, frames: Ints, rows: Ints, out: Frame) -> None:
        """Write frames into rows of an array (n_rows, n_bands, height, width), by all threads."""
        order = self._native.in_order(frames)

        def fill(run: Ints) -> None:
            for error in self._fill_run(frames[run], rows[run], out, patient=False).values():
                raise error

        n_jobs = max(1, min(self._threads, len(order)))
        for _ in run_tasks(fill, np.array_split(order, n_jobs), n_jobs=n_jobs):
            pass

    def _fill_run(
        self, frames: Ints, rows: Ints, out: Frame, *, patient: bool = True
    ) -> dict[int, ChipReadError]:
        """Write frames that lie near each other, and return the error of each row that failed.

        Unless `patient`, the first error is the last.
        """
        native, known = self._native, np.zeros(len(frames), dtype=bool)
        if self._marked:
            known[:] = [native.owners[frame] in self._marked for frame in frames.tolist()]
            out[rows[known]] = np.nan
        if isinstance(self._source, BoxSource):
            joined = np.flatnonzero(~known & (native.mosaic[frames] >= 0))
            # entering it anew for every window costs as much as a window
            with gdal_env():
                known[joined] = native.cut(frames[joined], rows[joined], out, self._source.read_box)
        problems: dict[int, ChipReadError] = {}
        for place in np.flatnonzero(~known | native.has_more[frames]).tolist():
            site, time = native.owners[frames[place]]
            target = out[rows[place]]
            if known[place] and not np.isnan(target).any():
                continue
            if (site, time) in self._marked:
                continue
            first = target.copy() if known[place] else None
            try:
                target[:] = self._frame(self._plans[site], time, first)
            except ChipReadError as error:
                target[:] = np.nan
                problems[int(rows[place])] = error
                if not patient:
                    break
        return problems

    @property
    def _threads(self) -> int:
        """Number of threads: as asked for, else at most two where chips are light.

        Two threads decode blocks 1.4 times as fast as one; cutting small chips out of blocks that
        are decoded already is mostly Python, and more threads would wait for each other
        (benchmarks/read_chips.py).
        """
        plan = next(iter(self._plans.values()), None)
        if self._reading.n_jobs is not None or plan is None:
            return self._reading.threads
        height, width = plan.grid.shape
        is_light = len(plan.dates) * len(self._bands) * height * width < _LIGHT_VALUES
        layers = [self._layers[turn[0]] for parts in plan.parts for turn in parts]
        if is_light and all(_keeps_pixels(layer, plan.grid) for layer in layers):
            return min(2, self._reading.threads)
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

    def scan_run(self, sites: Sequence[Hashable]) -> Iterator[Scan]:
        """Yield what is found for sites that lie near each other."""
        for site, (chip, failed) in zip(sites, self.read_run(sites), strict=True):
            yield self.look(site, chip, failed)

    def look(self, site: Hashable, chip: Frame, failed: Mapping[int, ChipReadError]) -> Scan:
        """Return what is found in the pixels of a site.

        Parameters
        ----------
        site : site key
            With a plan.
        chip : ndarray of shape (n_times, n_bands, height, width)
            As `read_run` yields it.
        failed : mapping of int to ChipReadError
            Errors by time.
        """
        records: list[ChipRecord] = []
        problems: list[ChipReadError] = []
        for time, planned in enumerate(self.planned(site)):
            if time in failed:
                records.append(replace(planned, status="unreadable"))
                uris = {self._layers[k].uri for k, _ in self._plans[site].parts[time]}
                if not all(self._reading.marks(uri) for uri in uris):
                    problems.append(failed[time])
            else:
                records.append(looked_at(planned, chip[time]))
        return Scan(site, tuple(records), tuple(problems))

    def planned(self, site: Hashable) -> list[ChipRecord]:
        """Return what is known of each time of a site before its pixels are read."""
        plan = self._plans[site]
        return [
            ChipRecord(
                site,
                date,
                PLANNED,
                float("nan"),
                "; ".join(dict.fromkeys(self._layers[k].uri for k, _ in plan.parts[time])),
                plan.offset_m,
                grid=str(plan.grid.crs),
                cloud_share=self._cloud_share(plan, time),
            )
            for time, date in enumerate(plan.dates)
        ]

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

    def _frame(self, plan: SitePlan, time: int, first: Frame | None = None) -> Frame:
        """Return the pixels of one date, (n_bands, height, width): the first valid pixel wins.

        `first` is what the first layer gives, where this is known.
        """
        parts = plan.parts[time]
        if len(parts) == 1 and len(self._pairs[parts[0][0]]) == len(self._bands):
            return self._layer_pixels(plan, time, parts[0])[1]
        frame = first
        if frame is None:
            frame = np.full((len(self._bands), *plan.grid.shape), np.nan, dtype=np.float32)
        for turn in parts if first is None else parts[1:]:
            targets, pixels = self._layer_pixels(plan, time, turn)
            if len(targets) == len(frame):
                np.copyto(frame, pixels, where=np.isnan(frame))
            else:
                for target, band in zip(targets, pixels, strict=True):
                    np.copyto(frame[target], band, where=np.isnan(frame[target]))
            if turn != parts[-1] and not np.isnan(frame).any():
                break
        return frame

    def _layer_pixels(self, plan: SitePlan, time: int, turn: Turn) -> tuple[tuple[int, ...], Frame]:
        """Return the bands of the chip that one layer gives, sorted, and their pixels."""
        pairs = sorted(self._pairs[turn[0]])
        targets = tuple(target for target, _ in pairs)
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
    chips = []
    for chip, failed in reader.read_run(sites):
        for error in failed.values():
            raise error
        chips.append(chip)
    return chips


def _split(block: Frame, counts: Ints) -> list[Frame]:
    """Return the chips of a block of frames."""
    stops = np.cumsum(counts).tolist()
    return [block[stop - n : stop] for stop, n in zip(stops, counts.tolist(), strict=True)]


def _scan_sites(task: tuple[SourceReader, Sequence[Hashable]]) -> list[Scan]:
    reader, sites = task
    return list(reader.scan_run(sites))


def _keeps_pixels(layer: Layer, grid: Any) -> bool:
    """Return whether a layer is a local file whose pixels a grid takes as they are."""
    own = layer.grid
    if own is None or is_remote(layer.uri):
        return False
    return bool(own.crs == grid.crs and np.isclose(own.resolution.x, grid.resolution.x))
