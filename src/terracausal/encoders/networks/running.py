"""Run a network over sites a few at a time, and over fewer where memory does not suffice."""

import warnings
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn

T = TypeVar("T")


class Appetite:
    """How many sites a device takes at once; learned from its running out of memory.

    Parameters
    ----------
    n_at_once : int
        To start with.
    device : torch.device
        Named in the warning.

    Examples
    --------
    >>> appetite = Appetite(2, torch.device("cpu"))
    >>> appetite.feed(3, lambda start, stop: stop - start)
    [2, 1]
    """

    def __init__(self, n_at_once: int, device: torch.device) -> None:
        self.n_at_once = n_at_once
        self.device = device

    def feed(
        self, n_sites: int, work: Callable[[int, int], T], before: Callable[[], None] | None = None
    ) -> list[T]:
        """Return what `work(start, stop)` returns for all parts of `n_sites`.

        Where memory runs out, parts are halved and all is done again, `before` included.

        Raises
        ------
        MemoryError
            If not even one site fits.
        """
        while True:
            if before is not None:
                before()
            try:
                step = self.n_at_once
                return [work(k, min(k + step, n_sites)) for k in range(0, n_sites, step)]
            except torch.cuda.OutOfMemoryError as error:
                size = min(self.n_at_once, n_sites)
                if size == 1:
                    raise MemoryError(
                        f"The memory of {self.device} does not hold the network and one site. "
                        "Use a smaller network or smaller chips, or `device='cpu'`."
                    ) from error
                self.n_at_once = size // 2
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
            warnings.warn(
                f"The memory of {self.device} does not hold {size} sites at once; going on with "
                f"{self.n_at_once}. Steps keep their size, summed over parts.",
                RuntimeWarning,
                stacklevel=2,
            )


def run_sites(
    function: nn.Module | Callable[[Tensor, Tensor], Tensor],
    inputs: Sequence[Tensor],
    appetite: Appetite,
) -> Tensor:
    """Return what a function of pixels and days gives, without gradients.

    Parameters
    ----------
    function : callable
        Of pixels (b, n_times, n_bands, h, w) and days (b, n_times) on the device of `appetite`.
    inputs : pair of Tensor
        Pixels and days of all sites, on the CPU.
    appetite : Appetite
        Device, and sites at once.

    Returns
    -------
    Tensor of shape (b, n_outputs)
        float32 on the CPU. CUDA computes in bfloat16 where torch holds that to be safe.
    """
    pixels, days = inputs

    def part(start: int, stop: int) -> Tensor:
        with torch.no_grad(), half_precision(appetite.device):
            moved = (x[start:stop].to(appetite.device) for x in (pixels, days))
            found: Tensor = function(*moved)
        return found.float().cpu()

    return torch.cat(appetite.feed(len(pixels), part))


def half_precision(device: torch.device) -> torch.autocast:
    """Return a block in which CUDA computes in bfloat16, and a CPU as usual."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda")
