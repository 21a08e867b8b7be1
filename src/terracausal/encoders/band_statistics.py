"""Per-band statistics: the plainest description of a place that reads its pixels."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from terracausal._foundation.checks import check_choice
from terracausal._foundation.errors import BandError, list_some
from terracausal.encoders.base import ChipEncoder
from terracausal.encoders.texture import Texture, image_texture, learn_levels
from terracausal.imagery import Chips
from terracausal.imagery.indices import INDICES, index_positions, spectral_index

MOMENTS = ("mean", "sd", "skewness", "kurtosis")


class BandStatisticsEncoder(ChipEncoder):
    """Moments and quantiles of each band, spectral indices, texture and the share of valid pixels.

    Parameters
    ----------
    quantiles : tuple of float, default=(0.1, 0.5, 0.9)
        Quantiles of the pixels of each band, each in [0, 1].
    normalized_differences : tuple of (str, str), default=()
        Pairs of bands (a, b); adds the moments of (a - b) / (a + b), such as ("nir", "red") for the
        NDVI.
    moments : tuple of str, default=("mean", "sd")
        Of "mean", "sd" (divided by the number of pixels), "skewness" and "kurtosis" (0 for a normal
        distribution).
    indices : tuple of str, default=()
        Spectral indices whose moments are added: "NDVI", "NDWI", "MNDWI", "NDBI", "EVI", "BSI",
        from bands named blue, green, red, nir and swir1.
    texture : Texture, default=None
        Which measures of texture to add for each band; needs scikit-image.
    valid_share : bool, default=False
        Whether to add the share of valid pixels of each band.
    n_components : int, default=None
        Number of principal components of the fitted chips that replace the columns; None for none.
    whiten : bool, default=False
        Whether components have unit variance over the fitted chips.

    Attributes
    ----------
    levels_ : ndarray of shape (n_bands, n_levels - 1)
        Values between the grey levels of the texture; None where no texture is asked for.
    components_ : PrincipalComponents
        The reduction; None where there is none.
    bands_ : tuple of str
        Bands of the fitted chips.
    n_sites_fitted_ : int
        Number of fitted sites.

    Notes
    -----
    Only the grey levels and the components are learned. Columns are `red_mean`, `red_sd`,
    `red_q10`, …, then `nd_nir_red_mean`, …, `NDVI_mean`, …, `red_contrast_1` (the distance in
    pixels), …, `red_valid`. Missing pixels are left out of each statistic, and pixels with
    a + b = 0 out of the normalised difference. Skewness and kurtosis of equal pixels are 0. With
    several times, every column is the mean of its value at the times that have data.

    Examples
    --------
    >>> import numpy as np
    >>> from terracausal.imagery import Chips
    >>> pixels = np.array([[[[[1.0, 3.0]], [[3.0, 3.0]]]]])  # one site, one time, two bands
    >>> chips = Chips.from_arrays(pixels, sites=["Arua"], bands=["red", "nir"])
    >>> encoder = BandStatisticsEncoder(quantiles=(), indices=["NDVI"])
    >>> encoder.fit_transform(chips).loc["Arua"].to_dict()  # doctest: +NORMALIZE_WHITESPACE
    {'red_mean': 2.0, 'red_sd': 1.0, 'nir_mean': 3.0, 'nir_sd': 0.0,
     'NDVI_mean': 0.25, 'NDVI_sd': 0.25}
    """

    levels_: NDArray[np.float32] | None

    def __init__(
        self,
        quantiles: Sequence[float] = (0.1, 0.5, 0.9),
        normalized_differences: Sequence[tuple[str, str]] = (),
        moments: Sequence[str] = ("mean", "sd"),
        indices: Sequence[str] = (),
        texture: Texture | None = None,
        valid_share: bool = False,
        n_components: int | None = None,
        whiten: bool = False,
    ) -> None:
        self.quantiles = quantiles
        self.normalized_differences = normalized_differences
        self.moments = moments
        self.indices = indices
        self.texture = texture
        self.valid_share = valid_share
        self.n_components = n_components
        self.whiten = whiten

    def _learn(self, chips: Chips, y: object) -> None:
        outside = [q for q in self.quantiles if not 0 <= q <= 1]
        if outside:
            raise ValueError(f"`quantiles` must lie in [0, 1]; got {list_some(outside)}.")
        for pair in self.normalized_differences:
            if isinstance(pair, str) or len(pair) != 2:
                raise ValueError(
                    f"`normalized_differences` must hold pairs of band names; got {pair!r}."
                )
            absent = [band for band in pair if band not in chips.bands]
            if absent:
                raise BandError(
                    f"The normalised difference {tuple(pair)!r} needs the bands "
                    f"{list_some(absent)}; the chips have {list_some(chips.bands, 20)}."
                )
        self._check_indices(chips.bands)
        if not isinstance(self.texture, Texture | None):
            raise TypeError(
                f"`texture` must be a Texture or None; got {type(self.texture).__name__}. "
                "Use `Texture()` for the usual measures."
            )
        for name in _listed("moments", self.moments):
            check_choice("moments", name, MOMENTS)
        names = self._columns_of(chips.bands)
        doubled = sorted({name for name in names if names.count(name) > 1})
        if doubled:
            raise ValueError(
                f"Columns must be unique; {list_some(doubled)} would stand more than once. "
                "Remove what is asked for twice."
            )
        if not names:
            raise ValueError("An encoder needs columns; no statistic is asked for.")
        self.levels_ = None
        if self.texture is not None:
            self.texture.check(chips.size_px)
            self.levels_ = learn_levels(chips, self.texture.n_levels)

    def _check_indices(self, bands: tuple[str, ...]) -> None:
        for name in _listed("indices", self.indices):
            try:
                index_positions(bands, INDICES[check_choice("indices", name, tuple(INDICES))])
            except BandError as error:
                error.add_note(
                    "Bands of other names: make the indices first, with `index_chips(chips, names, "
                    "keep_bands=True, band_names=...)`."
                )
                raise

    def _columns(self) -> list[str]:
        return self._columns_of(self.bands_)

    def _columns_of(self, bands: tuple[str, ...]) -> list[str]:
        # 0.1 is q10, 0.05 is q05, 0.025 is q2.5
        quantiles = [f"q{float(100 * q):02.10g}" for q in self.quantiles]
        names = [f"{band}_{what}" for band in bands for what in (*self.moments, *quantiles)]
        derived = [f"nd_{a}_{b}" for a, b in self.normalized_differences] + list(self.indices)
        names += [f"{name}_{what}" for name in derived for what in self.moments]
        if self.texture is not None:
            names += [name for band in bands for name in self.texture.columns(band)]
        return names + [f"{band}_valid" for band in bands if self.valid_share]

    def _encode_images(self, pixels: NDArray[np.float32]) -> NDArray[np.float64]:
        return np.stack([self._statistics(image) for image in pixels])

    def _statistics(self, image: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the columns of an image (n_bands, height, width), NaN where it has no pixel."""
        valid = ~np.isnan(image)
        if not valid.any():
            return np.full(len(self._columns()), np.nan)
        quantiles = np.array(self.quantiles, dtype=np.float64)
        layers = image.astype(np.float64)
        derived: list[NDArray[Any]] = [
            normalized_difference(layers[self.bands_.index(a)], layers[self.bands_.index(b)])
            for a, b in self.normalized_differences
        ]
        derived += [spectral_index(image, self.bands_, name) for name in self.indices]
        parts = [pixel_statistics(layer, self.moments, quantiles) for layer in layers]
        parts += [pixel_statistics(layer, self.moments, quantiles[:0]) for layer in derived]
        if self.texture is not None and self.levels_ is not None:
            parts.append(image_texture(image, self.levels_, self.texture))
        if self.valid_share:
            parts.append(valid.mean(axis=(1, 2)))
        return np.concatenate(parts)

    def _description(self) -> dict[str, Any]:
        levels = None if self.levels_ is None else self.levels_.tolist()
        return {**super()._description(), "columns": self._columns(), "grey_levels": levels}


