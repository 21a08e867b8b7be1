"""Where torch computes, and random numbers of torch without its global streams."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


def find_device(name: str) -> torch.device:
    """Return a device, or say why there is none.

    Raises
    ------
    ValueError
        If it is neither "cpu" nor "cuda".
    RuntimeError
        If CUDA is asked for and absent.

    Examples
    --------
    >>> find_device("cpu")
    device(type='cpu')
    """
    kind = str(name).partition(":")[0]
    if kind not in ("cpu", "cuda"):
        raise ValueError(f"`device` must be 'cpu' or 'cuda' (or 'cuda:1', …); got {name!r}.")
    device = torch.device(name)
    if kind == "cuda" and not torch.cuda.is_available():
        raise RuntimeError(
            f"`device={name!r}` asks for a GPU, but torch {torch.__version__} sees none: there is "
            "no CUDA device, or torch was installed without CUDA. Use `device='cpu'`."
        )
    return device


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Let torch draw from a seed inside the block, and leave its global streams as they were.

    Examples
    --------
    >>> with seeded(0, torch.device("cpu")):
    ...     first = torch.rand(1)
    >>> with seeded(0, torch.device("cpu")):
    ...     bool(first == torch.rand(1))
    True
    """
    on_cuda = device.type == "cuda"
    with torch.random.fork_rng(devices=[device] if on_cuda else []):
        torch.default_generator.manual_seed(seed)
        if on_cuda:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield
