"""Missing pixels inside networks: which are seen, and sums over those alone."""

import torch
from torch import Tensor, nn
from torch.nn import functional

LEAST_SEEN = 0.5
"""Share of a window that must be seen for its sum to count."""


def seen_of(images: Tensor) -> tuple[Tensor, Tensor | None]:
    """Return what `split_missing` does, and None for where images were seen if that is everywhere.

    Most images lack nothing, and keeping account of it takes as long as the convolutions do.

    Examples
    --------
    >>> seen_of(torch.ones(2))[1] is None
    True
    """
    if not images.isnan().any():
        return images, None
    return split_missing(images)


def split_missing(images: Tensor) -> tuple[Tensor, Tensor]:
    """Return images with 0 for NaN, and 1 where they were seen and 0 elsewhere.

    Examples
    --------
    >>> [part.tolist() for part in split_missing(torch.tensor([2.0, torch.nan]))]
    [[2.0, 0.0], [1.0, 0.0]]
    """
    gap = images.isnan()
    return images.masked_fill(gap, 0.0), (~gap).to(images.dtype)


class PartialConvolution(nn.Module):
    """A convolution over the pixels that are seen, scaled up by the share of them in its window.

    Where everything is seen this is an ordinary convolution with zeros around the image. Windows of
    which less than half is seen are missing in the result, because the scaling would make their
    noise stand out. Whether a pixel is missing is not told to later layers in any other way: a
    network should not learn from clouds and scan lines.

    Liu, G. et al. (2018). Image inpainting for irregular holes using partial convolutions.
    ECCV, equation 1.

    Parameters
    ----------
    n_in, n_out : int
        Number of maps.
    width_px : int, default=3
        Side of the window; odd.

    Examples
    --------
    >>> layer = PartialConvolution(2, 4)
    >>> found, seen = layer(torch.ones(1, 2, 5, 5), torch.ones(1, 2, 5, 5))
    >>> found.shape, seen.shape
    (torch.Size([1, 4, 5, 5]), torch.Size([1, 1, 5, 5]))
    """

    def __init__(self, n_in: int, n_out: int, width_px: int = 3) -> None:
        super().__init__()
        self.width_px = width_px
        self.convolution = nn.Conv2d(n_in, n_out, width_px, padding=width_px // 2)

    def forward(self, x: Tensor, seen: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Return the maps (b, n_out, h, w), 0 where missing, and where they are seen (b, 1, h, w).

        Parameters
        ----------
        x : Tensor of shape (b, n_in, h, w)
            0 where missing.
        seen : Tensor of shape (b, n_in or 1, h, w), or None
            1 where seen, 0 elsewhere; None where all is seen, then as now.
        """
        weight, bias = self.convolution.weight, self.convolution.bias
        found = functional.conv2d(x, weight, padding=self.width_px // 2)
        if seen is None:
            return (found if bias is None else found + bias[:, None, None]), None
        share = functional.avg_pool2d(
            seen.mean(dim=1, keepdim=True),
            self.width_px,
            stride=1,
            padding=self.width_px // 2,
            count_include_pad=False,
        )
        kept = share >= LEAST_SEEN
        found = found / share.clamp_min(LEAST_SEEN)
        if bias is not None:
            found = found + bias[:, None, None]
        return found.masked_fill(~kept, 0.0), kept.to(seen.dtype)


def halve(x: Tensor, seen: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Return means of what is seen in squares of 2 x 2, and where anything is seen.

    None stands for everywhere.

    Examples
    --------
    >>> x = torch.tensor([[[[4.0, 0.0], [2.0, 0.0]]]])
    >>> seen = torch.tensor([[[[1.0, 0.0], [1.0, 0.0]]]])
    >>> halve(x, seen)[0].item()
    3.0
    """
    total = functional.avg_pool2d(x, 2, ceil_mode=True)
    if seen is None:
        return total, None
    share = functional.avg_pool2d(seen, 2, ceil_mode=True)
    some = share > 0
    return total / share.masked_fill(~some, 1.0), some.to(seen.dtype)


def mean_and_max(x: Tensor, seen: Tensor | None) -> Tensor:
    """Return mean and maximum over the seen positions, NaN for an image without one.

    Parameters
    ----------
    x : Tensor of shape (b, n_maps, h, w)
        Finite everywhere.
    seen : Tensor of shape (b, 1, h, w), or None
        1 where seen, 0 elsewhere; None where all is seen.

    Returns
    -------
    Tensor of shape (b, 2 n_maps)

    Examples
    --------
    >>> x, seen = torch.tensor([[[[1.0, 3.0, 9.0]]]]), torch.tensor([[[[1.0, 1.0, 0.0]]]])
    >>> mean_and_max(x, seen).tolist()
    [[2.0, 3.0]]
    """
    if seen is None:
        mean = x.sum(dim=(2, 3)) / (x.shape[2] * x.shape[3])
        return torch.cat([mean, x.amax(dim=(2, 3))], dim=1)
    gap = seen == 0
    count = seen.sum(dim=(2, 3))
    mean = x.masked_fill(gap, 0.0).sum(dim=(2, 3)) / count.clamp_min(1.0)
    highest = x.masked_fill(gap, torch.finfo(x.dtype).min).amax(dim=(2, 3))
    return torch.cat([mean, highest], dim=1).masked_fill(count == 0, torch.nan)
