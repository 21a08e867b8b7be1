"""Networks of torchgeo and timm: bands, transforms and addresses are those torchgeo states."""

import contextlib
import io
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from terracausal._foundation.checks import check_choice
from terracausal._foundation.errors import list_some
from terracausal._foundation.optional import require
from terracausal.encoders.pretrained.entry import Preprocessing, PretrainedWeights
from terracausal.encoders.pretrained.networks import (
    NetworkRequest,
    ReadyNetwork,
    refuse_missing,
)

if TYPE_CHECKING:
    from torch import Tensor

_PATCHES, _FRAME_PX = "patch_embed.proj.weight", 224
# heads, and decoders of masked autoencoders
_HARMLESS = ("fc_norm.", "head.", "fc.", "mask_token", "decoder", "proj_up", "up_block")


def stated_weights(entry: PretrainedWeights) -> Any:
    """Return the member of torchgeo's enumeration that an entry names."""
    models = require("torchgeo.models", needed_by=repr(entry.name), extra="torchgeo")
    enum, member = entry.source.split(".")
    return getattr(models, enum)[member]


def completed(entry: PretrainedWeights) -> PretrainedWeights:
    """Return the entry with the bands and the preprocessing that torchgeo states."""
    stated = stated_weights(entry)
    bands = entry.bands or (tuple(stated.meta["bands"]) if "bands" in stated.meta else None)
    how = entry.preprocessing
    if how is None and entry.units is not None:
        how = preprocessing_of(stated.transforms, entry, stated.meta)
    return replace(entry, bands=bands, preprocessing=how)


def preprocessing_of(
    transforms: Any, entry: PretrainedWeights, meta: dict[str, Any]
) -> Preprocessing:
    """Return what the transforms of torchgeo do, as values.

    Raises
    ------
    ValueError
        If there is a transform that is not known here, so that none is left out silently.
    """
    size, before = int(meta.get("img_size", 224)), None
    n_bands = int(meta["in_chans"])
    mean, std = np.zeros(n_bands), np.ones(n_bands)
    for step in transforms:
        kind = type(step).__name__
        if kind == "Resize" and step.antialias and "bilinear" in str(step.interpolation).lower():
            size = before = int(step.size[0])
        elif kind == "CenterCrop":
            size = int(step.size[0])
        elif kind == "Normalize":
            # (x - a) / b, then (y - c) / d, is (x - (a + b c)) / (b d)
            mean, std = mean + std * np.asarray(step.mean), std * np.asarray(step.std)
        else:
            raise ValueError(
                f"The transforms that torchgeo states for {entry.source} have the step {step}, "
                "which is not known here. State a `preprocessing`."
            )
    if entry.units is None:
        raise ValueError(f"The units of {entry.name!r} are not known; state a `preprocessing`.")
    # with neither a resize nor a crop, the network was shown images of its own size
    cropped_only = before is None and any(
        type(step).__name__ == "CenterCrop" for step in transforms
    )
    return Preprocessing(
        units=entry.units,
        mean=tuple(mean.tolist()),
        std=tuple(std.tolist()),
        size_px=size,
        resize="none" if cropped_only else "square",
        resize_px=before,
    )


