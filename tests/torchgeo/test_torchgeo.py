"""Parity with torchgeo and torchvision: `make test-torchgeo` runs these in their environment."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from terracausal._foundation.errors import BandError
from terracausal.encoders.pretrained import Preprocessing, PretrainedEncoder
from terracausal.encoders.pretrained.registry import WEIGHTS
from terracausal.encoders.pretrained.torchgeo_networks import stated_weights
from terracausal.imagery import Chips

torch = pytest.importorskip("torch")
models = pytest.importorskip(
    "torchgeo.models",
    reason="torchgeo is not installed: run `make test-torchgeo`",
    exc_type=ImportError,
)
pytestmark = pytest.mark.filterwarnings("ignore")  # of libraries newer or older than they expect

TOLERANCE = 1e-5
ENTRIES = {name: entry for name, entry in WEIGHTS.items() if entry.library == "torchgeo"}
STATED = [name for name, entry in ENTRIES.items() if entry.units is not None]
SENSOR = [name for name, entry in ENTRIES.items() if entry.units is None]
# wavelengths of some bands of Sentinel-2
WAVES = (490.0, 560.0, 665.0, 842.0)
WIDTHS = (98.0, 45.0, 38.0, 145.0)


def own_options(entry, how=None):
    """Return what torchgeo's function is given beside the weights."""
    name = entry.architecture
    if name.startswith("croma"):
        return {"modalities": ["optical"], "image_size": how.size_px}
    if name.startswith("panopticon"):
        return {"img_size": how.size_px}
    if name.startswith("scalemae"):
        return {"res": 30.0 * 64 / 224, "num_classes": 0}
    return {"num_classes": 0}


