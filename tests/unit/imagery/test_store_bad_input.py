import errno
import json
import os
import shutil
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from terracausal._foundation.errors import ChipReadError
from terracausal.imagery import Chips, shards
from terracausal.imagery.store import write_chips
from terracausal.imagery.stored_chips import open_chips, verify_store

SHARD = "pixels/c.1.0.0.0.0"


def make_chips(n_sites=6):
    pixels = np.random.default_rng(0).normal(size=(n_sites, 1, 2, 8, 8))
    return Chips.from_arrays(pixels, sites=[f"s{k}" for k in range(n_sites)], bands=["red", "nir"])


@pytest.fixture
def store(tmp_path):
    write_chips(make_chips(), tmp_path / "x.zarr", sites_per_shard=2)
    return tmp_path / "x.zarr"


def edit(path, change):
    said = json.loads(path.read_text())
    change(said)
    path.write_text(json.dumps(said))


def failing_at(monkeypatch, code, n_writes):
    """Let the file system refuse every write after some."""
    sync, calls = os.fsync, []

    def fail(descriptor):
        calls.append(descriptor)
        if len(calls) > n_writes:
            raise OSError(code, os.strerror(code))
        sync(descriptor)

    monkeypatch.setattr(shards.os, "fsync", fail)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (errno.ENOSPC, "The disk is full: free some space"),
        (errno.EDQUOT, "Your share of the disk is used up"),
        (errno.EROFS, "The disk can only be read: choose a `path` on another one"),
        (errno.EIO, "Mend this, and write again"),
    ],
)
def test_errors_of_the_disk_lose_nothing(tmp_path, monkeypatch, code, message):
    root = tmp_path / "x.zarr"
    write_chips(make_chips(), tmp_path / "whole.zarr", sites_per_shard=2)
    # five tables and the log, two calls each, and the first shard with its line in the log
    failing_at(monkeypatch, code, n_writes=5 * 2 + 2 + 3)
    with pytest.raises(OSError, match=message) as caught:
        write_chips(make_chips(), root, sites_per_shard=2, n_jobs=1)
    assert caught.value.errno == code
    assert os.strerror(code) in str(caught.value)
    assert "x.zarr" in str(caught.value)
    assert "1 of 3 shards are finished" in caught.value.__notes__[0]
    monkeypatch.undo()
    summary = write_chips(make_chips(), root, sites_per_shard=2)
    assert (summary.n_shards_kept, summary.n_sites_read) == (1, 4)
    assert (root / SHARD).read_bytes() == (tmp_path / "whole.zarr" / SHARD).read_bytes()


def run_in_a_mount(tmp_path, options, code):
    """Run code in a process that alone sees a small file system at tmp_path/disk."""
    disk = tmp_path / "disk"
    disk.mkdir()
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(code))
    command = f"mount -t tmpfs -o {options} tmpfs {disk} && exec {sys.executable} {script} {disk}"
    try:
        probe = subprocess.run(
            ["unshare", "-m", "sh", "-c", f"mount -t tmpfs tmpfs {disk}"],
            capture_output=True,
            check=False,
        )
    except FileNotFoundError:
        pytest.skip("this system has no unshare")
    if probe.returncode:
        pytest.skip("this user may not mount")
    return subprocess.run(
        ["unshare", "-m", "sh", "-c", command], capture_output=True, text=True, check=False
    )


def test_a_disk_that_is_really_full(tmp_path):
    done = run_in_a_mount(
        tmp_path,
        "size=1m",
        """
        import pathlib, sys
        import numpy as np
        from terracausal.imagery import Chips
        from terracausal.imagery.store import write_chips
        from terracausal.imagery.stored_chips import open_chips
        pixels = np.random.default_rng(0).normal(size=(14, 1, 1, 128, 128))
        chips = Chips.from_arrays(pixels, sites=range(14), bands=["red"])
        path = pathlib.Path(sys.argv[1]) / "x.zarr"
        ballast = path.with_name("ballast")
        ballast.write_bytes(bytes(2**19))
        try:
            write_chips(chips, path, sites_per_shard=2, n_jobs=1)
        except OSError as error:
            print(error, *error.__notes__)
        ballast.unlink()
        assert not list(path.parent.rglob("*.part"))
        print(write_chips(chips, path, sites_per_shard=2, n_jobs=1).summary())
        assert (open_chips(path)[13] == chips[13]).all()
        """,
    )
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert "[Errno 28] The store could not be written (No space left on device)" in first
    assert "free some space on it, and write again" in first
    kept = int(first.split(" of 7 shards are finished")[0].split()[-1])
    assert 1 <= kept <= 5
    assert f"{kept} shards were finished before, {14 - 2 * kept} chips read now" in second


