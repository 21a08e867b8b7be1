"""A store whose writer is killed, at random moments and at every step, ends as if it had not been.

Run as a program, this file writes a store in child processes and kills them.
"""

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from terracausal.imagery import Chips
from terracausal.imagery import shards as shards_module
from terracausal.imagery.places import site_table
from terracausal.imagery.records import ChipRecord
from terracausal.imagery.store import write_chips
from terracausal.imagery.stored_chips import open_chips, verify_store

N_SITES, PER_SHARD = 80, 4
PIXEL_SHAPE = (1, 3, 16, 16)


class LoggedReader:
    """Chips made of the number of their site; every read adds a line to a file."""

    def __init__(self, log, pause_s=0.0):
        self._log = log
        self._pause_s = pause_s

    def read(self, site):
        with open(self._log, "a") as file:
            file.write(f"{site}\n")
        time.sleep(self._pause_s)
        return np.random.default_rng(site).normal(size=PIXEL_SHAPE).astype(np.float32)


def logged_chips(log, pause_s=0.0, n_sites=N_SITES, offset=0):
    keys = list(range(offset, offset + n_sites))
    records = [ChipRecord(site, None, "ok", 0.0, source=f"{site}.tif") for site in keys]
    bands = ("red", "green", "blue")
    return Chips(LoggedReader(log, pause_s), site_table(keys), records, bands, PIXEL_SHAPE[2:])


def write(chips, root, **options):
    return write_chips(chips, root, sites_per_shard=PER_SHARD, n_jobs=2, **options)


def reads_in(log):
    return [int(line) for line in log.read_text().splitlines()] if log.exists() else []


def finished_sites(root):
    folder = root.with_name(f"{root.name}.unfinished") / "pixels"
    numbers = [int(path.name.split(".")[1]) for path in folder.glob("c.*")]
    return {site for k in numbers for site in range(k * PER_SHARD, (k + 1) * PER_SHARD)}


def files_of(root):
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


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
    """Kill five writers of one store, each after a random number of reads; return what was seen."""
    rng = np.random.default_rng(seed)
    root, log = folder / "killed.zarr", folder / "reads"
    steps = []
    for _ in range(5):
        finished, n_before = finished_sites(root), len(reads_in(log))
        child = fork(lambda: write(logged_chips(log, pause_s=0.002), root))
        n_more = int(rng.integers(2, 14))
        deadline = time.monotonic() + 60
        while len(reads_in(log)) < n_before + n_more and time.monotonic() < deadline:
            time.sleep(0.0005)
        time.sleep(rng.uniform(0, 0.01))
        os.kill(child, signal.SIGKILL)
        status = os.waitpid(child, 0)[1]
        steps.append(
            {
                "finished": sorted(finished),
                "read": reads_in(log)[n_before:],
                "killed": os.WIFSIGNALED(status),
            }
        )
    finished, n_before = finished_sites(root), len(reads_in(log))
    summary = write(logged_chips(log), root)
    steps.append({"finished": sorted(finished), "read": reads_in(log)[n_before:], "killed": False})
    return {"steps": steps, "n_sites_read": summary.n_sites_read, "kept": summary.n_shards_kept}


def kill_at_every_step(folder):
    """Kill a writer before and after each file gets its name; return how many steps there are.

    Each replaces another store, so that the steps of replacing are among them.
    """
    n_steps, reads = 0, []
    write(logged_chips(folder / "old", n_sites=6, offset=500), folder / "old.zarr")
    for after in (False, True):
        for step in range(100):
            root, log = folder / f"{after}{step}" / "x.zarr", folder / f"{after}{step}" / "reads"
            root.parent.mkdir()
            shutil.copytree(folder / "old.zarr", root)

            def work(root=root, log=log, step=step, after=after):
                die_at_rename(step, after)
                write(logged_chips(log, n_sites=10), root, overwrite=True)

            status = os.waitpid(fork(work), 0)[1]
            finished = finished_sites(root) & set(range(10))
            n_before = len(reads_in(log))
            write(logged_chips(log, n_sites=10), root, overwrite=True)
            reads.append(not finished & set(reads_in(log)[n_before:]))
            if not os.WIFSIGNALED(status):
                break
            n_steps += 1
    return {"n_steps": n_steps, "no_shard_twice": all(reads)}


def die_at_rename(step, after):
    """Let this process kill itself at a call of `os.replace`."""
    rename, numbers = os.replace, itertools.count()

    def deadly(source, target):
        number = next(numbers)
        if after:
            rename(source, target)
        if number == step:
            os.kill(os.getpid(), signal.SIGKILL)
        if not after:
            rename(source, target)

    os.replace = deadly


