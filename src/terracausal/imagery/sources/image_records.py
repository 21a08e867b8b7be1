"""Protocol buffer messages of image records, as far as causalimages and TensorFlow use them.

    Example      1: Features
    Features     1: map of str to Feature, each entry 1: name, 2: Feature
    Feature      1: BytesList or 3: Int64List, each 1: values
    TensorProto  1: type, 2: TensorShape (2: axes, 1: length), 4: tensor_content, 8: string_val

The wire format is that of https://protobuf.dev/programming-guides/encoding/.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from terracausal._foundation.errors import list_some

_STRING = 7
_BFLOAT16 = 14
_TENSOR_TYPES = {
    1: "<f4",
    2: "<f8",
    3: "<i4",
    4: "u1",
    5: "<i2",
    6: "i1",
    9: "<i8",
    10: "?",
    _BFLOAT16: "<u2",
    17: "<u2",
    19: "<f2",
    22: "<u4",
    23: "<u8",
}
_FEATURES = ("height", "width", "channels", "raw_image", "key")


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """One record of causalimages.

    Parameters
    ----------
    key : str
        Key of the image.
    index : int
        Place that the writer gave it, from 1; 0 when it gave none.
    pixels : ndarray of shape (n_times, n_bands, height, width)
        In the dtype in which they were stored; n_times is 1 for single images.
    """

    key: str
    index: int
    pixels: NDArray[Any]


def decode_record(payload: bytes) -> ImageRecord:
    """Decode one `tf.train.Example` of causalimages.

    Parameters
    ----------
    payload : bytes
        The message without its frame.

    Returns
    -------
    ImageRecord

    Raises
    ------
    ValueError
        If features are missing, or their shape and length contradict each other.
    """
    features = _features(payload)
    absent = [name for name in _FEATURES if name not in features]
    if absent:
        raise ValueError(f"features {list_some(absent)} not found among {list_some(features, 10)}")
    keys = decode_tensor(_only(features, "key", bytes))
    if keys.dtype != object or keys.size != 1:
        raise ValueError(f"`key` must be one text; found {keys.size} of dtype {keys.dtype}")
    names = ["height", "width", "channels"]
    if "time" in features:
        names.insert(0, "time")
    shape = tuple(int(_only(features, name, int)) for name in names)
    pixels = decode_tensor(_only(features, "raw_image", bytes))
    if pixels.dtype == object or min(shape) < 1 or pixels.size != math.prod(shape):
        raise ValueError(
            f"`raw_image` has shape {pixels.shape} and dtype {pixels.dtype}, but "
            f"{list_some(names)} say {shape}"
        )
    frames = pixels.reshape((-1, *shape[-3:]))
    index = int(_only(features, "index", int)) if "index" in features else 0
    return ImageRecord(str(keys.item()), index, np.moveaxis(frames, -1, 1))


def decode_tensor(message: bytes) -> NDArray[Any]:
    """Decode a `TensorProto` as `tf.io.serialize_tensor` makes it.

    Parameters
    ----------
    message : bytes
        Numbers must stand in `tensor_content`, texts in `string_val`.

    Returns
    -------
    ndarray
        Of the stored shape; texts have dtype object, bfloat16 becomes float32, which holds it
        exactly.

    Examples
    --------
    >>> decode_tensor(bytes([8, 4, 18, 4, 18, 2, 8, 2, 34, 2, 7, 9])).tolist()
    [7, 9]
    """
    kind, content = 0, b""
    shape: tuple[int, ...] = ()
    texts: list[str] = []
    for number, value in _fields(message):
        if number == 1 and isinstance(value, int):
            kind = value
        elif number == 2 and isinstance(value, bytes):
            shape = tuple(_dimension(part) for place, part in _fields(value) if place == 2)
        elif number == 4 and isinstance(value, bytes):
            content = value
        elif number == 8 and isinstance(value, bytes):
            texts.append(value.decode("utf-8"))
    if kind == _STRING:
        if len(texts) != math.prod(shape):
            raise ValueError(f"a tensor of shape {shape} holds {len(texts)} texts")
        return np.array(texts, dtype=object).reshape(shape)
    return _numbers(kind, shape, content)


def _numbers(kind: int, shape: tuple[int, ...], content: bytes) -> NDArray[Any]:
    """Return numbers of a TensorFlow type; nothing is allocated that `content` does not fill."""
    if kind not in _TENSOR_TYPES:
        raise ValueError(f"a tensor has the type number {kind}, which is no type of pixels")
    dtype = np.dtype(_TENSOR_TYPES[kind])
    # Python integers, so that a product of damaged lengths cannot wrap around
    needed = math.prod(shape) * dtype.itemsize
    if len(content) != needed:
        raise ValueError(
            f"a tensor of shape {shape} and dtype {dtype} needs {needed} bytes and holds "
            f"{len(content)}"
        )
    values = np.frombuffer(content, dtype=dtype).reshape(shape)
    if kind == _BFLOAT16:
        return (values.astype("<u4") << 16).view("<f4")
    return values


def _features(payload: bytes) -> dict[str, list[Any]]:
    """Return the values of each feature of an Example."""
    features: dict[str, list[Any]] = {}
    for outer, body in _fields(payload):
        for inner, entry in _fields(body) if outer == 1 and isinstance(body, bytes) else ():
            if inner == 1 and isinstance(entry, bytes):
                parts = dict(_fields(entry))
                name, value = parts.get(1, b""), parts.get(2, b"")
                if isinstance(name, bytes) and isinstance(value, bytes):
                    features[name.decode("utf-8")] = _feature_values(value)
    return features


def _feature_values(message: bytes) -> list[Any]:
    """Return the entries of a bytes list (1) or an integer list (3)."""
    values: list[Any] = []
    for kind, body in _fields(message):
        for number, value in _fields(body) if isinstance(body, bytes) else ():
            if number != 1:
                continue
            if kind == 3 and isinstance(value, bytes):  # packed
                place = 0
                while place < len(value):
                    integer, place = _varint(value, place)
                    values.append(_signed(integer))
            elif kind == 3:
                values.append(_signed(int(value)))
            elif kind == 1:
                values.append(value)
    return values


def _only(features: Mapping[str, list[Any]], name: str, kind: type) -> Any:
    values = features[name]
    if len(values) != 1 or not isinstance(values[0], kind):
        raise ValueError(f"`{name}` must hold one {kind.__name__}; found {len(values)} values")
    return values[0]


def _dimension(message: int | bytes) -> int:
    size = 0
    for number, value in _fields(message if isinstance(message, bytes) else b""):
        if number == 1 and isinstance(value, int):
            size = _signed(value)
    if size < 0:
        raise ValueError(f"a tensor has an axis of length {size}")
    return size


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield the number and value of each field of a protocol buffer message."""
    place = 0
    while place < len(message):
        tag, place = _varint(message, place)
        wire = tag & 7
        if wire == 0:
            value, place = _varint(message, place)
            yield tag >> 3, value
            continue
        if wire == 2:
            length, place = _varint(message, place)
        elif wire in (1, 5):
            length = 8 if wire == 1 else 4
        else:
            raise ValueError(f"wire type {wire} is not part of the format")
        if length > len(message) - place:
            raise ValueError(f"a field of {length} bytes has {len(message) - place} left")
        yield tag >> 3, message[place : place + length]
        place += length


def _varint(message: bytes, place: int) -> tuple[int, int]:
    """Return the base-128 integer at a place, and the place after it."""
    value = 0
    for count, byte in enumerate(message[place : place + 10]):
        value |= (byte & 0x7F) << (7 * count)
        if byte < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, place + count + 1
    raise ValueError("an integer does not end")


def _signed(value: int) -> int:
    return value - 2**64 if value >= 2**63 else value
