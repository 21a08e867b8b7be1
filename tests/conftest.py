"""Fixtures of all tests: where real data lie, and the seed of stochastic tests."""

import os
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest

mpl.use("Agg")


def _data_root() -> Path | None:
    given = os.environ.get("TERRACAUSAL_DATA")
    folder = Path(given) if given else Path(__file__).parents[2] / "shared" / "data"
    return folder if folder.is_dir() else None


@pytest.fixture(scope="session")
def data_root() -> Path:
    """Folder with the real data sets; the test is skipped where there is none."""
    folder = _data_root()
    if folder is None:
        pytest.skip("no real data: set TERRACAUSAL_DATA to their folder")
    return folder


@pytest.fixture(scope="session")
def reference_root(data_root) -> Path:
    """Folder with stored reference output, beside the data."""
    folder = data_root.parent / "reference"
    if not folder.is_dir():
        pytest.skip(f"no reference output beside {data_root}")
    return folder


@pytest.fixture(params=[int(s) for s in os.environ.get("TERRACAUSAL_SEEDS", "42").split(",")])
def seed(request) -> int:
    """One seed by default; TERRACAUSAL_SEEDS=0,1,2 repeats stochastic tests for each."""
    return request.param


@pytest.fixture
def rng(seed) -> np.random.Generator:
    """Generator of the seed."""
    return np.random.default_rng(seed)
