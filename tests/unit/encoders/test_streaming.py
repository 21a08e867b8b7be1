"""Reading ahead: the same batches, one at a time, and no thread that stays."""

import threading
import time
from contextlib import closing

import numpy as np
import pytest

from terracausal.encoders.base import read_batches
from terracausal.encoders.streaming import read_ahead
from terracausal.imagery import Chips, open_chips, write_chips


def readers():
    return [thread for thread in threading.enumerate() if thread.name.startswith("read-ahead")]


@pytest.mark.parametrize("n_ahead", [1, 3, 20])
def test_batches_come_in_order_and_the_thread_ends(n_ahead):
    assert list(read_ahead(iter(range(10)), n_ahead)) == list(range(10))
    assert list(read_ahead([], n_ahead)) == []
    assert list(read_ahead([None, None], n_ahead)) == [None, None]
    assert not readers()


@pytest.mark.parametrize("n_ahead", [1, 2])
def test_no_more_than_that_many_batches_wait(n_ahead):
    made = []

    def batches():
        for number in range(10):
            made.append(number)
            yield number

    with closing(read_ahead(batches(), n_ahead)) as steps:
        for number in steps:
            deadline = time.monotonic() + 10
            while len(made) < min(10, number + 1 + n_ahead) and time.monotonic() < deadline:
                time.sleep(0.001)
            # the reader is now done with what it may do
            assert len(made) == min(10, number + 1 + n_ahead)


def test_a_batch_is_read_while_another_is_computed():
    computing, read = threading.Event(), threading.Event()

    def batches():
        yield 0
        assert computing.wait(10)
        read.set()
        yield 1

    with closing(read_ahead(batches())) as steps:
        assert next(steps) == 0
        computing.set()
        assert read.wait(10)  # while this thread has not asked for it
        assert next(steps) == 1


def test_an_error_comes_with_its_batch_and_leaves_no_thread():
    def batches():
        yield 0
        raise KeyError("b")

    steps = read_ahead(batches())
    assert next(steps) == 0
    with pytest.raises(KeyError, match="b"):
        next(steps)
    assert not readers()


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_stopping_early_leaves_no_thread(error):
    def stop():
        with closing(read_ahead(iter(range(100)))) as steps:
            for _ in steps:
                raise error

    with pytest.raises(error):
        stop()
    assert not readers()


def test_a_damaged_chip_is_named(tmp_path):
    pixels = np.random.default_rng(0).normal(size=(6, 1, 2, 4, 4))
    chips = Chips.from_arrays(pixels, sites=list("abcdef"), bands=["red", "nir"])
    write_chips(chips, tmp_path / "x.zarr", sites_per_shard=2)
    stored = open_chips(tmp_path / "x.zarr")
    shard = tmp_path / "x.zarr" / "pixels" / "c.1.0.0.0.0"
    shard.write_bytes(shard.read_bytes()[:-40])
    with (
        closing(read_ahead(read_batches(stored, 2))) as steps,
        pytest.raises(OSError, match=r"Site 'c': .*c\.1\.0\.0\.0\.0 could not be read"),
    ):
        list(steps)
    assert not readers()


def test_at_least_one_batch_ahead():
    with pytest.raises(ValueError, match="`n_ahead` must be an integer of at least 1; got 0"):
        next(read_ahead([1], 0))
