"""What networks see of an image: all that is there, nothing that is missing, no other image."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from terracausal.encoders.networks import ChannelViT, ConvNetwork, KernelMaxNetwork, SiteNetwork
from terracausal.encoders.networks.channel_vit import plane_positions
from terracausal.encoders.networks.devices import seeded
from terracausal.encoders.networks.missing import PartialConvolution, halve
from terracausal.encoders.networks.temporal import TemporalAttention

FLOAT32 = 1e-5  # results of order 1 in float32, summed in another order
MAKERS = {
    "cnn": lambda n_bands: ConvNetwork(n_bands, widths=(8, 8)),
    "channelvit": lambda n_bands: ChannelViT(n_bands, patch_px=4, n_features=16),
    "kernel_max": lambda n_bands: KernelMaxNetwork(n_bands, width_px=3, n_filters=5),
    "kernel_mean": lambda n_bands: KernelMaxNetwork(n_bands, 3, n_filters=5, pooling="mean"),
}
every_network = pytest.mark.parametrize("kind", list(MAKERS))


def network_of(kind, n_bands=3):
    with seeded(0, torch.device("cpu")):
        return MAKERS[kind](n_bands).eval()


def images(n=6, n_bands=3, size=(12, 15), seed=0):
    return torch.randn(n, n_bands, *size, generator=torch.Generator().manual_seed(seed))


def with_gaps(x):
    x = x.clone()
    x[0, :, 3:5, 2:7] = torch.nan  # in all bands
    x[1, 1, 5:, :] = torch.nan  # in one band
    x[2, 2] = torch.nan  # a whole band
    return x


@every_network
@pytest.mark.parametrize("n_bands", [1, 2, 7])
def test_any_number_of_bands_and_any_size(kind, n_bands):
    network = network_of(kind, n_bands)
    for size in ((12, 15), (8, 8), (17, 9)):
        assert network(images(2, n_bands, size)).shape == (2, network.n_features)


@every_network
def test_an_image_without_pixels_is_nan_and_its_gradient_is_not(kind):
    x = images()
    x[4] = torch.nan
    network = network_of(kind)
    found = network(x)
    assert found.isnan().any(dim=1).tolist() == [False] * 4 + [True, False]
    found[[0, 1, 2, 3, 5]].sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in network.parameters())


@every_network
def test_one_image_alone_gets_the_same_vector(kind):
    x, network = with_gaps(images()), network_of(kind)
    together = network(x)
    for k in range(len(x)):
        torch.testing.assert_close(
            network(x[k : k + 1])[0], together[k], rtol=FLOAT32, atol=FLOAT32, equal_nan=True
        )


@every_network
def test_permuted_images_give_permuted_vectors(kind):
    x, network = with_gaps(images()), network_of(kind)
    order = [3, 1, 5, 0, 2, 4]
    torch.testing.assert_close(
        network(x[order]), network(x)[order], rtol=FLOAT32, atol=FLOAT32, equal_nan=True
    )


@every_network
def test_two_networks_share_nothing(kind):
    one, two = network_of(kind), network_of(kind)
    before = one(images()).detach()
    with torch.no_grad():
        for parameter in two.parameters():
            parameter.add_(torch.randn(parameter.shape))
    assert torch.equal(one(images()), before)
    assert not torch.equal(two(images()), before)


@every_network
def test_what_lies_under_a_gap_never_reaches_the_result(kind):
    """The gradient of the result by the pixels is 0 exactly where they are missing."""
    gaps = with_gaps(images()).isnan()
    for kept in (gaps[:1], gaps[1:2]):
        x = images(1).masked_fill(kept, torch.nan).requires_grad_()
        network_of(kind)(x).square().sum().backward()
        assert (x.grad[kept] == 0).all()
        assert (x.grad[~kept] != 0).any()


def test_a_complete_image_goes_through_ordinary_convolutions():
    layer, x = PartialConvolution(3, 4), images()
    found, seen = layer(x, torch.ones_like(x))
    plain = functional.conv2d(x, layer.convolution.weight, layer.convolution.bias, padding=1)
    torch.testing.assert_close(found, plain)
    assert seen.all()


def test_a_complete_image_is_the_same_beside_one_with_gaps():
    # without gaps nothing is counted, which must change no number
    x = images(2)
    beside = x.clone()
    beside[1, :, 3:9, 2:7] = torch.nan
    network = network_of("cnn")
    one, two = network(x), network(beside)
    torch.testing.assert_close(one[0], two[0], rtol=0, atol=0)
    assert not torch.allclose(one[1], two[1])


def test_partial_convolution_by_hand():
    layer = PartialConvolution(1, 1)
    with torch.no_grad():
        layer.convolution.weight.fill_(1 / 9)
        layer.convolution.bias.fill_(2.0)
    x = torch.arange(25.0).reshape(1, 1, 5, 5)
    seen = torch.ones_like(x)
    seen[0, 0, 2, 1:3] = 0
    found, kept = layer(x * seen, seen)
    window = [value for value in (6, 7, 8, 11, 12, 13, 16, 17, 18) if value not in (11, 12)]
    # 7 of 9 seen: their mean stands for the window
    assert found[0, 0, 2, 2].item() == pytest.approx(np.mean(window) + 2)
    assert kept.all()
    seen[0, 0, 1:4, 1:3] = 0
    found, kept = layer(x * seen, seen)
    assert kept[0, 0, 2].tolist() == [1, 0, 0, 1, 1]  # 3/6, 3/9, 3/9, 6/9, 6/6
    assert (found[kept == 0] == 0).all()


def test_halving_leaves_out_what_is_missing():
    x = torch.tensor([[[[2.0, 4.0, 6.0], [0.0, 6.0, 0.0], [0.0, 0.0, 8.0]]]])
    found, seen = halve(x, (x != 0).float())
    assert found.flatten().tolist() == [4.0, 6.0, 0.0, 8.0]
    assert seen.flatten().tolist() == [1, 1, 0, 1]


@pytest.mark.parametrize("pooling", ["max", "mean"])
def test_kernel_max_is_a_convolution_and_its_maximum(pooling):
    network = KernelMaxNetwork(2, width_px=3, n_filters=4, pooling=pooling).eval()
    x = images(n_bands=2)
    x[0, 1, 4, 4] = torch.nan
    windows = np.lib.stride_tricks.sliding_window_view(x.double().numpy(), (3, 3), axis=(2, 3))
    answers = np.einsum("bchwij,fcij->bfhw", windows, network.filters.detach().double().numpy())
    pool = np.nanmax if pooling == "max" else np.nanmean
    expected = pool(answers, axis=(2, 3)) / np.sqrt(1 + 1e-3)  # running moments 0 and 1
    # an answer sums 18 float32 products; a mean near 0 keeps their rounding, not its own
    rounding = 18 * np.finfo(np.float32).eps * np.nanmax(np.abs(answers))
    np.testing.assert_allclose(network(x).detach(), expected, rtol=1e-5, atol=rounding)


def test_gradient_of_the_maximum_is_that_of_a_plain_graph():
    x = images(n_bands=2)
    network = KernelMaxNetwork(2, width_px=3, n_filters=4).eval()
    network(x).square().sum().backward()
    plain = network.filters.detach().clone().requires_grad_()
    answers = functional.conv2d(x, plain).amax(dim=(2, 3)) / np.sqrt(1 + 1e-3)
    answers.square().sum().backward()
    torch.testing.assert_close(network.filters.grad, plain.grad)


def test_answers_are_standardised_over_a_step_and_then_by_running_moments():
    network, x = KernelMaxNetwork(3, width_px=3, n_filters=4), images(50)
    x[7] = torch.nan
    known = [k for k in range(50) if k != 7]
    for _ in range(200):  # what is left of the first moments is 0.9^200
        found = network(x)
    torch.testing.assert_close(found[known].mean(dim=0), torch.zeros(4), rtol=0, atol=1e-5)
    assert found[7].isnan().all()
    # running variances divide by n - 1
    torch.testing.assert_close(
        network.eval()(x)[known], found[known] * np.sqrt(48 / 49), rtol=1e-3, atol=1e-4
    )


def test_kernel_max_refuses_small_images():
    with pytest.raises(ValueError, match=r"filters of 8 x 8 px; these have 12 x 7 px"):
        KernelMaxNetwork(1)(images(1, 1, (12, 7)))


# -- bands of the vision transformer ---------------------------------------------------------------


def test_an_absent_band_is_a_band_of_nan():
    network, x = network_of("channelvit"), images()
    x[:, 1] = torch.nan
    fewer = ChannelViT(2, patch_px=4, n_features=16).eval()
    held = network.state_dict()
    held["bands"] = held["bands"][[0, 2]]
    fewer.load_state_dict(held)
    torch.testing.assert_close(network(x), fewer(x[:, [0, 2]]), rtol=FLOAT32, atol=FLOAT32)


def test_every_band_and_every_place_counts():
    network, x = network_of("channelvit"), images()
    whole = network(x)
    assert not torch.allclose(network(x[:, [1, 0, 2]]), whole, atol=1e-2)
    assert not torch.allclose(network(x.flip(-1)), whole, atol=1e-2)
    assert not torch.allclose(network(x.flip(-2)), whole, atol=1e-2)


def test_training_reads_random_subsets_of_bands():
    network, x = network_of("channelvit").train(), images()
    seen = []
    network._tokens = lambda pixels, seen_, bands, plain=network._tokens: (
        seen.append(len(bands)) or plain(pixels, seen_, bands)
    )
    with seeded(0, torch.device("cpu")):
        for _ in range(60):
            network(x)
    # uniform on 1, 2, 3: each is absent from 60 with chance (2/3)^60 < 1e-10
    assert set(seen) == {1, 2, 3}
    network.sample_bands = False
    network(x)
    assert seen[-1] == 3


def test_positions_tell_all_places_apart():
    places = plane_positions(5, 7, 16)
    apart = torch.cdist(places, places) + torch.eye(35)
    assert apart.min() > 0.1
    # the distance of two places depends on how far apart they are, not where
    torch.testing.assert_close((places[0] - places[8]).norm(), (places[16] - places[24]).norm())


def test_positions_need_quarters():
    with pytest.raises(ValueError, match="multiple of 4 for positions in two directions; got 18"):
        ChannelViT(1, n_features=18, n_heads=3)


# -- times -----------------------------------------------------------------------------------------


def site_network(times=None):
    mean, scale = torch.tensor([1.0, 2.0]), torch.tensor([3.0, 4.0])
    return SiteNetwork(KernelMaxNetwork(2, 3, n_filters=8), 2, mean, scale, times).eval()


def sequence():
    pixels = images(12, 2).unflatten(0, (3, 4))
    days = torch.tensor([0.0, 40.0, 400.0, 500.0]).expand(3, 4).clone()
    return pixels, days


def test_pixels_are_standardised_by_the_moments():
    network, (pixels, days) = site_network(), sequence()
    raw = pixels * network.scale[:, None, None] + network.mean[:, None, None]
    by_time = torch.stack([network.images(pixels[:, k]) for k in range(4)])
    torch.testing.assert_close(network.encode(raw, days), by_time.mean(dim=0))


@pytest.mark.parametrize("times", ["mean", "attention"])
def test_a_missing_time_is_left_out(times):
    network = site_network(None if times == "mean" else TemporalAttention(8, 2))
    pixels, days = sequence()
    pixels[:, 2] = torch.nan
    days[:, 2] = torch.nan
    kept = [0, 1, 3]
    torch.testing.assert_close(network(pixels, days), network(pixels[:, kept], days[:, kept]))
    pixels[1] = torch.nan
    assert network(pixels, days).isnan().any(dim=1).tolist() == [False, True, False]


def test_attention_reads_dates_and_the_mean_does_not():
    pixels, days = sequence()
    for times, equal in ((None, True), (TemporalAttention(8, 2), False)):
        network = site_network(times)
        found = network(pixels, days.flip(1))
        assert torch.allclose(found, network(pixels, days), atol=1e-3) == equal
