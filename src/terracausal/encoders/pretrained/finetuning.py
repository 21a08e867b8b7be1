"""Pretrained networks as parts of networks that are trained: frozen, in part, or with adapters."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from sklearn.utils.validation import check_is_fitted

from terracausal._foundation.checks import check_choice, check_count
from terracausal._foundation.errors import BandError, list_some
from terracausal._foundation.optional import require
from terracausal.encoders.pretrained.encoder import PretrainedEncoder

if TYPE_CHECKING:
    from terracausal.encoders.pretrained.tuned_network import TunedNetwork


@dataclass(frozen=True)
class Finetuning:
    """A pretrained network whose last parts go on learning, for `TrainedEncoder` and its kin.

    Called with a number of bands, it reads the weights anew, so that no fold starts from what
    another has learned.

    Parameters
    ----------
    encoder : PretrainedEncoder
        Fitted, which decides on bands, units and preprocessing, and reads no outcome.
    layers : {'lora', 'last', 'none'}, default='lora'
        "lora": low-rank additions to all linear layers of the blocks, the rest frozen. "last": the
        last blocks and what follows them. "none": the network is frozen, and the head alone is
        trained. (`PretrainedEncoder` and `Study.join` do this faster for a linear head.)
    n_blocks : int, default=2
        Blocks that learn where the last ones do.
    rank : int, default=8
        Rank of the additions.

    Notes
    -----
    Pretrained weights bear small steps only: take a `learning_rate` of about 1e-3 for additions and
    1e-4 for blocks, and few epochs. Hu, E. J. et al. (2022), LoRA: low-rank adaptation of large
    language models, ICLR, arXiv:2106.09685; additions are scaled by 2.

    What is tuned on outcomes knows those outcomes. Use it where training is inside folds:
    `ImageNuisanceLearner.cross_fit`, image effect learners, `TrainedEncoder.cross_predict`.
    `Study.join` refuses its embeddings otherwise.

    Examples
    --------
    >>> Finetuning(PretrainedEncoder("clip-rsicd-v2"), layers="last", n_blocks=1)
    Finetuning('clip-rsicd-v2', last 1 blocks)
    """

    encoder: PretrainedEncoder
    layers: Literal["lora", "last", "none"] = "lora"
    n_blocks: int = 2
    rank: int = 8

    def __post_init__(self) -> None:
        check_choice("layers", self.layers, ("lora", "last", "none"))
        check_count("n_blocks", self.n_blocks)
        check_count("rank", self.rank)

    def __repr__(self) -> str:
        how = {
            "lora": f"additions of rank {self.rank}",
            "last": f"last {self.n_blocks} blocks",
            "none": "frozen",
        }[self.layers]
        return f"Finetuning({self.encoder.weights!r}, {how})"

    def check_bands(self, bands: tuple[str, ...]) -> None:
        """Refuse chips with other bands than the encoder was fitted on.

        Parameters
        ----------
        bands : tuple of str
            Of the chips.
        """
        check_is_fitted(self.encoder, "bands_")
        if bands != self.encoder.bands_:
            raise BandError(
                f"The encoder of {self!r} was fitted on the bands "
                f"{list_some(self.encoder.bands_, 20)}; these chips have {list_some(bands, 20)}. "
                "Read the same bands in the same order, or fit a new encoder."
            )

    def __call__(self, n_bands: int) -> "TunedNetwork":
        """Return the network with its pretrained weights, ready to be trained.

        Parameters
        ----------
        n_bands : int
            Of the chips; as many as the encoder was fitted on.

        Returns
        -------
        torch.nn.Module
            Maps images in the units of the chips to vectors.
        """
        from terracausal.encoders.pretrained.tuned_network import TunedNetwork

        check_is_fitted(self.encoder, "bands_")
        if n_bands != len(self.encoder.bands_):
            raise BandError(
                f"The encoder of {self!r} was fitted on {len(self.encoder.bands_)} bands, "
                f"{list_some(self.encoder.bands_, 20)}; these chips have {n_bands}."
            )
        if self.encoder.n_frames_ is not None:
            raise ValueError(
                f"{self.encoder.weights!r} reads sequences of {self.encoder.n_frames_} images, "
                "which cannot be tuned here. Use a network of single images."
            )
        ready = self.encoder.fresh_network()
        ready.module.requires_grad_(False)
        if self.layers == "last":
            self._open_last_blocks(ready.module)
        elif self.layers == "lora":
            self._add_low_ranks(ready.module)
        return TunedNetwork(self.encoder, ready, frozen=self.layers == "none")

    def _open_last_blocks(self, module: Any) -> None:
        """Let the last blocks learn, and all that is registered after them."""
        name, blocks = _blocks_of(module)
        if self.n_blocks > len(blocks):
            raise ValueError(
                f"{self.encoder.weights!r} has {len(blocks)} blocks; `n_blocks` is {self.n_blocks}."
            )
        first = f"{name}.{len(blocks) - self.n_blocks}."
        reached = False
        for key, parameter in module.named_parameters():
            reached = reached or key.startswith(first)
            parameter.requires_grad_(reached)

    def _add_low_ranks(self, module: Any) -> None:
        peft = require("peft", needed_by="Finetuning(layers='lora')", extra="finetune")
        torch = require("torch", needed_by="Finetuning")
        name, blocks = _blocks_of(module)
        inside = [
            f"{name}.{key}"
            for key, part in blocks.named_modules()
            if isinstance(part, torch.nn.Linear)
        ]
        config = peft.LoraConfig(r=self.rank, lora_alpha=2 * self.rank, target_modules=inside)
        peft.inject_adapter_in_model(config, module)


def _blocks_of(module: Any) -> tuple[str, Any]:
    """Return the list of blocks of a network, the one with most parameters, and its name."""
    torch = require("torch", needed_by="Finetuning")
    lists = {
        name: part
        for name, part in module.named_modules()
        if isinstance(part, torch.nn.ModuleList | torch.nn.Sequential) and len(part)
    }
    if not lists:
        raise ValueError(
            f"{type(module).__name__} has no list of blocks that could be tuned; use layers='none'."
        )
    size = {name: sum(p.numel() for p in part.parameters()) for name, part in lists.items()}
    best = max(lists, key=lambda name: (size[name], -len(name)))
    return best, lists[best]
