"""From what the user names to an entry: the registry, the hub, a folder, or a timm network."""

from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path

import pandas as pd

from terracausal._foundation.errors import list_some
from terracausal.encoders.pretrained import torchgeo_networks, transformers_networks
from terracausal.encoders.pretrained.entry import Preprocessing, PretrainedWeights
from terracausal.encoders.pretrained.registry import WEIGHTS


def registered_weights() -> pd.DataFrame:
    """Return the pretrained weights that are known by name, one row each.

    Returns
    -------
    DataFrame
        Indexed by name: where the weights are from, the library that reads them, the commit
        (missing where none could be established; torchgeo has it in its addresses), the layer and
        its length, whether the user must state a `Preprocessing`, licence and citation.

    Examples
    --------
    >>> registered_weights().loc["clip-rsicd-v2", ["library", "layer"]].tolist()
    ['transformers', 'projected']
    """
    rows = {
        name: {
            "library": entry.library,
            "source": entry.source,
            "revision": entry.revision,
            "layer": entry.layer,
            "n_features": entry.n_features,
            "bands": entry.bands,
            "needs_preprocessing": entry.preprocessing is None and entry.units is None,
            "licence": entry.licence,
            "citation": entry.citation,
        }
        for name, entry in WEIGHTS.items()
    }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("name")


def resolve(
    weights: str, preprocessing: Preprocessing | None, layer: str | None
) -> PretrainedWeights:
    """Return the entry of what the user named, with the user's preprocessing and layer.

    Raises
    ------
    ValueError
        If the name is unknown, or nothing says how images must be prepared.
    """
    entry = _named(weights)
    if entry.library == "torchgeo":
        entry = torchgeo_networks.completed(entry)
    how = entry.preprocessing if preprocessing is None else preprocessing
    if how is None:
        raise ValueError(
            f"Nothing says how images must be prepared for {weights!r}: it depends on the sensor, "
            "or is not in the registry. State `preprocessing=Preprocessing(units=..., mean=..., "
            "std=..., ...)` as its authors do; wrong units give wrong embeddings without a sign."
        )
    return replace(entry, preprocessing=how, layer=layer or entry.layer)


def locate(entry: PretrainedWeights, path: str | None) -> Path:
    """Return the file or folder of the weights, downloading them where no path is given."""
    if path is not None:
        return Path(path).expanduser()
    if entry.library == "transformers":
        if entry.name == entry.source and Path(entry.source).expanduser().exists():
            return Path(entry.source).expanduser()
        return transformers_networks.download(entry.source, entry.revision)
    if entry.library == "torchgeo":
        return torchgeo_networks.download(entry)
    origin = f" (from {entry.source!r})" if entry.source else ""
    raise ValueError(f"{entry.name!r} needs `path=`: where its checkpoint{origin} lies.")


def _named(weights: str) -> PretrainedWeights:
    if weights in WEIGHTS:
        return WEIGHTS[weights]
    if weights.startswith("timm:"):
        architecture = weights.removeprefix("timm:")
        return PretrainedWeights(
            name=weights,
            library="timm",
            source="",
            layer="pooled",
            n_features=None,
            licence="stated by nobody here",
            citation="stated by nobody here",
            architecture=architecture,
        )
    source, _, revision = weights.partition("@")
    is_folder = Path(weights).expanduser().exists()
    if is_folder or source.count("/") == 1:
        return PretrainedWeights(
            name=weights,
            library="transformers",
            source=weights if is_folder else source,
            revision=None if is_folder else (revision or None),
            layer="mean",
            n_features=None,
            licence="stated by nobody here",
            citation="stated by nobody here",
        )
    near = get_close_matches(weights, WEIGHTS, n=3, cutoff=0.3) or list(WEIGHTS)
    raise ValueError(
        f"The weights {weights!r} are not known. They can be a name of `registered_weights()`, "
        f"such as {list_some(near, 3)}; an id on the hub, 'owner/name' or 'owner/name@commit'; a "
        "folder; or 'timm:architecture' with `path` and `preprocessing`."
    )
