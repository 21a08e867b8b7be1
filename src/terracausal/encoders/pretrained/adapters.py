"""From the bands of the chips to the bands of the network: select, repeat or project."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from terracausal._foundation.errors import BandError, list_some

_SPAN = 3.0  # standard deviations of a component on either side of grey


@dataclass(frozen=True)
class RepeatBand:
    """Show one band as every band of the network.

    Parameters
    ----------
    band : str
        Name of the band.

    Examples
    --------
    >>> RepeatBand("nir")
    RepeatBand(band='nir')
    """

    band: str


@dataclass(frozen=True)
class ProjectBands:
    """Mix several bands into those of the network.

    Parameters
    ----------
    bands : tuple of str, default=None
        Bands that are mixed; None takes all bands of the chips.
    matrix : tuple of tuples of float, default=None
        One row per band of the network, one column per band that is mixed. None takes the principal
        components of the pixels of the fitted chips, for networks that see photographs: each from
        black to white over three standard deviations on either side of its mean.

    Examples
    --------
    >>> ProjectBands(bands=("nir", "swir"), matrix=((1, 0), (0.5, 0.5), (0, 1))).bands
    ('nir', 'swir')
    """

    bands: tuple[str, ...] | None = None
    matrix: tuple[tuple[float, ...], ...] | None = None


BandChoice = Sequence[str] | RepeatBand | ProjectBands | None


@dataclass(frozen=True)
class BandAdapter:
    """How the bands of the network are made, as learned by `fit`.

    Parameters
    ----------
    kind : {"select", "repeat", "project", "principal components"}
        Which way.
    inputs : tuple of str
        Bands of the chips that are read, in order.
    outputs : tuple of str
        Bands of the network, or of the chips where it takes any.
    matrix : ndarray of shape (n_outputs, n_inputs), default=None
        What values in the units of the network are multiplied with; None where bands are kept.
    offset : ndarray of shape (n_outputs,), default=None
        What is added then.
    """

    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    matrix: NDArray[np.float64] | None = None
    offset: NDArray[np.float64] | None = None

    def lines(self) -> list[str]:
        """Return one line of text per band of the network."""
        if self.matrix is None:
            pairs = zip(self.outputs, self.inputs, strict=True)
            return [f"{name} <- {source}" for name, source in pairs]
        offset = np.zeros(len(self.outputs)) if self.offset is None else self.offset
        return [
            f"{name} <- {_mixture(row, self.inputs)}" + (f" {added:+.4g}" if added else "")
            for name, row, added in zip(self.outputs, self.matrix, offset, strict=True)
        ]

    def description(self) -> dict[str, Any]:
        """Return plain values that describe the adapter."""
        return {
            "kind": self.kind,
            "inputs": list(self.inputs),
            "outputs": list(self.outputs),
            "matrix": None if self.matrix is None else self.matrix.tolist(),
            "offset": None if self.offset is None else self.offset.tolist(),
        }


def choose_adapter(
    choice: BandChoice, have: tuple[str, ...], want: tuple[str, ...] | None, name: str
) -> BandAdapter:
    """Return how the bands of chips become those of a network.

    Parameters
    ----------
    choice : sequence of str, RepeatBand, ProjectBands or None
        Bands in the order of the network, or another way. None takes the bands of the network by
        name.
    have : tuple of str
        Bands of the chips.
    want : tuple of str or None
        Bands of the network; None where it takes any.
    name : str
        Of the weights, for messages.

    Returns
    -------
    BandAdapter
        Without its matrix where this is to be learned.

    Raises
    ------
    BandError
        If the bands do not fit, with both lists.

    Examples
    --------
    >>> choose_adapter(("red", "nir"), ("nir", "red"), None, "any").lines()
    ['red <- red', 'nir <- nir']
    """
    if isinstance(choice, RepeatBand):
        _check_known((choice.band,), have, want, name)
        outputs = want or have
        return BandAdapter("repeat", (choice.band,) * len(outputs), outputs)
    if isinstance(choice, ProjectBands):
        return _projection(choice, have, want, name)
    if isinstance(choice, str):
        raise BandError(
            f"`bands` must be names in the order of the network; got the text {choice!r}. To show "
            f"one band as all bands, say `RepeatBand({choice!r})`."
        )
    inputs = tuple(choice) if choice is not None else (want or have)
    _check_known(inputs, have, want, name)
    outputs = want or inputs
    if len(inputs) != len(outputs):
        raise BandError(
            f"The weights {name!r} need {len(outputs)} bands, {list_some(outputs, 20)}; `bands` "
            f"has {len(inputs)}, {list_some(inputs, 20)}. Name one band for each, or say "
            "`RepeatBand` or `ProjectBands`."
        )
    return BandAdapter("select", inputs, outputs)


def fitted_projection(
    adapter: BandAdapter, pixels: Iterable[NDArray[np.float64]], middle: float, top: float
) -> BandAdapter:
    """Return the adapter with the principal components of pixels.

    Parameters
    ----------
    adapter : BandAdapter
        Of the kind "principal components".
    pixels : iterable of ndarray of shape (n_pixels, n_inputs)
        In the units of the network, without NaN; read once.
    middle, top : float
        Values of the network for the mean of a component, and for `_SPAN` deviations above it.

    Raises
    ------
    ValueError
        If the bands vary in fewer directions than the network has bands.
    """
    n_inputs, n_outputs = len(adapter.inputs), len(adapter.outputs)
    count, total = 0, np.zeros(n_inputs)
    products = np.zeros((n_inputs, n_inputs))
    centre: NDArray[np.float64] | None = None
    for values in pixels:
        if not len(values):
            continue
        # moments about a typical value, so that squares of large numbers do not cancel
        centre = values.mean(axis=0) if centre is None else centre
        moved = values - centre
        count += len(moved)
        total += moved.sum(axis=0)
        products += moved.T @ moved
    if centre is None:
        raise ValueError(
            f"No pixel is valid in all of the bands {list_some(adapter.inputs, 20)}, whose "
            "principal components were asked for. Leave out the band that is missing."
        )
    shift = total / count
    variance, directions = np.linalg.eigh(products / count - np.outer(shift, shift))
    variance, directions = variance[::-1][:n_outputs], directions[:, ::-1][:, :n_outputs].T
    varied = int((variance > 1e-12 * max(variance[0], 1e-300)).sum())
    if varied < n_outputs:
        raise ValueError(
            f"The bands {list_some(adapter.inputs, 20)} vary in {varied} directions only; the "
            f"network needs {n_outputs}. Say `RepeatBand` or give a matrix."
        )
    largest = np.abs(directions).argmax(axis=1)
    signs = np.sign(directions[np.arange(n_outputs), largest])[:, None]
    matrix = directions * signs * ((top - middle) / _SPAN) / np.sqrt(variance)[:, None]
    offset = middle - matrix @ (centre + shift)
    return BandAdapter(adapter.kind, adapter.inputs, adapter.outputs, matrix, offset)


def _projection(
    choice: ProjectBands, have: tuple[str, ...], want: tuple[str, ...] | None, name: str
) -> BandAdapter:
    inputs = have if choice.bands is None else tuple(choice.bands)
    _check_known(inputs, have, want, name)
    if choice.matrix is None:
        if want is None or len(inputs) < len(want):
            needed = "a stated number of" if want is None else len(want)
            raise BandError(
                f"Principal components of {len(inputs)} bands cannot make {needed} bands for "
                f"{name!r}; the chips have {list_some(have, 20)}. Say `RepeatBand`, name more "
                "bands or give a matrix."
            )
        return BandAdapter("principal components", inputs, want)
    matrix = np.array(choice.matrix, dtype=np.float64)
    n_outputs = len(want) if want else len(matrix)
    if matrix.shape != (n_outputs, len(inputs)) or not np.isfinite(matrix).all():
        raise BandError(
            f"`matrix` must have {n_outputs} rows, one per band of the network, and "
            f"{len(inputs)} columns for {list_some(inputs, 20)}, all finite; got the shape "
            f"{matrix.shape}."
        )
    outputs = want or tuple(f"mixture {number}" for number in range(n_outputs))
    return BandAdapter("project", inputs, outputs, matrix)


def _check_known(
    wanted: tuple[str, ...], have: tuple[str, ...], want: tuple[str, ...] | None, name: str
) -> None:
    unknown = [band for band in wanted if band not in have]
    if unknown:
        network = "any bands" if want is None else list_some(want, 20)
        raise BandError(
            f"The weights {name!r} expect {network}; these chips have {list_some(have, 20)}, and "
            f"not {list_some(unknown, 20)}. Set `bands` to bands of the chips in the order of the "
            "network, or to `RepeatBand` or `ProjectBands`."
        )


def _mixture(row: NDArray[np.float64], inputs: tuple[str, ...]) -> str:
    return " ".join(f"{share:+.4g} {band}" for share, band in zip(row, inputs, strict=True))
