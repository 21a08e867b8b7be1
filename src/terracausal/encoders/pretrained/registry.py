"""The registry of pretrained weights: data only.

Means, deviations, sizes and interpolations of the transformers entries are those of the
`preprocessor_config.json` of each repository, revisions the commits seen there. What we could not
see there is said in a comment. The torchgeo entries take bands, transforms and addresses with
their commits from torchgeo itself; here stands only what it does not state: units and licences.
"""

from terracausal.encoders.pretrained.entry import Preprocessing, PretrainedWeights

_RGB = ("red", "green", "blue")
_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

_TRANSFORMERS = (
    PretrainedWeights(
        name="clip-rsicd-v2",
        library="transformers",
        source="flax-community/clip-rsicd-v2",
        revision="91e1afe599b8ffb33ea0563dd324b8781f9fcfa6",
        layer="projected",
        n_features=512,
        bands=_RGB,
        # seen for the sister repository clip-rsicd, written on the same day by the same author
        preprocessing=Preprocessing(
            units="uint8",
            mean=(0.48145466, 0.4578275, 0.40821073),
            std=(0.26862954, 0.26130258, 0.27577711),
            scale=255.0,
            resize="shortest_edge",
            interpolation="bicubic",
            arithmetic="bytes",
        ),
        licence="not stated in the repository",
        citation="Radford et al. (2021), arXiv:2103.00020; fine-tuned on RSICD, Lu et al. (2018)",
    ),
    PretrainedWeights(
        name="vit-base-in21k",
        library="transformers",
        source="google/vit-base-patch16-224-in21k",
        revision="1ba429d32753f33a0660b80ac6f43a3c80c18938",
        layer="pooled",
        n_features=768,
        bands=_RGB,
        preprocessing=Preprocessing(
            units="uint8", mean=(0.5,) * 3, std=(0.5,) * 3, scale=255.0, arithmetic="bytes"
        ),
        licence="Apache-2.0",
        citation="Dosovitskiy et al. (2021), arXiv:2010.11929",
    ),
    PretrainedWeights(
        name="dinov2-base",
        library="transformers",
        source="facebook/dinov2-base",
        revision="c73891fc3a90e8fe9ffead361cec7058e0319f03",
        layer="cls",
        n_features=768,
        bands=_RGB,
        preprocessing=Preprocessing(
            units="uint8",
            mean=_IMAGENET_MEAN,
            std=_IMAGENET_STD,
            scale=255.0,
            resize="shortest_edge",
            resize_px=256,
            interpolation="bicubic",
            arithmetic="bytes",
        ),
        licence="Apache-2.0",
        citation="Oquab et al. (2024), arXiv:2304.07193",
    ),
    PretrainedWeights(
        name="dinov3-vitl16-sat493m",
        library="transformers",
        source="facebook/dinov3-vitl16-pretrain-sat493m",
        # gated: neither a commit nor the processor file could be seen. Mean and deviation are those
        # of the authors' page for SAT-493M; size and interpolation the defaults of the processor.
        revision=None,
        layer="cls",
        n_features=1024,
        bands=_RGB,
        preprocessing=Preprocessing(
            units="uint8", mean=(0.430, 0.411, 0.296), std=(0.213, 0.156, 0.143), scale=255.0
        ),
        licence="DINOv3 licence (gated: accept it on the hub first)",
        citation="Siméoni et al. (2025), arXiv:2508.10104",
    ),
    PretrainedWeights(
        name="swin-base",
        library="transformers",
        source="microsoft/swin-base-patch4-window7-224",
        revision="20d6c26ef6455d36c0a78671d787c5da57513d4b",
        layer="pooled",
        n_features=1024,
        bands=_RGB,
        # seen in copies that others trained further from these weights, and in those of swin-tiny
        preprocessing=Preprocessing(
            units="uint8",
            mean=_IMAGENET_MEAN,
            std=_IMAGENET_STD,
            scale=255.0,
            interpolation="bicubic",
            arithmetic="bytes",
        ),
        licence="Apache-2.0",
        citation="Liu et al. (2021), arXiv:2103.14030",
    ),
    PretrainedWeights(
        name="videomae-base",
        library="transformers",
        source="MCG-NJU/videomae-base",
        revision="ef591f7f4f124a942b24089abfa75f6a12c23593",
        layer="mean",
        n_features=768,
        n_frames=16,
        bands=_RGB,
        # seen in copies that others trained further from these weights
        preprocessing=Preprocessing(
            units="uint8",
            mean=_IMAGENET_MEAN,
            std=_IMAGENET_STD,
            scale=255.0,
            resize="shortest_edge",
            arithmetic="bytes",
        ),
        licence="CC-BY-NC-4.0",
        citation="Tong et al. (2022), arXiv:2203.12602",
    ),
)

