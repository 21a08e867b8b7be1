"""Per-band statistics: the plainest description of a place that reads its pixels."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from terracausal._foundation.errors import BandError, list_some
from terracausal.encoders.base import ChipEncoder
from terracausal.imagery import Chips


class BandStatisticsEncoder(ChipEncoder):
    """Mean, standard deviation and quantiles of each band, and normalised differences of bands.

    Parameters
    ----------
    quantiles : tuple of float, default=(0.1, 0.5, 0.9)
        Quantiles of the pixels of each band, each in [0, 1].
    normalized_differences : tuple of (str, str), default=()
        Pairs of bands (a, b); adds mean and standard deviation of (a - b) / (a + b), such as
        ("nir", "red") for the NDVI.

    Attributes
    ----------
    bands_ : tuple of str
        Bands of the fitted chips.
    n_sites_fitted_ : int
        Number of fitted sites.

    Notes
    -----
    Nothing is learned but the bands. Columns are `red_mean`, `red_sd` (divided by the number of
    pixels), `red_q10`, …, `nd_nir_red_mean`, `nd_nir_red_sd`. Missing pixels are left out of each
    statistic, and pixels with a + b = 0 out of the normalised difference. With several times,
    every column is the mean of its value at the times that have data.

    Examples
    --------
    >>> import numpy as np
    >>> from terracausal.imagery import Chips
    >>> pixels = np.array([[[[[1.0, 3.0]], [[3.0, 3.0]]]]])  # one site, one time, two bands
    >>> chips = Chips.from_arrays(pixels, sites=["Arua"], bands=["red", "nir"])
    >>> encoder = BandStatisticsEncoder(quantiles=(), normalized_differences=(("nir", "red"),))
    >>> encoder.fit_transform(chips).loc["Arua"].to_dict()  # doctest: +NORMALIZE_WHITESPACE
    {'red_mean': 2.0, 'red_sd': 1.0, 'nir_mean': 3.0, 'nir_sd': 0.0,
     'nd_nir_red_mean': 0.25, 'nd_nir_red_sd': 0.25}
    """

    def __init__(
        self,
        quantiles: Sequence[float] = (0.1, 0.5, 0.9),
        normalized_differences: Sequence[tuple[str, str]] = (),
    ) -> None:
        self.quantiles = quantiles
        self.normalized_differences = normalized_differences

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
        self._positions(chips.bands)
        names = self._columns_of(chips.bands)
        doubled = sorted({name for name in names if names.count(name) > 1})
        if doubled:
            raise ValueError(
                f"Columns must be unique; {list_some(doubled)} would stand more than once. "
                "Remove repeated `quantiles` or `normalized_differences`."
            )

    def _columns(self) -> list[str]:
        return self._columns_of(self.bands_)

    def _columns_of(self, bands: tuple[str, ...]) -> list[str]:
        # 0.1 is q10, 0.05 is q05, 0.025 is q2.5
        quantiles = [f"q{float(100 * q):02.10g}" for q in self.quantiles]
        names = [f"{band}_{what}" for band in bands for what in ("mean", "sd", *quantiles)]
        pairs = [f"nd_{a}_{b}" for a, b in self.normalized_differences]
        return names + [f"{pair}_{what}" for pair in pairs for what in ("mean", "sd")]

    def _positions(self, bands: tuple[str, ...]) -> list[tuple[int, int]]:
        return [(bands.index(a), bands.index(b)) for a, b in self.normalized_differences]

    def _encode_images(self, pixels: NDArray[np.float32]) -> NDArray[np.float64]:
        quantiles = np.array(self.quantiles, dtype=np.float64)
        pairs = self._positions(self.bands_)
        return np.stack([image_statistics(image, quantiles, pairs) for image in pixels])

    def _description(self) -> dict[str, Any]:
        return {**super()._description(), "columns": self._columns()}


def image_statistics(
    image: NDArray[np.float32],
    quantiles: NDArray[np.float64],
    pairs: Sequence[tuple[int, int]],
) -> NDArray[np.float64]:
    """Return the statistics of one image.

    Parameters
    ----------
    image : ndarray of shape (n_bands, height, width)
        Pixels, NaN where missing.
    quantiles : ndarray of shape (n_quantiles,)
        Levels in [0, 1].
    pairs : sequence of (int, int)
        Positions of the bands of each normalised difference.

    Returns
    -------
    ndarray of shape (n_bands * (2 + n_quantiles) + 2 * n_pairs,)
        NaN where there is no valid pixel.
    """
    values = image.astype(np.float64).reshape(len(image), -1)
    parts = [pixel_statistics(values, quantiles)]
    if pairs:
        first, second = np.array(pairs).T
        ratios = normalized_difference(values[first], values[second])
        parts.append(pixel_statistics(ratios, np.empty(0)))
    return np.concatenate([part.reshape(-1) for part in parts])


def pixel_statistics(
    values: NDArray[np.float64], quantiles: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return mean, standard deviation and quantiles over the last axis, leaving NaN out.

    Parameters
    ----------
    values : ndarray of shape (n_bands, n_pixels)
        Pixels, NaN where missing.
    quantiles : ndarray of shape (n_quantiles,)
        Levels in [0, 1].

    Returns
    -------
    ndarray of shape (n_bands, 2 + n_quantiles)
        NaN where a band has no valid pixel.
    """
    result = np.full((len(values), 2 + len(quantiles)), np.nan)
    for row, numbers in zip(result, values, strict=True):
        valid = numbers[~np.isnan(numbers)]
        if len(valid):
            row[:] = valid.mean(), valid.std(), *np.quantile(valid, quantiles)
    return result


def normalized_difference(
    first: NDArray[np.float64], second: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return (first - second) / (first + second), NaN where the sum is 0."""
    total = first + second
    defined = total != 0  # also where NaN, which stays NaN
    ratio = np.full_like(total, np.nan)
    return np.divide(first - second, total, out=ratio, where=defined)
