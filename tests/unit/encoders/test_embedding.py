"""Embeddings on disk: the numbers of `transform`, computed once, whatever happens meanwhile."""

import errno
import json
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
from sklearn.exceptions import NotFittedError

from terracausal._foundation.errors import BandError
from terracausal.encoders import embedding_parts
from terracausal.encoders.band_statistics import BandStatisticsEncoder
from terracausal.encoders.embedding import embed
from terracausal.encoders.embedding_parts import one_writer
from terracausal.encoders.kept_embeddings import load_embeddings
from terracausal.encoders.random_conv import RandomConvEncoder
from terracausal.imagery import Chips, open_chips, write_chips

N_SITES = 14  # four parts of four sites and one of two
KEYS = np.random.default_rng(1).permutation(N_SITES) * 3


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr(embedding_parts, "SITES_PER_PART", 4)


def pixels_of(n_sites=N_SITES):
    return np.random.default_rng(0).gamma(3, 20, size=(n_sites, 2, 2, 6, 5))


def chips_of(pixels=None, keys=KEYS, **options):
    places = pd.DataFrame({"lon": 32 + np.arange(len(keys)) / 1000, "lat": 1.0}, index=list(keys))
    options = {"bands": ["red", "nir"], "times": ["2001-01-01", "2005-06-01"], **options}
    return Chips.from_arrays(pixels_of() if pixels is None else pixels, sites=places, **options)


@pytest.fixture
def chips():
    return chips_of(resolution_m=30)


@pytest.fixture
def encoder(chips):
    return BandStatisticsEncoder().fit(chips)


def files_of(folder):
    """Bytes of the parts of the only embedding in a folder."""
    return {path.name: path.read_bytes() for path in folder.glob("*/part-*.parquet")}


@pytest.fixture
def encoded(monkeypatch):
    """Sites in the order in which they are encoded."""
    sites = []
    encode = BandStatisticsEncoder.encode

    def counting(self, chips):
        sites.extend(chips.keys)
        return encode(self, chips)

    monkeypatch.setattr(BandStatisticsEncoder, "encode", counting)
    return sites


@pytest.mark.parametrize(
    "made", [BandStatisticsEncoder(), RandomConvEncoder(n_features=8, batch_size=3, random_state=0)]
)
def test_the_table_is_that_of_transform(chips, made, tmp_path):
    encoder = made.fit(chips)
    expected = encoder.transform(chips)
    for _ in range(2):
        table = embed(encoder, chips, tmp_path)
        pd.testing.assert_frame_equal(table, expected, check_exact=True)
        assert table.attrs == expected.attrs
        assert table.attrs["encoder"]["overlapping"]


def test_parts_hold_sites_in_order_of_keys_as_a_plain_data_set(encoder, chips, tmp_path):
    table = embed(encoder, chips, tmp_path)
    (folder,) = tmp_path.iterdir()
    parts = sorted(folder.glob("*.parquet"))
    assert [path.name for path in parts] == [f"part-{number:05d}.parquet" for number in range(4)]
    assert [len(pd.read_parquet(path)) for path in parts] == [4, 4, 4, 2]
    pd.testing.assert_frame_equal(pd.read_parquet(folder), table.sort_index(), check_exact=True)
    assert sorted(path.name for path in folder.iterdir() if path not in parts) == [
        "_embedding.json",
        "_parts.sha256",
    ]
    listed = subprocess.run(["sha256sum", "-c", "_parts.sha256"], cwd=folder, capture_output=True)
    assert listed.returncode == 0
    facts = json.loads((folder / "_embedding.json").read_bytes())
    assert facts["encoder"] == table.attrs["encoder"]
    assert facts["encoder"]["supervised"] is False


def test_what_is_there_is_read_without_encoding(encoder, chips, tmp_path, encoded):
    table = embed(encoder, chips, tmp_path / "e")
    assert encoded == sorted(KEYS)
    write_chips(chips, tmp_path / "x.zarr")
    order = np.random.default_rng(2).permutation(KEYS)
    again = BandStatisticsEncoder().fit(chips)
    for same in (chips, open_chips(tmp_path / "x.zarr"), chips.select(order)):
        pd.testing.assert_frame_equal(
            embed(again, same, tmp_path / "e"), table.loc[list(same.keys)], check_exact=True
        )
    assert len(encoded) == N_SITES


