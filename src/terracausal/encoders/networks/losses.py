"""Losses by unit, as `train_network` takes them."""

from torch import Tensor
from torch.nn import functional


def squared_error(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the mean over targets of squared differences.

    Parameters
    ----------
    outputs, targets : Tensor of shape (b, n_targets)

    Returns
    -------
    Tensor of shape (b,)

    Examples
    --------
    >>> import torch
    >>> squared_error(torch.zeros(1, 2), torch.tensor([[1.0, 3.0]])).tolist()
    [5.0]
    """
    return (outputs - targets).square().mean(dim=1)


def cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the mean over targets of minus the log-likelihood of 0 and 1 given log-odds.

    Parameters
    ----------
    outputs : Tensor of shape (b, n_targets)
        Log-odds.
    targets : Tensor of shape (b, n_targets)
        0 or 1.

    Returns
    -------
    Tensor of shape (b,)

    Examples
    --------
    >>> import torch
    >>> cross_entropy(torch.zeros(1, 1), torch.ones(1, 1)).round(decimals=3).tolist()
    [0.6930000185966492]
    """
    losses = functional.binary_cross_entropy_with_logits(outputs, targets, reduction="none")
    return losses.mean(dim=1)
