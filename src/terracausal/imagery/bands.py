"""Which bands of each layer become which bands of the chips."""

from collections.abc import Callable, Sequence
from pathlib import PurePath
from typing import Any

import numpy as np

from terracausal._foundation.errors import BandError, list_some
from terracausal.imagery.calibration import Scaling, check_one_unit
from terracausal.imagery.readers import band_tuple
from terracausal.imagery.sources.base import Layer

BandPairs = tuple[tuple[int, int], ...]
"""Position in the chip, and in the layer, of each band that a layer gives."""

_NARROW = 8


def choose_bands(
    layers: Sequence[Layer], bands: Sequence[str] | None
) -> tuple[tuple[str, ...], list[BandPairs]]:
    """Return the names of the bands of the chips, and what each layer gives to them.

    Parameters
    ----------
    layers : sequence of Layer
        The bands of two of them must be the same, in any order, or have none in common (as in
        products with one file per band).
    bands : sequence of str or None
        Some of the names in the layers, in the order wanted; new names for all bands; or None for
        all bands as they are named.

    Returns
    -------
    names : tuple of str
        Of the bands of the chips.
    pairs : list of BandPairs
        One entry per layer.

    Raises
    ------
    BandError
        If the layers differ in their bands or `bands` does not fit them.

    Examples
    --------
    >>> choose_bands([Layer("a.tif", ("red", "nir"))], ["nir"])
    (('nir',), [((0, 1),)])
    """
    _refuse_overlapping(layers)
    own = tuple(dict.fromkeys(name for layer in layers for name in layer.bands))
    names = own if bands is None else band_tuple(bands)
    if set(names) <= set(own):
        return names, [
            tuple((names.index(name), k) for k, name in enumerate(layer.bands) if name in names)
            for layer in layers
        ]
    n_bands = len(layers[0].bands)
    if len(own) != n_bands or len(names) != n_bands or set(names) & set(own):
        raise BandError(
            f"`bands` must be some of the bands in the files, {list_some(own, 20)}, or new names "
            f"for all {len(own)} bands; got {list_some(names, 20)}."
        )
    _refuse_different(layers, "band descriptions", lambda layer: layer.bands)
    return names, [tuple((k, k) for k in range(n_bands))] * len(layers)


def refuse_mixed_bytes(layers: Sequence[Layer]) -> list[str]:
    """Raise a `BandError` where bytes meet wider numbers, since their units differ.

    Parameters
    ----------
    layers : sequence of Layer
        All that may be joined or compared; those with a scale or offset are not judged.

    Returns
    -------
    list of str
        A note where integers meet fractions, whose units may be the same or not.

    Examples
    --------
    >>> one, two = Layer("a", ("red",), dtype="int16"), Layer("b", ("red",), dtype="uint16")
    >>> refuse_mixed_bytes([one, two])
    []
    """
    plain = [layer for layer in layers if not (layer.scale or layer.offset)]
    kinds: dict[str, dict[str, str]] = {}
    for layer in plain:
        dtype = np.dtype(layer.dtype)
        kind = "fractions" if dtype.kind == "f" else "bytes" if dtype.itemsize == 1 else "integers"
        for name in layer.bands:
            kinds.setdefault(name, {}).setdefault(kind, layer.uri)
    mixed = [name for name, found in kinds.items() if len(found) > 1]
    bytes_too = [name for name in mixed if "bytes" in kinds[name]]
    if bytes_too:
        different = [layer for layer in plain if set(layer.bands) & set(bytes_too)]
        _refuse_different(different, "dtypes", lambda layer: layer.dtype)
    shown = "; ".join(
        f"{kind} first in {uri}" for kind, uri in (kinds[mixed[0]] if mixed else {}).items()
    )
    return [f"bands whose dtypes differ between files: {len(mixed)} ({shown})"] if mixed else []


def refuse_mixed_scales(layers: Sequence[Layer], pairs: Sequence[BandPairs]) -> None:
    """Raise a `ValueError` where some layers of a band are scaled to another unit than others.

    Integers and fractions are judged apart: stored reflectance times 10,000 with its scale, and
    reflectance itself, have one unit.

    Parameters
    ----------
    layers : sequence of Layer
        All that may be joined or compared.
    pairs : sequence of BandPairs
        What each layer gives to the chips; other bands are not judged.

    Raises
    ------
    ValueError
        Naming the band, the scales and the files.

    Examples
    --------
    >>> one = Layer("a.tif", ("red",), dtype="uint16", scale=(1e-4,), offset=(0.0,))
    >>> refuse_mixed_scales([one, one], [((0, 0),)] * 2)
    """
    groups: dict[str, dict[str, tuple[list[Scaling], list[str]]]] = {}
    for layer, given in zip(layers, pairs, strict=True):
        kind = "fractions" if np.dtype(layer.dtype).kind == "f" else "integers"
        for _, place in given:
            band = groups.setdefault(kind, {}).setdefault(layer.bands[place], ([], []))
            scale = layer.scale[place] if layer.scale else 1.0
            offset = layer.offset[place] if layer.offset else 0.0
            band[0].append(Scaling(scale, offset))
            band[1].append(layer.uri)
    for bands in groups.values():
        check_one_unit(
            {name: scalings for name, (scalings, _) in bands.items()},
            {name: uris for name, (_, uris) in bands.items()},
        )


def label(layer: Layer) -> object:
    """Return what a reader calls a layer: its site if it belongs to one, else its file."""
    return PurePath(layer.uri).name if layer.site is None else layer.site


def _refuse_overlapping(layers: Sequence[Layer]) -> None:
    """Refuse layers that share some bands but not all."""
    sets = {frozenset(layer.bands) for layer in layers}
    if len(sets) == 1 or sum(map(len, sets)) == len(frozenset().union(*sets)):
        return
    if len({len(layer.bands) for layer in layers}) > 1:
        _refuse_different(layers, "numbers of bands", lambda layer: len(layer.bands))
    _refuse_different(layers, "band descriptions", lambda layer: tuple(sorted(layer.bands)))


def _refuse_different(layers: Sequence[Layer], what: str, read: Callable[[Layer], Any]) -> None:
    groups: dict[Any, list[Layer]] = {}
    for layer in layers:
        groups.setdefault(read(layer), []).append(layer)
    if len(groups) > 1:
        ranked = sorted(groups.items(), key=lambda group: -len(group[1]))
        where = "at sites" if all(layer.site is not None for layer in layers) else "in files"
        shown = "; ".join(
            f"{value} {where} {list_some([label(layer) for layer in members], 3)}"
            for value, members in ranked[:4]
        )
        raise BandError(
            f"All files must have the same bands; found different {what}: {shown}. Write the same "
            "bands to every file, or read these sites apart."
        )
