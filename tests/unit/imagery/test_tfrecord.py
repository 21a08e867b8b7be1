"""Records of causalimages: the bytes of the package itself, the same arrays, damage by name."""

import gzip
import hashlib
import pickle
import runpy
import struct
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from terracausal._foundation.errors import AlignmentError, BandError, ChipReadError
from terracausal.imagery.sources.image_records import decode_record, decode_tensor
from terracausal.imagery.sources.tfrecord import index_records, masked_crc32c, read_tfrecord

make = runpy.run_path(str(Path(__file__).parents[2] / "data" / "causalimages" / "make.py"))

# keys, in their order, and checksum of the ExampleRecord.tfrecord that TensorFlow wrote for the
# tests of causalimages (commit 2c9e392); the file itself is not part of this project
ORIGINAL_SHA256 = "b7050c859d1db4204802912a0c6da3515c101fe26e791880d02e61bed0dbbced"
# fmt: off
ORIGINAL_KEYS = list(map(str, [
    199, 110, 224, 124, 146, 184, 227, 330, 97, 79, 264, 59, 55, 176, 175, 182, 133, 163, 308,
    159, 78, 54, 112, 241, 114, 135, 60, 122, 58, 291, 106, 83, 219, 40, 149, 183, 119, 104,
    325, 286, 253, 100, 157, 131, 52, 51, 22, 221, 41, 300, 255, 269, 270, 85, 297, 56, 35, 177,
    160, 295, 248, 21, 166, 17, 12, 278, 123, 276, 62, 186, 279, 105, 145, 312, 272, 32, 76, 29,
    138, 327, 230, 28,
]))
# fmt: on


@pytest.fixture(scope="module")
def tutorial(data_root):
    """Images of the tutorial of causalimages by key, (height, width, n_bands)."""
    from terracausal.datasets.uganda_yop import read_rdata

    raw = read_rdata(data_root / "uganda_yop" / "CausalImagesTutorialData.RData")
    keys = [str(int(key)) for key in np.asarray(raw["KeysOfImages"])]
    return dict(zip(keys, np.asarray(raw["FullImageArray"]), strict=True))


@pytest.fixture
def small(tmp_path):
    path = tmp_path / "small.tfrecord"
    images = make["small_images"]()
    make["write_record"](path, images)
    return path, images


def frames(data):
    """Return the frames of a file, each with its header and checksum."""
    place, found = 0, []
    while place < len(data):
        (length,) = struct.unpack_from("<Q", data, place)
        found.append(data[place : place + length + 16])
        place += length + 16
    return found


def test_the_maker_writes_the_bytes_of_the_package(tutorial, tmp_path):
    path = tmp_path / "original.tfrecord"
    make["write_record"](path, {key: tutorial[key] for key in ORIGINAL_KEYS})
    assert hashlib.sha256(path.read_bytes()).hexdigest() == ORIGINAL_SHA256


def test_every_image_of_the_rdata_comes_back(tutorial, tmp_path):
    path = tmp_path / "all.tfrecord"
    make["write_record"](path, tutorial)
    chips = read_tfrecord(path, bands=["green", "nir", "swir1"], resolution_m=14.25)
    assert list(chips) == list(tutorial)
    assert len(chips) == 327
    for key, image in tutorial.items():
        np.testing.assert_array_equal(chips[key], np.moveaxis(image, -1, 0)[None])


def test_same_chips_as_the_data_set(data_root, tutorial, tmp_path):
    from terracausal.datasets import load_dataset

    chips = load_dataset("uganda_yop", root=data_root).chips
    path = tmp_path / "some.tfrecord"
    make["write_record"](path, {key: tutorial[key] for key in ORIGINAL_KEYS})
    sites = chips.sites.loc[[int(key) for key in ORIGINAL_KEYS]]
    decoded = read_tfrecord(path, sites, bands=chips.bands)
    assert decoded.sites.equals(sites)
    for site in sites.index:
        np.testing.assert_array_equal(decoded[site], chips[site])


def test_small_record(small):
    path, images = small
    chips = read_tfrecord(path, bands=["red", "nir"])
    assert (chips.bands, chips.size_px, chips.n_times, chips.times) == (
        ("red", "nir"),
        (4, 5),
        1,
        None,
    )
    assert set(chips.manifest["status"]) == {"ok"}
    assert set(chips.manifest["source"]) == {str(path)}
    for key, image in images.items():
        assert chips[key].dtype == np.float32
        np.testing.assert_array_equal(chips[key][0], image.transpose(2, 0, 1))
    chips["7"][:] = 0
    assert chips["7"].any()


