"""Small random checkpoints of every registered transformers network, with the real processors."""

import os

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")

SMALL = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 48,
}
IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
# the processor files as they stand in the repositories
PROCESSORS = {
    "clip-rsicd-v2": (
        "CLIPImageProcessorPil",
        {
            "crop_size": 224,
            "do_center_crop": True,
            "do_normalize": True,
            "do_resize": True,
            "image_mean": [0.48145466, 0.4578275, 0.40821073],
            "image_std": [0.26862954, 0.26130258, 0.27577711],
            "resample": 3,
            "size": 224,
        },
    ),
    "vit-base-in21k": (
        "ViTImageProcessorPil",
        {
            "do_normalize": True,
            "do_resize": True,
            "image_mean": [0.5, 0.5, 0.5],
            "image_std": [0.5, 0.5, 0.5],
            "size": 224,
        },
    ),
    "dinov2-base": (
        "BitImageProcessorPil",
        {
            "crop_size": {"height": 224, "width": 224},
            "do_center_crop": True,
            "do_convert_rgb": True,
            "do_normalize": True,
            "do_rescale": True,
            "do_resize": True,
            **IMAGENET,
            "resample": 3,
            "rescale_factor": 0.00392156862745098,
            "size": {"shortest_edge": 256},
        },
    ),
    "swin-base": (
        "ViTImageProcessorPil",
        {"do_normalize": True, "do_resize": True, **IMAGENET, "resample": 3, "size": 224},
    ),
    "videomae-base": (
        "VideoMAEImageProcessorPil",
        {
            "do_center_crop": True,
            "do_normalize": True,
            "do_resize": True,
            **IMAGENET,
            "resample": 2,
            "size": 224,
        },
    ),
}


def small_network(name):
    """Return the whole network of a repository, as its authors saved it, but small and random."""
    import transformers as tf

    if name == "clip-rsicd-v2":
        config = tf.CLIPConfig(
            vision_config={**SMALL, "patch_size": 32},
            text_config={**SMALL, "num_hidden_layers": 1, "vocab_size": 60},
            projection_dim=24,
        )
        return tf.CLIPModel(config)
    if name == "vit-base-in21k":
        return tf.ViTModel(tf.ViTConfig(**SMALL))
    if name == "dinov2-base":
        return tf.Dinov2Model(tf.Dinov2Config(**SMALL, image_size=518, patch_size=14))
    if name == "dinov3-vitl16-sat493m":
        return tf.DINOv3ViTModel(tf.DINOv3ViTConfig(**SMALL, num_register_tokens=4))
    if name == "swin-base":
        config = tf.SwinConfig(
            embed_dim=16, depths=[1, 1, 1, 1], num_heads=[1, 1, 2, 2], window_size=7
        )
        return tf.SwinForImageClassification(config)
    config = tf.VideoMAEConfig(
        **{**SMALL, "num_hidden_layers": 1},
        patch_size=32,
        decoder_hidden_size=16,
        decoder_num_hidden_layers=1,
        decoder_num_attention_heads=1,
        decoder_intermediate_size=16,
    )
    return tf.VideoMAEForPreTraining(config)


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory):
    """Return a function from names of the registry to a folder with a checkpoint of its kind."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers", reason="the extra 'pretrained' is missing")
    made = {}

    def folder_of(name, seed=0, **options):
        key = (name, seed, *options.items())
        if key not in made:
            folder = tmp_path_factory.mktemp("weights") / f"{name}-{len(made)}"
            with torch.random.fork_rng(devices=[]):
                torch.default_generator.manual_seed(seed)
                small_network(name).save_pretrained(folder, **options)
            if name in PROCESSORS:
                kind, settings = PROCESSORS[name]
                getattr(transformers, kind).from_dict(dict(settings)).save_pretrained(folder)
            made[key] = folder
        return made[key]

    return folder_of