def _listed(name: str, values: Sequence[str]) -> Sequence[str]:
    if isinstance(values, str):
        raise TypeError(f"`{name}` must be a tuple of names; got {values!r}. Use ({values!r},).")
    return values


def pixel_statistics(
    pixels: NDArray[np.floating[Any]], moments: Sequence[str], quantiles: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return moments and quantiles of the pixels that are not NaN.

    Parameters
    ----------
    pixels : ndarray of any shape
        NaN where missing.
    moments : sequence of str of length n_moments
        Of "mean", "sd", "skewness" and "kurtosis".
    quantiles : ndarray of shape (n_quantiles,)
        Levels in [0, 1].

    Returns
    -------
    ndarray of shape (n_moments + n_quantiles,)
        NaN where no pixel is valid.

    Examples
    --------
    >>> pixel_statistics(np.array([0.0, 0.0, 3.0]), ["mean", "skewness"], np.array([1.0])).round(3)
    array([1.   , 0.707, 3.   ])
    """
    valid = pixels[~np.isnan(pixels)].astype(np.float64)
    if not len(valid):
        return np.full(len(moments) + len(quantiles), np.nan)
    mean, sd = valid.mean(), valid.std()
    found = {"mean": mean, "sd": sd, "skewness": 0.0, "kurtosis": 0.0}
    # what remains of equal pixels is rounding
    if valid.min() < valid.max():
        standard = (valid - mean) / sd
        found |= {"skewness": (standard**3).mean(), "kurtosis": (standard**4).mean() - 3}
    return np.array([*(found[name] for name in moments), *np.quantile(valid, quantiles)])


def normalized_difference(
    first: NDArray[np.float64], second: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return (first - second) / (first + second), NaN where the sum is 0."""
    total = first + second
    defined = total != 0  # also where NaN, which stays NaN
    ratio = np.full_like(total, np.nan)
    return np.divide(first - second, total, out=ratio, where=defined)
