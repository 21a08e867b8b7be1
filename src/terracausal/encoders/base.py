"""What every encoder does at its doors: check the chips, keep the sites, name the columns."""

from abc import abstractmethod
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from terracausal._foundation.errors import BandError, list_some
from terracausal._foundation.progress import track
from terracausal.imagery import Chips
from terracausal.imagery.dates import describe_image_dates

_SITES_AT_ONCE = 64


class ChipEncoder(TransformerMixin, BaseEstimator):
    """Chips in, one row of numbers per site out.

    A subclass learns in `_learn`, names its columns in `_columns`, and encodes the pixels of one
    batch in `_encode`, where the row of a site may depend on the pixels of that site alone.
    """

    bands_: tuple[str, ...]
    n_sites_fitted_: int

    def fit(self, chips: Chips, y: object = None) -> Self:
        """Learn from the chips what the encoder needs to know.

        Parameters
        ----------
        chips : Chips
            Chips to learn from; their order does not matter.
        y : object, default=None
            Ignored; an encoder never sees the outcome.

        Returns
        -------
        ChipEncoder
            The fitted encoder.

        Raises
        ------
        BandError
            If a setting names a band that the chips do not have.
        ValueError
            If a setting is out of range or a chip has no valid pixel.
        """
        _check_chips(chips)
        self._learn(chips)
        self.bands_ = chips.bands
        self.n_sites_fitted_ = chips.n_sites
        return self

    def transform(self, chips: Chips) -> pd.DataFrame:
        """Encode the chips.

        Parameters
        ----------
        chips : Chips
            Chips with the bands of the fitted ones, of any size that the encoder can read.

        Returns
        -------
        DataFrame of shape (n_sites, n_features)
            float64, indexed by site in the order of `chips.keys`. `attrs["encoder"]` describes the
            transform that ran, the days of the last images, and which sites have overlapping chips.

        Raises
        ------
        BandError
            If the bands differ from those the encoder was fitted on.
        ValueError
            If a chip has no valid pixel.
        """
        check_is_fitted(self, "bands_")
        _check_chips(chips)
        if chips.bands != self.bands_:
            raise BandError(
                f"{type(self).__name__} was fitted on the bands {list_some(self.bands_, 20)}; "
                f"these chips have {list_some(chips.bands, 20)}. Read the same bands in the same "
                "order, or fit a new encoder."
            )
        size = self._sites_at_once()
        batches = track(chips.batches(size), "encoding chips", total=-(-chips.n_sites // size))
        rows = [self._encode(keys, pixels) for keys, pixels in batches]
        table = pd.DataFrame(
            np.concatenate(rows), index=chips.keys, columns=self._columns(), dtype=np.float64
        )
        table.attrs["encoder"] = {
            **self._description(),
            **describe_image_dates(chips),
            "overlapping": _overlapping_groups(chips),
        }
        return table

    def get_feature_names_out(self, input_features: None = None) -> NDArray[np.object_]:
        """Return the names of the columns.

        Parameters
        ----------
        input_features : None, default=None
            Ignored; the names follow from the settings and the fitted bands.

        Returns
        -------
        ndarray of shape (n_features,)
            Names in the order of the columns.
        """
        check_is_fitted(self, "bands_")
        return np.array(self._columns(), dtype=object)

    @abstractmethod
    def _learn(self, chips: Chips) -> None:
        """Check the settings and set the fitted attributes."""

    @abstractmethod
    def _columns(self) -> list[str]:
        """Return the column names."""

    @abstractmethod
    def _encode(self, keys: pd.Index, pixels: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the features (b, n_features) of pixels (b, n_times, n_bands, height, width)."""

    def _sites_at_once(self) -> int:
        """Return how many chips are held in memory together."""
        return _SITES_AT_ONCE

    def _description(self) -> dict[str, Any]:
        """Return a plain dict that describes the transform."""
        return {
            "class": type(self).__name__,
            "parameters": {name: _plain(value) for name, value in self.get_params().items()},
            "bands": list(self.bands_),
            "n_sites_fitted": self.n_sites_fitted_,
        }


def _check_chips(chips: Chips) -> None:
    if not isinstance(chips, Chips):
        raise TypeError(
            f"An encoder reads Chips; got {type(chips).__name__}. Make them with "
            "`Chips.from_arrays` or `read_chips`."
        )
    manifest = chips.manifest
    share = manifest.groupby("site", sort=False)["nodata_share"].min()
    empty = chips.keys[share.reindex(chips.keys).to_numpy() == 1]
    if len(empty):
        raise ValueError(
            f"Every chip needs valid pixels; {len(empty)} of {chips.n_sites} have none: sites "
            f"{list_some(empty)}. Leave them out with `chips.select`, or read with a `min_valid` "
            "above 0."
        )


def _overlapping_groups(chips: Chips) -> list[list[Any]]:
    """Return the groups of sites that chips sharing pixels link; none where this is not known."""
    if chips.resolution_m is None or chips.sites.crs is None or chips.sites.geometry.isna().any():
        return []
    pairs = chips.overlapping_sites()
    groups: dict[Any, set[Any]] = {}
    for site, other, group in pairs[["site", "other", "group"]].itertuples(index=False):
        groups.setdefault(group, set()).update((site, other))
    return [sorted(group, key=str) for group in groups.values()]


def _plain(value: Any) -> Any:
    """Turn a setting into something that prints and compares without this package."""
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return value.item() if isinstance(value, np.generic) else type(value).__name__
