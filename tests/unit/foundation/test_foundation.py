"""Checks, randomness, optional imports and progress: each refuses with what it found."""

import io
import sys
import time

import numpy as np
import pandas as pd
import pytest

from terracausal._foundation import checks, errors, progress
from terracausal._foundation.optional import require
from terracausal._foundation.progress import track
from terracausal._foundation.randomness import canonical_order, draw_seed, random_generator


@pytest.mark.parametrize("value", [0, -1, 1.5, True, "3", None])
def test_counts_refuse_what_is_not_a_positive_integer(value):
    with pytest.raises(ValueError, match=rf"`n_folds` must be .* got {value!r}"):
        checks.check_count("n_folds", value)


def test_counts_take_numpy_integers():
    assert checks.check_count("n_folds", np.int32(3), minimum=3) == 3


@pytest.mark.parametrize("value", [0, 1, -0.1, 1.1, float("nan")])
def test_fractions_lie_strictly_inside(value):
    with pytest.raises(ValueError, match=rf"`level` must lie strictly .* got {value!r}"):
        checks.check_fraction("level", value)


@pytest.mark.parametrize("value", [0, -3.0, float("inf"), float("nan")])
def test_positive_numbers_are_finite_and_above_zero(value):
    with pytest.raises(ValueError, match=rf"got {value!r}"):
        checks.check_positive("cutoff_m", value)


def test_finite_counts_what_is_not():
    with pytest.raises(ValueError, match=r"2 of 3 values are NaN or infinite"):
        checks.check_finite("score", [np.nan, 1.0, np.inf])


def test_choice_names_the_options():
    with pytest.raises(ValueError, match=r"one of 'all', 'treated'; got 'both'"):
        checks.check_choice("target", "both", ("all", "treated"))


def test_doubled_keys_are_counted_and_named():
    with pytest.raises(errors.AlignmentError, match=r"2 stand more than once: 'a', 'b'"):
        checks.check_unique("The index", pd.Index(list("aabbc")))


def test_different_units_are_shown_from_both_sides():
    with pytest.raises(errors.AlignmentError, match=r"1 are missing \(3\) and 1 are unknown \(9\)"):
        checks.check_same_index("priority", pd.Index([1, 2, 9]), pd.Index([1, 2, 3]))


def test_lists_are_cut_with_the_count_of_the_rest():
    assert errors.list_some(np.array([1.5, 2.5, 3.5]), limit=2) == "1.5, 2.5 and 1 more"


@pytest.mark.parametrize(
    ("error", "base"),
    [
        (errors.RoleError, ValueError),
        (errors.AlignmentError, ValueError),
        (errors.LeakageError, ValueError),
        (errors.OverlapError, ValueError),
        (errors.ChipReadError, OSError),
        (errors.MissingExtraError, ImportError),
        (errors.OverlapWarning, UserWarning),
    ],
)
def test_errors_are_caught_by_a_built_in(error, base):
    assert issubclass(error, base)


def test_zero_is_a_seed():
    assert random_generator(0).random() == random_generator(0).random()
    assert random_generator(0).random() != random_generator(1).random()


def test_a_generator_is_used_as_it_is():
    generator = np.random.default_rng(1)
    assert random_generator(generator) is generator


def test_no_seed_is_fresh():
    assert random_generator(None).random() != random_generator(None).random()


@pytest.mark.parametrize("value", [True, 1.5, "0", np.random])
def test_random_state_refuses_other_types(value):
    with pytest.raises(TypeError, match=rf"got {type(value).__name__}"):
        random_generator(value)


def test_random_state_refuses_negative_seeds():
    with pytest.raises(ValueError, match=r"got -4"):
        random_generator(-4)


def test_no_global_state_is_touched():
    np.random.seed(3)  # noqa: NPY002 - the state that must stay as it is
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    draw_seed(random_generator(0))
    assert (np.random.get_state()[1] == before).all()  # noqa: NPY002


def test_canonical_order_does_not_depend_on_rows(rng):
    keys = pd.Index([f"u{k}" for k in range(30)])
    shuffled = keys[rng.permutation(30)]
    assert list(shuffled[canonical_order(shuffled)]) == sorted(keys)


def test_canonical_order_of_keys_that_do_not_compare(rng):
    keys = pd.Index([1, "a", 2.5, "1", ("x", 1)], dtype=object, tupleize_cols=False)
    first = list(keys[canonical_order(keys)])
    shuffled = keys[rng.permutation(len(keys))]
    assert list(shuffled[canonical_order(shuffled)]) == first


def test_a_missing_package_is_named_with_its_remedy():
    with pytest.raises(errors.MissingExtraError, match=r"The map needs .*'no_such'.*pip install"):
        require("no_such.part", needed_by="The map")


def test_a_missing_extra_is_named():
    with pytest.raises(errors.MissingExtraError, match=r"terracausal\[maps\]"):
        require("no_such", needed_by="The map", extra="maps")


def test_progress_is_silent_where_nobody_watches(monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    assert list(track(iter(range(3)), "counting", total=3)) == [0, 1, 2]
    assert stream.getvalue() == ""


def test_progress_is_shown_while_the_first_item_is_made(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    stream = Terminal()

    def slow():
        given_up = time.monotonic() + 30
        while "counting" not in stream.getvalue() and time.monotonic() < given_up:
            time.sleep(0.01)
        yield "counting" in stream.getvalue()

    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(progress, "_DELAY_SECONDS", 0.01)
    assert list(track(slow(), "counting", total=1)) == [True]
    monkeypatch.setattr(progress, "_DELAY_SECONDS", 60)
    before = stream.getvalue()
    assert list(track([5], "quick")) == [5]
    assert stream.getvalue() == before
