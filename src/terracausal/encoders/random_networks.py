"""Networks that nobody trained: the random vision transformer and convolution of the papers."""

from hashlib import blake2b
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from terracausal._foundation.checks import check_choice, check_count
from terracausal._foundation.errors import list_some
from terracausal._foundation.optional import require
from terracausal._foundation.progress import track
from terracausal._foundation.randomness import (
    RandomState,
    canonical_order,
    draw_seed,
    random_generator,
)
from terracausal.encoders.base import ChipEncoder, numbered
from terracausal.encoders.moments import RunningMoments
from terracausal.imagery import Chips

_WIDTH = 128
_PATCH_PX = 16
_KERNEL_PX = 3
_MOST_MISSING = 0.5
_N_COLUMNS = {"vit": _WIDTH, "cnn": 3 * _WIDTH}


class RandomNetworkEncoder(ChipEncoder):
    """Features of a network with random parameters, on standardised bands.

    Parameters
    ----------
    kind : {'vit', 'cnn'}, default='vit'
        "vit" has 128 columns, "cnn" has 384; see Notes.
    batch_size : int, default=64
        Number of chips held in memory together.
    device : str, default='cpu'
        Where torch computes, such as "cpu" or "cuda".
    random_state : None, int or numpy.random.Generator, default=None
        Seed of the parameters.
    n_components : int, default=None
        Number of principal components of the fitted sites to keep; None keeps all columns.
    whiten : bool, default=False
        Whether components have unit variance over the fitted sites.

    Attributes
    ----------
    mean_, scale_ : ndarray of shape (n_bands,)
        Mean and standard deviation of all valid pixels of each band of the fitted chips; the scale
        of a constant band is 1.
    parameters_ : dict of str to ndarray
        float32 parameters of the network, by name.
    bands_ : tuple of str
        Bands of the fitted chips.
    n_sites_fitted_ : int
        Number of fitted sites.
    components_ : PrincipalComponents or None
        The reduction.

    Notes
    -----
    "vit" ("R-ViT" of [1]_): patches of 16 x 16 px become tokens of 128 numbers by a convolution
    without bias; images are first reflected at their edges to a multiple of 16 px. One block of
    RMSNorm, attention with rotary positions in raster order, SwiGLU of 3.5 times the width, and
    residuals weighted 1 / sqrt(2) reads them; the token that stands before them is the result.
    The reference states 12 heads, which do not divide 128, and its published code has 8, as here.

    "cnn" ("R-CNN" of [1]_): a 3 x 3 convolution within each band, then a 1 x 1 convolution to 128
    maps, without bias or activation; columns are the maximum, the mean, and their product, over
    positions. As all is linear, the 128 means have no more independent directions than there
    are bands.

    Parameters are normal with variance 1 / (numbers that enter a sum). Missing pixels: "cnn" leaves
    out windows that touch one. "vit" leaves out patches of which more than half is missing; in the
    others a missing pixel counts as the mean of its band over the fitted chips. An image without a
    window or patch that remains cannot be encoded. With several times every column is the mean
    over the images that can be encoded. The number of chips in a batch changes
    the last digits of float32 at most (1e-5 of a column's spread).

    References
    ----------
    .. [1] Jerzak, C. T., Vashistha, R. and Daoud, A. (2024). Effect heterogeneity with Earth
       observation in randomized controlled trials. arXiv:2407.11674.

    Examples
    --------
    >>> pixels = np.random.default_rng(0).normal(size=(3, 1, 2, 20, 20))
    >>> chips = Chips.from_arrays(pixels, sites=list("abc"), bands=["red", "nir"])
    >>> RandomNetworkEncoder("cnn", random_state=0).fit_transform(chips).shape
    (3, 384)
    """

    mean_: NDArray[np.float32]
    scale_: NDArray[np.float32]
    parameters_: dict[str, NDArray[np.float32]]

    def __init__(
        self,
        kind: Literal["vit", "cnn"] = "vit",
        batch_size: int = 64,
        device: str = "cpu",
        random_state: RandomState = None,
        n_components: int | None = None,
        whiten: bool = False,
    ) -> None:
        self.kind = kind
        self.batch_size = batch_size
        self.device = device
        self.random_state = random_state
        self.n_components = n_components
        self.whiten = whiten

    def _learn(self, chips: Chips, y: object) -> None:
        check_choice("kind", self.kind, tuple(_N_COLUMNS))
        check_count("batch_size", self.batch_size)
        torch = require("torch", needed_by="RandomNetworkEncoder")
        _check_size(self.kind, chips.size_px)
        self.mean_, self.scale_ = band_moments(chips)
        seed = draw_seed(random_generator(self.random_state))
        generator = torch.Generator().manual_seed(seed)
        self.parameters_ = draw_parameters(self.kind, chips.n_bands, generator)

    def _columns(self) -> list[str]:
        return numbered(self.kind, _N_COLUMNS[self.kind])

    def _encode_images(self, pixels: NDArray[np.float32]) -> NDArray[np.float64]:
        torch = require("torch", needed_by="RandomNetworkEncoder")
        _check_size(self.kind, (pixels.shape[-2], pixels.shape[-1]))
        device = torch.device(self.device)
        parameters = {name: torch.from_numpy(x).to(device) for name, x in self.parameters_.items()}
        standard = (pixels - self.mean_[:, None, None]) / self.scale_[:, None, None]
        run = {"vit": run_vit, "cnn": run_cnn}[self.kind]
        with torch.no_grad():
            found = run(standard, parameters)
        return np.asarray(found.cpu().numpy(), dtype=np.float64)

    def _need(self) -> str:
        if self.kind == "cnn":
            return f"a window of {_KERNEL_PX} x {_KERNEL_PX} px without missing pixels"
        return f"a patch of {_PATCH_PX} x {_PATCH_PX} px of which at least half is valid"

    def _sites_at_once(self) -> int:
        return self.batch_size

    def _description(self) -> dict[str, Any]:
        hashed = blake2b(digest_size=16)
        for name in sorted(self.parameters_):
            hashed.update(np.ascontiguousarray(self.parameters_[name]).tobytes())
        return {
            **super()._description(),
            "moments": {"mean": self.mean_.tolist(), "scale": self.scale_.tolist()},
            "n_parameters": sum(x.size for x in self.parameters_.values()),
            "parameters_digest": hashed.hexdigest(),
        }