def test_batch_size_decides_how_much_at_once_and_not_what(chips, tmp_path):
    encoder = RandomConvEncoder(n_features=4, random_state=0).fit(chips)
    embed(encoder, chips, tmp_path)
    table = embed(encoder.set_params(batch_size=1), chips, tmp_path)
    assert len(list(tmp_path.iterdir())) == 1
    assert table.attrs == encoder.transform(chips).attrs


def test_other_encoders_and_chips_lie_beside(encoder, chips, tmp_path):
    other_pixels, masked = pixels_of(), pixels_of()
    other_pixels[3, 0, 0, 0, 0] += 1
    masked[3, 0, 0, 0, 0] = np.nan
    pairs = [
        (encoder, chips),
        (BandStatisticsEncoder(quantiles=(0.5,)).fit(chips), chips),
        (RandomConvEncoder(n_features=4, random_state=0).fit(chips), chips),
        (RandomConvEncoder(n_features=4, random_state=1).fit(chips), chips),
        (encoder, chips_of(other_pixels, resolution_m=30)),
        (encoder, chips_of(masked, resolution_m=30)),
        (encoder, chips_of(resolution_m=10)),
        (encoder, chips_of(times=["2001-01-01", "2005-06-02"], resolution_m=30)),
        (encoder, chips.select(KEYS[1:])),
    ]
    for n_before, (made, given) in enumerate(pairs):
        assert len(list(tmp_path.iterdir())) == n_before
        expected = made.transform(given)
        pd.testing.assert_frame_equal(embed(made, given, tmp_path), expected, check_exact=True)


JOB = """
import os, signal, sys
import numpy as np, pandas as pd
from terracausal.encoders import embedding_parts
from terracausal.encoders.band_statistics import BandStatisticsEncoder
from terracausal.encoders.embedding import embed
from terracausal.imagery import open_chips

store, out, log, n_images = sys.argv[1:]
embedding_parts.SITES_PER_PART = 4

class Counting(BandStatisticsEncoder):
    def encode(self, chips):
        with open(log, "a") as file:
            file.write(" ".join(map(str, chips.keys)) + "\\n")
        return super().encode(chips)

    def _encode_images(self, pixels):
        global n_left
        n_left -= len(pixels)
        if n_left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return super()._encode_images(pixels)

    def _sites_at_once(self):
        return 1

chips = open_chips(store)
encoder = Counting().fit(chips)
n_left = int(n_images)
embed(encoder, chips, out)
"""


def test_killed_and_resumed_it_is_identical_and_no_part_is_computed_twice(chips, tmp_path):
    write_chips(chips, tmp_path / "x.zarr")
    (tmp_path / "job.py").write_text(JOB)

    def run(out, n_images):
        command = [sys.executable, "job.py", "x.zarr", out, f"{out}.log", str(n_images)]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, check=False)

    embed(BandStatisticsEncoder().fit(chips), chips, tmp_path / "whole")
    # two images a site: the third site of the second part, then the first one of the fourth
    for n_images in (13, 17):
        assert run("killed", n_images).returncode == -signal.SIGKILL
    assert run("killed", 1000).returncode == 0
    assert len(files_of(tmp_path / "whole")) == 4
    assert files_of(tmp_path / "killed") == files_of(tmp_path / "whole")
    calls = (tmp_path / "killed.log").read_text().splitlines()
    keys = sorted(KEYS)
    parts = [" ".join(map(str, keys[start : start + 4])) for start in (0, 4, 8, 12)]
    # only the two parts that were not finished were begun again
    assert calls == [parts[i] for i in (0, 1, 1, 2, 3, 3)]


def test_a_part_that_was_not_logged_any_more_is_kept(encoder, chips, tmp_path, encoded):
    embed(encoder, chips, tmp_path)
    log = next(tmp_path.glob("*/_parts.sha256"))
    log.write_text("".join(log.read_text().splitlines(keepends=True)[:1]) + "0a1b  part")
    embed(encoder, chips, tmp_path)
    assert len(encoded) == N_SITES


@pytest.mark.parametrize("logged", [True, False])
def test_a_truncated_part_is_told_and_computed_again(encoder, chips, tmp_path, encoded, logged):
    embed(encoder, chips, tmp_path)
    before = files_of(tmp_path)
    part = next(tmp_path.glob("*/part-00002.parquet"))
    part.write_bytes(part.read_bytes()[:-20])
    if not logged:
        (part.parent / "_parts.sha256").unlink()
    del encoded[:]
    with pytest.warns(UserWarning, match=r"1 of 4 parts in .* have changed .*part-00002\.parquet"):
        embed(encoder, chips, tmp_path)
    assert encoded == sorted(KEYS)[8:12]
    assert files_of(tmp_path) == before


