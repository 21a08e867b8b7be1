"""One checksum of a value made of plain values, arrays, tensors and objects of these."""

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from functools import singledispatch
from types import MethodType
from typing import Any

import numpy as np
import pandas as pd

from terracausal.encoders.base import ChipEncoder

HOW_NOT_WHAT = frozenset({"batch_size", "n_jobs"})
"""Settings that decide how much is computed at once, and not what."""


def digest_of(value: Any) -> str:
    """Return a checksum of a value made of plain values, arrays, tensors and objects of these.

    Examples
    --------
    >>> digest_of({"a": (1, 2), "b": None}) == digest_of({"b": None, "a": [1, 2]})
    True
    """
    hashed = hashlib.sha256()
    for piece in _pieces(value):
        hashed.update(len(piece).to_bytes(8, "little"))  # so that pieces cannot run together
        hashed.update(piece)
    return hashed.hexdigest()[:32]


@singledispatch
def _pieces(value: Any) -> Iterator[bytes]:
    """Yield the bytes of a value, its kind first."""
    if callable(getattr(value, "state_dict", None)):  # a network
        yield from _of(f"network {value!r}", [dict(value.state_dict())])
    elif callable(getattr(value, "detach", None)):  # a tensor
        yield from _tensor_pieces(value)
    elif hasattr(value, "__qualname__") and not isinstance(value, MethodType):
        yield _function_name(value)
    else:  # as pickling sees it
        kind = f"{type(value).__module__}.{type(value).__qualname__}"
        made = value.__reduce_ex__(2)
        parts = made if isinstance(made, tuple) else (made,)
        items = [list(part) if isinstance(part, Iterator) else part for part in parts]
        yield from _of(kind, items)


@_pieces.register(type(None))
@_pieces.register(bool | int | float | complex | str | bytes)
def _(value: Any) -> Iterator[bytes]:
    yield f"{type(value).__name__} {value!r}".encode()


@_pieces.register
def _(value: os.PathLike) -> Iterator[bytes]:  # type: ignore[type-arg]
    yield f"path {os.fspath(value)!r}".encode()


@_pieces.register
def _(value: np.generic) -> Iterator[bytes]:
    yield from _pieces(value.item() if value.dtype.kind in "biufU" else np.asarray(value))


@_pieces.register
def _(value: np.ndarray) -> Iterator[bytes]:
    if value.dtype.kind == "O":
        yield from _of(f"objects {value.shape}", value.ravel().tolist())
    else:
        yield f"array {value.dtype.str} {value.shape}".encode()
        yield np.ascontiguousarray(value).tobytes()


@_pieces.register
def _(value: np.random.Generator) -> Iterator[bytes]:
    yield b"a generator"  # what was drawn from it is part of the fitted attributes


@_pieces.register(pd.Series | pd.DataFrame)
def _(value: Any) -> Iterator[bytes]:
    yield from _of("table", [*value.axes, value.to_numpy()])


@_pieces.register(list | tuple | pd.Index)
def _(value: Any) -> Iterator[bytes]:
    yield from _of("sequence", list(value))


@_pieces.register(set | frozenset)
def _(value: Any) -> Iterator[bytes]:
    yield from _of("set", sorted(map(digest_of, value)))


@_pieces.register
def _(value: Mapping) -> Iterator[bytes]:  # type: ignore[type-arg]
    kept = {repr(key): part for key, part in value.items() if key not in HOW_NOT_WHAT}
    yield from _of("mapping", [half for name in sorted(kept) for half in (name, kept[name])])


@_pieces.register
def _(value: ChipEncoder) -> Iterator[bytes]:
    # private attributes are kept for speed; pickling may leave them out
    kept: dict[str, Any] = dict(value.__getstate__())  # type: ignore[call-overload]
    state = {name: part for name, part in kept.items() if name[0] != "_"}
    yield from _of(f"{type(value).__module__}.{type(value).__qualname__}", [state])


def _of(kind: str, parts: Sequence[Any]) -> Iterator[bytes]:
    yield f"{kind} of {len(parts)}".encode()
    for part in parts:
        yield from _pieces(part)


def _function_name(value: Any) -> bytes:
    name = f"{value.__module__}.{value.__qualname__}"
    if "<" in name:
        kind = "class" if isinstance(value, type) else "function"
        raise ValueError(
            f"A setting of what is kept must be told from others; the {kind} {name!r} has no name "
            "of its own. Define it in a module."
        )
    return name.encode()


def _tensor_pieces(value: Any) -> Iterator[bytes]:
    import torch

    yield f"tensor {value.dtype} {tuple(value.shape)}".encode()
    # as bytes, because NumPy has no bfloat16
    yield value.detach().cpu().reshape(-1).contiguous().view(torch.uint8).numpy().tobytes()