def test_sequences_keep_their_times(tmp_path, rng):
    image = rng.integers(0, 256, (3, 4, 5, 2))
    path = tmp_path / "video.tfrecord"
    make["write_record"](path, {"a": image})
    dates = ["2001-01-01", "2002-01-01", "2003-01-01"]
    chips = read_tfrecord(path, times=dates)
    np.testing.assert_array_equal(chips["a"], image.transpose(0, 3, 1, 2))
    assert list(chips.times.strftime("%Y-%m-%d")) == dates
    with pytest.raises(ValueError, match=r"date the 3 images .* got 2"):
        read_tfrecord(path, times=dates[:2])


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "uint8", "int16", "int32"])
def test_dtypes_keep_their_numbers(tmp_path, dtype):
    image = np.array([[[0, 1, 127]]])
    path = tmp_path / "typed.tfrecord"
    make["write_record"](path, {"a": image}, dtype=dtype)
    assert read_tfrecord(path)["a"].ravel().tolist() == [0, 1, 127]


def test_bfloat16_is_exact():
    # 1.5 and -2 in bfloat16 are the upper halves of their float32
    content = np.array([0x3FC0, 0xC000], dtype="<u2").tobytes()
    message = bytes([8, 14, 18, 4, 18, 2, 8, 2, 34, 4]) + content
    assert decode_tensor(message).tolist() == [1.5, -2.0]


def test_missing_pixels_stay_missing_and_overflow_is_refused(tmp_path):
    image = np.array([[[1.0], [np.nan]]])
    path = tmp_path / "nan.tfrecord"
    make["write_record"](path, {"a": image, "b": image + 1})
    chips = read_tfrecord(path)
    np.testing.assert_array_equal(chips["a"].ravel(), [1, np.nan])
    assert set(chips.manifest["status"]) == {"partial"}
    make["write_record"](path, {"a": image, "b": image + 70_000})
    with pytest.raises(ValueError, match=r"Site 'b' .*1 of 2 are infinite"):
        read_tfrecord(path)


def test_sites_are_matched_by_key(small):
    path, images = small
    sites = pd.DataFrame({"lon": [33.0, 34, 35], "lat": [1.0, 2, 3]}, index=[99, 7, 12])
    chips = read_tfrecord(path, sites)
    assert list(chips) == [7, 12]
    np.testing.assert_array_equal(chips[12][0], images["12"].transpose(2, 0, 1))
    status = chips.manifest.set_index("site")["status"]
    assert status.to_dict() == {99: "missing", 7: "ok", 12: "ok"}
    assert "sites without a record, left out: 1 (99)" in chips.describe()
    assert "records without a site, ignored: 1" in chips.describe()
    assert list(read_tfrecord(path, [7.0, 12.0])) == [7.0, 12.0]
    with pytest.raises(AlignmentError, match=r"looked for 8, 9 and found the keys '12'"):
        read_tfrecord(path, [8, 9])
    with pytest.raises(AlignmentError, match="7, '7'"):
        read_tfrecord(path, pd.Index([7, "7"], dtype=object))


def test_chips_pickle(small):
    path, images = small
    chips = pickle.loads(pickle.dumps(read_tfrecord(path)))
    np.testing.assert_array_equal(chips["7"][0], images["7"].transpose(2, 0, 1))


def test_order_of_records_and_features_is_free(small, tmp_path):
    path, images = small
    turned = tmp_path / "turned.tfrecord"
    turned.write_bytes(b"".join(reversed(frames(path.read_bytes()))))
    chips = read_tfrecord(turned)
    assert list(chips) == ["Arua", "7", "12"]
    for key, image in images.items():
        np.testing.assert_array_equal(chips[key][0], image.transpose(2, 0, 1))


def test_bad_band_names(small):
    with pytest.raises(BandError, match=r"name the 2 bands .* got 1: 'red'"):
        read_tfrecord(small[0], bands=["red"])


@pytest.mark.parametrize("cut", [1, 5, 11, 12, 40, -1, -4])
def test_truncated_files_name_the_record(small, cut):
    path, _ = small
    data = path.read_bytes()
    first = len(frames(data)[0])
    path.write_bytes(data[: first + cut] if cut > 0 else data[:cut])
    start = first if cut > 0 else first + len(frames(data)[1])
    with pytest.raises(ChipReadError, match=f"within the record that begins at byte {start}"):
        read_tfrecord(path)


def test_every_flipped_byte_is_noticed(tmp_path):
    path = tmp_path / "flipped.tfrecord"
    make["write_record"](path, {"a": np.array([[[1, 2]]])})
    data = path.read_bytes()
    for place in range(len(data)):
        path.write_bytes(data[:place] + bytes([data[place] ^ 0x10]) + data[place + 1 :])
        with pytest.raises(ChipReadError, match="fails its checksum"):
            index_records(path)


def test_damage_after_opening_is_noticed(small):
    path, _ = small
    chips = read_tfrecord(path)
    data = bytearray(path.read_bytes())
    data[len(frames(bytes(data))[0]) + 200] ^= 1
    path.write_bytes(data)
    chips["12"]
    with pytest.raises(ChipReadError, match=r"fails its checksum"):
        chips["7"]


