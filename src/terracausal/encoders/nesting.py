"""Encoders inside encoders: the numbers of the inner one, reduced as its own `encode` would."""

import numpy as np
from numpy.typing import NDArray

from terracausal.encoders.base import ChipBatch, ChipEncoder


def inner_images(encoder: ChipEncoder, pixels: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the columns of a fitted encoder for single images.

    Parameters
    ----------
    encoder : ChipEncoder
        Fitted.
    pixels : ndarray of shape (b, n_bands, height, width)
        Images, NaN where missing.

    Returns
    -------
    ndarray of shape (b, n_columns)
        NaN where an image cannot be encoded.
    """
    return _reduced(encoder, encoder._encode_images(pixels))


def inner_sequences(encoder: ChipEncoder, batch: ChipBatch) -> NDArray[np.float64]:
    """Return the columns of a fitted encoder for a batch of sites, shape (b, n_columns)."""
    return _reduced(encoder, encoder._encode(batch))


def inner_columns(encoder: ChipEncoder) -> list[str]:
    """Return the names of the columns of a fitted encoder."""
    return [str(name) for name in encoder.get_feature_names_out()]


def _reduced(encoder: ChipEncoder, rows: NDArray[np.float64]) -> NDArray[np.float64]:
    return rows if encoder.components_ is None else encoder.components_.transform(rows)
