"""`embed`: encode many chips once, keep the rows on disk, and go on where a call was stopped."""

import warnings
from contextlib import closing
from os import PathLike
from pathlib import Path
from typing import Any, cast

import pandas as pd
from sklearn.utils.validation import check_is_fitted

from terracausal._foundation.errors import list_some
from terracausal._foundation.progress import track
from terracausal._foundation.randomness import canonical_order
from terracausal.encoders.base import ChipEncoder, check_encodable
from terracausal.encoders.digests import digest_of
from terracausal.encoders.embedding_parts import (
    LOG,
    PartLayout,
    encode_part,
    find_parts,
    one_writer,
    read_table,
    write_facts,
)
from terracausal.encoders.identity import chips_digest, encoder_digest
from terracausal.imagery import Chips
from terracausal.imagery.shards import ShardLog
from terracausal.imagery.workers import run_tasks


def embed(
    encoder: ChipEncoder, chips: Chips, out: str | PathLike[str], *, client: Any = None
) -> pd.DataFrame:
    """Encode chips part by part into a folder, or read back what is already there.

    Parameters
    ----------
    encoder : ChipEncoder
        Fitted. Its `batch_size` and `device` say how it computes.
    chips : Chips
        Best opened from a store. They need not fit into memory.
    out : path
        Folder for the embeddings of any encoders and chips. Each gets a folder in it that is named
        by a checksum of the encoder and the chips, so that they are never mixed.
    client : dask.distributed.Client, default=None
        Cluster that encodes the parts instead of this process: anything with
        `submit(function, *arguments)`. Encoder and chips travel to each worker once, so the chips
        should lie in a store; workers must reach the store and `out`.

    Returns
    -------
    DataFrame of shape (n_sites, n_features)
        Equal to `encoder.transform(chips)` with its `attrs`. The whole table is in memory: 8 bytes
        for each number.

    Raises
    ------
    NotFittedError
        If the encoder is not fitted.
    BandError
        If the bands differ from those the encoder was fitted on.
    ValueError
        If a chip cannot be encoded, or site keys are neither text nor numbers.
    OSError
        If `out` is no folder that can be written, or a chip cannot be read. Finished parts stay.

    See Also
    --------
    load_embeddings : Reads an embedding without encoder and chips.

    Notes
    -----
    `out/<checksum>/part-00000.parquet`, … hold 512 sites each in order of keys, as float64, so that
    the numbers are those of `transform`; `_parts.sha256` lists the finished ones, and
    `_embedding.json` describes encoder and chips. The folder is a Parquet data set for other
    programs. A part is always encoded whole, so the files are the same bytes after an interruption
    and on a cluster. A part is there in whole or not at all; one that has changed since is told of
    and computed again. Call again after any interruption: nothing finished is computed twice.

    An encoder that was fitted on outcomes is embedded like any other; its `attrs` and
    `_embedding.json` say `supervised`, as those of `transform` do.

    Of an encoder class that is not part of this package the name is known and not the code: after
    a change of its code choose another `out`.

    Examples
    --------
    >>> import tempfile, numpy as np
    >>> from terracausal.encoders.band_statistics import BandStatisticsEncoder
    >>> chips = Chips.from_arrays(np.ones((3, 1, 1, 2, 2)), sites=list("abc"), bands=["red"])
    >>> encoder = BandStatisticsEncoder(quantiles=()).fit(chips)
    >>> out = tempfile.mkdtemp()
    >>> embed(encoder, chips, out).equals(encoder.transform(chips))
    True
    """
    _check(encoder, chips)
    digests = [encoder_digest(encoder), chips_digest(chips)]
    layout = PartLayout(Path(out).absolute() / digest_of(digests), chips.n_sites)
    is_whole = len(find_parts(layout)[0]) == len(layout.names)
    if not is_whole:
        check_encodable(chips)
    facts: dict[str, Any] = {
        "encoder": encoder.describe(chips),
        "encoder_digest": digests[0],
        "chips_digest": digests[1],
        "columns": list(encoder.get_feature_names_out()),
        "n_sites": chips.n_sites,
    }
    if not is_whole:
        _make_folder(layout.folder)
        with one_writer(layout.folder):
            write_facts(layout.folder, facts)
            _write_parts(encoder, chips, layout, client)
    return read_table(layout, facts, chips.keys, canonical_order(chips.keys))


def _check(encoder: ChipEncoder, chips: Chips) -> None:
    if not isinstance(encoder, ChipEncoder) or not isinstance(chips, Chips):
        raise TypeError(
            "`embed` takes an encoder and Chips; got "
            f"{type(encoder).__name__} and {type(chips).__name__}."
        )
    check_is_fitted(encoder, "bands_")
    encoder._check_bands(chips.bands)
    kind = pd.api.types.infer_dtype(chips.keys, skipna=False)
    if kind not in {"string", "integer", "floating"}:
        raise ValueError(
            f"Site keys must be all text or all numbers to be kept; found {kind}, such as "
            f"{list_some(chips.keys, 3)}. Turn them into text, and read the chips with these keys."
        )


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(
            error.errno,
            f"`out` must be a folder that can be written ({error.strerror}). Choose another one",
            str(folder.parent),
        ) from error


def _write_parts(encoder: ChipEncoder, chips: Chips, layout: PartLayout, client: Any) -> None:
    finished, damaged = find_parts(layout)
    if damaged:
        warnings.warn(
            f"{len(damaged)} of {len(layout.names)} parts in {layout.folder} have changed since "
            f"they were written ({list_some(damaged)}); they are computed again.",
            stacklevel=3,
        )
    log = ShardLog(layout.folder / LOG, finished)
    keys = chips.keys[canonical_order(chips.keys)]
    scatter = getattr(client, "scatter", None)
    if callable(scatter):  # a Dask cluster: to each worker once
        encoder, chips = scatter([encoder, chips], broadcast=True, hash=False)
    tasks = (
        (encoder, chips, keys[layout.rows(number)], layout.folder / name)
        for number, name in enumerate(layout.names)
        if name not in finished
    )
    results = run_tasks(encode_part, tasks, n_jobs=1, client=client)
    try:
        # closing, so that nothing is begun after an error
        with closing(cast("Any", results)):
            total = len(layout.names) - len(finished)
            for name, checksum in track(results, "writing parts", total=total):
                log.append(name, checksum)
    except BaseException as error:
        error.add_note(
            f"{len(log.checksums)} of {len(layout.names)} parts are finished in {layout.folder}. "
            "Embed the same chips with the same encoder again to go on from there."
        )
        raise