def test_a_header_that_announces_exabytes_allocates_nothing(tmp_path):
    length = struct.pack("<Q", 2**62)
    path = tmp_path / "large.tfrecord"
    path.write_bytes(length + struct.pack("<I", masked_crc32c(length)) + bytes(100))
    with pytest.raises(ChipReadError, match="begins at byte 0; it has 112 bytes"):
        index_records(path)


def test_a_tensor_that_announces_exabytes_allocates_nothing():
    axis = make["field"](2, make["number_field"](1, 2**62))
    message = b"\x08\x04" + make["field"](2, axis * 2) + make["field"](4, b"\x01")
    with pytest.raises(ValueError, match=f"needs {2**124} bytes and holds 1"):
        decode_tensor(message)


@pytest.mark.parametrize(
    ("message", "match"),
    [
        (b"\x08\x02\x22", "an integer does not end"),
        (b"\x08" + b"\xff" * 11, "an integer does not end"),
        (b"\x22\x05ab", "a field of 5 bytes has 2 left"),
        (b"\x0b", "wire type 3"),
        (b"\x08\x15", "type number 21"),
        (b"\x08\x07\x12\x00", "holds 0 texts"),
        (b"\x08\x03\x12\x00\x22\x02\x01\x01", "needs 4 bytes and holds 2"),
        (b"\x08\x04" + b"\x12\x0d\x12\x0b\x08" + b"\xff" * 9 + b"\x01", "axis of length -1"),
    ],
)
def test_messages_that_are_no_tensors(message, match):
    with pytest.raises(ValueError, match=match):
        decode_tensor(message)


def changed(**features):
    """Return an Example in which some features are replaced or, where None, left out."""
    own = {
        "key": make["bytes_feature"](make["text_tensor"]("a")),
        "height": make["int_feature"](1),
        "width": make["int_feature"](2),
        "channels": make["int_feature"](1),
        "raw_image": make["bytes_feature"](make["pixel_tensor"](np.zeros((1, 1, 2, 1), "uint8"))),
    } | features
    entries = [
        make["field"](1, make["field"](1, name.encode()) + make["field"](2, value))
        for name, value in own.items()
        if value is not None
    ]
    return make["field"](1, b"".join(entries))


@pytest.mark.parametrize(
    ("features", "match"),
    [
        (
            {"key": None},
            "features 'key' not found among 'height', 'width', 'channels', 'raw_image'",
        ),
        ({"height": make["int_feature"](2)}, r"\(1, 1, 2, 1\) .* say \(2, 2, 1\)"),
        ({"height": make["int_feature"](0)}, r"say \(0, 2, 1\)"),
        ({"height": make["bytes_feature"](b"1")}, "`height` must hold one int"),
        ({"key": make["bytes_feature"](make["pixel_tensor"](np.zeros(1, "uint8")))}, "`key` must"),
        ({"key": make["bytes_feature"](b"\x08\x07\x12\x00\x42\x01\xff")}, "decode byte 0xff"),
        ({"raw_image": make["bytes_feature"](make["text_tensor"]("a"))}, "dtype object"),
    ],
)
def test_examples_of_other_writers_are_refused(tmp_path, features, match):
    assert decode_record(changed()).pixels.shape == (1, 1, 1, 2)
    with pytest.raises(ValueError, match=match):
        decode_record(changed(**features))
    path = tmp_path / "other.tfrecord"
    path.write_bytes(make["frame"](changed()) + make["frame"](changed(**features)))
    with pytest.raises(ChipReadError, match=r"record 2 at byte \d+ is not a record of"):
        index_records(path)


def test_unpacked_integers_are_read_too():
    height = make["field"](3, b"\x08\x01")  # one varint, not a packed list
    assert decode_record(changed(height=height)).pixels.shape == (1, 1, 1, 2)


def test_files_that_are_no_records(tmp_path, small):
    path = tmp_path / "x.tfrecord"
    with pytest.raises(ChipReadError, match=r"x\.tfrecord could not be opened \(No such file"):
        read_tfrecord(path)
    path.write_bytes(b"")
    with pytest.raises(ChipReadError, match="holds no record; it has 0 bytes"):
        read_tfrecord(path)
    path.write_bytes(gzip.compress(small[0].read_bytes()))
    with pytest.raises(ChipReadError, match=r"header at byte 0 of .* is compressed"):
        read_tfrecord(path)
    path.write_bytes(small[0].read_bytes() * 2)
    with pytest.raises(AlignmentError, match=r"'12' stands in two records .* at bytes 12 and"):
        read_tfrecord(path)


def test_records_of_different_shape_are_refused(tmp_path):
    path = tmp_path / "shapes.tfrecord"
    make["write_record"](path, {"a": np.zeros((2, 2, 1)), "b": np.zeros((2, 3, 1))})
    with pytest.raises(ChipReadError, match=r"site 'b' has \(1, 1, 2, 3\)"):
        read_tfrecord(path)


def test_tensorflow_is_not_imported(small):
    read_tfrecord(small[0])
    assert "tensorflow" not in sys.modules