# SSL4EO-L holds bytes that its authors stretched from reflectance and temperature band by band
_LANDSAT = tuple(
    PretrainedWeights(
        name=f"ssl4eo-l-{short}-{sensor.lower().replace('_', '-')}",
        library="torchgeo",
        source=f"{enum}.LANDSAT_{sensor}_MOCO",
        architecture=architecture,
        layer="pooled",
        n_features=width,
        units="uint8",
        reflectance_is_convertible=False,
        licence="not stated by torchgeo",
        citation="Stewart et al. (2023), arXiv:2306.09424",
    )
    for short, enum, architecture, width in (
        ("resnet18", "ResNet18_Weights", "resnet18", 512),
        ("resnet50", "ResNet50_Weights", "resnet50", 2048),
        ("vits16", "ViTSmall16_Weights", "vit_small_patch16_224", 384),
    )
    for sensor in ("TM_TOA", "ETM_TOA", "ETM_SR", "OLI_TIRS_TOA", "OLI_SR")
)

_SENTINEL2 = tuple(
    PretrainedWeights(
        name=name,
        library="torchgeo",
        source=source,
        architecture=architecture,
        layer="pooled",
        n_features=width,
        units="reflectance_10000",
        licence="not stated by torchgeo",
        citation=citation,
    )
    for name, source, architecture, width, citation in (
        (
            "ssl4eo-s12-resnet50-moco",
            "ResNet50_Weights.SENTINEL2_ALL_MOCO",
            "resnet50",
            2048,
            "Wang et al. (2023), arXiv:2211.07044",
        ),
        (
            "ssl4eo-s12-resnet50-dino",
            "ResNet50_Weights.SENTINEL2_ALL_DINO",
            "resnet50",
            2048,
            "Wang et al. (2023), arXiv:2211.07044",
        ),
        (
            "ssl4eo-s12-vits16-moco",
            "ViTSmall16_Weights.SENTINEL2_ALL_MOCO",
            "vit_small_patch16_224",
            384,
            "Wang et al. (2023), arXiv:2211.07044",
        ),
        (
            "ssl4eo-s12-vits16-dino",
            "ViTSmall16_Weights.SENTINEL2_ALL_DINO",
            "vit_small_patch16_224",
            384,
            "Wang et al. (2023), arXiv:2211.07044",
        ),
        (
            "softcon-vits14-s2",
            "ViTSmall14_DINOv2_Weights.SENTINEL2_ALL_SOFTCON",
            "vit_small_patch14_dinov2",
            384,
            "Wang et al. (2024), arXiv:2405.20462",
        ),
        (
            "softcon-vitb14-s2",
            "ViTBase14_DINOv2_Weights.SENTINEL2_ALL_SOFTCON",
            "vit_base_patch14_dinov2",
            768,
            "Wang et al. (2024), arXiv:2405.20462",
        ),
    )
)

