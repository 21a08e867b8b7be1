"""What every encoder does at its doors: check the chips, keep the sites, name the columns."""

from abc import abstractmethod
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, is_dataclass
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from terracausal._foundation.checks import check_count
from terracausal._foundation.errors import BandError, list_some
from terracausal._foundation.progress import track
from terracausal._foundation.randomness import canonical_order
from terracausal.encoders.reduction import PrincipalComponents, fit_components
from terracausal.encoders.streaming import read_ahead
from terracausal.imagery import Chips
from terracausal.imagery.last_images import describe_image_dates

_SITES_AT_ONCE = 64


@dataclass(frozen=True)
class ChipBatch:
    """What an encoder is given of a few sites.

    Parameters
    ----------
    keys : Index of length b
        Sites.
    pixels : ndarray of shape (b, n_times, n_bands, height, width)
        float32, NaN where missing; sequences shorter than `n_times` are filled up with NaN.
    days : ndarray of shape (b, n_times)
        datetime64[D] of each image, in ascending order, NaT where undated or filled up.
    lon_lat : ndarray of shape (b, 2)
        Degrees, NaN where the sites have no geography.
    """

    keys: pd.Index
    pixels: NDArray[np.float32]
    days: NDArray[np.datetime64]
    lon_lat: NDArray[np.float64]