def test_a_lost_part_is_computed_again(encoder, chips, tmp_path, encoded):
    embed(encoder, chips, tmp_path)
    before = files_of(tmp_path)
    next(tmp_path.glob("*/part-00000.parquet")).unlink()
    del encoded[:]
    with pytest.warns(UserWarning, match="1 of 4 parts"):
        embed(encoder, chips, tmp_path)
    assert encoded == sorted(KEYS)[:4]
    assert files_of(tmp_path) == before


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_an_interruption_leaves_finished_parts(encoder, chips, tmp_path, monkeypatch, error):
    encode, asked = BandStatisticsEncoder.encode, []

    def stopping(self, chips):
        asked.append(list(chips.keys))
        if len(asked) == 3:
            raise error
        return encode(self, chips)

    monkeypatch.setattr(BandStatisticsEncoder, "encode", stopping)
    with pytest.raises(error) as raised:
        embed(encoder, chips, tmp_path)
    assert "2 of 4 parts are finished" in raised.value.__notes__[0]
    with pytest.raises(OSError, match=r"of 4 parts in .* 2 are not finished \('part-00002.parq"):
        load_embeddings(tmp_path)
    embed(encoder, chips, tmp_path)
    keys = sorted(KEYS)
    assert asked == [keys[0:4], keys[4:8], keys[8:12], keys[8:12], keys[12:14]]


def test_chips_that_changed_meanwhile_are_other_chips(encoder, chips, tmp_path, encoded):
    embed(encoder, chips, tmp_path)
    for part in list(tmp_path.glob("*/part-0000[23].parquet")):
        part.unlink()
    changed = pixels_of()
    changed[0] += 1
    given = chips_of(changed, resolution_m=30)
    table = embed(encoder, given, tmp_path)
    assert len(encoded) == 2 * N_SITES
    pd.testing.assert_frame_equal(table, encoder.transform(given), check_exact=True)


def test_a_full_disk_names_the_part_and_keeps_the_others(encoder, chips, tmp_path, monkeypatch):
    write = embedding_parts.write_file

    def full(path, data):
        if path.name == "part-00001.parquet":
            raise OSError(errno.ENOSPC, "told otherwise", str(path))
        write(path, data)

    monkeypatch.setattr(embedding_parts, "write_file", full)
    with pytest.raises(OSError, match=r"No space left.*finished.*part-00001\.parquet") as raised:
        embed(encoder, chips, tmp_path)
    assert raised.value.errno == errno.ENOSPC
    assert "1 of 4 parts are finished" in raised.value.__notes__[0]
    monkeypatch.undo()
    assert list(files_of(tmp_path)) == ["part-00000.parquet"]


