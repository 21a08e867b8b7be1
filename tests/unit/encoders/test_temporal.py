import copy

import pytest
import torch
from torch import nn

from terracausal.encoders.networks.temporal import RotaryTransformer, TemporalAttention, rotate

N_FEATURES = 32


def network(seed=0, depth=1, kind=TemporalAttention):
    generator = torch.Generator().manual_seed(seed)
    return kind(N_FEATURES, depth=depth, generator=generator).double()


def sequences(n_rows=3, n_times=5):
    generator = torch.Generator().manual_seed(1)
    vectors = torch.randn(n_rows, n_times, N_FEATURES, generator=generator, dtype=torch.float64)
    days = torch.rand(n_rows, n_times, generator=generator, dtype=torch.float64).cumsum(1) * 900
    return vectors, torch.zeros(n_rows, n_times, dtype=torch.bool), days


def plain_reading(net, vectors, days):
    """One sequence by loops: the first token after one block, from the parameters alone."""
    block, n_heads = net.blocks[0], net.blocks[0].n_heads
    size = N_FEATURES // n_heads
    tokens = torch.cat([net.first[None], vectors])
    months = torch.cat([torch.zeros(1), (days - days[0]) / (365.25 / 12)])

    def norm(x, gain):
        return x / torch.sqrt((x**2).mean() + 1e-6) * gain

    def turned(vector, month):
        out = vector.clone()
        for k in range(size // 2):
            angle = month * 10_000.0 ** (-k / (size // 2))
            a, b = vector[k], vector[k + size // 2]
            out[k] = a * torch.cos(angle) - b * torch.sin(angle)
            out[k + size // 2] = b * torch.cos(angle) + a * torch.sin(angle)
        return out

    read = [
        block.query_key_value.weight @ norm(token, block.norm_attention.weight) for token in tokens
    ]
    query, key, value = zip(*(row.split(N_FEATURES) for row in read), strict=True)
    mixed = []
    for head in range(n_heads):
        part = slice(head * size, (head + 1) * size)
        asked = turned(query[0][part], months[0])
        logits = torch.stack(
            [asked @ turned(k[part], m) / size**0.5 for k, m in zip(key, months, strict=True)]
        )
        share = logits.exp() / logits.exp().sum()
        mixed.append(sum(s * v[part] for s, v in zip(share, value, strict=True)))
    first, second = torch.log1p(block.residual_weights.exp())
    x = tokens[0] + first * block.mix.weight @ torch.cat(mixed)
    gate, other = (block.gate_and_value.weight @ norm(x, block.norm_hidden.weight)).chunk(2)
    return x + second * block.back.weight @ (gate * torch.sigmoid(gate) * other)


def test_equals_the_plain_reading():
    net = network()
    vectors, missing, days = sequences()
    found = net(vectors, missing, days)
    for row in range(3):
        expected = plain_reading(net, vectors[row], days[row])
        torch.testing.assert_close(found[row], expected, rtol=1e-10, atol=1e-10)


def test_missing_images_are_as_if_never_taken():
    net = network()
    vectors, missing, days = sequences()
    whole = net(vectors[:, 1:4], missing[:, 1:4], days[:, 1:4])
    vectors[:, [0, 4]], days[:, 4] = torch.nan, torch.nan
    missing[:, [0, 4]] = True
    torch.testing.assert_close(net(vectors, missing, days), whole, rtol=1e-12, atol=1e-12)


def test_dates_count_and_their_origin_does_not():
    net = network()
    vectors, missing, days = sequences()
    found = net(vectors, missing, days)
    torch.testing.assert_close(net(vectors, missing, days + 7000), found, rtol=1e-9, atol=1e-9)
    swapped = net(vectors, missing, days[:, [0, 3, 2, 1, 4]])
    # the two swapped images keep their vectors, so that only positions can tell
    assert (swapped - found).abs().amax(dim=1).min() > 1e-3
    # with equal dates attention is blind to order
    still = torch.zeros_like(days)
    order = [4, 2, 0, 1, 3]
    torch.testing.assert_close(
        net(vectors[:, order], missing, still), net(vectors, missing, still), rtol=1e-9, atol=1e-9
    )


def test_one_image_and_rows_alone():
    net = network()
    vectors, missing, days = sequences()
    assert torch.isfinite(net(vectors[:, :1], missing[:, :1], days[:, :1])).all()
    together = net(vectors, missing, days)
    for row in range(3):
        part = slice(row, row + 1)
        torch.testing.assert_close(
            net(vectors[part], missing[part], days[part]), together[part], rtol=1e-12, atol=1e-12
        )


def test_parameters_come_from_the_generator_alone():
    before = torch.get_rng_state()
    first, same, other = (network(seed).state_dict() for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), before)
    for name, value in first.items():
        assert torch.equal(value, same[name])
    assert not torch.equal(first["first"], other["first"])


def test_residuals_start_at_one_over_the_root_of_twice_the_depth():
    for depth in (1, 4):
        for block in network(depth=depth).blocks:
            start = nn.functional.softplus(block.residual_weights)
            expected = torch.full_like(start, (2 * depth) ** -0.5)
            torch.testing.assert_close(start, expected, rtol=1e-6, atol=0)  # kept in float32


def test_it_can_be_trained():
    net = network()
    untrained = copy.deepcopy(net)
    vectors, missing, days = sequences()
    wanted = torch.ones(3, N_FEATURES, dtype=torch.float64)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    losses = []
    for _ in range(30):
        loss = ((net(vectors, missing, days) - wanted) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2
    for (name, value), start in zip(net.named_parameters(), untrained.parameters(), strict=True):
        assert not torch.equal(value, start), name


def test_rotation_keeps_lengths_and_sees_differences_only():
    vectors, _, _ = sequences(2, 3)
    a, b = vectors[:, None], vectors.flip(0)[:, None]
    positions = torch.tensor([[0.0, 3.0, 50.0]] * 2, dtype=torch.float64)
    torch.testing.assert_close(rotate(a, positions).norm(dim=-1), a.norm(dim=-1))
    once = (rotate(a, positions) * rotate(b, positions + 2)).sum(-1)
    moved = (rotate(a, positions + 9) * rotate(b, positions + 11)).sum(-1)
    torch.testing.assert_close(once, moved)
    # quarter turn of the first pair, by hand
    quarter = rotate(torch.tensor([[[[1.0, 0.0]]]]), torch.tensor([[torch.pi / 2]]))
    torch.testing.assert_close(quarter.flatten(), torch.tensor([0.0, 1.0]), atol=1e-6, rtol=0)


def test_widths_that_heads_cannot_share_are_refused():
    with pytest.raises(ValueError, match=r"multiple of 16, .* got 40"):
        TemporalAttention(40)
    with pytest.raises(ValueError, match="`depth` must be an integer of at least 1; got 0"):
        RotaryTransformer(32, depth=0)
