"""Image records of the R package causalimages, read without TensorFlow.

A TFRecord file is a row of frames: length (uint64), masked CRC-32C of the length (uint32), payload,
masked CRC-32C of the payload (uint32), all little-endian [1]_. Each payload is a protocol buffer
`tf.train.Example`, a map of named features. `causalimages::WriteTfRecord` stores `height`, `width`,
`channels`, `index`, `time` (sequences only), and as serialized tensors `raw_image` and `key`; they
are decoded in `image_records`.

.. [1] https://www.tensorflow.org/tutorials/load_data/tfrecord#tfrecords_format_details
"""

import struct
from collections.abc import Hashable, Iterator, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pandas as pd
import pyproj
from numpy.typing import NDArray

from terracausal._foundation.checks import check_positive
from terracausal._foundation.errors import AlignmentError, BandError, ChipReadError, list_some
from terracausal._foundation.optional import require
from terracausal._foundation.progress import track
from terracausal.imagery.chips import Chips
from terracausal.imagery.places import site_table
from terracausal.imagery.readers import band_tuple, to_float32
from terracausal.imagery.records import ChipRecord, inspect_chip
from terracausal.imagery.sources.image_records import decode_record

_HEADER = struct.Struct("<QI")
_CHECKSUM = struct.Struct("<I")
_MASK_DELTA = 0xA282EAD8


def read_tfrecord(
    path: str | PathLike[str],
    sites: Any = None,
    *,
    bands: Sequence[str] | None = None,
    times: Any = None,
    crs: Any = None,
    resolution_m: float | None = None,
) -> Chips:
    """Read the chips that `causalimages::WriteTfRecord` wrote, without TensorFlow.

    The file is read once, record by record, and its checksums are verified; afterwards a chip is
    read again whenever it is asked for. What the file does not say (positions, bands, dates, length
    of a pixel) can be given.

    Parameters
    ----------
    path : path
        The .tfrecord file.
    sites : GeoDataFrame, DataFrame or sequence of keys, default=None
        Sites wanted, keyed by the keys of the images; numbers find keys written as text. None takes
        all keys of the file, as text, in its order.
    bands : sequence of str, default=None
        Names of the bands; None gives band_1, band_2, ….
    times : sequence of dates, default=None
        Date of each image of a sequence; None when they are undated.
    crs : CRS or anything pyproj reads, default=None
        Coordinate reference system of the pixel grids.
    resolution_m : float, default=None
        Length of a pixel in metres.

    Returns
    -------
    Chips
        With a chip for every site that has a record; the manifest also lists sites without.

    Raises
    ------
    ChipReadError
        If the file is absent, truncated, fails a checksum, or holds other messages than those of
        causalimages.
    AlignmentError
        If two records have one key, or no site has a record.
    BandError
        If `bands` does not name the bands of the file.
    ValueError
        If pixels are infinite, which is what the half precision of the package makes of numbers
        above 65,504.

    Notes
    -----
    The package stores float16 by default: whole numbers above 2,048 have lost their last digits
    before they got here, and nothing can bring them back.

    Examples
    --------
    >>> import tempfile
    >>> record = bytes.fromhex(
    ...     "8700000000000000b86f57e60a84010a130a036b6579120c0a0a0a0808071200420231320a0f0a06686569"
    ...     "67687412051a030a01010a110a086368616e6e656c7312051a030a01020a0e0a0577696474681205"
    ...     "1a030a01010a290a097261775f696d616765121c0a1a0a1808041210120208011202080112020801"
    ...     "12020802220207090a0e0a05696e64657812051a030a0101e1ff3e47"
    ... )
    >>> path = Path(tempfile.mkdtemp()) / "corpus.tfrecord"
    >>> _ = path.write_bytes(record)
    >>> chips = read_tfrecord(path, bands=["red", "nir"])
    >>> chips
    Chips(1 site, 1 time, 2 bands, 1 x 1 px)
    >>> chips["12"].ravel().tolist()
    [7.0, 9.0]
    """
    file = Path(path)
    spans = index_records(file)
    table = site_table(list(spans) if sites is None else sites)
    found = _match(table.index, spans, file)
    if not found:
        raise AlignmentError(
            f"None of the {len(table)} sites has a record in {file}; looked for "
            f"{list_some(table.index)} and found the keys {list_some(spans)}. Index the sites by "
            "the keys of the images."
        )
    reader = TFRecordReader(file, found)
    first = reader.read(next(iter(found)))
    dates = _checked_dates(times, first.shape[0], file)
    names = _checked_bands(bands, first.shape[1], file)
    records = _scan(reader, table.index, dates, first.shape)
    kept = pd.Index(list(found), dtype=table.index.dtype, name="site")
    strangers = len(spans) - len(found)
    absent = [site for site in table.index if site not in found]
    notes = [f"sites without a record, left out: {len(absent)} ({list_some(absent)})"] * bool(
        absent
    ) + [f"records without a site, ignored: {strangers}"] * bool(strangers)
    return Chips(
        reader,
        table.loc[kept],
        records,
        names,
        (int(first.shape[2]), int(first.shape[3])),
        times=None if times is None else pd.DatetimeIndex(dates, name="time"),
        grid=(
            None if crs is None else pyproj.CRS.from_user_input(crs),
            None if resolution_m is None else check_positive("resolution_m", resolution_m),
        ),
        notes=tuple(notes),
    )