def band_moments(chips: Chips) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return mean and standard deviation of the valid pixels of each band, read in order of keys.

    Raises
    ------
    ValueError
        If a band has no valid pixel.

    Examples
    --------
    >>> pixels = np.array([1.0, 3.0, np.nan]).reshape(1, 1, 1, 1, 3)
    >>> band_moments(Chips.from_arrays(pixels, sites=["a"], bands=["red"]))
    (array([2.], dtype=float32), array([1.], dtype=float32))
    """
    moments = RunningMoments(chips.n_bands)
    ordered = [chips.keys[position] for position in canonical_order(chips.keys)]
    for site in track(ordered, "reading chips"):
        moments.add(chips[site].transpose(0, 2, 3, 1).reshape(-1, chips.n_bands))
    empty = [band for band, count in zip(chips.bands, moments.count, strict=True) if count == 0]
    if empty:
        raise ValueError(
            f"Every band needs valid pixels; {list_some(empty)} have none in {chips.n_sites} "
            "chips. Leave these bands out."
        )
    return moments.mean.astype(np.float32), moments.scale().astype(np.float32)


def draw_parameters(kind: str, n_bands: int, generator: Any) -> dict[str, NDArray[np.float32]]:
    """Draw the parameters of a network from a torch.Generator.

    Parameters
    ----------
    kind : {'vit', 'cnn'}
        Which network.
    n_bands : int
        Number of bands that it reads.
    generator : torch.Generator
        On the CPU, so that the same seed draws the same parameters for every device.

    Returns
    -------
    dict of str to ndarray
        float32.
    """
    torch = require("torch", needed_by="RandomNetworkEncoder")

    def normal(*shape: int) -> Any:
        fan_in = int(np.prod(shape[1:]))
        return torch.empty(shape).normal_(0.0, fan_in**-0.5, generator=generator).numpy()

    if kind == "cnn":
        return {
            "depthwise": normal(n_bands, 1, _KERNEL_PX, _KERNEL_PX),
            "pointwise": normal(_WIDTH, n_bands, 1, 1),
        }
    patches = normal(_WIDTH, n_bands, _PATCH_PX, _PATCH_PX)
    transformer = _transformer(generator).state_dict()
    return {"patches": patches} | {name: value.numpy() for name, value in transformer.items()}


def run_vit(images: NDArray[np.float32], parameters: dict[str, Any]) -> Any:
    """Return the first token of the random vision transformer.

    Parameters
    ----------
    images : ndarray of shape (b, n_bands, height, width)
        Standardised, NaN where missing.
    parameters : dict of str to Tensor
        From `draw_parameters`, on the device that computes.

    Returns
    -------
    Tensor of shape (b, 128)
        NaN for an image without a patch of which half is known.
    """
    torch = require("torch", needed_by="RandomNetworkEncoder")
    held = dict(parameters)
    patches = held.pop("patches")
    pixels, gap = _on_device(_reflected(images, _PATCH_PX), patches.device)
    tokens = torch.nn.functional.conv2d(pixels, patches, stride=_PATCH_PX)
    share = torch.nn.functional.avg_pool2d(gap.mean(dim=1, keepdim=True), _PATCH_PX)
    missing = share[:, 0].flatten(1) > _MOST_MISSING
    tokens = tokens.flatten(2).transpose(1, 2)
    positions = torch.arange(1.0, tokens.shape[1] + 1, device=patches.device)
    network = _transformer(torch.Generator()).to(patches.device)
    network.load_state_dict(held)
    found = network(tokens, missing, positions.expand(len(tokens), -1))
    return found.masked_fill(missing.all(dim=1, keepdim=True), torch.nan)


def run_cnn(images: NDArray[np.float32], parameters: dict[str, Any]) -> Any:
    """Return maximum, mean and their product over positions of the random convolution.

    Parameters
    ----------
    images : ndarray of shape (b, n_bands, height, width)
        Standardised, NaN where missing.
    parameters : dict of str to Tensor
        From `draw_parameters`, on the device that computes.

    Returns
    -------
    Tensor of shape (b, 384)
        NaN for an image without a complete window.
    """
    torch = require("torch", needed_by="RandomNetworkEncoder")
    depthwise, pointwise = parameters["depthwise"], parameters["pointwise"]
    pixels, gap = _on_device(images, depthwise.device)
    filtered = torch.nn.functional.conv2d(pixels, depthwise, groups=pixels.shape[1])
    maps = torch.nn.functional.conv2d(filtered, pointwise)
    touched = gap.amax(dim=1, keepdim=True)
    missing = torch.nn.functional.max_pool2d(touched, _KERNEL_PX, stride=1) > 0
    count = (~missing).sum(dim=(2, 3))
    highest = maps.masked_fill(missing, -torch.inf).amax(dim=(2, 3))
    mean = maps.masked_fill(missing, 0.0).sum(dim=(2, 3)) / count.clamp_min(1)
    found = torch.cat([highest, mean, highest * mean], dim=1)
    return found.masked_fill(count == 0, torch.nan)


def _transformer(generator: Any) -> Any:
    # imported here because the module needs torch
    from terracausal.encoders.networks.temporal import RotaryTransformer

    return RotaryTransformer(_WIDTH, generator=generator)


def _on_device(images: NDArray[np.float32], device: Any) -> tuple[Any, Any]:
    """Return pixels with 0 for NaN, and 1 where they are NaN; both (b, n_bands, height, width)."""
    torch = require("torch", needed_by="RandomNetworkEncoder")
    pixels = torch.from_numpy(np.ascontiguousarray(images)).to(device)
    gap = pixels.isnan()
    return pixels.masked_fill(gap, 0.0), gap.to(pixels.dtype)


def _reflected(images: NDArray[np.float32], multiple_px: int) -> NDArray[np.float32]:
    """Return images reflected at their edges until both sides are a multiple, the same around."""
    around = [(0, 0), (0, 0)]
    for length in images.shape[-2:]:
        lack = -length % multiple_px
        around.append((lack // 2, lack - lack // 2))
    return np.pad(images, around, mode="reflect")


def _check_size(kind: str, size_px: tuple[int, int]) -> None:
    if kind == "cnn" and min(size_px) < _KERNEL_PX:
        raise ValueError(
            f"Chips must be at least as large as a window of {_KERNEL_PX} x {_KERNEL_PX} px; these "
            f"have {size_px[0]} x {size_px[1]} px. Read larger chips."
        )
