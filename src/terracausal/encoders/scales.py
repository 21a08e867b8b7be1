"""Several scales: one encoder on centre crops of several sizes."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone

from terracausal._foundation.checks import check_count
from terracausal._foundation.errors import list_some
from terracausal._foundation.randomness import canonical_order
from terracausal.encoders.base import ChipBatch, ChipEncoder
from terracausal.encoders.nesting import inner_columns, inner_images, inner_sequences
from terracausal.encoders.reduction import fit_components
from terracausal.imagery import Chips
from terracausal.imagery.cropping import centre_crop, check_crop, crop_pixels


class MultiScaleEncoder(ChipEncoder):
    """Encode centre crops of several sizes and put the columns side by side.

    Parameters
    ----------
    encoder : ChipEncoder
        Encodes the crops; cloned and fitted for each size.
    sizes_px : tuple of int, default=(16, 32)
        Heights and widths of the crops in pixels, each once.
    equal_width : bool, default=False
        Whether the columns of all sizes are reduced, by principal components of the fitted sites,
        to as many as one size has.
    n_components : int, default=None
        Number of principal components of the fitted sites to keep; None keeps all columns.
    whiten : bool, default=False
        Whether components have unit variance over the fitted sites.

    Attributes
    ----------
    encoders_ : list of ChipEncoder
        The fitted encoder of each size.
    bands_ : tuple of str
        Bands of the fitted chips.
    n_sites_fitted_ : int
        Number of fitted sites.
    components_ : PrincipalComponents or None
        The reduction.

    Notes
    -----
    The columns of a 32 px crop are those of the inner encoder after `px032_`. Crops are centred on
    the chip; where the sizes differ by an odd number of pixels the centre of the crop lies half a
    pixel towards the first row or column.

    More scales are more columns, and more columns alone can help or hurt a learner.
    `equal_width=True` is the control: what it gains over one scale is not gained by width, because
    it has the columns of one scale, and needs more sites than these. `n_components` set to the same
    number for one scale and for several compares both as principal components, as in [1]_.

    References
    ----------
    .. [1] Zhu, F. Z., Jerzak, C. T. and Daoud, A. (2025). Optimizing multi-scale representations to
       detect effect heterogeneity using Earth observation and computer vision. CLeaR, PMLR 275.
       arXiv:2411.02134.

    Examples
    --------
    >>> from terracausal.encoders.band_statistics import BandStatisticsEncoder
    >>> pixels = np.arange(16.0).reshape(1, 1, 1, 4, 4)
    >>> chips = Chips.from_arrays(pixels, sites=["a"], bands=["red"])
    >>> encoder = MultiScaleEncoder(BandStatisticsEncoder(quantiles=()), sizes_px=(2, 4))
    >>> list(encoder.fit_transform(chips).columns)
    ['px002_red_mean', 'px002_red_sd', 'px004_red_mean', 'px004_red_sd']
    """

    encoders_: list[ChipEncoder]

    def __init__(
        self,
        encoder: ChipEncoder,
        sizes_px: Sequence[int] = (16, 32),
        equal_width: bool = False,
        n_components: int | None = None,
        whiten: bool = False,
    ) -> None:
        self.encoder = encoder
        self.sizes_px = sizes_px
        self.equal_width = equal_width
        self.n_components = n_components
        self.whiten = whiten

    @property
    def supervised(self) -> bool:  # type: ignore[override]
        """Whether the inner encoder reads outcomes."""
        return self.encoder.supervised

    def fit(self, chips: Chips, y: object = None) -> Self:
        """Learn from crops of the chips; see `ChipEncoder.fit`."""
        super().fit(chips, y)
        if self.equal_width:
            n_wanted = len(inner_columns(self.encoders_[0]))
            if chips.n_sites <= n_wanted:
                raise ValueError(
                    f"`equal_width` reduces to the {n_wanted} columns of one scale, which needs "
                    f"more sites than that; got {chips.n_sites}. Fit on more sites, or give the "
                    "inner encoder fewer columns."
                )
            ordered = chips.select(chips.keys[canonical_order(chips.keys)])
            self.components_ = fit_components(self._rows(ordered), n_wanted, whiten=self.whiten)
        return self

    def _learn(self, chips: Chips, y: object) -> None:
        if not isinstance(self.encoder, ChipEncoder):
            raise TypeError(
                f"`encoder` must be an encoder of chips; got {type(self.encoder).__name__}."
            )
        sizes = tuple(self.sizes_px)
        for size in sizes:
            check_count("sizes_px", size)
        if not sizes or len(set(sizes)) < len(sizes):
            raise ValueError(
                f"`sizes_px` must name one size or more, each once; got {list_some(sizes, 12)}."
            )
        if self.equal_width and self.n_components is not None:
            raise ValueError(
                "`equal_width` sets the number of components; got also `n_components` = "
                f"{self.n_components}. Give one of them."
            )
        check_crop(chips.size_px, max(sizes))
        self.encoders_ = [clone(self.encoder).fit(centre_crop(chips, size), y) for size in sizes]

    def _columns(self) -> list[str]:
        return [
            f"px{size:03d}_{name}"
            for size, encoder in zip(self.sizes_px, self.encoders_, strict=True)
            for name in inner_columns(encoder)
        ]

    def _rows(self, chips: Chips) -> NDArray[np.float64]:
        check_crop(chips.size_px, max(self.sizes_px))
        return super()._rows(chips)

    def _encode(self, batch: ChipBatch) -> NDArray[np.float64]:
        parts = [
            inner_sequences(encoder, replace(batch, pixels=crop_pixels(batch.pixels, size)))
            for size, encoder in zip(self.sizes_px, self.encoders_, strict=True)
        ]
        return np.concatenate(parts, axis=1)

    def _encode_images(self, pixels: NDArray[np.float32]) -> NDArray[np.float64]:
        parts = [
            inner_images(encoder, crop_pixels(pixels, size))
            for size, encoder in zip(self.sizes_px, self.encoders_, strict=True)
        ]
        return np.concatenate(parts, axis=1)

    def _need(self) -> str:
        sizes = list_some(sorted(self.sizes_px), 12)
        return f"{self.encoders_[0]._need()} in centre crops of {sizes} px"

    def _sites_at_once(self) -> int:
        return min(encoder._sites_at_once() for encoder in self.encoders_)

    def _description(self) -> dict[str, Any]:
        by_size = zip(self.sizes_px, self.encoders_, strict=True)
        scales = {str(size): encoder._description() for size, encoder in by_size}
        return {**super()._description(), "scales": scales}
