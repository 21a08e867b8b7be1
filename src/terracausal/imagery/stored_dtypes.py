"""Which integers a source stores, so that a store can keep them."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from terracausal.imagery.bands import BandPairs
from terracausal.imagery.encoding import DTYPES, WIDER, Encoding
from terracausal.imagery.plan import SitePlan, turned
from terracausal.imagery.readers import ArrayReader, ViewReader
from terracausal.imagery.source_reader import SourceReader
from terracausal.imagery.sources.base import Layer
from terracausal.imagery.sources.windows import whole_offset

# methods that choose one of the stored numbers, where the others average
_CHOOSING = {"nearest", "mode", "max", "min"}


def advised_encoding(reader: Any) -> Encoding:
    """Return the encoding in which the source of a reader keeps its pixels; float32 if unknown.

    Parameters
    ----------
    reader : ChipReader
        May say it itself by an attribute `encoding`.

    Examples
    --------
    >>> advised_encoding(ArrayReader(np.ones((1, 1, 1, 2, 2), dtype="int16"), ["a"])).dtype
    'int16'
    """
    if isinstance(reader, ArrayReader):
        return _of_dtype(reader._array.dtype)
    if isinstance(reader, ViewReader):
        return _of_bands(advised_encoding(reader._reader), reader._positions)
    if isinstance(reader, SourceReader):
        keeps = set(reader._methods) <= _CHOOSING or _keeps_pixels(reader.layers, reader.plans)
        used = {k for plan in reader.plans.values() for part in plan.parts for k, _ in part}
        given = [(reader.layers[k], reader._pairs[k]) for k in sorted(used)]
        return encoding_of_layers(given, len(reader._methods)) if keeps else Encoding()
    found = getattr(reader, "encoding", None)
    return found if isinstance(found, Encoding) else Encoding()


def reads_source(reader: Any) -> bool:
    """Say whether pixels come as they are from a source, whose plan tells what may be missing."""
    if isinstance(reader, ViewReader):
        return reads_source(reader._reader)
    return isinstance(reader, SourceReader)


def unseen_encoding(reader: Any, *, padded: bool) -> Encoding:
    """Return the encoding of pixels that nobody has looked at; it holds whatever they may be.

    Where a pixel may be missing and the source has no number for it, the stored integers are wider
    than those of the source, so that a number is left.

    Parameters
    ----------
    reader : ChipReader
        For which `reads_source` holds.
    padded : bool
        Whether shorter sequences are filled up, so that something is missing in any case.
    """
    advised = advised_encoding(reader)
    if advised.dtype == "float32" or advised.nodata is not None:
        return advised
    while isinstance(reader, ViewReader):
        reader = reader._reader
    if not padded and reader.is_complete:
        return advised
    wider = WIDER.get(advised.dtype)
    if wider is None:
        return Encoding()
    limits = np.iinfo(wider)
    nodata = int(limits.min or limits.max)
    return Encoding(wider, nodata, advised.scale, advised.offset)


def encoding_of_layers(given: Iterable[tuple[Layer, BandPairs]], n_bands: int) -> Encoding:
    """Return the encoding that all layers share, float32 if they differ.

    Parameters
    ----------
    given : iterable of (Layer, BandPairs)
        Every layer that is read, and what it gives to the bands of the chips.
    n_bands : int
        Of the chips.

    Returns
    -------
    Encoding
        Its nodata is None where the layers or their bands differ in it.

    Examples
    --------
    >>> layer = Layer("a.tif", ("red",), dtype="uint16", nodata=(0.0,), scale=(0.5,), offset=(1.0,))
    >>> encoding_of_layers([(layer, ((0, 0),))], 1)
    Encoding(dtype='uint16', nodata=0, scale=(0.5,), offset=(1.0,))
    """
    dtypes: set[str] = set()
    marks: set[float | None] = set()
    lines: list[set[tuple[float, float]]] = [set() for _ in range(n_bands)]
    for layer, pairs in given:
        dtypes.add(layer.dtype)
        for target, k in pairs:
            marks.add(layer.nodata[k] if layer.nodata else None)
            scale = layer.scale[k] if layer.scale else 1.0
            offset = layer.offset[k] if layer.offset else 0.0
            lines[target].add((scale, offset))
    if len(dtypes) != 1 or any(len(line) != 1 for line in lines):
        return Encoding()
    dtype = _of_dtype(np.dtype(dtypes.pop())).dtype
    if dtype == "float32":
        return Encoding()
    scales = tuple(scale for line in lines for scale, _ in line)
    offsets = tuple(offset for line in lines for _, offset in line)
    plain = set(scales) == {1.0} and set(offsets) == {0.0}
    mark = marks.pop() if len(marks) == 1 else None
    return Encoding(
        dtype,
        int(mark) if mark is not None and _holds(dtype, mark) else None,
        () if plain else scales,
        () if plain else offsets,
    )


def _of_bands(encoding: Encoding, positions: tuple[int, ...] | None) -> Encoding:
    if positions is None or not (encoding.scale or encoding.offset):
        return encoding
    scale, offset = (
        tuple(numbers[k] for k in positions) if numbers else ()
        for numbers in (encoding.scale, encoding.offset)
    )
    return Encoding(encoding.dtype, encoding.nodata, scale, offset)


def _keeps_pixels(layers: Sequence[Layer], plans: Mapping[Any, SitePlan]) -> bool:
    """Say whether every chip consists of pixels of its layers, none resampled."""
    for plan in plans.values():
        for k, turn in {turn for part in plan.parts for turn in part}:
            layer = turned(layers[k], turn)
            if layer.grid is None or whole_offset(layer.grid, plan.grid) is None:
                return False
    return True


def _of_dtype(dtype: np.dtype[Any]) -> Encoding:
    """Return the encoding of a dtype; wider integers fit 32 bits, or chips would not hold them."""
    if dtype.kind in "ui" and dtype.itemsize > 4:
        return Encoding("int32")
    name = "uint8" if dtype.kind == "b" else dtype.name
    return Encoding(name) if name in DTYPES else Encoding()


def _holds(dtype: str, mark: float) -> bool:
    limits = np.iinfo(dtype)
    return bool(float(mark).is_integer() and limits.min <= mark <= limits.max)