def test_out_must_be_a_folder(encoder, chips, tmp_path):
    (tmp_path / "file").write_text("mine")
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(OSError, match="`out` must be a folder that can be written"):
            embed(encoder, chips, out)
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write anywhere")
def test_out_must_be_writable(encoder, chips, tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(PermissionError, match="`out` must be a folder that can be written"):
        embed(encoder, chips, tmp_path)


def test_refusals_come_before_anything_is_written(encoder, chips, tmp_path):
    with pytest.raises(NotFittedError):
        embed(BandStatisticsEncoder(), chips, tmp_path)
    with pytest.raises(TypeError, match="takes an encoder and Chips; got str and Chips"):
        embed("statistics", chips, tmp_path)
    with pytest.raises(TypeError, match="got BandStatisticsEncoder and ndarray"):
        embed(encoder, pixels_of(), tmp_path)
    with pytest.raises(BandError, match="fitted on the bands 'red', 'nir'"):
        embed(encoder, chips.select(bands=["nir", "red"]), tmp_path)
    with pytest.raises(ValueError, match=r"all text or all numbers .* found mixed"):
        embed(encoder, chips_of(keys=["a", *range(N_SITES - 1)]), tmp_path)
    empty = pixels_of()
    empty[5] = np.nan
    with pytest.raises(ValueError, match=f"1 of {N_SITES} have none: sites {KEYS[5]}"):
        embed(encoder, chips_of(empty), tmp_path)
    assert not list(tmp_path.iterdir())


def test_only_one_process_computes_an_embedding(encoder, chips, tmp_path):
    embed(encoder, chips, tmp_path)
    (folder,) = tmp_path.iterdir()
    with one_writer(folder):
        embed(encoder, chips, tmp_path)  # what is there may be read
        (folder / "_parts.sha256").unlink()
        (folder / "part-00001.parquet").unlink()
        with pytest.raises(BlockingIOError, match="Only one process may compute an embedding"):
            embed(encoder, chips, tmp_path)


def test_what_a_killed_call_left_half_written_is_removed(encoder, chips, tmp_path):
    embed(encoder, chips, tmp_path)
    (folder,) = tmp_path.iterdir()
    (folder / "_parts.sha256").unlink()
    (folder / "part-00001.parquet").unlink()
    (folder / ".part-00001.parquet.0123.part").write_bytes(b"half")
    embed(encoder, chips, tmp_path)
    assert len(list(folder.iterdir())) == 6


def test_an_encoder_that_saw_outcomes_is_marked(chips, tmp_path):
    class Supervised(BandStatisticsEncoder):
        supervised = True

    table = embed(Supervised().fit(chips), chips, tmp_path)
    assert table.attrs["encoder"]["supervised"] is True
    assert load_embeddings(tmp_path).attrs["encoder"]["supervised"] is True


@pytest.mark.parametrize("keys", [KEYS, [f"site {key:02d}" for key in KEYS], KEYS / 4])
def test_loading_gives_back_rows_by_site(keys, tmp_path):
    chips = chips_of(keys=keys)
    encoder = BandStatisticsEncoder().fit(chips)
    table = embed(encoder, chips, tmp_path)
    (folder,) = tmp_path.iterdir()
    for path in (tmp_path, folder, str(folder)):
        loaded = load_embeddings(path)
        pd.testing.assert_frame_equal(loaded, table.sort_index(), check_exact=True)
        assert loaded.attrs == table.attrs


def test_loading_refuses_what_is_not_one_whole_embedding(encoder, chips, tmp_path):
    with pytest.raises(FileNotFoundError, match="found none in"):
        load_embeddings(tmp_path)
    embed(encoder, chips, tmp_path)
    part = next(tmp_path.glob("*/part-00001.parquet"))
    part.write_bytes(b"PAR1" + part.read_bytes()[4:-1])
    with pytest.raises(OSError, match=r"0 are not finished \(\) and 1 are damaged \('part-00001"):
        load_embeddings(tmp_path)
    embed(encoder, chips.select(KEYS[:3]), tmp_path)
    with pytest.raises(FileNotFoundError, match="found 2"):
        load_embeddings(tmp_path)


def test_other_workers_give_the_same_files(encoder, chips, tmp_path, encoded):
    here = embed(encoder, chips, tmp_path / "here")
    with ThreadPoolExecutor(2) as pool:
        there = embed(encoder, chips, tmp_path / "there", client=pool)
    pd.testing.assert_frame_equal(there, here, check_exact=True)
    assert files_of(tmp_path / "there") == files_of(tmp_path / "here")
    assert len(encoded) == 2 * N_SITES


CLUSTER = """
import sys
import distributed
from terracausal.encoders import embedding_parts
from terracausal.encoders.random_conv import RandomConvEncoder
from terracausal.encoders.embedding import embed
from terracausal.imagery import open_chips

embedding_parts.SITES_PER_PART = 4
chips = open_chips("x.zarr")
encoder = RandomConvEncoder(n_features=4, random_state=0).fit(chips)
options = dict(n_workers=1, processes=False, dashboard_address=None)
with distributed.LocalCluster(**options) as cluster, distributed.Client(cluster) as client:
    there = embed(encoder, chips, "there", client=client)
    again = embed(encoder, chips, "there", client=client)
here = embed(encoder, chips, "here")
assert there.equals(here) and again.equals(here) and there.attrs == here.attrs
print("equal")
"""


def test_a_cluster_gives_the_same_files(chips, tmp_path):
    pytest.importorskip("distributed")
    write_chips(chips, tmp_path / "x.zarr")
    (tmp_path / "job.py").write_text(CLUSTER)
    # a fresh interpreter, because a cluster leaves threads and loops behind for the tests after it
    done = subprocess.run(
        [sys.executable, "job.py"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert "equal" in done.stdout, done.stderr
    assert len(files_of(tmp_path / "here")) == 4
    assert files_of(tmp_path / "there") == files_of(tmp_path / "here")
