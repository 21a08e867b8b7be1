"""Sequences of images: one row per site from the features of each of its images."""

from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import Any, Literal, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import clone

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
from terracausal.encoders.base import (
    ChipBatch,
    ChipEncoder,
    mean_over_times,
    numbered,
    read_batches,
)
from terracausal.encoders.moments import RunningMoments
from terracausal.encoders.nesting import inner_columns, inner_images
from terracausal.encoders.time_summaries import (
    difference_over_time,
    harmonic_over_time,
    quantiles_over_time,
    trend_over_time,
    variance_over_time,
)
from terracausal.imagery import Chips

Aggregate: TypeAlias = Literal[
    "mean",
    "concatenate",
    "trend",
    "difference",
    "variance",
    "quantiles",
    "harmonic",
    "attention",
]
AGGREGATES: tuple[Aggregate, ...] = (
    "mean",
    "concatenate",
    "trend",
    "difference",
    "variance",
    "quantiles",
    "harmonic",
    "attention",
)
_NEEDS_DATES = ("trend", "harmonic", "attention")


class SequenceEncoder(ChipEncoder):
    """Encode every image of a site, then summarise the features over time.

    Parameters
    ----------
    encoder : ChipEncoder
        Encodes single images. It is cloned and fitted on all images of the fitted chips.
    aggregate : str or tuple of str, default='mean'
        One or several of:

        - "mean": over the images;
        - "concatenate": the features of each image side by side, which needs the same dates
          everywhere;
        - "trend": level and slope per year of a straight line, by least squares on the dates; the
          level is that at the mean date of the site, so it equals the mean;
        - "difference": last image minus first image;
        - "variance": over the images, divided by their number;
        - "quantiles": over the images, at the levels `quantiles`;
        - "harmonic": level, sine and cosine of an annual cycle, by least squares on the day of the
          year; needs three images or more, spread over the year;
        - "attention": a randomised temporal transformer on the dates [1]_, of `n_features` columns.
    quantiles : tuple of float, default=(0.1, 0.5, 0.9)
        Levels in [0, 1] of "quantiles".
    n_features : int, default=128
        Number of columns of "attention"; a multiple of 16.
    random_state : None, int or numpy.random.Generator, default=None
        Seed of the parameters of "attention".
    n_components : int, default=None
        Number of principal components of the fitted sites to keep; None keeps all columns.
    whiten : bool, default=False
        Whether components have unit variance over the fitted sites.

    Attributes
    ----------
    encoder_ : ChipEncoder
        The fitted inner encoder.
    n_times_ : int
        Number of images per site of the fitted chips, the largest where sites differ.
    attention_parameters_ : dict of str to ndarray
        Of the random network; empty without "attention".
    bands_ : tuple of str
        Bands of the fitted chips.
    n_sites_fitted_ : int
        Number of fitted sites.
    components_ : PrincipalComponents or None
        The reduction.

    Notes
    -----
    Images that are missing, or that the inner encoder cannot encode, are left out; sites may have
    different numbers of images. "trend", "harmonic" and "attention" need dated images; the others
    take images in order of their dates, or as they come where undated.

    One image of a site gives itself as mean, level and quantiles, and 0 as difference, variance and
    slope; the slope is 0 also for several images of one day. These zeros are not evidence of no
    change: `attrs["encoder"]["one_day_sites"]` counts the sites that have them.

    For "attention" features are standardised by their moments over all fitted images, projected on
    `n_features` columns by a random matrix, and read by
    `terracausal.encoders.networks.temporal.TemporalAttention`: 8 heads, one block, rotary positions
    in months since the first image of the site. Nothing of it is trained.

    Columns are `x_mean`, `x_t00`, `x_level`, `x_slope`, `x_difference`, `x_variance`, `x_q10`,
    `x_harmonic_level`, `x_sin` and `x_cos` for a column `x` of the inner encoder, and
    `attention_000`, …. An encoder that reads whole sequences itself, such as one with a video
    network, needs no `SequenceEncoder`.

    References
    ----------
    .. [1] Jerzak, C. T., Vashistha, R. and Daoud, A. (2024). Effect heterogeneity with Earth
       observation in randomized controlled trials. arXiv:2407.11674.

    Examples
    --------
    >>> from terracausal.encoders.band_statistics import BandStatisticsEncoder
    >>> pixels = np.array([1.0, 3.0, 5.0]).reshape(1, 3, 1, 1, 1)  # one site, three years
    >>> chips = Chips.from_arrays(
    ...     pixels, sites=["Arua"], bands=["ndvi"], times=["2001-07-01", "2002-07-01", "2003-07-01"]
    ... )
    >>> encoder = SequenceEncoder(BandStatisticsEncoder(quantiles=()), aggregate="trend")
    >>> encoder.fit_transform(chips).loc["Arua"].round(
    ...     2
    ... ).to_dict()  # doctest: +NORMALIZE_WHITESPACE
    {'ndvi_mean_level': 3.0, 'ndvi_sd_level': 0.0, 'ndvi_mean_slope': 2.0, 'ndvi_sd_slope': 0.0}
    """

    encoder_: ChipEncoder
    n_times_: int
    attention_parameters_: dict[str, NDArray[np.float64]]

    def __init__(
        self,
        encoder: ChipEncoder,
        aggregate: Aggregate | Sequence[Aggregate] = "mean",
        quantiles: Sequence[float] = (0.1, 0.5, 0.9),
        n_features: int = 128,
        random_state: RandomState = None,
        n_components: int | None = None,
        whiten: bool = False,
    ) -> None:
        self.encoder = encoder
        self.aggregate = aggregate
        self.quantiles = quantiles
        self.n_features = n_features
        self.random_state = random_state
        self.n_components = n_components
        self.whiten = whiten

    @property
    def supervised(self) -> bool:  # type: ignore[override]
        """Whether the inner encoder reads outcomes."""
        return self.encoder.supervised

    def _learn(self, chips: Chips, y: object) -> None:
        self._check_settings()
        self._check_times(chips)
        self.n_times_ = chips.n_times
        self.encoder_ = clone(self.encoder).fit(chips, y)
        self.attention_parameters_ = {}
        if "attention" in self._aggregates():
            self.attention_parameters_ = self._draw_attention(chips)

    def _columns(self) -> list[str]:
        return [name for aggregate in self._aggregates() for name in self._names(aggregate)]

    def _rows(self, chips: Chips) -> NDArray[np.float64]:
        self._check_times(chips)
        if "concatenate" in self._aggregates() and chips.n_times != self.n_times_:
            raise ValueError(
                f'aggregate "concatenate" was fitted on {self.n_times_} images per site; these '
                f"chips have {chips.n_times}. Read as many images, or fit a new encoder."
            )
        return super()._rows(chips)

    def _encode(self, batch: ChipBatch) -> NDArray[np.float64]:
        by_time, days = self._features_by_time(batch)
        aggregates = self._aggregates()
        attend = self._attention() if "attention" in aggregates else None
        rows = []
        # site by site, so that no number of a row can depend on the others
        for values, when in zip(by_time, days, strict=True):
            parts = [self._summary(name, values, when, attend) for name in aggregates]
            rows.append(np.concatenate([part.reshape(-1) for part in parts]))
        return np.stack(rows)

    def _encode_images(self, pixels: NDArray[np.float32]) -> NDArray[np.float64]:
        raise TypeError(
            f"{type(self).__name__} encodes sequences of dated images, not single images, so it "
            "cannot be the inner encoder of another one."
        )

    def _features_by_time(
        self, batch: ChipBatch
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return features (b, n_times, n_columns) and days of 1970 (b, n_times), in order of time.

        Days are NaN where undated.
        """
        n_sites, n_times = batch.pixels.shape[:2]
        flat = inner_images(self.encoder_, batch.pixels.reshape(-1, *batch.pixels.shape[2:]))
        by_time = flat.reshape(n_sites, n_times, -1)
        order = np.argsort(batch.days, axis=1, kind="stable")  # NaT comes last
        days = np.take_along_axis(batch.days, order, axis=1)
        numbers = np.where(np.isnat(days), np.nan, days.astype(np.int64).astype(np.float64))
        return np.take_along_axis(by_time, order[:, :, None], axis=1), numbers

    def _summary(
        self,
        aggregate: Aggregate,
        values: NDArray[np.float64],
        days: NDArray[np.float64],
        attend: Callable[..., NDArray[np.float64]] | None,
    ) -> NDArray[np.float64]:
        """Return one aggregate of one site: values (n_times, n_columns), days (n_times,)."""
        match aggregate:
            case "mean":
                return mean_over_times(values[None]).reshape(-1)
            case "concatenate":
                return values
            case "trend":
                return trend_over_time(values, days)
            case "difference":
                return difference_over_time(values)
            case "variance":
                return variance_over_time(values)
            case "quantiles":
                return quantiles_over_time(values, np.array(self.quantiles, dtype=np.float64))
            case "harmonic":
                return harmonic_over_time(values, days)
            case "attention":
                # only the network remains, which was made before
                return np.full(0, np.nan) if attend is None else attend(values, days)

    def _names(self, aggregate: Aggregate) -> list[str]:
        if aggregate == "attention":
            return numbered("attention", self.n_features)
        width = max(2, len(str(self.n_times_ - 1)))
        endings: dict[str, list[str]] = {
            "concatenate": [f"t{time:0{width}d}" for time in range(self.n_times_)],
            "trend": ["level", "slope"],
            "quantiles": [f"q{float(100 * q):02.10g}" for q in self.quantiles],
            "harmonic": ["harmonic_level", "sin", "cos"],
        }
        inner = inner_columns(self.encoder_)
        return [f"{name}_{end}" for end in endings.get(aggregate, [aggregate]) for name in inner]

    def _aggregates(self) -> tuple[Aggregate, ...]:
        return (self.aggregate,) if isinstance(self.aggregate, str) else tuple(self.aggregate)

    def _need(self) -> str:
        need = f"{self.encoder_._need()} in at least one image"
        if "concatenate" in self._aggregates():
            need = f"{self.encoder_._need()} in every image"
        if "harmonic" in self._aggregates():
            need = f"{need}, and three such images or more that are spread over the year"
        return need

    def _sites_at_once(self) -> int:
        return self.encoder_._sites_at_once()

    def describe(self, chips: Chips) -> dict[str, Any]:
        """Return the description that `transform` hands on; see `ChipEncoder.describe`."""
        found = super().describe(chips)
        if {"trend", "difference", "variance"} & set(self._aggregates()):
            found["one_day_sites"] = _count_one_day_sites(chips)
        return found

    def _description(self) -> dict[str, Any]:
        parameters = self.attention_parameters_
        hashed = blake2b(digest_size=16)
        for name in sorted(parameters):
            hashed.update(np.ascontiguousarray(parameters[name]).tobytes())
        return {
            **super()._description(),
            "encoder": self.encoder_._description(),
            "n_times": self.n_times_,
            "attention_digest": hashed.hexdigest() if parameters else None,
        }

    def _check_settings(self) -> None:
        if not isinstance(self.encoder, ChipEncoder):
            raise TypeError(
                f"`encoder` must be an encoder of chips; got {type(self.encoder).__name__}."
            )
        aggregates = self._aggregates()
        for aggregate in aggregates:
            check_choice("aggregate", aggregate, AGGREGATES)
        if not aggregates or len(set(aggregates)) < len(aggregates):
            raise ValueError(
                f"`aggregate` must name one or more, each once; got {list_some(aggregates, 12)}."
            )
        if "quantiles" in aggregates:
            outside = [q for q in self.quantiles if not 0 <= q <= 1]
            if outside or not len(self.quantiles):
                raise ValueError(
                    f"`quantiles` must lie in [0, 1]; got {list_some(outside or self.quantiles)}."
                )
        if "attention" in aggregates and check_count("n_features", self.n_features) % 16:
            raise ValueError(
                f"`n_features` must be a multiple of 16 for 8 attention heads; got "
                f"{self.n_features}."
            )

    def _check_times(self, chips: Chips) -> None:
        """Refuse chips whose dates do not serve the aggregates."""
        if chips.times is not None:
            return
        aggregates = self._aggregates()
        dates = {site: chips.times_of(site) for site in chips.keys}
        undated = [site for site, days in dates.items() if days.isna().any()]
        wanting = [name for name in aggregates if name in _NEEDS_DATES]
        if undated and wanting:
            raise ValueError(
                f"aggregate {list_some(wanting)} needs the date of every image; those of "
                f"{len(undated)} of {chips.n_sites} sites have none: {list_some(undated)}. Give "
                "`times` or `dates` when the chips are made."
            )
        if "concatenate" in aggregates:
            first = dates[chips.keys[0]]
            other = [site for site, days in dates.items() if not days.equals(first)]
            if other:
                raise ValueError(
                    'aggregate "concatenate" needs the same dates at all sites; '
                    f"{len(other)} of {chips.n_sites} differ from the first, "
                    f"{list_some(chips.keys[:1])} with {len(first)} images: {list_some(other)}. "
                    "Select common `times`, make composites, or choose another aggregate."
                )

    def _draw_attention(self, chips: Chips) -> dict[str, NDArray[np.float64]]:
        """Return moments of the inner columns, a random projection and a random network."""
        torch = require("torch", needed_by='aggregate "attention"')
        generator = random_generator(self.random_state)
        n_inner = len(inner_columns(self.encoder_))
        moments = RunningMoments(n_inner)
        ordered = chips.select(chips.keys[canonical_order(chips.keys)])
        size = self._sites_at_once()
        steps = track(read_batches(ordered, size), "encoding images", -(-chips.n_sites // size))
        for batch in steps:
            by_time, _ = self._features_by_time(batch)
            moments.add(by_time.reshape(-1, n_inner))
        projection = generator.normal(size=(self.n_features, n_inner)) / np.sqrt(n_inner)
        seeded = torch.Generator().manual_seed(draw_seed(generator))
        network = _temporal_attention(self.n_features, seeded)
        drawn = {name: value.numpy() for name, value in network.state_dict().items()}
        return drawn | {"mean": moments.mean, "scale": moments.scale(), "projection": projection}

    def _attention(self) -> Callable[..., NDArray[np.float64]]:
        """Return a function of values (n_times, n_columns) and days (n_times,): (n_features,)."""
        torch = require("torch", needed_by='aggregate "attention"')
        held = dict(self.attention_parameters_)
        mean, scale, projection = (held.pop(name) for name in ("mean", "scale", "projection"))
        network = _temporal_attention(self.n_features, torch.Generator())
        network.load_state_dict({name: torch.from_numpy(held[name]) for name in held})
        network.requires_grad_(False)

        def attend(values: NDArray[np.float64], days: NDArray[np.float64]) -> NDArray[np.float64]:
            # einsum and not @: the product of one image must not depend on how many there are
            vectors = np.einsum("tc,fc->tf", (values - mean) / scale, projection)
            missing = np.isnan(vectors).any(axis=1)
            if missing.all():
                return np.full(self.n_features, np.nan)
            found = network(*(torch.from_numpy(x[None]) for x in (vectors, missing, days)))
            return np.asarray(found[0].numpy(), dtype=np.float64)

        return attend


def _temporal_attention(n_features: int, generator: Any) -> Any:
    # imported here because the module needs torch
    from terracausal.encoders.networks.temporal import TemporalAttention

    return TemporalAttention(n_features, generator=generator).double()


def _count_one_day_sites(chips: Chips) -> int:
    """Return how many sites have images with pixels of one day only."""
    table = chips.manifest
    table = table[table["status"].isin(["ok", "partial"]) & table["site"].isin(chips.keys)]
    # undated images count as of different days, since they may be
    day = (
        table["time"]
        .astype(object)
        .where(table["time"].notna(), pd.Series(table.index, table.index))
    )
    n_days = day.groupby(table["site"].to_numpy()).nunique()
    return int((n_days <= 1).sum())
