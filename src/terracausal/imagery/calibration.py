"""From stored numbers to reflectance: scale and offset of Sentinel-2 and Landsat products.

value = scale * stored number + offset. The stored number 0 is nodata in both products, and it is
taken as such before scale and offset are applied.

References
----------
.. [1] ESA (2022). Sentinel-2 Products Specification Document, issue 14.9, BOA_ADD_OFFSET:
   reflectance = (DN - 1000) / 10000 from processing baseline 04.00.
.. [2] USGS (2023). Landsat 8-9 Collection 2 Level 2 Science Product Guide, version 5, table 6-1.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from terracausal._foundation.errors import list_some

SENTINEL2_QUANTIFICATION = 10_000
SENTINEL2_OFFSET = -1000
"""In stored numbers, for every optical band, from processing baseline 04.00."""

_OFFSET_SINCE = 4.0
_BASELINE_KEYS = ("s2:processing_baseline", "sentinel:processing_baseline", "PROCESSING_BASELINE")
_APPLIED_KEYS = ("earthsearch:boa_offset_applied", "sentinel:boa_offset_applied")
_NAME_KEYS = ("s2:product_uri", "PRODUCT_URI", "sentinel:product_id")
_PRODUCT = re.compile(r"(?<![A-Z0-9])S2[A-D]_MSIL(?:1C|2A)_\d{8}T\d{6}_N(\d\d)(\d\d)_", re.I)
_SENTINEL2_BAND = re.compile(
    r"B(?:0[1-9]|1[0-2]|[1-9]|8A)(?:_[126]0m)?|coastal|blue|green|red|rededge[123]?|"
    r"nir(?:08|09)?|cirrus|swir(?:16|22|1|2)",
    re.I,
)
_LANDSAT_REFLECTANCE = re.compile(r"(?:.*_)?SR_B[1-7]", re.I)
_LANDSAT_TEMPERATURE = re.compile(r"(?:.*_)?ST_B(?:6|10)", re.I)


class Scaling(NamedTuple):
    """Scale and offset of a band: value = scale * stored number + offset."""

    scale: float
    offset: float


def sentinel2_baseline(name: str = "", properties: Mapping[str, Any] | None = None) -> float | None:
    """Return the processing baseline of a Sentinel-2 image, None when nothing says it.

    Parameters
    ----------
    name : str, default=""
        Product name or path; only the product (`..._N0400_...`) names the baseline, not the
        granule or band.
    properties : mapping, default=None
        Properties of a STAC item or tags of a file; they count before the name.

    Returns
    -------
    float or None
        Such as 4.0 or 5.11. The date of the image does not tell it: older images were processed
        anew.

    Raises
    ------
    ValueError
        If a baseline cannot be read.

    Examples
    --------
    >>> sentinel2_baseline("S2B_MSIL2A_20220126T101219_N0400_R022_T32TQM_20220126T123456.SAFE")
    4.0
    >>> sentinel2_baseline(properties={"s2:processing_baseline": "05.11"})
    5.11
    """
    given = dict(properties or {})
    for key in _BASELINE_KEYS:
        if given.get(key) is not None:
            return _baseline(given[key], key)
    for text in [*(str(given[key]) for key in _NAME_KEYS if given.get(key)), name]:
        found = _PRODUCT.search(text)
        if found:
            return int(found[1]) + int(found[2]) / 100
    return None


def sentinel2_scaling(baseline: float, *, offset_applied: bool = False) -> Scaling:
    """Return the scaling of the optical bands of a Sentinel-2 image of a processing baseline.

    Parameters
    ----------
    baseline : float
        Such as 2.14 or 4.0.
    offset_applied : bool, default=False
        Whether the provider has added the offset to the stored numbers already.

    Returns
    -------
    Scaling
        To reflectance.

    Examples
    --------
    >>> sentinel2_scaling(3.01)
    Scaling(scale=0.0001, offset=0.0)
    >>> sentinel2_scaling(4.0)
    Scaling(scale=0.0001, offset=-0.1)
    """
    shift = SENTINEL2_OFFSET if baseline >= _OFFSET_SINCE and not offset_applied else 0
    return Scaling(1 / SENTINEL2_QUANTIFICATION, shift / SENTINEL2_QUANTIFICATION)


def landsat_scaling(band: str) -> Scaling | None:
    """Return the scaling of a band of a Landsat Collection 2 Level 2 product.

    Parameters
    ----------
    band : str
        Such as "SR_B4" or "ST_B10"; a file name that ends in it serves as well.

    Returns
    -------
    Scaling or None
        To reflectance or kelvin; None for a band that has none, such as "QA_PIXEL".

    Examples
    --------
    >>> landsat_scaling("SR_B4")
    Scaling(scale=2.75e-05, offset=-0.2)
    >>> landsat_scaling("QA_PIXEL") is None
    True
    """
    if _LANDSAT_REFLECTANCE.fullmatch(band):
        return Scaling(0.0000275, -0.2)
    if _LANDSAT_TEMPERATURE.fullmatch(band):
        return Scaling(0.00341802, 149.0)
    return None


def band_scaling(
    band: str,
    properties: Mapping[str, Any],
    declared: Mapping[str, Any] | None = None,
    *,
    name: str = "",
) -> Scaling:
    """Return the scaling of a band from everything that its metadata say, each offset once.

    Parameters
    ----------
    band : str
        Name of the band.
    properties : mapping
        Properties of the STAC item or tags of the file.
    declared : mapping, default=None
        Entry of the band in `raster:bands` or `bands` (STAC 1.1), or a mapping with `scale` and
        `offset`.
    name : str, default=""
        Name of the product.

    Returns
    -------
    Scaling
        A declared scale and offset count first; an offset of Sentinel-2 that the provider says it
        has applied is not applied again, although it may still be declared; a Sentinel-2 baseline
        without a declared offset adds that of the baseline. Without any of these (1, 0).

    Notes
    -----
    Where only the baseline is known, stored numbers of Sentinel-2 keep their unit (reflectance
    times 10,000) and are shifted by -1000, so that images of all baselines have one unit. Some
    items of Earth Search carry a wrong `boa_offset_applied`; a shift of 0.1 between neighbouring
    dates shows it.

    Examples
    --------
    >>> band_scaling("B04", {"s2:processing_baseline": "04.00"})
    Scaling(scale=1.0, offset=-1000.0)
    >>> band_scaling(
    ...     "red", {"earthsearch:boa_offset_applied": True}, {"scale": 1e-4, "offset": -0.1}
    ... )
    Scaling(scale=0.0001, offset=0.0)
    >>> band_scaling("SCL", {"s2:processing_baseline": "04.00"})
    Scaling(scale=1.0, offset=0.0)
    """
    own = dict(declared or {})
    scale, offset = (_number(own, key, band) for key in ("scale", "offset"))
    baseline = sentinel2_baseline(name, properties)
    applied = [properties[key] for key in _APPLIED_KEYS if properties.get(key) is not None]
    if baseline is not None or applied:
        unit = 1.0 if scale is None else scale
        if any(_truth(value) for value in applied):
            return Scaling(unit, 0.0)
        optical = _SENTINEL2_BAND.fullmatch(band) is not None
        if offset is None and optical and baseline is not None and baseline >= _OFFSET_SINCE:
            return Scaling(unit, SENTINEL2_OFFSET * unit)
    return Scaling(1.0 if scale is None else scale, 0.0 if offset is None else offset)


def check_one_unit(
    scalings: Mapping[str, Sequence[Scaling]], files: Mapping[str, Sequence[str]] | None = None
) -> None:
    """Raise a `ValueError` if some layers of a band are scaled and others are not.

    Parameters
    ----------
    scalings : mapping of str to sequence of Scaling
        What each layer of a band is multiplied by.
    files : mapping of str to sequence of str, default=None
        Path of each of these layers, for the message.

    Raises
    ------
    ValueError
        If the scales of a band differ by more than a tenth, naming the band.

    Examples
    --------
    >>> check_one_unit({"red": [Scaling(1e-4, 0.0), Scaling(1e-4, -0.1)]})
    """
    for band, found in scalings.items():
        scales = sorted({scaling.scale for scaling in found})
        if scales and scales[-1] > 1.1 * scales[0]:
            shown = list_some(scales)
            if files is not None:
                named: dict[float, list[str]] = {}
                for scaling, uri in zip(found, files[band], strict=True):
                    named.setdefault(scaling.scale, []).append(uri)
                shown = "; ".join(
                    f"{scale!r} in {list_some(named[scale], 3)}" for scale in scales[:4]
                )
            raise ValueError(
                f"All layers of a band must have one unit; those of {band!r} are multiplied by "
                f"{shown}. Read the products apart, or give one scale and offset."
            )


def _baseline(value: Any, key: str) -> float:
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{key} must be a processing baseline such as '04.00'; got {value!r}. Correct the "
            "metadata, or give scale and offset."
        ) from error


def _number(declared: Mapping[str, Any], key: str, band: str) -> float | None:
    value = declared.get(key, declared.get(f"raster:{key}"))
    if value is None:
        return None
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"The {key} of the band {band!r} must be a number; its metadata say {value!r}."
        ) from error


def _truth(value: Any) -> bool:
    return value.strip().lower() == "true" if isinstance(value, str) else bool(value)
