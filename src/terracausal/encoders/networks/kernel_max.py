"""The network of the confounding paper: a linear filter, and its strongest answer in the image.

Jerzak, C. T., Johansson, F. and Daoud, A. (2023). Integrating Earth observation data into causal
inference: challenges and opportunities. arXiv:2301.12985, section on simulations.
"""

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from terracausal._foundation.checks import check_choice, check_count
from terracausal.encoders.networks.missing import split_missing


class KernelMaxNetwork(nn.Module):
    """Linear convolution, then maximum (or mean) over the image; the affine map is the head.

    In training, answers are standardised over the sites of a step, as in the paper, and afterwards
    by running moments. Without this the head would chase the mean of the maximum, which lies many
    standard deviations from 0.

    Only the strongest window of an image has a gradient, so that trainings end in different places:
    take a high learning rate (0.1), a few filters and several restarts, as in
    `TrainingSettings(learning_rate=0.1, n_epochs=20, n_restarts=4)`.

    Parameters
    ----------
    n_bands : int
        Number of bands.
    width_px : int, default=8
        Side of the filters.
    n_filters : int, default=4
        Number of filters; the paper has one. More filters are more tries to find the pattern.
    pooling : {'max', 'mean'}, default='max'
        Over all windows that lie inside the image and touch no missing pixel.

    Attributes
    ----------
    n_features : int
        Number of filters.
    oriented : bool
        True: a turned or mirrored image has other features, so that none is shown in training.

    Examples
    --------
    >>> network = KernelMaxNetwork(n_bands=1, width_px=4, n_filters=2)
    >>> network(torch.zeros(3, 1, 16, 16)).shape
    torch.Size([3, 2])
    """

    oriented = True
    feature_mean: Tensor
    feature_variance: Tensor

    def __init__(
        self,
        n_bands: int,
        width_px: int = 8,
        n_filters: int = 4,
        pooling: Literal["max", "mean"] = "max",
    ) -> None:
        super().__init__()
        check_choice("pooling", pooling, ("max", "mean"))
        check_count("width_px", width_px)
        self.n_features = check_count("n_filters", n_filters)
        self.pooling = pooling
        shape = (n_filters, check_count("n_bands", n_bands), width_px, width_px)
        self.filters = nn.Parameter(torch.randn(shape) / math.sqrt(n_bands) / width_px)
        self.register_buffer("feature_mean", torch.zeros(n_filters))
        self.register_buffer("feature_variance", torch.ones(n_filters))

    def forward(self, images: Tensor) -> Tensor:
        """Return the features of images.

        Parameters
        ----------
        images : Tensor of shape (b, n_bands, h, w)
            Standardised, NaN where missing.

        Returns
        -------
        Tensor of shape (b, n_filters)
            NaN for an image without a complete window.

        Raises
        ------
        ValueError
            If the images are smaller than the filters.
        """
        width_px = self.filters.shape[-1]
        height, width = images.shape[-2:]
        if min(height, width) < width_px:
            raise ValueError(
                f"Chips must be at least as large as the filters of {width_px} x {width_px} px; "
                f"these have {height} x {width} px. Read larger chips or take a smaller `width_px`."
            )
        x, seen = split_missing(images)
        touched = _touched(seen, width_px)
        found = self._highest(x, touched) if self.pooling == "max" else self._mean(x, touched)
        if touched is None:
            return self._standardised(found)
        empty = touched.flatten(1).all(dim=1)
        standard = torch.full_like(found, torch.nan)
        standard[~empty] = self._standardised(found[~empty])
        return standard

    def _standardised(self, found: Tensor) -> Tensor:
        return functional.batch_norm(
            found,
            self.feature_mean,
            self.feature_variance,
            training=self.training and len(found) > 1,
            eps=1e-3,
        )

    def _mean(self, x: Tensor, touched: Tensor | None) -> Tensor:
        maps = functional.conv2d(x, self.filters)
        if touched is None:
            return maps.mean(dim=(2, 3))
        total = maps.masked_fill(touched, 0.0).sum(dim=(2, 3))
        return total / (~touched).sum(dim=(2, 3)).clamp_min(1)

    def _highest(self, x: Tensor, touched: Tensor | None) -> Tensor:
        """Return the maximum (b, n_filters); only its window is kept for the gradient."""
        with torch.no_grad():
            maps = functional.conv2d(x, self.filters)
            if touched is not None:
                maps = maps.masked_fill(touched, torch.finfo(maps.dtype).min)
            # a third of the time that argmax takes
            place = maps.flatten(2).max(dim=2).indices
        width_px, n_columns = self.filters.shape[-1], maps.shape[-1]
        windows = x.unfold(2, width_px, 1).unfold(3, width_px, 1)
        image = torch.arange(len(x), device=x.device)[:, None]
        chosen = windows[image, :, place // n_columns, place % n_columns]
        return (chosen * self.filters).sum(dim=(2, 3, 4))


def _touched(seen: Tensor, width_px: int) -> Tensor | None:
    """Return which windows (b, 1, h', w') hold a pixel that is not seen; None where all are."""
    gap = 1 - seen.amin(dim=1, keepdim=True)
    if not gap.any():  # most often, and the maximum below takes longer than the convolution
        return None
    return functional.max_pool2d(gap, width_px, stride=1) > 0