def run(folder, *arguments):
    done = subprocess.run(
        [sys.executable, __file__, str(folder), *arguments],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


@needs_fork
@pytest.mark.parametrize("seed", [0, 1])
def test_killed_five_times_and_resumed_is_the_same_to_the_byte(tmp_path, seed):
    seen = run(tmp_path, "random", str(seed))
    write(logged_chips(tmp_path / "other"), tmp_path / "whole.zarr")
    assert files_of(tmp_path / "killed.zarr") == files_of(tmp_path / "whole.zarr")
    assert verify_store(tmp_path / "killed.zarr") == 5 + N_SITES // PER_SHARD
    assert [step["killed"] for step in seen["steps"]] == [True] * 5 + [False]
    for step in seen["steps"]:
        assert not set(step["finished"]) & set(step["read"])
        assert len(step["read"]) == len(set(step["read"]))
    last = seen["steps"][-1]
    assert 0 < seen["n_sites_read"] == len(last["read"]) == N_SITES - len(last["finished"])
    assert seen["kept"] == len(last["finished"]) / PER_SHARD > 0


@needs_fork
def test_killed_at_every_rename_and_resumed_is_the_same_to_the_byte(tmp_path):
    seen = run(tmp_path, "steps")
    # five tables and metadata, a log, three shards, the checksums, the old store and the new one
    assert seen["n_steps"] == 2 * (5 + 1 + 3 + 1 + 2)
    assert seen["no_shard_twice"]
    write(logged_chips(tmp_path / "other", n_sites=10), tmp_path / "whole.zarr")
    expected = files_of(tmp_path / "whole.zarr")
    stores = sorted(tmp_path.glob("*/x.zarr"))
    assert len(stores) == seen["n_steps"] + 2
    for root in stores:
        assert files_of(root) == expected
        assert {path.name for path in root.parent.iterdir()} == {"x.zarr", "reads"}


def test_a_shard_that_was_not_logged_is_not_read_again(tmp_path):
    root, log = tmp_path / "x.zarr", tmp_path / "reads"
    chips = interrupted(root, log, at_site=10)
    folder = root.with_name("x.zarr.unfinished")
    (folder / "progress.sha256").write_text("0123abc")  # cut off in the middle of a line
    finished = finished_sites(root)
    assert len(finished) == 8
    log.unlink()
    summary = write_chips(chips, root, sites_per_shard=PER_SHARD, n_jobs=1)
    assert sorted(reads_in(log)) == sorted(set(range(N_SITES)) - finished)
    assert (summary.n_shards_kept, summary.n_sites_read) == (2, N_SITES - 8)
    verify_store(root)


def test_an_error_keeps_finished_shards_and_says_how_to_go_on(tmp_path):
    root, log = tmp_path / "x.zarr", tmp_path / "reads"
    chips = logged_chips(log)
    make = chips._reader.read
    chips._reader.read = lambda site: make(site) if site != 21 else make(1 / 0)
    with pytest.raises(ZeroDivisionError) as caught:
        write_chips(chips, root, sites_per_shard=PER_SHARD, n_jobs=1)
    assert f"5 of 20 shards are finished in {root}.unfinished" in caught.value.__notes__[0]
    assert not root.exists()
    with pytest.raises(OSError, match=r"x.zarr.unfinished is unfinished. Write the same chips"):
        open_chips(root)
    log.unlink()
    write(logged_chips(log), root)
    assert sorted(reads_in(log)) == list(range(20, N_SITES))


def test_other_chips_do_not_go_on_with_an_unfinished_store(tmp_path):
    root, log = tmp_path / "x.zarr", tmp_path / "reads"
    interrupted(root, log, at_site=10)
    log.unlink()
    others = logged_chips(log, offset=100)
    with pytest.raises(FileExistsError, match=r"with other chips, .*'index.parquet'.* differ"):
        write(others, root)
    with pytest.raises(FileExistsError, match=r"'pixels/zarr.json', 'zarr.json' differ"):
        write_chips(logged_chips(log), root, sites_per_shard=5)
    assert not log.exists()
    assert len(finished_sites(root)) == 8
    write(others, root, overwrite=True)
    assert list(open_chips(root)) == list(range(100, 100 + N_SITES))
    assert len(reads_in(log)) == N_SITES


def test_strange_files_in_an_unfinished_store_are_kept(tmp_path):
    root = tmp_path / "x.zarr"
    folder = tmp_path / "x.zarr.unfinished"
    folder.mkdir()
    (folder / "thesis.txt").write_text("years of work")
    with pytest.raises(FileExistsError, match=r"also has 'thesis\.txt'"):
        write(logged_chips(tmp_path / "reads"), root, overwrite=True)
    assert (folder / "thesis.txt").read_text() == "years of work"


def test_two_writers_do_not_write_the_same_store(tmp_path):
    pytest.importorskip("fcntl")
    root, log = tmp_path / "x.zarr", tmp_path / "reads"
    chips = logged_chips(log)
    make = chips._reader.read

    def read(site):
        with pytest.raises(BlockingIOError, match="another one is writing this"):
            write(logged_chips(tmp_path / "second"), root)
        return make(site)

    chips._reader.read = read
    write(chips, root)
    assert not (tmp_path / "second").exists()
    assert len(reads_in(log)) == N_SITES


def test_a_file_is_there_in_whole_or_not_at_all(tmp_path, monkeypatch):
    target = tmp_path / "file"
    shards_module.write_file(target, b"old")

    def fail(descriptor):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match=r"could not be written .Input/output error"):
        shards_module.write_file(target, b"new")
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def interrupted(root, log, at_site):
    """Begin a store, and stop when a site is read; return chips that can be read."""
    chips = logged_chips(log)
    make = chips._reader.read

    def read(site):
        if site == at_site:
            raise KeyboardInterrupt
        return make(site)

    chips._reader.read = read
    with suppress(KeyboardInterrupt):
        write_chips(chips, root, sites_per_shard=PER_SHARD, n_jobs=1)
    return logged_chips(log)


if __name__ == "__main__":
    place, what = Path(sys.argv[1]), sys.argv[2]
    if what == "random":
        result = kill_at_random(place, seed=int(sys.argv[3]))
    else:
        result = kill_at_every_step(place)
    sys.stdout.write(json.dumps(result))