def download(entry: PretrainedWeights) -> Path:
    """Return the file of weights at torchgeo's address, downloading it when missing.

    Raises
    ------
    OSError
        If it cannot be reached, with how to use a local file.
    """
    hub = require("torch.hub", needed_by="PretrainedEncoder")
    url = stated_weights(entry).url
    file: Path = Path(hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[-1]
    if file.is_file():
        return file
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        hub.download_url_to_file(url, str(file), progress=False)
    except Exception as error:
        raise OSError(
            f"The weights of {entry.name!r} could not be downloaded from {url} "
            f"({type(error).__name__}: {error}). Where there is no connection, download this file "
            "elsewhere and say `path='FILE'`."
        ) from error
    return file


def build(entry: PretrainedWeights, request: NetworkRequest) -> ReadyNetwork:
    """Return a network of torchgeo with the weights of the request.

    The functions of torchgeo load the weights, and refuse those that do not fit.
    """
    models = require("torchgeo.models", needed_by=repr(entry.name), extra="torchgeo")
    check_choice("layer", request.layer, ("pooled",))
    name = str(entry.architecture)
    options: dict[str, Any] = {"num_classes": 0}
    if name.startswith("croma"):
        options = {"modalities": ["optical"], "image_size": request.size_px}
    elif name.startswith("panopticon"):
        options = {"img_size": request.size_px}
    elif name.startswith(("dofa", "copernicusfm")):
        options = {"img_size": request.size_px, "num_classes": 0}
    elif name.startswith("scalemae"):
        options = {"res": _resolution(request), "num_classes": 0}
    weights = _LocalWeights(stated_weights(entry).meta, dict(request.state))
    with _at_no_ones_cost():
        try:
            module = getattr(models, name)(weights=weights, **options)
        except (AssertionError, RuntimeError, KeyError) as error:
            raise ValueError(
                f"The weights of {request.name!r} do not fit the network {name!r} of torchgeo: "
                f"{str(error)[:300]}. Use the file that torchgeo names."
            ) from error
    module.eval()
    return ReadyNetwork(module, _forward(name, module, request))


def build_timm(request: NetworkRequest, architecture: str) -> ReadyNetwork:
    """Return a network of timm with the weights of a checkpoint.

    Decoders and heads in the checkpoint are left out; tensors that lie under "model" or
    "state_dict" are found. Of a network for sequences the part for one image is taken.
    """
    timm = require("timm", needed_by=repr(request.name), extra="torchgeo")
    torch = require("torch", needed_by=repr(request.name))
    check_choice("layer", request.layer, ("pooled",))
    state: Any = request.state
    for key in ("model", "state_dict"):
        state = state[key] if isinstance(state.get(key), dict) else state
    state = {name.removeprefix("encoder."): value for name, value in state.items()}
    options: dict[str, Any] = {}
    if getattr(state.get(_PATCHES), "ndim", 0) == 5:
        state = first_frame_of(state)
        options["norm_layer"] = torch.nn.LayerNorm  # as in Prithvi; timm has a smaller epsilon
    with _at_no_ones_cost():
        try:
            module = timm.create_model(
                architecture,
                pretrained=False,
                num_classes=0,
                in_chans=request.n_bands,
                **options,
            )
        except RuntimeError as error:
            raise ValueError(f"timm has no network {architecture!r}: {error}.") from error
    own = module.state_dict()
    fitting = {name: value for name, value in state.items() if name in own}
    shapes = [name for name, value in fitting.items() if value.shape != own[name].shape]
    refuse_missing(request.name, sorted(set(own) - set(fitting)), shapes)
    extra = [name for name in state if name not in own and not name.startswith(_HARMLESS)]
    if extra:
        raise ValueError(
            f"The file of {request.name!r} has {len(extra)} tensors that {architecture!r} does "
            f"not: {list_some(extra, 4)}. It is of another network."
        )
    module.load_state_dict(fitting)
    module.eval()
    return ReadyNetwork(module, module)


def first_frame_of(state: dict[str, Any]) -> dict[str, Any]:
    """Return the tensors with which a network of image sequences reads a single image.

    Prithvi cuts sequences into patches of one frame by a convolution in three dimensions, and its
    positions run over frames, rows and columns, in this order, after that of the class token.

    Parameters
    ----------
    state : dict
        With "patch_embed.proj.weight" of shape (n_features, n_bands, 1, patch_px, patch_px) and
        "pos_embed" of shape (1, 1 + n_frames * n_patches, n_features) for images of 224 px.

    Returns
    -------
    dict
        The same tensors for one image: the filters in two dimensions, the positions of frame 0.

    Raises
    ------
    ValueError
        If a patch covers several frames.
    """
    filters, positions = state[_PATCHES], state["pos_embed"]
    if filters.shape[2] != 1:
        raise ValueError(
            f"A network that reads single images has patches of one frame; those of this file "
            f"cover {filters.shape[2]}."
        )
    n_patches = (_FRAME_PX // int(filters.shape[-1])) ** 2
    return {**state, _PATCHES: filters[:, :, 0], "pos_embed": positions[:, : 1 + n_patches]}


class _LocalWeights:
    """Tensors of a file, in the form that the functions of torchgeo ask for.

    Parameters
    ----------
    meta : dict
        What torchgeo states of the weights.
    state : dict
        The tensors.
    """

    def __init__(self, meta: dict[str, Any], state: dict[str, Any]) -> None:
        self.meta = meta
        self._state = state

    def get_state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Return the tensors."""
        return self._state


def _resolution(request: NetworkRequest) -> float:
    if request.resolution_m is None:
        raise ValueError(
            f"{request.name!r} must be told the length of a pixel, but the chips do not know "
            "theirs. Give `resolution_m` to `Chips.from_arrays`, or read the chips from "
            "georeferenced files."
        )
    return request.resolution_m


def _forward(name: str, module: Any, request: NetworkRequest) -> Any:
    torch = require("torch", needed_by="PretrainedEncoder")
    needed = {"dofa": "wavelengths_nm", "panopticon": "wavelengths_nm", "copernicusfm": "both"}
    asks = next((what for start, what in needed.items() if name.startswith(start)), None)
    lengths = {"wavelengths_nm": request.wavelengths_nm, "bandwidths_nm": request.bandwidths_nm}
    for field, values in lengths.items():
        if asks in (field, "both") and len(values) != request.n_bands:
            raise ValueError(
                f"{request.name!r} must be told `{field}` of each of its {request.n_bands} bands "
                f"in `preprocessing`; got {len(values)}."
            )
    waves = list(request.wavelengths_nm)

    def dofa(pixels: "Tensor") -> "Tensor":
        found: Tensor = module.forward_features(pixels, [wave / 1000 for wave in waves])
        return found

    def panopticon(pixels: "Tensor") -> "Tensor":
        # made anew each time, because the network writes into it
        ids = torch.tensor(waves, device=pixels.device).repeat(len(pixels), 1)
        found: Tensor = module({"imgs": pixels, "chn_ids": ids})
        return found

    def copernicus(pixels: "Tensor") -> "Tensor":
        # place, day and area are not told: the network has tokens for that, and an embedding of
        # the image must not hold the coordinates
        unknown = torch.full((len(pixels), 4), float("nan"), device=pixels.device)
        found: Tensor = module.forward_features(
            pixels, unknown, wavelengths=waves, bandwidths=list(request.bandwidths_nm)
        )
        return found

    def croma(pixels: "Tensor") -> "Tensor":
        found: Tensor = module(x_optical=pixels)["optical_GAP"]
        return found

    ways = {"dofa": dofa, "panopticon": panopticon, "copernicusfm": copernicus, "croma": croma}
    return next((way for start, way in ways.items() if name.startswith(start)), module)


@contextlib.contextmanager
def _at_no_ones_cost() -> Iterator[None]:
    """Leave random numbers, warnings and output of the user as they were while building."""
    torch = require("torch", needed_by="PretrainedEncoder")
    with (
        torch.random.fork_rng(devices=[]),
        contextlib.redirect_stdout(io.StringIO()),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        yield
