"""What is known of pretrained weights: where they are, and what their network must be shown."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from terracausal._foundation.checks import check_choice, check_count, check_positive

Interpolation = Literal["bilinear", "bicubic"]
Resize = Literal["square", "shortest_edge", "none"]
Arithmetic = Literal["bytes", "float"]
NetworkUnits = Literal["uint8", "reflectance", "reflectance_10000"]


@dataclass(frozen=True)
class Preprocessing:
    """What happens to pixels between the chip and the network.

    Resize, crop the centre, then (value / scale - mean) / std for each band.

    Parameters
    ----------
    units : {"uint8", "reflectance", "reflectance_10000"}
        Units that the network was trained on, before `scale`: 0 to 255, reflectance as a fraction,
        or reflectance times 10,000.
    mean, std : tuple of float
        One number per band, or a single one for all bands, in units of value / scale.
    scale : float, default=1.0
        What values are divided by first, such as 255.
    size_px : int, default=224
        Height and width of the image that the network sees.
    resize : {"square", "shortest_edge", "none"}, default="square"
        Whether both sides become `resize_px`, or the shorter one, or images keep their size and are
        only cropped. Images smaller than `size_px` are always enlarged to it, never padded.
    resize_px : int, default=None
        Size before the crop; None takes `size_px`.
    interpolation : {"bilinear", "bicubic"}, default="bilinear"
        Always with antialiasing.
    arithmetic : {"bytes", "float"}, default="float"
        "bytes" rounds to 0..255 before and after resizing, exactly as the imaging library Pillow
        does, which is what networks trained on photographs were shown. "float" rounds nothing.
    wavelengths_nm, bandwidths_nm : tuple of float, default=()
        Centre and width of each band, for networks that ask for them.

    Raises
    ------
    ValueError
        If a value is out of range or the lengths differ.

    Examples
    --------
    >>> Preprocessing(units="uint8", mean=(0.5,), std=(0.5,), scale=255.0).size_px
    224
    """

    units: NetworkUnits
    mean: tuple[float, ...]
    std: tuple[float, ...]
    scale: float = 1.0
    size_px: int = 224
    resize: Resize = "square"
    resize_px: int | None = None
    interpolation: Interpolation = "bilinear"
    arithmetic: Arithmetic = "float"
    wavelengths_nm: tuple[float, ...] = ()
    bandwidths_nm: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        """Check the values."""
        check_choice("units", self.units, ("uint8", "reflectance", "reflectance_10000"))
        check_choice("resize", self.resize, ("square", "shortest_edge", "none"))
        check_choice("interpolation", self.interpolation, ("bilinear", "bicubic"))
        check_choice("arithmetic", self.arithmetic, ("bytes", "float"))
        check_count("size_px", self.size_px)
        if self.resize_px is not None:
            check_count("resize_px", self.resize_px, minimum=self.size_px)
        check_positive("scale", self.scale)
        if len(self.mean) != len(self.std) or not self.mean:
            raise ValueError(
                "`mean` and `std` need one number per band each, or one for all; got "
                f"{len(self.mean)} and {len(self.std)}."
            )
        if not np.isfinite([*self.mean, *self.std]).all() or min(self.std) <= 0:
            raise ValueError(
                "`mean` must be finite and `std` above 0; got "
                f"mean={self.mean!r}, std={self.std!r}."
            )
        if self.arithmetic == "bytes" and self.units != "uint8":
            raise ValueError(
                "`arithmetic='bytes'` is for networks whose units are 'uint8'; got "
                f"{self.units!r}. Use 'float'."
            )

    def description(self) -> dict[str, Any]:
        """Return plain values that describe the transform."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in asdict(self).items()
        }


@dataclass(frozen=True)
class PretrainedWeights:
    """An entry of the registry of pretrained weights.

    Parameters
    ----------
    name : str
        What `PretrainedEncoder` is given.
    library : {"transformers", "torchgeo", "timm"}
        What builds the network.
    source : str
        Id on the Hugging Face hub, or "Enum.MEMBER" of `torchgeo.models`.
    layer : str
        Which output is the embedding.
    n_features : int
        Length of the embedding.
    licence, citation : str
        As the authors state them.
    bands : tuple of str, default=None
        Bands in the order of the network. None: those that torchgeo states, or any.
    preprocessing : Preprocessing, default=None
        None: what torchgeo states; or the user's own, where the authors leave it to the sensor.
    units : str, default=None
        Units of the network where torchgeo states the rest of the preprocessing; None where the
        user must state all of it.
    revision : str, default=None
        Commit of the weights. torchgeo has it in its addresses. None: we could not establish one,
        and the newest is taken.
    architecture : str, default=None
        Function of `torchgeo.models`, or timm name, that builds the network.
    n_frames : int, default=None
        Images per sequence, for networks that read sequences.
    reflectance_is_convertible : bool, default=True
        False where bytes were made of reflectance by a stretch that a single factor cannot repeat.
    """

    name: str
    library: Literal["transformers", "torchgeo", "timm"]
    source: str
    layer: str
    n_features: int | None
    licence: str
    citation: str
    bands: tuple[str, ...] | None = None
    preprocessing: Preprocessing | None = None
    units: NetworkUnits | None = None
    revision: str | None = None
    architecture: str | None = None
    n_frames: int | None = None
    reflectance_is_convertible: bool = True
