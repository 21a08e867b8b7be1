"""From pixels to what the network sees, and from there to embeddings."""

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from terracausal._foundation.checks import check_choice
from terracausal._foundation.optional import require
from terracausal.encoders.pretrained.adapters import BandAdapter
from terracausal.encoders.pretrained.entry import Preprocessing
from terracausal.encoders.pretrained.networks import ReadyNetwork
from terracausal.encoders.pretrained.resizing import (
    crop_centre,
    resize_bytes,
    resize_floats,
    size_before_crop,
)
from terracausal.encoders.pretrained.units import Units, conversion

if TYPE_CHECKING:
    from torch import Tensor


def check_device(device: str) -> None:
    """Refuse a GPU that is not there.

    Raises
    ------
    RuntimeError
        If CUDA is asked for and absent.
    """
    torch = require("torch", needed_by="PretrainedEncoder")
    if torch.device(device).type == "cuda" and not torch.cuda.is_available():
        raise RuntimeError(
            f"`device={device!r}` asks for a GPU, but torch {torch.__version__} sees none: there "
            "is no CUDA device, or torch was installed without CUDA. Use `device='cpu'`."
        )


def check_dtype(dtype: str) -> None:
    """Refuse precisions that are not offered."""
    check_choice("dtype", dtype, ("float32", "bfloat16"))


def in_network_units(
    pixels: NDArray[np.float32], adapter: BandAdapter, bands: tuple[str, ...], scale: Any
) -> "Tensor":
    """Return the bands of the network (b, n_outputs, h, w) in its units, NaN where missing.

    Parameters
    ----------
    pixels : ndarray of shape (b, n_bands, h, w)
        Of the chips.
    adapter : BandAdapter
        How bands are made.
    bands : tuple of str
        Of the chips.
    scale : tuple of float
        (low, factor) as from `conversion`.

    Returns
    -------
    Tensor
        float64.
    """
    torch = require("torch", needed_by="PretrainedEncoder")
    positions = [bands.index(band) for band in adapter.inputs]
    low, factor = scale
    values = torch.from_numpy(np.ascontiguousarray(pixels[:, positions])).double()
    values = (values - low) * factor
    if adapter.matrix is not None:
        values = torch.einsum("oi,bihw->bohw", torch.from_numpy(adapter.matrix), values)
    if adapter.offset is not None:
        values = values + torch.from_numpy(adapter.offset)[:, None, None]
    result: Tensor = values
    return result


def prepare(values: "Tensor", how: Preprocessing, *, are_bytes: bool) -> "Tensor":
    """Return what the network sees, of values in its units.

    Parameters
    ----------
    values : Tensor of shape (b, n_outputs, h, w)
        float64, NaN where missing.
    how : Preprocessing
        Resize, crop and normalisation.
    are_bytes : bool
        Whether the chips held 0..255, so that fractions are rounded to the nearest; fractions that
        come from other units are cut off, as the processors of transformers do.

    Returns
    -------
    Tensor of shape (b, n_outputs, size_px, size_px)
        float32.

    Notes
    -----
    Missing pixels are given the mean that the network subtracts, which becomes 0, before the
    resize, in arithmetic of bytes the byte nearest to it.
    """
    torch = require("torch", needed_by="PretrainedEncoder")
    mean, std = (
        torch.tensor(numbers, dtype=torch.float64, device=values.device)[:, None, None]
        for numbers in (how.mean, how.std)
    )
    fill = mean * how.scale
    if how.units == "uint8":
        values = values.clamp(0, 255)
    size = size_before_crop(values.shape[-2], values.shape[-1], how)
    if how.arithmetic == "bytes":
        # through float32 first: 0.6 * 255 is 153 there, and a little less in float64
        values = torch.round(values) if are_bytes else torch.floor(values.float()).double()
        values = torch.where(values.isnan(), torch.round(fill), values)
        images = resize_bytes(values, size, how.interpolation)
    else:
        values = torch.where(values.isnan(), fill, values).float()
        images = resize_floats(values, size, how.interpolation)
    images = crop_centre(images, how).double() / how.scale
    seen: Tensor = ((images - mean) / std).float()
    return seen


def seen_by_network(
    pixels: NDArray[np.float32],
    adapter: BandAdapter,
    bands: tuple[str, ...],
    units: Units,
    how: Preprocessing,
    device: str = "cpu",
) -> "Tensor":
    """Return what the network sees of images (b, n_bands, h, w): float32, on the device."""
    scale = conversion(units, how.units)
    values = in_network_units(pixels, adapter, bands, scale).to(device)
    return prepare(values, how, are_bytes=units == "uint8")


def embed_batches(
    network: ReadyNetwork, images: "Tensor", *, batch_size: int, dtype: str
) -> NDArray[np.float64]:
    """Return the embeddings of what the network sees, a few at a time.

    Where the GPU has too little memory, fewer are taken at a time, with a warning.

    Raises
    ------
    MemoryError
        If not even one image fits.
    """
    torch = require("torch", needed_by="PretrainedEncoder")
    rows, start, step = [], 0, batch_size
    kind = images.device.type
    while start < len(images):
        try:
            with (
                torch.inference_mode(),
                torch.autocast(kind, dtype=torch.bfloat16, enabled=dtype == "bfloat16"),
            ):
                found = network.forward(images[start : start + step])
            rows.append(found.double().cpu().numpy())
            start += step
        except torch.cuda.OutOfMemoryError as error:
            if step == 1:
                raise MemoryError(
                    f"The memory of {images.device} does not hold one image of "
                    f"{tuple(images.shape[1:])}. Free memory, or use `device='cpu'`."
                ) from error
            step = max(step // 2, 1)
            if kind == "cuda":
                torch.cuda.empty_cache()
            warnings.warn(
                f"The memory of {images.device} does not hold {2 * step} images at once; going "
                f"on with {step}. Set `batch_size={step}` to keep it so.",
                RuntimeWarning,
                stacklevel=2,
            )
    return np.concatenate(rows)
