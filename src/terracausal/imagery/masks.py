"""Which pixels show the ground: clouds, shadows and fill from the quality bands of a product.

References
----------
.. [1] USGS (2023). Landsat 8-9 Collection 2 Level 2 Science Product Guide, version 5, table 6-3
   (QA_PIXEL).
.. [2] ESA (2022). Sentinel-2 Products Specification Document, issue 14.9 (SCL).
.. [3] Skakun, S. et al. (2022). Cloud Mask Intercomparison eXercise (CMIX). Remote Sensing of
   Environment 274, 112990 (s2cloudless). doi:10.1016/j.rse.2022.112990
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from terracausal._foundation.errors import BandError, list_some
from terracausal.imagery.chips import Chips
from terracausal.imagery.derived import derive_chips, same_timing

LANDSAT_BITS = {
    "fill": 0,
    "dilated_cloud": 1,
    "cirrus": 2,
    "cloud": 3,
    "cloud_shadow": 4,
    "snow": 5,
    "clear": 6,
    "water": 7,
}
"""Bits of QA_PIXEL that hold one flag each; cirrus is always 0 before Landsat 8."""

LANDSAT_CONFIDENCES = {
    "cloud_confidence": 8,
    "cloud_shadow_confidence": 10,
    "snow_confidence": 12,
    "cirrus_confidence": 14,
}
"""First of the two bits of QA_PIXEL that hold a confidence: 0 none, 1 low, 2 medium, 3 high."""

SCENE_CLASSES = {
    "no_data": 0,
    "saturated": 1,
    "dark": 2,
    "cloud_shadow": 3,
    "vegetation": 4,
    "bare": 5,
    "water": 6,
    "unclassified": 7,
    "cloud_medium": 8,
    "cloud_high": 9,
    "cirrus": 10,
    "snow": 11,
}
"""Classes of the Sentinel-2 scene classification (SCL)."""

_LANDSAT_CLOUDS = ("dilated_cloud", "cirrus", "cloud", "cloud_shadow")
_SCENE_CLOUDS = ("cloud_shadow", "cloud_medium", "cloud_high", "cirrus")


@runtime_checkable
class PixelMask(Protocol):
    """A rule that reads one quality band."""

    @property
    def band(self) -> str:
        """Name of the quality band."""
        ...

    def rejects(self, values: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Say which pixels are not used; NaN is."""
        ...

    def clouds(self, values: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Say which pixels are cloud, cirrus or cloud shadow; NaN is not."""
        ...


@dataclass(frozen=True, slots=True)
class LandsatMask:
    """Pixels by the flags of QA_PIXEL (Landsat Collection 2) [1]_.

    Parameters
    ----------
    reject : tuple of str, default=('fill', 'dilated_cloud', 'cirrus', 'cloud', 'cloud_shadow')
        Flags of which any one makes a pixel unusable; names of `LANDSAT_BITS`.
    band : str, default='QA_PIXEL'
        Name of the quality band.

    References
    ----------
    .. [1] USGS (2023). Landsat 8-9 Collection 2 Level 2 Science Product Guide, version 5.

    Examples
    --------
    >>> import numpy as np
    >>> LandsatMask().rejects(np.array([21824, 22280, 1], dtype=np.float32)).tolist()
    [False, True, True]
    """

    reject: tuple[str, ...] = ("fill", *_LANDSAT_CLOUDS)
    band: str = "QA_PIXEL"

    def __post_init__(self) -> None:
        _check_names("flags of QA_PIXEL", self.reject, LANDSAT_BITS)

    def rejects(self, values: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Say which pixels of QA_PIXEL are not used; NaN is."""
        bits, absent = _integers(self.band, values, 65_535)
        return _any_bit(bits, self.reject) | absent

    def clouds(self, values: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Say which pixels are cloud, dilated cloud, cirrus or cloud shadow; fill is not."""
        bits, absent = _integers(self.band, values, 65_535)
        return _any_bit(bits, _LANDSAT_CLOUDS) & ~_any_bit(bits, ("fill",)) & ~absent


@dataclass(frozen=True, slots=True)
class SceneClassMask:
    """Pixels by the classes of the Sentinel-2 scene classification (SCL) [1]_.

    Parameters
    ----------
    reject : tuple of str
        Classes that are not used, names of `SCENE_CLASSES`; by default no_data, saturated,
        cloud_shadow, cloud_medium, cloud_high and cirrus.
    band : str, default='SCL'
        Name of the quality band.

    References
    ----------
    .. [1] ESA (2022). Sentinel-2 Products Specification Document, issue 14.9.

    Examples
    --------
    >>> import numpy as np
    >>> SceneClassMask().rejects(np.array([4, 9, 0], dtype=np.float32)).tolist()
    [False, True, True]
    """

    reject: tuple[str, ...] = ("no_data", "saturated", *_SCENE_CLOUDS)
    band: str = "SCL"

    def __post_init__(self) -> None:
        _check_names("classes of SCL", self.reject, SCENE_CLASSES)

    def rejects(self, values: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Say which pixels of SCL are not used; NaN is."""
        classes, absent = _integers(self.band, values, max(SCENE_CLASSES.values()))
        return np.isin(classes, [SCENE_CLASSES[name] for name in self.reject]) | absent

    def clouds(self, values: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Say which pixels are cloud, thin cirrus or cloud shadow."""
        classes, absent = _integers(self.band, values, max(SCENE_CLASSES.values()))
        return np.isin(classes, [SCENE_CLASSES[name] for name in _SCENE_CLOUDS]) & ~absent


@dataclass(frozen=True, slots=True)
class CloudProbabilityMask:
    """Pixels by a cloud probability such as that of s2cloudless [1]_.

    Parameters
    ----------
    threshold : float, default=40.0
        Pixels of this probability or more are cloud. In the unit of the band: up to 1 for
        probabilities, above 1 for percent.
    band : str, default='probability'
        Name of the band.

    References
    ----------
    .. [1] Skakun, S. et al. (2022). Cloud Mask Intercomparison eXercise (CMIX). Remote Sensing of
       Environment 274, 112990.

    Examples
    --------
    >>> import numpy as np
    >>> CloudProbabilityMask(40).rejects(np.array([3, 40, np.nan], dtype=np.float32)).tolist()
    [False, True, True]
    """

    threshold: float = 40.0
    band: str = "probability"

    def __post_init__(self) -> None:
        if not 0 < self.threshold <= 100:
            raise ValueError(
                "`threshold` must lie above 0 and at most at 100 (percent) or 1 (probability); "
                f"got {self.threshold!r}."
            )

    def rejects(self, values: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Say which pixels are cloud or have no probability."""
        return self.clouds(values) | np.isnan(values)

    def clouds(self, values: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Say which pixels are cloud."""
        top = 1.0 if self.threshold <= 1 else 100.0
        known = values[~np.isnan(values)]
        beyond = int(((known < 0) | (known > top)).sum())
        if beyond:
            raise ValueError(
                f"With a threshold of {self.threshold:g} the band {self.band!r} must lie between 0 "
                f"and {top:g}; {beyond} of {known.size} pixels do not, for example "
                f"{list_some(np.unique(known[(known < 0) | (known > top)]), 3)}. Give the "
                "threshold in the unit of the band."
            )
        return np.asarray(values >= self.threshold, dtype=bool)


def mask_chips(chips: Chips, mask: PixelMask) -> Chips:
    """Return chips whose clouds are NaN, without the quality band.

    Parameters
    ----------
    chips : Chips
        With the quality band among their bands.
    mask : LandsatMask, SceneClassMask or CloudProbabilityMask
        Which pixels are left out.

    Returns
    -------
    Chips
        With the share of clouds of each image in the manifest.

    Raises
    ------
    BandError
        If the quality band is missing.
    ValueError
        If the quality band does not hold what it should, for example because it was averaged.

    Examples
    --------
    >>> import numpy as np
    >>> pixels = np.array([[5, 6], [4, 9]]).reshape(1, 1, 2, 1, 2)
    >>> chips = Chips.from_arrays(pixels, sites=["a"], bands=["red", "SCL"])
    >>> clear = mask_chips(chips, SceneClassMask())
    >>> clear["a"].tolist(), clear.bands, clear.manifest["cloud_share"].tolist()
    ([[[[5.0, nan]]]], ('red',), [0.5])
    """
    quality_position(chips.bands, mask)
    bands = tuple(band for band in chips.bands if band != mask.band)
    derivation = _Masking(bands, chips.bands, mask)
    return derive_chips(chips, derivation, same_timing(chips), f"clouds: masked by {mask.band}")


@dataclass(frozen=True, slots=True)
class _Masking:
    """Masked chips."""

    bands: tuple[str, ...]
    old_bands: tuple[str, ...]
    mask: PixelMask

    def pixels(self, site: Hashable, chip: NDArray[np.float32]) -> NDArray[np.float32]:
        return apply_mask(chip, self.old_bands, self.mask)

    def cloud_shares(self, chip: NDArray[np.float32]) -> Sequence[float] | None:
        return cloud_share(chip, self.old_bands, self.mask)

    def only(self, sites: Sequence[Hashable]) -> "_Masking":
        return self


def confidence(
    values: NDArray[np.float32], name: str, band: str = "QA_PIXEL"
) -> NDArray[np.float32]:
    """Return one of the two-bit confidences of QA_PIXEL: 0 none, 1 low, 2 medium, 3 high.

    Parameters
    ----------
    values : ndarray
        QA_PIXEL, NaN where missing.
    name : {"cloud_confidence", "cloud_shadow_confidence", "snow_confidence", "cirrus_confidence"}
        Which one.
    band : str, default="QA_PIXEL"
        Name of the band, for messages.

    Returns
    -------
    ndarray
        float32 of the shape of `values`, NaN where missing.

    Examples
    --------
    >>> import numpy as np
    >>> confidence(np.array([22280], dtype=np.float32), "cloud_confidence").tolist()
    [3.0]
    """
    _check_names("confidences of QA_PIXEL", (name,), LANDSAT_CONFIDENCES)
    bits, absent = _integers(band, values, 65_535)
    level = (bits >> LANDSAT_CONFIDENCES[name]) & 3
    return np.where(absent, np.float32(np.nan), level.astype(np.float32))


def apply_mask(
    pixels: NDArray[np.float32], bands: Sequence[str], mask: PixelMask
) -> NDArray[np.float32]:
    """Return the other bands of a chip with NaN where the quality band rejects the pixel.

    Parameters
    ----------
    pixels : ndarray of shape (n_times, n_bands, height, width)
        float32, NaN where missing.
    bands : sequence of str of length n_bands
        Names of the bands.
    mask : PixelMask
        Rule, with the name of its quality band.

    Returns
    -------
    ndarray of shape (n_times, n_bands - 1, height, width)
        Without the quality band.

    Raises
    ------
    BandError
        If there is no such band, or no other.

    Examples
    --------
    >>> import numpy as np
    >>> pixels = np.array([[[[5, 6]], [[4, 9]]]], dtype=np.float32)
    >>> apply_mask(pixels, ["red", "SCL"], SceneClassMask()).tolist()
    [[[[5.0, nan]]]]
    """
    place = quality_position(bands, mask)
    rejected = mask.rejects(pixels[:, place])
    others = np.delete(pixels, place, axis=1)
    return np.where(rejected[:, None], np.float32(np.nan), others)


def cloud_share(pixels: NDArray[np.float32], bands: Sequence[str], mask: PixelMask) -> list[float]:
    """Return for each time the share of the observed pixels that are cloud, cirrus or shadow.

    Parameters
    ----------
    pixels : ndarray of shape (n_times, n_bands, height, width)
        float32, NaN where missing.
    bands : sequence of str of length n_bands
        Names of the bands.
    mask : PixelMask
        Rule, with the name of its quality band.

    Returns
    -------
    list of float of length n_times
        NaN for a time without an observed pixel.

    Examples
    --------
    >>> import numpy as np
    >>> pixels = np.array([[[[5, 6, np.nan]], [[4, 9, np.nan]]]], dtype=np.float32)
    >>> cloud_share(pixels, ["red", "SCL"], SceneClassMask())
    [0.5]
    """
    place = quality_position(bands, mask)
    shares = []
    for values in pixels[:, place]:
        seen = int((~np.isnan(values)).sum())
        shares.append(float(mask.clouds(values).sum()) / seen if seen else float("nan"))
    return shares


def quality_position(bands: Sequence[str], mask: PixelMask) -> int:
    """Return the position of the quality band of a mask, or raise a `BandError`."""
    if not isinstance(mask, PixelMask):
        raise TypeError(
            "`mask` must be a LandsatMask, SceneClassMask, CloudProbabilityMask or None; got "
            f"{type(mask).__name__}."
        )
    if mask.band not in bands:
        raise BandError(
            f"{type(mask).__name__} needs the band {mask.band!r}; the chips have "
            f"{list_some(bands, 20)}. Read it together with the other bands, or name the quality "
            "band of the mask with `band=`."
        )
    if len(bands) == 1:
        raise BandError(
            f"The chips have no band besides the quality band {mask.band!r}, so nothing is left "
            "to mask. Read the bands to be masked as well."
        )
    return list(bands).index(mask.band)


def _check_names(what: str, names: Sequence[str], known: dict[str, int]) -> None:
    if isinstance(names, str):
        raise TypeError(f"`reject` must be a sequence of names; got the one text {names!r}.")
    strange = [name for name in names if name not in known]
    if strange or not names:
        raise ValueError(
            f"`reject` must name {what}, one or more of {list_some(known, 20)}; got "
            f"{list_some(names, 20)}."
        )


def _any_bit(bits: NDArray[np.int64], names: Sequence[str]) -> NDArray[np.bool_]:
    wanted = sum(1 << LANDSAT_BITS[name] for name in names)
    return np.asarray((bits & wanted) != 0)


def _integers(
    band: str, values: NDArray[np.float32], largest: int
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return the whole numbers of a quality band, and where it is missing."""
    absent = np.isnan(values)
    whole = np.where(absent, 0, values).astype(np.int64)
    wrong = ~absent & ((whole != values) | (whole < 0) | (whole > largest))
    if wrong.any():
        raise ValueError(
            f"The band {band!r} must hold whole numbers from 0 to {largest}; {int(wrong.sum())} of "
            f"{values.size} pixels do not, for example {list_some(np.unique(values[wrong]), 3)}. "
            'Read it with resampling="nearest" and without scale and offset.'
        )
    return whole, absent