def test_a_disk_that_can_only_be_read(tmp_path):
    done = run_in_a_mount(
        tmp_path,
        "ro",
        """
        import sys
        import numpy as np
        from terracausal.imagery import Chips
        from terracausal.imagery.store import write_chips
        chips = Chips.from_arrays(np.ones((1, 1, 1, 2, 2)), sites=["a"], bands=["red"])
        try:
            write_chips(chips, sys.argv[1] + "/x.zarr")
        except OSError as error:
            print(error)
        """,
    )
    assert done.returncode == 0, done.stderr
    assert "[Errno 30] The store could not be written (Read-only file system)" in done.stdout
    assert "choose a `path` on another one" in done.stdout


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write")
def test_a_folder_without_the_right_to_write(tmp_path):
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(PermissionError, match="You may not write there"):
            write_chips(make_chips(), tmp_path / "x.zarr")
    finally:
        tmp_path.chmod(0o700)


def test_a_folder_that_is_a_file(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError, match="could not be written"):
        write_chips(make_chips(), tmp_path / "file" / "x.zarr")


def test_nothing_there(tmp_path):
    with pytest.raises(ChipReadError, match=r"found nothing at .*no\.zarr"):
        open_chips(tmp_path / "no.zarr")
    (tmp_path / "file").write_text("")
    with pytest.raises(ChipReadError, match="found a file at"):
        open_chips(tmp_path / "file")
    with pytest.raises(ChipReadError, match=r"metadata in zarr.json; those of .* cannot be read"):
        open_chips(tmp_path)


def test_a_store_of_a_newer_version_is_refused(store):
    def change(said):
        said["attributes"]["terracausal"]["format_version"] = 2

    edit(store / "zarr.json", change)
    with pytest.raises(ChipReadError, match=r"has format version 2; .* reads versions up to 1"):
        open_chips(store)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.update(format="other"), "says 'other', 1"),
        (lambda s: s.update(format_version="1"), "says 'chips', '1'"),
        (lambda s: s.pop("bands"), "are damaged .KeyError: 'bands'"),
        (lambda s: s.update(bands=["red"]), "1 names for 2 bands"),
        (lambda s: s.update(chip_shape=[1, 2, 8]), "damaged .ValueError"),
        (lambda s: s.update(n_sites=-1), "of at least 1, found .-1"),
        (lambda s: s.update(n_sites=7), "list 7 sites .* found 6"),
        (lambda s: s.update(chip_shape=[1, 2, 8, 9]), "must have shape, .*8, 9.*; found"),
        (lambda s: s.update(crs="EPSG:0"), "damaged .CRSError"),
        (lambda s: s["encoding"].update(dtype="object"), "got 'object'"),
        (lambda s: s.update(times=["yesterday"]), "damaged"),
    ],
)
def test_metadata_that_do_not_fit_are_refused(store, change, message):
    edit(store / "zarr.json", lambda said: change(said["attributes"]["terracausal"]))
    with pytest.raises(ChipReadError, match=message):
        open_chips(store)


@pytest.mark.parametrize("name", ["zarr.json", "index.parquet", "pixels/zarr.json"])
@pytest.mark.parametrize("data", [b"", b"{", b"\x00" * 100, None])
def test_damaged_tables_and_metadata_are_named(store, name, data):
    (store / name).unlink() if data is None else (store / name).write_bytes(data)
    with pytest.raises(ChipReadError, match=r"x\.zarr"):
        open_chips(store)


