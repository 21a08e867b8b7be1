"""Networks whose every parameter has a normal posterior: the layers of the paper.

The paper (arXiv:2206.06417) trains twice: first by maximum likelihood, then with a prior around
what was found (empirical Bayes, as Krishnan et al. 2020, arXiv:1906.05323). Its normal posterior is
independent over parameters; a draw is shared by all sites of a step.
"""

import math

import torch
from torch import Tensor, nn
from torch.func import functional_call

_SMALLEST, _SHARE = 0.001, 0.1  # prior SD: a tenth of the SD of the parameters of a layer


class MeanField(nn.Module):
    """A network with independent normal parameters around trained ones.

    In training each call draws all parameters anew; afterwards the means are used, but inside
    `drawing`.

    Parameters
    ----------
    network : torch.nn.Module
        Trained; its parameters are the prior's means, and where the posterior's start.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network.train().requires_grad_(True)
        self._names = [name for name, _ in network.named_parameters()]
        centres = [p.detach().clone() for _, p in network.named_parameters()]
        spreads = [_prior_sd(p) for p in centres]
        for number, (centre, spread) in enumerate(zip(centres, spreads, strict=True)):
            self.register_buffer(f"centre_{number}", centre)
            self.register_buffer(f"spread_{number}", torch.tensor(spread))
        self.log_sds = nn.ParameterList(
            torch.full_like(p, math.log(s)) for p, s in zip(centres, spreads, strict=True)
        )
        self.drawing = False

    @property
    def oriented(self) -> bool:
        """Whether turned and mirrored images are other images to the network."""
        return bool(getattr(self.network, "oriented", False))

    def forward(self, pixels: Tensor, days: Tensor) -> Tensor:
        """Return what the network gives, with drawn parameters in training."""
        if not (self.training or self.drawing):
            found: Tensor = self.network(pixels, days)
            return found
        drawn = {
            name: parameter + torch.exp(log_sd) * torch.randn_like(parameter)
            for (name, parameter), log_sd in zip(
                self.network.named_parameters(), self.log_sds, strict=True
            )
        }
        given: Tensor = functional_call(self.network, drawn, (pixels, days))
        return given

    def divergence(self) -> Tensor:
        """Return the Kullback-Leibler divergence of the posterior from the prior."""
        total = torch.zeros(())
        for number, ((_, mean), log_sd) in enumerate(
            zip(self.network.named_parameters(), self.log_sds, strict=True)
        ):
            centre = self.get_buffer(f"centre_{number}")
            spread = self.get_buffer(f"spread_{number}")
            ratio = torch.exp(2 * log_sd) / spread**2
            away = ((mean - centre) / spread) ** 2
            own: Tensor = 0.5 * (ratio + away - 1 - torch.log(ratio)).sum()
            total = total.to(own.device) + own
        return total


def _prior_sd(parameter: Tensor) -> float:
    if parameter.numel() < 2:
        return _SMALLEST
    return max(_SMALLEST, _SHARE * float(parameter.std()))
