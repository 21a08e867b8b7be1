"""Encoding: how pixel values are written as stored numbers, without losing any.

value = scale * stored number + offset, in float64, then rounded to float32; nodata means missing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from terracausal._foundation.errors import list_some
from terracausal.imagery.readers import to_float32
from terracausal.imagery.records import ChipRecord, value_range

DTYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "float32")
WIDER = {"uint8": "uint16", "int8": "int16", "uint16": "uint32", "int16": "int32"}


@dataclass(frozen=True, slots=True)
class Encoding:
    """Stored dtype of pixels, and what its numbers mean.

    Parameters
    ----------
    dtype : str, default='float32'
        One of uint8, int8, uint16, int16, uint32, int32 and float32.
    nodata : int, default=None
        Stored number that means missing; None when no pixel is missing. float32 stores NaN itself
        and takes none.
    scale : tuple of float, default=()
        value = scale * stored number + offset, one per band; empty means 1.
    offset : tuple of float, default=()
        One per band; empty means 0.

    Raises
    ------
    ValueError
        If the dtype is unknown, `nodata` does not fit it, or a scale is 0.

    Examples
    --------
    >>> encoding = Encoding("uint16", nodata=0, scale=(0.5,))
    >>> encoding.unpack(encoding.pack(np.array([[[[1.5, np.nan]]]], dtype="float32"))).tolist()
    [[[[1.5, nan]]]]
    """

    dtype: str = "float32"
    nodata: int | None = None
    scale: tuple[float, ...] = ()
    offset: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise ValueError(
                f"The dtype of stored pixels must be one of {list_some(DTYPES, 7)}; got "
                f"{self.dtype!r}."
            )
        if self.dtype == "float32":
            if self.nodata is not None or self.scale or self.offset:
                raise ValueError(
                    "float32 stores values and NaN as they are, so it takes no nodata, scale or "
                    f"offset; got {self}. Choose an integer dtype, or leave them out."
                )
            return
        limits = np.iinfo(self.dtype)
        if self.nodata is not None and (
            int(self.nodata) != self.nodata or not limits.min <= self.nodata <= limits.max
        ):
            raise ValueError(
                f"`nodata` must be a number that {self.dtype} holds, between {limits.min} and "
                f"{limits.max}; got {self.nodata!r}."
            )
        bad = [v for v in self.scale if not (np.isfinite(v) and v)]
        bad += [v for v in self.offset if not np.isfinite(v)]
        if bad:
            raise ValueError(
                f"Scales must be finite and not 0, offsets finite; got {list_some(bad)} in {self}."
            )

    @property
    def fill(self) -> float | int:
        """Stored number of what is missing; 0 when nothing can be."""
        if self.dtype == "float32":
            return float("nan")
        return 0 if self.nodata is None else int(self.nodata)

    @property
    def is_plain(self) -> bool:
        """Whether stored numbers are the values."""
        return set(self.scale) <= {1.0} and set(self.offset) <= {0.0}

    def pack(self, values: NDArray[np.float32]) -> NDArray[Any]:
        """Return the stored numbers of values, shape (n_times, n_bands, height, width).

        Raises
        ------
        ValueError
            If a value would not read back as the same float32.
        """
        return pack_pixels(values, self)

    def unpack(self, stored: NDArray[Any]) -> NDArray[np.float32]:
        """Return the values of stored numbers, float32 with NaN where missing."""
        return unpack_pixels(stored, self)


def pack_pixels(values: NDArray[np.float32], encoding: Encoding) -> NDArray[Any]:
    """Return the stored numbers of `values`, shape (n_times, n_bands, height, width).

    Every number is read back and compared, so an encoding that would change one is refused.
    """
    if encoding.dtype == "float32":
        return np.asarray(values, dtype=np.float32)
    missing = np.isnan(values)
    n_lost = int(missing.sum()) if encoding.nodata is None else 0
    _refuse(n_lost, values[missing], encoding, "missing, without a nodata")
    raw = values.astype(np.float64)
    if not encoding.is_plain:
        scale, offset = (_by_band(v, d, raw) for v, d in _linear(encoding))
        raw = (raw - offset) / scale
    raw = np.rint(np.where(missing, 0.0, raw))
    limits = np.iinfo(encoding.dtype)
    outside = (raw < limits.min) | (raw > limits.max)
    _refuse(int(outside.sum()), values[outside], encoding, f"beyond {limits.min} to {limits.max}")
    stored = raw.astype(encoding.dtype)
    if encoding.nodata is not None:
        taken = (stored == encoding.nodata) & ~missing
        _refuse(int(taken.sum()), values[taken], encoding, f"valid but stored as {encoding.nodata}")
        stored[missing] = encoding.nodata
    changed = (unpack_pixels(stored, encoding) != values) & ~missing
    _refuse(int(changed.sum()), values[changed], encoding, "no stored number")
    return stored


def unpack_pixels(stored: NDArray[Any], encoding: Encoding) -> NDArray[np.float32]:
    """Return the values of stored numbers (…, n_bands, height, width), NaN where missing."""
    if encoding.dtype == "float32":
        return np.asarray(stored, dtype=np.float32)
    if encoding.is_plain:
        values = stored.astype(np.float32)
    else:
        scale, offset = (_by_band(v, d, stored) for v, d in _linear(encoding))
        values = (stored * scale + offset).astype(np.float32)
    if encoding.nodata is not None:
        values[stored == encoding.nodata] = np.nan
    return to_float32(values)


def fit_encoding(
    advised: Encoding, records: Sequence[ChipRecord], n_bands: int, *, padded: bool
) -> Encoding:
    """Return an encoding of the advised dtype whose nodata is no value of any chip.

    Parameters
    ----------
    advised : Encoding
        Of the source; its nodata is kept where it has one.
    records : sequence of ChipRecord
        Of all chips, with the smallest and largest value of each band.
    n_bands : int
        Number of bands.
    padded : bool
        Whether shorter sequences are filled up, so that something is missing in any case.

    Examples
    --------
    >>> record = ChipRecord("a", None, "partial", 0.5, low=(0.0,), high=(255.0,))
    >>> fit_encoding(Encoding("uint8"), [record], 1, padded=False)
    Encoding(dtype='uint16', nodata=65535, scale=(), offset=())
    """
    # the share of what was unreadable is not a number
    something_missing = padded or any(record.nodata_share != 0 for record in records)
    if advised.dtype == "float32" or advised.nodata is not None or not something_missing:
        return advised
    low, high = (_stored_limit(limit, advised) for limit in value_range(records, n_bands))
    smallest, largest = np.fmin(low, high).min(initial=0), np.fmax(low, high).max(initial=0)
    dtype: str | None = advised.dtype
    while dtype is not None:
        limits = np.iinfo(dtype)
        for candidate in (limits.min, limits.max) if limits.min else (limits.max, 0):
            if not smallest <= candidate <= largest:
                return Encoding(dtype, int(candidate), advised.scale, advised.offset)
        dtype = WIDER.get(dtype)
    return Encoding()


def _linear(encoding: Encoding) -> tuple[tuple[tuple[float, ...], float], ...]:
    return (encoding.scale, 1.0), (encoding.offset, 0.0)


def _by_band(numbers: tuple[float, ...], default: float, pixels: NDArray[Any]) -> Any:
    """Return one number per band, shaped to fit pixels (…, n_bands, height, width)."""
    if not numbers:
        return default
    if len(numbers) != pixels.shape[-3]:
        raise ValueError(
            f"Scale and offset need one number for each of the {pixels.shape[-3]} bands; got "
            f"{len(numbers)}: {list_some(numbers, 20)}."
        )
    return np.array(numbers, dtype=np.float64)[:, None, None]


def _stored_limit(values: NDArray[np.float64], encoding: Encoding) -> NDArray[np.float64]:
    known = np.where(np.isfinite(values), values, 0.0)
    scale = np.array(encoding.scale or 1.0)
    return np.asarray((known - np.array(encoding.offset or 0.0)) / scale)


def _refuse(count: int, values: NDArray[Any], encoding: Encoding, what: str) -> None:
    if count:
        raise ValueError(
            f"Every value must be a stored number of {encoding}; {count} pixels are not ({what}), "
            f"first value {float(np.ravel(values)[0]):g}. Write with `encoding=Encoding()`, which "
            "stores float32."
        )