class ChipEncoder(TransformerMixin, BaseEstimator):
    """Chips in, one row of numbers per site out.

    A subclass learns in `_learn`, names its columns in `_columns`, and encodes single images in
    `_encode_images`, or whole sequences in `_encode`. The row of a site may depend on the pixels of
    that site alone; what cannot be encoded is NaN and is refused here. A subclass whose settings
    include `n_components` and `whiten` is reduced to principal components of the fitted chips.
    """

    bands_: tuple[str, ...]
    n_sites_fitted_: int
    components_: PrincipalComponents | None

    supervised = False
    """Whether `fit` reads outcomes."""

    def fit(self, chips: Chips, y: object = None) -> Self:
        """Learn from the chips what the encoder needs to know.

        Parameters
        ----------
        chips : Chips
            Chips to learn from; their order does not matter.
        y : object, default=None
            Ignored, unless the encoder says that it is supervised.

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
        check_encodable(chips)
        settings = self.get_params(deep=False)
        n_components = settings.get("n_components")
        if n_components is not None:
            check_count("n_components", n_components)
        self._learn(chips, y)
        self.bands_ = chips.bands
        self.n_sites_fitted_ = chips.n_sites
        self.components_ = None
        if n_components is not None:
            ordered = chips.select(chips.keys[canonical_order(chips.keys)])
            rows = self._rows(ordered)
            self.components_ = fit_components(rows, n_components, whiten=settings["whiten"])
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
            If a chip cannot be encoded, for example because it has no valid pixel.
        """
        table = self.encode(chips)
        table.attrs["encoder"] = self.describe(chips)
        return table

    def encode(self, chips: Chips) -> pd.DataFrame:
        """Return the numbers of `transform` without the description of what ran.

        Parameters
        ----------
        chips : Chips
            As for `transform`.

        Returns
        -------
        DataFrame of shape (n_sites, n_features)
            As from `transform`, with empty `attrs`.
        """
        check_is_fitted(self, "bands_")
        check_encodable(chips)
        self._check_bands(chips.bands)
        rows = self._rows(chips)
        if self.components_ is not None:
            rows = self.components_.transform(rows)
        names = self.get_feature_names_out()
        return pd.DataFrame(rows, index=chips.keys, columns=names.astype(str), dtype=np.float64)

    def describe(self, chips: Chips) -> dict[str, Any]:
        """Return the description that `transform` hands on in `attrs["encoder"]`.

        Parameters
        ----------
        chips : Chips
            The chips that are, or were, encoded.

        Returns
        -------
        dict
            Plain values that JSON can hold.
        """
        return {**self._description(), **image_facts(chips)}

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
        columns = self._columns()
        if self.components_ is not None:
            columns = numbered("pc", self.components_.n_components)
        return np.array(columns, dtype=object)

    @abstractmethod
    def _learn(self, chips: Chips, y: object) -> None:
        """Check the settings and set the fitted attributes."""

    @abstractmethod
    def _columns(self) -> list[str]:
        """Return the column names before any reduction."""

    @abstractmethod
    def _encode_images(self, pixels: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the features (b, n_features) of images (b, n_bands, height, width).

        NaN stands where an image cannot be encoded.
        """

    def _encode(self, batch: ChipBatch) -> NDArray[np.float64]:
        """Return the features (b, n_features) of sequences: here the mean over the times."""
        n_sites, n_times = batch.pixels.shape[:2]
        by_time = self._encode_images(batch.pixels.reshape(-1, *batch.pixels.shape[2:]))
        return mean_over_times(by_time.reshape(n_sites, n_times, -1))

    def _sites_at_once(self) -> int:
        """Return how many chips are held in memory together."""
        return _SITES_AT_ONCE

    def _need(self) -> str:
        """Say what every chip needs to be encoded, for the error message."""
        return "valid pixels in every band"

    def _check_bands(self, bands: tuple[str, ...]) -> None:
        if bands != self.bands_:
            raise BandError(
                f"{type(self).__name__} was fitted on the bands {list_some(self.bands_, 20)}; "
                f"these chips have {list_some(bands, 20)}. Read the same bands in the same "
                "order, or fit a new encoder."
            )

    def _rows(self, chips: Chips) -> NDArray[np.float64]:
        """Return the features (n_sites, n_features) before any reduction, without NaN."""
        size = self._sites_at_once()
        with closing(read_ahead(read_batches(chips, size))) as batches:
            steps = track(batches, "encoding chips", total=-(-chips.n_sites // size))
            rows = [self._checked(batch.keys, self._encode(batch)) for batch in steps]
        return np.concatenate(rows)

    def _checked(self, keys: pd.Index, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        bad_site, bad_column = np.nonzero(np.isnan(rows))
        if len(bad_site):
            columns = np.array(self._columns())[np.unique(bad_column)]
            which = "" if len(columns) == rows.shape[1] else f" for {list_some(columns)}"
            raise ValueError(
                f"{type(self).__name__}: every chip needs {self._need()}; sites "
                f"{list_some(keys[np.unique(bad_site)])} have none{which}. Leave these sites or "
                "bands out."
            )
        return rows

    def _description(self) -> dict[str, Any]:
        """Return a plain dict that describes the transform."""
        reduction = None if self.components_ is None else self.components_.description()
        return {
            "class": type(self).__name__,
            "parameters": {name: plain(value) for name, value in self.get_params(False).items()},
            "bands": list(self.bands_),
            "n_sites_fitted": self.n_sites_fitted_,
            "supervised": self.supervised,
            "reduction": reduction,
        }


def read_batches(chips: Chips, batch_size: int) -> Iterator[ChipBatch]:
    """Yield `batch_size` sites at a time, in the order of `chips.keys`."""
    places = chips.sites.reindex(chips.keys)
    known = chips.sites.crs is not None and not places.geometry.isna().any()
    lon_lat = np.full((chips.n_sites, 2), np.nan)
    if known:
        points = places.to_crs(4326).geometry
        lon_lat = np.column_stack([points.x, points.y])
    days = np.full((chips.n_sites, chips.n_times), "NaT", dtype="datetime64[D]")
    known_images = chips.manifest
    row = chips.keys.get_indexer(pd.Index(known_images["site"]))
    place = known_images.groupby("site", sort=False).cumcount().to_numpy()
    seen = row >= 0  # sites without a chip are in the manifest as well
    days[row[seen], place[seen]] = known_images["time"].to_numpy()[seen].astype("datetime64[D]")
    start = 0
    for keys, pixels in chips.batches(batch_size):
        here = slice(start, start + len(keys))
        yield ChipBatch(keys, pixels, days[here], lon_lat[here])
        start += len(keys)


def mean_over_times(by_time: NDArray[np.float64]) -> NDArray[np.float64]:
    """Average features (b, n_times, n_features) over the times that have them, NaN where none."""
    seen = ~np.isnan(by_time)
    total, count = np.where(seen, by_time, 0.0).sum(axis=1), seen.sum(axis=1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def numbered(prefix: str, n_columns: int) -> list[str]:
    """Return zero-padded names such as `rcf_000`, which sort in the order of the columns."""
    width = max(3, len(str(n_columns - 1)))
    return [f"{prefix}_{number:0{width}d}" for number in range(n_columns)]


def check_encodable(chips: Chips) -> None:
    """Refuse what is no Chips, and chips without a valid pixel, named."""
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


def image_facts(chips: Chips) -> dict[str, Any]:
    """Return the days of the last images, and which sites have chips that share pixels.

    Parameters
    ----------
    chips : Chips

    Returns
    -------
    dict
    """
    return {**describe_image_dates(chips), "overlapping": overlapping_groups(chips)}


def overlapping_groups(chips: Chips) -> list[list[Any]]:
    """Return the groups of sites that chips sharing pixels link; none where this is not known.

    Parameters
    ----------
    chips : Chips

    Returns
    -------
    list of list
        Keys of the sites of each group.
    """
    if chips.resolution_m is None or chips.sites.crs is None or chips.sites.geometry.isna().any():
        return []
    pairs = chips.overlapping_sites()
    groups: dict[Any, set[Any]] = {}
    for site, other, group in pairs[["site", "other", "group"]].itertuples(index=False):
        groups.setdefault(group, set()).update((site, other))
    return [sorted(group, key=str) for group in groups.values()]


def plain(value: Any) -> Any:
    """Turn a setting into something that prints and compares without this package."""
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    if is_dataclass(value) and not isinstance(value, type):
        return {name: plain(item) for name, item in vars(value).items()}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return value.item() if isinstance(value, np.generic) else type(value).__name__
