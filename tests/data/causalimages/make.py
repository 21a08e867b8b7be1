"""Write TFRecords as the R package causalimages writes them, without TensorFlow.

    python make.py small.tfrecord

writes three simulated images. Written from the published formats, apart from the reader that it
tests: TFRecord framing (length, masked CRC-32C, payload, masked CRC-32C), the protocol buffer
`Example` (a map of features), and inside two of its features a `TensorProto`, because the package
stores pixels and key through `tf.io.serialize_tensor`. The order of the features is that of a file
made by the package, so that the same pixels give the same bytes.
"""

import struct
import sys
from pathlib import Path

import google_crc32c
import numpy as np

TENSOR_TYPES = {"float32": 1, "float64": 2, "int32": 3, "uint8": 4, "int16": 5, "float16": 19}
STRING = 7


def varint(number):
    parts = []
    while number > 0x7F:
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*parts, number])


def field(number, payload):
    """Return a length-delimited field."""
    return varint(number << 3 | 2) + varint(len(payload)) + payload


def number_field(number, value):
    return varint(number << 3) + varint(value)


def shape_of(array):
    return field(2, b"".join(field(2, number_field(1, length)) for length in array.shape))


def pixel_tensor(array):
    return (
        number_field(1, TENSOR_TYPES[array.dtype.name])
        + shape_of(array)
        + field(4, np.ascontiguousarray(array).tobytes())
    )


def text_tensor(text):
    return number_field(1, STRING) + field(2, b"") + field(8, text.encode())


def bytes_feature(payload):
    return field(1, field(1, payload))


def int_feature(value):
    return field(3, field(1, varint(value)))


def example(key, index, image):
    """Return one record; `image` is (height, width, n_bands) or (n_times, height, width, n_bands).

    As in the package, the tensor keeps the axis of length one that its loader returns.
    """
    height, width, n_bands = image.shape[-3:]
    features = [
        ("key", bytes_feature(text_tensor(str(key)))),
        ("height", int_feature(height)),
        ("channels", int_feature(n_bands)),
        ("width", int_feature(width)),
        ("raw_image", bytes_feature(pixel_tensor(image[None]))),
        ("index", int_feature(index)),
    ]
    if image.ndim == 4:
        features.insert(0, ("time", int_feature(len(image))))
    entries = [field(1, field(1, name.encode()) + field(2, value)) for name, value in features]
    return field(1, b"".join(entries))


def masked_crc(payload):
    crc = google_crc32c.value(payload)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def frame(payload):
    length = struct.pack("<Q", len(payload))
    return length + masked_crc(length) + payload + masked_crc(payload)


def write_record(path, images, dtype="float16"):
    """Write a mapping of key to image, in its order."""
    with np.errstate(over="ignore"):
        frames = [
            frame(example(key, index, np.asarray(image).astype(dtype)))
            for index, (key, image) in enumerate(images.items(), start=1)
        ]
    Path(path).write_bytes(b"".join(frames))


def small_images():
    """Return three images of 4 x 5 pixels and 2 bands, whole numbers from 0 to 255."""
    rng = np.random.default_rng(0)
    return {key: rng.integers(0, 256, (4, 5, 2)) for key in ("12", "7", "Arua")}


if __name__ == "__main__":
    write_record(sys.argv[1], small_images())
