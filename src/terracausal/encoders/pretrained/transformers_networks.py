"""Networks of the transformers library."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from terracausal._foundation.checks import check_choice
from terracausal._foundation.optional import require
from terracausal.encoders.pretrained.networks import (
    NetworkRequest,
    ReadyNetwork,
    refuse_missing,
)

if TYPE_CHECKING:
    from torch import Tensor

LAYERS = ("projected", "pooled", "cls", "mean")
# tokens in front of those of the patches
_WITHOUT_CLS = ("swin", "swinv2", "videomae")


def download(source: str, revision: str | None) -> Path:
    """Return the folder where the hub's files of a repository lie, downloading what is missing.

    Raises
    ------
    OSError
        If the hub cannot be reached or refuses, with how to use a local folder.
    """
    hub = require("huggingface_hub", needed_by="PretrainedEncoder", extra="pretrained")
    try:
        config = hub.hf_hub_download(source, "config.json", revision=revision)
        try:
            hub.hf_hub_download(source, "model.safetensors", revision=revision)
        except hub.errors.EntryNotFoundError:
            hub.hf_hub_download(source, "pytorch_model.bin", revision=revision)
    except Exception as error:
        at = f" at revision {revision}" if revision else ""
        option = f" --revision {revision}" if revision else ""
        reason = (str(error).splitlines() or ["no reason given"])[0]
        raise OSError(
            f"The weights {source!r}{at} could not be downloaded ({type(error).__name__}: "
            f"{reason[:200]}). Where there is no connection, or a licence to accept first, "
            f"download them elsewhere with `hf download {source}{option} --local-dir FOLDER` and "
            "say `path='FOLDER'`."
        ) from error
    return Path(config).parent


def build(request: NetworkRequest) -> ReadyNetwork:
    """Return a transformers network with the weights of the request.

    Raises
    ------
    FileNotFoundError
        If there is no `config.json` beside the weights.
    ValueError
        If the layer does not exist in the network, or the weights do not fit.
    """
    transformers = require("transformers", needed_by="PretrainedEncoder", extra="pretrained")
    torch = require("torch", needed_by="PretrainedEncoder")
    check_choice("layer", request.layer, LAYERS)
    config = _configuration(request.folder)
    with _quietly(transformers):
        kind, config, options = _class_of(transformers, config, request.layer)
        module, report = kind.from_pretrained(
            None,
            config=config,
            state_dict=dict(request.state),
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            dtype=torch.float32,
            **options,
        )
    shapes = [entry[0] for entry in report["mismatched_keys"]]
    refuse_missing(request.name, sorted(report["missing_keys"]), sorted(shapes))
    if config.num_channels != request.n_bands:
        raise ValueError(
            f"The network of {request.name!r} sees {config.num_channels} bands; `bands` and "
            f"`preprocessing` give {request.n_bands}."
        )
    module.eval()
    skipped = 1 + getattr(config, "num_register_tokens", 0)
    skipped = 0 if config.model_type in _WITHOUT_CLS else skipped

    return ReadyNetwork(module, partial(_read, module, request.layer, skipped))


def _read(module: Any, layer: str, skipped: int, pixels: "Tensor") -> "Tensor":
    return _embedding(module(pixel_values=pixels), layer, skipped)


def frames_of(folder: str) -> int | None:
    """Return how many images the network of a folder sees at once; None where just one."""
    frames = getattr(_configuration(folder), "num_frames", None)
    return None if frames is None else int(frames)


def _configuration(folder: str) -> Any:
    transformers = require("transformers", needed_by="PretrainedEncoder", extra="pretrained")
    if not (Path(folder) / "config.json").is_file():
        raise FileNotFoundError(
            f"The weights in {folder!r} need the file 'config.json' beside them: it says how the "
            "network is built."
        )
    with _quietly(transformers):
        return transformers.AutoConfig.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )


def _class_of(transformers: Any, config: Any, layer: str) -> tuple[Any, Any, dict[str, bool]]:
    """Return the class that encodes images, its configuration and options."""
    if config.model_type in ("clip", "clip_vision_model"):
        vision = getattr(config, "vision_config", config)
        vision.projection_dim = config.projection_dim
        projected = layer == "projected"
        name = "CLIPVisionModelWithProjection" if projected else "CLIPVisionModel"
        return getattr(transformers, name), vision, {}
    kind = transformers.AutoModel._model_mapping[type(config)]
    if config.model_type in ("vit", "deit", "beit", "swin", "swinv2"):
        return kind, config, {"add_pooling_layer": layer == "pooled"}
    return kind, config, {}


def _embedding(output: Any, layer: str, skipped: int) -> "Tensor":
    if layer == "mean":
        tokens: Tensor = output.last_hidden_state[:, skipped:].mean(dim=1)
        return tokens
    if layer == "cls" and skipped:
        token: Tensor = output.last_hidden_state[:, 0]
        return token
    name = {"projected": "image_embeds", "pooled": "pooler_output"}.get(layer, "")
    found: Tensor | None = getattr(output, name, None)
    if found is None:
        raise ValueError(
            f"This network has no layer {layer!r}; its outputs are {', '.join(output.keys())}. "
            "Use `layer='mean'` for the mean of its tokens."
        )
    return found


@contextmanager
def _quietly(transformers: Any) -> Iterator[None]:
    """Silence the library's reports and bars, and leave its settings as they were."""
    logging = transformers.utils.logging
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