@pytest.mark.parametrize("name", ["records.parquet", "sites.parquet"])
def test_damaged_tables_are_named_when_they_are_needed(store, name):
    (store / name).write_bytes(b"PAR1 no")
    found = open_chips(store)
    assert found["s0"].shape == (1, 2, 8, 8)
    with pytest.raises(ChipReadError, match=name):
        _ = found.manifest


def test_a_lost_shard_is_missed_at_once(store):
    found = open_chips(store)
    (store / SHARD).unlink()
    with pytest.raises(ChipReadError, match=f"3 shards; 1 are missing: '{SHARD}'"):
        open_chips(store)
    with pytest.raises(ChipReadError, match=f"Site 's3': .*{SHARD} could not be read .*missing"):
        found["s3"]
    with pytest.raises(ChipReadError, match=f"1 are missing or changed .'{SHARD}'"):
        verify_store(store)


@pytest.mark.parametrize("damage", ["flip", "cut", "empty"])
def test_a_damaged_shard_is_found_when_it_is_read(store, damage):
    expected = make_chips()["s5"]
    data = bytearray((store / SHARD).read_bytes())
    data[100] ^= 1
    new = {"flip": bytes(data), "cut": bytes(data[:-20]), "empty": b""}[damage]
    (store / SHARD).write_bytes(new)
    found = open_chips(store)
    np.testing.assert_array_equal(found["s5"], expected)
    with pytest.raises(ChipReadError, match=f"Site 's2': .*{SHARD} could not be read"):
        found["s2"]
    with pytest.raises(ChipReadError, match=f"of 8 files .* 1 are missing or changed .'{SHARD}'"):
        verify_store(store)


@pytest.mark.parametrize("name", [SHARD, "sites.parquet", "zarr.json", "pixels"])
def test_a_link_out_of_the_store_is_refused(store, tmp_path, name):
    elsewhere = tmp_path / "elsewhere"
    shutil.move(store / name, elsewhere)
    (store / name).symlink_to(elsewhere)
    with pytest.raises(ChipReadError, match=f"1 entries of .* lead out of it: '{name} -> .*elsew"):
        open_chips(store)
    with pytest.raises(ChipReadError, match="lead out of it"):
        verify_store(store)


def test_a_link_in_an_unfinished_store_is_not_written_through(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    unfinished = tmp_path / "x.zarr.unfinished"
    unfinished.mkdir()
    (unfinished / "pixels").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ChipReadError, match="lead out of it: 'pixels -> "):
        write_chips(make_chips(), tmp_path / "x.zarr", overwrite=True)
    assert not list((tmp_path / "elsewhere").iterdir())


@pytest.mark.parametrize("name", ["../secret", "/etc/hostname", "pixels/../../secret"])
def test_a_checksum_of_a_file_elsewhere_is_refused(store, tmp_path, name):
    (tmp_path / "secret").write_text("secret")
    with open(store / "checksums.sha256", "a") as file:
        file.write(f"{'0' * 64}  {name}\n")
    with pytest.raises(ChipReadError, match=f"names '{name}', which leads out of it"):
        verify_store(store)


def test_a_shard_without_a_checksum_is_reported(store):
    lines = (store / "checksums.sha256").read_text().splitlines(keepends=True)
    (store / "checksums.sha256").write_text("".join(x for x in lines if SHARD not in x))
    with pytest.raises(ChipReadError, match=f"1 shards have no checksum .'{SHARD}'"):
        verify_store(store)


@pytest.mark.parametrize(("option", "value"), [("sites_per_shard", 0), ("n_jobs", -1)])
def test_counts_are_checked_before_anything_is_written(tmp_path, option, value):
    with pytest.raises(ValueError, match=f"`{option}` must be an integer of at least 1; got"):
        write_chips(make_chips(), tmp_path / "x.zarr", **{option: value})
    assert not list(tmp_path.iterdir())


def test_a_source_that_changes_its_shape_is_noticed(tmp_path):
    chips = make_chips()
    chips._reader.read = lambda site: np.zeros((2, 2, 8, 8), dtype=np.float32)
    with pytest.raises(ValueError, match=r"Site 's0' .* shape \(1, 2, 8, 8\) .* has \(2, 2, 8, 8"):
        write_chips(chips, tmp_path / "x.zarr", n_jobs=1)