def random_state(entry, how=None):
    """Return weights in the form of torchgeo's file: those of a random network."""
    build = getattr(models, entry.architecture)
    options = own_options(entry, how)
    meta = stated_weights(entry).meta
    if how is None:
        options["in_chans"] = meta["in_chans"]
        if "dinov2" in entry.architecture:
            options["img_size"] = meta["img_size"]
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        network = build(weights=None, **options)
        if entry.architecture.startswith("croma"):
            parts = ("s2_encoder", "s2_GAP_FFN")
            return {part: getattr(network, part).state_dict() for part in parts}
        if entry.architecture.startswith("panopticon"):
            positions = torch.randn(1, 1 + (518 // 14) ** 2, 768)
            extra = {"pos_embed": positions, "mask_token": torch.zeros(1, 768)}
            return {**awake(network.model.state_dict()), **extra}
    return awake(network.state_dict())


def awake(state):
    """Open the gates of each layer, which start almost closed: the answer must show the image."""
    return {
        name: torch.ones_like(value) if name.endswith(".gamma") else value
        for name, value in state.items()
    }


@pytest.fixture
def file_of(tmp_path):
    def make(state):
        file = tmp_path / "weights.pth"
        torch.save(state, file)
        return str(file)

    return make


def upstream(entry, state, monkeypatch, how=None):
    """Return the network that torchgeo builds with weights of its own enumeration."""
    stated = stated_weights(entry)
    monkeypatch.setattr(type(stated), "get_state_dict", lambda self, *a, **k: {**state})
    return getattr(models, entry.architecture)(weights=stated, **own_options(entry, how)).eval()


def chips_for(entry, bands, size, seed=0):
    top = 255 if entry.units == "uint8" else 9000
    pixels = np.random.default_rng(seed).integers(0, top, size=(2, 1, len(bands), size, size))
    return pixels, Chips.from_arrays(
        pixels, sites=["a", "b"], bands=bands, resolution_m=30.0 if size == 64 else None
    )


@pytest.mark.parametrize("name", STATED)
def test_networks_see_and_answer_what_torchgeo_states(name, file_of, monkeypatch):
    entry = ENTRIES[name]
    stated = stated_weights(entry)
    bands = entry.bands or stated.meta["bands"]
    state = random_state(entry)
    network = upstream(entry, state, monkeypatch)
    # the sizes that torchgeo's transforms are made for; Scale-MAE is resized by us
    size = 64 if name == "scalemae-large" else 264
    pixels, chips = chips_for(entry, bands, size)
    encoder = PretrainedEncoder(name, path=file_of(state), units=entry.units).fit(chips)
    raw = torch.from_numpy(pixels[:, 0].astype(np.float32))
    if name == "scalemae-large":
        raw = torch.nn.functional.interpolate(raw, size=224, mode="bilinear", antialias=True)
    wanted = stated.transforms(raw.clone())
    seen = encoder.preprocess(chips)[:, 0]
    assert_allclose(seen, wanted.numpy(), atol=TOLERANCE, rtol=TOLERANCE)
    with torch.inference_mode():
        answer = network(wanted).numpy()
    table = encoder.transform(chips)
    assert table.shape == (2, entry.n_features)
    # the answer differs as the input does, and networks enlarge that a little
    assert_allclose(table.to_numpy(), answer, atol=10 * TOLERANCE * np.abs(answer).max())
    assert np.ptp(table.to_numpy(), axis=0).max() > 100 * TOLERANCE * np.abs(answer).max()


@pytest.mark.parametrize("name", ["ssl4eo-s12-resnet50-moco", "ssl4eo-l-resnet18-etm-sr"])
def test_small_chips_are_enlarged_and_never_padded(name, file_of):
    entry = ENTRIES[name]
    bands = stated_weights(entry).meta["bands"]
    pixels, chips = chips_for(entry, bands, 50)
    encoder = PretrainedEncoder(name, path=file_of(random_state(entry)), units=entry.units)
    seen = encoder.fit(chips).preprocess(chips)[:, 0]
    if entry.units == "reflectance_10000":
        wanted = stated_weights(entry).transforms(torch.from_numpy(pixels[:, 0].astype(np.float32)))
        assert_allclose(seen, wanted.numpy(), atol=TOLERANCE)
    low, high = seen.min(axis=(2, 3)), seen.max(axis=(2, 3))
    assert (low > 0).all()  # a black frame would be 0
    assert (high <= 1).all()


@pytest.mark.parametrize("name", SENSOR)
def test_networks_for_any_sensor_ask_for_its_moments(name, file_of, monkeypatch):
    entry = ENTRIES[name]
    bands = entry.bands or ("blue", "green", "red", "nir")
    size = 120 if name == "croma-base" else 224
    pixels, chips = chips_for(entry, bands, size)
    with pytest.raises(ValueError, match=f"how images must be prepared for '{name}'"):
        PretrainedEncoder(name, units="reflectance_10000").fit(chips)
    how = Preprocessing(
        units="reflectance_10000",
        mean=tuple(1000.0 + 10 * k for k in range(len(bands))),
        std=(2000.0,) * len(bands),
        size_px=size,
        wavelengths_nm=() if entry.bands else WAVES,
        bandwidths_nm=() if entry.bands else WIDTHS,
    )
    state = random_state(entry, how)
    network = upstream(entry, state, monkeypatch, how)
    encoder = PretrainedEncoder(
        name, path=file_of(state), units="reflectance_10000", preprocessing=how
    )
    table = encoder.fit(chips).transform(chips)
    mean = torch.tensor(how.mean)[:, None, None]
    raw = (torch.from_numpy(pixels[:, 0].astype(np.float32)) - mean) / 2000
    seen = stated_weights(entry).transforms(raw)  # crops to a size that it has, or nothing
    assert_allclose(encoder.preprocess(chips)[:, 0], seen.numpy(), atol=TOLERANCE)
    ways = {
        "dofa-base": lambda x: network.forward_features(x, [w / 1000 for w in WAVES]),
        "croma-base": lambda x: network(x_optical=x)["optical_GAP"],
        "copernicus-fm-base": lambda x: network.forward_features(
            x, torch.full((2, 4), float("nan")), WAVES, WIDTHS
        ),
        "panopticon-vitb14": lambda x: network(
            {"imgs": x, "chn_ids": torch.tensor([WAVES, WAVES])}
        ),
    }
    with torch.inference_mode():
        answer = ways[name](seen).numpy()
    assert table.shape == (2, 768)
    assert_allclose(table.to_numpy(), answer, atol=10 * TOLERANCE * np.abs(answer).max())
    if not entry.bands:
        bare = Preprocessing(
            units=how.units, mean=how.mean, std=how.std, size_px=size, bandwidths_nm=WIDTHS
        )
        with pytest.raises(ValueError, match="`wavelengths_nm` of each of its 4 bands"):
            PretrainedEncoder(
                name, path=file_of(state), units="reflectance_10000", preprocessing=bare
            ).fit(chips)


def test_bytes_of_ssl4eo_l_are_not_made_of_reflectance_by_a_factor(file_of):
    entry = ENTRIES["ssl4eo-l-resnet18-oli-sr"]
    bands = stated_weights(entry).meta["bands"]
    pixels, _ = chips_for(entry, bands, 30)
    chips = Chips.from_arrays(pixels / 255, sites=["a", "b"], bands=bands)
    with pytest.raises(ValueError, match="must be 'uint8', or a pair"):
        PretrainedEncoder(entry.name, units="reflectance").fit(chips)
    renamed = Chips.from_arrays(pixels, sites=["a", "b"], bands=[f"b{k}" for k in range(7)])
    with pytest.raises(BandError, match=r"expect 'SR_B1', .* these chips have 'b0', "):
        PretrainedEncoder(entry.name, units="uint8").fit(renamed)


def test_weights_of_another_network_are_refused(file_of):
    entry = ENTRIES["ssl4eo-l-resnet18-oli-sr"]
    bands = stated_weights(entry).meta["bands"]
    _, chips = chips_for(entry, bands, 30)
    other = random_state(ENTRIES["ssl4eo-l-vits16-oli-sr"])
    with pytest.raises(ValueError, match="do not fit the network 'resnet18' of torchgeo"):
        PretrainedEncoder(entry.name, units="uint8", path=file_of(other)).fit(chips)


def test_scale_mae_must_know_the_length_of_a_pixel(file_of):
    entry = ENTRIES["scalemae-large"]
    _, chips = chips_for(entry, entry.bands, 65)
    with pytest.raises(ValueError, match="must be told the length of a pixel"):
        PretrainedEncoder(entry.name, units="uint8", path=file_of({})).fit(chips)


def test_checkpoints_of_timm_architectures(file_of):
    timm = pytest.importorskip("timm")
    with torch.random.fork_rng(devices=[]):
        network = timm.create_model("vit_tiny_patch16_224", num_classes=0).eval()
    how = Preprocessing(units="uint8", mean=(0.4,), std=(0.3,), scale=255.0)
    pixels, chips = chips_for(WEIGHTS["scalemae-large"], ("red", "green", "blue"), 224)
    # as masked autoencoders are saved: under "model", with a decoder
    state = {"model": {**network.state_dict(), "decoder_pred.weight": torch.zeros(3)}}
    encoder = PretrainedEncoder(
        "timm:vit_tiny_patch16_224", path=file_of(state), units="uint8", preprocessing=how
    )
    table = encoder.fit(chips).transform(chips)
    seen = (torch.from_numpy(pixels[:, 0] / 255).float() - 0.4) / 0.3
    with torch.inference_mode():
        assert_allclose(table.to_numpy(), network(seen).numpy(), atol=10 * TOLERANCE)
    del state["model"]["norm.weight"]
    with pytest.raises(ValueError, match=r"1 are missing \('norm\.weight'\)"):
        PretrainedEncoder(
            "timm:vit_tiny_patch16_224", path=file_of(state), units="uint8", preprocessing=how
        ).fit(chips)


def test_satmaepp_sees_what_the_transform_of_its_authors_makes(file_of):
    timm = pytest.importorskip("timm")
    from torchvision.transforms import v2

    entry = WEIGHTS["satmaepp-vitl16-rgb"]
    with torch.random.fork_rng(devices=[]):
        network = timm.create_model(entry.architecture, num_classes=0).eval()
    upsampling = {"up_block.up_conv.bias": torch.zeros(3), "proj_up_conv.bias": torch.zeros(3)}
    state = {"model": {**network.state_dict(), **upsampling, "mask_token": torch.zeros(3)}}
    pixels, chips = chips_for(WEIGHTS["scalemae-large"], ("red", "green", "blue"), 60)
    encoder = PretrainedEncoder(entry.name, path=file_of(state), units="uint8").fit(chips)
    mean = [0.4182007312774658, 0.4214799106121063, 0.3991275727748871]
    std = [0.28774282336235046, 0.27541765570640564, 0.2764017581939697]
    theirs = v2.Compose(
        [
            v2.Normalize(mean, std),
            v2.Resize(256, interpolation=v2.InterpolationMode.BICUBIC, antialias=True),
            v2.CenterCrop(224),
        ]
    )
    blue_first = theirs(torch.from_numpy(pixels[:, 0, ::-1] / 255).float())
    assert_allclose(encoder.preprocess(chips)[:, 0], blue_first.numpy(), atol=TOLERANCE)
    with torch.inference_mode():
        answer = network(blue_first).numpy()
    found = encoder.transform(chips).to_numpy()
    assert_allclose(found, answer, atol=10 * TOLERANCE * np.abs(answer).max())
    with pytest.raises(ValueError, match=r"needs `path=`: .* \(from 'mubashir04/"):
        PretrainedEncoder(entry.name, units="uint8").fit(chips)


@pytest.mark.parametrize("prefix", ["", "encoder."], ids=["version 1", "version 2"])
def test_prithvi_reads_one_image_as_its_first_frame(file_of, prefix):
    timm = pytest.importorskip("timm")
    entry = WEIGHTS["prithvi-eo-1-100m"]
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        network = timm.create_model(
            entry.architecture, num_classes=0, in_chans=6, norm_layer=torch.nn.LayerNorm
        ).eval()
        positions = torch.randn(1, 1 + 3 * 14**2, 768)
    filters = torch.nn.Conv3d(6, 768, (1, 16, 16), (1, 16, 16))
    state = network.state_dict() | {
        "pos_embed": positions,
        "patch_embed.proj.weight": filters.weight.detach(),
        "patch_embed.proj.bias": filters.bias.detach(),
    }
    state = {prefix + name: value for name, value in state.items()}
    state |= {"decoder_embed.weight": torch.zeros(2), "mask_token": torch.zeros(1)}
    pixels, chips = chips_for(entry, entry.bands, 224)
    encoder = PretrainedEncoder(entry.name, path=file_of(state), units="reflectance_10000")
    found = encoder.fit(chips).transform(chips).to_numpy()

    # the encoder as its authors write it, for a sequence of one frame
    how = entry.preprocessing
    moments = (torch.tensor(numbers)[:, None, None] for numbers in (how.mean, how.std))
    mean, std = moments
    images = (torch.from_numpy(pixels[:, 0]).float() - mean) / std
    with torch.inference_mode():
        tokens = filters(images[:, :, None]).flatten(2).transpose(1, 2) + positions[:, 1:197]
        first = (network.cls_token + positions[:, :1]).expand(2, -1, -1)
        tokens = torch.cat([first, tokens], dim=1)
        for block in network.blocks:
            tokens = block(tokens)
        answer = network.norm(tokens)[:, 0].numpy()
    assert_allclose(found, answer, atol=10 * TOLERANCE * np.abs(answer).max())


@pytest.mark.parametrize("units", ["uint8", "reflectance"])
@pytest.mark.parametrize("size", [(40, 40), (53, 36), (300, 260)])
def test_dinov3_sees_what_its_processor_makes(tmp_path, units, size):
    # the processor of DINOv3 exists for torchvision only
    import transformers

    entry = WEIGHTS["dinov3-vitl16-sat493m"]
    small = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = transformers.DINOv3ViTConfig(**small, intermediate_size=48, num_register_tokens=4)
    transformers.DINOv3ViTModel(config).save_pretrained(tmp_path)
    processor = transformers.DINOv3ViTImageProcessor(
        image_mean=[0.430, 0.411, 0.296], image_std=[0.213, 0.156, 0.143]
    )
    rng = np.random.default_rng(0)
    if units == "uint8":
        pixels = rng.integers(0, 256, size=(2, 3, *size), dtype=np.uint8)
    else:
        pixels = rng.uniform(0, 1, size=(2, 3, *size)).astype(np.float32)
    images = [torch.from_numpy(image) for image in pixels]
    wanted = processor(images, return_tensors="pt", do_rescale=units == "uint8")["pixel_values"]
    chips = Chips.from_arrays(pixels[:, None], sites=["a", "b"], bands=entry.bands)
    encoder = PretrainedEncoder(entry.name, path=str(tmp_path), units=units).fit(chips)
    assert_allclose(encoder.preprocess(chips)[:, 0], wanted.numpy(), atol=TOLERANCE)
