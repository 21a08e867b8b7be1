"""Spectral indices by name, from bands of the common names blue, green, red, nir and swir1.

References
----------
.. [1] Rouse, J. et al. (1974). Monitoring vegetation systems in the Great Plains with ERTS (NDVI).
.. [2] McFeeters, S. (1996). The use of the Normalized Difference Water Index (NDWI) in the
   delineation of open water features. International Journal of Remote Sensing 17(7).
.. [3] Xu, H. (2006). Modification of normalised difference water index (NDWI) to enhance open water
   features in remotely sensed imagery (MNDWI). International Journal of Remote Sensing 27(14).
.. [4] Zha, Y., Gao, J., Ni, S. (2003). Use of normalized difference built-up index in automatically
   mapping urban areas from TM imagery (NDBI). International Journal of Remote Sensing 24(3).
.. [5] Huete, A. et al. (2002). Overview of the radiometric and biophysical performance of the MODIS
   vegetation indices (EVI). Remote Sensing of Environment 83.
.. [6] Rikimaru, A., Roy, P., Miyatake, S. (2002). Tropical forest cover density mapping (BSI).
   Tropical Ecology 43(1).
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from terracausal._foundation.checks import check_choice
from terracausal._foundation.errors import BandError, list_some
from terracausal.imagery.chips import Chips
from terracausal.imagery.derived import derive_chips, same_timing
from terracausal.imagery.readers import band_tuple

Pixels = NDArray[np.float64]

_BRIGHTEST = 1.5  # more than half of the ground is never brighter than this, clouds included


@dataclass(frozen=True, slots=True)
class SpectralIndex:
    """A spectral index: what it needs and how it is computed.

    Parameters
    ----------
    name : str
        Such as "NDVI".
    bands : tuple of str
        Common names of the bands, in the order in which `formula` takes them.
    formula : callable
        Numerator and denominator from one float64 array for each band.
    needs_reflectance : bool
        Whether the formula has constants that fit only reflectance between 0 and 1.
    """

    name: str
    bands: tuple[str, ...]
    formula: Callable[..., tuple[Pixels, Pixels]]
    needs_reflectance: bool = False


def _difference(one: Pixels, two: Pixels) -> tuple[Pixels, Pixels]:
    return one - two, one + two


def _evi(nir: Pixels, red: Pixels, blue: Pixels) -> tuple[Pixels, Pixels]:
    return 2.5 * (nir - red), nir + 6 * red - 7.5 * blue + 1


def _bsi(swir1: Pixels, red: Pixels, nir: Pixels, blue: Pixels) -> tuple[Pixels, Pixels]:
    return _difference(swir1 + red, nir + blue)


INDICES = {
    index.name: index
    for index in (
        SpectralIndex("NDVI", ("nir", "red"), _difference),
        SpectralIndex("NDWI", ("green", "nir"), _difference),
        SpectralIndex("MNDWI", ("green", "swir1"), _difference),
        SpectralIndex("NDBI", ("swir1", "nir"), _difference),
        SpectralIndex("EVI", ("nir", "red", "blue"), _evi, needs_reflectance=True),
        SpectralIndex("BSI", ("swir1", "red", "nir", "blue"), _bsi),
    )
}
"""The indices that are known by name."""


def index_chips(
    chips: Chips,
    names: str | Sequence[str],
    *,
    keep_bands: bool = False,
    band_names: Mapping[str, str] | None = None,
) -> Chips:
    """Return chips whose bands are spectral indices.

    Parameters
    ----------
    chips : Chips
        With the bands that the indices need.
    names : str or sequence of str
        One or more of "NDVI", "NDWI", "MNDWI", "NDBI", "EVI" and "BSI".
    keep_bands : bool, default=False
        Whether the bands of `chips` stand before the indices.
    band_names : mapping of str to str, default=None
        Own names of bands by common name, such as `{"nir": "B4", "red": "B3"}`.

    Returns
    -------
    Chips
        The new bands are named by the indices.

    Raises
    ------
    BandError
        If a band is missing, or an index is named twice.
    ValueError
        If an index is unknown, or EVI should be made of numbers that are not reflectance.

    Examples
    --------
    >>> pixels = np.array([[1.0], [3.0]]).reshape(1, 1, 2, 1, 1)
    >>> chips = Chips.from_arrays(pixels, sites=["a"], bands=["red", "nir"])
    >>> index_chips(chips, "NDVI")["a"].tolist()
    [[[[0.5]]]]
    """
    wanted = (names,) if isinstance(names, str) else tuple(names)
    if not wanted:
        raise ValueError(f"`names` must name at least one of {list_some(INDICES, 9)}; it is empty.")
    kept = chips.bands if keep_bands else ()
    bands = band_tuple((*kept, *wanted))
    for name in wanted:
        index_positions(
            chips.bands, INDICES[check_choice("names", name, tuple(INDICES))], band_names
        )
    derivation = _Indexing(bands, chips.bands, wanted, dict(band_names or {}))
    note = f"indices: {', '.join(wanted)} computed from the bands {', '.join(chips.bands)}"
    return derive_chips(chips, derivation, same_timing(chips), note)


@dataclass(frozen=True, slots=True)
class _Indexing:
    """Indices of chips."""

    bands: tuple[str, ...]
    old_bands: tuple[str, ...]
    names: tuple[str, ...]
    band_names: Mapping[str, str]

    def pixels(self, site: Hashable, chip: NDArray[np.float32]) -> NDArray[np.float32]:
        try:
            layers = [
                spectral_index(chip, self.old_bands, name, band_names=self.band_names)
                for name in self.names
            ]
        except ValueError as error:
            error.add_note(f"at site {list_some([site])}")
            raise
        new = np.stack(layers, axis=1)
        return new if len(self.bands) == len(self.names) else np.concatenate([chip, new], axis=1)

    def cloud_shares(self, chip: NDArray[np.float32]) -> Sequence[float] | None:
        return None

    def only(self, sites: Sequence[Hashable]) -> "_Indexing":
        return self


def spectral_index(
    pixels: NDArray[np.float32],
    bands: Sequence[str],
    name: str,
    *,
    band_names: Mapping[str, str] | None = None,
) -> NDArray[np.float32]:
    """Return a spectral index of pixels.

    Parameters
    ----------
    pixels : ndarray of shape (..., n_bands, height, width)
        NaN where missing.
    bands : sequence of str of length n_bands
        Names of the bands.
    name : {"NDVI", "NDWI", "MNDWI", "NDBI", "EVI", "BSI"}
        NDWI is that of McFeeters (green and nir), for open water.
    band_names : mapping of str to str, default=None
        Own names of bands by common name, such as `{"nir": "B4", "red": "B3"}`; other bands are
        found by their common names, in upper or lower case.

    Returns
    -------
    ndarray of shape (..., height, width)
        float32; NaN where a band is missing or the denominator is not positive.

    Raises
    ------
    BandError
        If a band is missing.
    ValueError
        If EVI should be made of numbers that are not reflectance between 0 and 1.

    Notes
    -----
    All but EVI are ratios that a common factor does not change, so they may be made of reflectance
    times 10,000. None of them stands a common offset: apply that of the product first
    (`terracausal.imagery.calibration`).

    Examples
    --------
    >>> pixels = np.array([[[1.0]], [[3.0]]], dtype=np.float32)
    >>> spectral_index(pixels, ["red", "nir"], "NDVI").tolist()
    [[0.5]]
    """
    index = INDICES[check_choice("name", name, tuple(INDICES))]
    places = index_positions(bands, index, band_names)
    layers = [pixels[..., place, :, :].astype(np.float64) for place in places]
    if index.needs_reflectance:
        _refuse_other_units(index, layers)
    above, below = index.formula(*layers)
    positive = below > 0
    ratio = np.where(positive, above, np.nan) / np.where(positive, below, 1)
    return np.asarray(ratio, dtype=np.float32)


def index_positions(
    bands: Sequence[str], index: SpectralIndex, band_names: Mapping[str, str] | None = None
) -> tuple[int, ...]:
    """Return the positions of the bands that an index needs, in the order of `index.bands`.

    Raises
    ------
    BandError
        If a band is missing, or several bands have the same common name.

    Examples
    --------
    >>> index_positions(["B3", "NIR"], INDICES["NDVI"], {"red": "B3"})
    (1, 0)
    """
    own = dict(band_names or {})
    strange = [name for name in own if name not in _COMMON]
    if strange:
        raise BandError(
            f"`band_names` must have the common names {list_some(_COMMON, 9)} as keys; got "
            f"{list_some(strange)}."
        )
    found = {
        common: [place for place, band in enumerate(bands) if _is_named(band, common, own)]
        for common in index.bands
    }
    absent = [own.get(common, common) for common, places in found.items() if not places]
    if absent:
        raise BandError(
            f"{index.name} needs the bands {list_some(index.bands)}; {list_some(absent)} not found "
            f"among {list_some(bands, 20)}. Read these bands, or say which they are, for example "
            f"`band_names={{{index.bands[0]!r}: {bands[0]!r}}}`."
        )
    doubled = {common: places for common, places in found.items() if len(places) > 1}
    if doubled:
        common, places = next(iter(doubled.items()))
        raise BandError(
            f"{index.name} needs one band {common!r}; found {len(places)}: "
            f"{list_some([bands[place] for place in places])}. Choose one with `band_names`."
        )
    return tuple(places[0] for places in found.values())


_COMMON = tuple(dict.fromkeys(name for index in INDICES.values() for name in index.bands))


def _is_named(band: str, common: str, own: Mapping[str, str]) -> bool:
    return band == own[common] if common in own else band.lower() == common


def _refuse_other_units(index: SpectralIndex, layers: list[Pixels]) -> None:
    for common, values in zip(index.bands, layers, strict=True):
        known = values[~np.isnan(values)]
        middle = float(np.median(known)) if known.size else 0.0
        if middle > _BRIGHTEST:
            raise ValueError(
                f"{index.name} has constants that fit reflectance between 0 and 1; the median of "
                f"{common!r} is {middle:g}, its largest value {known.max():g}. Read the chips with "
                "the scale and offset of the product, for example a scale of 0.0001."
            )
