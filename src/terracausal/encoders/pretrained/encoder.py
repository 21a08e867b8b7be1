"""Pretrained networks as an encoder of chips, with preprocessing that cannot be skipped."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from terracausal._foundation.checks import check_count
from terracausal._foundation.errors import BandError, list_some
from terracausal._foundation.optional import require
from terracausal._foundation.randomness import canonical_order
from terracausal.encoders.base import ChipBatch, ChipEncoder, numbered, read_batches
from terracausal.encoders.pretrained import torchgeo_networks, transformers_networks
from terracausal.encoders.pretrained.adapters import (
    BandAdapter,
    BandChoice,
    choose_adapter,
    fitted_projection,
)
from terracausal.encoders.pretrained.catalog import locate, resolve
from terracausal.encoders.pretrained.entry import Preprocessing, PretrainedWeights
from terracausal.encoders.pretrained.inference import (
    check_device,
    check_dtype,
    embed_batches,
    in_network_units,
    seen_by_network,
)
from terracausal.encoders.pretrained.networks import NetworkRequest, ReadyNetwork
from terracausal.encoders.pretrained.units import (
    Units,
    check_convertible,
    check_range,
    check_units,
    conversion,
    range_of,
)
from terracausal.encoders.pretrained.weight_files import (
    check_digest,
    file_digest,
    find_weights,
    read_weights,
)
from terracausal.imagery import Chips
from terracausal.imagery.pixel_facts import value_ranges

_GREY, _WHITE = 127.5, 255.0


class PretrainedEncoder(ChipEncoder):
    """Embeddings by a pretrained network, shown what it was trained on.

    The bands of the chips become those of the network, their values its units; images are resized
    and normalised as in pretraining. None of these can be left out, and all are written in
    `attrs["encoder"]`.

    Parameters
    ----------
    weights : str
        A name of `registered_weights()`; an id on the Hugging Face hub, "owner/name" or
        "owner/name@commit"; a local folder; or "timm:architecture". All but the first need
        `preprocessing`.
    units : {"uint8", "reflectance", "reflectance_10000"} or tuple, default=None
        What the values of the chips are: 0 to 255, reflectance as a fraction, reflectance times
        10,000, or a pair (low, high) that is stretched to black and white, clipped outside. None
        raises an error that shows the choices and the range seen, because values alone do not tell.
    bands : sequence of str, RepeatBand or ProjectBands, default=None
        Bands of the chips in the order of the network; or one band for all; or a mixture. None
        takes the bands of the network by name.
    path : str, default=None
        File or folder with the weights, for work without a connection. None downloads them.
    sha256 : str, default=None
        Checksum that the file of weights must have.
    preprocessing : Preprocessing, default=None
        None takes that of the registry.
    layer : {"projected", "pooled", "cls", "mean"}, default=None
        Which output is the embedding: projected image features, the pooled output, the class token,
        or the mean of the tokens of the patches. None takes that of the registry.
    n_components : int, default=None
        Reduce to this many principal components of the fitted chips.
    whiten : bool, default=False
        Whether each component has unit variance over the fitted chips.
    batch_size : int, default=32
        Images in the network together; changes no number beyond rounding.
    device : str, default='cpu'
        Where torch computes, such as "cpu" or "cuda".
    dtype : {"float32", "bfloat16"}, default='float32'
        Precision of the network; "bfloat16" is faster on GPUs and has 3 digits.

    Attributes
    ----------
    adapter_ : BandAdapter
        How the bands of the network are made.
    preprocessing_ : Preprocessing
        What happens to values before the network.
    units_ : str or tuple
        Units of the chips.
    weights_digest_ : str
        SHA-256 of the file of weights.
    n_features_ : int
        Length of the embedding before any reduction.
    n_frames_ : int or None
        Images per sequence, for networks that read sequences.
    resolution_m_ : float or None
        Length of a pixel of the fitted chips.

    Raises
    ------
    BandError
        If bands do not fit, with both lists.
    ValueError
        If values contradict the units, with the range seen; or the weights are not the expected
        ones, with both checksums.
    OSError
        If the weights are missing, truncated or cannot be downloaded.

    Notes
    -----
    The network is frozen: fitted chips decide about nothing but principal components, of bands
    (`ProjectBands`) and of embeddings (`n_components`).

    Networks trained on photographs see bytes: reflectance r becomes the whole part of 255 r, as in
    the processors of transformers. Land has reflectances below 0.3, so that such an image is
    dark; a pair such as `units=(0, 0.3)` uses the whole range.

    Missing pixels get the mean that the network subtracts, which it sees as 0; their share is in
    `attrs["encoder"]["filled_share"]`. An image with no valid pixel in some band is left out.

    Embeddings of several times are averaged. Networks that read sequences (VideoMAE) see frame k of
    n_frames as image number floor((k + 0.5) n_times / n_frames) of those with pixels, in order of
    time: few images are repeated, of many an even selection is seen.

    Only safetensors are read, or what `torch.load(weights_only=True)` accepts: nothing is
    unpickled. A pickled encoder does not hold the weights. It reads them again from where they
    were, and refuses a file with another checksum.

    Rows do not depend on other sites, up to the rounding of matrix products that depends on the
    number of images in a batch, about 1e-6.

    References
    ----------
    .. [1] Corley, I., Robinson, C., Dodhia, R., Ferres, J. M. L., Najafirad, P. (2024). Revisiting
       pre-trained remote sensing model benchmarks: resizing and normalization matters. CVPR
       Workshops. https://arxiv.org/abs/2305.13456

    Examples
    --------
    >>> encoder = PretrainedEncoder("clip-rsicd-v2", units=(0.0, 0.3))
    >>> chips = Chips.from_arrays([[[[[0.1]]]]], sites=["a"], bands=["nir"])
    >>> encoder.fit(chips)
    Traceback (most recent call last):
        ...
    terracausal._foundation.errors.BandError: The weights 'clip-rsicd-v2' expect 'red', ...
    """

    adapter_: BandAdapter
    preprocessing_: Preprocessing
    units_: Units
    weights_digest_: str
    n_features_: int
    n_frames_: int | None
    resolution_m_: float | None

    def __init__(  # noqa: PLR0913 - one argument per step, all but the first optional
        self,
        weights: str,
        *,
        units: Units | None = None,
        bands: BandChoice = None,
        path: str | None = None,
        sha256: str | None = None,
        preprocessing: Preprocessing | None = None,
        layer: str | None = None,
        n_components: int | None = None,
        whiten: bool = False,
        batch_size: int = 32,
        device: str = "cpu",
        dtype: str = "float32",
    ) -> None:
        self.weights = weights
        self.units = units
        self.bands = bands
        self.path = path
        self.sha256 = sha256
        self.preprocessing = preprocessing
        self.layer = layer
        self.n_components = n_components
        self.whiten = whiten
        self.batch_size = batch_size
        self.device = device
        self.dtype = dtype

    def preprocess(self, chips: Chips) -> NDArray[np.float32]:
        """Return what the network sees of the chips.

        Parameters
        ----------
        chips : Chips
            With the bands of the fitted ones.

        Returns
        -------
        ndarray of shape (n_sites, n_times, n_outputs, size_px, size_px)
            NaN for images that are left out. All of it is in memory: select some sites first.
        """
        check_is_fitted(self, "bands_")
        self._check_bands(chips.bands)
        self._check_values(chips)
        (_, pixels), *_ = chips.batches(chips.n_sites)
        n_sites, n_times = pixels.shape[:2]
        images = pixels.reshape(-1, *pixels.shape[2:])
        size = self.preprocessing_.size_px
        shape = (len(images), len(self.adapter_.outputs), size, size)
        seen = np.full(shape, np.nan, dtype=np.float32)
        whole = self._with_pixels(images, chips.bands)
        if whole.any():
            seen[whole] = self._see(images[whole], chips.bands).cpu().numpy()
        return seen.reshape(n_sites, n_times, *shape[1:])

    def fresh_network(self) -> ReadyNetwork:
        """Return the network as its file has it, on the CPU, for `Finetuning`."""
        check_is_fitted(self, "adapter_")
        file = find_weights(self._file)
        check_digest(file, file_digest(file), self.weights_digest_)
        return _build(self._entry, self._request(file))

    def describe_bands(self) -> str:
        """Return how each band of the network is made of those of the chips, one line each.

        Returns
        -------
        str
            Text to print.
        """
        check_is_fitted(self, "bands_")
        return "\n".join(self.adapter_.lines())

    def encode(self, chips: Chips) -> pd.DataFrame:
        """Encode the chips, after a look at their values; see `ChipEncoder.encode`."""
        if isinstance(chips, Chips) and hasattr(self, "bands_") and chips.bands == self.bands_:
            self._check_values(chips)
        return super().encode(chips)

    def describe(self, chips: Chips) -> dict[str, Any]:
        """Return the description that `transform` hands on; see `ChipEncoder.describe`."""
        manifest = chips.manifest
        shares = manifest.loc[manifest["site"].isin(chips.keys), "nodata_share"]
        seen = self._range_seen(chips, self.adapter_)
        return {
            **super().describe(chips),
            "filled_share": float(shares[shares < 1].mean()),
            "value_range": list(seen) if np.isfinite(seen).all() else None,
        }

    def __getstate__(self) -> dict[str, Any]:
        """Return the state without the network, which is read again from its file."""
        state: dict[str, Any] = dict(super().__getstate__())
        state.pop("_ready", None)
        return state

    def _learn(self, chips: Chips, y: object) -> None:
        check_count("batch_size", self.batch_size)
        check_dtype(self.dtype)
        check_device(self.device)
        entry = resolve(self.weights, self.preprocessing, self.layer)
        how = entry.preprocessing
        if how is None:  # resolve has refused this
            raise ValueError(f"No preprocessing for {self.weights!r}.")
        adapter = choose_adapter(self.bands, chips.bands, entry.bands, entry.name)
        _check_moments(how, adapter, entry.name)
        units = check_units(self.units, self._range_seen(chips, adapter))
        by_factor = entry.reflectance_is_convertible
        check_convertible(units, how.units, entry.name, by_factor=by_factor)
        self._entry, self.adapter_, self.preprocessing_ = entry, adapter, how
        self.units_, self.resolution_m_ = units, chips.resolution_m
        self._check_values(chips)
        self._file = str(find_weights(locate(entry, self.path)).resolve())
        self.weights_digest_ = file_digest(Path(self._file))
        check_digest(Path(self._file), self.weights_digest_, self.sha256)
        self.n_frames_ = entry.n_frames
        if entry.library == "transformers" and entry.n_frames is None:
            self.n_frames_ = transformers_networks.frames_of(str(Path(self._file).parent))
        self._ready: ReadyNetwork | None = None
        self._seen_size = chips.size_px
        if adapter.kind == "principal components":
            self.adapter_ = self._fit_bands(chips)
        # a first image, before a long run: the network accepts the size, and tells its length
        blank = np.zeros((1, chips.n_bands, *chips.size_px), dtype=np.float32)
        self.n_features_ = self._embed(self._frames(self._see(blank, chips.bands))).shape[1]

    def _columns(self) -> list[str]:
        known = self._entry.name.replace("/", "-").replace("-", "_")
        letters = "".join(letter for letter in known if letter.isalnum() or letter == "_")
        name = letters if self._entry.n_features else "pretrained"
        return numbered(name, self.n_features_)

    def _encode_images(self, pixels: NDArray[np.float32]) -> NDArray[np.float64]:
        rows = np.full((len(pixels), self.n_features_), np.nan)
        whole = np.flatnonzero(self._with_pixels(pixels, self.bands_))
        for start in range(0, len(whole), self.batch_size):
            some = whole[start : start + self.batch_size]
            self._check_pixels(pixels[some])
            rows[some] = self._embed(self._frames(self._see(pixels[some], self.bands_)))
        return rows

    def _encode(self, batch: ChipBatch) -> NDArray[np.float64]:
        if self.n_frames_ is None:
            return super()._encode(batch)
        torch = require("torch", needed_by="PretrainedEncoder")
        rows = np.full((len(batch.pixels), self.n_features_), np.nan)
        at_once = max(1, self.batch_size // self.n_frames_)
        for start in range(0, len(rows), at_once):
            some, sequences = [], []
            for row in range(start, min(start + at_once, len(rows))):
                images = batch.pixels[row]
                images = images[self._with_pixels(images, self.bands_)]
                if len(images):
                    self._check_pixels(images)
                    frames = chosen_frames(len(images), self.n_frames_)
                    some.append(row)
                    sequences.append(self._see(images, self.bands_)[frames][None])
            if some:
                rows[some] = self._embed(torch.cat(sequences))
        return rows

    def _sites_at_once(self) -> int:
        return self.batch_size

    def _need(self) -> str:
        bands = list_some(dict.fromkeys(self.adapter_.inputs), 20)
        return f"an image with valid pixels in each of the bands {bands}"

    def _frames(self, seen: Any) -> Any:
        """Return images as sequences of one image each where the network reads sequences."""
        if self.n_frames_ is None:
            return seen
        return seen[:, None].expand(-1, self.n_frames_, -1, -1, -1)

    def _see(self, images: NDArray[np.float32], bands: tuple[str, ...]) -> Any:
        return seen_by_network(
            images, self.adapter_, bands, self.units_, self.preprocessing_, self.device
        )

    def _embed(self, seen: Any) -> NDArray[np.float64]:
        network = self._network()
        return embed_batches(network, seen, batch_size=self.batch_size, dtype=self.dtype)

    def _network(self) -> ReadyNetwork:
        """Return the network of this encoder, read from its file when first needed."""
        ready: ReadyNetwork | None = getattr(self, "_ready", None)
        if ready is None:
            ready = self.fresh_network()
            torch = require("torch", needed_by="PretrainedEncoder")
            on_gpu = torch.device(self.device).type == "cuda"
            layout = torch.channels_last if on_gpu else torch.preserve_format
            ready.module.to(self.device, memory_format=layout).requires_grad_(False)
            self._ready = ready
        return ready

    def _request(self, file: Path) -> NetworkRequest:
        how, size = self.preprocessing_, self._seen_size
        resized = min(size) if how.resize == "none" else (how.resize_px or how.size_px)
        length = self.resolution_m_
        return NetworkRequest(
            name=self._entry.name,
            state=read_weights(file, self.weights_digest_),
            folder=str(file.parent),
            layer=self._entry.layer,
            n_bands=len(self.adapter_.outputs),
            size_px=how.size_px,
            wavelengths_nm=how.wavelengths_nm,
            bandwidths_nm=how.bandwidths_nm,
            resolution_m=None if length is None else length * min(size) / max(resized, how.size_px),
        )

    def _fit_bands(self, chips: Chips) -> BandAdapter:
        if self.preprocessing_.units != "uint8":
            raise BandError(
                f"Principal components of bands are for networks that see photographs; "
                f"{self._entry.name!r} sees {self.preprocessing_.units}. Give `ProjectBands` a "
                "matrix."
            )
        scale = conversion(self.units_, self.preprocessing_.units)
        ordered = chips.select(chips.keys[canonical_order(chips.keys)])

        def pixels() -> Any:
            for batch in read_batches(ordered, self.batch_size):
                images = batch.pixels.reshape(-1, *batch.pixels.shape[2:])
                values = in_network_units(images, self.adapter_, chips.bands, scale).numpy()
                flat = np.moveaxis(values, 1, -1).reshape(-1, values.shape[1])
                yield flat[~np.isnan(flat).any(axis=1)]

        return fitted_projection(self.adapter_, pixels(), _GREY, _WHITE)

    def _with_pixels(
        self, images: NDArray[np.float32], bands: tuple[str, ...]
    ) -> NDArray[np.bool_]:
        """Return which images (b, n_bands, h, w) have valid pixels in every band that is read."""
        positions = sorted({bands.index(band) for band in self.adapter_.inputs})
        missing = np.isnan(images[:, positions])
        return np.asarray(~np.asarray(missing.all(axis=(2, 3))).any(axis=1), dtype=np.bool_)

    def _check_values(self, chips: Chips) -> None:
        check_range(self.units_, *self._range_seen(chips, self.adapter_))
        told = self._entry.architecture or ""
        if told.startswith("scalemae") and (chips.resolution_m, chips.size_px) != (
            self.resolution_m_,
            getattr(self, "_seen_size", chips.size_px),
        ):
            raise ValueError(
                f"{self._entry.name!r} was told chips of {self._seen_size} px of "
                f"{self.resolution_m_} m; these have {chips.size_px} px of {chips.resolution_m} m. "
                "Fit a new encoder, since the network depends on the length of a pixel."
            )

    def _check_pixels(self, images: NDArray[np.float32]) -> None:
        """Refuse values of a batch that lie outside the units, where records did not tell."""
        if isinstance(self.units_, str):
            used = images[:, [self.bands_.index(band) for band in self.adapter_.inputs]]
            check_range(self.units_, float(np.nanmin(used)), float(np.nanmax(used)), few=True)

    @staticmethod
    def _range_seen(chips: Chips, adapter: BandAdapter) -> tuple[float, float]:
        """Return the smallest and largest value of the bands that are read, from the records."""
        seen = value_ranges(chips).loc[list(adapter.inputs)]
        return range_of(zip(seen["low"], seen["high"], strict=True))

    def _description(self) -> dict[str, Any]:
        entry = self._entry
        return {
            **super()._description(),
            "source": entry.source,
            "revision": entry.revision,
            "licence": entry.licence,
            "citation": entry.citation,
            "layer": entry.layer,
            "units": list(self.units_) if isinstance(self.units_, tuple) else self.units_,
            "adapter": self.adapter_.description(),
            "preprocessing": self.preprocessing_.description(),
            "weights_digest": self.weights_digest_,
            "n_frames": self.n_frames_,
            "resolution_m": self.resolution_m_,
        }


def chosen_frames(n_images: int, n_frames: int) -> NDArray[np.intp]:
    """Return which image each frame shows: floor((k + 0.5) n_images / n_frames).

    Examples
    --------
    >>> chosen_frames(2, 4).tolist(), chosen_frames(6, 3).tolist()
    ([0, 0, 1, 1], [1, 3, 5])
    """
    return np.floor((np.arange(n_frames) + 0.5) * n_images / n_frames).astype(np.intp)


def _build(entry: PretrainedWeights, request: NetworkRequest) -> ReadyNetwork:
    if entry.library == "transformers":
        return transformers_networks.build(request)
    if entry.library == "torchgeo":
        return torchgeo_networks.build(entry, request)
    return torchgeo_networks.build_timm(request, str(entry.architecture))


def _check_moments(how: Preprocessing, adapter: BandAdapter, name: str) -> None:
    if len(how.mean) not in (1, len(adapter.outputs)):
        raise BandError(
            f"The preprocessing of {name!r} has moments of {len(how.mean)} bands; the network is "
            f"given {len(adapter.outputs)}: {list_some(adapter.outputs, 20)}. Give as many bands "
            "as moments."
        )
