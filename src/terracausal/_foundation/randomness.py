"""Randomness without global state: one seed in, independent generators out."""

from typing import TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

RandomState: TypeAlias = int | np.random.Generator | None


def random_generator(random_state: RandomState) -> np.random.Generator:
    """Return a NumPy generator; 0 is a seed like any other.

    Parameters
    ----------
    random_state : None, int or numpy.random.Generator
        None draws a fresh seed, an integer fixes it, a generator is used as it is.

    Examples
    --------
    >>> int(random_generator(0).integers(100)) == int(random_generator(0).integers(100))
    True
    """
    if random_state is None or isinstance(random_state, np.random.Generator):
        return np.random.default_rng(random_state)
    if isinstance(random_state, bool) or not isinstance(random_state, int | np.integer):
        raise TypeError(
            "`random_state` must be None, an integer or a numpy.random.Generator; "
            f"got {type(random_state).__name__}."
        )
    if random_state < 0:
        raise ValueError(f"`random_state` must not be negative; got {random_state}.")
    return np.random.default_rng(int(random_state))


def draw_seed(generator: np.random.Generator) -> int:
    """Draw a 31-bit integer seed for a library that takes only integers."""
    return int(generator.integers(2**31 - 1))


def canonical_order(keys: pd.Index) -> NDArray[np.intp]:
    """Return the positions that sort `keys`, so that the order of rows never reaches a number.

    Keys that cannot be compared with each other are sorted by type and text.

    Examples
    --------
    >>> canonical_order(pd.Index(["b", "a"])).tolist()
    [1, 0]
    """
    try:
        return np.asarray(keys.argsort(), dtype=np.intp)
    except TypeError:
        words = pd.Series([f"{type(key).__name__} {key}" for key in keys], dtype=str)
        return np.asarray(words.argsort(kind="stable"), dtype=np.intp)