# All but Scale-MAE have no `units`: torchgeo states no normalisation for them, because it depends
# on the sensor, so that the user must state a Preprocessing.
_ANY_SENSOR = (
    PretrainedWeights(
        name="scalemae-large",
        library="torchgeo",
        source="ScaleMAELarge16_Weights.FMOW_RGB",
        architecture="scalemae_large_patch16",
        layer="pooled",
        n_features=1024,
        bands=_RGB,
        units="uint8",
        licence="not stated by torchgeo",
        citation="Reed et al. (2023), arXiv:2212.14532",
    ),
    PretrainedWeights(
        name="dofa-base",
        library="torchgeo",
        source="DOFABase16_Weights.DOFA_MAE",
        architecture="dofa_base_patch16_224",
        layer="pooled",
        n_features=768,
        licence="not stated by torchgeo",
        citation="Xiong et al. (2024), arXiv:2403.15356",
    ),
    PretrainedWeights(
        name="croma-base",
        library="torchgeo",
        source="CROMABase_Weights.CROMA_VIT",
        architecture="croma_base",
        layer="pooled",
        n_features=768,
        # Sentinel-2 without the cirrus band, as the authors ask
        bands=("B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8a", "B9", "B11", "B12"),
        licence="not stated by torchgeo",
        citation="Fuller et al. (2023), arXiv:2311.00566",
    ),
    PretrainedWeights(
        name="copernicus-fm-base",
        library="torchgeo",
        source="CopernicusFM_Base_Weights.CopernicusFM_ViT",
        architecture="copernicusfm_base",
        layer="pooled",
        n_features=768,
        licence="not stated by torchgeo",
        citation="Wang et al. (2025), arXiv:2503.11849",
    ),
    PretrainedWeights(
        name="panopticon-vitb14",
        library="torchgeo",
        source="Panopticon_Weights.VIT_BASE14",
        architecture="panopticon_vitb14",
        layer="pooled",
        n_features=768,
        licence="not stated by torchgeo",
        citation="Waldmann et al. (2025), arXiv:2503.10845",
    ),
)

_HLS = ("blue", "green", "red", "nir", "swir1", "swir2")

# The authors give a page with a checkpoint and no address of a file, so that `path` is needed.
# Their published weights were trained on images in the order blue, green, red (so says their page),
# with the moments in the order of their list; network and transform are those of their code.
_CHECKPOINTS = (
    PretrainedWeights(
        name="satmaepp-vitl16-rgb",
        library="timm",
        source="mubashir04/checkpoint_ViT-L_pretrain_fmow_rgb",
        architecture="vit_large_patch16_224",
        layer="pooled",
        n_features=1024,
        bands=("blue", "green", "red"),
        preprocessing=Preprocessing(
            units="uint8",
            mean=(0.4182007312774658, 0.4214799106121063, 0.3991275727748871),
            std=(0.28774282336235046, 0.27541765570640564, 0.2764017581939697),
            scale=255.0,
            resize="shortest_edge",
            resize_px=256,
            interpolation="bicubic",
        ),
        licence="not stated in the repository",
        citation="Noman et al. (2024), arXiv:2403.05419",
    ),
    # Bands, moments and sizes as in terratorch, whose authors made the networks. Images are read
    # one by one; the variants that are told dates and coordinates are not here.
    PretrainedWeights(
        name="prithvi-eo-1-100m",
        library="timm",
        source="ibm-nasa-geospatial/Prithvi-EO-1.0-100M/Prithvi_EO_V1_100M.pt",
        architecture="vit_base_patch16_224",
        layer="pooled",
        n_features=768,
        bands=_HLS,
        preprocessing=Preprocessing(
            units="reflectance_10000",
            mean=(775.0, 1081.0, 1229.0, 2497.0, 2204.0, 1611.0),
            std=(1282.0, 1270.0, 1399.0, 1368.0, 1292.0, 1155.0),
        ),
        licence="not verified",
        citation="Jakubik et al. (2023), arXiv:2310.18660",
    ),
    PretrainedWeights(
        name="prithvi-eo-2-300m",
        library="timm",
        source="ibm-nasa-geospatial/Prithvi-EO-2.0-300M/Prithvi_EO_V2_300M.pt",
        architecture="vit_large_patch16_224",
        layer="pooled",
        n_features=1024,
        bands=_HLS,
        preprocessing=Preprocessing(
            units="reflectance_10000",
            mean=(1087.0, 1342.0, 1433.0, 2734.0, 1958.0, 1363.0),
            std=(2248.0, 2179.0, 2178.0, 1850.0, 1242.0, 1049.0),
        ),
        licence="not verified",
        citation="Szwarcman et al. (2024), arXiv:2412.02732",
    ),
)

WEIGHTS: dict[str, PretrainedWeights] = {
    entry.name: entry
    for entry in (*_TRANSFORMERS, *_LANDSAT, *_SENTINEL2, *_ANY_SENSOR, *_CHECKPOINTS)
}