class TFRecordReader:
    """Chips read from one TFRecord file when they are asked for.

    Parameters
    ----------
    path : Path
        The file.
    spans : mapping of site to (int, int)
        First byte and length of the payload of each record.
    """

    def __init__(self, path: Path, spans: Mapping[Hashable, tuple[int, int]]) -> None:
        self._path = path
        self._spans = dict(spans)

    def __contains__(self, site: Hashable) -> bool:
        return site in self._spans

    @property
    def source(self) -> str:
        """Path of the file."""
        return str(self._path)

    def read(self, site: Hashable) -> NDArray[np.float32]:
        """Return a new array of shape (n_times, n_bands, height, width)."""
        start, length = self._spans[site]
        with self._path.open("rb") as stream:
            stream.seek(start)
            payload = _checked_payload(stream, length, self._path, start)
        try:
            return to_float32(decode_record(payload).pixels)
        except ValueError as error:
            raise ValueError(f"Site {list_some([site])} in {self._path}: {error}") from error


def index_records(path: Path) -> dict[str, tuple[int, int]]:
    """Return for each key the first byte and the length of its record.

    Parameters
    ----------
    path : Path
        The file; read once, holding one record at a time.

    Returns
    -------
    dict of str to (int, int)
        In the order of the file.
    """
    spans: dict[str, tuple[int, int]] = {}
    for start, payload in track(iterate_payloads(path), "indexing records"):
        try:
            key = decode_record(payload).key
        except ValueError as error:
            raise ChipReadError(
                f"{path}: record {len(spans) + 1} at byte {start} is not a record of causalimages "
                f"({error}). Pass a file written by causalimages::WriteTfRecord."
            ) from error
        if key in spans:
            raise AlignmentError(
                f"Keys must be unique; {key!r} stands in two records of {path}, at bytes "
                f"{spans[key][0]} and {start}. Write each image once."
            )
        spans[key] = (start, len(payload))
    if not spans:
        raise ChipReadError(f"{path} holds no record; it has {path.stat().st_size} bytes.")
    return spans


