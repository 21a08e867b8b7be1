"""Writing, resuming and opening a store of 100,000 chips that are made while they are read.

Run: python benchmarks/store.py [--sites 100000] [--workers 2] [--folder /tmp]

Prints seconds, chips per second, peak resident memory, size on disk, and the milliseconds of
opening the store in a fresh process. The pixels are integers that vary smoothly, with noise, like
surface reflectance; nothing is kept in memory but the records.
"""

import argparse
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

from terracausal.imagery import Chips
from terracausal.imagery.encoding import Encoding
from terracausal.imagery.places import site_table
from terracausal.imagery.records import ChipRecord
from terracausal.imagery.store import write_chips

N_BANDS, SIZE_PX = 6, 64
OPEN = """
import sys, time
from terracausal.imagery.stored_chips import open_chips
for _ in range(3):
    started = time.perf_counter(); chips = open_chips(sys.argv[1])
    opened = time.perf_counter(); chips[chips.keys[len(chips) // 2]]
    read = time.perf_counter()
    print(f"open {1000 * (opened - started):6.1f} ms, first chip {1000 * (read - opened):6.1f} ms")
started = time.perf_counter(); rows = len(chips.manifest)
print(f"manifest of {rows:,} rows {time.perf_counter() - started:.2f} s")
some = chips.keys[:: max(1, len(chips) // 2000)]
started = time.perf_counter()
for site in some:
    chips[site]
print(f"{len(some) / (time.perf_counter() - started):,.0f} chips a second, one after the other")
started, n_read = time.perf_counter(), 0
for keys, _ in chips.select(chips.keys[:4096]).batches(64):
    n_read += len(keys)
print(f"{n_read / (time.perf_counter() - started):,.0f} chips a second in batches of 64")
"""


class MadeChips:
    """A reader that makes the chip of a site out of its number."""

    def __init__(self, dtype: str) -> None:
        self.encoding = Encoding(dtype)
        rows, columns = np.mgrid[:SIZE_PX, :SIZE_PX] / SIZE_PX
        self._waves = np.stack([np.sin(rows * k + columns) for k in range(1, N_BANDS + 1)])

    def read(self, site: int) -> np.ndarray:
        """Return an array of shape (1, n_bands, height, width)."""
        rng = np.random.default_rng(site)
        noise = rng.integers(0, 200, size=self._waves.shape)
        return np.rint(1500 + 1000 * self._waves * rng.uniform() + noise).astype(np.float32)[None]


def make_chips(n_sites: int, dtype: str) -> Chips:
    """Return chips of sites that are spread over Uganda."""
    rng = np.random.default_rng(0)
    table = pd.DataFrame(
        {"lon": rng.uniform(30, 34, n_sites), "lat": rng.uniform(0, 3, n_sites)},
        index=pd.Index(np.arange(n_sites), name="site"),
    )
    low, high = (0.0,) * N_BANDS, (3000.0,) * N_BANDS
    records = [ChipRecord(site, None, "ok", 0.0, low=low, high=high) for site in table.index]
    bands = tuple(f"band_{number}" for number in range(1, N_BANDS + 1))
    return Chips(MadeChips(dtype), site_table(table), records, bands, (SIZE_PX, SIZE_PX))


def peak_mb() -> float:
    """Return the largest resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sites", type=int, default=100_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--folder", default=None)
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(dir=arguments.folder))
    try:
        chips = make_chips(arguments.sites, arguments.dtype)
        print(f"{chips}; peak before writing {peak_mb():.0f} MB")
        for label in ("write", "again"):
            started = time.perf_counter()
            summary = write_chips(chips, folder / "x.zarr", n_jobs=arguments.workers)
            seconds = time.perf_counter() - started
            rate = summary.n_sites_read / seconds
            print(f"{label}: {seconds:7.1f} s, {rate:7,.0f} chips/s, peak {peak_mb():.0f} MB")
            print(f"  {summary}", flush=True)
        subprocess.run([sys.executable, "-c", OPEN, str(folder / "x.zarr")], check=True)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
