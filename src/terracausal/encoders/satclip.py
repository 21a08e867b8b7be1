"""SatCLIP: a sinusoidal network on spherical harmonics, read from its published checkpoints.

Klemmer, K., Rolf, E., Robinson, C., Mackey, L. and Russwurm, M. (2025). SatCLIP: global,
general-purpose location embeddings with satellite imagery. AAAI 39(4).

The checkpoints hold the image network as well; only the tensors named `…nnet.…` are taken. Upstream
evaluates harmonics by expanded polynomials, which lose digits at high degrees: up to degree 20 they
agree with the exact ones to 1e-8, at degree 39 within 60 degrees of the equator to 1e-2 only. Here
they are exact, so rows of the published networks of 40 degrees differ from upstream's by that much.
"""

from dataclasses import dataclass
from hashlib import blake2b
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from terracausal._foundation.errors import list_some
from terracausal._foundation.optional import require
from terracausal.encoders.spherical_harmonics import spherical_harmonics

_FIRST_FREQUENCY = 30.0


@dataclass(frozen=True, eq=False)
class SatclipNetwork:
    """The location network of SatCLIP.

    Parameters
    ----------
    weights : tuple of ndarray of shape (n_out, n_in)
        Of each layer; the first reads n_degrees ** 2 spherical harmonics.
    biases : tuple of ndarray of shape (n_out,)
        Of each layer.
    analytic : bool
        Whether the network was trained on the formulas that SatCLIP calls "analytic", as the
        published ones were; the others are "closed-form".
    """

    weights: tuple[NDArray[np.float64], ...]
    biases: tuple[NDArray[np.float64], ...]
    analytic: bool

    @property
    def n_features(self) -> int:
        """Number of columns."""
        return len(self.biases[-1])

    @property
    def digest(self) -> str:
        """Checksum of all parameters."""
        hashed = blake2b(str(self.analytic).encode(), digest_size=16)
        for array in (*self.weights, *self.biases):
            hashed.update(np.ascontiguousarray(array).tobytes())
        return hashed.hexdigest()

    def encode(self, lon_lat: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the features (n_sites, n_features) of positions (n_sites, 2) in degrees."""
        n_degrees = round(self.weights[0].shape[1] ** 0.5)
        x = satclip_harmonics(lon_lat, n_degrees, analytic=self.analytic)
        last = len(self.weights) - 1
        for number, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            # einsum and not @: the product of one row must not depend on how many rows there are
            x = np.einsum("si,oi->so", x, weight) + bias
            if number < last:
                x = np.sin(x * (_FIRST_FREQUENCY if number == 0 else 1.0))
        return x


def satclip_harmonics(
    lon_lat: NDArray[np.float64], n_degrees: int, *, analytic: bool = True
) -> NDArray[np.float64]:
    """Return spherical harmonics as SatCLIP computes them, shape (n_sites, n_degrees ** 2).

    SatCLIP counts latitude from the south pole and longitude from the date line, which is a factor
    of (-1)^l for degree l. Its "analytic" formulas have sqrt((2 l + 1) / 4 pi) read as
    sqrt((2 l + 1) pi / 4) for order 0, a factor of pi; its "closed-form" ones have the sign (-1)^m.
    The networks were trained on these numbers, so they are kept.

    Examples
    --------
    >>> satclip_harmonics(np.array([[0.0, 90.0]]), 2).round(4).ravel().tolist()
    [0.8862, -0.0, -1.535, -0.0]
    """
    found = spherical_harmonics(lon_lat, n_degrees - 1)
    for n in range(n_degrees):
        orders = np.arange(-n, n + 1)
        factor = np.where(orders == 0, np.pi, 1.0) if analytic else (-1.0) ** np.abs(orders)
        found[:, n * n : (n + 1) ** 2] *= (-1) ** n * factor
    return found


def read_satclip(path: Path) -> SatclipNetwork:
    """Read the location network from a checkpoint, executing nothing of it.

    Parameters
    ----------
    path : Path
        A published file such as `satclip-vit16-l40.ckpt`.

    Returns
    -------
    SatclipNetwork
        In float64.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file cannot be read without executing code, is truncated, or holds another network.
    """
    torch = require("torch", needed_by='basis "satclip"')
    if not path.is_file():
        raise FileNotFoundError(f"There is no checkpoint {str(path)!r}. Download it first.")
    try:
        held = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ValueError(
            f"{path.name!r} could not be read as a checkpoint of plain tensors "
            f"({type(error).__name__}). Download it again, and compare its checksum."
        ) from error
    names = list(held) if isinstance(held, dict) else [type(held).__name__]
    if not {"state_dict", "hyper_parameters"} <= set(names):
        raise ValueError(
            f"{path.name!r} must hold `state_dict` and `hyper_parameters`, as the checkpoints of "
            f"SatCLIP do; found {list_some(names)}."
        )
    settings = held["hyper_parameters"]
    _check_settings(path, settings)
    return _network(path, held["state_dict"], settings["harmonics_calculation"] == "analytic")


def _check_settings(path: Path, settings: Any) -> None:
    wanted = {
        "le_type": ("sphericalharmonics",),
        "pe_type": ("siren",),
        "harmonics_calculation": ("analytic", "closed-form"),
    }
    for name, known in wanted.items():
        if settings.get(name) not in known:
            raise ValueError(
                f"{path.name!r} must have the setting {name!r} {list_some(known)}; it has "
                f"{settings.get(name)!r}. Use one of the published SatCLIP checkpoints."
            )


def _network(path: Path, state: dict[str, Any], analytic: bool) -> SatclipNetwork:
    tensors = {name[name.index("nnet.") :]: x for name, x in state.items() if "nnet." in name}
    n_hidden = sum(name.startswith("nnet.layers.") and name.endswith("weight") for name in tensors)
    layers = [f"nnet.layers.{number}" for number in range(n_hidden)] + ["nnet.last_layer"]
    names = [f"{layer}.{what}" for layer in layers for what in ("weight", "bias")]
    absent = [name for name in names if name not in tensors]
    if absent or not n_hidden:
        raise ValueError(
            f"{path.name!r} must hold the layers of SatCLIP's location network; it lacks "
            f"{list_some(absent or ['nnet.layers.0.weight'])}. Use a published checkpoint."
        )
    arrays = [tensors[name].double().numpy() for name in names]
    found = SatclipNetwork(tuple(arrays[::2]), tuple(arrays[1::2]), analytic)
    widths = [weight.shape for weight in found.weights]
    n_degrees = round(widths[0][1] ** 0.5)
    fits = all(after[1] == before[0] for before, after in pairwise(widths))
    if n_degrees**2 != widths[0][1] or not fits:
        raise ValueError(
            f"The layers of {path.name!r} do not fit each other; their shapes are {widths}. "
            "Use a published checkpoint."
        )
    return found
