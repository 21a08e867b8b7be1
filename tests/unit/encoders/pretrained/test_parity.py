"""What networks see, and what they answer, equals the libraries they were trained with."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from terracausal.encoders.pretrained import PretrainedEncoder, ProjectBands, RepeatBand
from terracausal.encoders.pretrained.registry import WEIGHTS
from terracausal.encoders.pretrained.resizing import resize_bytes
from terracausal.imagery import Chips

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers", reason="the extra 'pretrained' is missing")
PIL = pytest.importorskip("PIL.Image")

TOLERANCE = 1e-5  # as promised
RGB = ("red", "green", "blue")
SIX = ("blue", "green", "red", "nir", "swir1", "swir2")
PICTURES = [n for n, e in WEIGHTS.items() if e.library == "transformers" and "dinov3" not in n]
EVERY = [*PICTURES, "dinov3-vitl16-sat493m"]
SIZES = {"small": (40, 40), "wide": (36, 53), "tall and large": (301, 250)}


def chips_of(pixels, bands=RGB):
    return Chips.from_arrays(pixels, sites=range(len(pixels)), bands=bands)


def bytes_of(rng, size=(40, 40), n_sites=3, n_bands=3, n_times=1):
    smooth = rng.integers(0, 256, size=(n_sites, n_times, n_bands, *size)).astype(np.float32)
    smooth[..., : size[0] // 2, :] = np.sort(smooth[..., : size[0] // 2, :])  # and edges
    return smooth


def upstream(folder, pictures, **options):
    """Return what the processor of the repository makes of pictures (n, 3, h, w)."""
    processor = transformers.AutoImageProcessor.from_pretrained(folder, backend="pil")
    images = list(pictures)
    seen = processor(images, return_tensors="np", input_data_format="channels_first", **options)
    return np.asarray(seen["pixel_values"]).reshape(len(images), 3, 224, 224)


def answer(folder, name, seen):
    """Return the embedding by the whole network of the repository, as its authors take it."""
    layer = {
        "clip-rsicd-v2": lambda n, x: n.visual_projection(n.vision_model(x).pooler_output),
        "vit-base-in21k": lambda n, x: n(x).pooler_output,
        "dinov2-base": lambda n, x: n(x).last_hidden_state[:, 0],
        "dinov3-vitl16-sat493m": lambda n, x: n(x).last_hidden_state[:, 0],
        "swin-base": lambda n, x: n.swin(x).last_hidden_state.mean(dim=1),
        "videomae-base": lambda n, x: n.videomae(x).last_hidden_state.mean(dim=1),
    }[name]
    whole = {
        "clip-rsicd-v2": "CLIPModel",
        "vit-base-in21k": "ViTModel",
        "dinov2-base": "Dinov2Model",
        "dinov3-vitl16-sat493m": "DINOv3ViTModel",
        "swin-base": "SwinForImageClassification",
        "videomae-base": "VideoMAEForPreTraining",
    }[name]
    network = getattr(transformers, whole).from_pretrained(folder).eval()
    with torch.inference_mode():
        return layer(network, torch.from_numpy(seen)).numpy()


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("sides", [(8, 224), (224, 224), (301, 224), (223, 31), (5, 1)])
def test_bytes_are_resized_as_pillow_does_to_the_last_digit(rng, interpolation, sides):
    before, after = sides
    for height in (before, before + 3):
        image = rng.integers(0, 256, size=(height, before, 3), dtype=np.uint8)
        kernel = getattr(PIL.Resampling, interpolation.upper())
        wanted = np.asarray(PIL.fromarray(image).resize((after, after), resample=kernel))
        values = torch.from_numpy(image.transpose(2, 0, 1)[None].astype(np.float64))
        found = resize_bytes(values, (after, after), interpolation).numpy()[0]
        assert_array_equal(found.transpose(1, 2, 0), wanted)


@pytest.mark.parametrize("size", SIZES.values(), ids=list(SIZES))
@pytest.mark.parametrize("name", PICTURES)
def test_bytes_are_seen_as_by_the_upstream_processor(checkpoints, rng, name, size):
    folder = checkpoints(name)
    pixels = bytes_of(rng, size)
    chips = chips_of(pixels)
    encoder = PretrainedEncoder(name, path=str(folder), units="uint8").fit(chips)
    wanted = upstream(folder, pixels[:, 0].astype(np.uint8))
    assert_allclose(encoder.preprocess(chips)[:, 0], wanted, atol=TOLERANCE)


@pytest.mark.parametrize("name", PICTURES)
def test_reflectance_is_seen_as_by_the_upstream_processor(checkpoints, rng, name):
    folder = checkpoints(name)
    pixels = rng.uniform(0, 0.9, size=(2, 1, 3, 40, 40)).astype(np.float32)
    wanted = upstream(folder, pixels[:, 0], do_rescale=False)  # its way to say "0 to 1 already"
    for units, factor in (("reflectance", 1), ("reflectance_10000", 1e4)):
        chips = chips_of(pixels.astype(np.float64) * factor)
        encoder = PretrainedEncoder(name, path=str(folder), units=units).fit(chips)
        found = encoder.preprocess(chips)[:, 0]
        if factor == 1:
            assert_allclose(found, wanted, atol=TOLERANCE)
        # times 10,000 is rounded to float32 on its way: a byte can tip over, in few pixels
        assert np.mean(np.abs(found - wanted) > TOLERANCE) < 1e-3


@pytest.mark.parametrize("name", PICTURES)
def test_six_bands_by_name_are_the_right_three(checkpoints, rng, name):
    folder = checkpoints(name)
    pixels = bytes_of(rng, n_bands=6)
    chips = chips_of(pixels, SIX)
    by_name = PretrainedEncoder(name, path=str(folder), units="uint8").fit(chips)
    wanted = upstream(folder, pixels[:, 0, [2, 1, 0]].astype(np.uint8))
    assert_allclose(by_name.preprocess(chips)[:, 0], wanted, atol=TOLERANCE)
    false_colour = PretrainedEncoder(
        name, path=str(folder), units="uint8", bands=("swir2", "nir", "red")
    ).fit(chips)
    wanted = upstream(folder, pixels[:, 0, [5, 3, 2]].astype(np.uint8))
    assert_allclose(false_colour.preprocess(chips)[:, 0], wanted, atol=TOLERANCE)


@pytest.mark.parametrize("units", ["uint8", "reflectance"])
def test_dinov3_is_shown_floats_resized_with_antialiasing(checkpoints, rng, units):
    # its processor needs torchvision (see tests/torchgeo); Pillow resizes floats by the same kernel
    folder = checkpoints("dinov3-vitl16-sat493m")
    for size in SIZES.values():
        pixels = bytes_of(rng, size) if units == "uint8" else rng.uniform(0, 0.9, (2, 1, 3, *size))
        chips = chips_of(pixels)
        encoder = PretrainedEncoder("dinov3-vitl16-sat493m", path=str(folder), units=units)
        found = encoder.fit(chips).preprocess(chips)[:, 0]
        shares = (pixels[:, 0] / (255 if units == "uint8" else 1)).astype(np.float32)
        resized = [
            [PIL.fromarray(band).resize((224, 224), resample=PIL.Resampling.BILINEAR) for band in x]
            for x in shares
        ]
        # torch places its kernel in float32: up to 301 * 2^-24 of a difference between neighbours
        # (at most 1), divided by the smallest deviation
        tolerance = 301 * 2**-24 / 0.143
        mean, std = np.array([[0.430, 0.411, 0.296], [0.213, 0.156, 0.143]])[:, :, None, None]
        assert_allclose(found, (np.array(resized) - mean) / std, atol=tolerance)


@pytest.mark.parametrize("name", EVERY)
def test_embeddings_are_those_of_the_whole_network(checkpoints, rng, name):
    folder = checkpoints(name)
    chips = chips_of(bytes_of(rng))
    encoder = PretrainedEncoder(name, path=str(folder), units="uint8", batch_size=2)
    table = encoder.fit_transform(chips)
    seen = encoder.preprocess(chips)[:, 0]
    if name == "videomae-base":
        seen = np.repeat(seen[:, None], 16, axis=1)
    wanted = answer(folder, name, seen)
    assert table.shape == wanted.shape
    assert_allclose(table.to_numpy(), wanted, atol=TOLERANCE)
    assert np.ptp(table.to_numpy(), axis=0).max() > 100 * TOLERANCE  # sites differ


@pytest.mark.parametrize("n_times", [1, 2, 5, 20])
def test_videos_are_seen_in_order_each_image_equally_long(checkpoints, rng, n_times):
    folder = checkpoints("videomae-base")
    pixels = bytes_of(rng, n_sites=2, n_times=n_times)
    pixels[1, : n_times // 2] = np.nan  # left out, not shown as grey
    chips = chips_of(pixels)
    encoder = PretrainedEncoder("videomae-base", path=str(folder), units="uint8").fit(chips)
    for site in chips:
        whole = pixels[site][~np.isnan(pixels[site]).all(axis=(1, 2, 3))].astype(np.uint8)
        frames = np.floor((np.arange(16) + 0.5) * len(whole) / 16).astype(int)
        counts = np.bincount(frames, minlength=len(whole))
        assert (np.diff(frames) >= 0).all()
        assert np.ptp(counts) <= 1
        seen = upstream(folder, whole)[frames][None]
        wanted = answer(folder, "videomae-base", seen)[0]
        assert_allclose(encoder.transform(chips).loc[site], wanted, atol=TOLERANCE)


def test_one_band_is_repeated(checkpoints, rng):
    folder = checkpoints("vit-base-in21k")
    pixels = bytes_of(rng, n_bands=1)
    chips = chips_of(pixels, ["pan"])
    encoder = PretrainedEncoder(
        "vit-base-in21k", path=str(folder), units="uint8", bands=RepeatBand("pan")
    ).fit(chips)
    wanted = upstream(folder, np.repeat(pixels[:, 0], 3, axis=1).astype(np.uint8))
    assert_allclose(encoder.preprocess(chips)[:, 0], wanted, atol=TOLERANCE)
    assert encoder.describe_bands() == "red <- pan\ngreen <- pan\nblue <- pan"


def test_a_matrix_mixes_bands(checkpoints, rng):
    folder = checkpoints("vit-base-in21k")
    pixels = rng.uniform(0, 1, size=(2, 1, 2, 20, 20)).astype(np.float32)
    chips = chips_of(pixels, ["nir", "swir"])
    matrix = ((1.0, 0.0), (0.5, 0.25), (0.0, 1.0))
    encoder = PretrainedEncoder(
        "vit-base-in21k",
        path=str(folder),
        units="reflectance",
        bands=ProjectBands(matrix=matrix),
    ).fit(chips)
    mixed = np.einsum("oi,bihw->bohw", np.array(matrix), pixels[:, 0].astype(np.float64))
    wanted = upstream(folder, np.floor(mixed * 255).astype(np.uint8))
    assert np.mean(np.abs(encoder.preprocess(chips)[:, 0] - wanted) > TOLERANCE) < 1e-3
    assert encoder.describe_bands().splitlines()[1] == "green <- +0.5 nir +0.25 swir"


def test_principal_components_spread_over_the_bytes(checkpoints, rng):
    folder = checkpoints("vit-base-in21k")
    mixing = rng.normal(size=(6, 6))
    pixels = np.einsum("oi,bihw->bohw", mixing, rng.normal(size=(5, 6, 30, 30)))
    pixels = (pixels - pixels.min()) / np.ptp(pixels)
    chips = chips_of(pixels[:, None], SIX)
    encoder = PretrainedEncoder(
        "vit-base-in21k", path=str(folder), units="reflectance", bands=ProjectBands()
    ).fit(chips)
    flat = np.moveaxis(pixels.astype(np.float32).astype(float), 1, -1).reshape(-1, 6) * 255
    parts = flat @ encoder.adapter_.matrix.T + encoder.adapter_.offset
    assert_allclose(parts.mean(axis=0), 127.5)
    assert_allclose(np.cov(parts.T, bias=True), np.eye(3) * 42.5**2, atol=1e-6 * 42.5**2)
    assert (encoder.adapter_.matrix.max(axis=1) > -encoder.adapter_.matrix.min(axis=1)).all()
    # the first holds the most variance: no direction of unit length has more
    share = np.linalg.eigvalsh(np.cov(flat.T, bias=True))[-1]
    unit = encoder.adapter_.matrix[0] / np.linalg.norm(encoder.adapter_.matrix[0])
    assert_allclose((flat @ unit).var(), share)