def iterate_payloads(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield the first byte and the verified payload of each frame of a TFRecord file.

    A length is believed only after its own checksum and where the file is that long, so a damaged
    header cannot ask for more memory than the file has bytes.

    Parameters
    ----------
    path : Path
        Any TFRecord file without compression.
    """
    try:
        stream = path.open("rb")
    except OSError as error:
        raise ChipReadError(f"{path} could not be opened ({error.strerror}).") from error
    with stream:
        size = path.stat().st_size
        while (start := stream.tell()) < size:
            header = stream.read(_HEADER.size)
            if len(header) < _HEADER.size:
                raise _truncated(path, start, size)
            length, checksum = _HEADER.unpack(header)
            if checksum != masked_crc32c(header[:8]):
                kind = "is compressed" if header[:2] == b"\x1f\x8b" else "fails its checksum"
                raise ChipReadError(
                    f"{path}: the header at byte {start} of {size} {kind}, so this is not a plain "
                    "TFRecord or it is damaged. Decompress it or write it again."
                )
            if length + _CHECKSUM.size > size - stream.tell():
                raise _truncated(path, start, size)
            begin = stream.tell()
            yield begin, _checked_payload(stream, length, path, begin)


def masked_crc32c(data: bytes) -> int:
    """Return the CRC-32C of `data`, rotated and shifted as TFRecords store it.

    Parameters
    ----------
    data : bytes
        What is protected.

    Examples
    --------
    >>> hex(masked_crc32c(b"123456789"))
    '0xc78ab0e5'
    """
    crc = int(require("google_crc32c", needed_by="read_tfrecord").value(data))
    return ((crc >> 15 | crc << 17) + _MASK_DELTA) & 0xFFFFFFFF


def _checked_payload(stream: BinaryIO, length: int, path: Path, start: int) -> bytes:
    payload, checksum = stream.read(length), stream.read(_CHECKSUM.size)
    if len(payload) < length or len(checksum) < _CHECKSUM.size:
        raise _truncated(path, start - _HEADER.size, path.stat().st_size)
    if _CHECKSUM.unpack(checksum)[0] != masked_crc32c(payload):
        raise ChipReadError(
            f"{path}: the record at byte {start} ({length} bytes) fails its checksum, so its "
            "pixels are damaged. Copy or write the file again."
        )
    return payload


def _truncated(path: Path, start: int, size: int) -> ChipReadError:
    return ChipReadError(
        f"{path} ends within the record that begins at byte {start}; it has {size} bytes. Its "
        "writer was interrupted, or it was copied in part: write or copy it again."
    )


def _match(
    keys: pd.Index, spans: Mapping[str, tuple[int, int]], path: Path
) -> dict[Hashable, tuple[int, int]]:
    """Return the record of each site, in the order of the sites."""
    texts: dict[str, Hashable] = {}
    for site in keys:
        # integer keys that a missing row turned into floats are still 12
        text = str(int(site)) if isinstance(site, float) and site.is_integer() else str(site)
        if text in texts:
            raise AlignmentError(
                f"Site keys must differ as text, because the keys in {path} are text; "
                f"{list_some([texts[text], site])} do not."
            )
        texts[text] = site
    return {site: spans[text] for text, site in texts.items() if text in spans}


def _checked_dates(times: Any, n_times: int, path: Path) -> list[pd.Timestamp | None]:
    if times is None:
        return [None] * n_times
    dates = pd.DatetimeIndex(pd.to_datetime(pd.Index(times)))
    if len(dates) != n_times or dates.hasnans:
        raise ValueError(
            f"`times` must date the {n_times} images of each record of {path}; got {len(dates)}, "
            f"{np.count_nonzero(dates.isna())} of them no date."
        )
    return list(dates)


def _checked_bands(bands: Sequence[str] | None, n_bands: int, path: Path) -> tuple[str, ...]:
    if bands is None:
        return tuple(f"band_{number}" for number in range(1, n_bands + 1))
    names = band_tuple(bands)
    if len(names) != n_bands:
        raise BandError(
            f"`bands` must name the {n_bands} bands of {path}; got {len(names)}: "
            f"{list_some(names, 20)}."
        )
    return names


def _scan(
    reader: TFRecordReader,
    keys: pd.Index,
    dates: Sequence[pd.Timestamp | None],
    shape: tuple[int, ...],
) -> list[ChipRecord]:
    """Read every chip once, holding one at a time."""
    records: list[ChipRecord] = []
    for site in track(keys, "reading chips"):
        if site not in reader:
            records.append(ChipRecord(site, None, "missing", float("nan")))
            continue
        pixels = reader.read(site)
        if pixels.shape != shape:
            raise ChipReadError(
                f"All records must have the shape of the first, {shape} (times, bands, height, "
                f"width); site {list_some([site])} has {pixels.shape}. Write records of one shape, "
                "or read these sites apart."
            )
        records += inspect_chip(site, pixels, list(dates), reader.source)
    return records
