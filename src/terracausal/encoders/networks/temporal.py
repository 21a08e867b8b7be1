"""Attention over the images of a sequence, with rotary positions that are true dates.

Jerzak, C. T., Vashistha, R. and Daoud, A. (2024). Effect heterogeneity with Earth observation in
randomized controlled trials: exploring the role of data, model, and evaluation metric choice.
arXiv:2407.11674. Their randomised temporal transformer ("R-T") has random parameters and rotates by
the number of the image; here the rotation is by date, so that gaps in a sequence count.

Su, J., Lu, Y., Pan, S. et al. (2021). RoFormer: enhanced transformer with rotary position
embedding. arXiv:2104.09864.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from terracausal._foundation.checks import check_count

MONTH_DAYS = 365.25 / 12
_ROTARY_BASE = 10_000.0
_HIDDEN_PER_FEATURE = 3.5
_SMALL = 1e-6  # under the root of RMSNorm


class RotaryTransformer(nn.Module):
    """A transformer that reads tokens with positions and returns the vector of its own first token.

    Every block is RMSNorm, attention with rotary positions, residual, RMSNorm, SwiGLU, residual;
    what a block adds is scaled by softplus of a learned number that starts at 1 / sqrt(2 depth).

    Parameters
    ----------
    n_features : int
        Length of a token; a multiple of 2 `n_heads`.
    n_heads : int, default=8
        Number of attention heads.
    depth : int, default=1
        Number of blocks.
    generator : torch.Generator, default=None
        Source of the initial parameters, on the CPU; None uses torch's own.

    Raises
    ------
    ValueError
        If `n_features` is not a multiple of 2 `n_heads`.

    Examples
    --------
    >>> network = RotaryTransformer(16, generator=torch.Generator().manual_seed(0))
    >>> tokens, positions = torch.ones(3, 5, 16), torch.arange(5.0).expand(3, 5)
    >>> network(tokens, torch.zeros(3, 5, dtype=torch.bool), positions).shape
    torch.Size([3, 16])
    """

    def __init__(
        self,
        n_features: int,
        n_heads: int = 8,
        depth: int = 1,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        check_count("depth", depth)
        if check_count("n_features", n_features) % (2 * check_count("n_heads", n_heads)):
            raise ValueError(
                f"`n_features` must be a multiple of {2 * n_heads}, so that each of {n_heads} "
                f"heads turns pairs of numbers; got {n_features}."
            )
        self.first = nn.Parameter(torch.empty(n_features).normal_(generator=generator))
        self.blocks = nn.ModuleList(
            _Block(n_features, n_heads, depth, generator) for _ in range(depth)
        )

    def forward(self, tokens: Tensor, missing: Tensor, positions: Tensor) -> Tensor:
        """Return the vector of the first token.

        Parameters
        ----------
        tokens : Tensor of shape (b, n_tokens, n_features)
            What is read; missing tokens may hold NaN.
        missing : Tensor of shape (b, n_tokens)
            True where a token is ignored.
        positions : Tensor of shape (b, n_tokens)
            Place of each token on a line; the own first token stands at 0.

        Returns
        -------
        Tensor of shape (b, n_features)
            Does not depend on what missing tokens hold.
        """
        # 0 times NaN would be NaN, so that a mask alone does not do
        tokens = tokens.masked_fill(missing[..., None], 0.0)
        positions = positions.masked_fill(missing, 0.0).to(tokens.dtype)
        first = self.first.expand(len(tokens), 1, -1)
        x = torch.cat([first, tokens], dim=1)
        seen = functional.pad(~missing, (1, 0), value=True)
        places = functional.pad(positions, (1, 0))
        for block in self.blocks:
            x = block(x, seen, places)
        return x[:, 0]


class TemporalAttention(RotaryTransformer):
    """Attention over the images of a sequence: vectors by image in, one vector by site out.

    Positions are months since the first image that is not missing, so that the distance of two
    images is their distance in time, whatever lies between them. Untrained parameters make it the
    randomised temporal transformer of the reference; they can be trained like any others.

    Parameters
    ----------
    n_features : int
        Length of the vectors; a multiple of 2 `n_heads`.
    n_heads : int, default=8
        Number of attention heads.
    depth : int, default=1
        Number of blocks.
    generator : torch.Generator, default=None
        Source of the initial parameters, on the CPU; None uses torch's own.

    Raises
    ------
    ValueError
        If `n_features` is not a multiple of 2 `n_heads`.

    Examples
    --------
    >>> network = TemporalAttention(16, generator=torch.Generator().manual_seed(0))
    >>> vectors = torch.ones(1, 3, 16) * torch.tensor([1.0, 2.0, 3.0])[None, :, None]
    >>> seen, days = torch.zeros(1, 3, dtype=torch.bool), torch.tensor([[0.0, 30.0, 900.0]])
    >>> network(vectors, seen, days).shape
    torch.Size([1, 16])
    """

    def forward(self, vectors: Tensor, missing: Tensor, days: Tensor) -> Tensor:
        """Return one vector by sequence.

        Parameters
        ----------
        vectors : Tensor of shape (b, n_times, n_features)
            One per image; missing ones may hold NaN.
        missing : Tensor of shape (b, n_times)
            True where there is no image.
        days : Tensor of shape (b, n_times)
            Date of each image in days from any origin; NaN is allowed where missing.

        Returns
        -------
        Tensor of shape (b, n_features)
            Moving all dates of a site by the same number of days changes nothing.
        """
        first = days.masked_fill(missing, math.inf).amin(dim=1, keepdim=True)
        return super().forward(vectors, missing, (days - first) / MONTH_DAYS)


class _Block(nn.Module):
    def __init__(
        self, n_features: int, n_heads: int, depth: int, generator: torch.Generator | None
    ) -> None:
        super().__init__()
        hidden = round(_HIDDEN_PER_FEATURE * n_features)
        self.n_heads = n_heads
        self.norm_attention = nn.RMSNorm(n_features, eps=_SMALL)
        self.norm_hidden = nn.RMSNorm(n_features, eps=_SMALL)
        self.query_key_value = _linear(n_features, 3 * n_features, generator)
        self.mix = _linear(n_features, n_features, generator)
        self.gate_and_value = _linear(n_features, 2 * hidden, generator)
        self.back = _linear(hidden, n_features, generator)
        start = math.log(
            math.expm1(1 / math.sqrt(2 * depth))
        )  # softplus of it is 1 / sqrt(2 depth)
        self.residual_weights = nn.Parameter(torch.full((2,), start))

    def forward(self, x: Tensor, seen: Tensor, positions: Tensor) -> Tensor:
        scale = functional.softplus(self.residual_weights)
        x = x + scale[0] * self._attend(self.norm_attention(x), seen, positions)
        gate, value = self.gate_and_value(self.norm_hidden(x)).chunk(2, dim=-1)
        added: Tensor = scale[1] * self.back(functional.silu(gate) * value)
        return x + added

    def _attend(self, x: Tensor, seen: Tensor, positions: Tensor) -> Tensor:
        n_rows, n_tokens, n_features = x.shape
        parts = self.query_key_value(x).reshape(n_rows, n_tokens, 3, self.n_heads, -1)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        query, key = rotate(query, positions), rotate(key, positions)
        found = functional.scaled_dot_product_attention(
            query, key, value, attn_mask=seen[:, None, None, :]
        )
        mixed: Tensor = self.mix(found.transpose(1, 2).reshape(n_rows, n_tokens, n_features))
        return mixed


def rotate(vectors: Tensor, positions: Tensor) -> Tensor:
    """Turn pairs of numbers by angles in proportion to their position.

    The inner product of two turned vectors depends on the difference of their positions alone.
    Pair k of K turns by 10,000^(-k / K) per unit of position.

    Parameters
    ----------
    vectors : Tensor of shape (b, n_heads, n_tokens, 2 K)
        Queries or keys; number k and number K + k make pair k.
    positions : Tensor of shape (b, n_tokens)
        In any unit.

    Returns
    -------
    Tensor of shape (b, n_heads, n_tokens, 2 K)
        Of unchanged lengths.

    Examples
    --------
    >>> quarter = torch.tensor([[torch.pi / 2]])
    >>> rotate(torch.tensor([[[[1.0, 0.0]]]]), quarter).round().flatten().tolist()
    [-0.0, 1.0]
    """
    n_pairs = vectors.shape[-1] // 2
    steps = torch.arange(n_pairs, dtype=vectors.dtype, device=vectors.device) / n_pairs
    angle = positions[:, None, :, None] * _ROTARY_BASE**-steps
    first, second = vectors[..., :n_pairs], vectors[..., n_pairs:]
    cos, sin = angle.cos(), angle.sin()
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)


def _linear(n_in: int, n_out: int, generator: torch.Generator | None) -> nn.Linear:
    """Return a linear map without bias that keeps the variance of independent numbers."""
    # made without storage, because torch would draw numbers from its global stream
    layer = nn.Linear(n_in, n_out, bias=False, device="meta")
    values = torch.empty(n_out, n_in).normal_(0.0, 1 / math.sqrt(n_in), generator=generator)
    layer.weight = nn.Parameter(values)
    return layer
