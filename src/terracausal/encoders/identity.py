"""What an embedding is of: checksums of an encoder and of chips."""

from importlib.metadata import version

import pandas as pd

from terracausal._foundation.randomness import canonical_order
from terracausal.encoders.base import ChipEncoder
from terracausal.encoders.digests import digest_of
from terracausal.imagery import Chips
from terracausal.imagery.pixel_facts import image_checksums
from terracausal.imagery.places import has_geography


def encoder_digest(encoder: ChipEncoder) -> str:
    """Return a checksum of all that decides about the numbers of a fitted encoder.

    Parameters
    ----------
    encoder : ChipEncoder
        Fitted.

    Returns
    -------
    str
        32 hexadecimal digits: of the class, its settings but for `batch_size` and `n_jobs`, the
        fitted attributes, the transform that it describes, and the version of this package. The
        same in every process. The code of a class from elsewhere does not enter it.

    Raises
    ------
    ValueError
        If a setting is a function without a name, which cannot be told from another.

    Examples
    --------
    >>> from terracausal.encoders.band_statistics import BandStatisticsEncoder
    >>> chips = Chips.from_arrays([[[[[1.0, 2.0]]]]], sites=["a"], bands=["red"])
    >>> one, same = (BandStatisticsEncoder().fit(chips) for _ in range(2))
    >>> other = BandStatisticsEncoder(quantiles=(0.5,)).fit(chips)
    >>> encoder_digest(one) == encoder_digest(same), encoder_digest(one) == encoder_digest(other)
    (True, False)
    """
    return digest_of(["terracausal", version("terracausal"), encoder, encoder._description()])


def chips_digest(chips: Chips) -> str:
    """Return a checksum of pixels, dates, places and bands, whatever the order of the sites.

    Parameters
    ----------
    chips : Chips
        In memory, in a store or elsewhere: equal chips have equal checksums. The checksums of
        pixels that were taken when the chips were made are used; where there are none, pixels are
        read.

    Returns
    -------
    str
        32 hexadecimal digits.

    Examples
    --------
    >>> chips = Chips.from_arrays([[[[[0.0]]]], [[[[1.0]]]]], sites=["a", "b"], bands=["red"])
    >>> chips_digest(chips.select(["b", "a"])) == chips_digest(chips)
    True
    >>> chips_digest(chips.select(["a"])) == chips_digest(chips)
    False
    """
    order = canonical_order(chips.keys)
    sites = chips.sites
    facts = [
        chips.bands,
        chips.size_px,
        chips.resolution_m,
        None if chips.crs is None else chips.crs.to_string(),
        list(chips.keys[order]),
        _lines(chips, chips.keys[order]),
    ]
    if has_geography(sites):
        points = sites.geometry.iloc[order]
        facts += [None if sites.crs is None else sites.crs.to_string()]
        facts += [points.x.to_numpy(), points.y.to_numpy()]
    return digest_of(facts)


def _lines(chips: Chips, keys: pd.Index) -> str:
    """Return one line of text per image: its site, day and pixels."""
    sums = image_checksums(chips)
    return "\n".join(
        f"{row} {day} {checksum}" for row, site in enumerate(keys) for day, checksum in sums[site]
    )
